//! When a VIP is announced again. Pure: the time is passed in.

use std::time::Duration;

/// When the further rounds go out, since the take-over. Some hosts ignore a reply that moves an
/// entry younger than a second (their locktime), switches and routers may be slow to come up.
pub const ROUNDS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(1200),
    Duration::from_millis(2400),
    Duration::from_millis(5000),
    Duration::from_millis(10_000),
];

/// How often a rival is answered in a second at most: two holders that answer each other without
/// a limit would fill the network.
pub const ANSWERS_PER_SECOND: usize = 10;

/// Which rounds are still to go out, and whether a rival may be answered.
#[derive(Clone, Debug)]
pub struct Schedule {
    rounds: Vec<Duration>,
    end: Duration,
    answered: Vec<Duration>,
}

impl Schedule {
    /// Returns the schedule of a take-over that ends after `end`. Times are since its start.
    pub fn new(end: Duration) -> Schedule {
        let rounds = ROUNDS.into_iter().rev().filter(|round| *round <= end);
        Schedule {
            rounds: rounds.collect(),
            end,
            answered: Vec::new(),
        }
    }

    /// Returns the schedule of who announces every second until `end`.
    pub fn every_second(end: Duration) -> Schedule {
        let seconds = (1..end.as_secs_f64().ceil() as u64).rev();
        Schedule {
            rounds: seconds.map(Duration::from_secs).collect(),
            end,
            answered: Vec::new(),
        }
    }

    /// Returns when something is to be done next: a round, or the end.
    pub fn next(&self) -> Duration {
        self.rounds.last().copied().unwrap_or(self.end)
    }

    /// Returns whether it is over at `now`.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.end
    }

    /// Returns whether a round is due at `now`, once for all that are.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let before = self.rounds.len();
        self.rounds.retain(|round| *round > now);
        self.rounds.len() < before
    }

    /// Returns whether a rival that is heard at `now` may be answered.
    pub fn may_answer(&mut self, now: Duration) -> bool {
        let second = Duration::from_secs(1);
        self.answered
            .retain(|answered| now.saturating_sub(*answered) < second);
        let may = self.answered.len() < ANSWERS_PER_SECOND;
        if may {
            self.answered.push(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn every_round_is_due_once_and_then_it_ends() {
        let mut schedule = Schedule::new(ms(15_000));
        assert_eq!(schedule.next(), ms(100));
        assert!(!schedule.is_due(ms(99)));
        assert!(schedule.is_due(ms(100)) && !schedule.is_due(ms(101)));
        assert_eq!(schedule.next(), ms(1200));
        // A process that was stopped for a while does not catch up.
        assert!(schedule.is_due(ms(6000)) && !schedule.is_due(ms(6001)));
        assert_eq!(schedule.next(), ms(10_000));
        assert!(schedule.is_due(ms(10_000)));
        assert_eq!(schedule.next(), ms(15_000));
        assert!(!schedule.is_over(ms(14_999)) && schedule.is_over(ms(15_000)));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        assert_eq!(Schedule::new(ms(2000)).rounds, [ms(1200), ms(100)]);
        assert_eq!(
            Schedule::every_second(ms(3500)).rounds,
            [ms(3000), ms(2000), ms(1000)]
        );
        assert!(Schedule::every_second(ms(1000)).rounds.is_empty());
    }

    #[test]
    fn a_rival_is_answered_ten_times_a_second_at_most() {
        let mut schedule = Schedule::new(ms(15_000));
        let answered = (0..1000)
            .filter(|now| schedule.may_answer(ms(*now)))
            .count();
        assert_eq!(answered, 10);
        assert!(schedule.may_answer(ms(1000)) && !schedule.may_answer(ms(1000)));
    }
}
