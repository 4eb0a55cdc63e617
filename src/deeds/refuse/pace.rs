//! How fast frames are taken in: a crowd at once, then no faster than this. Pure, the clock is passed in.

use std::time::Duration;

/// The time that each frame stands for: 20,000 a second, some 0.2 s of a core.
const EACH: Duration = Duration::from_micros(50);

/// How far ahead of that frames may be: 5,000 clients that come back at once do not wait. Clients that come back as
/// soon as they are refused, again and again, then find the pace.
const AHEAD: Duration = Duration::from_millis(250);

/// The pace so far.
#[derive(Debug, Default)]
pub struct Pace {
    /// When all frames so far would have been taken in, one after another.
    due: Duration,
}

impl Pace {
    /// Returns how long the next frame has to wait, zero if it need not.
    pub fn wait(&self, now: Duration) -> Duration {
        self.due.saturating_sub(now + AHEAD)
    }

    /// Takes in that there was a frame.
    pub fn note(&mut self, now: Duration) {
        self.due = self.due.max(now) + EACH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_goes_at_once_and_then_twenty_thousand_a_second() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        let mut now = 7 * second;
        let mut frames = 0;
        while pace.wait(now).is_zero() {
            pace.note(now);
            frames += 1;
        }
        assert_eq!(frames, 5001);
        let until = now + second;
        loop {
            now += pace.wait(now);
            if now > until {
                break;
            }
            pace.note(now);
            frames += 1;
        }
        assert!((25_000..25_010).contains(&frames), "{frames}");
        // A pause lets another crowd come, and no more than that.
        now += 1000 * second;
        for _ in 0..5000 {
            assert!(pace.wait(now).is_zero());
            pace.note(now);
        }
        pace.note(now);
        assert!(!pace.wait(now).is_zero());
    }
}
