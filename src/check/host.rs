//! The log, and what systemd says: whether Sentinel's unit lets the hook run, and what keeps the VIP right where
//! there is no agent. Through one run of `systemctl show`, which changes nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::Known;
use crate::log;
use crate::report::finding::{Findings, Verdict, unknown, warning, warning_if};

/// The timer that keeps the VIP right between Sentinel's calls, and the service that it starts.
const TIMER: &str = "vipswitch-sync.timer";
const SERVICE: &str = "vipswitch-sync.service";

/// What hands over at a shutdown.
const HANDOVER: &str = "vipswitch-handover.service";

/// The units that a distribution's Sentinel has.
const SENTINELS: [&str; 2] = ["redis-sentinel.service", "valkey-sentinel.service"];

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What systemd says of some units: the properties of each between empty lines.
pub struct Units(String);

impl Units {
    /// Asks. `None` where systemd does not run or does not answer.
    pub async fn ask() -> Option<Units> {
        if !Path::new("/run/systemd/system").exists() {
            return None;
        }
        let mut command = Command::new("systemctl");
        command
            .args([
                "show",
                "--property=Id,ActiveState,Job,UnitFileState,Result,NoExecPaths,ExecPaths",
            ])
            .args([TIMER, SERVICE, HANDOVER].iter().chain(&SENTINELS))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let done = timeout(ANSWER, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8(done.stdout).ok()?;
        Some(Units(text)).filter(|units| !units.0.is_empty())
    }

    /// Returns a property, empty if systemd did not tell it.
    fn get(&self, unit: &str, key: &str) -> &str {
        let mut units = self.0.split("\n\n");
        let is_it = |line: &str| line.strip_prefix("Id=") == Some(unit);
        let unit = units.find(|unit| unit.lines().any(is_it));
        let mut lines = unit.unwrap_or_default().lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default()
    }

    /// Returns whether a unit is up, or about to be: `systemctl start` of a unit does not wait for those that it
    /// wants, so that they can be starting, or only have a job, when the next command runs.
    fn is_up(&self, unit: &str) -> bool {
        match self.get(unit, "ActiveState") {
            "active" | "reloading" | "activating" => true,
            "inactive" => !matches!(self.get(unit, "Job"), "" | "0"),
            _ => false,
        }
    }

    /// Returns whether a Sentinel's unit forbids to run this program: the nearer of two paths counts.
    pub fn forbid_to_run(&self, program: &Path) -> bool {
        let depth = |unit, key| {
            let paths = self.get(unit, key).split_whitespace();
            let plain = paths.map(|path| Path::new(path.trim_start_matches(['-', '+'])));
            let covering = plain.filter(|path| program.starts_with(path));
            covering.map(|path| path.components().count()).max()
        };
        let mut units = SENTINELS.iter();
        units.any(|unit| depth(unit, "NoExecPaths") > depth(unit, "ExecPaths"))
    }
}

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
        for (active, job, file, is_told) in [
            ("active", "", "static", false),
            ("activating", "Job=41\n", "static", false),
            ("inactive", "Job=41\n", "static", false),
            ("inactive", "Job=0\n", "static", true),
            ("inactive", "", "static", true),
            ("deactivating", "Job=41\n", "static", true),
            ("failed", "", "static", true),
            ("inactive", "", "masked", false),
            ("inactive", "", "", false),
        ] {
            let text = format!("Id={HANDOVER}\nActiveState={active}\n{job}UnitFileState={file}\n");
            assert_eq!(
                handover(&Units(text)).is_some(),
                is_told,
                "{active} {job} {file}"
            );
        }
    }
}
