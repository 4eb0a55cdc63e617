//! What systemd says of Sentinel's unit and of the timer, through one run of `systemctl show`,
//! which changes nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// The timer that keeps the VIP right between Sentinel's calls.
pub const TIMER: &str = "vipswitch-sync.timer";

/// The service that it starts.
pub const SERVICE: &str = "vipswitch-sync.service";

/// The units that a distribution's Sentinel has.
pub const USUAL: [&str; 2] = ["redis-sentinel.service", "valkey-sentinel.service"];

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,UnitFileState,Result,\
    RestrictAddressFamilies,SystemCallFilter,NoExecPaths,ExecPaths";

/// What systemd says of some units.
#[derive(Clone, Debug, Default)]
pub struct Units(pub String);

/// The lines about one unit.
pub struct Unit<'a>(&'a str);

impl Units {
    /// Asks about the timer and Sentinel's unit, or the usual ones where that is not known. `None`
    /// where systemd does not run or does not answer.
    pub async fn ask(sentinel: Option<&str>) -> Option<Units> {
        if !Path::new("/run/systemd/system").exists() {
            return None;
        }
        let mut command = Command::new("systemctl");
        command
            .args(["show", PROPERTIES, "--", TIMER, SERVICE])
            .args(sentinel)
            .args(USUAL.iter().filter(|_| sentinel.is_none()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let done = timeout(ANSWER, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8(done.stdout).ok()?;
        Some(Units(text)).filter(|units| !units.0.is_empty())
    }

    /// Returns a unit that systemd has told about and that is installed.
    pub fn loaded(&self, id: &str) -> Option<Unit<'_>> {
        let mut units = self.0.split("\n\n").map(Unit);
        units.find(|unit| unit.get("Id") == id && unit.get("LoadState") == "loaded")
    }
}

impl Unit<'_> {
    /// Returns a property, empty if systemd did not tell it.
    pub fn get(&self, key: &str) -> &str {
        let lines = self.0.lines().filter_map(|line| line.split_once('='));
        let mut values = lines.filter(|(name, _)| *name == key);
        values.next().map_or("", |(_, value)| value)
    }

    /// Returns those of `needed` that a list forbids: it allows what it names, or with `~` in front
    /// forbids it; an empty list forbids nothing.
    pub fn forbidden(&self, key: &str, needed: &str) -> String {
        let list = self.get(key);
        let names = |word: &str| {
            let mut words = list.trim_start_matches('~').split_whitespace();
            // A call may have the error behind it with which it fails.
            words.any(|one| one.split(':').next() == Some(word))
        };
        let forbids = |word: &&str| !list.is_empty() && names(word) == list.starts_with('~');
        let forbidden: Vec<&str> = needed.split_whitespace().filter(forbids).collect();
        forbidden.join(" ")
    }

    /// Returns whether the unit forbids to run this program (`NoExecPaths=`).
    pub fn forbids_to_run(&self, program: &Path) -> bool {
        let depth = |key: &str| {
            let paths = self.get(key).split_whitespace();
            let plain = paths.map(|path| Path::new(path.trim_start_matches(['-', '+'])));
            let covering = plain.filter(|path| program.starts_with(path));
            covering.map(|path| path.components().count()).max()
        };
        depth("NoExecPaths") > depth("ExecPaths")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_or_with_a_tilde_forbids() {
        let families = "AF_INET AF_NETLINK AF_PACKET";
        for (value, forbidden) in [
            ("", ""),
            ("none", families),
            ("~AF_PACKET:EPERM AF_X25", "AF_PACKET"),
            ("AF_INET AF_PACKET", "AF_NETLINK"),
        ] {
            let text = format!("Families={value}\n");
            let found = Unit(&text).forbidden("Families", families);
            assert_eq!(found, forbidden, "{value}");
        }
    }

    #[test]
    fn the_nearer_of_two_paths_decides_whether_a_program_runs() {
        let stock = Unit("NoExecPaths=/\nExecPaths=/usr/bin/redis-sentinel -/usr/lib +/lib\n");
        assert!(stock.forbids_to_run(Path::new("/usr/bin/vipswitch")));
        assert!(!stock.forbids_to_run(Path::new("/usr/lib/vipswitch/vipswitch")));
        assert!(!Unit("NoExecPaths=/srv\n").forbids_to_run(Path::new("/usr/bin/vipswitch")));
    }
}
