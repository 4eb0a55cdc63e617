//! `check`: whether the hook will work on this host. Changes nothing.

use super::{colours, config_path, print};
use crate::check::{self, Level};
use crate::cli::Options;
use crate::exit::Exit;

/// Prints each finding with its remedy, or one JSON object per finding. Exits 0, 1 with warnings,
/// 2 with errors.
///
/// # Errors
///
/// An event loop that cannot be made, or a stdout that cannot be written to.
pub(super) fn run(options: &Options) -> anyhow::Result<Exit> {
    let findings = check::run(&config_path(options))?;
    print(&match options.json {
        true => findings.json(options.quiet),
        false => findings.text(options.quiet, colours()),
    })?;
    Ok(match findings.worst() {
        Level::Ok | Level::Unknown => Exit::Done,
        Level::Warning => Exit::Passing,
        Level::Error => Exit::Permanent,
    })
}
