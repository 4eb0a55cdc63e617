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

/// When one more goes out where a link came up: a port of the classic Spanning Tree Protocol forwards after 30 s (twice its
/// forward delay, IEEE 802.1D).
const LAST_AFTER_LINK_UP: Duration = Duration::from_secs(35);

/// How often a rival is answered in a second at most: two holders that answer each other without
/// a limit would fill the network.
pub const ANSWERS_PER_SECOND: usize = 10;

const SECOND: Duration = Duration::from_secs(1);

/// For who announces as long as the VIP is here: longer than any process lives, and no more than timers take.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 30);

/// Which rounds are still to go out, and whether a rival may be answered.
#[derive(Clone, Debug)]
pub struct Schedule {
    rounds: Vec<Duration>,
    /// Those that go out beside them, since a link came up.
    more: Vec<Duration>,
    end: Duration,
    /// How long after a round the next one goes out when those of the take-over are over.
    every: Option<Duration>,
    /// When the last round went out.
    last: Duration,
    answered: Vec<Duration>,
    /// When a rival has its answer again: a lost frame would leave clients with the rival until the next round. RFC 5227
    /// announces twice, RFC 4861 up to three times (section 7.2.6), a second apart at least.
    second_answer: Option<Duration>,
    owes_round: bool,
    owes_answer: bool,
}

impl Schedule {
    /// Returns the schedule of a take-over that ends after `end`. Times are since its start.
    pub fn new(end: Duration) -> Schedule {
        let rounds = ROUNDS.into_iter().rev().filter(|round| *round <= end);
        Schedule {
            rounds: rounds.collect(),
            more: Vec::new(),
            end,
            every: None,
            last: Duration::ZERO,
            answered: Vec::new(),
            second_answer: None,
            owes_round: false,
            owes_answer: false,
        }
    }

    /// Returns the schedule of who announces every second until `end`.
    pub fn every_second(end: Duration) -> Schedule {
        let seconds = (1..end.as_secs_f64().ceil() as u64).rev();
        Schedule {
            rounds: seconds.map(Duration::from_secs).collect(),
            more: Vec::new(),
            end,
            every: None,
            last: Duration::ZERO,
            answered: Vec::new(),
            second_answer: None,
            owes_round: false,
            owes_answer: false,
        }
    }

    /// Returns the schedule of who announces a take-over and goes on for ever, with a round `every` so often;
    /// zero is never.
    pub fn for_ever(every: Duration) -> Schedule {
        let every = Some(every).filter(|every| !every.is_zero());
        let mut schedule = Schedule {
            every,
            ..Schedule::new(FOR_EVER)
        };
        // Else pauses longer than that would come first.
        schedule
            .rounds
            .retain(|round| every.is_none_or(|every| *round <= every.max(ROUNDS[0])));
        schedule
    }

    /// Returns when it is over.
    pub fn end(&self) -> Duration {
        self.end
    }

    /// Returns when something is to be done next: a round, an answer that had to wait, a second answer, or the end.
    pub fn next(&self) -> Duration {
        let round = self.next_round();
        let may_answer = self.answered.first().map(|first| *first + SECOND);
        let owed = may_answer.filter(|_| self.owes_answer);
        let second = match self.answered.len() < ANSWERS_PER_SECOND {
            true => self.second_answer,
            false => self.second_answer.max(may_answer),
        };
        [owed, second]
            .into_iter()
            .flatten()
            .fold(round, Duration::min)
    }

    /// Returns when its next round is to go out, or when it is over.
    pub fn next_round(&self) -> Duration {
        let next = [&self.rounds, &self.more]
            .into_iter()
            .filter_map(|all| all.last());
        next.min().copied().unwrap_or(self.end)
    }

    /// Returns whether it is over at `now`.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.end
    }

    /// Returns whether anything is due at `now`: a round, or an answer that may be given.
    pub fn is_anything_due(&self, now: Duration) -> bool {
        let recent = |answered: &&Duration| now.saturating_sub(**answered) < SECOND;
        let may_answer = self.answered.iter().filter(recent).count() < ANSWERS_PER_SECOND;
        self.is_round_due(now) || self.owes_answer(now) && may_answer
    }

    fn is_second_answer_due(&self, now: Duration) -> bool {
        self.second_answer.is_some_and(|at| at <= now)
    }

    /// Returns whether a round is due at `now`. It stays so until [`is_due`](Self::is_due) has said so.
    pub fn is_round_due(&self, now: Duration) -> bool {
        let is_due = |all: &Vec<Duration>| all.last().is_some_and(|round| *round <= now);
        self.owes_round || is_due(&self.rounds) || is_due(&self.more)
    }

    /// Returns whether a round is due at `now`, once for all that are.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let is_due = self.is_round_due(now);
        self.owes_round = false;
        self.rounds.retain(|round| *round > now);
        self.more.retain(|round| *round > now);
        if is_due {
            self.last = now;
        }
        if let (true, Some(every)) = (self.rounds.is_empty(), self.every) {
            self.rounds.push(now + every);
        }
        // A round answers rivals too.
        if is_due {
            self.note_answer(now);
        }
        is_due
    }

    /// Notes that an answer goes out, which has a second one, and that one has none: two hosts that answer each other are
    /// to come to an end.
    fn note_answer(&mut self, now: Duration) {
        if mem::take(&mut self.owes_answer) {
            self.second_answer = Some(now + SECOND);
        }
        self.second_answer.take_if(|at| *at <= now);
    }

    /// Notes that a round is due at once, beside those of the schedule.
    pub fn owe_round(&mut self) {
        self.owes_round = true;
    }

    /// Notes that a link came up at `now`: a round is due at once, again when those of a take-over would be, and once more. A
    /// bridge or switch forwards nothing for a while after its port came up, and tells nobody when it does.
    pub fn owe_rounds(&mut self, now: Duration) {
        self.owe_round();
        let rounds = ROUNDS.into_iter().chain([LAST_AFTER_LINK_UP]);
        let rounds = rounds.rev().map(|round| now + round);
        self.more = rounds.filter(|round| *round <= self.end).collect();
    }

    /// Notes that a round is due at once, unless there was one in the last second.
    pub fn owe_round_unless_recent(&mut self, now: Duration) {
        self.owes_round |= now.saturating_sub(self.last) >= SECOND;
    }

    /// Lets pass what is due at `now`, unsaid. Returns whether that was anything.
    pub fn keep_silent(&mut self, now: Duration) -> bool {
        let was_owed = self.owes_answer || self.owes_round || self.is_second_answer_due(now);
        self.forget_answer(now);
        let (last, is_due) = (self.last, self.is_due(now));
        self.last = last;
        is_due || was_owed
    }

    /// Returns whether a rival is to have an answer at `now`, its first or its second.
    pub fn owes_answer(&self, now: Duration) -> bool {
        self.owes_answer || self.is_second_answer_due(now)
    }

    /// Notes that a rival was heard, who is to have an answer.
    pub fn owe_answer(&mut self) {
        self.owes_answer = true;
    }

    /// Notes that the rivals that are to have an answer at `now` are to have none.
    pub fn forget_answer(&mut self, now: Duration) {
        self.owes_answer = false;
        self.second_answer.take_if(|at| *at <= now);
    }

    /// Returns whether a rival is to be answered at `now`, once for all that were heard: then, or
    /// as soon as there may be another answer, so that the last word is ours; and a second later again.
    pub fn is_answer_due(&mut self, now: Duration) -> bool {
        self.answered
            .retain(|answered| now.saturating_sub(*answered) < SECOND);
        let is_due = self.owes_answer(now) && self.answered.len() < ANSWERS_PER_SECOND;
        if is_due {
            self.answered.push(now);
            self.note_answer(now);
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
    fn a_resident_one_goes_on_for_ever() {
        let mut schedule = Schedule::for_ever(ms(60_000));
        for round in ROUNDS {
            assert_eq!(schedule.next(), round);
            assert!(schedule.is_due(round));
        }
        for minute in 1..1000 {
            let now = ms(10_000 + 60_000 * minute);
            assert_eq!(schedule.next(), now);
            assert!(!schedule.is_due(now - ms(1)) && schedule.is_due(now));
            assert!(!schedule.is_over(now));
        }
        // A process that was stopped for an hour does not catch up.
        let late = Duration::from_hours(100);
        assert!(schedule.is_due(late) && !schedule.is_due(late));
        assert_eq!(schedule.next(), late + ms(60_000));
    }

    #[test]
    fn a_resident_one_without_an_interval_falls_silent_after_the_take_over_and_can_be_woken() {
        let mut schedule = Schedule::for_ever(Duration::ZERO);
        assert_eq!(schedule.rounds.len(), ROUNDS.len());
        assert!(schedule.is_due(ms(10_000)));
        assert_eq!(schedule.next(), FOR_EVER);
        schedule.owe_round();
        assert!(schedule.is_due(ms(99_000)));
        assert!(!schedule.is_due(ms(9_999_000)));
    }

    #[test]
    fn a_short_interval_begins_at_once() {
        let mut schedule = Schedule::for_ever(ms(1000));
        assert!(schedule.is_due(ms(100)));
        assert_eq!(schedule.next(), ms(1100));
        assert!(schedule.is_due(ms(1100)));
        assert_eq!(schedule.next(), ms(2100));
    }

    #[test]
    fn another_round_is_not_sent_within_a_second_and_silence_leaves_nothing_owed() {
        let mut schedule = Schedule::for_ever(ms(60_000));
        schedule.owe_round_unless_recent(ms(50));
        assert!(!schedule.is_due(ms(50)));
        assert!(schedule.is_due(ms(100)));
        schedule.owe_round_unless_recent(ms(1099));
        assert!(!schedule.is_anything_due(ms(1099)));
        schedule.owe_round_unless_recent(ms(1100));
        schedule.owe_answer();
        assert!(schedule.keep_silent(ms(1100)) && !schedule.is_anything_due(ms(1100)));
        assert!(!schedule.keep_silent(ms(1101)));
        assert_eq!(schedule.next(), ms(1200));
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
        // That one has its second.
        assert!(!schedule.is_answer_due(ms(2199)) && schedule.is_answer_due(ms(2200)));
        assert!(!schedule.is_answer_due(ms(5000)));
    }

    #[test]
    fn an_answer_goes_out_again_a_second_later_and_not_a_third_time() {
        // By itself, and as a round that was due.
        for is_round in [false, true] {
            let mut schedule = Schedule::for_ever(ms(60_000));
            assert!(schedule.is_due(ms(10_000)));
            schedule.owe_answer();
            let first = ms(if is_round { 70_000 } else { 12_000 });
            assert_eq!(schedule.is_due(first), is_round);
            assert_eq!(schedule.is_answer_due(first), !is_round);
            let second = first + SECOND;
            assert_eq!(schedule.next(), second);
            assert!(!schedule.is_anything_due(second - ms(1)));
            assert!(schedule.is_anything_due(second) && schedule.is_answer_due(second));
            for later in 1..50 {
                assert!(!schedule.is_anything_due(second + ms(1000 * later)));
            }
            assert!(schedule.next() > second + ms(50_000));
        }
    }

    #[test]
    fn a_second_answer_that_may_not_be_given_is_forgotten_and_a_round_takes_its_place() {
        let answered = || {
            let mut schedule = Schedule::for_ever(ms(60_000));
            assert!(schedule.is_due(ms(10_000)));
            schedule.owe_answer();
            assert!(schedule.is_answer_due(ms(12_000)));
            schedule
        };
        let mut schedule = answered();
        schedule.forget_answer(ms(12_500));
        assert!(schedule.owes_answer(ms(13_000)), "it is not due yet");
        schedule.forget_answer(ms(13_000));
        assert!(!schedule.is_anything_due(ms(13_000)));
        let mut schedule = answered();
        assert!(schedule.keep_silent(ms(13_000)) && !schedule.is_anything_due(ms(60_000)));
        let mut schedule = answered();
        schedule.owe_round();
        assert!(schedule.is_due(ms(13_000)) && !schedule.is_anything_due(ms(60_000)));
    }

    #[test]
    fn two_that_answer_each_other_keep_the_limit_and_fall_silent_together() {
        let mut both = [(); 2].map(|()| Schedule::for_ever(ms(60_000)));
        both.iter_mut()
            .for_each(|one| assert!(one.is_due(ms(10_000))));
        let mut said = [const { Vec::new() }; 2];
        both[0].owe_answer();
        for now in 20_000..40_000 {
            for one in [0, 1] {
                // The second one learns after ten seconds that it is not the holder.
                if one == 1 && now >= 30_000 {
                    both[one].forget_answer(ms(now));
                }
                if both[one].is_answer_due(ms(now)) {
                    said[one].push(now);
                    both[1 - one].owe_answer();
                }
            }
        }
        for said in &said {
            let mut windows = said.windows(ANSWERS_PER_SECOND + 1);
            assert!(windows.all(|some| some[ANSWERS_PER_SECOND] - some[0] >= 1000));
        }
        assert!(said[1].iter().all(|at| *at < 30_000));
        assert!(said[0].last().is_some_and(|at| *at <= 32_000), "{said:?}");
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
    fn a_link_that_came_up_has_all_rounds_of_a_take_over_beside_those_of_the_schedule() {
        let rounds = |schedule: &mut Schedule, until: u64| {
            let times = (0..until).filter(|now| schedule.is_due(ms(*now)));
            times.collect::<Vec<_>>()
        };
        let mut schedule = Schedule::for_ever(ms(60_000));
        assert!(schedule.is_due(ms(10_000)));
        // A link that flaps begins them anew.
        for now in [20_000, 20_300, 50_000] {
            schedule.owe_rounds(ms(now));
            assert!(schedule.is_round_due(ms(now)) && schedule.is_due(ms(now)));
            assert_eq!(schedule.next(), ms(now + 100));
        }
        assert_eq!(
            rounds(&mut schedule, 190_000),
            [
                50_100, 51_200, 52_400, 55_000, 60_000, 70_000, 85_000, 130_000
            ]
        );
        let mut schedule = Schedule::new(ms(3000));
        assert_eq!(rounds(&mut schedule, 1300), [100, 1200]);
        schedule.owe_rounds(ms(1500));
        assert_eq!(rounds(&mut schedule, 3000), [0, 1600, 2400, 2700]);
        assert_eq!(schedule.next(), ms(3000));
        // Silence has none of them go out late.
        let mut schedule = Schedule::for_ever(Duration::ZERO);
        assert!(schedule.is_due(ms(10_000)));
        schedule.owe_rounds(ms(20_000));
        assert!(schedule.keep_silent(ms(29_000)));
        assert_eq!(rounds(&mut schedule, 60_000), [30_000, 55_000]);
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
            schedule.forget_answer(ms(now));
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
