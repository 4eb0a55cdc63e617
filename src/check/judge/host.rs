//! The log, and the timer that keeps the VIP right.

use super::warning_if;
use crate::check::facts::Facts;
use crate::check::facts::units::{SERVICE, TIMER, Units};
use crate::check::finding::{Findings, Verdict, unknown, warning};

pub fn judge(facts: &Facts, findings: &mut Findings) {
    let log = warning_if(
        !facts.log_listens,
        "syslog cannot be reached (/dev/log): what the hook does goes to Sentinel's stderr, which is mostly lost",
        "Start journald or a syslog daemon; everyone has to be able to write to its socket.",
    );
    findings.add("log", "", log);
    findings.add("sync-timer", "", timer(facts.units.as_ref()));
}

fn timer(units: Option<&Units>) -> Verdict {
    const LOST: &str = "after a reboot or a network restart nothing brings the VIP back";
    let Some(units) = units else {
        return unknown(
            "systemd does not run here, or does not answer: have `vipswitch sync` run every 30 s in some other way",
        );
    };
    let enable = format!("systemctl enable --now {TIMER}");
    let Some(timer) = units.loaded(TIMER) else {
        let remedy = format!("Install the package's units, then: {enable}");
        return warning(format!("{TIMER} is not installed: {LOST}"), remedy);
    };
    if timer.get("ActiveState") != "active" || timer.get("UnitFileState") != "enabled" {
        return warning(format!("{TIMER} is not enabled and active: {LOST}"), enable);
    }
    let service = units.loaded(SERVICE)?;
    warning_if(
        !matches!(service.get("Result"), "" | "success" | "exec-condition"),
        "enabled and active, and its last run has failed",
        &format!("Look why: systemctl status {SERVICE}, or run `vipswitch sync`."),
    )
}
