//! Whether a planned failover could lose writes, and what an operator is to know of it. Pure.

use std::time::Duration;

use crate::agent::sign::Sign;
use crate::agent::snapshot::Master;
use crate::evidence::Role;
use crate::exit::{Fault, Kind};
use crate::judgement::LEAST_DOWN_AFTER;
use crate::redis::{May, State};
use crate::text::escape;

/// How many bytes the replica that is to be promoted may lack when it is asked itself: it gets them within the tenth of
/// a second in which writes are paused.
pub(super) const FAR: u64 = 1024 * 1024;

/// What is known about the master's Redis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// What it says of itself, or why it says nothing.
    pub(super) state: Result<&'a State, &'a Fault>,
    /// The replicas that have caught up.
    pub(super) near: &'a [String],
    /// Whether the master's host has an agent, which pauses writes.
    pub(super) sign: &'a Sign,
    /// Whether any host has one, so that failovers lose nothing as a rule.
    pub(super) has_agents: bool,
    /// Whether the agent's user may pause writes at the master.
    pub(super) write_pause: &'a May,
    /// Whether the master is on this host.
    pub(super) is_here: bool,
    /// Whether the configuration vouches for the master's address, so that it was sent the password.
    pub(super) is_vouched_for: bool,
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
            let cause = why.cause();
            let text = format!("nobody knows whether a replica has what the master has: {cause}");
            let remedy = format!(
                "{} With --force it is asked for all the same.",
                to_be_told(why, known.is_vouched_for)
            );
            return Some(Fault::passing(text).remedy(remedy));
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
    } else {
        return cannot_pause(known, state);
    };
    Some(Fault::passing(text).remedy(FORCE))
}

/// Returns what to do so that the master tells of itself. To another host the password is sent only where the
/// configuration vouches for that host.
fn to_be_told(why: &Fault, is_vouched_for: bool) -> String {
    let remedy = why.what_to_do().unwrap_or("Look at it there.");
    match why.kind {
        Kind::Permanent if !is_vouched_for => {
            "Run this on the master's server, or name the other servers in `peers` under [sentinel]: \
             a password is sent to no other address."
                .to_owned()
        }
        Kind::Permanent => remedy.to_owned(),
        Kind::Passing => {
            format!("{remedy} If it has died, the Sentinels fail over without being asked.")
        }
    }
}

/// Returns why writes would not be paused, where they are in other failovers of this site.
fn cannot_pause(known: &Known<'_>, state: &State) -> Option<Fault> {
    if !known.has_agents {
        return None;
    }
    let host = host(known);
    let (text, remedy) = match (known.sign, known.write_pause) {
        (Sign::Absent, _) => (
            format!("no agent on {host} is connected to the master, and other hosts have one"),
            match known.is_here {
                true => "Start it: systemctl start vipswitch-agent.",
                false => {
                    "Start it there: systemctl start vipswitch-agent. If it runs, vipswitch check there tells why it is not connected."
                }
            },
        ),
        (Sign::Silent, _) => (
            format!(
                "the agent on {host} does not answer, or does not hear its Redis or a Sentinel, so that it would not pause writes"
            ),
            "Look at it there: systemctl status vipswitch-agent; vipswitch check. To start it again: systemctl restart vipswitch-agent.",
        ),
        _ if !state.can_pause_writes() => {
            let version = state.version.as_deref().unwrap_or_default();
            let text = format!("Redis {} cannot pause writes", escape(version));
            (text, "Redis can since 6.2.")
        }
        (_, May::NotAllowed) => (
            "the user of the configuration may not pause writes at the master".to_owned(),
            "It needs +client|pause and +client|unpause there: vipswitch check names what is missing.",
        ),
        (_, May::Refused(why) | May::Unknown(why)) => (
            format!("the master cannot pause writes ({})", escape(why)),
            "Redis can since 6.2, where CLIENT is not renamed.",
        ),
        (_, May::Yes | May::Untold) => return None,
    };
    let lost =
        "What is written while the VIP moves would be lost. With --force it is done all the same.";
    let fault = match known.sign {
        Sign::Absent | Sign::Silent => Fault::passing(text),
        _ => Fault::permanent(text),
    };
    Some(fault.remedy(format!("{remedy} {lost}")))
}

fn host(known: &Known<'_>) -> &'static str {
    match known.is_here {
        true => "this host",
        false => "the master's host",
    }
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

/// How a replica stands that may be promoted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heir {
    /// Whether the master has it as a replica with all data; `None` where the master does not tell.
    pub(super) is_connected: Option<bool>,
    /// How many bytes of the master's stream it lacks; `None` where it cannot be asked itself.
    pub(super) lacks: Option<u64>,
}

/// Returns the fault of a replica that has not, or soon, what the master has.
pub(super) fn is_far(replica: &str, heir: &Heir) -> Option<Fault> {
    let lacks = match (heir.is_connected, heir.lacks) {
        (Some(false), _) => "is not connected to the master, has not all data yet, or has a name there that cannot be looked up here".to_owned(),
        (_, Some(bytes)) if bytes > FAR => format!("lacks {bytes} bytes"),
        _ => return None,
    };
    let text = format!("{replica}, which may be promoted, {lacks}");
    Some(Fault::passing(text).remedy(
        "Wait until it has caught up, or until fewer writes come; where Redis announces names, every host has to know each. With --force it is done all the same.",
    ))
}

/// Returns the fault of a host that may not take the VIP over, or late, by the sign of its agent and whether any host has one:
/// Sentinel's call waits for an agent that does not answer, and where none is, it needs privileges that nobody can see from
/// here.
pub(super) fn may_not_take_over(replica: &str, sign: &Sign, has_agents: bool) -> Option<Fault> {
    let (what, follows, remedy) = match sign {
        Sign::Silent => (
            "the agent",
            "does not answer, or does not hear its Redis or a Sentinel, so that nobody would have the VIP for 5 s or longer",
            "Look at it there: systemctl status vipswitch-agent; vipswitch check.",
        ),
        Sign::Absent if has_agents => (
            "no agent",
            "is connected to it, and other hosts have one: nobody would have the VIP, unless Sentinel has the privileges there",
            "Start it there: systemctl start vipswitch-agent. If it runs, vipswitch check there tells why it is not connected.",
        ),
        Sign::Absent | Sign::There | Sign::Untold(_) => return None,
    };
    let text = format!("{what} beside {replica}, which may be promoted, {follows}");
    Some(Fault::passing(text).remedy(format!("{remedy} With --force it is done all the same.")))
}

/// Returns what would be done: which of these replicas would be promoted, and how many bytes each lacks now, where that is
/// known.
pub(super) fn choice(heirs: &[(String, Option<u64>)]) -> String {
    let each = heirs.iter().map(|(replica, lacks)| match lacks {
        Some(bytes) => format!("{replica}, which lacks {bytes} bytes now"),
        None => replica.clone(),
    });
    let each = each.collect::<Vec<_>>().join("; or ");
    match heirs {
        [_] => each,
        _ => format!("the one that has come furthest when it begins: {each}"),
    }
}

/// Returns what an operator is to know, one sentence each.
pub(super) fn notes(known: &Known<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let (host, time) = (host(known), if known.now { "1" } else { "0.3" });
    let until = format!("what is written until its VIP has moved, for about {time} s, is lost");
    match known.sign {
        Sign::There => {}
        Sign::Absent => notes.push(format!(
            "without an agent on {host} writes are not paused: {until}"
        )),
        Sign::Silent => notes.push(format!(
            "the agent on {host} does not answer, or does not hear its Redis or a Sentinel, so that writes are not paused: {until}"
        )),
        Sign::Untold(why) => notes.push(format!(
            "not known whether {host} has an agent that pauses writes ({}): if not, {until}",
            escape(why)
        )),
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
            stream: None,
            stream_before: None,
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
            sign: &Sign::There,
            has_agents: true,
            write_pause: &May::Yes,
            is_here: true,
            is_vouched_for: true,
            now: false,
            down_after: Some(Duration::from_secs(5)),
        }
    }

    #[test]
    fn a_host_that_may_not_take_the_vip_over_is_named_with_what_to_do() {
        let untold = || Sign::Untold("NOPERM".into());
        for (sign, has_agents, part) in [
            (Sign::There, true, None),
            (
                Sign::Silent,
                true,
                Some("the agent beside r, which may be promoted, does not"),
            ),
            (Sign::Silent, false, Some("does not hear its Redis")),
            (
                Sign::Absent,
                true,
                Some("no agent beside r, which may be promoted, is"),
            ),
            (Sign::Absent, false, None),
            (untold(), true, None),
        ] {
            let fault = may_not_take_over("r", &sign, has_agents).map(|it| it.to_string());
            let is_it = match (&fault, part) {
                (Some(text), Some(part)) => text.contains(part) && text.contains("--force"),
                (None, None) => true,
                _ => false,
            };
            assert!(is_it, "{sign:?} {has_agents}: {fault:?}");
        }
    }

    #[test]
    fn each_row_of_the_table_says_what_could_be_lost() {
        let near = ["10.0.0.2:6379".to_owned()];
        let well = state(&[(true, 1000)], "7.0.15");
        let all_well = known(&well, &near);
        assert_eq!(objection(&all_well), None);
        let no_password = Fault::permanent("NOAUTH").remedy("Set it.");
        let dead = Fault::passing("connection refused").remedy("Is it running?");
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
                    state: Err(&no_password),
                    is_here: false,
                    is_vouched_for: false,
                    ..all_well
                },
                "NOAUTH. Run this on the master's server",
            ),
            (
                Known {
                    state: Err(&no_password),
                    is_here: false,
                    ..all_well
                },
                "NOAUTH. Set it. With",
            ),
            (
                Known {
                    state: Err(&dead),
                    ..all_well
                },
                "connection refused. Is it running? If it has died",
            ),
            (known(&replica, &near), "is no master"),
            (known(&alone, &near), "no replica is connected"),
            (known(&behind, &[]), "lacks 990 bytes"),
            (known(&old, &near), "Redis 6.0.16 cannot pause"),
            (
                Known {
                    write_pause: &May::NotAllowed,
                    ..all_well
                },
                "+client|pause",
            ),
            (
                Known {
                    sign: &Sign::Absent,
                    is_here: false,
                    ..all_well
                },
                "no agent on the master's host",
            ),
        ] {
            let fault = objection(&known).unwrap().to_string();
            assert!(fault.contains(part) && fault.contains("--force"), "{fault}");
        }
        // Without agents nobody pauses writes, whatever the version.
        let without = Known {
            sign: &Sign::Absent,
            has_agents: false,
            write_pause: &May::NotAllowed,
            ..known(&old, &near)
        };
        assert_eq!(objection(&without), None);
        assert!(notes(&without)[0].contains("without an agent on this host"));
        let untold = Sign::Untold("NOPERM".into());
        let untold = Known {
            sign: &untold,
            ..all_well
        };
        assert_eq!(objection(&untold), None);
        assert!(notes(&untold)[0].contains("not known whether this host has an agent"));
        let heir = |is_connected, lacks| Heir {
            is_connected,
            lacks,
        };
        for well in [
            heir(Some(true), Some(FAR)),
            heir(Some(true), None),
            heir(None, None),
        ] {
            assert_eq!(is_far("r", &well), None);
        }
        for far in [
            heir(Some(true), Some(FAR + 1)),
            heir(None, Some(FAR + 1)),
            heir(Some(false), Some(0)),
            heir(Some(false), None),
        ] {
            assert!(is_far("r", &far).is_some(), "{far:?}");
        }
    }

    #[test]
    fn where_it_is_not_known_which_replica_is_promoted_all_are_named() {
        let (one, other) = ("r1:1".to_owned(), "r2:1".to_owned());
        let alone = choice(&[(one.clone(), Some(3))]);
        assert_eq!(alone, "r1:1, which lacks 3 bytes now");
        assert_eq!(
            choice(&[(one, Some(0)), (other, None)]),
            "the one that has come furthest when it begins: r1:1, which lacks 0 bytes now; or r2:1"
        );
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
