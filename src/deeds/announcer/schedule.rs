//! When a VIP is announced again. Pure: the time is passed in.

use std::mem;
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

const SECOND: Duration = Duration::from_secs(1);

/// Which rounds are still to go out, and whether a rival may be answered.
#[derive(Clone, Debug)]
pub struct Schedule {
    rounds: Vec<Duration>,
    end: Duration,
    answered: Vec<Duration>,
    owes_round: bool,
    owes_answer: bool,
}

impl Schedule {
    /// Returns the schedule of a take-over that ends after `end`. Times are since its start.
    pub fn new(end: Duration) -> Schedule {
        let rounds = ROUNDS.into_iter().rev().filter(|round| *round <= end);
        Schedule {
            rounds: rounds.collect(),
            end,
            answered: Vec::new(),
            owes_round: false,
            owes_answer: false,
        }
    }

    /// Returns the schedule of who announces every second until `end`.
    pub fn every_second(end: Duration) -> Schedule {
        let seconds = (1..end.as_secs_f64().ceil() as u64).rev();
        Schedule {
            rounds: seconds.map(Duration::from_secs).collect(),
            end,
            answered: Vec::new(),
            owes_round: false,
            owes_answer: false,
        }
    }

    /// Returns when it is over.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// Returns when something is to be done next: a round, an answer that had to wait, or the end.
    pub fn next(&self) -> Duration {
        let round = self.next_round();
        match self.answered.first() {
            Some(first) if self.owes_answer => round.min(*first + SECOND),
            _ => round,
        }
    }

    /// Returns when its next round is to go out, or when it is over.
    pub fn next_round(&self) -> Duration {
        self.rounds.last().copied().unwrap_or(self.end)
    }

    /// Returns whether it is over at `now`.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.end
    }

    /// Returns whether anything is due at `now`: a round, or an answer that may be given.
    pub fn is_anything_due(&self, now: Duration) -> bool {
        let recent = |answered: &&Duration| now.saturating_sub(**answered) < SECOND;
        let may_answer = self.answered.iter().filter(recent).count() < ANSWERS_PER_SECOND;
        self.is_round_due(now) || self.owes_answer && may_answer
    }

    /// Returns whether a round is due at `now`. It stays so until [`is_due`](Self::is_due) has said so.
    pub fn is_round_due(&self, now: Duration) -> bool {
        self.owes_round || self.rounds.last().is_some_and(|round| *round <= now)
    }

    /// Returns whether a round is due at `now`, once for all that are.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let before = self.rounds.len();
        self.rounds.retain(|round| *round > now);
        let is_due = mem::take(&mut self.owes_round) || self.rounds.len() < before;
        // A round answers rivals too.
        self.owes_answer &= !is_due;
        is_due
    }

    /// Notes that a round is due at once, beside those of the schedule.
    pub fn owe_round(&mut self) {
        self.owes_round = true;
    }

    /// Notes that a rival was heard, who is to have an answer.
    pub fn owe_answer(&mut self) {
        self.owes_answer = true;
    }

    /// Notes that the rivals that were heard are to have no answer.
    pub fn forget_answer(&mut self) {
        self.owes_answer = false;
    }

    /// Returns whether a rival is to be answered at `now`, once for all that were heard: then, or
    /// as soon as there may be another answer, so that the last word is ours.
    pub fn is_answer_due(&mut self, now: Duration) -> bool {
        self.answered
            .retain(|answered| now.saturating_sub(*answered) < SECOND);
        let is_due = self.owes_answer && self.answered.len() < ANSWERS_PER_SECOND;
        if is_due {
            self.answered.push(now);
            self.owes_answer = false;
        }
        is_due
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
    fn a_rival_is_answered_ten_times_a_second_at_most_and_last() {
        let mut schedule = Schedule::new(ms(15_000));
        assert!(!schedule.is_answer_due(ms(150)));
        assert!(schedule.is_due(ms(150)));
        let mut answered = Vec::new();
        for now in 200..1199 {
            schedule.owe_answer();
            if schedule.is_answer_due(ms(now)) {
                answered.push(now);
            }
        }
        assert_eq!(answered, (200..210).collect::<Vec<_>>());
        // It falls silent, and has its answer as soon as there may be one.
        assert_eq!(schedule.next(), ms(1200));
        assert!(!schedule.is_answer_due(ms(1199)) && schedule.is_answer_due(ms(1200)));
        assert!(!schedule.is_answer_due(ms(5000)));
    }

    #[test]
    fn a_round_that_is_owed_is_due_once_at_any_time() {
        let mut schedule = Schedule::new(ms(15_000));
        assert!(schedule.is_due(ms(100)));
        schedule.owe_round();
        schedule.owe_round();
        assert!(schedule.is_due(ms(200)) && !schedule.is_due(ms(201)));
        assert_eq!(schedule.next(), ms(1200));
    }

    #[test]
    fn what_is_due_can_be_told_before_it_is_taken() {
        let mut schedule = Schedule::new(ms(15_000));
        for now in [0, 99, 100, 500, 1199, 1200, 6000, 14_999] {
            for owed in 0..12 {
                if owed > 0 {
                    schedule.owe_answer();
                }
                let told = schedule.is_anything_due(ms(now));
                let is_round = schedule.is_due(ms(now));
                assert_eq!(told, is_round || schedule.is_answer_due(ms(now)), "{now}");
            }
            schedule.owe_answer();
            schedule.forget_answer();
            assert!(!schedule.is_anything_due(ms(now)) && !schedule.is_answer_due(ms(now)));
        }
        schedule.owe_round();
        assert!(schedule.is_anything_due(ms(14_999)));
    }

    #[test]
    fn a_round_is_an_answer_too() {
        let mut schedule = Schedule::new(ms(15_000));
        schedule.owe_answer();
        assert!(schedule.is_due(ms(100)) && !schedule.is_answer_due(ms(100)));
    }
}
