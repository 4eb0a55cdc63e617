//! When clients are told. Pure: the time is passed in.

use std::time::Duration;

/// When they are told while nobody is known to have the VIP, since the start; then every minute. The first
/// time is late, as the new holder mostly comes first, and is heard: a client answers only once in
/// 500 ms (net.ipv4.tcp_invalid_ratelimit), and an answer that nobody gets would be that one.
const UNHEARD: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_millis(1200),
    Duration::from_millis(2400),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];
const MINUTE: Duration = Duration::from_secs(60);

/// When they are told since somebody was found to have it: at once, and again as a frame may be lost, a
/// neighbour may ignore an announcement for a second, and the first answer may have been spent.
const HEARD: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(2400),
    Duration::from_secs(5),
];

/// How soon after a round the next one comes at the earliest: longer than clients keep silent, and two holders that
/// fight over a VIP do not fill the network with what their clients are told.
const APART: Duration = Duration::from_millis(550);

/// How long it is tried while nobody is known to have the VIP. Sentinel's retries of a call that fails
/// there come after 30 s, then 60 s, then 120 s.
pub const LIFE: Duration = Duration::from_secs(600);

/// Which rounds are still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The last one first.
    rounds: Vec<Duration>,
    /// When the next one may come.
    earliest: Duration,
}

impl Default for Schedule {
    /// Returns the schedule while nobody is known to have the VIP. Times are since its start.
    fn default() -> Schedule {
        let minutes = (1..=LIFE.as_secs() / MINUTE.as_secs()).map(Duration::from_mins);
        let mut rounds: Vec<Duration> = UNHEARD.into_iter().chain(minutes).collect();
        rounds.reverse();
        Schedule {
            rounds,
            earliest: Duration::ZERO,
        }
    }
}

impl Schedule {
    /// Notes at `now` that somebody has the VIP who had not had it before.
    pub fn claimed(&mut self, now: Duration) {
        let first = now.max(self.earliest);
        let rounds = HEARD.iter().rev().map(|after| first + *after);
        self.rounds = rounds.filter(|round| *round <= LIFE).collect();
    }

    /// Returns when the next round is due, `None` after the last one.
    pub fn next(&self) -> Option<Duration> {
        self.rounds.last().copied()
    }

    /// Returns whether a round is due at `now`, once for all that are.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let before = self.rounds.len();
        self.rounds.retain(|round| *round > now);
        let is_due = self.rounds.len() < before;
        if is_due {
            self.earliest = now + APART;
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

    fn rounds(schedule: &mut Schedule) -> Vec<u128> {
        let mut all = Vec::new();
        while let Some(next) = schedule.next() {
            assert!(!schedule.is_due(next - ms(1)) && schedule.is_due(next));
            all.push(next.as_millis());
        }
        all
    }

    #[test]
    fn while_nobody_has_the_vip_rounds_become_rare_and_end() {
        let all = rounds(&mut Schedule::default());
        assert_eq!(all[..4], [500, 1200, 2400, 5000]);
        assert_eq!(all[6..9], [40_000, 60_000, 120_000]);
        assert_eq!(all.last(), Some(&LIFE.as_millis()));
    }

    #[test]
    fn somebody_who_has_it_brings_a_round_at_once_and_the_end_near() {
        let mut schedule = Schedule::default();
        schedule.claimed(ms(60));
        assert_eq!(rounds(&mut schedule), [60, 660, 1260, 2460, 5060]);
        // And another one later begins anew.
        schedule.claimed(ms(9000));
        assert_eq!(schedule.next(), Some(ms(9000)));
    }

    #[test]
    fn two_that_fight_over_it_bring_neither_a_flood_nor_a_longer_life() {
        let mut schedule = Schedule::default();
        let (mut number, mut now) = (0, ms(0));
        while schedule.next().is_some() {
            schedule.claimed(now);
            number += u32::from(schedule.is_due(now));
            now += ms(5);
        }
        assert!(now <= LIFE + ms(5) && number <= 1100, "{number}, {now:?}");
    }

    #[test]
    fn rounds_that_were_missed_are_one() {
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(ms(3000)) && !schedule.is_due(ms(3000)));
        assert_eq!(schedule.next(), Some(ms(5000)));
    }
}
