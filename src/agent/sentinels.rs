//! Follows what one Sentinel publishes, on a connection of its own. Says when the events begin and end to arrive:
//! between the two nothing is lost, and after each the follower's owner asks.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff::Backoff;
use crate::redis::events::{CHANNELS, Event, read};
use crate::redis::{Connection, NoAnswer, Server, Value, is_pushed, text};

/// How often a Sentinel is asked whether it is still there.
const PING: Duration = Duration::from_millis(500);
/// How long it may take to answer that: one that is silent is known within 2 s.
const ANSWER: Duration = Duration::from_millis(1500);
/// How long it may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the receiver may take to make room for an event.
const ROOM: Duration = Duration::from_secs(1);
/// The longest time until a Sentinel is tried again: it may lead a failover soon after it is back, and without its
/// events nobody pauses the writes.
const AGAIN: Duration = Duration::from_secs(1);
/// A connection that lived so long was well.
const HEALTH: Duration = Duration::from_secs(10);

/// What is heard of a Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard<K> {
    /// Which Sentinel.
    pub key: K,
    /// What.
    pub news: News,
}

/// What is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// From now on its events arrive; earlier ones may be lost.
    Up,
    /// An event.
    Event(Event),
    /// Its events do not arrive any more, or still do not, for another reason than before.
    Down(NoAnswer),
}

/// Follows a Sentinel until this is dropped or nobody receives any more.
pub async fn follow<K: Clone, T: From<Heard<K>>>(server: Server, key: K, to: mpsc::Sender<T>) {
    let mut backoff = Backoff::up_to(AGAIN);
    let mut told = None;
    loop {
        let began = Instant::now();
        let follower = Follower {
            key: &key,
            to: &to,
            up: false,
        };
        let (up, end) = follower.follow(&server).await;
        let End::Down(no) = end else { return };
        if up || told.as_ref() != Some(&no) {
            told = Some(no.clone());
            // Nothing is held while the receiver makes room, so this may take as long as it takes.
            let down = Heard {
                key: key.clone(),
                news: News::Down(no),
            };
            if to.send(down.into()).await.is_err() {
                return;
            }
        }
        if up && began.elapsed() >= HEALTH {
            backoff.reset();
        }
        sleep(backoff.wait()).await;
    }
}

/// Why a connection is given up.
enum End {
    /// The Sentinel does not answer, or the receiver makes no room.
    Down(NoAnswer),
    /// Nobody receives any more.
    NobodyListens,
}

impl From<NoAnswer> for End {
    fn from(no: NoAnswer) -> End {
        End::Down(no)
    }
}

/// One connection to a Sentinel.
struct Follower<'a, K, T> {
    key: &'a K,
    to: &'a mpsc::Sender<T>,
    /// Whether it was said that the events arrive.
    up: bool,
}

impl<K: Clone, T: From<Heard<K>>> Follower<'_, K, T> {
    /// Follows until the connection is given up. Returns whether events arrived on it, and why it was given up.
    async fn follow(mut self, server: &Server) -> (bool, End) {
        match self.connected(server).await {
            Ok(never) => match never {},
            Err(end) => (self.up, end),
        }
    }

    async fn connected(&mut self, server: &Server) -> Result<std::convert::Infallible, End> {
        let mut connection = subscribe(server).await?;
        self.tell(News::Up).await?;
        self.up = true;
        let mut ping = Instant::now() + PING;
        // When the answer to a PING is due, while one is open.
        let mut due: Option<Instant> = None;
        loop {
            let until = due.unwrap_or(ping);
            let arrived = timeout_at(until, connection.next()).await;
            match arrived {
                Ok(Ok(value)) => match event(&value) {
                    Some(event) => self.tell(News::Event(event)).await?,
                    // It proves nothing about an open PING.
                    None if is_pushed(&value) => (),
                    None => due = None,
                },
                Ok(Err(no)) if connection.has_ended() => return Err(End::Down(no)),
                // PING may be denied; its refusal is as much a sign of life.
                Ok(Err(_)) => due = None,
                Err(_) if due.is_some() => return Err(End::Down(NoAnswer::Silent(ANSWER))),
                Err(_) => {
                    let now = Instant::now();
                    let say = connection.say(&["PING"]);
                    if timeout(ANSWER, say).await.is_err() {
                        return Err(End::Down(NoAnswer::Silent(ANSWER)));
                    }
                    (ping, due) = (now + PING, Some(now + ANSWER));
                }
            }
        }
    }

    async fn tell(&self, news: News) -> Result<(), End> {
        let key = self.key.clone();
        let heard = Heard { key, news };
        match timeout(ROOM, self.to.send(heard.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::NobodyListens),
            // Events would be lost beyond what the kernel holds: all is asked anew once there is room.
            Err(_) => Err(End::Down(NoAnswer::Silent(ROOM))),
        }
    }
}

/// Connects and subscribes.
async fn subscribe(server: &Server) -> Result<Connection, NoAnswer> {
    let until = Instant::now() + PATIENCE;
    let mut connection = Connection::open(server, until).await?;
    connection.subscribe(&CHANNELS, until).await?;
    Ok(connection)
}

fn event(value: &Value) -> Option<Event> {
    let Value::Array(list) = value else {
        return None;
    };
    match list.as_slice() {
        [kind, channel, payload] if text(kind)? == "message" => {
            read(&text(channel)?, &text(payload)?)
        }
        _ => None,
    }
}
