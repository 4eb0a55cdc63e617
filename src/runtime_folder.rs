//! Small files in /run/vipswitch that outlive a run and no reboot: one of each kind for each VIP, or master, and
//! network namespace. Where the folder cannot be used nothing is kept.

use std::fmt::{self, Write as _};
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
    /// An operator's order against the truth that the agent holds to.
    Order,
    /// The newest failover that the agent knew of.
    Failover,
    /// A Redis that stops is meant to.
    Maintenance,
}

impl About {
    fn ending(self) -> &'static str {
        match self {
            About::Announcer => "json",
            About::SiteCommand => "command.json",
            About::Order => "order.json",
            About::Failover => "failover.json",
            About::Maintenance => "maintenance.json",
        }
    }
}

/// Of what a file tells.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// This VIP.
    Vip(IpAddr),
    /// The master with this name, whatever its VIPs are.
    Master(&'a str),
}

impl From<IpAddr> for Of<'_> {
    fn from(vip: IpAddr) -> Self {
        Of::Vip(vip)
    }
}

impl<'a> From<&'a str> for Of<'a> {
    fn from(name: &'a str) -> Self {
        Of::Master(name)
    }
}

impl fmt::Display for Of<'_> {
    /// An address needs no escaping in a file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Of::Vip(vip) => return vip.fmt(f),
            Of::Master(name) => name,
        };
        f.write_str("master-")?;
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    f.write_char(char::from(byte))?;
                }
                _ => write!(f, "%{byte:02x}")?,
            }
        }
        Ok(())
    }
}

fn path<'a>(about: About, of: impl Into<Of<'a>>) -> io::Result<PathBuf> {
    let of = of.into();
    // `net:[4026531840]`
    let namespace = fs::read_link("/proc/self/ns/net")?;
    let namespace = namespace.to_string_lossy();
    let number: String = namespace.chars().filter(char::is_ascii_digit).collect();
    let ending = about.ending();
    Ok(Path::new(FOLDER).join(format!("{number}-{of}.{ending}")))
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
pub fn write<'a>(about: About, of: impl Into<Of<'a>>, value: &impl Serialize) -> io::Result<()> {
    get_ready()?;
    let path = path(about, of)?;
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
pub fn remove<'a>(about: About, of: impl Into<Of<'a>>) {
    if let Ok(path) = path(about, of) {
        let _ = fs::remove_file(path);
    }
}

/// Returns what a file says, and how long ago it was written, if it is there and can be believed.
pub fn read<'a, T: DeserializeOwned>(about: About, of: impl Into<Of<'a>>) -> Option<(T, Duration)> {
    believe().ok()?;
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path(about, of).ok()?)
        .ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let age = metadata.modified().ok()?.elapsed().unwrap_or_default();
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some((serde_json::from_str(&text).ok()?, age))
}

/// Makes sure that only those can write to the folder whom root has let: the agent's user, too, for whom systemd
/// makes it. Nobody but root can make a folder in /run, nor give it away.
fn believe() -> io::Result<()> {
    believe_at(Path::new(FOLDER))
}

fn believe_at(path: &Path) -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    let is_ours = |of: &Metadata| [0, own].contains(&of.uid());
    let folder = fs::symlink_metadata(path)?;
    let made_by_root = || {
        let above = path
            .parent()
            .and_then(|above| fs::symlink_metadata(above).ok());
        above.is_some_and(|above| above.is_dir() && is_ours(&above) && above.mode() & 0o022 == 0)
    };
    let is_closed = folder.is_dir() && folder.mode() & 0o002 == 0;
    match is_closed && (is_ours(&folder) || made_by_root()) {
        true => Ok(()),
        false => Err(io::Error::other(
            "others than root, this user and the agent's user can write to it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    #[test]
    fn no_masters_name_leads_out_of_the_folder_or_to_another_ones_file() {
        let names = [
            "m", "..", "../m", "a.b", "a%2eb", "é", "master m", "10.0.0.1", "",
        ];
        let all: Vec<String> = names
            .iter()
            .map(|name| Of::Master(name).to_string())
            .collect();
        assert_eq!(all[2], "master-%2e%2e%2fm");
        let of_vip = Of::Vip(IpAddr::from([10, 0, 0, 1])).to_string();
        let distinct: std::collections::BTreeSet<&String> = all.iter().chain([&of_vip]).collect();
        assert_eq!(distinct.len(), names.len() + 1, "{all:?}");
    }

    #[test]
    fn a_folder_is_believed_that_only_root_can_have_given_to_another_user() {
        assert!(nix::unistd::geteuid().is_root(), "needs root");
        let run = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        mode(run.path(), 0o755);
        let folder = run.path().join("vipswitch");
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(4711), Some(4711)).unwrap();
        mode(&folder, 0o755);
        assert!(believe_at(&folder).is_ok());
        mode(&folder, 0o757);
        assert!(believe_at(&folder).is_err(), "everybody can write to it");
        mode(&folder, 0o755);
        mode(run.path(), 0o1777);
        assert!(believe_at(&folder).is_err(), "anybody can have made it");
    }
}
