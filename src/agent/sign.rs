//! The sign at a Redis that its host has an agent: a subscription to a channel on which nobody speaks. Who asks for a
//! failover on another server looks there whether writes will be paused.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::backoff::Backoff;
use super::client_channel::Running;
use super::world::World;
use crate::exit::Kind;
use crate::redis::{Answers, Connection, NoAnswer, Server, Value, Words, redis_server, text};

/// The channel. The rights for the channels of clients cover it.
pub const CHANNEL: &str = "vipswitch:agent";

/// Where subscribes who asks about it, for the same right, and gives no sign by that.
const ASKING: &str = "vipswitch:asking";

/// How often it is looked which Redis are this host's.
const TICK: Duration = Duration::from_secs(1);

/// How long it may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a refusal it is tried again: the user's rights, or the password, may have been mended.
const REFUSED: Duration = Duration::from_secs(60);

/// What each message costs in time: nobody speaks here, and a user who may PUBLISH must not keep this host busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Subscribes at every Redis of this host, for ever.
pub(super) async fn work(world: Rc<World>) {
    let mut all: BTreeMap<(String, SocketAddr), Running> = BTreeMap::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let watched = world.watched.borrow();
        // One that was refused has ended, and begins anew with what the files say by then.
        all.retain(|key, running| watched.contains_key(key) && !running.0.is_finished());
        for key in watched
            .keys()
            .filter(|key| !all.contains_key(key))
            .cloned()
            .collect::<Vec<_>>()
        {
            let master = world.config.masters.get(&key.0);
            // What is wrong with the files the round of questions tells.
            let server = master.map(|master| redis_server(&world.config, master, key.1));
            if let Some(Ok(server)) = server {
                all.insert(key, Running(spawn_local(give(server))));
            }
        }
    }
}

/// Gives the sign, until some time after a refusal. That the user may not is no fault: `check` tells.
async fn give(server: Server) {
    let mut backoff = Backoff::default();
    loop {
        let Err(no) = give_once(&server, &mut backoff).await;
        match no.kind() {
            Kind::Permanent => return sleep(REFUSED).await,
            _ => sleep(backoff.wait()).await,
        }
    }
}

async fn give_once(server: &Server, backoff: &mut Backoff) -> Result<Infallible, NoAnswer> {
    let until = Instant::now() + PATIENCE;
    let mut connection = Connection::open(server, until).await?;
    let none = || Err(NoAnswer::Unexpected("none".into()));
    let mut answers = connection.ask(&[subscribe(CHANNEL)], until).await?;
    answers.pop().unwrap_or_else(none)?;
    backoff.reset();
    loop {
        connection.next().await?;
        sleep(PAUSE).await;
    }
}

fn subscribe(channel: &str) -> Words {
    vec!["SUBSCRIBE".to_owned(), channel.to_owned()]
}

/// Whether the host of a Redis has an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has.
    There,
    /// It has none, or one that has just started, or is not connected.
    Absent,
    /// Nobody knows, and why.
    Untold(String),
}

/// Returns the question about the sign, which costs a Redis nothing, however many clients it has; and one whether the
/// user may give it: an agent's user is the same.
pub fn questions() -> [Words; 2] {
    let asked = ["PUBSUB", "NUMSUB", CHANNEL].map(str::to_owned);
    [asked.to_vec(), subscribe(ASKING)]
}

/// Reads the answers to [`questions`].
pub fn read(answers: Answers) -> Sign {
    let mut answers = match answers {
        Ok(answers) => answers.into_iter(),
        Err(no) => return Sign::Untold(no.to_string()),
    };
    let mut next = || {
        answers
            .next()
            .unwrap_or_else(|| Err(NoAnswer::Unexpected("none".into())))
    };
    let (number, may_give) = (next(), next());
    match number {
        Ok(Value::Array(list)) => match (list.get(1), may_give) {
            (Some(number), may_give) => match (text(number).as_deref(), may_give) {
                (Some("0"), Ok(_)) => Sign::Absent,
                // Where no agent may give it.
                (Some("0"), Err(no)) => Sign::Untold(no.to_string()),
                _ => Sign::There,
            },
            (None, _) => Sign::Untold("it does not tell".into()),
        },
        Ok(_) => Sign::Untold("it does not tell".into()),
        Err(no) => Sign::Untold(no.to_string()),
    }
}
