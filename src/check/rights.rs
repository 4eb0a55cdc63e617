//! Whether the agent may do at this host's Redis what it does there in a failover.

use std::net::SocketAddr;

use super::{ANSWER, Known};
use crate::agent::clients::{RIGHTS, WITHOUT_LIST, channel};
use crate::redis::{May, redis_server, rights};
use crate::report::finding::{Findings, Verdict, unknown, warning};
use crate::text::escape;

/// Judges the rights at the Redis of a master on this host.
pub async fn judge(known: &Known, name: &str, at: SocketAddr, findings: &mut Findings) {
    // Files that cannot be used, and an unknown master, are another check's matter.
    let Ok(master) = known.config.master(name) else {
        return;
    };
    let Ok(server) = redis_server(&known.config, master, at) else {
        return;
    };
    let vips = master.vips.iter().filter(|_| master.tell_clients);
    let channels: Vec<String> = vips.map(|vip| channel(vip.address)).collect();
    let rights = rights(&server, &channels, ANSWER).await;
    let pause = write_pause(&rights.pause, &rights.unpause);
    findings.add("write-pause", at, pause);
    findings.add("follow-at-once", at, follow_at_once(&rights.follow));
    findings.add("lag", at, lag(&rights.info));
    if master.tell_clients {
        let verdict = client_list(&rights.channels, &channels);
        findings.add("client-list", at, verdict);
    }
}

/// Judges whether the agent can pause writes, and lift a pause, where that could be asked.
fn write_pause(pause: &May, unpause: &May) -> Verdict {
    const COST: &str = "in a planned failover away from here writes are lost";
    const NEEDS: &str = "It needs +client|pause and +client|unpause.";
    match (pause, unpause) {
        (May::NotAllowed, _) => warning(
            format!("the user of the configuration may not pause writes: {COST}"),
            NEEDS,
        ),
        (May::Yes, May::NotAllowed | May::Unknown(_)) => warning(
            "the user of the configuration may pause writes and not lift the pause: in a planned failover away from here clients wait until it ends by itself",
            NEEDS,
        ),
        (May::Yes, _) => None,
        (May::Refused(why) | May::Unknown(why), _) => warning(
            format!("it cannot pause writes ({}): {COST}", escape(why)),
            "Redis can since 6.2, where CLIENT is not renamed.",
        ),
        (May::Untold, _) => unknown("it did not tell whether it can pause writes"),
    }
}

/// Judges whether the agent can have an old master follow the new one.
fn follow_at_once(follow: &May) -> Verdict {
    const COST: &str = "after a failover away from here it takes writes that are lost until Sentinel makes it a replica, 11 s later";
    match follow {
        May::Yes => None,
        May::NotAllowed => warning(
            format!("the user of the configuration may not make it a replica: {COST}"),
            "It needs +replicaof.",
        ),
        May::Unknown(_) => warning(
            format!("it does not know REPLICAOF: {COST}"),
            "Redis does since 5.0, where REPLICAOF is not renamed.",
        ),
        May::Refused(_) | May::Untold => {
            unknown("it did not tell whether it can be made a replica")
        }
    }
}

/// Judges whether the agent is told how late the replicas are.
fn lag(info: &May) -> Verdict {
    match info {
        May::Yes => None,
        May::NotAllowed => warning(
            "the user of the configuration may not ask for INFO: how late the replicas are, and what a failover has lost, is not known, and behind NAT not which server it is",
            "It needs +info.",
        ),
        May::Unknown(_) => warning(
            "it does not know INFO: how late the replicas are, and what a failover has lost, is not known",
            "Take INFO out of rename-command in redis.conf.",
        ),
        May::Refused(_) | May::Untold => unknown("it did not tell how late the replicas are"),
    }
}

/// Judges whether the agents can tell each other who is connected through the VIPs.
fn client_list(may: &May, channels: &[String]) -> Verdict {
    match may {
        May::Yes => None,
        May::NotAllowed => warning(
            format!(
                "the user of the configuration may not use {}: {WITHOUT_LIST}",
                channels.join(", ")
            ),
            format!("It needs {RIGHTS}; or set `tell_clients = false` for this master."),
        ),
        May::Unknown(_) => warning(
            format!("it does not know PUBLISH or SUBSCRIBE: {WITHOUT_LIST}"),
            "Take them out of rename-command in redis.conf; or set `tell_clients = false` for this master.",
        ),
        May::Refused(_) | May::Untold => {
            unknown("it did not tell whether it carries the list of clients")
        }
    }
}
