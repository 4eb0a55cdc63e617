//! How long to wait before a server is tried again: longer each time, and not at the same moment as the others do.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait unless another is given.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts the tries that failed.
#[derive(Debug)]
pub struct Backoff {
    failed: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(LONGEST)
    }
}

impl Backoff {
    /// Returns that nothing has failed yet, and that no wait is to be longer than this.
    pub fn up_to(longest: Duration) -> Backoff {
        Backoff { failed: 0, longest }
    }

    /// Returns the next wait: 100 ms, 200 ms … the longest, each by up to a half shorter.
    pub fn wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failed.min(10));
        self.failed = self.failed.saturating_add(1);
        // A new RandomState has new keys: the standard library's only source of chance.
        let chance = RandomState::new().hash_one(()) % 1000;
        let part = 0.5 + f64::from(u32::try_from(chance).unwrap_or_default()) / 2000.0;
        doubled.min(self.longest).mul_f64(part)
    }

    /// Starts anew: the server is well.
    pub fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_longer_up_to_a_limit_and_starts_anew_once_the_server_is_well() {
        for longest in [1000, 5000] {
            let mut backoff = Backoff::up_to(Duration::from_millis(longest));
            for doubled in [100, 200, 400, 800, 1600, 3200, 6400, 12_800] {
                let (wait, expected) = (backoff.wait(), doubled.min(longest));
                let expected = Duration::from_millis(expected);
                assert!(
                    wait >= expected / 2 && wait <= expected,
                    "{wait:?} for {expected:?}"
                );
            }
            backoff.reset();
            assert!(backoff.wait() <= FIRST);
        }
    }

    #[test]
    fn agents_that_fail_together_do_not_try_again_together_however_often() {
        for failed in [0, 20] {
            let waits = (0..64).map(|_| {
                let longest = Duration::from_secs(1);
                Backoff { failed, longest }.wait()
            });
            let different = crate::few::set(waits).len();
            // 64 of a thousand: nearly all differ.
            assert!(different > 32, "{different} after {failed} failures");
        }
    }
}
