//! What the running Sentinel's process hands on to the hook: capabilities, namespaces, a seccomp
//! filter, a security context. Read from /proc, judged without asking the kernel anything else.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Findings;
use crate::privilege::Capability;
use crate::text::escape;

/// What a process hands on to what it starts, as far as /proc tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective and supplementary groups.
    pub gids: Vec<u32>,
    permitted: u64,
    bounding: u64,
    ambient: u64,
    no_new_privileges: bool,
    seccomp: u8,
    /// Its user and network namespaces, and whether they are this process's: unknown to a
    /// stranger.
    user_namespace: Option<bool>,
    network_namespace: Option<bool>,
    /// Its security context, where a security module gives one.
    context: String,
    /// Whether the security module enforces its rules.
    enforcing: bool,
    /// The service of systemd that it belongs to.
    pub unit: Option<String>,
    /// Its mounts, unless this process may not see them.
    pub mounts: Option<String>,
}

/// The checks that are about Sentinel's process.
pub const CHECKS: [&str; 9] = [
    "config-readable",
    "bounding-set",
    "capabilities",
    "no-new-privileges",
    "network-namespace",
    "user-namespace",
    "seccomp",
    "address-families",
    "selinux",
];

impl Process {
    /// Looks at the process of this number. `None` if there is none.
    pub fn look(pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let mut process = Process::parse(&read("status").ok()?)?;
        let same = |name: &str| {
            let theirs = fs::read_link(folder.join(name)).ok()?;
            Some(theirs == fs::read_link(Path::new("/proc/self").join(name)).ok()?)
        };
        process.pid = pid;
        process.user_namespace = same("ns/user");
        process.network_namespace = same("ns/net");
        process.context = read("attr/current").unwrap_or_default();
        process.enforcing = fs::read("/sys/fs/selinux/enforce").is_ok_and(|text| text == b"1");
        process.unit = unit(&read("cgroup").unwrap_or_default());
        process.mounts = read("mountinfo").ok();
        Some(process)
    }

    /// Reads the text of a /proc/PID/status.
    fn parse(status: &str) -> Option<Process> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(':').map(str::trim)
        };
        let set = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let second = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
        let supplementary = field("Groups").unwrap_or_default().split_whitespace();
        let mut gids: Vec<u32> = supplementary.filter_map(|gid| gid.parse().ok()).collect();
        gids.extend(second("Gid"));
        Some(Process {
            uid: second("Uid")?,
            gids,
            permitted: set("CapPrm")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb").unwrap_or_default(),
            no_new_privileges: field("NoNewPrivs") == Some("1"),
            seccomp: field("Seccomp")
                .and_then(|mode| mode.parse().ok())
                .unwrap_or_default(),
            ..Process::default()
        })
    }

    /// Whether no filter keeps any system call or address family from the hook.
    pub fn is_unfiltered(&self) -> bool {
        self.seccomp == 0
    }

    /// Returns which capabilities a program lacks that it starts: root's programs keep what root
    /// has itself, any other user's the ambient ones alone (capabilities(7)).
    fn lacking(&self, set: u64) -> Vec<String> {
        let needed = [Capability::NetAdmin, Capability::NetRaw];
        let lacking = needed
            .iter()
            .filter(|capability| set >> **capability as u64 & 1 == 0);
        lacking.map(ToString::to_string).collect()
    }

    /// Judges what it hands on.
    pub fn judge(&self, findings: &mut Findings) {
        self.judge_capabilities(findings);
        self.judge_namespaces(findings);
        if self.no_new_privileges {
            let text = "set: sudo, setuid and file capabilities give the hook nothing, ambient capabilities do";
            findings.ok("no-new-privileges", "", text);
        } else {
            findings.ok("no-new-privileges", "", "not set");
        }
        match self.seccomp {
            0 => findings.ok("seccomp", "", "Sentinel has no system call filter"),
            // With a unit its SystemCallFilter= is judged instead.
            2 if self.unit.is_some() => {}
            2 => findings.unknown(
                &["seccomp"],
                "",
                "Sentinel has a system call filter, and nothing tells what it forbids",
            ),
            _ => findings.error(
                "seccomp",
                "",
                "Sentinel may make hardly any system call (strict seccomp)",
                "Start it without.",
            ),
        }
        let confined = self.context.contains(":redis_t:");
        match (confined, self.enforcing) {
            (true, true) => findings.error(
                "selinux",
                "",
                "SELinux runs Sentinel as redis_t, which may not change addresses nor open packet sockets",
                "Load a policy that gives redis_t net_admin, net_raw and packet_socket (ausearch -m avc | audit2allow), or make it permissive: semanage permissive -a redis_t",
            ),
            (true, false) => findings.warn(
                "selinux",
                "",
                "SELinux would forbid redis_t the hook's work, and is permissive now",
                "Load a policy that gives redis_t net_admin, net_raw and packet_socket before it enforces again.",
            ),
            _ => findings.ok("selinux", "", "does not confine Sentinel as redis_t"),
        }
    }

    fn judge_capabilities(&self, findings: &mut Findings) {
        let unbounded = self.lacking(self.bounding);
        if !unbounded.is_empty() {
            findings.error(
                "bounding-set",
                "",
                format!(
                    "{} cannot be had by anything that Sentinel starts",
                    unbounded.join(" and ")
                ),
                "Under systemd give the Sentinel unit CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW and AmbientCapabilities= with the same.",
            );
            return findings.unknown(
                &["capabilities"],
                "",
                "the bounding set has to allow them first",
            );
        }
        findings.ok("bounding-set", "", "allows CAP_NET_ADMIN and CAP_NET_RAW");
        let of_root = self.uid == 0;
        let handed_on = if of_root {
            self.permitted | self.ambient
        } else {
            self.ambient
        };
        let lacking = self.lacking(handed_on);
        if lacking.is_empty() {
            let how = if of_root {
                "Sentinel runs as root"
            } else {
                "ambient"
            };
            return findings.ok("capabilities", "", format!("the hook gets them: {how}"));
        }
        findings.error(
            "capabilities",
            "",
            format!("the hook would run without {}", lacking.join(" and ")),
            "Under systemd give the Sentinel unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; otherwise run Sentinel as root.",
        );
    }

    fn judge_namespaces(&self, findings: &mut Findings) {
        match self.network_namespace {
            Some(false) => findings.error(
                "network-namespace",
                "",
                "Sentinel is in another network namespace, so that its hook changes other addresses than these",
                format!("Run this check there: nsenter --net=/proc/{}/ns/net vipswitch check", self.pid),
            ),
            Some(true) => findings.ok("network-namespace", "", "Sentinel's is this one"),
            None => findings.unknown(&["network-namespace"], "", NOT_SEEN),
        }
        match self.user_namespace {
            Some(true) => findings.ok("user-namespace", "", "Sentinel's is this one"),
            Some(false) => findings.error(
                "user-namespace",
                "",
                "Sentinel is in a user namespace of its own, in which no capability counts on this host's network",
                "Under systemd set PrivateUsers=no for the Sentinel unit.",
            ),
            None => findings.unknown(&["user-namespace"], "", NOT_SEEN),
        }
    }
}

/// Why something about Sentinel's process could not be told.
pub const NOT_SEEN: &str = "Sentinel's process may not be looked at: run this as root";

/// Returns the service in the text of a /proc/PID/cgroup.
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        matches!(controllers, "" | "name=systemd")
            .then(|| parts.next())
            .flatten()
    });
    let mut services = paths
        .flat_map(|path| path.split('/'))
        .filter(|part| part.ends_with(".service"));
    services.next_back().map(escape)
}

/// Returns the number of the process that listens on this port as a Sentinel: `told` by Sentinel
/// itself if that is one, as seen from here, else the one whose title says so.
pub fn find(told: Option<u32>, port: u16) -> Option<u32> {
    let title = |pid: u32| {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&title).replace('\0', " ")
    };
    let is_sentinel = |pid: &u32| title(*pid).contains("sentinel");
    let listens = |pid: &u32| {
        let title = title(*pid);
        title.contains("[sentinel]") && title.contains(&format!(":{port} "))
    };
    told.filter(is_sentinel).or_else(|| pids().find(listens))
}

/// Returns the numbers of all processes.
fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns whether a process of this name runs. The kernel keeps 15 characters of it.
pub fn runs(name: &str) -> bool {
    let name = &name[..name.len().min(15)];
    pids().any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Error, Unknown, Warning};
    use super::*;

    /// A status with these values of Uid, CapPrm, CapBnd, CapAmb and Seccomp.
    fn process(uid: u32, permitted: u64, bounding: u64, ambient: u64, seccomp: u8) -> Process {
        let status = format!(
            "Name:\tredis-sentinel\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t7\t7\t7\t7\nGroups:\t8 9 \n\
             CapInh:\t0\nCapPrm:\t{permitted:016x}\nCapEff:\t{permitted:016x}\nCapBnd:\t{bounding:016x}\n\
             CapAmb:\t{ambient:016x}\nNoNewPrivs:\t1\nSeccomp:\t{seccomp}\n"
        );
        Process {
            user_namespace: Some(true),
            network_namespace: Some(true),
            ..Process::parse(&status).unwrap()
        }
    }

    #[test]
    fn what_the_hook_lacks_is_named_once() {
        let (all, net) = (0x1ff_ffff_ffff, 0x3000);
        for (process, wrong) in [
            (process(0, all, all, 0, 0), vec![]),
            (process(106, net, net, net, 0), vec![]),
            (process(106, 0, net, 0, 0), vec![("capabilities", Error)]),
            (process(106, net, all, 0, 0), vec![("capabilities", Error)]),
            (
                process(106, 0x1000, net, 0x1000, 0),
                vec![("capabilities", Error)],
            ),
            (
                process(0, 0, 0, 0, 0),
                vec![("bounding-set", Error), ("capabilities", Unknown)],
            ),
            // SECBIT_NOROOT, or no_new_privs after root gave them up.
            (process(0, 0, all, 0, 0), vec![("capabilities", Error)]),
            (process(0, all, all, 0, 2), vec![("seccomp", Unknown)]),
            (process(0, all, all, 0, 1), vec![("seccomp", Error)]),
        ] {
            let mut findings = Findings::default();
            process.judge(&mut findings);
            assert_eq!(findings.wrong(), wrong, "{process:?}");
        }
    }

    #[test]
    fn namespaces_and_selinux_are_named() {
        let well = process(0, u64::MAX, u64::MAX, 0, 0);
        let context = "system_u:system_r:redis_t:s0\0".to_owned();
        for (process, wrong) in [
            (
                Process {
                    user_namespace: Some(false),
                    ..well.clone()
                },
                ("user-namespace", Error),
            ),
            (
                Process {
                    user_namespace: None,
                    ..well.clone()
                },
                ("user-namespace", Unknown),
            ),
            (
                Process {
                    network_namespace: Some(false),
                    ..well.clone()
                },
                ("network-namespace", Error),
            ),
            (
                Process {
                    context: context.clone(),
                    enforcing: true,
                    ..well.clone()
                },
                ("selinux", Error),
            ),
            (
                Process {
                    context,
                    ..well.clone()
                },
                ("selinux", Warning),
            ),
        ] {
            let mut findings = Findings::default();
            process.judge(&mut findings);
            assert_eq!(findings.wrong(), [wrong], "{process:?}");
        }
    }

    #[test]
    fn the_service_is_found_in_both_kinds_of_cgroup() {
        for (text, expected) in [
            (
                "0::/system.slice/redis-sentinel.service\n",
                Some("redis-sentinel.service"),
            ),
            (
                "4:memory:/x.service\n1:name=systemd:/system.slice/system-redis.slice/redis-sentinel@a.service\n",
                Some("redis-sentinel@a.service"),
            ),
            ("0::/user.slice/session-1.scope\n", None),
            ("", None),
        ] {
            assert_eq!(unit(text).as_deref(), expected);
        }
    }

    #[test]
    fn a_status_without_capabilities_is_none() {
        assert_eq!(Process::parse("Name:\tx\nUid:\t0\t0\t0\t0\n"), None);
        let groups = process(0, 0, 0, 0, 0).gids;
        assert_eq!(groups, [8, 9, 7]);
    }
}
