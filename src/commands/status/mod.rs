//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

mod agent;
mod alone;
mod announcing;
mod left_over;
mod probe;
mod row;
mod truth;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{join, join_all};
use pnet_base::MacAddr;
use tokio::time::{MissedTickBehavior, interval};

use agent::Agent;
use probe::{Looked, probe};
use row::Status;

use super::{colours, load, print};
use crate::cli::{self, Options};
use crate::config::{Config, Target};
use crate::deeds::announcer;
use crate::exit::{Exit, Fault};
use crate::gather::vips::Seen;
use crate::kernel::{Netlink, Snapshot};
use crate::log;
use crate::report::to_json;

/// How often `--watch` prints.
const EVERY: Duration = Duration::from_secs(1);

/// Clears a terminal (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints one line, or one JSON object, per VIP, and what the agent knows. Exits 0; if its exit code is asked
/// for, with the gravest of all problems: 1 with warnings, 2 with errors, as `check` does.
///
/// # Errors
///
/// A configuration that cannot be used, an unknown master, a kernel that does not answer, or a
/// stdout that cannot be written to. A Sentinel or neighbours that do not answer are part of
/// the status.
pub(super) async fn run(
    of: &cli::Status,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    if of.watch {
        return watch(of, options).await;
    }
    let (text, worst) = tell(of, options, started).await?;
    print(&text).await?;
    Ok(if of.exit_code { worst } else { Exit::Done })
}

/// Prints again and again, until interrupted or nobody reads.
async fn watch(of: &cli::Status, options: &Options) -> anyhow::Result<Exit> {
    let mut next = interval(EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clear = match io::stdout().is_terminal() && !options.json {
        true => CLEAR,
        false => "",
    };
    loop {
        next.tick().await;
        let (text, _) = tell(of, options, Instant::now()).await?;
        match log::stdout(&format!("{clear}{text}")).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written.context("cannot write to stdout")?,
        }
    }
}

/// Returns all that is told, and how grave it is.
async fn tell(
    of: &cli::Status,
    options: &Options,
    started: Instant,
) -> anyhow::Result<(String, Exit)> {
    let config = match load(options, &of.of.masters, started).await {
        Ok(config) => config,
        Err(fault) => {
            tell_agents_view(&of.of.masters, options).await?;
            return Err(fault.into());
        }
    };
    let targets = Target::of(&config, &of.of.masters)?;
    let (looked, agent) = join(look(&config, &targets), Agent::ask(&of.of.masters, options)).await;
    let (mut looked, own, mut alone) = looked?;
    alone.retain(|master| !agent.has_just_failed_over(master));
    for one in &mut looked {
        one.believe(&agent);
    }
    let agent = agent.judge(&config, &of.of.masters);
    let rows = probe(looked, &own, agent.snapshot()).await;
    let colours = colours();
    let mut text = String::new();
    for row in rows
        .iter()
        .filter(|row| row.is_wrong() || !options.quiet || options.json)
    {
        text += &if options.json {
            to_json(row)
        } else {
            row.text(colours)
        };
        text.push('\n');
    }
    let mut is_left_over = false;
    if of.of.masters.is_empty() {
        let left_over = left_over::rows(&config, options.json, colours).await?;
        is_left_over = !left_over.is_empty();
        text += &left_over;
    }
    if !alone.is_empty() {
        text += &alone::row(&alone, options.json, colours);
        text.push('\n');
    }
    if agent.is_wrong() || !options.quiet || options.json {
        text += &match options.json {
            true => agent.json(),
            false => agent.text(colours),
        };
        text.push('\n');
    }
    let is_more_wrong = is_left_over || !alone.is_empty() || agent.is_wrong();
    let others = is_more_wrong.then_some(Exit::Passing);
    let each = rows.iter().map(Status::exit).chain(others);
    let worst = each.max_by_key(|exit| exit.code());
    Ok((text, worst.unwrap_or(Exit::Done)))
}

/// Prints what the agent knows, which goes on with the configuration that it has, where the file cannot be used.
async fn tell_agents_view(masters: &[String], options: &Options) -> anyhow::Result<()> {
    let agent = Agent::ask(masters, options).await;
    if agent.snapshot().is_none() {
        return Ok(());
    }
    let text = match options.json {
        true => agent.json(),
        false => agent.text(colours()),
    };
    print(&(text + "\n")).await
}

/// What is known of each VIP before the network is asked, this host's hardware addresses, and the masters without a
/// replica.
type Look<'a> = (Vec<Looked>, Vec<MacAddr>, Vec<&'a str>);

async fn look<'a>(config: &Config, targets: &[Target<'a>]) -> Result<Look<'a>, Fault> {
    let netlink = Netlink::open()?;
    let vips = config.vips().map(|vip| vip.address).collect();
    let kernel = Snapshot::knowing(&netlink, vips);
    let truths = truth::ask(config, targets, &kernel).await;
    let links = netlink.links().await?;
    let mut all_seen: Vec<Seen> = Vec::new();
    for target in targets {
        let carrier = truths.get(target.name).and_then(|truth| truth.carrier);
        all_seen.push(Seen::of(target, (&kernel, &links), carrier).await?);
    }
    // At once: an announcer that is stopped takes a second.
    let announcers = all_seen.iter().map(|seen| {
        let places = seen.places();
        announcer::latest(
            seen.vip.address,
            places.into_iter().map(|(link, _)| link.index),
        )
    });
    let announcers = join_all(announcers).await;
    let mut looked = Vec::new();
    for ((target, seen), announcer) in targets.iter().zip(&all_seen).zip(announcers) {
        let mut row = Status::new(target, &seen.places(), &config.sentinel, announcer);
        let truth = truths.get(target.name);
        if let Some(truth) = truth {
            row.add_truth(truth);
        }
        looked.push(Looked::new(row, seen, truth));
    }
    // Linux answers for its addresses on every interface (arp_ignore 0): no rival.
    let own = links.iter().filter_map(|link| link.mac).collect();
    Ok((looked, own, alone::masters(&truths)))
}
