//! The process of a Redis of this host, as far as this host sees it. Its end shows earlier here than on its
//! connections where a child of it lives on: one that saves (BGSAVE) holds all connections of its parent open, so that
//! nobody on them is told that the Redis has died.

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    number: u32,
    /// Becomes readable once it has ended (pidfd_open(2), Linux 5.3).
    end: Option<AsyncFd<OwnedFd>>,
    has_ended: Cell<bool>,
}

impl Process {
    /// Returns the process with this number here. A Redis in a container tells another number, which means nothing
    /// here, or another program: [`Process::ended`] is no more than a reason to look. Must be called within a tokio
    /// runtime.
    pub(super) fn of(number: u32) -> Process {
        Process {
            number,
            end: end_of(number),
            has_ended: Cell::new(false),
        }
    }

    /// Returns its number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Waits for its end, and returns once: for ever where that is not seen, or was told already.
    pub(super) async fn ended(&self) {
        let Some(end) = self.end.as_ref().filter(|_| !self.has_ended.get()) else {
            return pending().await;
        };
        if end.readable().await.is_err() {
            return pending().await;
        }
        self.has_ended.set(true);
    }

    /// Returns whether it is seen to be a Redis that has not ended.
    pub(super) fn is_a_living_redis(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.number)) else {
            return false;
        };
        // `number (name) state ...` (proc_pid_stat(5)); a name may have spaces and brackets.
        let name = stat.split_once('(').map(|(_, rest)| rest);
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        let is_redis = |name: &str| ["redis", "valkey"].iter().any(|it| name.starts_with(it));
        name.is_some_and(is_redis) && state.is_some_and(|state| !state.starts_with(['Z', 'X']))
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor can change; an OwnedFd's does not"
)]
fn end_of(number: u32) -> Option<AsyncFd<OwnedFd>> {
    let number = Pid::from_raw(i32::try_from(number).ok()?)?;
    AsyncFd::new(pidfd_open(number, PidfdFlags::NONBLOCK).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Much longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_of_a_process_is_told_once() {
        let mut child = sleeper();
        let process = Process::of(child.id());
        let now = Duration::ZERO;
        assert!(timeout(now, process.ended()).await.is_err());
        child.kill().unwrap();
        // Before anybody has asked for its exit code, and afterwards.
        timeout(PATIENCE, process.ended()).await.unwrap();
        child.wait().unwrap();
        assert!(timeout(now, process.ended()).await.is_err());
        assert!(!process.is_a_living_redis());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_number_that_is_nobodys_has_no_end() {
        let mut child = sleeper();
        let number = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        let process = Process::of(number);
        assert!(timeout(Duration::ZERO, process.ended()).await.is_err());
        assert!(!process.is_a_living_redis());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn another_program_is_no_redis() {
        let process = Process::of(std::process::id());
        assert_eq!(process.number(), std::process::id());
        assert!(!process.is_a_living_redis());
    }
}
