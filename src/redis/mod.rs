//! Asks Sentinel and Redis. One conversation has one deadline that nothing outlasts. An answer has at most
//! 1 MiB, and a conversation a bounded size, whatever listens there. Says nothing about what follows from an answer.

mod certificate;
mod connection;
pub mod events;
mod fault;
mod lines;
mod no_answer;
mod owner;
pub mod reply;
mod rights;
mod role;
mod sentinel;
mod server;
mod socket;
mod state;
mod stream;
mod tls;
mod what_listens;

use std::time::Duration;

pub use connection::Connection;
use connection::Deadline;
pub use fault::{SENTINEL_RIGHTS, not_monitored, redis_fault, sentinel_fault};
pub use lines::Lines;
pub use no_answer::NoAnswer;
pub use owner::{Owner, is_trusted};
pub use reply::{Value, field, is_pushed, text};
pub use rights::{May, Rights, rights};
pub use role::{Identity, identity, role};
pub use sentinel::{
    Instance, MasterAddress, Told, View, instances, master_address, master_addresses, standby,
    told, views,
};
pub use server::{Access, Endpoint, Server, redis_server, sentinel_server};
pub use state::{Follows, Replica, State};
pub use tls::Tls;

/// Reads answers that have arrived. Public for `fuzz/` and its corpora.
pub mod readers {
    pub use super::events::read as event;
    pub use super::role::{of_info, of_role};
    pub use super::sentinel::{instances, read_address, view};
    pub use super::state::read as state;
}

/// A question: a command and its arguments.
pub type Words = Vec<String>;

/// Returns a question.
pub fn words(line: &[&str]) -> Words {
    line.iter().map(|word| (*word).to_owned()).collect()
}

/// What each question was answered, in their order, or why the conversation did not come to its end.
pub type Answers = Result<Vec<Result<Value, NoAnswer>>, NoAnswer>;

/// Connects, asks all questions at once, and closes, within this time in all.
///
/// # Errors
///
/// A conversation that did not come to its end.
pub async fn ask(server: &Server, lines: &Lines, questions: &[Words], within: Duration) -> Answers {
    let mut answers = Vec::with_capacity(questions.len());
    let take = |answer| answers.push(answer);
    lines
        .ask(server, questions, Deadline::within(within), take)
        .await??;
    Ok(answers)
}

/// [`ask`], for commands that change something. A kept connection that ends before the answer is an error, and the
/// command is not sent again on a new one: the server may have carried it out already.
///
/// # Errors
///
/// A conversation that did not come to its end.
pub async fn ask_once(
    server: &Server,
    lines: &Lines,
    questions: &[Words],
    within: Duration,
) -> Answers {
    let mut answers = Vec::with_capacity(questions.len());
    let take = |answer| answers.push(answer);
    lines
        .ask_once(server, questions, Deadline::within(within), take)
        .await??;
    Ok(answers)
}

#[cfg(test)]
mod tests;
