//! What a Redis says about itself.

use std::time::Duration;

use super::Words;
use super::connection::{Connection, Deadline};
use super::no_answer::NoAnswer;
use super::reply::{Value, text};
use super::sentinel::unexpected;
use super::server::Server;
use crate::evidence::Role;

impl Role {
    fn read(word: &str) -> Role {
        match word {
            "master" => Role::Master,
            "slave" => Role::Replica,
            other => Role::Other(other.to_owned()),
        }
    }
}

/// Asks a Redis for its role. Where ROLE has been renamed away, or the user may not ask it, INFO tells it.
///
/// # Errors
///
/// Why there is no answer.
pub async fn role(server: &Server, within: Duration) -> Result<Role, NoAnswer> {
    let deadline = Deadline::within(within);
    let mut connection = Connection::connect(server, deadline).await?;
    let mut ask = async |words: &[&str]| {
        let words: Words = words.iter().map(|&word| word.to_owned()).collect();
        let mut answers = connection.converse(&[words], deadline).await?;
        let none = || Err(NoAnswer::Unexpected("none".into()));
        answers.pop().unwrap_or_else(none)
    };
    match ask(&["ROLE"]).await {
        Err(NoAnswer::UnknownCommand(_)) => of_info(&ask(&["INFO", "replication"]).await?),
        Err(no @ NoAnswer::NotAllowed(_)) => match ask(&["INFO", "replication"]).await {
            Ok(answer) => of_info(&answer),
            Err(_) => Err(no),
        },
        answer => of_role(&answer?),
    }
}

/// Reads the answer to ROLE, a list that begins with the role.
pub fn of_role(answer: &Value) -> Result<Role, NoAnswer> {
    let word = match answer {
        Value::Array(list) => list.first().and_then(text),
        _ => None,
    };
    let word = word.ok_or_else(|| unexpected(answer))?;
    Ok(Role::read(&word))
}

/// Reads the answer to INFO, in which a line tells the role.
pub fn of_info(answer: &Value) -> Result<Role, NoAnswer> {
    let text = text(answer).unwrap_or_default();
    let word = text.lines().find_map(|line| line.strip_prefix("role:"));
    word.map(Role::read).ok_or_else(|| unexpected(answer))
}
