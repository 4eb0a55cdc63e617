//! How long writes wait for promotions that no majority has confirmed: anybody who may publish on a monitored Redis can
//! forge a Sentinel and its events, and must not keep the writes waiting. A leader that dies leaves such a pause, too,
//! and the next failover is to lose nothing all the same.

use std::time::Duration;

use super::Time;
use super::hand_over::HandOver;

/// How long they may wait before the long run counts: twice the longest pause.
const AT_ONCE: Duration = Duration::from_secs(4);

/// The part of the time that they may wait in the long run: one in so many.
const ONE_IN: u32 = 10;

/// A pause that is shorter than this ends before the promotion as a rule, so that it helps nobody.
const SHORTEST: Duration = Duration::from_millis(200);

/// Pauses that are nearer to each other count as one: what Sentinel asked meanwhile has to be answered in between, or
/// it takes the living master for down.
const BREAK: Duration = Duration::from_millis(500);

/// How long they have waited of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Unproven {
    spent: Duration,
    /// How long without a break.
    row: Duration,
    /// When the last pause has ended.
    ended: Time,
}

impl Unproven {
    /// Returns how long a pause may be that begins now and would take this long, `None` where none may be.
    pub(super) fn allows(&self, longest: Duration, now: Time) -> Option<Duration> {
        let budget = AT_ONCE.saturating_sub(self.spent_by(now));
        let left = budget.min(longest.saturating_sub(self.row_by(now)));
        (left >= SHORTEST.min(longest)).then_some(left)
    }

    /// Notes a pause that has ended by now.
    pub(super) fn spend(&mut self, pause: &HandOver, now: Time) {
        let waited = pause.waited(now);
        let end = pause.since + waited;
        self.row = self.row_by(pause.since) + waited;
        self.spent = self.spent_by(end);
        if !pause.is_proven {
            self.spent += waited;
        }
        self.ended = end;
    }

    /// Notes that a majority has confirmed a promotion: what waited for it did not wait for a forged one.
    pub(super) fn prove(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// What was spent is forgotten bit by bit.
    fn spent_by(&self, now: Time) -> Duration {
        let passed = now.saturating_sub(self.ended);
        self.spent.saturating_sub(passed / ONE_IN)
    }

    fn row_by(&self, now: Time) -> Duration {
        match now < self.ended + BREAK {
            true => self.row,
            false => Duration::ZERO,
        }
    }
}
