//! Where the agent's socket is, and whether only those can have put it there whom root has let.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Fault;
use crate::runtime_folder;
use crate::text::escape;

/// The environment's name for another path: tests have several hosts on one machine.
const VARIABLE: &str = "VIPSWITCH_AGENT_SOCKET";

/// The longest path of a Unix socket, in bytes (unix(7): `sun_path` has 108, the last of them 0).
const LONGEST: usize = 107;

/// Returns the path of the agent's socket: the environment's, or `/run/vipswitch/agent.sock`.
///
/// # Errors
///
/// A path in the environment that cannot be a socket's is permanent.
pub fn socket_path() -> Result<PathBuf, Fault> {
    let environment = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let path = match environment {
        Some(path) => PathBuf::from(path),
        None => Path::new(runtime_folder::FOLDER).join("agent.sock"),
    };
    check(&path)?;
    Ok(path)
}

/// Makes sure that a path can be a socket's.
///
/// # Errors
///
/// A path that is relative, has no file's name or is too long is permanent.
pub fn check(path: &Path) -> Result<(), Fault> {
    // The server makes another file beside it first, whose name is no longer than that of its lock.
    let longest = path.with_extension("lock").as_os_str().len();
    let longest = longest.max(path.as_os_str().len());
    let why = match path.file_name() {
        _ if !path.is_absolute() => "it does not begin with a /".to_owned(),
        None => "it names no file".to_owned(),
        Some(_) if longest > LONGEST => format!("it has more than {LONGEST} bytes"),
        Some(_) => return Ok(()),
    };
    let shown = escape(&path.to_string_lossy());
    Err(Fault::permanent(format!(
        "{VARIABLE} names no socket of an agent, {shown}: {why}"
    )))
}

/// Returns the owner of the folder of a socket, if the socket may be believed: the folder is root's, this
/// user's own, or stands in a folder of root's in which nobody else can make one, as systemd does in /run for the
/// agent's user.
///
/// # Errors
///
/// A folder that others could have put a socket into, in words.
pub fn believe_folder(socket: &Path) -> Result<u32, String> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let own = nix::unistd::geteuid().as_raw();
    let is_closed = |of: &Metadata, bits: u32| of.is_dir() && of.mode() & bits == 0;
    let is_ours = |of: &Metadata| [0, own].contains(&of.uid());
    let shown = folder.display();
    // Not through a symlink, which others may turn to another folder.
    let stat = |path: &Path| fs::symlink_metadata(path);
    let here = stat(folder).map_err(|error| format!("cannot look at {shown}: {error}"))?;
    if !is_closed(&here, 0o002) {
        return Err(format!("everybody can write to {shown}"));
    }
    let made_by_root = || {
        let above = folder.parent().and_then(|above| stat(above).ok());
        above.is_some_and(|above| is_closed(&above, 0o022) && is_ours(&above))
    };
    match is_ours(&here) || made_by_root() {
        true => Ok(here.uid()),
        false => Err(format!("{shown} is not root's and not this user's")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_strangers_can_write_to_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("agent.sock");
        mode(&folder, 0o775);
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(believe_folder(&socket), Ok(own));
        mode(&folder, 0o777);
        assert!(believe_folder(&socket).unwrap_err().contains("everybody"));
        // A symlink, whatever it leads to.
        let link = dir.path().join("l");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(believe_folder(&link.join("agent.sock")).is_err());
        assert!(believe_folder(&dir.path().join("none/agent.sock")).is_err());
    }

    #[test]
    fn a_folder_of_another_user_is_believed_where_only_root_could_make_it() {
        let is_root = nix::unistd::geteuid().is_root();
        assert!(
            is_root,
            "needs root: an ordinary user can give nothing away"
        );
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        mode(&folder, 0o755);
        std::os::unix::fs::chown(&folder, Some(4711), Some(4711)).unwrap();
        let socket = folder.join("agent.sock");
        mode(dir.path(), 0o755);
        assert_eq!(believe_folder(&socket), Ok(4711));
        for open in [0o775, 0o1777] {
            mode(dir.path(), open);
            assert!(believe_folder(&socket).unwrap_err().contains("not root's"));
        }
    }

    #[test]
    fn a_path_that_cannot_be_a_sockets_is_refused() {
        let long = format!("/{}", "x".repeat(107));
        for (path, why) in [
            ("agent.sock", "begin with"),
            ("/", "names no file"),
            (&long, "107 bytes"),
        ] {
            let fault = check(Path::new(path)).unwrap_err().to_string();
            assert!(fault.contains(why), "{fault}");
        }
        assert_eq!(check(Path::new("/run/vipswitch/agent.sock")), Ok(()));
        // Its lock's name is longer than its own.
        let near = format!("/{}.s", "x".repeat(103));
        assert!(check(Path::new(&near)).is_err());
    }
}
