//! The agent: stays resident on every server, and makes this host agree with what is true as soon as that
//! changes. One loop owns the state ([`core`], pure): everything else sends it events and gets actions, and a
//! [`snapshot`] for those who ask. What moves a VIP is the same engine that the hook and `sync` use.

pub mod backoff;
pub mod chosen;
pub mod core;
pub mod redis;
mod redis_connection;
pub mod request;
pub mod sentinels;
mod sight;
pub mod snapshot;

use std::path::Path;
use std::time::Instant;

use crate::exit::Exit;

/// Stays resident until a signal ends it. `path` is the configuration's file. Returns how it ended.
///
/// # Errors
///
/// A configuration that cannot be used, another agent at work on this host, and what the agent cannot do without.
pub async fn run(_path: &Path, _started: Instant) -> anyhow::Result<Exit> {
    anyhow::bail!("not yet")
}
