//! `check`: whether the hook will work on this host. Changes nothing.

use super::{colours, config_path, print};
use crate::check::{self, Level};
use crate::cli::Options;
use crate::exit::Exit;

/// Prints what is wrong with its remedy, or one JSON object per finding. Exits 0, 1 with warnings,
/// 2 with errors.
///
/// # Errors
///
/// A stdout that cannot be written to.
pub(super) async fn run(options: &Options) -> anyhow::Result<Exit> {
    let findings = check::run(&config_path(options)).await;
    let text = match (options.json, options.quiet) {
        (true, true) => findings.json(Level::Warning),
        (true, false) => findings.json(Level::Ok),
        (false, true) => findings.text(Level::Warning, colours()),
        (false, false) if options.verbose => findings.text(Level::Ok, colours()),
        (false, false) => findings.text(Level::Unknown, colours()),
    };
    print(&text).await?;
    Ok(match findings.worst() {
        Level::Ok | Level::Unknown => Exit::Done,
        Level::Warning => Exit::Passing,
        Level::Error => Exit::Permanent,
    })
}
