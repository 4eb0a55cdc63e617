//! The way to a file, folder by folder and link by link: whoever can change one of them decides which file
//! is found at its end. Each step is opened once and judged as what was opened, so that nothing can be
//! put in its place between the look and the use.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};

use super::{Refusal, writable_only_by};

/// How many symbolic links may lead to a file (as the kernel's MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// The end of a way that nobody but these users can change.
pub struct End {
    /// Who may own the file.
    pub owners: Vec<u32>,
    /// The folder that holds the file.
    pub folder: OwnedFd,
    /// The file's name in there.
    pub name: OsString,
    /// What was there, no symbolic link.
    pub stat: Stat,
}

/// A folder on the way.
struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    stat: Stat,
}

/// Walks to a file. Each folder, and that of each symbolic link on the way, belongs to one of these
/// users, or to the owner of `/`, and cannot be written by others. A sticky one such as /tmp, where everyone
/// may add but not replace, may only be passed, not hold the file. With `made_by_root` the folder that holds the
/// file may also be another user's, and the file with it, if only these users could have made that folder there: so
/// systemd makes one of /var/lib for the user of a service.
pub fn walk(path: &Path, users: &[u32], made_by_root: bool) -> Result<End, Refusal> {
    let root = Folder::open(CWD, OsStr::new("/"), PathBuf::from("/"))?;
    let passing: Vec<u32> = users.iter().copied().chain([root.stat.st_uid]).collect();
    root.may_be_passed(&passing)?;
    let mut trail = vec![root];
    let mut steps = steps(&std::path::absolute(path)?);
    let mut links = 0;
    let mut owners = users.to_vec();
    while let (Some(step), Some(folder)) = (steps.pop_front(), trail.last()) {
        if step == ".." {
            trail.truncate((trail.len() - 1).max(1));
            continue;
        }
        let next = Folder::open(&folder.fd, &step, folder.path.join(&step))?;
        match FileType::from_raw_mode(next.stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from(Errno::ELOOP).into());
                }
                folder.may_hold_link(&next, &passing)?;
                let target = readlinkat(&next.fd, "", Vec::new()).map_err(io::Error::from)?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    trail.truncate(1);
                }
                let mut before = self::steps(&target);
                before.append(&mut steps);
                steps = before;
            }
            FileType::Directory if steps.is_empty() => return Err(no_file()),
            _ if steps.is_empty() => {
                folder.may_hold(&owners)?;
                let folder = trail.pop().ok_or_else(no_file)?;
                return Ok(End {
                    owners,
                    folder: folder.fd,
                    name: step,
                    stat: next.stat,
                });
            }
            FileType::Directory => {
                if made_by_root && steps.len() == 1 && folder.may_hold(users).is_ok() {
                    owners.push(next.stat.st_uid);
                    next.may_hold(&owners)?;
                } else {
                    next.may_be_passed(&passing)?;
                }
                trail.push(next);
            }
            _ => return Err(io::Error::from(Errno::ENOTDIR).into()),
        }
    }
    Err(no_file())
}

fn no_file() -> Refusal {
    Refusal::new("it is not a regular file")
}

/// Returns the names on a path, `..` among them.
fn steps(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

impl Folder {
    /// Opens whatever is there, a link itself and not what it leads to.
    fn open(at: impl std::os::fd::AsFd, name: &OsStr, path: PathBuf) -> Result<Folder, Refusal> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(at, name, flags, Mode::empty()).map_err(io::Error::from)?;
        let stat = fstat(&fd).map_err(io::Error::from)?;
        Ok(Folder { fd, path, stat })
    }

    fn is_sticky(&self) -> bool {
        self.stat.st_mode & 0o1000 != 0
    }

    fn may_hold(&self, users: &[u32]) -> Result<(), Refusal> {
        let name = format!("its folder {}", self.path.display());
        writable_only_by(
            users,
            &name,
            &self.path,
            self.stat.st_uid,
            self.stat.st_mode,
        )
    }

    fn may_be_passed(&self, users: &[u32]) -> Result<(), Refusal> {
        let owned = match self.is_sticky() {
            true => self.stat.st_mode & !0o022,
            false => self.stat.st_mode,
        };
        let name = format!("the folder {} on the way to it", self.path.display());
        writable_only_by(users, &name, &self.path, self.stat.st_uid, owned)
    }

    /// In a sticky folder nobody can replace the link of another.
    fn may_hold_link(&self, link: &Folder, users: &[u32]) -> Result<(), Refusal> {
        match self.is_sticky() && users.contains(&link.stat.st_uid) {
            true => Ok(()),
            false => self.may_hold(users),
        }
    }
}
