//! Whether the user may ask a Redis for what an agent asks for in a failover. Nothing is carried out: a Redis looks at
//! the user's rights before it looks at the arguments, which make no sense here, and before it tells a subscriber that
//! it may not ask for anything (`processCommand` in server.c). So no right to ask for rights (`ACL`) is needed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Connection, Lines, NoAnswer, Server, Value, Words, ask, is_pushed, words};

/// What a subscriber is told that asks for anything else, in Redis 2.6 to 8 and in Valkey.
const SUBSCRIBED: &str = "allowed in this context";

/// Whether the user may ask for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum May {
    /// It may.
    Yes,
    /// The user lacks the right.
    NotAllowed,
    /// The server does not know the command; its words.
    Unknown(String),
    /// The server refuses it for another reason, such as its age; its words.
    Refused(String),
    /// That was not told.
    Untold,
}

/// What the user may ask a Redis for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// To pause writes (`CLIENT PAUSE … WRITE`).
    pub pause: May,
    /// To lift the pause, where there are channels.
    pub unpause: May,
    /// To make it follow another (`REPLICAOF`).
    pub follow: May,
    /// How it replicates (`INFO`).
    pub info: May,
    /// To publish and to read on the channels.
    pub channels: May,
}

/// Returns what the user may ask a Redis for. It has `within` for each of two conversations.
pub async fn rights(server: &Server, channels: &[String], within: Duration) -> Rights {
    let questions = [
        // Pauses nothing: the time is no number.
        words(&["CLIENT", "PAUSE", "none", "WRITE"]),
        // Follows nobody: the port is no number.
        words(&["REPLICAOF", "vipswitch", "none"]),
        words(&["INFO", "replication"]),
    ];
    let asked = ask(server, &Lines::default(), &questions, within).await;
    let mut answers = asked.unwrap_or_default().into_iter();
    let [pause, follow, info] = [(); 3].map(|()| answers.next());
    let (channels, unpause) = match channels {
        [] => (May::Untold, May::Untold),
        channels => as_subscriber(server, channels, within).await,
    };
    Rights {
        pause: read(pause, &["timeout is not"]),
        // "Invalid master port", and before Redis 7 "value is not an integer or out of range".
        follow: read(follow, &["port", "integer"]),
        info: read(info, &[]),
        channels,
        unpause,
    }
}

/// Reads an answer. Where the arguments make no sense, `senseless` has words of the refusals that show that all else is
/// right.
fn read(answer: Option<Result<Value, NoAnswer>>, senseless: &[&str]) -> May {
    match answer {
        Some(Ok(_)) if senseless.is_empty() => May::Yes,
        Some(Err(NoAnswer::Refused(why))) => {
            match senseless.iter().any(|word| why.contains(word)) {
                true => May::Yes,
                false => May::Refused(why),
            }
        }
        Some(Err(no)) => may_not(no),
        Some(Ok(_)) | None => May::Untold,
    }
}

fn may_not(no: NoAnswer) -> May {
    match no {
        NoAnswer::NotAllowed(_) => May::NotAllowed,
        NoAnswer::UnknownCommand(why) => May::Unknown(why),
        _ => May::Untold,
    }
}

/// Subscribes to the channels, and asks for what a subscriber is refused. Returns whether the user may use the channels,
/// and lift a pause.
async fn as_subscriber(server: &Server, channels: &[String], within: Duration) -> (May, May) {
    let until = Instant::now() + within;
    let subscribed = async {
        let mut connection = Connection::open(server, until).await?;
        let said = connection.subscribe(channels, until).await?;
        match is_pushed(&said) {
            true => Ok(connection),
            false => Err(NoAnswer::Unexpected("it is not subscribed".into())),
        }
    };
    let mut connection = match subscribed.await {
        Ok(connection) => connection,
        Err(no) => return (may_not(no), May::Untold),
    };
    let publish = channels.iter().map(|to| words(&["PUBLISH", to, ""]));
    let published = as_refused(&mut connection, publish.collect(), until).await;
    // Only a server that is seen to carry nothing out is told to lift a pause.
    let unpause = match published {
        May::Untold => May::Untold,
        _ => as_refused(&mut connection, vec![words(&["CLIENT", "UNPAUSE"])], until).await,
    };
    (published, unpause)
}

/// Asks for what a subscriber is refused, one after the other. Untold where the server carries out what a subscriber may
/// not ask for, or does not answer.
async fn as_refused(connection: &mut Connection, questions: Vec<Words>, until: Instant) -> May {
    for question in questions {
        let words: Vec<&str> = question.iter().map(String::as_str).collect();
        let asked = async {
            connection.say(&words).await;
            loop {
                match connection.next().await {
                    // The holder's agent publishes all the time.
                    Ok(value) if is_pushed(&value) => {}
                    said => return said,
                }
            }
        };
        match timeout_at(until, asked).await {
            Ok(Err(NoAnswer::Refused(why))) if why.contains(SUBSCRIBED) => {}
            Ok(Err(no)) => return may_not(no),
            Ok(Ok(_)) | Err(_) => return May::Untold,
        }
    }
    May::Yes
}
