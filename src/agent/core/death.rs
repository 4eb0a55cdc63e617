//! A Redis of this host that has died while it was the master: whether its failover is asked for at once, and until
//! when its VIP stays away from here, so that no client reaches it after a restart with old data.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Own, Time};
use crate::agent::snapshot::Replica;
use crate::config::OnRedisDeath;
use crate::election::NOTHING_CAME;
use crate::evidence::{Role, Site};
use crate::exit::{Fault, Kind};

/// The shortest `down-after-milliseconds` with which a failover is asked for: below that a fresh master is taken for
/// down before its Sentinels have connected to it.
const SHORTEST: Duration = Duration::from_secs(2);

/// How long before Sentinel would decide itself nothing is asked for any more: it counts from the last answer, up to a
/// second before the death, and a second election beside its own can end with two masters.
const AHEAD: Duration = Duration::from_millis(1500);

/// How long after a failover none is asked for: a command that kills every master must not kill all of them.
pub const APART: Duration = Duration::from_secs(60);

/// A replica is near that has the master's data, acknowledged within 2 s (Redis tells whole seconds) and lacks less than
/// this, in bytes: what a busy master sends from one acknowledgement to the next, a second later. One in its full
/// synchronization has nothing, and may be silent for no time and lack few bytes all the same.
const LAG: u64 = 2;
const LITTLE: u64 = 16 << 20;

/// What a master of this host said last.
#[derive(Clone, Debug)]
pub(super) struct Alive {
    pub(super) at: SocketAddr,
    /// Its replicas that have nearly all.
    near: Vec<String>,
    run_id: Option<String>,
    heard: Time,
    /// When its connection ended, if it has.
    ended: Option<Time>,
    /// Whether it has refused to tell more since: its replicas may be far behind by now.
    withholds: bool,
    /// Whether this agent was stopped since.
    was_late: bool,
}

impl Alive {
    /// Returns its death, where what answers in its place now is another process: it was back so soon that nothing was
    /// refused meanwhile.
    pub(super) fn replaced_by(&self, other: &Alive, now: Time) -> Option<Died> {
        let ids = self.run_id.as_ref().zip(other.run_id.as_ref());
        let is_another = self.at == other.at && ids.is_some_and(|(before, after)| before != after);
        // It has served its clients while this agent was stopped, nobody knows for how long.
        (is_another && !self.was_late).then(|| Died {
            at: self.at,
            since: self.ended.unwrap_or(now),
            near: self.near.clone(),
            withheld: self.withholds,
        })
    }

    /// Returns what is kept of a Redis's words, if it says that it is the master.
    pub(super) fn of(at: SocketAddr, own: &Own, now: Time) -> Option<Alive> {
        let is_near = |replica: &&Replica| {
            let is_late = replica.lag.is_some_and(|lag| lag > LAG);
            replica.online && !is_late && replica.behind <= LITTLE
        };
        (own.role == Ok(Role::Master)).then(|| Alive {
            at,
            near: own
                .replicas
                .iter()
                .filter(is_near)
                .map(|replica| replica.at.clone())
                .collect(),
            run_id: own.run_id.clone(),
            heard: now,
            ended: None,
            withholds: false,
            was_late: false,
        })
    }

    /// Notes that this agent was stopped: it may have died at any moment since it was heard last.
    pub(super) fn was_late(&mut self) {
        self.was_late = true;
        self.ended.get_or_insert(self.heard);
    }

    /// Notes that it says nothing any more, and why. Returns its death, if it is one.
    pub(super) fn silent(&mut self, why: &Fault, is_gone: bool, now: Time) -> Option<Died> {
        let since = *self.ended.get_or_insert(now);
        // A password, a right or a certificate is wrong, while it takes writes.
        self.withholds |= why.kind == Kind::Permanent;
        is_gone.then(|| Died {
            at: self.at,
            since,
            near: self.near.clone(),
            withheld: self.withholds,
        })
    }
}

/// A Redis that has died as the master.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Died {
    pub(super) at: SocketAddr,
    /// When its connection ended.
    pub(super) since: Time,
    /// Its replicas that have nearly all.
    pub(super) near: Vec<String>,
    /// Whether it had refused to tell more for a while.
    pub(super) withheld: bool,
}

/// What is done about it.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub(super) died: Died,
    /// As the majority named it.
    pub(super) site: Site,
    pub(super) stage: Stage,
    /// The Sentinel that was asked.
    pub(super) by: Option<String>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The election goes on.
    Electing,
    /// A Sentinel was asked then.
    Asked(Time),
    /// Nobody was asked. The votes may be older than a failover by then.
    Waiting(Time),
}

impl Death {
    /// Returns whether the VIP must not lead to it, whatever it says.
    pub(super) fn keeps_the_vip_away(&self) -> bool {
        !matches!(self.stage, Stage::Waiting(_))
    }

    /// Returns when a Sentinel was asked, if one was.
    pub(super) fn asked(&self) -> Option<Time> {
        match self.stage {
            Stage::Asked(since) => Some(since),
            Stage::Electing | Stage::Waiting(_) => None,
        }
    }

    /// Returns when there may be another round; `None` while it is not known what came of this one.
    pub(super) fn again(&self) -> Option<Time> {
        match self.stage {
            Stage::Electing => None,
            Stage::Asked(since) | Stage::Waiting(since) => Some(since + NOTHING_CAME),
        }
    }
}

/// What is known when a Redis has died.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) on_redis_death: OnRedisDeath,
    /// Whether it is stopped on purpose.
    pub(super) maintenance: bool,
    /// The master that a majority names, if any.
    pub(super) winner: Option<&'a Site>,
    /// The Redis that has died, as the Sentinels name it.
    pub(super) dead: Option<&'a Site>,
    /// Whether a leader has published a promotion that is not over.
    pub(super) is_promoting: bool,
    pub(super) down_after: Option<Duration>,
    /// How long ago it died.
    pub(super) ago: Duration,
    /// How many of its replicas have nearly all.
    pub(super) near: usize,
    /// Whether it had refused to tell of them for a while.
    pub(super) withheld: bool,
    /// Whether the last failover was not long ago.
    pub(super) is_quiet: bool,
}

/// Why Sentinel decides alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Wait,
    Maintenance,
    NoMajority,
    NotNamed,
    Promoting,
    ShortDownAfter,
    TooLate,
    Withheld,
    NoReplica,
    TooSoon,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Wait => "on_redis_death is \"wait\"",
            Why::Maintenance => "it is under maintenance",
            Why::NoMajority => "no majority of the Sentinels named a master a moment before",
            Why::NotNamed => "the majority of the Sentinels named another master",
            Why::Promoting => "a failover goes on",
            Why::ShortDownAfter => "down-after-milliseconds is less than 2000, or not known",
            Why::TooLate => "it will decide itself before anybody else could",
            Why::Withheld => {
                "it did not tell this agent of itself any more, for want of a password, a right or a certificate"
            }
            Why::NoReplica => "no replica was connected that had nearly all",
            Why::TooSoon => "the last failover was less than 60 s ago",
        })
    }
}

/// Returns whether it died so long ago that Sentinel decides first.
pub(super) fn is_too_late(ago: Duration, down_after: Duration) -> bool {
    ago + AHEAD >= down_after
}

/// Returns why no failover is asked for, `None` where one is: the first row that applies.
pub(super) fn speaks_against(now: &Situation<'_>) -> Option<Why> {
    let is_named = match (now.winner, now.dead) {
        (Some(winner), Some(dead)) => winner.is_here() && winner.is_same(dead),
        _ => false,
    };
    let down_after = now.down_after.unwrap_or_default();
    let rows = [
        (now.on_redis_death == OnRedisDeath::Wait, Why::Wait),
        (now.maintenance, Why::Maintenance),
        (now.winner.is_none(), Why::NoMajority),
        (!is_named, Why::NotNamed),
        (now.is_promoting, Why::Promoting),
        (down_after < SHORTEST, Why::ShortDownAfter),
        (is_too_late(now.ago, down_after), Why::TooLate),
        (now.withheld, Why::Withheld),
        (now.near == 0, Why::NoReplica),
        (now.is_quiet, Why::TooSoon),
    ];
    rows.into_iter()
        .find_map(|(applies, why)| applies.then_some(why))
}
