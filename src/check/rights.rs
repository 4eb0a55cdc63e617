//! Whether the agent may do at this host's Redis what it does there in a failover. Nothing is carried out: a Redis looks
//! at the user's rights before it looks at the arguments, which make no sense here, and before it tells a subscriber
//! that it may not ask for anything (`processCommand` in server.c). So no right to ask for rights (`ACL`) is needed.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Known;
use crate::agent::clients::channel;
use crate::agent::sign;
use crate::config::Master;
use crate::exit::Fault;
use crate::gather::told::words;
use crate::redis::{
    Connection, Lines, NoAnswer, Server, Value, Words, WritePause, ask, redis_server, text,
};
use crate::report::finding::{Findings, Verdict, unknown, warning};

/// How long a Redis may take for each of the two conversations.
const ANSWER: Duration = Duration::from_millis(800);

/// What a subscriber is told that asks for anything else, in Redis 2.6 to 8 and in Valkey.
const SUBSCRIBED: &str = "allowed in this context";

type Answer = Result<(), NoAnswer>;

/// Judges the rights at the Redis of a master on this host.
pub async fn judge(known: &Known, name: &str, at: SocketAddr, findings: &mut Findings) {
    // Files that cannot be used, and an unknown master, are another check's matter.
    let Ok((server, master)) = way(known, name, at) else {
        return;
    };
    let questions = [
        WritePause::question(),
        // Follows nobody: the port is no number.
        words(&["REPLICAOF", "vipswitch", "none"]),
        words(&["INFO", "replication"]),
        sign::questions()[0].clone(),
    ];
    let asked = ask(&server, &Lines::default(), &questions, ANSWER).await;
    let answers: Result<[_; 4], _> = asked.unwrap_or_default().try_into();
    let silent = |_| [0; 4].map(|_| Err(NoAnswer::Silent(ANSWER)));
    let [paused, followed, info, signed] = answers.unwrap_or_else(silent);
    let (subscribed, rest) = match master.tell_clients {
        true => as_subscriber(&server, master).await,
        false => (Ok(()), Vec::new()),
    };
    let mut rest = rest.into_iter();
    let published = rest.next();
    findings.add("write-pause", at, write_pause(&paused, rest.next()));
    findings.add("follow-at-once", at, follow_at_once(&followed));
    findings.add("lag", at, lag(&info));
    findings.add("agent-sign", at, agent_sign(&signed));
    if master.tell_clients {
        let verdict = client_list(&subscribed, published, master);
        findings.add("client-list", at, verdict);
    }
}

fn way<'a>(known: &'a Known, name: &str, at: SocketAddr) -> Result<(Server, &'a Master), Fault> {
    let master = known.config.master(name)?;
    Ok((redis_server(&known.config, master, at)?, master))
}

/// Subscribes to the channels of a master's VIPs, and asks for what a subscriber is refused. Returns how the
/// subscription went, and the answers: to `PUBLISH` and to `CLIENT UNPAUSE`, none where it was not understood.
async fn as_subscriber(server: &Server, master: &Master) -> (Answer, Vec<Answer>) {
    let until = Instant::now() + ANSWER;
    let mut answers = Vec::new();
    let asked = async {
        let mut connection = Connection::open(server, until).await?;
        let channels = master.vips.iter().map(|vip| channel(vip.address));
        let question: Words = std::iter::once("SUBSCRIBE".to_owned())
            .chain(channels.clone())
            .collect();
        let none = || Err(NoAnswer::Unexpected("none".into()));
        let mut said = connection.ask(&[question], until).await?;
        let said = said.pop().unwrap_or_else(none)?;
        if !is_pushed(&said) {
            return Err(NoAnswer::Unexpected("it is not subscribed".into()));
        }
        let publish = channels.map(|channel| vec!["PUBLISH".to_owned(), channel, String::new()]);
        let published = as_refused(&mut connection, publish.collect(), until).await?;
        answers.push(published);
        // Only a server that is seen to carry nothing out is told to lift a pause.
        let unpause = vec![words(&["CLIENT", "UNPAUSE"])];
        answers.push(as_refused(&mut connection, unpause, until).await?);
        Ok(())
    };
    let subscribed = asked.await;
    // What came after the subscription is no word about it.
    match answers.is_empty() {
        true => (subscribed, answers),
        false => (Ok(()), answers),
    }
}

/// Asks for what a subscriber is refused, one after the other. Returns whether the user may do it.
///
/// # Errors
///
/// A server that carries out what a subscriber may not ask for, or does not answer.
async fn as_refused(
    connection: &mut Connection,
    questions: Vec<Words>,
    until: Instant,
) -> Result<Answer, NoAnswer> {
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
        let late = |_| NoAnswer::Silent(ANSWER);
        match timeout_at(until, asked).await.map_err(late)? {
            Err(NoAnswer::Refused(why)) if why.contains(SUBSCRIBED) => {}
            Err(no @ (NoAnswer::NotAllowed(_) | NoAnswer::UnknownCommand(_))) => {
                return Ok(Err(no));
            }
            Err(no) => return Err(no),
            Ok(_) => return Err(NoAnswer::Unexpected("it was carried out".into())),
        }
    }
    Ok(Ok(()))
}

/// Whether it is no answer to a command, but what a subscription brings.
fn is_pushed(value: &Value) -> bool {
    let Value::Array(parts) = value else {
        return false;
    };
    let kind = parts.first().and_then(text);
    matches!(kind.as_deref(), Some("subscribe" | "message"))
}

/// Judges whether the agent can pause writes, by the answer to a pause whose time is no number, and lift a pause, where
/// that could be asked.
fn write_pause(paused: &Result<Value, NoAnswer>, lifted: Option<Answer>) -> Verdict {
    const COST: &str = "in a planned failover away from here writes are lost";
    const NEEDS: &str = "It needs +client|pause and +client|unpause.";
    match (WritePause::read(paused), lifted) {
        (WritePause::Denied, _) => warning(
            format!("the user of the configuration may not pause writes: {COST}"),
            NEEDS,
        ),
        (WritePause::May, Some(Err(_))) => warning(
            "the user of the configuration may pause writes and not lift the pause: in a planned failover away from here clients wait until it ends by itself",
            NEEDS,
        ),
        (WritePause::May, _) => None,
        (WritePause::Cannot(why), _) => warning(
            format!("it cannot pause writes ({why}): {COST}"),
            "Redis can since 6.2, where CLIENT is not renamed.",
        ),
        (WritePause::Untold, _) => unknown("it did not tell whether it can pause writes"),
    }
}

/// Judges whether it can be asked on another server whether this host has an agent.
fn agent_sign(signed: &Result<Value, NoAnswer>) -> Verdict {
    match signed {
        Ok(_) => None,
        Err(NoAnswer::NotAllowed(_)) => warning(
            "the user of the configuration may not ask who has subscribed: `vipswitch failover` on another server does not know whether writes will be paused here",
            "It needs +pubsub|numsub.",
        ),
        Err(_) => unknown("it did not tell who has subscribed"),
    }
}

/// Judges whether the agent can have an old master follow the new one, by the answer to a port that is no number.
fn follow_at_once(followed: &Result<Value, NoAnswer>) -> Verdict {
    const COST: &str = "after a failover away from here it takes writes that are lost until Sentinel makes it a replica, 11 s later";
    match followed {
        Err(NoAnswer::NotAllowed(_)) => warning(
            format!("the user of the configuration may not make it a replica: {COST}"),
            "It needs +replicaof.",
        ),
        Err(NoAnswer::UnknownCommand(_)) => warning(
            format!("it does not know REPLICAOF: {COST}"),
            "Redis does since 5.0, where REPLICAOF is not renamed.",
        ),
        // "Invalid master port", and before Redis 7 "value is not an integer or out of range".
        Err(NoAnswer::Refused(why)) if why.contains("port") || why.contains("integer") => None,
        _ => unknown("it did not tell whether it can be made a replica"),
    }
}

/// Judges whether the agent is told how late the replicas are.
fn lag(info: &Result<Value, NoAnswer>) -> Verdict {
    match info {
        Ok(_) => None,
        Err(NoAnswer::NotAllowed(_)) => warning(
            "the user of the configuration may not ask for INFO: how late the replicas are, and what a failover has lost, is not known, and behind NAT not which server it is",
            "It needs +info.",
        ),
        Err(NoAnswer::UnknownCommand(_)) => warning(
            "it does not know INFO: how late the replicas are, and what a failover has lost, is not known",
            "Take INFO out of rename-command in redis.conf.",
        ),
        Err(_) => unknown("it did not tell how late the replicas are"),
    }
}

/// Judges whether the agents can tell each other who is connected through the VIPs.
fn client_list(subscribed: &Answer, published: Option<Answer>, master: &Master) -> Verdict {
    let no = match (subscribed, published) {
        (Ok(()), Some(Ok(()))) => return None,
        (Err(no), _) => no.clone(),
        (Ok(()), Some(Err(no))) => no,
        (Ok(()), None) => return unknown("it did not tell whether it carries the list of clients"),
    };
    const COST: &str = "the agents cannot tell each other who is connected, so that clients of a host that dies may hang";
    match no {
        NoAnswer::NotAllowed(_) => {
            let channels = master.vips.iter().map(|vip| channel(vip.address));
            let channels: Vec<String> = channels.collect();
            warning(
                format!(
                    "the user of the configuration may not use {}: {COST}",
                    channels.join(", ")
                ),
                "It needs +publish +subscribe &vipswitch:*; or set `tell_clients = false` for this master.",
            )
        }
        NoAnswer::UnknownCommand(_) => warning(
            format!("it does not know PUBLISH or SUBSCRIBE: {COST}"),
            "Take them out of rename-command in redis.conf; or set `tell_clients = false` for this master.",
        ),
        _ => unknown("it did not tell whether it carries the list of clients"),
    }
}
