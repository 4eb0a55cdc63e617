//! The announcer's process: what [`crate::announcer::detach`] starts. Nobody else calls it.

use std::fs;

use super::level;
use crate::announce::schedule::Schedule;
use crate::announcer::{Job, LIFE, Record, Summary, Turn, announce};
use crate::cli::Announcer;
use crate::errno;
use crate::exit::{Exit, Fault};
use crate::log;
use crate::report::escape;
use crate::vip::Vip;

/// Announces, and writes one line to the log at its end.
///
/// # Errors
///
/// Arguments that make no sense, or an event loop that cannot be opened.
pub(super) fn run(of: &Announcer) -> anyhow::Result<Exit> {
    leave_the_caller();
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
        .map_err(|error| errno::open("the event loop", &error))?;
    runtime.block_on(work(&job));
    Ok(Exit::Done)
}

async fn work(job: &Job) {
    let Turn::Mine(mut record) = Record::take(job.vip.address).await else {
        return;
    };
    let mut note = |summary: &Summary| {
        if let Some(record) = &mut record {
            record.write(summary);
        }
    };
    note(&Summary::default());
    let summary = announce(job, Schedule::new(LIFE), &mut note)
        .await
        .unwrap_or_else(|fault| Summary {
            ended: fault.to_string(),
            ..Summary::default()
        });
    note(&summary);
    let Job { master, vip, .. } = job;
    let rivals = if summary.rivals.is_empty() {
        "none".into()
    } else {
        summary.rivals.join(",")
    };
    let confirmed = summary.confirmed();
    let exit = if summary.rivals.is_empty() {
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

/// Leaves the caller's session, and closes whatever it left open: Redis before 6.2 hands its
/// listening socket down, and a child that kept it would hold Sentinel's port.
fn leave_the_caller() {
    // It fails for who leads a group already, which then is nobody's.
    let _ = nix::unistd::setsid();
    let open = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // The folder's own is closed already.
        let _ = nix::unistd::close(number);
    }
}
