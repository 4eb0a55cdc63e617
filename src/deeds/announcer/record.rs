//! What a VIP's last announcer has done: a small file that the announcer leaves for `status` where
//! it may write one.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;

use super::Summary;
use crate::report::to_json;

/// Where these files are. The packages make it for root and the group of Sentinel's user.
const FOLDER: &str = "/run/vipswitch";

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 * 1024;

/// One for each VIP and network namespace.
fn path(vip: IpAddr) -> Option<PathBuf> {
    // `net:[4026531840]`
    let namespace = fs::read_link("/proc/self/ns/net").ok()?;
    let number: String = namespace
        .to_str()?
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    Some(Path::new(FOLDER).join(format!("{number}-{vip}.json")))
}

/// Writes down what an announcer has done. A failure to write is not reported: only `status` misses it.
pub fn write(vip: IpAddr, summary: &Summary) {
    let _ = DirBuilder::new().mode(0o755).create(FOLDER);
    let Some(path) = path(vip).filter(|_| is_ours()) else {
        return;
    };
    // Another file first, so that no reader sees half of it.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)
        .and_then(|mut file| file.write_all(to_json(summary).as_bytes()))
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
}

/// Takes back what is written down of a VIP.
pub fn remove(vip: IpAddr) {
    if let Some(path) = path(vip).filter(|_| is_ours()) {
        let _ = fs::remove_file(path);
    }
}

/// Returns what a VIP's last announcer has done, and how long ago, if that is known.
pub fn read(vip: IpAddr) -> Option<(Summary, Duration)> {
    let path = path(vip).filter(|_| is_ours())?;
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let age = metadata.modified().ok()?.elapsed().unwrap_or_default();
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some((serde_json::from_str(&text).ok()?, age))
}

/// Whether only those can write to the folder whom root has let.
fn is_ours() -> bool {
    let own = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(FOLDER).is_ok_and(|folder| {
        folder.is_dir() && [0, own].contains(&folder.uid()) && folder.mode() & 0o002 == 0
    })
}
