//! `completions`: a shell's completion script on stdout.

use clap::CommandFactory as _;
use clap_complete::{generate, shells};

use super::print;
use crate::cli::{Cli, Shell};
use crate::exit::Exit;

/// Prints the completions.
///
/// # Errors
///
/// A stdout that cannot be written to.
pub(super) async fn run(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "vipswitch", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "vipswitch", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "vipswitch", &mut script),
    }
    print(&String::from_utf8_lossy(&script)).await?;
    Ok(Exit::Done)
}
