//! Times on the command line.

use std::time::Duration;

/// The longest time that `announce --for` takes.
const LONGEST: Duration = Duration::from_secs(3600);

/// The longest maintenance that has an end of its own.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads how long is announced.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    time(text, &UNITS[..2], LONGEST)
        .ok_or_else(|| "give it as 10s or 2m, at least 1s and at most 60m".to_owned())
}

/// Reads how long a maintenance lasts.
pub(super) fn long_duration(text: &str) -> Result<Duration, String> {
    time(text, &UNITS, LONGEST_MAINTENANCE)
        .ok_or_else(|| "give it as 90s, 30m, 2h or 3d, at least 1s and at most 7d".to_owned())
}

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

/// Reads a number with the letter of its unit behind it.
fn time(text: &str, units: &[(char, u64)], longest: Duration) -> Option<Duration> {
    let mut units = units
        .iter()
        .filter_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    // A bare number may be meant as minutes.
    let (number, unit) = units.next()?;
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero() && *time <= longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_minutes() {
        for (text, seconds) in [
            ("10s", Some(10)),
            ("10", None),
            ("2m", Some(120)),
            ("60m", Some(3600)),
            ("61m", None),
            ("0", None),
            ("s", None),
            ("-1s", None),
            ("1h", None),
            ("2h", None),
            ("99999999999999999999m", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn a_maintenance_may_last_hours() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("2h", Some(7200)),
            ("7d", Some(604_800)),
            ("169h", None),
            ("8d", None),
        ] {
            let read = long_duration(text).ok();
            assert_eq!(read, seconds.map(Duration::from_secs), "{text}");
        }
    }
}
