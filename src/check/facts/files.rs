//! Whether Sentinel's user can read or run a file: modes, mounts and file capabilities, seen from
//! the root of Sentinel's process.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::process::Process;
use crate::trusted_file;

/// What is wanted of a file: the bit of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read = 4,
    /// To run it, or to pass through a folder.
    Run = 1,
}

/// A file that Sentinel's user has to read or to run.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    /// Its device and inode, as this process sees it.
    pub identity: Option<(u64, u64)>,
    /// Who else could have written it.
    pub untrusted: Option<String>,
    /// Why Sentinel's user cannot do what is wanted.
    pub obstacle: Option<String>,
    /// Whether its file system lets Sentinel's process run programs.
    pub runs: Runs,
    pub has_capabilities: bool,
}

/// Whether a file system lets programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Yes,
    Noexec,
    /// It is mounted `noexec` for Sentinel's process alone, as a unit does.
    NoexecInUnit,
    /// The mounts of Sentinel's process may not be seen.
    Unknown,
}

impl File {
    /// Looks at a file with the eyes of Sentinel's process.
    pub fn look(path: &Path, want: Want, user: &Process) -> File {
        File {
            path: path.to_owned(),
            identity: identity(path),
            untrusted: trusted_file::check_program(path).err(),
            obstacle: obstacle(user, path, want),
            runs: runs(user, path),
            has_capabilities: has_capabilities(user, path),
        }
    }
}

/// Returns the device and inode of a file.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Returns whether a user may do this with a file of this owner, group and mode (inode_permission
/// in the kernel's fs/namei.c, without access control lists): root may read every file and run what
/// any user may run.
fn may(user: &Process, (uid, gid, mode): (u32, u32, u32), want: Want) -> bool {
    let is_folder = mode & 0o170_000 == 0o040_000;
    let bits = match user.uid {
        0 if want == Want::Read || is_folder => return true,
        0 => return mode & 0o111 != 0,
        own if own == uid => mode >> 6,
        _ if user.gids.contains(&gid) => mode >> 3,
        _ => mode,
    };
    bits & want as u32 != 0
}

/// Returns `path` as Sentinel's process sees it, if this process may look through its root.
fn seen(user: &Process, path: &Path) -> Option<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root", user.pid));
    fs::metadata(root.join(".")).ok()?;
    Some(root.join(path.strip_prefix("/").ok()?))
}

/// Returns the same, or `path` as this process sees it.
fn through(user: &Process, path: &Path) -> PathBuf {
    seen(user, path).unwrap_or_else(|| path.to_owned())
}

/// Returns a path without symbolic links: an absolute one would lead out of another root.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns why Sentinel's user cannot do this with a file, if it cannot. The folders come first, from
/// the root on.
fn obstacle(user: &Process, path: &Path, want: Want) -> Option<String> {
    let real = real(path);
    let mut steps: Vec<&Path> = real.ancestors().collect();
    steps.reverse();
    steps.into_iter().find_map(|step| {
        let shown = step.display();
        let file = match fs::metadata(through(user, step)) {
            Ok(file) => file,
            Err(error) => return Some(format!("{shown}: {error}")),
        };
        let (want, verb) = match (step == real, want) {
            (true, _) if !file.is_file() => return Some(format!("{shown} is not a regular file")),
            (true, Want::Read) => (want, "read"),
            (true, Want::Run) => (want, "run"),
            (false, _) => (Want::Run, "pass"),
        };
        let (uid, mode) = (user.uid, file.mode() & 0o7777);
        let why = || format!("user id {uid} may not {verb} {shown} (mode {mode:04o})");
        (!may(user, (file.uid(), file.gid(), file.mode()), want)).then(why)
    })
}

fn has_capabilities(user: &Process, path: &Path) -> bool {
    let name = "security.capability";
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(through(user, path), name, value.as_mut_slice());
    matches!(length, Ok(1..))
}

fn runs(user: &Process, path: &Path) -> Runs {
    let real = real(path);
    let Some(theirs) = seen(user, &real) else {
        return Runs::Unknown;
    };
    let is_noexec = |path: &Path| {
        let mount = rustix::fs::statvfs(path);
        mount.is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    };
    match (is_noexec(&theirs), is_noexec(&real)) {
        (true, true) => Runs::Noexec,
        (true, false) => Runs::NoexecInUnit,
        (false, _) => Runs::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_that_of_owner_group_or_others() {
        // User, group and mode of a file of 5 and 6 -> whether it may be read, and run.
        for (uid, gid, mode, expected) in [
            (5, 1, 0o500, (true, true)),
            (5, 1, 0o055, (false, false)),
            (1, 6, 0o640, (true, false)),
            (1, 6, 0o604, (false, false)),
            (1, 1, 0o640, (false, false)),
            (1, 1, 0o755, (true, true)),
            (0, 0, 0o600, (true, false)),
            (0, 0, 0o001, (true, true)),
        ] {
            let gids = vec![gid];
            let user = Process {
                uid,
                gids,
                ..Process::default()
            };
            let may = |want| may(&user, (5, 6, 0o100_000 | mode), want);
            assert_eq!(
                (may(Want::Read), may(Want::Run)),
                expected,
                "{uid} {mode:o}"
            );
        }
    }
}
