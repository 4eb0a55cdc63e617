//! The Redis servers and the other Sentinels: whether they are reached and replicate, what this host's Redis
//! answers, and whether a master that is cut off stops taking writes.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::net::SocketAddr;

use futures_util::future::join;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ANSWER, Known, rights};
use crate::agent::absence::among;
use crate::agent::chosen::{may_be_asked, site_may_be_asked};
use crate::evidence::Site;
use crate::exit::Fault;
use crate::failover::Host;
use crate::few;
use crate::gather::told::{Watched, at};
use crate::hosts;
use crate::judgement::unready;
use crate::place::{Place, is_own_name};
use crate::redis::{
    Lines, NoAnswer, Replica, Value, ask, readers, redis_fault, redis_server, role, text, words,
};
use crate::report::finding::{Findings, Verdict, error, fault, unknown, warning, warning_if};
use crate::text::escape;

/// How many connections are tried at once.
const AT_ONCE: usize = 64;

const NOT_ASKED: &str =
    "it is sent no password: only its run id tells that it is here, and that can be anybody's";

/// The replicas of a Redis, and its `min-replicas-to-write` where it tells.
type Answers = (Vec<Replica>, Option<String>);

/// Judges all servers. `cut` is an interface without carrier, which explains why servers are out of reach.
pub async fn judge(known: &Known, cut: Option<&str>, findings: &mut Findings) {
    let unreached = unreached(known).await;
    let out_of_reach = |site: &Site, is_master| {
        let why = match at(site) {
            None => "its name does not resolve here",
            Some(at) => unreached.get(&at)?,
        };
        if let Some(cut) = cut {
            return unknown(format!("{cut} has no carrier"));
        }
        let level = if is_master { error } else { warning };
        let port = site.endpoint.port;
        level(
            format!("cannot be reached from here: {why}"),
            format!(
                "Start it, let it listen on that address, and open port {port}/tcp in its host's firewall."
            ),
        )
    };
    for one in known.watched() {
        for (place, redis) in one.redises.iter().enumerate() {
            let at = &redis.endpoint;
            findings.add("redis-reachable", at, out_of_reach(redis, place == 0));
            if redis.is_here() {
                findings.add("announced-address", at, on_no_interface(redis, known));
            } else if known.agent.is_ok() {
                findings.add("replica-password", at, unnamed(redis, one, known));
            }
        }
        for sentinel in &one.sentinels {
            let verdict = out_of_reach(sentinel, false);
            findings.add("sentinel-reachable", &sentinel.endpoint, verdict);
        }
        findings.add("replication", escape(&one.name), replication(one));
        let (of, has_own) = ((&known.config, one.name.as_str()), known.agent.is_ok());
        for (at, verdict) in among(of, &one.redises, has_own, ANSWER).await {
            findings.add("agent-sign", at, verdict);
        }
        let here = one.redises.iter().filter(|redis| redis.is_here());
        for (site, at) in here.filter_map(|site| Some((site, at(site)?))) {
            let master = known.config.master(&one.name);
            if master.is_ok_and(|it| !site_may_be_asked(&known.config, it, site, at)) {
                findings.add("redis-role", at, unknown(NOT_ASKED));
                continue;
            }
            let answers = ask_redis(known, &one.name, at).await;
            findings.add("redis-role", at, answers.as_ref().err().and_then(fault));
            let Ok((replicas, number)) = answers else {
                continue;
            };
            findings.add("announced-address", at, shared_address(at, &replicas));
            if one.redises.len() > 2 {
                findings.add("min-replicas", at, min_replicas(number));
            }
            // Without an agent nobody asks for more.
            if known.agent.is_ok() {
                rights::judge(known, &one.name, at, findings).await;
            }
        }
    }
}

/// Tries to connect to every Redis and Sentinel. Returns which do not accept, and why.
async fn unreached(known: &Known) -> BTreeMap<SocketAddr, String> {
    let sites = known.watched().iter().flat_map(Watched::sites);
    let targets: BTreeSet<SocketAddr> = few::set(sites.filter_map(at));
    let tried = targets.into_iter().map(|target| async move {
        match timeout(ANSWER, TcpStream::connect(target)).await {
            Ok(connected) => Some((target, connected.err()?.to_string())),
            Err(_) => Some((target, "no answer".to_owned())),
        }
    });
    let tried = stream::iter(tried).buffer_unordered(AT_ONCE);
    tried.filter_map(async |one| one).collect().await
}

/// Asks a Redis of this host as `sync` and the agent ask it. Returns its replicas, and the number of those without which
/// it takes no writes.
async fn ask_redis(known: &Known, name: &str, at: SocketAddr) -> Result<Answers, Fault> {
    let server = redis_server(&known.config, known.config.master(name)?, at)?;
    let questions = [
        words(&["ROLE"]),
        // The pattern covers the name before Redis 5, too.
        words(&["CONFIG", "GET", "min-*-to-write"]),
    ];
    let lines = Lines::default();
    let asked = join(
        role(&server, ANSWER),
        ask(&server, &lines, &questions, ANSWER),
    );
    let (role, answers) = asked.await;
    role.map_err(|no| redis_fault(&no, at, name))?;
    let mut answers = answers.unwrap_or_default().into_iter();
    let mut next = || answers.next().unwrap_or(Err(NoAnswer::Silent(ANSWER)));
    let state = readers::state(next(), Err(NoAnswer::Silent(ANSWER)), None);
    let number = match next() {
        Ok(Value::Array(pair)) => pair.get(1).and_then(text),
        _ => None,
    };
    Ok((state.map_or_else(|_| Vec::new(), |it| it.replicas), number))
}

/// An address that every host has, such as that of Docker's bridge, is no host's in particular.
fn shared_address(own: SocketAddr, replicas: &[Replica]) -> Verdict {
    let replicas = replicas
        .iter()
        .map(|one| format!("{}:{}", one.host, one.port));
    let replicas: Vec<String> = replicas.collect();
    let is_shared = |at: &&String| {
        let same = replicas.iter().filter(|other| other == at);
        **at == own.to_string() || same.count() > 1
    };
    let shared = escape(replicas.iter().find(is_shared)?);
    warning(
        format!("several servers announce {shared}: Sentinel takes them for one"),
        "Set `replica-announce-ip` in redis.conf and `sentinel announce-ip` to an address that only this server has.",
    )
}

fn on_no_interface(redis: &Site, known: &Known) -> Verdict {
    let (own, host) = (hosts::own_name(), &redis.endpoint.host);
    let is_named = match host {
        Host::Name(name) if is_own_name(name, &own) => Some(true),
        _ => known.config.is_own(std::slice::from_ref(host), &own),
    };
    let has_interface = matches!(redis.place, Ok(Place::Here(Some(_))));
    if is_named == Some(true) || has_interface {
        return None;
    }
    let (own, host) = (escape(&own), escape(&host.to_string()));
    warning(
        "Sentinel knows this host's Redis by this address, which no interface has: only its run id tells that it is here",
        format!(
            "Write into the configuration, the same on every server: [hosts] {own} = [\"{host}\"], and a line like it for each other host."
        ),
    )
}

fn replication(one: &Watched) -> Verdict {
    let Some(replicas) = &one.standbys else {
        return unknown("Sentinel did not tell");
    };
    let wrong = unready(replicas)?;
    warning(wrong.text(), wrong.remedy())
}

/// With fewer than two replicas it would stop the writes when one is away.
fn min_replicas(number: Option<String>) -> Verdict {
    let Some(number) = number else {
        return unknown("it did not tell");
    };
    warning_if(
        number == "0",
        "min-replicas-to-write is 0: a master that is cut off goes on taking writes, which are lost",
        "Set `min-replicas-to-write 1` and `min-replicas-max-lag 10` in redis.conf of every server.",
    )
}

/// Judges whether the agent of the old master may ask this replica for its role, where that needs a password.
fn unnamed(replica: &Site, of: &Watched, known: &Known) -> Verdict {
    let master = known.config.master(&of.name).ok()?;
    let addresses = replica.addresses.iter().copied().map(Host::Address);
    let named: Vec<Host> = iter::once(replica.endpoint.host.clone())
        .chain(addresses)
        .collect();
    warning_if(
        master.redis_password.is_some() && !may_be_asked(&known.config, master, &named),
        "the agent sends the password of Redis only to hosts that the configuration names: in a planned failover to this one it hears of the promotion from Sentinel, a second later, and what is written meanwhile waits or is lost",
        "Name every Sentinel in `peers` under [sentinel], or every host under [hosts].",
    )
}
