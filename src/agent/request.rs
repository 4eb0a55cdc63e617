//! What is asked of the agent over its socket, and what it answers: one line of JSON each way. Before its answer
//! the agent sends a space, as soon as it has the request: JSON allows it, and the asker knows that somebody is there.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Fault};
use crate::failover::Failover;
use crate::text::escape;

/// The longest request and the longest answer, in bytes.
pub const LONGEST: usize = 256 * 1024;

/// What somebody wants of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is to be done.
    pub verb: Verb,
    /// The masters that it is about; every configured one if none is given.
    #[serde(default)]
    pub masters: Vec<String>,
    /// The file that the asker would read its configuration from, absolute: an agent with another file refuses. What it
    /// knows it tells also where no file is given.
    #[serde(default)]
    pub config: PathBuf,
    /// How the answer is to be told.
    #[serde(default)]
    pub telling: Telling,
}

impl Request {
    /// Reads a request, which anybody in the socket's group may have sent.
    ///
    /// # Errors
    ///
    /// Why it is no request, in a text that can be shown.
    pub fn read(line: &[u8]) -> Result<Request, String> {
        serde_json::from_slice(line).map_err(|error| {
            let why = escape(&error.to_string());
            format!("it does not know this request: {why}")
        })
    }
}

/// Reads the arguments of [`Verb::Hook`].
///
/// # Errors
///
/// Those of [`Failover::parse`].
pub fn failover(arguments: &[String]) -> Result<Failover, Fault> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    Failover::parse(&arguments)
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Sentinel's call, with its seven arguments. A hint: the agent acts on what is true.
    Hook(Vec<String>),
    /// Take over, where that is true or forced.
    Bind {
        /// Against the truth, until the next failover or `unbind`.
        force: bool,
    },
    /// Release.
    Unbind {
        /// Against the truth, until the next failover or `bind`.
        force: bool,
    },
    /// Announce what is here.
    Announce,
    /// A Redis of the one master that is named and stops is meant to.
    Maintenance {
        /// Whether that begins, or ends.
        on: bool,
        /// After how many seconds it ends by itself; `None` where nobody said so.
        seconds: Option<u64>,
    },
    /// Look at once, and agree with what is true.
    Sync,
    /// Tell what is known: the answer's `out` is a [`Snapshot`](super::snapshot::Snapshot) as JSON.
    Status,
}

/// How an answer is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telling {
    /// As JSON, one object per line.
    pub json: bool,
    /// With the log line.
    pub verbose: bool,
    /// Errors only.
    pub quiet: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What the agent answers: how the asker ends, and what it prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The exit code.
    pub exit: u8,
    /// For stdout, as it is.
    #[serde(default)]
    pub out: String,
    /// For stderr, line by line.
    #[serde(default)]
    pub err: Vec<String>,
    /// The agent does not do this; why. The asker does its own work if it can.
    #[serde(default)]
    pub refused: Option<String>,
}

impl Reply {
    /// Returns how its asker is to end. An unknown number counts as a passing fault.
    pub fn ending(&self) -> Exit {
        let all = [Exit::Done, Exit::Passing, Exit::Permanent];
        let known = all.into_iter().find(|exit| exit.code() == self.exit);
        known.unwrap_or(Exit::Passing)
    }

    /// Adds how one of several things ended.
    pub fn add(&mut self, exit: Exit) {
        self.exit = Exit::worst([self.ending(), exit]).code();
    }

    /// Returns the answer of an agent that does not do what is asked, and why.
    pub fn refusing(why: impl Into<String>) -> Reply {
        Reply {
            refused: Some(why.into()),
            ..Reply::default()
        }
    }

    /// Returns the answer that ends its asker by this fault.
    pub fn failing(fault: &Fault) -> Reply {
        Reply {
            exit: Exit::from(fault.kind).code(),
            err: vec![fault.to_string()],
            ..Reply::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_fault_among_several_is_what_the_asker_ends_with() {
        let mut reply = Reply::default();
        for (exit, ending) in [
            (Exit::Done, Exit::Done),
            (Exit::Permanent, Exit::Permanent),
            (Exit::Passing, Exit::Passing),
            (Exit::Permanent, Exit::Passing),
        ] {
            reply.add(exit);
            assert_eq!(reply.ending(), ending);
        }
        // Of another version.
        reply.exit = 77;
        assert_eq!(reply.ending(), Exit::Passing);
    }
}
