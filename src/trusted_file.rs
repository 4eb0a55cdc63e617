//! Files that this process may believe: nobody but root and its own user can have written them
//! or put them in their place.

pub mod access;
mod way;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{Mode, OFlags, openat};

use crate::exit::{self, Fault};

const IRREGULAR: &str = "it is not a regular file";

/// The largest file that is read, in bytes. Sixty masters fill about 5 KiB.
pub const MAX_SIZE: u64 = 1 << 20;

/// What a file is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, which anyone may read.
    Configuration,
    /// The same with a password in it, which not everyone may read.
    Secrets,
    /// A password, which not everyone may read.
    Password,
    /// Certificates, which anyone may read.
    Certificate,
    /// A private key, which not everyone may read.
    Key,
    /// What an earlier run has written down, which anyone may read. The agent's user may have written it, to whom
    /// systemd gave its folder.
    Memory,
}

/// Reads a text file.
///
/// # Errors
///
/// A file that is missing, may not be read, is no regular file, is empty or larger than
/// [`MAX_SIZE`], or could have been written, or put in its place, by anyone else, and a password
/// that everyone can read, are permanent. Another failure to read (too many open files, an I/O
/// error) is passing.
pub fn read(path: &Path, kind: Kind) -> Result<String, Fault> {
    let what = match kind {
        Kind::Configuration => "the configuration",
        Kind::Secrets => "the configuration, with a password in it,",
        Kind::Password => "the password file",
        Kind::Certificate => "the certificate file",
        Kind::Key => "the key file",
        Kind::Memory => "what is remembered in",
    };
    read_bytes(path, kind)
        .and_then(|bytes| text(bytes, kind))
        .map_err(|refusal| {
            let text = format!("cannot use {what} {}: {}", path.display(), refusal.why);
            let fault = match refusal.kind {
                exit::Kind::Passing => Fault::passing(text),
                exit::Kind::Permanent => Fault::permanent(text),
            };
            let fault = match refusal.error {
                Some(io::ErrorKind::PermissionDenied) => fault.for_lack_of_privilege(),
                _ => fault,
            };
            match refusal.remedy {
                Some(remedy) => fault.remedy(remedy),
                None => fault,
            }
        })
}

/// Makes sure that nobody but root and this process's own user can have put a program there. Root is
/// also who owns `/`: in an ordinary user's namespace the host's root has another number.
///
/// # Errors
///
/// A program that others could have written or put in its place, or that is not there, in words.
pub fn check_program(path: &Path) -> Result<(), String> {
    let check = || -> Result<(), Refusal> {
        let root = Path::new("/").metadata()?.uid();
        let users = [0, own_user(), root];
        let stat = way::walk(path, &users, false)?.stat;
        writable_only_by(&users, "it", path, stat.st_uid, stat.st_mode)
    };
    check().map_err(|refusal| match refusal.remedy {
        Some(remedy) => format!("{}. {remedy}", refusal.why),
        None => refusal.why,
    })
}

/// Why a file is not read, and what to do.
struct Refusal {
    kind: exit::Kind,
    why: String,
    remedy: Option<String>,
    /// What the kernel said, if it did.
    error: Option<io::ErrorKind>,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Refusal {
        Refusal {
            kind: exit::Kind::Permanent,
            why: why.into(),
            remedy: None,
            error: None,
        }
    }

    fn remedy(mut self, sentence: impl Into<String>) -> Refusal {
        self.remedy = Some(sentence.into());
        self
    }
}

impl From<io::Error> for Refusal {
    /// A path that leads nowhere stays so; what else goes wrong with a file may pass.
    fn from(error: io::Error) -> Refusal {
        use io::ErrorKind::{
            InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        };
        let mut refusal = Refusal::new(error.to_string());
        refusal.error = Some(error.kind());
        let leads_nowhere = [
            InvalidFilename,
            InvalidInput,
            IsADirectory,
            NotADirectory,
            NotFound,
            PermissionDenied,
        ];
        let is_loop = error.raw_os_error() == Some(Errno::ELOOP as i32);
        if !leads_nowhere.contains(&error.kind()) && !is_loop {
            refusal.kind = exit::Kind::Passing;
        }
        refusal
    }
}

fn read_bytes(path: &Path, kind: Kind) -> Result<Vec<u8>, Refusal> {
    let users = [0, own_user()];
    let (file, users) =
        open(path, &users, kind == Kind::Memory).map_err(|refusal| advised(refusal, kind))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Refusal::new(IRREGULAR));
    }
    writable_only_by(&users, "it", path, metadata.uid(), metadata.mode())?;
    let is_public = matches!(kind, Kind::Configuration | Kind::Certificate | Kind::Memory);
    if !is_public && metadata.mode() & 0o007 != 0 {
        let remedy = format!("Take that away: chmod o= {}", path.display());
        return Err(Refusal::new("everyone can read it").remedy(remedy));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize + 1);
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file, and returns who may own it.
fn open(path: &Path, users: &[u32], made_by_root: bool) -> Result<(File, Vec<u32>), Refusal> {
    let end = way::walk(path, users, made_by_root)?;
    // Non-blocking, so that a FIFO in its place does not hold the run up.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(&end.folder, &end.name, flags, Mode::empty());
    let opened = opened.map_err(|errno| match io::Error::from(errno) {
        // A socket, or a device that is not there.
        error if error.raw_os_error() == Some(Errno::ENXIO as i32) => Refusal::new(IRREGULAR),
        error => Refusal::from(error),
    });
    Ok((opened?.into(), end.owners))
}

fn advised(refusal: Refusal, kind: Kind) -> Refusal {
    let remedy = match (refusal.error, kind) {
        (Some(io::ErrorKind::NotFound), Kind::Configuration | Kind::Secrets) => {
            "Create it, or name another file with --config or VIPSWITCH_CONFIG."
        }
        (Some(io::ErrorKind::NotFound), Kind::Password | Kind::Certificate | Kind::Key) => {
            "Create it, or correct its path in the configuration."
        }
        (Some(io::ErrorKind::PermissionDenied), _) => {
            "Run it as root; the agent's user has to be able to read it, and not everyone."
        }
        _ => return refusal,
    };
    refusal.remedy(remedy)
}

fn text(bytes: Vec<u8>, kind: Kind) -> Result<String, Refusal> {
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Refusal::new("it is larger than 1 MiB"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        let refusal = Refusal::new("it is empty");
        return Err(match kind {
            Kind::Configuration | Kind::Secrets => {
                refusal.remedy("Add a table [masters.NAME] with `vip = \"ADDRESS/PREFIX\"`.")
            }
            Kind::Password => refusal.remedy("Its first line is to be the password."),
            Kind::Certificate | Kind::Key | Kind::Memory => refusal,
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        Refusal::new(format!(
            "it is not valid UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
    })
}

fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn writable_only_by(
    users: &[u32],
    name: &str,
    path: &Path,
    uid: u32,
    mode: u32,
) -> Result<(), Refusal> {
    let path = path.display();
    if !users.contains(&uid) {
        let why = format!("{name} belongs to user id {uid}, who could write to it");
        return Err(Refusal::new(why).remedy(format!("Make it root's: chown root {path}")));
    }
    if mode & 0o022 != 0 {
        let shown = mode & 0o7777;
        let why = format!("{name} can be written by others (mode {shown:04o})");
        // Not to be done to /tmp.
        let remedy = match mode & 0o1000 {
            0 => format!("Take that away: chmod go-w {path}"),
            _ => "Put it into a folder that only root can write to, such as /etc.".to_owned(),
        };
        return Err(Refusal::new(why).remedy(remedy));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};

    const AGENT: u32 = 4711;
    const SENTINEL: u32 = 4712;

    /// A folder as systemd makes it for the agent's user, and a file in it of this user.
    fn remembered(owner: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        assert!(nix::unistd::geteuid().is_root(), "needs root");
        // Not below /tmp, which is sticky and everybody's.
        let lib = tempfile::tempdir_in("/var/lib").unwrap();
        fs::set_permissions(lib.path(), Permissions::from_mode(0o755)).unwrap();
        let folder = lib.path().join("vipswitch");
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(AGENT), Some(AGENT)).unwrap();
        let file = folder.join("file");
        fs::write(&file, "{}").unwrap();
        chown(&file, Some(owner), Some(owner)).unwrap();
        (lib, file)
    }

    #[test]
    fn what_the_agents_user_remembers_is_believed_and_nothing_else_of_it() {
        let (_lib, file) = remembered(AGENT);
        assert_eq!(read(&file, Kind::Memory).unwrap(), "{}");
        let fault = read(&file, Kind::Configuration).unwrap_err().to_string();
        assert!(fault.contains("belongs to user id 4711"), "{fault}");
        // An upgrade leaves root's file in what becomes the agent's folder.
        let (_lib, file) = remembered(0);
        assert!(read(&file, Kind::Memory).is_ok());
    }

    #[test]
    fn what_sentinels_user_could_have_written_is_not_believed() {
        let (_lib, file) = remembered(SENTINEL);
        let fault = read(&file, Kind::Memory).unwrap_err().to_string();
        assert!(fault.contains("belongs to user id 4712"), "{fault}");
        // A folder that others can write to, and one in a folder where others can make one.
        let (lib, file) = remembered(AGENT);
        for (folder, mode) in [(file.parent().unwrap(), 0o775), (lib.path(), 0o1777)] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            assert!(read(&file, Kind::Memory).is_err(), "{}", folder.display());
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        assert!(read(&file, Kind::Memory).is_ok());
    }
}
