//! Whether this host is cut off from its peers, so that they can have made another Redis the master. What cannot be
//! known is not "no": a Sentinel that refuses a connection is a host that is there.

use std::time::Duration;

use super::Time;

/// What speaks for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutOff {
    /// Since when enough Sentinels have been out of reach.
    since: Option<Time>,
    /// When a replica last acknowledged.
    acknowledged: Time,
    /// When this host's Redis was last asked for that.
    heard: Time,
}

/// Redis tells the age of an acknowledgement as the difference of two whole seconds: it may be so much less.
const ROUNDED: Duration = Duration::from_secs(1);

impl CutOff {
    /// Notes whether so many Sentinels are out of reach that these could elect a leader.
    pub(super) fn polled(&mut self, could_elect_without: bool, now: Time) {
        self.since = match could_elect_without {
            true => self.since.or(Some(now)),
            false => None,
        };
    }

    /// Notes that a replica acknowledged so long ago.
    pub(super) fn heard(&mut self, ago: Option<Duration>, now: Time) {
        let at = ago.and_then(|ago| now.checked_sub(ago.saturating_sub(ROUNDED)));
        self.acknowledged = self.acknowledged.max(at.unwrap_or_default());
        self.heard = now;
    }

    /// Begins anew: the agent, or the machine, was stopped, and what it did not see then is no silence of others.
    pub(super) fn was_late(&mut self, now: Time) {
        self.since = self.since.map(|_| now);
        self.acknowledged = now;
    }

    /// Returns when it is long enough, if nothing changes: so long as a master may be silent until its Sentinels
    /// take it for down. That no replica has acknowledged for as long is known only by asking then.
    pub(super) fn due(&self, down_after: Duration) -> Option<Time> {
        let since = self.since?;
        let silent = self.acknowledged + down_after;
        (self.heard >= silent).then(|| silent.max(since + down_after))
    }

    /// Returns since when no Sentinel could be reached that is needed.
    pub(super) fn since(&self) -> Option<Time> {
        self.since
    }
}
