//! The process of the running Sentinel, or of the agent, as far as /proc tells.

use std::fs;

use crate::privilege::{Capability, has};
use crate::trusted_file::access::User;

/// A process whose user has to read and to run files.
pub struct Process {
    pub user: User,
    /// The text of its status: capabilities.
    status: String,
    /// Whether its user namespace is this process's.
    is_in_our_user_namespace: bool,
}

impl Process {
    /// Looks at the process that Sentinel says it is. `None` if that is not a Sentinel as seen from here: the
    /// number may be of another PID namespace.
    pub fn sentinel(pid: u32) -> Option<Process> {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        Process::look(pid).filter(|_| line.contains("sentinel"))
    }

    /// Looks at a process.
    pub fn look(pid: u32) -> Option<Process> {
        let read = |of: &str, name| fs::read_to_string(format!("/proc/{of}/{name}")).ok();
        let status = read(&pid.to_string(), "status")?;
        let mut gids = vec![*numbers(&status, "Gid").get(1)?];
        gids.extend(numbers(&status, "Groups"));
        Some(Process {
            user: User {
                pid,
                uid: *numbers(&status, "Uid").get(1)?,
                gids,
            },
            is_in_our_user_namespace: read(&pid.to_string(), "uid_map") == read("self", "uid_map"),
            status,
        })
    }

    /// Returns what a program that it starts lacks to move a VIP by itself. Root's programs keep what root has,
    /// another user's the ambient capabilities alone (capabilities(7)).
    pub fn lacks(&self) -> Option<String> {
        let set = if self.user.uid == 0 {
            "CapEff"
        } else {
            "CapAmb"
        };
        let needed = [Capability::NetAdmin, Capability::NetRaw].into_iter();
        let missing = needed.filter(|capability| !has(*capability, set, &self.status));
        let missing: Vec<String> = missing.map(|capability| capability.to_string()).collect();
        match missing.as_slice() {
            [] if self.is_in_our_user_namespace => None,
            [] => Some("a user namespace in which its capabilities count (PrivateUsers=no)".into()),
            _ => Some(missing.join(" and ")),
        }
    }
}

/// Returns the numbers of a line in the text of a /proc/PID/status.
fn numbers(status: &str, name: &str) -> Vec<u32> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find_map(|(key, rest)| (key == name).then_some(rest));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}
