//! The Redis servers and the other Sentinels: whether they are reached, replicate and answer.

use super::warning_if;
use crate::check::facts::Facts;
use crate::check::facts::sentinel::{Watched, at, get};
use crate::check::facts::servers::Redis;
use crate::check::finding::{Findings, Verdict, error, fault, unknown, warning};
use crate::evidence::Site;
use crate::failover::Endpoint;
use crate::hosts;
use crate::redis::Value;
use crate::text::escape;

pub fn judge(facts: &Facts, findings: &mut Findings) {
    for redis in &facts.redises {
        let verdict = redis.role.as_ref().err().and_then(fault);
        findings.add("redis-role", redis.at, verdict);
        findings.add("announced-address", redis.at, shared_address(redis));
    }
    for one in facts.sentinel.iter().flat_map(|told| &told.watched) {
        for (place, redis) in one.redises.iter().enumerate() {
            let verdict = unreached(redis, place == 0, facts);
            findings.add("redis-reachable", &redis.endpoint, verdict);
        }
        for sentinel in &one.sentinels {
            let verdict = unreached(sentinel, false, facts);
            findings.add("sentinel-reachable", &sentinel.endpoint, verdict);
        }
        for endpoint in &one.nowhere {
            findings.add("announced-address", endpoint, on_no_interface(endpoint));
        }
        let name = escape(&one.name);
        findings.add("replication", &name, replication(one));
        findings.add("min-replicas", &name, min_replicas(one, facts));
    }
}

fn unreached(site: &Site, is_master: bool, facts: &Facts) -> Verdict {
    let why = match at(site) {
        None => "its name does not resolve here",
        Some(at) => facts.reached.get(&at)?.as_ref().err()?,
    };
    // An interface without carrier explains why servers are out of reach.
    let places = facts.kernel.iter().flat_map(|kernel| &kernel.places);
    let mut links = places
        .flat_map(|place| &place.interface)
        .map(|interface| &interface.link);
    if let Some(cut) = links.find(|link| !link.carrier) {
        return unknown(format!("{} has no carrier", cut.name));
    }
    let text = format!("cannot be reached from here: {why}");
    let port = site.endpoint.port;
    let remedy = format!(
        "Start it, let it listen on that address, and open port {port}/tcp in its host's firewall."
    );
    if is_master {
        error(text, remedy)
    } else {
        warning(text, remedy)
    }
}

/// An address that every host has, such as that of Docker's bridge, is no host's in particular.
fn shared_address(redis: &Redis) -> Verdict {
    let own = redis.at.to_string();
    let is_shared = |at: &&String| {
        let same = redis.replicas.iter().filter(|other| other == at);
        **at == own || same.count() > 1
    };
    let shared = redis.replicas.iter().find(is_shared)?;
    warning(
        format!(
            "several servers announce {}: Sentinel takes them for one",
            escape(shared)
        ),
        "Set `replica-announce-ip` in redis.conf and `sentinel announce-ip` to an address that only this server has.",
    )
}

fn on_no_interface(endpoint: &Endpoint) -> Verdict {
    let name = hosts::own_name();
    warning(
        "Sentinel knows this host's Redis by this address, which no interface has: only its run id tells that it is here",
        format!(
            "Write into the configuration, the same on every server: [hosts] {} = [\"{}\"], and a line like it for each other host.",
            escape(&name),
            escape(&endpoint.host.to_string())
        ),
    )
}

fn replication(one: &Watched) -> Verdict {
    let Some(replicas) = &one.replicas else {
        return unknown("Sentinel did not tell");
    };
    // A replica that is out of reach is another check's matter.
    let is_unlinked = |row: &&Value| {
        get(row, "master-link-status") != "ok" && !get(row, "flags").contains("s_down")
    };
    let unlinked = replicas.iter().filter(is_unlinked);
    let unlinked: Vec<String> = unlinked.map(|row| escape(&get(row, "name"))).collect();
    if replicas.is_empty() {
        return warning(
            "Sentinel knows no replica: there is nothing to fail over to",
            "Set `replicaof` on the other servers.",
        );
    }
    if !unlinked.is_empty() {
        return warning(
            format!("no link to the master: {}", unlinked.join(", ")),
            "Look into the replica's log; masterauth, requirepass and the firewall are the usual causes.",
        );
    }
    warning_if(
        replicas.iter().all(|row| get(row, "slave-priority") == "0"),
        "every replica has priority 0, so that none is ever promoted",
        "Set `replica-priority 100` on those that may become master.",
    )
}

/// With fewer than two replicas it would stop the writes when one is away.
fn min_replicas(one: &Watched, facts: &Facts) -> Verdict {
    let redises = facts.redises.iter();
    let mut told = redises.filter_map(|it| Some((&it.master, it.at, it.min_replicas?)));
    let told: Vec<_> = told.by_ref().filter(|(of, ..)| **of == one.name).collect();
    if one.redises.len() < 3 {
        return None;
    }
    if told.is_empty() {
        return unknown("no Redis of this host tells it");
    }
    let (_, at, _) = told.iter().find(|(.., number)| *number == 0)?;
    warning(
        format!(
            "min-replicas-to-write is 0 on {at}: a master that is cut off goes on taking writes, which are lost"
        ),
        "Set `min-replicas-to-write 1` and `min-replicas-max-lag 10` in redis.conf of every server.",
    )
}
