//! A process of this executable that goes on after the run: with nothing of its parent's but the
//! user, and in no folder that somebody may want to remove.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::exit::Fault;

/// Starts a process that does what `verb` says, with these arguments.
///
/// # Errors
///
/// A process that cannot be started is a passing fault.
pub fn start(verb: &str, arguments: impl Iterator<Item = OsString>) -> Result<(), Fault> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(verb).args(arguments);
    command.env_clear().current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Not waited for: it goes to the first process when this one has ended, as it soon will.
    command
        .spawn()
        .map(drop)
        .map_err(|error| Fault::passing(format!("cannot start the {verb}: {error}")))
}
