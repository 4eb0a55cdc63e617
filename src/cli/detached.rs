//! What other runs of vipswitch start, with the same executable.

use std::path::PathBuf;

use clap::{Args, Parser};

/// What such a run is told to do. It is no command of the operator's, so that no help, no completion and no suggestion
/// names it.
#[derive(Clone, Debug, Parser)]
#[command(name = "vipswitch")]
pub enum Detached {
    /// Go on announcing VIPs.
    #[command(name = ANNOUNCER)]
    Announcer(Announcer),
    /// Run a command of the site's own.
    #[command(name = SITE_COMMAND)]
    SiteCommand(SiteCommand),
    /// Tell clients that a VIP is gone.
    #[command(name = TICKLER)]
    Tickler(Tickler),
}

/// The first argument of an announcer's process.
pub const ANNOUNCER: &str = "announcer";
/// The first argument of the process of a site's command.
pub const SITE_COMMAND: &str = "site-command";
/// The first argument of a tickler's process.
pub const TICKLER: &str = "tickler";

/// What an announcer's process is told.
#[derive(Args, Clone, Debug)]
pub struct Announcer {
    /// A VIP that it announces, as JSON.
    #[arg(long = "job", required = true)]
    pub jobs: Vec<String>,
    /// The file with the configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What the process of a site's command is told.
#[derive(Args, Clone, Debug)]
pub struct SiteCommand {
    /// Which command of the configuration it runs, and for what, as JSON.
    #[arg(long = "job")]
    pub job: String,
    /// The file with the configuration, which alone says what is run.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What a tickler's process is told.
#[derive(Args, Clone, Debug)]
pub struct Tickler {
    /// A VIP whose clients it tells, as JSON.
    #[arg(long = "job", required = true)]
    pub jobs: Vec<String>,
}
