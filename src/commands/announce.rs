//! `announce`: once more what this host holds, or for a while.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{load, operate, print};
use crate::announce::schedule::Schedule;
use crate::announcer::{self, Job};
use crate::cli::{Announce, Options};
use crate::errno;
use crate::exit::{Exit, Fault};
use crate::log;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::Call;
use crate::report::printable;
use crate::run::Target;
use crate::take_over::MOST_GATEWAYS;

/// Announces. With `--for` it goes on, every second, and tells who answered.
///
/// # Errors
///
/// A configuration that cannot be used, an unknown master, or a kernel that does not answer.
pub(super) fn run(
    announce: &Announce,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let exit = operate::run(Call::Announce, &announce.of, options, started)?;
    match announce.time {
        Some(time) if exit == Exit::Done && !options.dry_run => {
            go_on(announce, time, options, started)
        }
        _ => Ok(exit),
    }
}

fn go_on(
    announce: &Announce,
    time: Duration,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let config = load(options, started)?;
    let targets = Target::of(&config, &announce.of.masters)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| errno::open("the event loop", &error))?;
    runtime.block_on(async {
        let jobs = jobs(&targets).await?;
        let voices = jobs
            .iter()
            .map(|job| announcer::announce(job, Schedule::every_second(time), |_| {}));
        for (job, summary) in jobs.iter().zip(join_all(voices).await) {
            let summary = summary?;
            let rivals = if summary.rivals.is_empty() {
                String::new()
            } else {
                format!(", RIVALS: {}", summary.rivals.join(", "))
            };
            let text = format!(
                "{}: announced {} until {} ({} frames), confirmed by {}{rivals}",
                job.master,
                job.vip,
                summary.ended,
                summary.frames,
                summary.confirmed()
            );
            if options.json || options.quiet {
                log::stderr(&text);
            } else {
                print(&(printable(&text) + "\n"))?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Returns what this host holds of the targets, and where.
async fn jobs(targets: &[Target<'_>]) -> Result<Vec<Job>, Fault> {
    let netlink = Netlink::open()?;
    let kernel = Kernel::new(&netlink);
    let mut jobs = Vec::new();
    for target in targets {
        for binding in kernel.bindings(target.vip.address).await? {
            let mut peers = netlink
                .gateways(binding.ifindex, target.vip.address)
                .await?;
            peers.truncate(MOST_GATEWAYS);
            peers.extend(target.announce_to);
            jobs.push(Job {
                master: target.master.to_owned(),
                vip: target.vip,
                ifindex: binding.ifindex,
                peers,
            });
        }
    }
    Ok(jobs)
}
