//! Follows the events of one Sentinel. A connection on which nothing arrives is not believed: a PING every second
//! shows whether the other end is there.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::redis::events::{CHANNELS, Event, read};
use crate::redis::{Connection, NoAnswer, Server, Value, text};

/// How long a Sentinel may take to answer: so long until a silent peer is known.
const ANSWER: Duration = Duration::from_secs(2);

/// How long nothing may arrive until it is asked whether it is there.
const QUIET: Duration = Duration::from_secs(1);

/// The pauses between two tries to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that has held so long was a good one.
const HEALTHY: Duration = Duration::from_secs(10);

/// What is heard of a Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its events arrive from now on. What happened before is not known.
    Up,
    /// An event.
    Event(Event),
    /// They do not arrive any more.
    Down(NoAnswer),
}

/// Follows a Sentinel, for ever; until nobody listens any more.
pub async fn follow(server: Server, to: mpsc::Sender<Heard>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let Err(no) = listen(&server, &to).await else {
            return;
        };
        if to.send(Heard::Down(no)).await.is_err() {
            return;
        }
        if began.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        sleep(about(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns a time about as long, so that not all agents come back at the same moment.
fn about(time: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    time / 2 + time * u32::try_from(random).unwrap_or_default() / 1000
}

/// Listens until nobody wants to hear it. The error says how the connection ended.
async fn listen(server: &Server, to: &mpsc::Sender<Heard>) -> Result<(), NoAnswer> {
    let until = Instant::now() + ANSWER;
    let mut connection = Connection::open(server, until).await?;
    let subscribe = |channel: &&str| vec!["SUBSCRIBE".to_owned(), (*channel).to_owned()];
    let questions: Vec<Vec<String>> = CHANNELS.iter().map(subscribe).collect();
    for answer in connection.ask(&questions, until).await? {
        answer?;
    }
    let mut heard = Some(Heard::Up);
    loop {
        if let Some(heard) = heard
            && to.send(heard).await.is_err()
        {
            return Ok(());
        }
        let arrived = match timeout(QUIET, connection.next()).await {
            Ok(arrived) => arrived,
            Err(_) => {
                connection.say(&["PING"]).await;
                let answer = timeout(ANSWER, connection.next()).await;
                answer.unwrap_or(Err(NoAnswer::Silent(ANSWER)))
            }
        };
        heard = event(&arrived?).map(Heard::Event);
    }
}

/// Reads `message CHANNEL PAYLOAD`; what else arrives is the answer to a PING.
fn event(value: &Value) -> Option<Event> {
    let Value::Array(parts) = value else {
        return None;
    };
    match parts.as_slice() {
        [kind, channel, payload] if text(kind).as_deref() == Some("message") => {
            read(&text(channel)?, &text(payload)?)
        }
        _ => None,
    }
}
