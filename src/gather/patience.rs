//! How long those who are asked are waited for. Pure.

use std::time::Duration;

use crate::config::SENTINEL_TIMEOUT;

/// How long each round of questions may take: to this host's Sentinel, then to all others at once, then to
/// this host's Redis.
pub(super) const ROUND: Duration = Duration::from_millis(800);

/// How long all others may take: a forged hello can add any number of Sentinels.
pub(super) const ALL: Duration = Duration::from_secs(2);

/// How many times as long the most patient try waits: for a round 3.2 s. A server that needs more is a busy one of
/// which nobody can use the answer.
const MOST: u32 = 4;

/// The longest that is begun however little time is left for all tries, and how much is to be left for the most patient
/// one: where nobody answers it takes some rounds, and a run has a time in which to end.
const AT_LAST: u32 = 2;
const FOR_MOST: Duration = Duration::from_secs(5);

/// How long the Sentinels are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as they may take.
    Full,
    /// So many times as long, where a try without success has met nobody who answers in time: on a busy machine no
    /// number of tries of the same length helps. The others are waited for longer only while fewer than half of all
    /// have answered, so that one that is dead does not slow down the tries that wait for something else.
    ///
    /// A call of Sentinel's has no use for it: an answer that does not come keeps nothing from being done there.
    Longer(u32),
    /// A moment longer than it takes more than half of all to answer: whoever asks every second must not be held
    /// up by one Sentinel that hangs.
    Quick,
}

impl Patience {
    /// Returns how long the next try waits, after one without success that took so long, with so much time left for
    /// all tries: where an answer may not have come in time twice as long, and as long as that try took, which was
    /// for more than its questions.
    #[must_use]
    pub fn after(self, took: Duration, left: Duration) -> Patience {
        let times = match took < self.one_answer() {
            true => self.times(),
            false => (2 * self.times()).max(took.div_duration_f32(ROUND) as u32),
        };
        let most = if left < FOR_MOST { AT_LAST } else { MOST };
        match times.min(most) {
            1 => Patience::Full,
            times => Patience::Longer(times),
        }
    }

    /// Returns how long this host's Sentinel may take for one short answer. With more patience as long as the Redis that is
    /// asked at the same time: where many masters are tried at once the answers come one after another.
    pub fn one_answer(self) -> Duration {
        match self {
            Patience::Full | Patience::Quick => SENTINEL_TIMEOUT,
            Patience::Longer(_) => self.round(),
        }
    }

    /// Returns how long a round of questions may take.
    pub fn round(self) -> Duration {
        ROUND * self.times()
    }

    /// Returns how long all other Sentinels may take.
    pub(super) fn all(self) -> Duration {
        ALL + self.round() - ROUND
    }

    /// Returns the one that waits longer.
    #[must_use]
    pub fn longest(self, other: Patience) -> Patience {
        match self.times() < other.times() {
            true => other,
            false => self,
        }
    }

    fn times(self) -> u32 {
        match self {
            Patience::Full | Patience::Quick => 1,
            Patience::Longer(times) => times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the patience of each try, and how much time was left at its beginning, where nobody ever answers and a
    /// try takes so many of its rounds.
    fn tries(rounds: u32, mut left: Duration) -> Vec<(Patience, Duration)> {
        let mut patience = Patience::Full;
        let mut all = Vec::new();
        loop {
            all.push((patience, left));
            let took = patience.round() * rounds;
            if took >= left {
                return all;
            }
            left -= took;
            patience = patience.after(took, left);
        }
    }

    #[test]
    fn the_first_try_waits_for_what_a_server_needs_and_later_ones_twice_as_long_each() {
        let of_each = tries(1, 20 * SECOND).into_iter();
        let of_each: Vec<Patience> = of_each.map(|(patience, _)| patience).collect();
        let begin = [Patience::Full, Patience::Longer(2), Patience::Longer(4)];
        assert_eq!(of_each[..3], begin);
        assert_eq!(of_each[3], Patience::Longer(4), "not without end");
        assert_eq!(Patience::Full.round(), ROUND);
        assert_eq!(Patience::Quick.round(), ROUND);
        assert_eq!(Patience::Longer(4).round(), 4 * ROUND);
        assert_eq!(Patience::Full.one_answer(), SENTINEL_TIMEOUT);
        assert_eq!(Patience::Longer(4).one_answer(), 4 * ROUND);
    }

    #[test]
    fn a_machine_that_is_very_busy_is_waited_for_at_once_as_long_as_it_takes() {
        let after = |took: Duration| Patience::Full.after(took, 10 * SECOND);
        assert_eq!(after(SENTINEL_TIMEOUT), Patience::Longer(2));
        assert_eq!(after(3 * ROUND), Patience::Longer(3));
        assert_eq!(after(8 * SECOND), Patience::Longer(4));
    }

    #[test]
    fn a_fault_that_is_not_about_time_does_not_make_the_next_try_longer() {
        let quickly = SENTINEL_TIMEOUT - Duration::from_millis(1);
        let after = |patience: Patience| patience.after(quickly, 20 * SECOND);
        assert_eq!(after(Patience::Full), Patience::Full);
        assert_eq!(after(Patience::Longer(2)), Patience::Longer(2));
        // Nor has a longer one to be still longer for what the longer one would have heard.
        let long = Patience::Longer(2).after(2 * ROUND - Duration::from_millis(1), 20 * SECOND);
        assert_eq!(long, Patience::Longer(2));
    }

    #[test]
    fn no_try_outlasts_the_run_by_more_than_the_last_attempt_may() {
        // Three rounds for one question after another, and one for the connections that did not tell.
        for rounds in 1..=4 {
            for (patience, left) in tries(rounds, 20 * SECOND) {
                let over = (patience.round() * rounds).saturating_sub(left);
                assert!(over <= 10 * SECOND, "{patience:?} with {left:?} left");
            }
        }
    }
}
