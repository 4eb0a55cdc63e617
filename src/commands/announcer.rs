//! The announcer's process: what [`crate::deeds::announcer::detach`] starts. Nobody else calls it.

use std::time::Duration;

use tokio::time::timeout;

use super::level;
use crate::cli::Announcer;
use crate::deeds::announcer::schedule::Schedule;
use crate::deeds::announcer::{self, Job, LIFE, Summary};
use crate::exit::{Exit, Fault};
use crate::inherited_files;
use crate::kernel_error;
use crate::log;
use crate::text::escape;
use crate::vip::Vip;

/// How long an announcer may take to begin and to end.
const GRACE: Duration = Duration::from_secs(2);

/// Announces, and writes one line to the log at its end.
///
/// # Errors
///
/// Arguments that make no sense, or an event loop that cannot be opened.
pub(super) fn run(of: &Announcer) -> anyhow::Result<Exit> {
    // It fails for who leads a group already, which then is nobody's.
    let _ = nix::unistd::setsid();
    inherited_files::close_files();
    let vip = Vip::parse(&of.vip)
        .map_err(|why| Fault::permanent(format!("{} {why}", escape(&of.vip))))?;
    let job = Job {
        master: of.master.clone(),
        vip,
        ifindex: of.ifindex,
        peers: of.peer.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| kernel_error::open("the event loop", &error))?;
    runtime.block_on(work(&job));
    Ok(Exit::Done)
}

async fn work(job: &Job) {
    // Whatever hangs: it never lives longer.
    let worked = timeout(LIFE + GRACE, announcer::work(job, Schedule::new(LIFE))).await;
    let (summary, fault) = worked.unwrap_or_else(|_| {
        let fault = Fault::passing("its time was long up: something hung");
        let summary = Summary {
            ended: fault.to_string(),
            ..Summary::default()
        };
        (summary, Some(fault))
    });
    let Job { master, vip, .. } = job;
    let rivals = if summary.rivals.is_empty() {
        "none".into()
    } else {
        summary.rivals.join(",")
    };
    let confirmed = summary.confirmed();
    let exit = if summary.rivals.is_empty() && fault.is_none() {
        Exit::Done
    } else {
        Exit::Passing
    };
    log::line(
        level(exit),
        &format!(
            "msg=\"announced {vip} until {}, confirmed by {confirmed}\" master={} vip={vip} frames={} rivals={rivals}",
            summary.ended,
            escape(master),
            summary.frames
        ),
    );
}
