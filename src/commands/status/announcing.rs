//! What `status` tells of a VIP's announcer.

use std::fmt;

use serde::Serialize;

use crate::deeds::announcer::{Known, Summary};

/// What is known of the VIP's announcer: the one at work, else the last one.
#[derive(Debug, Serialize)]
pub(super) struct Announcing {
    at_work: bool,
    /// It has this number and does not answer.
    silent_process: Option<i32>,
    /// Since it ended.
    seconds_ago: Option<u64>,
    #[serde(flatten)]
    summary: Summary,
}

impl fmt::Display for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.silent_process, self.seconds_ago) {
            (Some(process), _) => {
                return write!(
                    f,
                    "; its announcer, process {process}, does not answer: it is stopped, or hangs"
                );
            }
            (None, None) => f.write_str("; it is being announced")?,
            (None, Some(ago)) => write!(f, "; it was announced ({})", ago_in_words(ago))?,
        }
        if self.summary.asked > 0 || !self.summary.confirmed_by.is_empty() {
            write!(f, ", confirmed by {}", self.summary.confirmed())?;
        }
        if !self.summary.rivals.is_empty() {
            write!(f, ", rivals {}", self.summary.rivals.join(", "))?;
        }
        Ok(())
    }
}

impl From<Known> for Announcing {
    fn from(known: Known) -> Self {
        let (summary, silent_process, age) = match known {
            Known::AtWork(summary) => (summary, None, None),
            Known::Silent(process) => (Summary::default(), Some(process), None),
            Known::Ended(summary, age) => (summary, None, Some(age.as_secs())),
        };
        Announcing {
            at_work: age.is_none(),
            silent_process,
            seconds_ago: age,
            summary,
        }
    }
}

pub(super) fn ago_in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}
