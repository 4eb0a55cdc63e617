//! Asks Sentinel and Redis. One conversation has one deadline that nothing outlasts. An answer has at most
//! 1 MiB, and a conversation a bounded size, whatever listens there. Says nothing about what follows from an answer.

mod certificate;
mod connection;
pub mod events;
mod fault;
mod no_answer;
pub mod replication;
pub mod reply;
mod role;
mod sentinel;
mod server;
mod socket;
mod stream;
mod tls;
mod what_listens;

use std::time::Duration;

pub use connection::Connection;
use connection::Deadline;
pub use fault::{not_monitored, redis_fault, sentinel_fault};
pub use no_answer::NoAnswer;
pub use reply::{Value, field, text};
pub use role::{Identity, identity, line, role};
pub use sentinel::{Instance, MasterAddress, Told, View, instances, master_address, told, views};
pub use server::{Access, Endpoint, Server, redis_server, sentinel_server};
pub use tls::Tls;

/// Reads answers that have arrived. Public for `fuzz/` and its corpora.
pub mod readers {
    pub use super::role::{of_info, of_role};
    pub use super::sentinel::{instances, read_address, view};
}

/// A question: a command and its arguments.
pub type Words = Vec<String>;

/// What each question was answered, in their order, or why the conversation did not come to its end.
pub type Answers = Result<Vec<Result<Value, NoAnswer>>, NoAnswer>;

/// Connects, asks all questions at once, and closes, within this time in all.
///
/// # Errors
///
/// A conversation that did not come to its end.
pub async fn ask(server: &Server, questions: &[Words], within: Duration) -> Answers {
    let deadline = Deadline::within(within);
    let mut connection = Connection::connect(server, deadline).await?;
    connection.converse(questions, deadline).await
}

#[cfg(test)]
mod tests;
