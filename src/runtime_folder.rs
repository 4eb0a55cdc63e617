//! Small files in /run/vipswitch that outlive a run and no reboot: one of each kind for each VIP and network
//! namespace. Where the folder cannot be used nothing is kept.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, eaccess};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::report::to_json;

/// Where these files are. The packages make it for root and the group of Sentinel's user.
pub const FOLDER: &str = "/run/vipswitch";

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 * 1024;

/// What a file is about; its name ends so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// What a VIP's last announcer has done.
    Announcer,
    /// What the site was told last about a VIP.
    SiteCommand,
}

impl About {
    fn ending(self) -> &'static str {
        match self {
            About::Announcer => "json",
            About::SiteCommand => "command.json",
        }
    }
}

/// An address needs no escaping in a file's name.
fn path(about: About, vip: IpAddr) -> io::Result<PathBuf> {
    // `net:[4026531840]`
    let namespace = fs::read_link("/proc/self/ns/net")?;
    let namespace = namespace.to_string_lossy();
    let number: String = namespace.chars().filter(char::is_ascii_digit).collect();
    let ending = about.ending();
    Ok(Path::new(FOLDER).join(format!("{number}-{vip}.{ending}")))
}

/// Makes sure that files can be kept: makes the folder where it is missing.
///
/// # Errors
///
/// Those of mkdir(2) and access(2), and a folder that others than root and this user can write to.
pub fn get_ready() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(FOLDER) {
        Err(error) if fs::symlink_metadata(FOLDER).is_err() => return Err(error),
        _ => {}
    }
    believe()?;
    eaccess(FOLDER, AccessFlags::W_OK).map_err(io::Error::from)
}

/// Returns whether files are kept here, as far as a user can see who may only read them.
pub fn is_there() -> bool {
    believe().is_ok()
}

/// Writes a file, in the place of the former one.
///
/// # Errors
///
/// As [`get_ready`], and those of writing.
pub fn write(about: About, vip: IpAddr, value: &impl Serialize) -> io::Result<()> {
    get_ready()?;
    let path = path(about, vip)?;
    // Another file first, so that no reader sees half of it.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = create(&new)
        .and_then(|mut file| file.write_all(to_json(value).as_bytes()))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn create(path: &Path) -> io::Result<File> {
    let create = || {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o644).open(path)
    };
    match create() {
        // Left by a process that was killed and had the same number.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        created => created,
    }
}

/// Removes a file, if it is there. One system call for each part, as it stands before a VIP's first frame.
pub fn remove(about: About, vip: IpAddr) {
    if let Ok(path) = path(about, vip) {
        let _ = fs::remove_file(path);
    }
}

/// Returns what a file says, and how long ago it was written, if there is one that can be believed.
pub fn read<T: DeserializeOwned>(about: About, vip: IpAddr) -> Option<(T, Duration)> {
    believe().ok()?;
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path(about, vip).ok()?)
        .ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let age = metadata.modified().ok()?.elapsed().unwrap_or_default();
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some((serde_json::from_str(&text).ok()?, age))
}

/// Makes sure that only those can write to the folder whom root has let.
fn believe() -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    let folder = fs::symlink_metadata(FOLDER)?;
    let is_ours = folder.is_dir() && [0, own].contains(&folder.uid()) && folder.mode() & 0o002 == 0;
    match is_ours {
        true => Ok(()),
        false => Err(io::Error::other(
            "others than root and this user can write to it",
        )),
    }
}
