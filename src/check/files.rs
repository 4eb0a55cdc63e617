//! Whether Sentinel's user can run the hook and read its configuration: modes, mounts, file
//! capabilities, seen from Sentinel's root.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::finding::Findings;
use super::process::{NOT_SEEN, Process};
use crate::text::escape;

/// What is wanted of a file: the bit of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read = 4,
    /// To run it, or to pass through a folder.
    Run = 1,
}

/// The owner and mode of a file or folder.
#[derive(Clone, Copy, Debug)]
struct Mode {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl From<&Metadata> for Mode {
    fn from(metadata: &Metadata) -> Mode {
        Mode {
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode(),
        }
    }
}

/// Returns whether a user may do this (inode_permission in the kernel's fs/namei.c, without
/// access control lists): root may read all and run what anyone may run.
fn may(user: &Process, file: Mode, want: Want) -> bool {
    let bit = want as u32;
    let is_folder = file.mode & 0o170_000 == 0o040_000;
    let bits = if user.uid == 0 {
        let all = want == Want::Read || is_folder;
        return all || file.mode & 0o111 != 0;
    } else if user.uid == file.uid {
        file.mode >> 6
    } else if user.gids.contains(&file.gid) {
        file.mode >> 3
    } else {
        file.mode
    };
    bits & bit != 0
}

/// Returns `path` as Sentinel's process sees it, where this process may look through its root.
fn through(user: &Process, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", user.pid));
    match (fs::metadata(root.join(".")), path.strip_prefix("/")) {
        (Ok(_), Ok(below)) => root.join(below),
        _ => path.to_owned(),
    }
}

/// Returns why Sentinel's user cannot do this with a file, if it cannot.
pub fn obstacle(user: &Process, path: &Path, want: Want) -> Option<String> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut folders: Vec<&Path> = real.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders {
        match fs::metadata(through(user, folder)) {
            Ok(metadata) if may(user, (&metadata).into(), Want::Run) => {}
            Ok(_) => {
                return Some(format!(
                    "user id {} may not pass its folder {}, whatever its own mode",
                    user.uid,
                    folder.display()
                ));
            }
            Err(error) => return Some(format!("its folder {}: {error}", folder.display())),
        }
    }
    match fs::metadata(through(user, &real)) {
        Err(error) => Some(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Some("it is no regular file".into()),
        Ok(metadata) if may(user, (&metadata).into(), want) => None,
        Ok(metadata) => {
            let verb = if want == Want::Read { "read" } else { "run" };
            let (uid, mode) = (user.uid, metadata.mode() & 0o7777);
            Some(format!("user id {uid} may not {verb} it (mode {mode:04o})"))
        }
    }
}

/// Judges the program that Sentinel starts. Returns whether it is there.
pub fn judge_program(user: &Process, program: &Path, findings: &mut Findings) -> bool {
    let about = escape(&program.to_string_lossy());
    if let Some(why) = obstacle(user, program, Want::Run) {
        let remedy = format!(
            "Put vipswitch there, with chmod 755 {about} and folders that everyone may pass; Sentinel refuses to start without it."
        );
        findings.error("executable", &about, why, remedy);
        return false;
    }
    findings.ok("executable", &about, "Sentinel's user may run it");
    judge_mounts(user, program, &about, findings);
    let mut value = [0; 64];
    match rustix::fs::getxattr(
        through(user, program),
        "security.capability",
        value.as_mut_slice(),
    ) {
        Ok(1..) => findings.error(
            "file-capabilities",
            &about,
            "it has file capabilities: they take the ambient ones away, and a hardened unit cannot start it at all",
            format!("Remove them: setcap -r {about}"),
        ),
        _ => findings.ok("file-capabilities", &about, "none, as it should be"),
    }
    true
}

fn judge_mounts(user: &Process, program: &Path, about: &str, findings: &mut Findings) {
    if user.mounts.is_none() {
        return findings.unknown(&["noexec", "exec-paths"], about, NOT_SEEN);
    }
    match forbidden(user, program) {
        Some(why) => findings.error(why.check, about, why.text, why.remedy),
        None => {
            findings.ok("noexec", about, "its file system lets programs run");
            findings.ok("exec-paths", about, "Sentinel's unit lets it run");
        }
    }
}

/// Why nothing at a path can be run by Sentinel's user.
pub struct Forbidden {
    /// The check whose matter it is.
    pub check: &'static str,
    /// In words.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// Returns why the mounts of Sentinel's process keep it from running this, if they do and may be
/// seen.
pub fn forbidden(user: &Process, program: &Path) -> Option<Forbidden> {
    let theirs = user.mounts.as_deref()?;
    let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (check, text, remedy) = match (is_noexec(theirs, &real), is_noexec(&ours, &real)) {
        (true, true) => (
            "noexec",
            "its file system is mounted noexec",
            "Install it elsewhere, below /usr/lib or /usr/local for example, and name that path in sentinel.conf or the configuration.".to_owned(),
        ),
        (true, false) => (
            "exec-paths",
            "Sentinel's unit forbids to run it (NoExecPaths=)",
            format!("Give the Sentinel unit ExecPaths={}", escape(&program.to_string_lossy())),
        ),
        (false, _) => return None,
    };
    Some(Forbidden {
        check,
        text: text.to_owned(),
        remedy,
    })
}

/// Returns whether the text of a /proc/PID/mountinfo says that nothing at `path` can be run:
/// the mount that covers it is the longest folder, of several on one folder the last.
fn is_noexec(mountinfo: &str, path: &Path) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let folder = unescape(fields.next()?);
        Some((PathBuf::from(folder), fields.next()?))
    });
    let covering = mounts.filter(|(folder, _)| path.starts_with(folder));
    let last = covering.max_by_key(|(folder, _)| folder.components().count());
    last.is_some_and(|(_, options)| options.split(',').any(|option| option == "noexec"))
}

/// The kernel writes blanks and backslashes as octal numbers there.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_that_of_owner_group_or_others() {
        let user = |uid, gid| {
            let mut user = Process::default();
            (user.uid, user.gids) = (uid, vec![gid]);
            user
        };
        let file = |mode: u32| Mode {
            uid: 5,
            gid: 6,
            mode: 0o100_000 | mode,
        };
        for (user, mode, want, expected) in [
            (user(5, 1), 0o500, Want::Run, true),
            (user(5, 1), 0o055, Want::Run, false),
            (user(1, 6), 0o640, Want::Read, true),
            (user(1, 6), 0o604, Want::Read, false),
            (user(1, 1), 0o640, Want::Read, false),
            (user(1, 1), 0o755, Want::Run, true),
            (user(0, 0), 0o600, Want::Read, true),
            (user(0, 0), 0o600, Want::Run, false),
            (user(0, 0), 0o001, Want::Run, true),
        ] {
            assert_eq!(
                may(&user, file(mode), want),
                expected,
                "{user:?} {mode:o} {want:?}"
            );
        }
    }

    #[test]
    fn of_several_mounts_the_nearest_and_last_counts() {
        let mounts = "21 1 8:1 / / rw,noexec - ext4 /dev/sda1 rw\n\
                      22 21 8:1 /usr/lib /usr/lib rw,relatime shared:2 - ext4 /dev/sda1 rw\n\
                      23 21 0:9 / /a\\040b rw,nosuid,noexec - tmpfs tmpfs rw\n\
                      24 21 0:9 / /over rw - tmpfs tmpfs rw\n\
                      25 21 0:9 / /over rw,noexec - tmpfs tmpfs rw\n";
        for (path, expected) in [
            ("/usr/bin/vipswitch", true),
            ("/usr/lib/vipswitch/vipswitch", false),
            ("/usr/library/x", true),
            ("/a b/x", true),
            ("/over/x", true),
        ] {
            assert_eq!(is_noexec(mounts, Path::new(path)), expected, "{path}");
        }
        assert!(!is_noexec("", Path::new("/x")));
    }
}
