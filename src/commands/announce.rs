//! `announce`: once more what this host holds, or for a while.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{load, operate, print, with_agent};
use crate::agent::request::Verb;
use crate::cli::{Announce, Options};
use crate::config::Target;
use crate::deeds::announcer::schedule::Schedule;
use crate::deeds::announcer::{self, Job, Summary};
use crate::deeds::take_over;
use crate::evidence::Order;
use crate::exit::{Exit, Fault};
use crate::kernel::{Netlink, Snapshot};
use crate::log;
use crate::once::Entry;
use crate::report::to_json;
use crate::text::printable;

/// Announces. With `--for` it goes on, every second, and tells who answered.
///
/// # Errors
///
/// A configuration that cannot be used, an unknown master, or a kernel that does not answer.
pub(super) async fn run(
    announce: &Announce,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    // With `--for` the answers are this process's own to collect.
    if announce.time.is_none()
        && let Some(exit) =
            with_agent::carry_out(Verb::Announce, &announce.of.masters, options).await
    {
        return exit;
    }
    let exit = operate::run(
        Entry::Operator(Order::Announce),
        &announce.of.masters,
        options,
        started,
        |_| Ok(()),
    )
    .await?;
    match announce.time {
        Some(time) if exit == Exit::Done && !options.dry_run => {
            go_on(announce, time, options, started).await
        }
        _ => Ok(exit),
    }
}

async fn go_on(
    announce: &Announce,
    time: Duration,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let config = load(options, &announce.of.masters, started).await?;
    let targets = Target::of(&config, &announce.of.masters)?;
    let jobs = jobs(&targets).await?;
    let ended = announcer::work(
        &jobs,
        &Schedule::every_second(time),
        Some(&config),
        async |_, _| {},
    )
    .await;
    let mut exit = Exit::Done;
    for (job, ended) in jobs.iter().zip(ended) {
        tell(job, &ended.summary, options).await?;
        if let Some(fault) = ended.fault {
            log::stderr(&format!("{}: {}: {fault}", job.master, job.vip)).await;
            exit = Exit::from(fault.kind);
        }
    }
    Ok(exit)
}

async fn tell(job: &Job, summary: &Summary, options: &Options) -> anyhow::Result<()> {
    let text = if options.json {
        to_json(&Told {
            master: &job.master,
            vip: job.vip.address,
            action: "announced",
            summary,
        })
    } else if options.quiet {
        return Ok(());
    } else {
        let rivals = match summary.rivals.as_slice() {
            [] => String::new(),
            rivals => format!(", RIVALS: {}", rivals.join(", ")),
        };
        printable(&format!(
            "{}: announced {} until {} ({} frames), confirmed by {}{rivals}",
            job.master,
            job.vip,
            summary.ended,
            summary.frames,
            summary.confirmed()
        ))
    };
    print(&(text + "\n")).await
}

/// The JSON object for one VIP, as docs/json.md documents it.
#[derive(Serialize)]
struct Told<'a> {
    master: &'a str,
    vip: IpAddr,
    action: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Returns what this host holds of the targets, and where.
async fn jobs(targets: &[Target<'_>]) -> Result<Vec<Job>, Fault> {
    let netlink = Netlink::open()?;
    let kernel = Snapshot::new(&netlink);
    let mut jobs = Vec::new();
    for target in targets {
        for binding in kernel.bindings(target.vip.address).await? {
            let (vip, ifindex) = (target.vip, binding.ifindex);
            // Bound twice, with two prefix lengths.
            if jobs
                .iter()
                .any(|job: &Job| (job.vip, job.ifindex) == (vip, ifindex))
            {
                continue;
            }
            let known = &target.master.announce_to;
            let gateways = netlink.gateways(ifindex, vip.address, known).await?;
            let peers = take_over::peers(vip, known, &gateways);
            jobs.push(Job {
                master: target.name.to_owned(),
                vip: target.vip,
                ifindex: binding.ifindex,
                peers,
                is_ordered: true,
            });
        }
    }
    Ok(jobs)
}
