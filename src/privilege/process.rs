//! A process as far as /proc tells: whose it is, and what it may do on the network.

use std::fs;

use super::{Capability, has};

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group, then the supplementary ones.
    pub gids: Vec<u32>,
    /// The text of its status: capabilities.
    status: String,
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
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mut gids = vec![*numbers(&status, "Gid").get(1)?];
        gids.extend(numbers(&status, "Groups"));
        Some(Process {
            pid,
            uid: *numbers(&status, "Uid").get(1)?,
            gids,
            status,
        })
    }

    /// Returns what a program that it starts lacks to move a VIP by itself. Root's programs keep what root has,
    /// another user's the ambient capabilities alone (capabilities(7)).
    pub fn lacks(&self) -> Option<String> {
        let set = match self.uid {
            0 => "CapEff",
            _ => "CapAmb",
        };
        match lacking(set, &self.status).as_slice() {
            [] if is_in_our_user_namespace(&self.pid.to_string()) => None,
            [] => Some("a user namespace in which its capabilities count (PrivateUsers=no)".into()),
            missing => Some(missing.join(" and ")),
        }
    }
}

/// Returns the capabilities that moving a VIP needs and that this set in a /proc/PID/status lacks.
pub fn lacking(name: &str, status: &str) -> Vec<String> {
    let needed = [Capability::NetAdmin, Capability::NetRaw].into_iter();
    let lacking = needed.filter(|capability| !has(*capability, name, status));
    lacking.map(|capability| capability.to_string()).collect()
}

/// Returns whether a process is in this process's user namespace, where alone its capabilities count here.
pub fn is_in_our_user_namespace(pid: &str) -> bool {
    let read = |who: &str| fs::read_to_string(format!("/proc/{who}/uid_map"));
    match (read(pid), read("self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

/// Returns the numbers of a line in the text of a /proc/PID/status.
fn numbers(status: &str, name: &str) -> Vec<u32> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let line = lines.find_map(|(key, rest)| (key == name).then_some(rest));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_user_that_it_started_as() {
        let own = Process::look(std::process::id()).unwrap();
        assert_eq!(own.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(own.gids[0], nix::unistd::getegid().as_raw());
        assert!(Process::sentinel(own.pid).is_none());
    }

    #[test]
    fn what_is_lacking_is_named() {
        let status = "CapEff:\t0000000000003000\nCapAmb:\t0000000000001000\n";
        assert!(lacking("CapEff", status).is_empty());
        assert_eq!(lacking("CapAmb", status), ["CAP_NET_RAW"]);
    }
}
