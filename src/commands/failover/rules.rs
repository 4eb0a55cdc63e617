//! Whether a planned failover could lose writes, and what an operator is to know of it. Pure.

use std::time::Duration;

use crate::agent::snapshot::Master;
use crate::evidence::Role;
use crate::exit::Fault;
use crate::judgement::LEAST_DOWN_AFTER;
use crate::redis::State;
use crate::text::escape;

/// How many bytes the replica that is to be promoted may lack when it is asked itself: it gets them within the tenth of
/// a second in which writes are paused.
pub(super) const FAR: u64 = 1024 * 1024;

/// What is known about the master's Redis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// What it says of itself, or why it says nothing.
    pub(super) state: Result<&'a State, &'a str>,
    /// The replicas that have caught up.
    pub(super) near: &'a [String],
    /// Whether this host has an agent, which has to be on the master's host to pause writes: the site has agents.
    pub(super) has_agent: bool,
    /// Whether the master is on this host.
    pub(super) is_here: bool,
    /// Whether the best moment is not waited for.
    pub(super) now: bool,
    /// How long a master must be silent until it counts as down.
    pub(super) down_after: Option<Duration>,
}

/// Returns why writes could be lost, more than are in any failover of this site.
pub(super) fn objection(known: &Known<'_>) -> Option<Fault> {
    const FORCE: &str =
        "With --force it is asked for all the same; a Sentinel has to be able to select a replica.";
    let state = match known.state {
        Ok(state) => state,
        Err(why) => {
            let text = format!("nobody knows whether a replica has what the master has: {why}");
            return Some(Fault::passing(text).remedy(
                "Look whether that Redis hangs. Else run this on the master's server, or name the other servers in `peers` under [sentinel]. With --force it is asked for all the same.",
            ));
        }
    };
    let online = state.replicas.iter().filter(|one| one.online);
    let text = if state.role != Role::Master {
        "the Redis that the Sentinels name says that it is no master".to_owned()
    } else if online.clone().next().is_none() {
        "no replica is connected to the master".to_owned()
    } else if known.near.is_empty() {
        let least = online
            .map(|one| state.offset.saturating_sub(one.offset))
            .min();
        let least = least.unwrap_or_default();
        format!("no replica has caught up: what was acknowledged lacks {least} bytes at least")
    } else if known.has_agent && !state.can_pause_writes() {
        let version = state.version.as_deref().unwrap_or_default();
        let text = format!("Redis {} cannot pause writes", escape(version));
        let remedy = "What is written while the VIP moves would be lost: Redis can since 6.2. With --force it is done all the same.";
        return Some(Fault::permanent(text).remedy(remedy));
    } else {
        return None;
    };
    Some(Fault::passing(text).remedy(FORCE))
}

/// Returns why a shutdown hands nothing over, where an operator could: nobody is there who decides that writes may be lost.
pub(super) fn stays(agent: Option<&Master>) -> Option<&'static str> {
    match agent {
        None => Some(
            "no agent answers on this host, so that writes would not be paused and some be lost",
        ),
        Some(master) if master.maintenance.is_some() => Some("it is in maintenance"),
        Some(_) => None,
    }
}

/// Returns the fault of a replica that lacks so many bytes, if those are many.
pub(super) fn is_far(replica: &str, lacks: Option<u64>) -> Option<Fault> {
    let lacks = lacks.filter(|bytes| *bytes > FAR)?;
    let text = format!("{replica}, which would be promoted, lacks {lacks} bytes");
    Some(Fault::passing(text).remedy(
        "Wait until it has caught up, or until fewer writes come. With --force it is done all the same.",
    ))
}

/// Returns what an operator is to know, one sentence each.
pub(super) fn notes(known: &Known<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if !known.has_agent {
        let host = if known.is_here {
            "this host"
        } else {
            "the master's host"
        };
        let time = if known.now { "1" } else { "0.2" };
        notes.push(format!(
            "without an agent on {host} writes are not paused: what is written until its VIP has moved, for about {time} s, is lost"
        ));
    }
    if let Some(time) = known.down_after.filter(|time| *time < LEAST_DOWN_AFTER) {
        notes.push(format!(
            "with down-after-milliseconds {} Sentinel may take the new master for down, too, and fail over a second time: set 2000 or more",
            time.as_millis()
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Replica;

    fn state(replicas: &[(bool, u64)], version: &str) -> State {
        State {
            role: Role::Master,
            run_id: None,
            offset: 1000,
            promoted_at: None,
            process: None,
            replicas: replicas
                .iter()
                .map(|&(online, offset)| Replica {
                    host: "10.0.0.2".into(),
                    port: 6379,
                    online,
                    offset,
                    lag_seconds: None,
                })
                .collect(),
            follows: None,
            version: Some(version.into()),
        }
    }

    fn known<'a>(state: &'a State, near: &'a [String]) -> Known<'a> {
        Known {
            state: Ok(state),
            near,
            has_agent: true,
            is_here: true,
            now: false,
            down_after: Some(Duration::from_secs(5)),
        }
    }

    #[test]
    fn each_row_of_the_table_says_what_could_be_lost() {
        let near = ["10.0.0.2:6379".to_owned()];
        let well = state(&[(true, 1000)], "7.0.15");
        let all_well = known(&well, &near);
        assert_eq!(objection(&all_well), None);
        let replica = State {
            role: Role::Replica,
            ..well.clone()
        };
        let alone = state(&[(false, 1000)], "7.0.15");
        let behind = state(&[(true, 10)], "7.0.15");
        let old = state(&[(true, 1000)], "6.0.16");
        for (known, part) in [
            (
                Known {
                    state: Err("NOAUTH"),
                    ..all_well
                },
                "NOAUTH",
            ),
            (known(&replica, &near), "is no master"),
            (known(&alone, &near), "no replica is connected"),
            (known(&behind, &[]), "lacks 990 bytes"),
            (known(&old, &near), "Redis 6.0.16 cannot pause"),
        ] {
            let fault = objection(&known).unwrap().to_string();
            assert!(fault.contains(part) && fault.contains("--force"), "{fault}");
        }
        // Without agents nobody pauses writes, whatever the version.
        let without = Known {
            has_agent: false,
            ..known(&old, &near)
        };
        assert_eq!(objection(&without), None);
        assert!(notes(&without)[0].contains("0.2 s"));
        assert_eq!(is_far("r", Some(FAR)), None);
        assert_eq!(is_far("r", None), None);
        assert!(is_far("r", Some(FAR + 1)).is_some());
    }

    #[test]
    fn a_short_down_after_is_told() {
        let near = ["10.0.0.2:6379".to_owned()];
        let well = state(&[(true, 1000)], "7.0.15");
        assert!(notes(&known(&well, &near)).is_empty());
        let short = Known {
            down_after: Some(Duration::from_secs(1)),
            ..known(&well, &near)
        };
        assert!(notes(&short)[0].contains("1000"));
    }
}
