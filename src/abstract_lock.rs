//! Names in this network namespace, each of which one process has at a time: abstract Unix sockets
//! (unix(7)). A name needs no file and no writable folder, is the same for every sandbox in the
//! namespace, and is gone with its process however that died.
//!
//! Anybody may take a name. So the process that has a name is believed only if it is root's, this process's
//! own user's, or has CAP_NET_ADMIN here from a service manager: such a process could do worse.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket,
    sockopt,
};
use tokio::time::{sleep, timeout};

use crate::privilege::{self, Capability};

/// What all names begin with, as /proc/net/unix shows them.
const PREFIX: &str = "vipswitch";

/// How long a name may be held by a socket that nobody can connect to: a socket that is just
/// being made, or a stranger's. For who has no other lock to go by.
pub const UNANSWERED: Duration = Duration::from_millis(50);

/// How often a name is tried at least: the first time its holder may be just going.
const TRIES: u32 = 3;

/// How often is looked where the kernel gives no notice.
const PAUSE: Duration = Duration::from_millis(1);

/// A name that this process has until this is dropped.
pub struct Name(UnixListener);

/// What came of wanting a name.
pub enum Wanted {
    /// It is this process's now.
    Mine(Name),
    /// Somebody has it who is to be believed; the connection ends with its owner's hold.
    Held(UnixStream),
    /// Somebody has it whose word counts for nothing, or there are no such sockets here.
    Denied,
}

impl Name {
    /// Takes the name of `kind` and `which`, if nobody has it. A holder that cannot be reached may be just
    /// being made, for which this waits as long as `unanswered`.
    pub async fn want(kind: &str, which: &str, unanswered: Duration) -> Wanted {
        let name = format!("{PREFIX}/{kind}/{which}");
        let until = Instant::now() + unanswered;
        let mut tries = 0;
        loop {
            tries += 1;
            match SocketAddr::from_abstract_name(&name).and_then(|at| UnixListener::bind_addr(&at))
            {
                Ok(listener) => return Wanted::Mine(Name(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(_) => return Wanted::Denied,
            }
            match holder(&name) {
                Ok(stream) if is_trusted(&stream) => return Wanted::Held(stream),
                Ok(_) => return Wanted::Denied,
                // Between its bind and its listen, or it has just gone, or too many wait for it.
                Err(_) if tries < TRIES => {}
                Err(_) if Instant::now() < until => sleep(PAUSE).await,
                Err(_) => return Wanted::Denied,
            }
        }
    }

    /// Returns the socket on which others reach the holder. It does not block.
    ///
    /// # Errors
    ///
    /// None that is known; those of fcntl(2) and of the event loop.
    pub fn into_listener(self) -> io::Result<tokio::net::UnixListener> {
        self.0.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(self.0)
    }
}

/// Returns a connection to the process that has a name now, if any has, without waiting.
pub fn ask(kind: &str, which: &str) -> Option<UnixStream> {
    holder(&format!("{PREFIX}/{kind}/{which}"))
        .ok()
        .filter(is_trusted)
}

/// Returns the number of the process at the other end, if that is in this pid namespace.
pub fn process(stream: &impl AsFd) -> Option<i32> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    Some(peer.pid()).filter(|pid| *pid != 0)
}

/// Waits for the end of somebody's hold, for `patience` at most. Returns whether it came.
pub async fn ended(held: UnixStream, patience: Duration) -> bool {
    let Ok(held) = tokio::net::UnixStream::from_std(held) else {
        return false;
    };
    let end = async {
        // Nobody writes to it, so that whatever can be read is its end. Being ready is only a guess
        // until it was tried (tokio says so).
        while held.readable().await.is_ok() {
            match held.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    timeout(patience, end).await.is_ok()
}

fn holder(name: &str) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(fd.into())
}

/// Whether the process at the other end may be believed.
pub fn is_trusted(stream: &impl AsFd) -> bool {
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| may_be_believed(&peer))
}

fn may_be_believed(peer: &UnixCredentials) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    if [0, own].contains(&peer.uid()) {
        return true;
    }
    let pid = peer.pid().to_string();
    let status = || fs::read_to_string(format!("/proc/{pid}/status"));
    privilege::is_in_our_user_namespace(&pid)
        && status().is_ok_and(|status| is_given(peer.uid(), &status))
}

/// Whether /proc/PID/status is of a process of this user, and of no other in any respect, that has
/// CAP_NET_ADMIN as an ambient capability. A process that executed a program with more rights than its own
/// has lost its ambient capabilities (capabilities(7)); another user means that the pid is used again.
fn is_given(uid: u32, status: &str) -> bool {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let all_same = |uids: &str| uids.split_whitespace().all(|one| one.parse() == Ok(uid));
    uids.is_some_and(all_same) && privilege::has(Capability::NetAdmin, "CapAmb", status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ambient_capabilities_of_that_very_user_count() {
        let status = |uids: &str, effective: &str, ambient: &str| {
            format!("Name:\tx\nUid:\t{uids}\nCapEff:\t{effective}\nCapAmb:\t{ambient}\n")
        };
        let (all, none) = ("0000000000003000", "0000000000000000");
        assert!(is_given(110, &status("110\t110\t110\t110", all, all)));
        // A program with the set-user-ID bit, one with file capabilities, a pid that is used again.
        assert!(!is_given(110, &status("110\t0\t0\t0", all, none)));
        assert!(!is_given(110, &status("110\t110\t110\t110", all, none)));
        assert!(!is_given(110, &status("111\t111\t111\t111", all, all)));
        assert!(!is_given(110, ""));
    }
}
