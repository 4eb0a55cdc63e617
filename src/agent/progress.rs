//! Whether the agent gets on with its work: the loop takes events, and rounds of questions end. That is what the
//! service manager's watchdog is fed with; a task that only waits and writes would feed it while the loop is stuck.
//! A slow Sentinel, a lock or a kernel is no reason: each has a deadline of its own.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How long one turn of the loop may take. It wakes every second; at its end writes that are paused are allowed again
/// (2 s), and the VIPs may be released (5 s).
const TURN: Duration = Duration::from_secs(10);

/// How long after a round of questions the next may end: a round is given up after 30 s.
const ROUND: Duration = Duration::from_secs(45);

/// When what happened last.
#[derive(Debug)]
pub(super) struct Progress {
    turned: Cell<Instant>,
    asked: Cell<Instant>,
}

impl Progress {
    /// Returns that it begins now.
    pub(super) fn new(now: Instant) -> Progress {
        Progress {
            turned: Cell::new(now),
            asked: Cell::new(now),
        }
    }

    /// Notes that the loop takes the next event.
    pub(super) fn turn(&self, now: Instant) {
        self.turned.set(now);
    }

    /// Notes that a round of questions has ended.
    pub(super) fn round(&self, now: Instant) {
        self.asked.set(now);
    }

    /// Returns whether the agent gets on.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        let since = |at: &Cell<Instant>| now.saturating_duration_since(at.get());
        since(&self.turned) < TURN && since(&self.asked) < ROUND
    }

    /// Feeds a watchdog that waits for so long, as long as the agent gets on.
    pub(super) async fn feed(&self, every: Duration, alive: impl Fn()) -> Infallible {
        loop {
            // After the whole machine was stopped the next look finds that the loop has turned since.
            if self.is_alive(Instant::now()) {
                alive();
            }
            sleep((every / 4).max(Duration::from_millis(10))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn an_agent_whose_loop_or_whose_questions_are_stuck_is_not_alive() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let progress = Progress::new(start);
        assert!(progress.is_alive(at(5)));
        assert!(!progress.is_alive(at(15)), "the loop does not turn");
        for second in 0..120 {
            progress.turn(at(second));
            // A Sentinel that hangs: every round is given up.
            if second % 31 == 0 {
                progress.round(at(second));
            }
            assert!(progress.is_alive(at(second)), "{second}");
        }
        progress.turn(at(200));
        assert!(!progress.is_alive(at(200)), "no round ends");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_watchdog_is_fed_by_an_agent_that_gets_on_and_by_no_other() {
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(60)).unwrap();
        for (since, expected) in [(now, 1), (long_ago, 0)] {
            let (progress, fed) = (Progress::new(since), Cell::new(0));
            let every = Duration::from_secs(3600);
            // As far as its first pause.
            let feeding = progress.feed(every, || fed.set(fed.get() + 1));
            assert!(feeding.now_or_never().is_none());
            assert_eq!(fed.get(), expected);
        }
    }
}
