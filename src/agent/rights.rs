//! What it costs where the agent may not do at a Redis what it does there in a failover, in the words of `check`.

use super::clients::{RIGHTS, WITHOUT_LIST};
use crate::redis::May;
use crate::report::finding::{Verdict, unknown, warning};
use crate::text::escape;

/// Judges whether the agent can pause writes, and lift a pause, where that could be asked.
pub fn write_pause(pause: &May, unpause: &May) -> Verdict {
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

/// Judges whether it can be asked on another server whether this host has an agent.
pub fn agent_sign(number: &May) -> Verdict {
    match number {
        May::Yes => None,
        May::NotAllowed => warning(
            "the user of the configuration may not ask who has subscribed: `vipswitch failover` on another server does not know whether writes will be paused here",
            "It needs +pubsub|numsub.",
        ),
        _ => unknown("it did not tell who has subscribed"),
    }
}

/// Judges whether the agent can have an old master follow the new one.
pub fn follow_at_once(follow: &May) -> Verdict {
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
pub fn lag(info: &May) -> Verdict {
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
pub fn client_list(may: &May, channels: &[String]) -> Verdict {
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
