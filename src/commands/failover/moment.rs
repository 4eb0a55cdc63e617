//! The moment in which Sentinel decides fastest. It sees a promotion in the INFO of the new master, for which it asks
//! once the last one is 1 s old while a failover goes on (`sentinelSendPeriodicCommands` in sentinel.c), and 10 s old
//! else. The promotion itself takes 0.2 s. Begun while that INFO is 0.7 to 0.9 s old, a failover is known to all Sentinels
//! after 0.4 s, else after 1.2 s (field notes, section 6).

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::election::{self, Plan, Request, Terms};
use crate::redis::Lines;

/// How old the INFO of the replica is to be when the failover is asked for.
const GOOD: RangeInclusive<Duration> = Duration::from_millis(700)..=Duration::from_millis(880);

/// How old it is to be at least when the votes are asked for, which take 3 to 300 ms: each Sentinel writes them to its
/// disk first.
const EARLY: Duration = Duration::from_millis(350);

/// How long the moment is waited for: a period of INFO.
const LONGEST: Duration = Duration::from_secs(10);

/// How often the Sentinel is asked.
const PAUSE: Duration = Duration::from_millis(40);

/// What it is the moment for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// For the votes.
    Votes,
    /// For the request, once the votes are there.
    Request,
}

/// What was seen of the age of INFO.
#[derive(Debug, Default)]
struct Ages {
    last: Option<Duration>,
}

impl Ages {
    /// Takes the age of now. Returns whether this is the moment.
    fn is_time(&mut self, moment: Moment, age: Duration) -> bool {
        // It was asked for anew before it was old enough: its period is shorter than that.
        let was_early = |last: Duration| age < last && last < *GOOD.start();
        let is_missed = self.last.replace(age).is_some_and(was_early);
        match moment {
            Moment::Votes => is_missed || (EARLY..=*GOOD.end()).contains(&age),
            // Where the votes took too long it is too late, and ten seconds more are not waited for.
            Moment::Request => !(EARLY..*GOOD.start()).contains(&age),
        }
    }
}

/// Waits for it, at the Sentinel that is to be asked, about the replica that it would select now. Returns how long that took.
/// A Sentinel that does not tell is not waited for.
pub(super) async fn wait(
    moment: Moment,
    (request, plan): (&Request<'_>, &Plan),
    lines: &Lines,
) -> Duration {
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
        let looked = election::look(&one, lines).await;
        let looks = looked.looks.into_iter().flatten();
        let replicas = looks.flat_map(|look| look.replicas);
        let mut replicas = replicas.filter(|replica| plan.replicas.first() == Some(&replica.at));
        match replicas.next() {
            Some(replica) if !ages.is_time(moment, replica.told) => sleep(PAUSE).await,
            _ => break,
        }
    }
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many ages are looked at until it is time.
    fn looked_at(moment: Moment, ages: &[u64]) -> Option<usize> {
        let mut seen = Ages::default();
        let mut ages = ages.iter().map(|age| Duration::from_millis(*age));
        ages.position(|age| seen.is_time(moment, age))
    }

    #[test]
    fn it_is_time_shortly_before_the_next_info() {
        assert_eq!(looked_at(Moment::Votes, &[100, 300, 349, 350]), Some(3));
        assert_eq!(looked_at(Moment::Votes, &[880]), Some(0));
        // It was too late this time, and comes again.
        let late = [900, 5000, 9900, 10, 340, 380];
        assert_eq!(looked_at(Moment::Votes, &late), Some(5));
        assert_eq!(looked_at(Moment::Request, &[390, 600, 700]), Some(2));
    }

    #[test]
    fn a_shorter_period_is_not_waited_for() {
        assert_eq!(looked_at(Moment::Votes, &[200, 340, 20]), Some(2));
        assert_eq!(looked_at(Moment::Request, &[600, 20]), Some(1));
    }

    #[test]
    fn where_the_votes_took_longer_the_request_does_not_wait_for_the_next_period() {
        for age in [20, 349, 700, 881, 5000] {
            assert_eq!(looked_at(Moment::Request, &[age]), Some(0), "{age}");
        }
    }
}
