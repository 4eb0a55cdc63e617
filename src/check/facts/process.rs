//! What the running Sentinel's process hands on to the hook, as far as /proc tells.

use std::fs;
use std::path::{Path, PathBuf};

use crate::text::escape;

/// What a process hands on to the programs that it starts.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub pid: u32,
    /// The text of its status: capabilities, seccomp mode.
    pub status: String,
    /// Its effective user.
    pub uid: u32,
    /// Its effective and supplementary groups.
    pub gids: Vec<u32>,
    /// Whether its user namespace is this process's; unknown to a stranger.
    pub is_in_our_user_namespace: Option<bool>,
    /// The service of systemd that it belongs to.
    pub unit: Option<String>,
}

impl Process {
    /// Looks at the process that Sentinel says it is. `None` if that is not a Sentinel as seen from
    /// here: the number may be of another PID namespace.
    pub fn look(pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| fs::read_to_string(folder.join(name));
        if !read("cmdline").ok()?.contains("sentinel") {
            return None;
        }
        let status = read("status").ok()?;
        let user = fs::read_link(folder.join("ns/user")).ok();
        let own_user = fs::read_link(Path::new("/proc/self/ns/user")).ok();
        let mut gids = numbers(&status, "Groups");
        gids.extend(numbers(&status, "Gid").get(1));
        Some(Process {
            pid,
            uid: *numbers(&status, "Uid").get(1)?,
            gids,
            is_in_our_user_namespace: user.map(|user| Some(user) == own_user),
            unit: unit(&read("cgroup").unwrap_or_default()),
            status,
        })
    }

    /// Returns whether what it starts can have no more rights than it has (no_new_privs).
    pub fn has_no_new_privileges(&self) -> bool {
        numbers(&self.status, "NoNewPrivs").first() == Some(&1)
    }

    /// Returns whether it has a system call filter.
    pub fn is_filtered(&self) -> bool {
        numbers(&self.status, "Seccomp").first() == Some(&2)
    }
}

/// Returns the numbers of a line in the text of a /proc/PID/status.
fn numbers(status: &str, name: &str) -> Vec<u32> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find_map(|(key, rest)| (key == name).then_some(rest));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Returns the service in the text of a /proc/PID/cgroup.
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let is_systemds = matches!(parts.next()?, "" | "name=systemd");
        parts.next().filter(|_| is_systemds)
    });
    let parts = paths.flat_map(|path| path.split('/'));
    let mut services = parts.filter(|part| part.ends_with(".service"));
    services.next_back().map(escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_proc_are_read() {
        let both =
            "4:memory:/x.service\n1:name=systemd:/system.slice/system-redis.slice/a@b.service\n";
        for (text, expected) in [
            (
                "0::/system.slice/redis-sentinel.service\n",
                Some("redis-sentinel.service"),
            ),
            (both, Some("a@b.service")),
            ("0::/user.slice/session-1.scope\n", None),
        ] {
            assert_eq!(unit(text).as_deref(), expected);
        }
        let status = "Uid:\t1\t106\t106\t106\nGroups:\t8 9 \n";
        assert_eq!(numbers(status, "Uid"), [1, 106, 106, 106]);
        assert_eq!(numbers(status, "Groups"), [8, 9]);
        assert!(numbers(status, "Seccomp").is_empty());
    }
}
