//! The files of the agent's socket: the lock beside it, which one agent has at a time, and the socket itself,
//! for root, the agent's user and a group. Something else may remove them, and with the lock's file the lock is nobody's.

use std::fs::{self, DirBuilder, File as LockFile, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use tokio::net::UnixListener;

use crate::exit::Fault;
use crate::text::escape;

/// The groups of Sentinel's user, as the packages of Redis and Valkey call them.
const GROUPS: [&str; 2] = ["redis", "valkey"];

/// Where groups are. Not by getgrnam(3), for which glibc loads shared objects, which a static executable must not.
const GROUP_FILE: &str = "/etc/group";

/// How many askers may wait in the kernel's queue.
const WAITING: i32 = 128;

/// The socket and its lock, until this is dropped.
pub(super) struct File {
    pub(super) listener: Rc<UnixListener>,
    path: PathBuf,
    group: Option<String>,
    /// Which file the socket is.
    socket: Option<Inode>,
    /// Held for life; the kernel gives it back however this process ends.
    lock: Flock<LockFile>,
}

/// Which file stands at a path: its device and its number there.
type Inode = (u64, u64);

fn inode(of: &io::Result<Metadata>) -> Option<Inode> {
    of.as_ref().ok().map(|of| (of.dev(), of.ino()))
}

fn inode_at(path: &Path) -> Option<Inode> {
    inode(&fs::symlink_metadata(path))
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Unlocked {
    /// Another agent has it.
    Another(Fault),
    /// It cannot be made.
    Failed(Fault),
}

impl From<Unlocked> for Fault {
    fn from(unlocked: Unlocked) -> Fault {
        match unlocked {
            Unlocked::Another(fault) | Unlocked::Failed(fault) => fault,
        }
    }
}

impl File {
    /// Makes the socket at `path` for this group, and says why the group cannot have it. Does not block.
    pub(super) fn make(path: &Path, group: Option<&str>) -> Result<(File, Option<Fault>), Fault> {
        let lock = lock(&lock_of(path))?;
        let (listener, warning) = bind_at(path, group)?;
        let file = File {
            listener,
            path: path.to_owned(),
            group: group.map(str::to_owned),
            socket: inode_at(path),
            lock,
        };
        Ok((file, warning))
    }

    /// Returns whether both files are where they were made. Two system calls.
    pub(super) fn is_in_place(&self) -> bool {
        self.has_lock() && self.socket.is_some() && inode_at(&self.path) == self.socket
    }

    fn has_lock(&self) -> bool {
        let own = inode(&self.lock.metadata());
        own.is_some() && inode_at(&lock_of(&self.path)) == own
    }

    /// Makes anew what is not in place, as [`File::make`] does, and the folder.
    pub(super) fn make_anew(&mut self) -> Result<Option<Fault>, Unlocked> {
        if !self.has_lock() {
            // The lock's error says where it cannot be.
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            let _ = DirBuilder::new().mode(0o755).create(folder);
            self.lock = lock(&lock_of(&self.path))?;
        }
        let made = bind_at(&self.path, self.group.as_deref());
        let (listener, warning) = made.map_err(Unlocked::Failed)?;
        self.listener = listener;
        self.socket = inode_at(&self.path);
        Ok(warning)
    }
}

impl Drop for File {
    /// An asker that finds no file need not try. Another agent's stays.
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock_of(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

fn bind_at(path: &Path, group: Option<&str>) -> Result<(Rc<UnixListener>, Option<Fault>), Fault> {
    // Beside it first, so that nobody meets a socket that is not ready.
    let new = path.with_extension("new");
    let made = make(&new, group).and_then(|(listener, warning)| {
        fs::rename(&new, path)?;
        Ok((UnixListener::from_std(listener)?.into(), warning))
    });
    made.map_err(|error| {
        let shown = path.display();
        Fault::passing(format!("cannot make the agent's socket {shown}: {error}"))
    })
}

/// Nobody can connect before listen(2): by then the socket is its group's and nobody else's.
fn make(new: &Path, group: Option<&str>) -> io::Result<(Listener, Option<Fault>)> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(new)?)?;
    let warning = give_to_group(new, group).err();
    fs::set_permissions(new, fs::Permissions::from_mode(0o660))?;
    listen(&fd, Backlog::new(WAITING)?)?;
    Ok((fd.into(), warning))
}

/// Gives the socket to the group of Sentinel's user.
fn give_to_group(socket: &Path, group: Option<&str>) -> Result<(), Fault> {
    let text = fs::read_to_string(GROUP_FILE).unwrap_or_default();
    let wanted = group.map_or(GROUPS.to_vec(), |group| vec![group]);
    let alone = "only root and the agent's user can reach the agent, Sentinel's call cannot";
    let Some((name, gid)) = find(&text, &wanted) else {
        let names: Vec<String> = wanted.iter().map(|name| escape(name)).collect();
        return Err(Fault::permanent(format!(
            "{alone}: {GROUP_FILE} has no group {}",
            names.join(" or ")
        ))
        .remedy(
            "Name the group of Sentinel's user: socket_group under [agent], and restart the agent.",
        ));
    };
    chown(socket, None, Some(gid)).map_err(|error| {
        Fault::permanent(format!(
            "{alone}: cannot give {} to the group {name}: {error}",
            socket.display()
        ))
        .remedy(format!(
            "Make the agent's user a member of that group, `usermod -a -G {name} vipswitch`, and restart the agent."
        ))
    })
}

/// Returns the first of these groups that group(5) `text` has, and its number.
fn find<'a>(text: &str, wanted: &[&'a str]) -> Option<(&'a str, u32)> {
    wanted.iter().find_map(|name| {
        let mut lines = text.lines();
        let gid = lines.find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
            [group, _, gid, ..] if group == *name => gid.parse().ok(),
            _ => None,
        })?;
        Some((*name, gid))
    })
}

/// Takes the lock that one agent has at a time, and writes its process's number there.
fn lock(path: &Path) -> Result<Flock<LockFile>, Unlocked> {
    let shown = path.display();
    let failed = |error: &dyn std::fmt::Display| format!("cannot take the lock {shown}: {error}");
    let mut options = LockFile::options();
    // For its owner alone: a user who can open it could hold the lock.
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let opened = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Fault::permanent(failed(&error)).remedy(format!(
            "An agent of another user has left it, or holds it: end that agent, then remove {shown}."
        )),
        io::ErrorKind::NotFound => Fault::permanent(failed(&error)).remedy(
            "Make its folder; the service vipswitch-agent does so itself (RuntimeDirectory=vipswitch).",
        ),
        _ => Fault::passing(failed(&error)),
    });
    let file = file.map_err(Unlocked::Failed)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
        |(file, errno)| match errno {
            Errno::EWOULDBLOCK => Unlocked::Another(another(&file)),
            errno => Unlocked::Failed(Fault::passing(failed(&errno))),
        },
    )?;
    // For people, and for the next agent's message.
    let _ = lock.set_len(0);
    let _ = lock.write_all(format!("{}\n", std::process::id()).as_bytes());
    Ok(lock)
}

/// Returns the fault that another agent is at work.
fn another(lock: &LockFile) -> Fault {
    let mut text = String::new();
    let _ = lock.take(20).read_to_string(&mut text);
    let pid = match text.trim().parse::<u32>() {
        Ok(pid) => format!(" (pid {pid})"),
        Err(_) => String::new(),
    };
    Fault::permanent(format!("another agent{pid} is at work on this host")).remedy(
        "Ask it with `vipswitch status`; to have this one instead, stop that one: systemctl stop vipswitch-agent",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_first_wanted_one_that_there_is() {
        let text = "root:x:0:\nvalkey:x:112:a,b\nredis:x:111:\nbad:x:\n";
        assert_eq!(find(text, &GROUPS), Some(("redis", 111)));
        assert_eq!(find("valkey:x:112:\n", &GROUPS), Some(("valkey", 112)));
        assert_eq!(find(text, &["bad"]), None);
        assert_eq!(find(text, &["red"]), None);
    }
}
