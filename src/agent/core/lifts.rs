//! How often the pause before a failed attempt is repeated may be lifted because something changed on this host: at
//! once, as a rule. Where changes come without end, and help nothing, once a second.

use std::time::Duration;

use super::Time;

/// How many pauses may be lifted in a row: a link that comes back makes a handful of events.
const IN_A_ROW: u32 = 10;

/// How long after one of them another may be.
const EACH: Duration = Duration::from_secs(1);

/// How many were lifted of late.
#[derive(Debug, Default)]
pub(super) struct Lifts {
    used: u32,
    /// Since when: each counts for [`EACH`].
    since: Time,
}

impl Lifts {
    /// Lifts a pause now.
    ///
    /// # Errors
    ///
    /// When that may be next.
    pub(super) fn take(&mut self, now: Time) -> Result<(), Time> {
        let passed = now.saturating_sub(self.since).as_secs() / EACH.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.since = match passed >= self.used {
            true => now,
            false => self.since + EACH * passed,
        };
        self.used = self.used.saturating_sub(passed);
        if self.used >= IN_A_ROW {
            return Err(self.since + EACH);
        }
        self.used += 1;
        Ok(())
    }
}
