//! Writes are paused on the old master until its VIP is released: what a client writes meanwhile waits, and no
//! acknowledged write is lost. A pause always ends: by its own length, as Redis counts it, if nothing else ends it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Time;
use crate::evidence::Role;
use crate::failover::Endpoint;

/// The longest pause: a longer one makes Sentinel take the living master for down, as its own PUBLISH waits in it
/// and its PINGs behind that (measured: 2.1 s at `down-after` 1000).
const LONGEST: Duration = Duration::from_secs(2);

/// How long a release waits for the answer to the pause, which takes less than a millisecond: a Redis that hangs
/// takes no writes.
const AWAITED: Duration = Duration::from_millis(200);

/// How long the end of a pause may take: each of its two questions has a deadline.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// How long writes are paused at most.
pub(super) fn longest(down_after: Option<Duration>) -> Duration {
    down_after.map_or(LONGEST, |time| (time / 2).min(LONGEST))
}

/// A pause that was asked for.
#[derive(Clone, Debug)]
pub(super) struct HandOver {
    /// The old master.
    pub(super) at: SocketAddr,
    /// Whether it is that for certain, so that it may be told to follow.
    pub(super) may_follow: bool,
    /// How long at most.
    pub(super) longest: Duration,
    /// When it was asked for.
    pub(super) since: Time,
    /// How far it has come.
    pub(super) stage: Stage,
    /// How many bytes the old master had sent when writes were paused, and the new master had when it was promoted.
    pub(super) sent: Option<u64>,
    pub(super) had: Option<u64>,
    /// Whether writes wait, as far as is known.
    pub(super) is_in_force: bool,
    /// Whether a majority has confirmed the promotion.
    pub(super) is_proven: bool,
    /// The new master, once it said itself that it is that.
    pub(super) heir: Option<Endpoint>,
}

/// How far a pause has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was asked for.
    Asked,
    /// Writes wait.
    Paused,
    /// It was refused, or nobody answered.
    Refused,
    /// It has ended by itself before the promotion, or there could be none.
    Lapsed,
    /// Its end was asked for. Where nobody answers it is over at this time.
    Ending(Time),
}

impl HandOver {
    /// Notes how far the old master's stream has come. What it said before writes were paused is too little.
    pub(super) fn heard(&mut self, sent: Option<u64>) {
        if self.stage != Stage::Asked {
            self.sent = self.sent.max(sent);
        }
    }

    /// Notes what the chosen replica said, and whether it was a master already when it was chosen. One that does not
    /// tell how far it came was not asked itself: it follows no more, and may as well have died.
    pub(super) fn chosen_said(
        &mut self,
        who: &Endpoint,
        (role, is_former): (Role, bool),
        had: Option<u64>,
    ) {
        self.had = had;
        let has_turned = role == Role::Master && !is_former && had.is_some();
        self.heir = (has_turned && self.may_follow).then(|| who.clone());
    }

    /// Returns how many bytes the new master lacks, once that is known.
    pub(super) fn behind(&self) -> Option<u64> {
        Some(self.sent?.saturating_sub(self.had?))
    }

    /// Returns when writes are allowed again without anybody's doing.
    pub(super) fn until(&self) -> Time {
        self.since + self.longest
    }

    /// Returns how long writes have waited until now, if it has been in force.
    pub(super) fn waited(&self, now: Time) -> Duration {
        now.min(self.until()).saturating_sub(self.since)
    }

    /// Notes that its end was asked for.
    pub(super) fn end(&mut self, now: Time) {
        self.stage = Stage::Ending(self.until().max(now + ENDS_WITHIN));
    }

    /// Returns whether its end was asked for.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending(_))
    }

    /// Returns when its stage is over, whatever happens until then.
    pub(super) fn ends(&self) -> Option<Time> {
        match self.stage {
            Stage::Asked | Stage::Paused | Stage::Refused => Some(self.until()),
            Stage::Ending(until) => Some(until),
            Stage::Lapsed => None,
        }
    }

    /// Returns whether the release has to wait for it.
    pub(super) fn is_awaited(&self, now: Time) -> bool {
        self.stage == Stage::Asked && now < self.since + AWAITED
    }

    /// Returns when it changes, whatever happens until then.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        match self.is_awaited(now) {
            true => Some(self.since + AWAITED),
            false => self.ends(),
        }
    }
}
