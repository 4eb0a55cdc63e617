//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

mod row;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pnet_base::MacAddr;

use row::Status;

use super::{colours, load, print};
use crate::cli::{Masters, Options};
use crate::config::{Config, Target};
use crate::exit::{Exit, Fault};
use crate::failover::Endpoint;
use crate::frames::{Question, claimants};
use crate::gather;
use crate::judgement::{Known, problems};
use crate::kernel::{Netlink, Snapshot};
use crate::link::Link;
use crate::report::to_json;
use crate::vip::{Binding, Candidates, Vip, choose_interface};

/// How long others may take to answer the probe. A neighbour answers in well under a
/// millisecond, a sleeping or busy neighbour in some hundred.
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
pub(super) async fn run(of: &Masters, options: &Options, started: Instant) -> anyhow::Result<Exit> {
    let config = load(options, &of.masters, started).await?;
    let targets = Target::of(&config, &of.masters)?;
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
    print(&text).await?;
    Ok(Exit::Done)
}

/// A row, and what its problem is judged by.
struct Looked {
    row: Status,
    /// Where the VIP's holder can be asked for.
    link: Option<Link>,
    belongs_on: Result<u32, Fault>,
    bound: Vec<Link>,
}

/// What Sentinel says of each master.
type Truths<'a> = BTreeMap<&'a str, Result<Option<Endpoint>, Fault>>;

/// Asks Sentinel about every master. A Sentinel that does not answer is not asked again: 60 masters
/// would be 60 times its deadline.
async fn ask_sentinel<'a>(config: &Config, targets: &[Target<'a>]) -> Truths<'a> {
    let mut truths = Truths::new();
    let mut silent = None;
    for target in targets {
        if truths.contains_key(target.name) {
            continue;
        }
        let answer = match &silent {
            Some(fault) => Err(Fault::clone(fault)),
            None => gather::master_of(config, target.name).await,
        };
        silent = silent.or_else(|| answer.as_ref().err().cloned());
        truths.insert(target.name, answer);
    }
    truths
}

async fn look(
    config: &Config,
    targets: &[Target<'_>],
) -> Result<(Vec<Looked>, Vec<MacAddr>), Fault> {
    let netlink = Netlink::open()?;
    let kernel = Snapshot::new(&netlink);
    let truths = ask_sentinel(config, targets).await;
    let names_until = Instant::now() + NAMES;
    let mut looked = Vec::new();
    for target in targets {
        let seen = kernel
            .see(target.vip.address, target.master.interface.as_deref())
            .await?;
        let places = places(&netlink, &target.vip, &seen).await?;
        let mut row = Status::new(target, &places, &config.sentinel).await;
        if let Some(truth) = truths.get(target.name) {
            row.add_truth(truth, &kernel, names_until).await?;
        }
        let link = places.first().map(|(link, _)| link.clone());
        let bound = places
            .into_iter()
            .filter_map(|(link, binding)| binding.map(|_| link));
        looked.push(Looked {
            row,
            link,
            belongs_on: choose_interface(&target.vip, &seen, None).map(|(ifindex, _)| ifindex),
            bound: bound.collect(),
        });
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

/// Asks the network about all VIPs at once, and judges what is known of each then.
async fn probe(mut looked: Vec<Looked>, own: &[MacAddr]) -> Vec<Status> {
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for (place, one) in looked.iter().enumerate() {
        let with_neighbours = |link: &&Link| link.mac.is_some() && link.carrier;
        if let Some(link) = one.link.as_ref().filter(with_neighbours) {
            asked.push(place);
            questions.push(Question {
                vip: one.row.vip,
                link,
            });
        }
    }
    let answers = claimants(&questions, own, PROBE).await;
    let mut claims: Vec<Option<Result<Vec<MacAddr>, Fault>>> = vec![None; looked.len()];
    for (place, answer) in asked.into_iter().zip(answers) {
        claims[place] = Some(answer);
    }
    for (one, claim) in looked.iter_mut().zip(claims) {
        one.judge(claim);
    }
    looked.into_iter().map(|one| one.row).collect()
}

impl Looked {
    /// Adds who claims the VIP, and what is wrong about it.
    fn judge(&mut self, claim: Option<Result<Vec<MacAddr>, Fault>>) {
        let row = &mut self.row;
        if let Some(link) = self.link.as_ref().filter(|link| !link.carrier) {
            row.probe_error = Some(format!("{} has no carrier", link.name));
        }
        let claimed_by = match claim {
            Some(Ok(macs)) => Some(macs),
            Some(Err(fault)) => {
                row.probe_error = Some(fault.to_string());
                None
            }
            None => None,
        };
        let known = Known {
            belongs_on: self.belongs_on.as_ref().copied(),
            bound: self
                .bound
                .iter()
                .map(|link| (link.index, link.name.as_str()))
                .collect(),
            master_is_here: row.redis_master_is_here,
            redis_is_here: None,
            claimed_by: claimed_by.as_deref(),
        };
        row.problem = problems(&known).first().map(ToString::to_string);
        row.probed = claimed_by.is_some();
        row.claimed_by = claimed_by
            .unwrap_or_default()
            .iter()
            .map(MacAddr::to_string)
            .collect();
    }
}
