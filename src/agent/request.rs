//! What is asked of the agent over its socket, and what it answers: one line of JSON each way.

use serde::{Deserialize, Serialize};

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
    /// How the answer is to be told.
    #[serde(default)]
    pub telling: Telling,
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
