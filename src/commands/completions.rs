//! `completions`: a shell's completion script on stdout.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::print;
use crate::cli::Cli;
use crate::exit::Exit;

/// Prints the completions.
///
/// # Errors
///
/// A stdout that cannot be written to.
pub(super) fn run(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "vipswitch", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
