//! What goes wrong again and again, for the log: said once for each reason, and once when it is over. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Time;

/// How many different reasons are said while one thing goes wrong.
const REASONS: usize = 8;

/// What goes wrong now, by what it is about.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<String, Failing>);

#[derive(Debug)]
struct Failing {
    said: BTreeSet<String>,
    since: Time,
    times: u64,
}

impl Failures {
    /// Notes that something has failed. Returns whether that is to be said.
    pub(super) fn failed(&mut self, what: &str, reason: &str, now: Time) -> bool {
        let failing = self.0.entry(what.to_owned()).or_insert_with(|| Failing {
            said: BTreeSet::new(),
            since: now,
            times: 0,
        });
        failing.times += 1;
        failing.said.len() < REASONS && failing.said.insert(reason.to_owned())
    }

    /// Notes that it has not. Returns how often it had, and for how long, if it had.
    pub(super) fn went_well(&mut self, what: &str, now: Time) -> Option<String> {
        let failed = self.0.remove(what)?;
        let seconds = now.saturating_sub(failed.since).as_secs_f64();
        Some(match failed.times {
            1 => format!("the attempt that failed {seconds:.1} s ago was made good"),
            times => format!(
                "this is well again, after {times} attempts that failed within {seconds:.1} s"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once_and_the_end_once() {
        let mut failures = Failures::default();
        let at = Time::from_millis;
        assert_eq!(failures.went_well("m", at(0)), None);
        assert!(failures.failed("m", "no link", at(0)));
        assert!(!failures.failed("m", "no link", at(20)));
        assert!(failures.failed("m", "no address", at(60)));
        assert!(!failures.failed("m", "no link", at(140)));
        assert!(failures.failed("other", "no link", at(140)));
        let end = failures.went_well("m", at(2500)).unwrap();
        assert!(end.contains("4 attempts that failed within 2.5 s"), "{end}");
        assert_eq!(failures.went_well("m", at(2600)), None);
        // The next time it is news again.
        assert!(failures.failed("m", "no link", at(5000)));
    }

    #[test]
    fn reasons_without_end_are_not_all_said() {
        let mut failures = Failures::default();
        let said = (0..1000).filter(|number| failures.failed("m", &number.to_string(), Time::ZERO));
        assert_eq!(said.count(), REASONS);
    }
}
