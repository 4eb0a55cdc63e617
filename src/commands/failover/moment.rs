//! The moment in which Sentinel decides fastest. It sees a promotion in the INFO of the new master, for which it asks
//! once the last one is 1 s old while a failover goes on (`sentinelSendPeriodicCommands` in sentinel.c), and 10 s old
//! else. The promotion itself takes 0.2 s. Begun while that INFO is 0.7 to 0.9 s old, a failover is known to all Sentinels
//! after 0.4 s, else after 1.2 s (field notes, section 6).

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::election::{self, Plan, Request, Terms};
use crate::redis::Lines;

/// How old the INFO of the replica is to be: the election takes some milliseconds more.
const GOOD: RangeInclusive<Duration> = Duration::from_millis(700)..=Duration::from_millis(880);

/// How long the moment is waited for: a period of INFO.
const LONGEST: Duration = Duration::from_secs(10);

/// How often the Sentinel is asked.
const PAUSE: Duration = Duration::from_millis(40);

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Now,
    Wait,
}

/// What was seen of the age of INFO.
#[derive(Debug, Default)]
struct Ages {
    last: Option<Duration>,
}

impl Ages {
    /// Takes the age of now.
    fn see(&mut self, age: Duration) -> Next {
        // It was asked for anew before it was old enough: its period is shorter than that.
        let was_early = |last: Duration| age < last && last < *GOOD.start();
        if GOOD.contains(&age) || self.last.is_some_and(was_early) {
            return Next::Now;
        }
        self.last = Some(age);
        Next::Wait
    }
}

/// Waits for it, at the Sentinel that is to be asked, about the replica that it will select. Returns how long that took.
/// A Sentinel that does not tell is not waited for.
pub(super) async fn wait(request: &Request<'_>, plan: &Plan, lines: &Lines) -> Duration {
    let began = Instant::now();
    let one = Request {
        ways: &request.ways[plan.asked..=plan.asked],
        terms: Terms {
            needed: 1,
            ..request.terms.clone()
        },
        ..*request
    };
    let mut ages = Ages::default();
    while began.elapsed() < LONGEST {
        let looks = election::look(&one, lines).await;
        let replicas = looks.into_iter().flatten().flat_map(|look| look.replicas);
        let mut replicas = replicas.filter(|replica| replica.at == plan.replica);
        match replicas.next().map(|replica| ages.see(replica.told)) {
            Some(Next::Wait) => sleep(PAUSE).await,
            Some(Next::Now) | None => break,
        }
    }
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many ages are looked at until it is time.
    fn looked_at(ages: &[u64]) -> Option<usize> {
        let mut seen = Ages::default();
        let mut ages = ages.iter().map(|age| Duration::from_millis(*age));
        ages.position(|age| seen.see(age) == Next::Now)
    }

    #[test]
    fn it_is_time_shortly_before_the_next_info() {
        assert_eq!(looked_at(&[100, 300, 650, 701]), Some(3));
        assert_eq!(looked_at(&[880]), Some(0));
        // It was too late this time, and comes again.
        assert_eq!(looked_at(&[900, 5000, 9900, 10, 400, 710]), Some(5));
    }

    #[test]
    fn a_shorter_period_is_not_waited_for() {
        assert_eq!(looked_at(&[200, 450, 20]), Some(2));
    }
}
