//! What can happen to the hosts, and when. A sequence stays possible while it is made smaller.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use proptest_state_machine::ReferenceStateMachine;

use crate::cluster::{Cluster, HOSTS, Host, Link, Process, binding, link};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing does.
    Rest,
    /// The process is killed.
    KillRedis(Host),
    /// It comes back; with the file of its first day it is a master again.
    StartRedis {
        host: Host,
        old_file: bool,
    },
    KillSentinel(Host),
    /// It comes back with what its file said so many configurations ago.
    StartSentinel {
        host: Host,
        ago: usize,
    },
    FreezeSentinel(Host),
    ThawSentinel(Host),
    KillHost(Host),
    /// Without VIP; Redis and Sentinel start as they do.
    Boot {
        host: Host,
        old_redis: bool,
        ago: usize,
    },
    Link {
        one: Host,
        other: Host,
        is: Link,
    },
    /// Both links of a host.
    Isolate(Host),
    /// SENTINEL FAILOVER at this host's Sentinel.
    Failover(Host),
    /// Every change of an address fails, or no longer.
    Kernel {
        host: Host,
        is_broken: bool,
    },
    /// Sentinel cannot start the hook, or can again.
    Calls {
        host: Host,
        are_lost: bool,
    },
    /// Somebody removes the VIP by hand: ifdown, a DHCP client.
    RemoveVip(Host),
    /// Somebody adds it by hand.
    AddVip(Host),
    /// The agent of a host is killed (SIGKILL), started, stopped (SIGSTOP) or continued; nothing where there is none.
    KillAgent(Host),
    StartAgent(Host),
    StopAgent(Host),
    ContinueAgent(Host),
    /// No Sentinel's events arrive at a host, or they do again.
    Events {
        host: Host,
        are_lost: bool,
    },
}

/// A step: something happens, after a while.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub after: u64,
    pub act: Act,
}

/// What is known about the hosts without playing: enough to tell which steps are possible.
#[derive(Clone, Debug)]
pub struct Status {
    /// Drives what is random in the case: delays, losses, phases of timers.
    pub seed: u64,
    pub priorities: [u32; HOSTS],
    up: [bool; HOSTS],
    redis: [bool; HOSTS],
    sentinel: [Process; HOSTS],
    links: [Link; HOSTS],
    agent: [Process; HOSTS],
}

impl Status {
    pub fn healthy(seed: u64, priorities: [u32; HOSTS]) -> Status {
        Status {
            seed,
            priorities,
            up: [true; HOSTS],
            redis: [true; HOSTS],
            sentinel: [Process::Running; HOSTS],
            links: [Link::Good; HOSTS],
            agent: [Process::Running; HOSTS],
        }
    }
}

/// The steps that are possible.
pub struct Site;

impl ReferenceStateMachine for Site {
    type State = Status;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Status> {
        let priorities = prop_oneof![
            3 => Just([100, 100, 100]),
            1 => Just([100, 100, 0]),
            1 => Just([100, 1, 2]),
        ];
        (any::<u64>().no_shrink(), priorities)
            .prop_map(|(seed, priorities)| Status::healthy(seed, priorities))
            .boxed()
    }

    fn transitions(status: &Status) -> BoxedStrategy<Step> {
        let possible = ACTS.iter().filter(|(_, act)| is_possible(status, act));
        let possible: Vec<Act> = possible
            .flat_map(|(weight, act)| std::iter::repeat_n(*act, *weight))
            .collect();
        // Mostly close together, where races are. One range and one table: a strategy for each act takes
        // longer to make than the case to play.
        let after = (0..9_u8, 0..60_000_u64).prop_map(|(kind, time)| match kind {
            0..3 => time % 500,
            3..6 => time % 4_000,
            6..8 => time % 15_000,
            _ => time,
        });
        let act = (0..possible.len()).prop_map(move |place| possible[place]);
        (after, act)
            .prop_map(|(after, act)| Step { after, act })
            .boxed()
    }

    fn apply(mut status: Status, step: &Step) -> Status {
        match step.act {
            Act::KillRedis(host) => status.redis[host] = false,
            Act::StartRedis { host, .. } => status.redis[host] = true,
            Act::KillSentinel(host) => status.sentinel[host] = Process::Down,
            Act::FreezeSentinel(host) => status.sentinel[host] = Process::Frozen,
            Act::StartSentinel { host, .. } | Act::ThawSentinel(host) => {
                status.sentinel[host] = Process::Running;
            }
            Act::KillHost(host) => {
                status.up[host] = false;
                status.redis[host] = false;
                status.sentinel[host] = Process::Down;
                status.agent[host] = Process::Down;
            }
            Act::KillAgent(host) => status.agent[host] = Process::Down,
            Act::StopAgent(host) => status.agent[host] = Process::Frozen,
            Act::StartAgent(host) | Act::ContinueAgent(host) => {
                status.agent[host] = Process::Running;
            }
            Act::Boot { host, .. } => {
                status.up[host] = true;
                status.agent[host] = Process::Running;
                status.redis[host] = true;
                status.sentinel[host] = Process::Running;
            }
            Act::Link { one, other, is } => status.links[link(one, other)] = is,
            Act::Isolate(host) => {
                for other in (0..HOSTS).filter(|other| *other != host) {
                    status.links[link(host, other)] = Link::Cut;
                }
            }
            _ => {}
        }
        status
    }

    fn preconditions(status: &Status, step: &Step) -> bool {
        is_possible(status, &step.act)
    }
}

/// All that can happen, and how often. Nothing is first: that is what a smaller case is made of.
static ACTS: LazyLock<Vec<(usize, Act)>> = LazyLock::new(|| {
    std::iter::once((2, Act::Rest))
        .chain((0..HOSTS).flat_map(on_host))
        .collect()
});

fn on_host(host: Host) -> Vec<(usize, Act)> {
    let other = (host + 1) % HOSTS;
    let mut acts = vec![
        (4, Act::KillRedis(host)),
        (
            2,
            Act::StartRedis {
                host,
                old_file: false,
            },
        ),
        (
            2,
            Act::StartRedis {
                host,
                old_file: true,
            },
        ),
        (1, Act::KillSentinel(host)),
        (3, Act::StartSentinel { host, ago: 0 }),
        (1, Act::StartSentinel { host, ago: 1 }),
        (1, Act::StartSentinel { host, ago: 9 }),
        (1, Act::FreezeSentinel(host)),
        (3, Act::ThawSentinel(host)),
        (1, Act::KillHost(host)),
        (
            2,
            Act::Boot {
                host,
                old_redis: false,
                ago: 0,
            },
        ),
        (
            1,
            Act::Boot {
                host,
                old_redis: true,
                ago: 0,
            },
        ),
        (
            1,
            Act::Boot {
                host,
                old_redis: true,
                ago: 9,
            },
        ),
        (1, Act::Isolate(host)),
        (2, Act::Failover(host)),
        (
            1,
            Act::Kernel {
                host,
                is_broken: true,
            },
        ),
        (
            2,
            Act::Kernel {
                host,
                is_broken: false,
            },
        ),
        (
            1,
            Act::Calls {
                host,
                are_lost: true,
            },
        ),
        (
            2,
            Act::Calls {
                host,
                are_lost: false,
            },
        ),
        (1, Act::RemoveVip(host)),
        (1, Act::AddVip(host)),
    ];
    acts.extend(on_agent(host));
    for (weight, is) in [
        (3, Link::Good),
        (2, Link::Cut),
        (1, Link::Late),
        (1, Link::Lossy),
    ] {
        acts.push((
            weight,
            Act::Link {
                one: host,
                other,
                is,
            },
        ));
    }
    acts
}

fn on_agent(host: Host) -> Vec<(usize, Act)> {
    vec![
        (1, Act::KillAgent(host)),
        (2, Act::StartAgent(host)),
        (1, Act::StopAgent(host)),
        (3, Act::ContinueAgent(host)),
        (
            1,
            Act::Events {
                host,
                are_lost: true,
            },
        ),
        (
            2,
            Act::Events {
                host,
                are_lost: false,
            },
        ),
    ]
}

fn is_possible(status: &Status, act: &Act) -> bool {
    match *act {
        Act::Rest | Act::Calls { .. } | Act::Events { .. } => true,
        Act::KillAgent(host) => status.agent[host] != Process::Down,
        Act::StartAgent(host) => status.up[host] && status.agent[host] == Process::Down,
        Act::StopAgent(host) => status.agent[host] == Process::Running,
        Act::ContinueAgent(host) => status.agent[host] == Process::Frozen,
        Act::KillRedis(host) => status.redis[host],
        Act::StartRedis { host, .. } => status.up[host] && !status.redis[host],
        Act::KillSentinel(host) => status.sentinel[host] != Process::Down,
        Act::StartSentinel { host, .. } => {
            status.up[host] && status.sentinel[host] == Process::Down
        }
        Act::FreezeSentinel(host) | Act::Failover(host) => {
            status.sentinel[host] == Process::Running
        }
        Act::ThawSentinel(host) => status.sentinel[host] == Process::Frozen,
        Act::Boot { host, .. } => !status.up[host],
        Act::Link { one, other, is } => status.links[link(one, other)] != is,
        Act::KillHost(host)
        | Act::Isolate(host)
        | Act::Kernel { host, .. }
        | Act::RemoveVip(host)
        | Act::AddVip(host) => status.up[host],
    }
}

/// Does it to the cluster.
pub fn act(act: Act, cluster: &mut Cluster) {
    match act {
        Act::Rest => {}
        Act::KillRedis(host) => cluster.kill_redis(host),
        Act::StartRedis { host, old_file } => cluster.start_redis(host, old_file),
        Act::KillSentinel(host) => cluster.machines[host].process = Process::Down,
        Act::StartSentinel { host, ago } => cluster.start_sentinel(host, ago),
        Act::FreezeSentinel(host) => cluster.machines[host].process = Process::Frozen,
        Act::ThawSentinel(host) => cluster.thaw(host),
        Act::KillHost(host) => cluster.kill_host(host),
        Act::Boot {
            host,
            old_redis,
            ago,
        } => {
            cluster.boot(host);
            cluster.start_redis(host, old_redis);
            cluster.start_sentinel(host, ago);
        }
        Act::Link { one, other, is } => cluster.links[link(one, other)] = is,
        Act::Isolate(host) => {
            for other in (0..HOSTS).filter(|other| *other != host) {
                cluster.links[link(host, other)] = Link::Cut;
            }
        }
        Act::Failover(host) => {
            let _ = cluster.force_failover(host);
        }
        Act::Kernel { host, is_broken } => cluster.machines[host].is_broken = is_broken,
        Act::Calls { host, are_lost } => cluster.machines[host].loses_calls = are_lost,
        Act::RemoveVip(host) => cluster.machines[host].bound.clear(),
        Act::AddVip(host) => cluster.machines[host].bound = vec![binding()],
        Act::KillAgent(host) => cluster.turn_agent(host, Process::Down),
        Act::StopAgent(host) => cluster.turn_agent(host, Process::Frozen),
        Act::StartAgent(host) | Act::ContinueAgent(host) => {
            cluster.turn_agent(host, Process::Running);
        }
        Act::Events { host, are_lost } => cluster.machines[host].loses_events = are_lost,
    }
}

/// Puts everything right: all up, connected, and able to act.
pub fn mend(cluster: &mut Cluster) {
    cluster.links = [Link::Good; HOSTS];
    for host in 0..HOSTS {
        cluster.boot(host);
        cluster.start_redis(host, false);
        cluster.start_sentinel(host, 0);
        cluster.thaw(host);
        cluster.machines[host].is_broken = false;
        cluster.machines[host].loses_calls = false;
        cluster.machines[host].loses_events = false;
        cluster.turn_agent(host, Process::Running);
    }
}
