//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

mod row;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pnet_base::MacAddr;

use row::Status;

use super::{colours, load, print};
use crate::cli::{Masters, Options};
use crate::config::{Config, SENTINEL_TIMEOUT, Sentinel};
use crate::exit::{Exit, Fault};
use crate::frames::{Question, claimants};
use crate::kernel::Netlink;
use crate::kernel::Snapshot;
use crate::kernel_error;
use crate::link::Link;
use crate::report::to_json;
use crate::run::Target;
use crate::sentinel::{MasterAddress, master_address};
use crate::vip::{Binding, Candidates, Vip, choose_interface};

/// How long others may take to answer the probe. A neighbour answers in well under a
/// millisecond, one that sleeps or is busy in some hundred.
const PROBE: Duration = Duration::from_millis(500);

/// How long resolving the names of all masters may take.
const NAMES: Duration = Duration::from_secs(5);

/// Prints one line, or one JSON object, per VIP.
///
/// # Errors
///
/// A configuration that cannot be used, an unknown master, a kernel that does not answer, or a
/// stdout that cannot be written to. A Sentinel or neighbours that do not answer are part of
/// the status.
pub(super) fn run(of: &Masters, options: &Options, started: Instant) -> anyhow::Result<Exit> {
    let config = load(options, started)?;
    let targets = Target::of(&config, &of.masters)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| kernel_error::open("the event loop", &error))?;
    let (looked, own) = runtime.block_on(look(&config, &targets))?;
    let rows: Vec<Status> = probe(looked, &own);
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
    print(&text)?;
    Ok(Exit::Done)
}

/// A row, and where the VIP's holder can be asked for.
struct Looked {
    row: Status,
    link: Option<Link>,
}

/// What Sentinel says of each master.
type Truths<'a> = BTreeMap<&'a str, Result<Option<MasterAddress>, Fault>>;

/// Asks Sentinel about every master. One that does not answer is not asked again: 60 masters
/// would be 60 times its deadline.
fn ask_sentinel<'a>(sentinel: &Sentinel, targets: &[Target<'a>]) -> Truths<'a> {
    let mut truths = Truths::new();
    let mut silent = None;
    for target in targets {
        if truths.contains_key(target.master) {
            continue;
        }
        let answer = match &silent {
            Some(fault) => Err(Fault::clone(fault)),
            None => master_address(sentinel, target.master, SENTINEL_TIMEOUT),
        };
        silent = silent.or_else(|| answer.as_ref().err().cloned());
        truths.insert(target.master, answer);
    }
    truths
}

async fn look(
    config: &Config,
    targets: &[Target<'_>],
) -> Result<(Vec<Looked>, Vec<MacAddr>), Fault> {
    let netlink = Netlink::open()?;
    let kernel = Snapshot::new(&netlink);
    let truths = ask_sentinel(&config.sentinel, targets);
    let names_until = Instant::now() + NAMES;
    let mut looked = Vec::new();
    for target in targets {
        let seen = kernel.see_all(target.vip.address, target.interface).await?;
        let places = places(&netlink, &target.vip, &seen).await?;
        let mut row = Status::new(target, &places, &config.sentinel);
        row.problem = problem(&target.vip, &seen, &places);
        if let Some(truth) = truths.get(target.master) {
            row.add_truth(truth, &kernel, names_until).await?;
        }
        let link = places.into_iter().next().map(|(link, _)| link);
        looked.push(Looked { row, link });
    }
    // Linux answers for its addresses on every interface (arp_ignore 0): no rival.
    let own = netlink
        .links()
        .await?
        .iter()
        .filter_map(|link| link.mac)
        .collect();
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

/// Returns why this host could not take the VIP over, or that it has it in the wrong place.
fn problem(vip: &Vip, seen: &Candidates, places: &[(Link, Option<Binding>)]) -> Option<String> {
    match choose_interface(vip, seen, None) {
        Err(fault) => Some(fault.to_string()),
        Ok((ifindex, _)) => {
            let (link, _) = places
                .iter()
                .find(|(link, binding)| binding.is_some() && link.index != ifindex)?;
            Some(format!(
                "{vip} does not belong on {}: `vipswitch bind` moves it",
                link.name
            ))
        }
    }
}

/// Asks the network about all VIPs at once.
fn probe(looked: Vec<Looked>, own: &[MacAddr]) -> Vec<Status> {
    let (mut rows, links): (Vec<Status>, Vec<Option<Link>>) = looked
        .into_iter()
        .map(|looked| (looked.row, looked.link))
        .unzip();
    for (row, link) in rows.iter_mut().zip(&links) {
        if let Some(link) = link.as_ref().filter(|link| !link.carrier) {
            row.probe_error = Some(format!("{} has no carrier", link.name));
        }
    }
    let with_neighbours = |(place, link): (usize, &'_ Option<Link>)| {
        link.as_ref()
            .filter(|link| link.mac.is_some() && link.carrier)
            .map(|_| place)
    };
    let places: Vec<usize> = links
        .iter()
        .enumerate()
        .filter_map(with_neighbours)
        .collect();
    let questions: Vec<Question> = places
        .iter()
        .filter_map(|&place| {
            Some(Question {
                vip: rows[place].vip,
                link: links[place].as_ref()?,
            })
        })
        .collect();
    let answers = claimants(&questions, own, PROBE);
    for (place, answer) in places.into_iter().zip(answers) {
        let row = &mut rows[place];
        match answer {
            Ok(macs) => {
                row.probed = true;
                row.claimed_by = macs.iter().map(MacAddr::to_string).collect();
                if row.bound && !macs.is_empty() {
                    let claimed = || "another machine answers for the VIP, too".to_owned();
                    row.problem.get_or_insert_with(claimed);
                }
            }
            Err(fault) => row.probe_error = Some(fault.to_string()),
        }
    }
    rows
}
