//! Whether a user may pause writes at a Redis (`CLIENT PAUSE … WRITE`, Redis 6.2), which is asked so that nothing is
//! paused: a Redis looks at the user's rights before it looks at the arguments (`processCommand` in server.c), and the
//! time in the question is no number.

use super::no_answer::NoAnswer;
use super::reply::Value;
use super::{Answers, Words};
use crate::text::escape;

/// Whether writes can be paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritePause {
    /// They can.
    May,
    /// The user may not.
    Denied,
    /// This Redis cannot, and what it says.
    Cannot(String),
    /// It did not tell.
    Untold,
}

impl WritePause {
    /// Returns the question.
    pub fn question() -> Words {
        ["CLIENT", "PAUSE", "none", "WRITE"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Reads the answer to it.
    pub fn read(answer: &Result<Value, NoAnswer>) -> WritePause {
        match answer {
            Err(NoAnswer::NotAllowed(_)) => WritePause::Denied,
            // As no number it is refused where all else is right.
            Err(NoAnswer::Refused(why)) if why.contains("timeout is not") => WritePause::May,
            Err(NoAnswer::Refused(why) | NoAnswer::UnknownCommand(why)) => {
                WritePause::Cannot(escape(why))
            }
            _ => WritePause::Untold,
        }
    }

    /// Reads the first of these answers as the one to it.
    pub fn first_of(answers: &Answers) -> WritePause {
        let first = answers.as_ref().ok().and_then(|answers| answers.first());
        first.map_or(WritePause::Untold, WritePause::read)
    }
}
