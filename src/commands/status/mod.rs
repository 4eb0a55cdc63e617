//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

mod announcing;
mod left_over;
mod probe;
mod row;
mod truth;

use std::time::Instant;

use futures_util::future::join_all;
use pnet_base::MacAddr;

use probe::{Looked, probe};
use row::Status;

use super::{colours, load, print};
use crate::cli::{self, Options};
use crate::config::{Config, Target};
use crate::deeds::announcer;
use crate::exit::{Exit, Fault};
use crate::kernel::{Netlink, Snapshot};
use crate::link::Link;
use crate::report::to_json;
use crate::vip::{Binding, Candidates, Vip, choose_interface};

/// Prints one line, or one JSON object, per VIP. Exits 0; if its exit code is asked for, with the gravest of all
/// problems: 1 with warnings, 2 with errors, as `check` does.
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
    let config = load(options, &of.of.masters, started).await?;
    let targets = Target::of(&config, &of.of.masters)?;
    let (looked, own) = look(&config, &targets).await?;
    let rows = probe(looked, &own).await;
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
    print(&text).await?;
    let left_over = is_left_over.then_some(Exit::Passing);
    let each = rows.iter().map(Status::exit).chain(left_over);
    let worst = each.max_by_key(|exit| exit.code());
    Ok(worst.filter(|_| of.exit_code).unwrap_or(Exit::Done))
}

/// What the kernel says of a VIP.
type Seen = (Vec<(Link, Option<Binding>)>, Result<u32, Fault>);

async fn look(
    config: &Config,
    targets: &[Target<'_>],
) -> Result<(Vec<Looked>, Vec<MacAddr>), Fault> {
    let netlink = Netlink::open()?;
    let vips = config.vips().map(|vip| vip.address).collect();
    let kernel = Snapshot::knowing(&netlink, vips);
    let truths = truth::ask(config, targets, &kernel).await;
    let mut all_seen: Vec<Seen> = Vec::new();
    for target in targets {
        let interface = target.master.interface.as_deref();
        let seen = kernel.see(target.vip.address, interface).await?;
        let belongs_on = choose_interface(&target.vip, &seen, None).map(|(ifindex, _)| ifindex);
        all_seen.push((places(&netlink, &target.vip, &seen).await?, belongs_on));
    }
    // At once: an announcer that is stopped takes a second.
    let announcers = targets.iter().zip(&all_seen).map(|(target, (places, _))| {
        announcer::latest(
            target.vip.address,
            places.iter().map(|(link, _)| link.index),
        )
    });
    let announcers = join_all(announcers).await;
    let mut looked = Vec::new();
    for ((target, (places, belongs_on)), announcer) in targets.iter().zip(all_seen).zip(announcers)
    {
        let mut row = Status::new(target, &places, &config.sentinel, announcer);
        let truth = truths.get(target.name);
        if let Some(truth) = truth {
            row.add_truth(truth);
        }
        looked.push(Looked::new(row, places, belongs_on, truth));
    }
    // Linux answers for its addresses on every interface (arp_ignore 0): no rival.
    let links = netlink.links().await?;
    let own = links.iter().filter_map(|link| link.mac).collect();
    Ok((looked, own))
}

/// Returns the interfaces that have the VIP, with the prefix length of each; else the one that
/// it belongs on, without.
async fn places(
    netlink: &Netlink,
    vip: &Vip,
    seen: &Candidates<'_>,
) -> Result<Vec<(Link, Option<Binding>)>, Fault> {
    let mut places = Vec::new();
    for binding in &seen.bound {
        if let Some(link) = netlink.link(binding.ifindex).await? {
            places.push((link, Some(*binding)));
        }
    }
    if let ([], Ok((ifindex, _))) = (places.as_slice(), choose_interface(vip, seen, None)) {
        places.extend(netlink.link(ifindex).await?.map(|link| (link, None)));
    }
    Ok(places)
}
