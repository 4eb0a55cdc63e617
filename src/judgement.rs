//! What is wrong about one VIP on this host, by what was found out about it. `status` and `check`
//! both judge with this and say the same. Pure.

use std::fmt;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::evidence::Standby;
use crate::exit::{Exit, Fault, Kind};
use crate::text::escape;

/// The shortest `down-after-milliseconds` that never led to a second failover. Sentinel reconnects to the new master a
/// second after the failover at the earliest (`SENTINEL_PING_PERIOD` in sentinel.c), and until then counts it as down
/// (6 of 58 failovers at 1000, 0 of 175 at 1500 and more).
pub const LEAST_DOWN_AFTER: Duration = Duration::from_millis(1500);

/// What to do where the agent has an older configuration than its file.
pub const RELOAD: &str = "systemctl reload vipswitch-agent";

/// What is known about one VIP.
pub struct Known<'a> {
    /// The interface that it belongs on, or why no interface fits.
    pub belongs_on: Result<u32, &'a Fault>,
    /// The number and name of each interface that has it.
    pub bound: Vec<(u32, &'a str)>,
    /// Whether the master is on this host, by Sentinel's word.
    pub master_is_here: Option<bool>,
    /// Whether any Redis of the master is on this host.
    pub redis_is_here: Option<bool>,
    /// The hardware addresses of other hosts that claim it, where the network was asked.
    pub claimed_by: Option<&'a [MacAddr]>,
    /// Why `sync` could decide nothing, if it was found out that it could not.
    pub undecided: Option<&'a Fault>,
    /// What the agent keeps it where it is by, if there is an agent and it does.
    pub kept: Option<Kept>,
}

/// Why an agent leaves a VIP where the Sentinel of its host does not want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An operator's order against the truth: to bind it, or to release it.
    ByOrder {
        /// Whether it is to be here.
        bind: bool,
    },
    /// The agent's configuration is older, and does not have this VIP.
    ByOlderConfiguration,
    /// This host is cut off from its peers.
    ByCut,
}

/// One thing that is wrong about a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// This host could not take it over.
    NoInterface(Fault),
    /// It is bound on an interface that it does not belong on.
    Misplaced(String),
    /// Several hosts claim it.
    SeveralClaim {
        /// Whether this host is one of them.
        here: bool,
        /// Whether the master is on this host.
        master_is_here: Option<bool>,
        /// The hardware addresses of the others.
        others: Vec<MacAddr>,
    },
    /// The master is on this host and the VIP is not. The holder of the VIP, if it is known.
    NotHere(Vec<MacAddr>),
    /// The VIP is on this host and the master is not.
    StillHere,
    /// The master is on another host, and no host claims the VIP.
    Nowhere,
    /// The VIP is not where the master is, and the agent keeps it so.
    Kept {
        /// Whether the master is on this host.
        master_is_here: bool,
        /// By what.
        by: Kept,
    },
    /// Nobody can tell where it belongs: Sentinel does not answer, has no such master, or has no majority.
    Undecided(Fault),
}

/// Returns what is wrong about a VIP, the gravest first. What only follows from another problem is
/// left out.
pub fn problems(known: &Known) -> Vec<Problem> {
    let belongs_on = match known.belongs_on {
        Ok(ifindex) => ifindex,
        // A host with a Sentinel alone never takes a VIP over.
        Err(_) if known.redis_is_here == Some(false) => return Vec::new(),
        Err(fault) => return vec![Problem::NoInterface(fault.clone())],
    };
    let misplaced = known
        .bound
        .iter()
        .find(|(ifindex, _)| *ifindex != belongs_on)
        .map(|(_, name)| Problem::Misplaced((*name).to_owned()));
    let mut all: Vec<Problem> = misplaced.into_iter().chain(holder_problem(known)).collect();
    if let Some(fault) = known.undecided {
        // What `sync` would mend it cannot mend now.
        let follows = |problem: &Problem| {
            fault.kind == Kind::Permanent
                || matches!(
                    problem,
                    Problem::NotHere(_) | Problem::StillHere | Problem::Nowhere
                )
        };
        let place = all.iter().position(follows).unwrap_or(all.len());
        all.insert(place, Problem::Undecided(fault.clone()));
    }
    all
}

fn holder_problem(known: &Known) -> Option<Problem> {
    let here = !known.bound.is_empty();
    let others = known.claimed_by.unwrap_or_default();
    let master_is_here = known.master_is_here;
    if others.len() + usize::from(here) > 1 {
        return Some(Problem::SeveralClaim {
            here,
            master_is_here,
            others: others.to_vec(),
        });
    }
    let master_is_here = master_is_here?;
    if master_is_here != here
        && let Some(by) = kept(known, here)
    {
        return Some(Problem::Kept { master_is_here, by });
    }
    match (master_is_here, here) {
        (true, false) => Some(Problem::NotHere(others.to_vec())),
        (false, true) => Some(Problem::StillHere),
        // Silence means something only where the network was asked.
        (false, false) if known.claimed_by == Some(&[]) => Some(Problem::Nowhere),
        _ => None,
    }
}

/// Returns by what the agent keeps a VIP away from the master.
fn kept(known: &Known, here: bool) -> Option<Kept> {
    known.kept.filter(|by| match by {
        Kept::ByOrder { bind } => *bind == here,
        Kept::ByOlderConfiguration => true,
        Kept::ByCut => !here,
    })
}

impl Problem {
    /// Returns how a command ends that is to tell by its exit code how grave this is: 1 for a warning, which
    /// may pass or is mended by `sync`, 2 for an error. `check` and `status --exit-code` do so.
    pub fn exit(&self) -> Exit {
        match self {
            Problem::NoInterface(_) | Problem::SeveralClaim { .. } => Exit::Permanent,
            Problem::Misplaced(_)
            | Problem::NotHere(_)
            | Problem::StillHere
            | Problem::Kept { .. }
            | Problem::Nowhere => Exit::Passing,
            Problem::Undecided(fault) => fault.kind.into(),
        }
    }

    /// Returns what is wrong.
    pub fn text(&self) -> String {
        match self {
            Problem::NoInterface(fault) | Problem::Undecided(fault) => fault.cause().to_owned(),
            Problem::Misplaced(interface) => format!("the VIP does not belong on {interface}"),
            Problem::SeveralClaim {
                here: true, others, ..
            } => format!(
                "another machine answers for the VIP, too: {}",
                listed(others)
            ),
            Problem::SeveralClaim { others, .. } => {
                format!("several machines answer for the VIP: {}", listed(others))
            }
            Problem::NotHere(others) if others.is_empty() => {
                "the master is here and the VIP is not".to_owned()
            }
            Problem::NotHere(others) => format!(
                "the master is here and the VIP is not: {} has it",
                listed(others)
            ),
            Problem::StillHere => "the VIP is here and the master is on another host".to_owned(),
            Problem::Nowhere => "no host has the VIP".to_owned(),
            Problem::Kept { master_is_here, by } => {
                let stands = match master_is_here {
                    true => "the master is here and the VIP is not",
                    false => "the VIP is here and the master is on another host",
                };
                format!("{stands}: {by}")
            }
        }
    }

    /// Returns what to do.
    pub fn remedy(&self) -> String {
        match self {
            Problem::NoInterface(fault) | Problem::Undecided(fault) => {
                fault.what_to_do().unwrap_or_default()
            }
            Problem::Misplaced(_) => "`vipswitch bind` moves it.",
            Problem::SeveralClaim {
                here: true,
                master_is_here: Some(false),
                ..
            }
            | Problem::StillHere => "`vipswitch sync` releases it here; where `bind --force` holds it, `vipswitch unbind` does.",
            Problem::SeveralClaim { .. } => {
                "Find the machine by its hardware address. A second holder: `vipswitch unbind` there. Any other machine must not have this address."
            }
            Problem::NotHere(others) if others.is_empty() => "`vipswitch sync` brings it; where `unbind --force` keeps it away, `vipswitch bind` does.",
            Problem::NotHere(_) => "Run `vipswitch sync` there, then here.",
            Problem::Kept { by, .. } => match by {
                Kept::ByOrder { bind: true } => "`vipswitch unbind` ends that and releases it here.",
                Kept::ByOrder { bind: false } => "`vipswitch bind` ends that and brings it.",
                Kept::ByOlderConfiguration => RELOAD,
                Kept::ByCut => "Mend the network between the servers: the VIP then goes to the master that a majority of the Sentinels names.",
            },
            Problem::Nowhere => "If the master's host is gone, Sentinel decides after down-after-milliseconds. Else run `vipswitch sync` on that host.",
        }
        .to_owned()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::ByOrder { bind: true } => "an operator's `bind --force` holds",
            Kept::ByOrder { bind: false } => "an operator's `unbind --force` holds",
            Kept::ByOlderConfiguration => {
                "the agent has an older configuration, which does not have this VIP"
            }
            Kept::ByCut => {
                "this host is cut off from its peers, which can have another master by now"
            }
        })
    }
}

/// What is wrong and what to do, as in a [`Fault`].
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoInterface(fault) | Problem::Undecided(fault) => fault.fmt(f),
            _ => write!(f, "{}. {}", self.text(), self.remedy()),
        }
    }
}

/// What is wrong about the replicas of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Sentinel knows none.
    NoneKnown,
    /// Sentinel reaches none.
    AllDown,
    /// These have no link to the master, by their names.
    Unlinked(Vec<String>),
    /// None may be promoted.
    NoneMayLead,
}

/// Returns whether nothing could be failed over to: no replica is connected.
pub fn is_alone(replicas: &[Standby]) -> bool {
    !replicas.iter().any(Standby::is_connected)
}

/// Returns what is wrong about the replicas of a master. A replica that is out of reach beside others is no matter of
/// theirs.
pub fn unready(replicas: &[Standby]) -> Option<Unready> {
    let unlinked = replicas.iter().filter(|one| one.is_up && !one.is_linked);
    let unlinked: Vec<String> = unlinked.map(|one| one.name.clone()).collect();
    match unlinked.is_empty() {
        _ if replicas.is_empty() => Some(Unready::NoneKnown),
        false => Some(Unready::Unlinked(unlinked)),
        true if is_alone(replicas) => Some(Unready::AllDown),
        true if !replicas.iter().any(|one| one.may_lead) => Some(Unready::NoneMayLead),
        true => None,
    }
}

impl Unready {
    /// Returns what is wrong.
    pub fn text(&self) -> String {
        match self {
            Unready::NoneKnown => {
                "Sentinel knows no replica: there is nothing to fail over to".into()
            }
            Unready::AllDown => {
                "Sentinel reaches no replica: there is nothing to fail over to".into()
            }
            Unready::Unlinked(names) => {
                let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
                format!("no link to the master: {}", names.join(", "))
            }
            Unready::NoneMayLead => {
                "every replica has priority 0, so that none is ever promoted".into()
            }
        }
    }

    /// Returns what to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Unready::NoneKnown => "Set `replicaof` on the other servers.",
            Unready::AllDown => "Start them, and let them and Sentinel reach each other.",
            Unready::Unlinked(_) => {
                "Look into the replica's log; masterauth, requirepass and the firewall are the usual causes."
            }
            Unready::NoneMayLead => "Set `replica-priority 100` on those that may become master.",
        }
    }
}

fn listed(macs: &[MacAddr]) -> String {
    let macs: Vec<String> = macs.iter().map(MacAddr::to_string).collect();
    macs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const B: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);

    /// Bound where, whether the master is here, who claims it -> what is wrong. The VIP belongs on
    /// interface 2.
    #[test]
    fn every_vip_is_where_its_master_is_and_nowhere_else() {
        use Problem::{Misplaced, NotHere, Nowhere, StillHere};
        let (here, away) = (Some(true), Some(false));
        let several = |here, master_is_here, others: &[MacAddr]| Problem::SeveralClaim {
            here,
            master_is_here,
            others: others.to_vec(),
        };
        let (eth1, eth2) = ((1, "eth1"), (2, "eth2"));
        for (bound, master_is_here, claimed_by, expected) in [
            (&[eth2][..], here, Some(&[][..]), vec![]),
            (&[eth2], None, Some(&[]), vec![]),
            (&[eth2], here, None, vec![]),
            (&[eth1], here, Some(&[]), vec![Misplaced("eth1".into())]),
            (
                &[eth2, eth1],
                away,
                None,
                vec![Misplaced("eth1".into()), StillHere],
            ),
            (&[eth2], here, Some(&[A]), vec![several(true, here, &[A])]),
            (&[eth2], None, Some(&[A]), vec![several(true, None, &[A])]),
            (
                &[],
                away,
                Some(&[A, B]),
                vec![several(false, away, &[A, B])],
            ),
            (&[eth2], away, Some(&[]), vec![StillHere]),
            (&[], away, Some(&[A]), vec![]),
            (&[], away, Some(&[]), vec![Nowhere]),
            (&[], away, None, vec![]),
            (&[], here, Some(&[]), vec![NotHere(vec![])]),
            (&[], here, None, vec![NotHere(vec![])]),
            (&[], here, Some(&[A]), vec![NotHere(vec![A])]),
            (&[], None, Some(&[]), vec![]),
        ] {
            let known = Known {
                belongs_on: Ok(2),
                bound: bound.to_vec(),
                master_is_here,
                redis_is_here: master_is_here,
                claimed_by,
                undecided: None,
                kept: None,
            };
            assert_eq!(
                problems(&known),
                expected,
                "{bound:?} {master_is_here:?} {claimed_by:?}"
            );
        }
    }

    /// What `sync` would not change is not said to be its to mend.
    #[test]
    fn what_an_agent_keeps_so_is_ended_by_what_began_it() {
        let told = |here: bool, kept, claimed_by| {
            let known = Known {
                belongs_on: Ok(2),
                bound: Vec::from_iter(here.then_some((2, "eth2"))),
                master_is_here: Some(!here),
                redis_is_here: Some(!here),
                claimed_by: Some(claimed_by),
                undecided: None,
                kept: Some(kept),
            };
            let found = problems(&known);
            (found[0].text(), found[0].remedy())
        };
        let order = |bind| Kept::ByOrder { bind };
        for (here, kept, text, remedy) in [
            (
                false,
                order(false),
                "`unbind --force` holds",
                "`vipswitch bind` ends",
            ),
            (
                true,
                order(true),
                "`bind --force` holds",
                "`vipswitch unbind` ends",
            ),
            (
                false,
                Kept::ByOlderConfiguration,
                "older configuration",
                RELOAD,
            ),
            (
                true,
                Kept::ByOlderConfiguration,
                "older configuration",
                RELOAD,
            ),
            (
                false,
                Kept::ByCut,
                "cut off from its peers",
                "Mend the network",
            ),
        ] {
            let (says, what_to_do) = told(here, kept, if here { &[] } else { &[A] });
            assert!(
                says.contains(text) && what_to_do.contains(remedy),
                "{says}. {what_to_do}"
            );
            assert!(!what_to_do.contains("sync"), "{what_to_do}");
        }
        // A VIP that is where its master is needs no reason.
        let known = Known {
            belongs_on: Ok(2),
            bound: vec![(2, "eth2")],
            master_is_here: Some(true),
            redis_is_here: Some(true),
            claimed_by: Some(&[]),
            undecided: None,
            kept: Some(Kept::ByOlderConfiguration),
        };
        assert_eq!(problems(&known), []);
        // An order of the other kind is not why.
        let (says, _) = told(true, order(false), &[]);
        assert_eq!(says, "the VIP is here and the master is on another host");
    }

    #[test]
    fn replicas_are_ready_if_one_is_connected_and_may_lead() {
        let replica = |name: &str, is_up, is_linked, may_lead| Standby {
            name: name.into(),
            is_up,
            is_linked,
            may_lead,
        };
        let (well, never) = (
            replica("w", true, true, true),
            replica("n", true, true, false),
        );
        let (down, unlinked) = (
            replica("d", false, true, true),
            replica("u", true, false, true),
        );
        let named = Unready::Unlinked(vec!["u".into()]);
        for (replicas, expected, alone) in [
            (vec![], Some(Unready::NoneKnown), true),
            (vec![&well], None, false),
            (vec![&well, &down, &never], None, false),
            (vec![&well, &unlinked], Some(named.clone()), false),
            (vec![&down, &unlinked], Some(named), true),
            (vec![&down, &down], Some(Unready::AllDown), true),
            (vec![&never], Some(Unready::NoneMayLead), false),
        ] {
            let replicas: Vec<Standby> = replicas.into_iter().cloned().collect();
            assert_eq!(unready(&replicas), expected, "{replicas:?}");
            assert_eq!(is_alone(&replicas), alone, "{replicas:?}");
        }
    }

    #[test]
    fn an_interface_is_needed_only_where_a_redis_is() {
        let fault = Fault::permanent("no interface").remedy("Name an interface.");
        for (redis_is_here, wrong) in [(Some(false), false), (Some(true), true), (None, true)] {
            let known = Known {
                belongs_on: Err(&fault),
                bound: Vec::new(),
                master_is_here: Some(false),
                redis_is_here,
                claimed_by: None,
                undecided: None,
                kept: None,
            };
            let found = problems(&known);
            assert_eq!(!found.is_empty(), wrong);
            assert!(found.iter().all(|one| one.text() == "no interface"));
        }
    }

    #[test]
    fn what_cannot_be_decided_goes_before_what_sync_would_mend() {
        let known = |undecided| Known {
            belongs_on: Ok(2),
            bound: vec![(2, "eth2")],
            master_is_here: Some(false),
            redis_is_here: None,
            claimed_by: None,
            undecided: Some(undecided),
            kept: None,
        };
        let (passing, permanent) = (Fault::passing("silent"), Fault::permanent("unknown"));
        assert_eq!(
            problems(&known(&passing)),
            [Problem::Undecided(passing.clone()), Problem::StillHere]
        );
        let claimed = Known {
            claimed_by: Some(&[A]),
            ..known(&passing)
        };
        let [Problem::SeveralClaim { .. }, Problem::Undecided(_)] = &problems(&claimed)[..] else {
            panic!("{:?}", problems(&claimed))
        };
        assert_eq!(
            problems(&known(&permanent)),
            [Problem::Undecided(permanent.clone()), Problem::StillHere]
        );
        assert_eq!(Problem::Undecided(passing).exit().code(), 1);
        assert_eq!(Problem::Undecided(permanent).exit().code(), 2);
        assert_eq!(Problem::Nowhere.exit().code(), 1);
    }
}
