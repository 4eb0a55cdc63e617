//! A promotion that a leader has published, from its first sign until a majority names the new master.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Time;
use crate::evidence::{Ballot, Evidence, Promotion, Role, Site};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};

/// How long a leader tries where that is not known: the default of `failover-timeout` (sentinel.c,
/// `sentinel_default_failover_timeout`).
pub(super) const LASTS: Duration = Duration::from_secs(180);

/// How long the chosen one may say nothing where that is on this host: the old master's host gives it up when nobody has
/// listened there for 2 s ([`chosen`](crate::agent::chosen)).
const AWAY: Duration = Duration::from_millis(1500);

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Promoting {
    /// The chosen replica, as the event names it.
    pub(super) to: Endpoint,
    /// The Sentinels that have published it.
    pub(super) by: BTreeSet<String>,
    /// The highest number of a failover that was known then.
    epoch: u64,
    /// When it was published.
    pub(super) since: Time,
    /// What the chosen replica said last, where that is on another host.
    pub(super) role: Option<Role>,
    /// Whether it counts no more, as the chosen one has said nothing for a while, or follows again, or its host was cut off.
    /// Its leader waits for it to the end, and nobody else may be the master until then. If it comes back, its leader goes
    /// on, or another Sentinel has made it a replica first: only a majority tells.
    pub(super) is_lost: bool,
    /// Since when the chosen one says nothing, where that is on this host.
    silent: Option<Time>,
    pub(super) lasts: Duration,
    /// How many answers in a row of the Sentinels that have published it do not tell of a failover.
    denials: u32,
}

/// So many answers without it end it: one may be older than its event.
const DENIALS: u32 = 2;

impl Promoting {
    pub(super) fn new(
        to: Endpoint,
        by: String,
        evidence: &Evidence,
        now: Time,
        lasts: Option<Duration>,
    ) -> Promoting {
        let votes = evidence.ballot.iter().flat_map(|ballot| &ballot.votes);
        Promoting {
            to,
            by: BTreeSet::from([by]),
            epoch: votes.map(|vote| vote.epoch).max().unwrap_or_default(),
            since: now,
            role: None,
            is_lost: false,
            silent: None,
            lasts: lasts.unwrap_or(LASTS),
            denials: 0,
        }
    }

    /// Returns it with what is known from another leader's promotion of the same one.
    pub(super) fn after(mut self, before: Option<Promoting>) -> Promoting {
        if let Some(before) = before {
            self.by.extend(before.by);
            self.role = before.role;
        }
        self
    }

    /// Returns it as evidence: with the role that the Redis of this host says, if that is the chosen one.
    pub(super) fn evidence(&self, of: &Evidence, now: Time) -> Promotion {
        let to = site(&self.to, &of.known_redis);
        let role = match of.own(&to) {
            Some(own) => own.role.clone().ok(),
            None => self.role.clone(),
        };
        Promotion {
            role: role.filter(|_| !self.is_lost),
            to,
            epoch: self.epoch,
            age: now.saturating_sub(self.since),
            lasts: self.lasts,
        }
    }

    /// Notes what the Sentinels answered: whether one of them fails over, and who has answered. Returns whether those that
    /// have published it do not do so any more, or never did.
    pub(super) fn is_denied(&mut self, fails_over: bool, ballot: Option<&Ballot>) -> bool {
        let votes = ballot.iter().flat_map(|ballot| &ballot.votes);
        let answered = votes.filter(|vote| vote.says.is_ok());
        let has_answered = |by: &String| answered.clone().any(|vote| vote.who == *by);
        if fails_over {
            self.denials = 0;
        } else if self.by.iter().all(has_answered) {
            self.denials += 1;
        }
        self.denials >= DENIALS
    }

    /// Notes what the chosen one says, where that is on this host, and whether this host is cut off. Returns whether it
    /// counts no more by that.
    pub(super) fn is_lost_here(&mut self, of: &Evidence, is_cut_off: bool, now: Time) -> bool {
        let to = site(&self.to, &of.known_redis);
        let own = of.own(&to).filter(|_| !self.is_lost);
        let Some(own) = own else { return false };
        if own.role.is_err() {
            self.silent.get_or_insert(now);
        }
        let silent = match own.role.is_ok() {
            true => self.silent.take(),
            false => None,
        };
        let was_silent = silent.is_some_and(|since| now.saturating_sub(since) >= AWAY);
        self.is_lost = was_silent || is_cut_off && own.role == Ok(Role::Master);
        self.is_lost
    }

    /// Returns when the leader's time is over.
    pub(super) fn until(&self) -> Time {
        self.since + self.lasts
    }
}

/// Returns where a Redis is that an event names; nobody knows where it is not known yet.
pub(super) fn site(named: &Endpoint, known: &[Site]) -> Site {
    let addresses = match &named.host {
        Host::Address(address) => vec![*address],
        Host::Name(_) => Vec::new(),
    };
    let unknown = Site {
        endpoint: named.clone(),
        addresses,
        run_id: None,
        place: Err(Fault::passing("no Sentinel has told of it yet")),
    };
    let known = known.iter().find(|site| site.is_same(&unknown));
    known.cloned().unwrap_or(unknown)
}
