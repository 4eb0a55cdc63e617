//! The log, and what keeps the VIP right where there is no agent, or at a shutdown, as systemd tells.

use super::Known;
use crate::log;
use crate::report::finding::{Findings, Verdict, unknown, warning, warning_if};
use crate::units::{HANDOVER, SERVICE, TIMER, Units};

pub fn judge(known: &Known, findings: &mut Findings) {
    let log = warning_if(
        !log::is_reachable(),
        "syslog cannot be reached (/dev/log): what the hook does goes to Sentinel's stderr, which is mostly lost",
        "Start journald or a syslog daemon; everyone has to be able to write to its socket.",
    );
    findings.add("log", "", log);
    if known.is_hook_alone() {
        findings.add("sync-timer", "", timer(known.units.as_ref()));
    }
    if let (Ok(_), Some(units)) = (&known.agent, &known.units) {
        findings.add("handover", "", handover(units));
    }
}

/// Whoever has masked it wants it so; and where it is not installed the agent is none of the package's.
fn handover(units: &Units) -> Verdict {
    let is_wanted = !matches!(units.get(HANDOVER, "UnitFileState"), "" | "masked");
    warning_if(
        is_wanted && !units.is_up(HANDOVER),
        "vipswitch-handover.service is not active: a shutdown of this server does not hand the master over first",
        "systemctl start vipswitch-handover (not wanted: systemctl mask vipswitch-handover)",
    )
}

fn timer(units: Option<&Units>) -> Verdict {
    let Some(units) = units else {
        return unknown(
            "systemd does not run here, or does not answer: let `vipswitch agent` run, or `vipswitch sync` every 30 s",
        );
    };
    if !units.is_up(TIMER) || units.get(TIMER, "UnitFileState") != "enabled" {
        return warning(
            "no agent answers, and the timer is not enabled and active: after a reboot or a network restart nothing brings the VIP back",
            format!("systemctl enable --now vipswitch-agent, or without the agent {TIMER}"),
        );
    }
    let result = units.get(SERVICE, "Result");
    warning_if(
        !matches!(result, "" | "success" | "exec-condition"),
        "enabled and active, and its last run has failed",
        &format!("Look why: systemctl status {SERVICE}, or run `vipswitch sync`."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handover_unit_that_is_not_active_is_told_unless_that_is_meant() {
        for (active, file, is_told) in [
            ("active", "static", false),
            ("inactive", "static", true),
            ("inactive", "masked", false),
            ("inactive", "", false),
        ] {
            let text = format!("Id={HANDOVER}\nActiveState={active}\nUnitFileState={file}\n");
            let verdict = handover(&Units::read(text));
            assert_eq!(verdict.is_some(), is_told, "{active} {file}");
        }
    }
}
