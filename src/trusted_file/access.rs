//! Whether the user of a process can read or run a file, or connect to a socket: modes, mounts and file
//! capabilities, seen from the root of that process.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::privilege::Process;

/// The user of a process.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The process.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group, then the supplementary ones.
    pub gids: Vec<u32>,
}

impl From<&Process> for User {
    fn from(of: &Process) -> User {
        User {
            pid: of.pid,
            uid: of.uid,
            gids: of.gids.clone(),
        }
    }
}

/// What is wanted of a file: the bit of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read = 4,
    /// To connect to it: that needs the right to write to it (unix(7)).
    Connect = 2,
    /// To run it, or to pass through a folder.
    Run = 1,
}

/// Returns the device and inode of a file.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Returns whether a user may do this with a file of this owner, group and mode (inode_permission
/// in the kernel's fs/namei.c, without access control lists): root may do all but run what nobody may run.
fn may(user: &User, (uid, gid, mode): (u32, u32, u32), want: Want) -> bool {
    let is_folder = mode & 0o170_000 == 0o040_000;
    let bits = match user.uid {
        0 if want != Want::Run || is_folder => return true,
        0 => return mode & 0o111 != 0,
        own if own == uid => mode >> 6,
        _ if user.gids.contains(&gid) => mode >> 3,
        _ => mode,
    };
    bits & want as u32 != 0
}

/// Returns `path` as the process sees it, if this process may look through its root.
fn seen(user: &User, path: &Path) -> Option<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root", user.pid));
    fs::metadata(root.join(".")).ok()?;
    Some(root.join(path.strip_prefix("/").ok()?))
}

/// Returns the same, or `path` as this process sees it.
fn through(user: &User, path: &Path) -> PathBuf {
    seen(user, path).unwrap_or_else(|| path.to_owned())
}

/// Returns a path without symbolic links: an absolute one would lead out of another root.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns why a user cannot do this with a file, if it cannot. The folders come first, from the root on.
pub fn obstacle(user: &User, path: &Path, want: Want) -> Option<String> {
    let real = real(path);
    let mut steps: Vec<&Path> = real.ancestors().collect();
    steps.reverse();
    steps.into_iter().find_map(|step| {
        let shown = step.display();
        let file = match fs::metadata(through(user, step)) {
            Ok(file) => file,
            Err(error) => return Some(format!("{shown}: {error}")),
        };
        let kind = file.file_type();
        let (want, verb) = match (step == real, want) {
            (false, _) => (Want::Run, "pass"),
            (true, Want::Connect) if !kind.is_socket() => {
                return Some(format!("{shown} is not a socket"));
            }
            (true, Want::Read | Want::Run) if !kind.is_file() => {
                return Some(format!("{shown} is not a regular file"));
            }
            (true, Want::Read) => (want, "read"),
            (true, Want::Connect) => (want, "connect to"),
            (true, Want::Run) => (want, "run"),
        };
        let (uid, mode) = (user.uid, file.mode() & 0o7777);
        let why = || format!("user id {uid} may not {verb} {shown} (mode {mode:04o})");
        (!may(user, (file.uid(), file.gid(), file.mode()), want)).then(why)
    })
}

/// Returns whether a file has capabilities of its own.
pub fn has_capabilities(user: &User, path: &Path) -> bool {
    let mut value = [0; 64];
    let path = through(user, path);
    let length = rustix::fs::getxattr(path, "security.capability", value.as_mut_slice());
    matches!(length, Ok(1..))
}

/// Returns whether the process's file system forbids to run programs there: its mount, or `NoExecPaths=` of the
/// unit, which is a mount of the process alone. `None` where its mounts may not be seen.
pub fn is_noexec(user: &User, path: &Path) -> Option<bool> {
    let mount = rustix::fs::statvfs(seen(user, &real(path))?);
    Some(mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_that_of_owner_group_or_others() {
        // User, group and mode of a file of 5 and 6 -> whether it may be read, written, and run.
        for (uid, gid, mode, expected) in [
            (5, 1, 0o500, [true, false, true]),
            (5, 1, 0o077, [false; 3]),
            (1, 6, 0o660, [true, true, false]),
            (1, 6, 0o606, [false; 3]),
            (1, 1, 0o660, [false; 3]),
            (1, 1, 0o755, [true, false, true]),
            (0, 0, 0o600, [true, true, false]),
            (0, 0, 0o001, [true; 3]),
        ] {
            let gids = vec![gid];
            let user = User {
                uid,
                gids,
                ..User::default()
            };
            let may = |want| may(&user, (5, 6, 0o100_000 | mode), want);
            assert_eq!(
                [Want::Read, Want::Connect, Want::Run].map(may),
                expected,
                "{uid} {mode:o}"
            );
        }
    }
}
