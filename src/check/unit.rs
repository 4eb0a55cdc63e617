//! What systemd says: the Sentinel unit's sandbox, and the timer that keeps the VIP right. Asked
//! through one run of `systemctl show`, which changes nothing.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::finding::Findings;
use crate::text::escape;

/// The timer that keeps the VIP right between Sentinel's calls.
const TIMER: &str = "vipswitch-sync.timer";

/// What it starts.
const SERVICE: &str = "vipswitch-sync.service";

/// The units that a distribution's Sentinel has.
const USUAL: [&str; 2] = ["redis-sentinel.service", "valkey-sentinel.service"];

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,UnitFileState,Result,User,PrivateUsers,\
    CapabilityBoundingSet,AmbientCapabilities,RestrictAddressFamilies,SystemCallFilter,NoExecPaths,ExecPaths";

/// The system calls of a take-over that a filter most likely forbids.
const CALLS: [&str; 16] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept4",
    "sendto",
    "sendmsg",
    "recvfrom",
    "recvmsg",
    "getsockopt",
    "setsockopt",
    "flock",
    "execve",
    "clone3",
    "setsid",
    "setpgid",
];

/// The address families that a take-over uses.
const FAMILIES: [&str; 4] = ["AF_INET", "AF_UNIX", "AF_NETLINK", "AF_PACKET"];

/// What systemd says of some units.
#[derive(Debug, Default)]
pub struct Units(String);

impl Units {
    /// Asks about the timer and the Sentinel unit, or those that there usually are. `None` where
    /// systemd does not run or does not answer.
    pub fn ask(sentinel: Option<&str>) -> Option<Units> {
        if !Path::new("/run/systemd/system").exists() {
            return None;
        }
        let mut command = Command::new("systemctl");
        command.args(["show", PROPERTIES, TIMER, SERVICE]);
        match sentinel {
            Some(unit) => command.args(["--", unit]),
            None => command.args(USUAL),
        };
        output(command).map(Units)
    }

    fn unit(&self, id: &str) -> Option<Unit<'_>> {
        let is = |block: &&str| {
            block
                .lines()
                .any(|line| line.strip_prefix("Id=") == Some(id))
        };
        self.0.split("\n\n").find(is).map(Unit)
    }

    /// Judges the timer.
    pub fn judge_timer(units: Option<&Units>, findings: &mut Findings) {
        let Some(units) = units else {
            let why = "systemd does not run here, or does not answer: have `vipswitch sync` run every 30 s in some other way";
            return findings.unknown(&["sync-timer"], "", why);
        };
        let timer = units.unit(TIMER);
        let is = |key, value| timer.as_ref().is_some_and(|timer| timer.is_one(key, value));
        let remedy = format!("systemctl enable --now {TIMER}");
        let lost = "after a reboot or a network restart nothing brings the VIP back";
        if !is("LoadState", "loaded") {
            findings.warn(
                "sync-timer",
                "",
                format!("{TIMER} is not installed: {lost}"),
                format!("Install the package's units, then: {remedy}"),
            );
        } else if !is("ActiveState", "active") || !is("UnitFileState", "enabled") {
            let text = format!("{TIMER} is not enabled and active: {lost}");
            findings.warn("sync-timer", "", text, remedy);
        } else if units.unit(SERVICE).is_some_and(|service| {
            !matches!(service.get("Result"), "" | "success" | "exec-condition")
        }) {
            findings.warn(
                "sync-timer",
                "",
                "enabled and active, and its last run has failed",
                format!("Look why: systemctl status {SERVICE}, or run `vipswitch sync`."),
            );
        } else {
            findings.ok("sync-timer", "", "enabled and active");
        }
    }

    /// Judges what the unit of the running Sentinel forbids and /proc does not tell. `filtered` is
    /// whether its process has any filter at all.
    pub fn judge_filters(units: Option<&Units>, id: Option<&str>, findings: &mut Findings) {
        let checks = ["address-families", "seccomp"];
        let unit = id.and_then(|id| units.and_then(|units| units.unit(id)));
        match (unit, id) {
            (Some(unit), _) => unit.judge_filters(findings),
            (None, Some(_)) => findings.unknown(&checks, "", "systemd did not tell about Sentinel's unit"),
            (None, None) => findings.unknown(
                &checks[..1],
                "",
                "Sentinel has a system call filter and is no unit of systemd, so that nothing tells what it forbids",
            ),
        }
    }

    /// Judges the unit of a Sentinel that does not run, whose hook is to be `program`. Returns
    /// whether there is one.
    pub fn judge_stopped(units: Option<&Units>, program: &Path, findings: &mut Findings) -> bool {
        let mut found = false;
        let loaded = |id: &&str| {
            let unit = units?.unit(id)?;
            unit.is_one("LoadState", "loaded").then_some(unit)
        };
        for unit in USUAL.iter().filter_map(loaded) {
            unit.judge_filters(findings);
            unit.judge_privileges(findings);
            unit.judge_paths(program, findings);
            found = true;
        }
        found
    }
}

/// The lines about one unit.
struct Unit<'a>(&'a str);

impl Unit<'_> {
    fn get(&self, key: &str) -> &str {
        let value = |line: &'_ str| -> Option<usize> {
            line.strip_prefix(key)?
                .starts_with('=')
                .then_some(key.len() + 1)
        };
        let mut values = self
            .0
            .lines()
            .filter_map(|line| Some(&line[value(line)?..]));
        values.next().unwrap_or_default()
    }

    fn is_one(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    fn id(&self) -> String {
        escape(self.get("Id"))
    }

    /// Returns those of `needed` that a list forbids: it allows what it names, or with `~` in front
    /// forbids it; an empty one forbids nothing.
    fn forbidden(&self, key: &str, needed: &[&'static str]) -> Vec<&'static str> {
        let list = self.get(key);
        let names = |word: &str| {
            let mut words = list.trim_start_matches('~').split_whitespace();
            // A call may have the error behind it with which it fails.
            words.any(|one| one.split(':').next() == Some(word))
        };
        let forbids = |word: &str| !list.is_empty() && names(word) == list.starts_with('~');
        needed
            .iter()
            .copied()
            .filter(|word| forbids(word))
            .collect()
    }

    fn judge_filters(&self, findings: &mut Findings) {
        let id = self.id();
        let families = self.forbidden("RestrictAddressFamilies", &FAMILIES);
        if families.is_empty() {
            findings.ok("address-families", &id, "allows all that the hook uses");
        } else {
            findings.error(
                "address-families",
                &id,
                format!("forbids {}", families.join(" and ")),
                "Set RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET for this unit.",
            );
        }
        let calls = self.forbidden("SystemCallFilter", &CALLS);
        if calls.is_empty() {
            findings.ok("seccomp", &id, "allows the system calls that the hook uses");
        } else {
            findings.error(
                "seccomp",
                &id,
                format!("SystemCallFilter= forbids {}", calls.join(", ")),
                format!("Add to this unit: SystemCallFilter={}", calls.join(" ")),
            );
        }
    }

    fn judge_privileges(&self, findings: &mut Findings) {
        let id = self.id();
        let lacking = |key: &str| {
            let list = self.get(key).to_ascii_lowercase();
            let missing = |cap: &&str| !list.split_whitespace().any(|one| one == *cap);
            ["cap_net_admin", "cap_net_raw"].iter().any(missing)
        };
        let remedy = "Give this unit CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW and AmbientCapabilities= with the same.";
        let user = self.get("User");
        if lacking("CapabilityBoundingSet") {
            findings.error(
                "bounding-set",
                &id,
                "CapabilityBoundingSet= lacks what the hook needs",
                remedy,
            );
        } else if lacking("AmbientCapabilities") && !matches!(user, "" | "root" | "0") {
            findings.error(
                "capabilities",
                &id,
                "AmbientCapabilities= lacks what the hook needs",
                remedy,
            );
        }
        if !matches!(self.get("PrivateUsers"), "" | "no") {
            findings.error(
                "user-namespace",
                &id,
                "PrivateUsers= is set: no capability counts on this host's network",
                "Set PrivateUsers=no for this unit.",
            );
        }
    }

    fn judge_paths(&self, program: &Path, findings: &mut Findings) {
        let depth = |key: &str| {
            let paths = self.get(key).split_whitespace();
            let plain = paths.map(|path| Path::new(path.trim_start_matches(['-', '+'])));
            let covering = plain.filter(|path| program.starts_with(path));
            covering
                .map(|path| path.components().count())
                .max()
                .unwrap_or_default()
        };
        if depth("NoExecPaths") > depth("ExecPaths") {
            findings.error(
                "exec-paths",
                &self.id(),
                format!(
                    "NoExecPaths= forbids to run {}: Sentinel will not start with it",
                    program.display()
                ),
                format!("Give this unit ExecPaths={}", program.display()),
            );
        }
    }
}

/// Runs a command to its end, for [`ANSWER`] at most, and returns what it printed.
fn output(mut command: Command) -> Option<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let read = move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        text
    };
    let give_up = Instant::now() + ANSWER;
    let reading = thread::Builder::new().spawn(read).ok()?;
    while !reading.is_finished() && Instant::now() < give_up {
        thread::sleep(PAUSE);
    }
    let text = reading.is_finished().then(|| reading.join().ok()).flatten();
    // It has closed its stdout, or takes too long.
    let _ = child.kill();
    let _ = child.try_wait();
    String::from_utf8(text?)
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Error, Unknown, Warning};
    use super::*;

    const STOCK: &str = "Id=redis-sentinel.service\nLoadState=loaded\nUser=redis\nPrivateUsers=yes\n\
        CapabilityBoundingSet=\nAmbientCapabilities=\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
        SystemCallFilter=~_sysctl acct capset setuid\nNoExecPaths=/\nExecPaths=/usr/bin/redis-sentinel /usr/lib /lib\n";
    const DROP_IN: &str = "Id=redis-sentinel.service\nLoadState=loaded\nUser=redis\nPrivateUsers=no\n\
        CapabilityBoundingSet=cap_net_admin cap_net_raw\nAmbientCapabilities=cap_net_admin cap_net_raw\n\
        RestrictAddressFamilies=AF_PACKET AF_INET AF_INET6 AF_UNIX AF_NETLINK\n\
        SystemCallFilter=accept accept4 bind:EPERM clone3 connect execve flock getsockopt listen recvfrom recvmsg sendmsg sendto setpgid setsid setsockopt socket\n\
        NoExecPaths=/\nExecPaths=/usr/bin/redis-sentinel +/usr/local/bin/vipswitch\n";

    fn judged(judge: impl FnOnce(&mut Findings)) -> Vec<(&'static str, super::super::Level)> {
        let mut findings = Findings::default();
        judge(&mut findings);
        findings.wrong()
    }

    #[test]
    fn the_stock_unit_is_told_line_by_line_and_the_drop_in_is_enough() {
        let stopped = |text: &str, program: &str| {
            let units = Units(text.to_owned());
            judged(|findings| {
                Units::judge_stopped(Some(&units), Path::new(program), findings);
            })
        };
        let here = "/usr/local/bin/vipswitch";
        let wrong = [
            "address-families",
            "bounding-set",
            "user-namespace",
            "exec-paths",
        ];
        assert_eq!(stopped(STOCK, here), wrong.map(|check| (check, Error)));
        assert_eq!(
            stopped(STOCK, "/usr/lib/vipswitch/vipswitch"),
            wrong[..3]
                .iter()
                .map(|check| (*check, Error))
                .collect::<Vec<_>>()
        );
        assert_eq!(stopped(DROP_IN, here), []);
        let ambient = DROP_IN.replace("AmbientCapabilities=cap_net_admin ", "AmbientCapabilities=");
        assert_eq!(stopped(&ambient, here), [("capabilities", Error)]);
        assert_eq!(stopped(&ambient.replace("User=redis", "User="), here), []);
        let calls = DROP_IN.replace(" flock", "");
        assert_eq!(stopped(&calls, here), [("seccomp", Error)]);
        assert_eq!(stopped("", here), []);
    }

    #[test]
    fn a_list_allows_or_with_a_tilde_forbids() {
        for (value, forbidden) in [
            ("", vec![]),
            ("none", FAMILIES.to_vec()),
            ("~AF_PACKET AF_X25", vec!["AF_PACKET"]),
            ("AF_INET AF_UNIX AF_PACKET", vec!["AF_NETLINK"]),
        ] {
            let text = format!("Id=x\nRestrictAddressFamilies={value}\n");
            assert_eq!(
                Unit(&text).forbidden("RestrictAddressFamilies", &FAMILIES),
                forbidden
            );
        }
    }

    #[test]
    fn the_timer_has_to_be_enabled_and_active() {
        let timer = |rest: &str| {
            let units = Units(format!(
                "Id=x.service\nLoadState=loaded\n\nId={TIMER}\n{rest}"
            ));
            judged(|findings| Units::judge_timer(Some(&units), findings))
        };
        assert_eq!(
            timer("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"),
            []
        );
        assert_eq!(
            timer("LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n"),
            [("sync-timer", Warning)]
        );
        assert_eq!(
            timer("LoadState=not-found\nActiveState=inactive\n"),
            [("sync-timer", Warning)]
        );
        assert_eq!(
            judged(|findings| Units::judge_timer(None, findings)),
            [("sync-timer", Unknown)]
        );
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        assert_eq!(output(sleep), None);
        let mut echo = Command::new("echo");
        echo.arg("x");
        assert_eq!(output(echo).as_deref(), Some("x\n"));
        assert_eq!(output(Command::new("/nonexistent")), None);
    }
}
