//! Files that this process may believe: nobody but root and its own user can have written them
//! or put them in their place.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::exit::Fault;

/// The largest file that is read, in bytes. Sixty masters fill about 5 KiB.
pub const MAX_SIZE: u64 = 1 << 20;

/// Reads a text file that only root or this process's own user can have written. `what` names
/// it in messages.
///
/// # Errors
///
/// Every one is permanent: a file that cannot be read, is no regular file, is empty or larger
/// than [`MAX_SIZE`], or could have been written, or put in its place, by anyone else.
pub fn read(path: &Path, what: &str) -> Result<String, Fault> {
    let refuse =
        |why: String| Fault::permanent(format!("cannot use {what} {}: {why}", path.display()));
    // Non-blocking, so that a FIFO in its place does not hold the run up.
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| {
            refuse(error.to_string())
                .remedy("Create it, or name another file with --config or VIPSWITCH_CONFIG.")
        })?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    only_ours("it", &metadata, path).map_err(refuse_with(&refuse))?;
    let place = path
        .canonicalize()
        .map_err(|error| refuse(error.to_string()))?;
    for folder in [parent(path), parent(&place)] {
        let metadata = folder
            .metadata()
            .map_err(|error| refuse(error.to_string()))?;
        only_ours(
            &format!("its folder {}", folder.display()),
            &metadata,
            folder,
        )
        .map_err(refuse_with(&refuse))?;
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_SIZE) as usize + 1);
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(refuse("it is larger than 1 MiB".into()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(refuse("it is empty".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        refuse(format!(
            "it is not valid UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
    })
}

fn refuse_with(refuse: &impl Fn(String) -> Fault) -> impl Fn((String, String)) -> Fault + '_ {
    move |(why, remedy)| refuse(why).remedy(remedy)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// Checks that nobody but root and this process's own user can write there.
fn only_ours(
    name: &str,
    metadata: &std::fs::Metadata,
    path: &Path,
) -> Result<(), (String, String)> {
    let own = nix::unistd::geteuid().as_raw();
    if ![0, own].contains(&metadata.uid()) {
        return Err((
            format!(
                "{name} belongs to user id {}, who could write to it",
                metadata.uid()
            ),
            format!("Make it root's: chown root {}", path.display()),
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err((
            format!(
                "{name} can be written by others (mode {:04o})",
                metadata.mode() & 0o7777
            ),
            format!("Take that away: chmod go-w {}", path.display()),
        ));
    }
    Ok(())
}
