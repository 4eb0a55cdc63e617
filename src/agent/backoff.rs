//! How long to wait before a server is tried again: longer each time, and not at the same moment as the others do.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts the tries that failed.
#[derive(Debug, Default)]
pub struct Backoff {
    failed: u32,
}

impl Backoff {
    /// Returns the next wait: 100 ms, 200 ms … 5 s, each up to a half shorter or longer.
    pub fn wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failed.min(10));
        self.failed = self.failed.saturating_add(1);
        // A new RandomState has new keys: the standard library's only source of chance.
        let chance = RandomState::new().hash_one(()) % 1000;
        let part = 0.5 + f64::from(u32::try_from(chance).unwrap_or_default()) / 1000.0;
        doubled.min(LONGEST).mul_f64(part)
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
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let wait = backoff.wait().as_millis();
            assert!(
                wait >= expected / 2 && wait <= expected * 3 / 2,
                "{wait} for {expected}"
            );
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST * 3 / 2);
    }
}
