//! What systemd says of this program's units and of Sentinel's, where it runs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// What runs the agent.
pub const AGENT: &str = "vipswitch-agent.service";

/// The timer that keeps the VIP right between Sentinel's calls where there is no agent.
pub const TIMER: &str = "vipswitch-sync.timer";

/// What [`TIMER`] starts.
pub const SERVICE: &str = "vipswitch-sync.service";

/// What hands over at a shutdown.
pub const HANDOVER: &str = "vipswitch-handover.service";

/// The units that a distribution's Sentinel has.
const SENTINELS: [&str; 2] = ["redis-sentinel.service", "valkey-sentinel.service"];

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What systemd says of some units: the properties of each between empty lines.
pub struct Units(String);

impl Units {
    /// Asks, through one run of `systemctl show`, which changes nothing. `None` where systemd does not run or does not answer.
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
            .args([AGENT, TIMER, SERVICE, HANDOVER].iter().chain(&SENTINELS))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let done = timeout(ANSWER, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8(done.stdout).ok()?;
        Some(Units::read(text)).filter(|units| !units.0.is_empty())
    }

    /// Reads what `systemctl show` has printed.
    pub fn read(text: String) -> Units {
        Units(text)
    }

    /// Returns a property, empty if systemd did not tell it.
    pub fn get(&self, unit: &str, key: &str) -> &str {
        let mut units = self.0.split("\n\n");
        let is_it = |line: &str| line.strip_prefix("Id=") == Some(unit);
        let unit = units.find(|unit| unit.lines().any(is_it));
        let mut lines = unit.unwrap_or_default().lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default()
    }

    /// Returns whether a unit is up, or about to be: `systemctl start` of a unit does not wait for those that it
    /// wants, so that they can be starting, or only have a job, when the next command runs.
    pub fn is_up(&self, unit: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_starts_or_is_about_to_is_up() {
        for (active, job, is_up) in [
            ("active", "", true),
            ("activating", "Job=41\n", true),
            ("inactive", "Job=41\n", true),
            ("inactive", "Job=0\n", false),
            ("inactive", "", false),
            ("deactivating", "Job=41\n", false),
            ("failed", "", false),
        ] {
            let text = format!("Id={HANDOVER}\nActiveState={active}\n{job}");
            assert_eq!(Units(text).is_up(HANDOVER), is_up, "{active} {job}");
        }
    }
}
