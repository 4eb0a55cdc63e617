//! What a Redis says about itself.

use std::time::Duration;

use super::connection::{Connection, Deadline};
use super::no_answer::NoAnswer;
use super::reply::{Value, text};
use super::sentinel::unexpected;
use super::server::Server;
use super::{Lines, Words, words};
use crate::evidence::Role;

impl Role {
    pub(super) fn read(word: &str) -> Role {
        match word {
            "master" => Role::Master,
            "slave" => Role::Replica,
            other => Role::Other(other.to_owned()),
        }
    }
}

/// What a Redis says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its role.
    pub role: Role,
    /// The number of its process that it made up when it started, where it may be asked for that.
    pub run_id: Option<String>,
    /// How long it has been running, where it may be asked for that.
    pub uptime: Option<Duration>,
}

/// Asks a Redis for its role. Where ROLE has been renamed away, or the user may not ask it, INFO tells it.
///
/// # Errors
///
/// Why there is no answer.
pub async fn role(server: &Server, within: Duration) -> Result<Role, NoAnswer> {
    let mut talk = Talk::open(server, within).await?;
    let answer = talk.ask(&[ROLE]).await?;
    talk.role(&answer[0]).await
}

/// Asks a Redis who it is.
///
/// # Errors
///
/// Why its role is not known.
pub async fn identity(
    server: &Server,
    lines: &Lines,
    within: Duration,
) -> Result<Identity, NoAnswer> {
    let deadline = Deadline::within(within);
    let questions = [words(ROLE), words(&["INFO", "server"])];
    let mut answers = Vec::new();
    let end = lines.ask(server, &questions, deadline, |answer| answers.push(answer));
    end.await??;
    answers.resize_with(questions.len(), none);
    let info = answers[1].as_ref().ok().and_then(text).unwrap_or_default();
    let seconds = line(&info, "uptime_in_seconds").and_then(|text| text.parse().ok());
    let said = match &answers[0] {
        // INFO tells it, too.
        Err(NoAnswer::UnknownCommand(_) | NoAnswer::NotAllowed(_)) => {
            Talk::open(server, within).await?.role(&answers[0]).await
        }
        answer => of_role(answer.as_ref().map_err(Clone::clone)?),
    };
    Ok(Identity {
        role: said?,
        run_id: line(&info, "run_id").map(str::to_owned),
        uptime: seconds.map(Duration::from_secs),
    })
}

const ROLE: &[&str] = &["ROLE"];

fn none() -> Result<Value, NoAnswer> {
    Err(NoAnswer::Unexpected("none".into()))
}

/// A connection and when everything on it has to be said.
struct Talk {
    connection: Connection,
    deadline: Deadline,
}

impl Talk {
    async fn open(server: &Server, within: Duration) -> Result<Talk, NoAnswer> {
        let deadline = Deadline::within(within);
        let connection = Connection::connect(server, deadline).await?;
        Ok(Talk {
            connection,
            deadline,
        })
    }

    /// Returns as many answers as there are questions.
    async fn ask(
        &mut self,
        questions: &[&[&str]],
    ) -> Result<Vec<Result<Value, NoAnswer>>, NoAnswer> {
        let asked: Vec<Words> = questions.iter().map(|question| words(question)).collect();
        let mut answers = self.connection.converse(&asked, self.deadline).await?;
        answers.resize_with(questions.len(), none);
        Ok(answers)
    }

    async fn role(&mut self, said: &Result<Value, NoAnswer>) -> Result<Role, NoAnswer> {
        match said {
            Err(NoAnswer::UnknownCommand(_)) => of_info(&self.info().await?),
            Err(no @ NoAnswer::NotAllowed(_)) => match self.info().await {
                Ok(answer) => of_info(&answer),
                Err(_) => Err(no.clone()),
            },
            answer => of_role(answer.as_ref().map_err(Clone::clone)?),
        }
    }

    async fn info(&mut self) -> Result<Value, NoAnswer> {
        self.ask(&[&["INFO", "replication"]]).await?.remove(0)
    }
}

pub(super) fn line<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim)
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
