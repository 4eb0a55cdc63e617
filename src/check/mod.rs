//! Whether the hook will work on this host, before the night on which it has to. `facts` asks the
//! world once, with deadlines; `judge` makes findings of the answers and asks nothing. Changes
//! nothing.

mod facts;
mod finding;
mod judge;

use std::path::Path;
use std::time::Instant;

use crate::config;
use facts::{Facts, Own};
pub use finding::{Findings, Level};

/// Makes every check of this host with the configuration at `path`. Takes a few seconds at most.
pub async fn run(path: &Path) -> Findings {
    let own = Own::look();
    let config = config::load(path, &[] as &[&str], Instant::now()).await;
    let mut findings = Findings::default();
    judge::beginning(path, &own, config.as_ref().err(), &mut findings);
    if let Ok(config) = config {
        let facts = Facts::gather(config, path, own).await;
        judge::all(&facts, &mut findings);
    }
    findings
}
