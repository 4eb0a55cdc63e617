//! The log line of a run: a sentence for people, then `key=value` for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::milliseconds;
use crate::exit::Fault;
use crate::outcome::{Did, Outcome, Phases};
use crate::text::{joined, printable};

/// Returns the log line of a run: a sentence for people, then `key=value` for machines.
/// `call` holds the pairs that say what was asked.
pub fn log_line(
    call: &[(&str, String)],
    outcomes: &[Outcome],
    phases: &Phases,
    exit: u8,
) -> String {
    let sentences: Vec<String> = outcomes
        .iter()
        .map(|outcome| outcome.sentence(false))
        .collect();
    let mut line = format!("msg={}", quote(&joined(&sentences)));
    for (key, value) in call {
        pair(&mut line, key, value);
    }
    for (action, vips) in by_action(outcomes) {
        pair(&mut line, action, &vips.join(","));
    }
    let frames: usize = outcomes
        .iter()
        .filter_map(|outcome| outcome.did())
        .map(Did::frames)
        .sum();
    let reset: usize = outcomes
        .iter()
        .filter_map(|outcome| outcome.did())
        .filter_map(Did::connections_reset)
        .sum();
    let times = [
        ("load_ms", Some(phases.loaded)),
        ("announced_ms", phases.announced),
        ("total_ms", Some(phases.done)),
        ("commands_ms", phases.commands),
    ];
    let _ = write!(
        line,
        " frames={frames} reset={reset} tries={} exit={exit}",
        phases.tries
    );
    for (key, time) in times {
        if let Some(time) = time {
            let _ = write!(line, " {key}={:.3}", milliseconds(time));
        }
    }
    line
}

/// Returns the log line of a call that nothing could be done for. `call` as in [`log_line`].
pub fn fault_line(fault: &Fault, call: &[(&str, String)], exit: u8) -> String {
    let mut line = format!("msg={}", quote(&fault.to_string()));
    for (key, value) in call {
        pair(&mut line, key, value);
    }
    line + &format!(" exit={exit}")
}

/// Returns `VIP@INTERFACE` of each outcome, grouped by what was done.
fn by_action(outcomes: &[Outcome]) -> BTreeMap<&'static str, Vec<String>> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for outcome in outcomes {
        let action = outcome.did().map_or("failed", Did::name);
        let interfaces = outcome.did().map(Did::interfaces).unwrap_or_default();
        let vip = match interfaces.is_empty() {
            true => outcome.vip.to_string(),
            false => format!("{}@{}", outcome.vip, interfaces.join("+")),
        };
        groups.entry(action).or_default().push(vip);
    }
    groups
}

/// Appends ` key=value`, quoted where the value could be taken for more than that.
pub fn pair(line: &mut String, key: &str, value: &str) {
    let plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=' && byte != b'\\');
    let _ = if plain {
        write!(line, " {key}={value}")
    } else {
        write!(line, " {key}={}", quote(value))
    };
}

/// Returns text as a quoted value. What came from outside is escaped where it entered the
/// text; its quotes become single ones, so that none ends the value.
pub fn quote(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('"', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quoted_value_but_its_own_end() {
        assert_eq!(
            quote("no master \"a\\n\" here\u{7}"),
            "\"no master 'a\\n' here\\u{7}\""
        );
    }
}
