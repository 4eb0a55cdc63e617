//! The sign at a Redis that its host has an agent: a subscription to a channel, and an answer to whoever asks there. Who
//! asks for a failover on another server looks there whether writes will be paused. The subscription alone tells little:
//! an agent that was stopped has it still.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::backoff::Backoff;
use super::client_channel::{Key, Running, message};
use super::following::Followed;
use super::world::World;
use crate::exit::Kind;
use crate::redis::{Answers, Connection, Lines, NoAnswer, Server, Value, Words, ask, text, words};

/// The channel. The rights for the channels of clients cover it.
pub const CHANNEL: &str = "vipswitch:agent";

/// Where the answer comes.
const ASKING: &str = "vipswitch:asking";

/// How long a question is at most, in bytes: it is sent back as it is.
const LONGEST: usize = 64;

/// How long an agent may take to answer.
const ANSWERS: Duration = Duration::from_secs(2);

/// For how long the agent waits, before it answers, for events that do not arrive: they are asked for again within a second.
const HEARS: Duration = Duration::from_millis(1200);

/// How often it is looked which Redis are this host's.
const TICK: Duration = Duration::from_secs(1);

/// How long it may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a refusal it is tried again: the user's rights, or the password, may have been mended.
const REFUSED: Duration = Duration::from_secs(60);

/// What each message costs in time: a user who may PUBLISH must not keep this host busy.
const PAUSE: Duration = Duration::from_millis(50);

/// Subscribes at every Redis of this host, for ever.
pub(super) async fn work(world: Rc<World>) {
    let mut all: BTreeMap<Key, Running> = BTreeMap::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let watched = world.watched.borrow();
        all.retain(|key, running| watched.contains_key(key) && running.goes_on(&world, key));
        for key in watched
            .keys()
            .filter(|key| !all.contains_key(key))
            .cloned()
            .collect::<Vec<_>>()
        {
            let of = (Rc::clone(&world), key.clone());
            let running = Running::begin((&world, &key), |server| give(of, server));
            all.extend(running.map(|it| (key, it)));
        }
    }
}

/// Gives the sign, until some time after a refusal. That the user may not is no fault: `check` tells.
async fn give(of: (Rc<World>, Key), server: Server) {
    let mut backoff = Backoff::default();
    loop {
        let Err(no) = give_once(&of, &server, &mut backoff).await;
        match no.kind() {
            Kind::Permanent => return until_it_may_work(&of).await,
            _ => sleep(backoff.wait()).await,
        }
    }
}

/// Waits until the Redis that tells this agent nothing tells its role: the password was mended. Where it is the channel that
/// this user may not use, or nothing is mended, for a while.
async fn until_it_may_work((world, key): &(Rc<World>, Key)) {
    let is_all_refused = !hears(world, key);
    let until = Instant::now() + REFUSED;
    while Instant::now() < until && !(is_all_refused && hears(world, key)) {
        sleep(TICK).await;
    }
}

async fn give_once(
    (world, key): &(Rc<World>, Key),
    server: &Server,
    backoff: &mut Backoff,
) -> Result<Infallible, NoAnswer> {
    let until = Instant::now() + PATIENCE;
    let mut connection = Connection::open(server, until).await?;
    let none = || Err(NoAnswer::Unexpected("none".into()));
    let mut answers = connection.ask(&[subscribe(CHANNEL)], until).await?;
    answers.pop().unwrap_or_else(none)?;
    backoff.reset();
    loop {
        let said = message(&connection.next().await?);
        let question = said.filter(|(_, text)| text.len() <= LONGEST);
        if let Some((_, question)) = question
            && is_of_use(world, key).await
        {
            // Where it does not arrive, the asker takes this for no agent.
            let _ = ask(
                server,
                &Lines::default(),
                &[publish(ASKING, &question)],
                PATIENCE,
            )
            .await;
        }
        sleep(PAUSE).await;
    }
}

/// Returns whether an agent would pause the writes of this Redis, or take its VIP over, in time: not one whose Redis tells
/// it nothing, nor one that a Sentinel tells nothing that answers it, as that may be the one that fails over. A Sentinel
/// that was just started again has a moment.
async fn is_of_use(world: &World, key: &Key) -> bool {
    let until = Instant::now() + HEARS;
    loop {
        let is_deaf = world.followed.borrow().values().any(Followed::is_deaf);
        if !is_deaf || !hears(world, key) || Instant::now() >= until {
            return !is_deaf && hears(world, key);
        }
        sleep(PAUSE).await;
    }
}

/// Returns whether a Redis of this host has told its role when it was asked last.
fn hears(world: &World, (name, at): &Key) -> bool {
    let core = world.core.borrow();
    let own = core.master(name).and_then(|master| master.own.get(at));
    own.is_some_and(|own| own.role.is_ok())
}

fn subscribe(channel: &str) -> Words {
    words(&["SUBSCRIBE", channel])
}

/// Whether the host of a Redis has an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has.
    There,
    /// It has none, or one that has just started, or is not connected.
    Absent,
    /// It has one that does not answer, or whose Redis tells it nothing.
    Silent,
    /// Nobody knows, and why.
    Untold(String),
}

/// Looks at a Redis whether its host has an agent, within so long for Redis' own answers. It costs that Redis nothing,
/// however many clients it has.
pub async fn look(server: &Server, within: Duration) -> Sign {
    let until = Instant::now() + within;
    let mut connection = match Connection::open(server, until).await {
        Ok(connection) => connection,
        Err(no) => return Sign::Untold(no.to_string()),
    };
    let number = words(&["PUBSUB", "NUMSUB", CHANNEL]);
    // The user of the agent is the same: where it may not subscribe, no agent may.
    let answers = connection.ask(&[number, subscribe(ASKING)], until).await;
    let sign = read(answers);
    if sign != Sign::There {
        return sign;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let question = format!(
        "{} {}",
        std::process::id(),
        now.unwrap_or_default().as_nanos()
    );
    let asked = [publish(CHANNEL, &question)];
    match ask(server, &Lines::default(), &asked, within).await {
        Ok(answers) => {
            if let Some(Err(no)) = answers.into_iter().next() {
                return Sign::Untold(no.to_string());
            }
        }
        Err(no) => return Sign::Untold(no.to_string()),
    }
    let answer = async {
        while let Ok(said) = connection.next().await {
            if message(&said).is_some_and(|(channel, text)| channel == ASKING && text == question) {
                return Sign::There;
            }
        }
        Sign::Untold("the connection ended".into())
    };
    timeout(ANSWERS, answer).await.unwrap_or(Sign::Silent)
}

fn publish(channel: &str, text: &str) -> Words {
    words(&["PUBLISH", channel, text])
}

/// Reads how many have subscribed, and whether this user may.
fn read(answers: Answers) -> Sign {
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
            (None, _) => Sign::Untold("it does not tell".into()),
            // No agent may give it, nor hear its answer.
            (Some(_), Err(no)) => Sign::Untold(no.to_string()),
            (Some(number), Ok(_)) if text(number).as_deref() == Some("0") => Sign::Absent,
            (Some(_), Ok(_)) => Sign::There,
        },
        Ok(_) => Sign::Untold("it does not tell".into()),
        Err(no) => Sign::Untold(no.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_an_agent_answers_is_known_only_where_its_answer_may_be_heard() {
        let number = |number: &str| {
            let words = [CHANNEL, number].map(|word| Value::Text(word.to_owned()));
            Ok(Value::Array(words.to_vec()))
        };
        let heard = || Ok(Value::Int(1));
        let denied = || Err(NoAnswer::NotAllowed("no permissions".into()));
        assert_eq!(read(Ok(vec![number("0"), heard()])), Sign::Absent);
        assert_eq!(read(Ok(vec![number("1"), heard()])), Sign::There);
        for answers in [
            vec![number("0"), denied()],
            vec![number("2"), denied()],
            vec![denied(), heard()],
            vec![],
        ] {
            let sign = read(Ok(answers));
            assert!(matches!(sign, Sign::Untold(_)), "{sign:?}");
        }
    }
}
