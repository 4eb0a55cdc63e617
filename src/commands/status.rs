//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pnet_base::MacAddr;
use serde::Serialize;
use tokio::time::timeout_at;

use super::{load, print};
use crate::announce::{Question, claimants};
use crate::cli::{Masters, Options};
use crate::config::{Config, SENTINEL_TIMEOUT, Sentinel};
use crate::exit::{Exit, Fault};
use crate::failover::Host;
use crate::link::Link;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::{Call, Seen, ToIs};
use crate::report::to_json;
use crate::run::Target;
use crate::sentinel::{MasterAddress, master_address};
use crate::vip::{Candidates, choose_interface};
use crate::{errno, resolve};

/// How long others may take to answer the probe. A neighbour answers in well under a
/// millisecond, one that sleeps or is busy in some hundred.
const PROBE: Duration = Duration::from_millis(500);

/// How long resolving the names of all masters may take.
const NAMES: Duration = Duration::from_secs(5);

/// What is known about one VIP, under the field names that the README documents.
#[derive(Debug, Serialize)]
struct Status {
    master: String,
    vip: IpAddr,
    prefix: u8,
    bound: bool,
    interface: Option<String>,
    bound_prefix: Option<u8>,
    redis_master: Option<String>,
    redis_master_is_here: Option<bool>,
    sentinel: String,
    sentinel_error: Option<String>,
    probed: bool,
    claimed_by: Vec<String>,
    probe_error: Option<String>,
}

/// Prints one line, or one JSON object, per VIP.
///
/// # Errors
///
/// A configuration that cannot be used, an unknown master, a kernel that does not answer, or a
/// stdout that cannot be written to. A Sentinel or neighbours that do not answer are part of
/// the status.
pub(super) fn run(of: &Masters, options: &Options) -> anyhow::Result<Exit> {
    let config = load(options)?;
    let targets = Target::of(&config, &of.masters)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| errno::open("the event loop", &error))?;
    let looked = runtime.block_on(look(&config, &targets))?;
    let rows: Vec<Status> = probe(looked);
    let mut text = String::new();
    for row in &rows {
        text += &if options.json {
            to_json(row)
        } else {
            row.sentence()
        };
        text.push('\n');
    }
    if options.json || !options.quiet {
        print(&text)?;
    }
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

async fn look(config: &Config, targets: &[Target<'_>]) -> Result<Vec<Looked>, Fault> {
    let netlink = Netlink::open()?;
    let kernel = Kernel::new(&netlink);
    let truths = ask_sentinel(&config.sentinel, targets);
    let names_until = Instant::now() + NAMES;
    let mut looked = Vec::new();
    for target in targets {
        let seen = kernel.see(Call::Bind, target.vip, target.interface).await?;
        let link = place(&netlink, &seen).await?;
        let mut row = Status::new(target, &seen, link.as_ref(), &config.sentinel);
        if let Some(truth) = truths.get(target.master) {
            row.add_truth(truth, &kernel, names_until).await?;
        }
        looked.push(Looked { row, link });
    }
    Ok(looked)
}

/// Returns the interface that has the VIP, else the one that it belongs on.
async fn place(netlink: &Netlink, seen: &Seen<'_>) -> Result<Option<Link>, Fault> {
    let candidates = Candidates {
        configured: seen.configured,
        subnet: seen.subnet,
        carries_to: None,
    };
    let belongs = choose_interface(&seen.vip, candidates)
        .ok()
        .map(|(ifindex, _)| ifindex);
    match seen
        .bound
        .first()
        .map(|binding| binding.ifindex)
        .or(belongs)
    {
        Some(ifindex) => netlink.link(ifindex).await,
        None => Ok(None),
    }
}

impl Status {
    fn new(target: &Target, seen: &Seen, link: Option<&Link>, sentinel: &Sentinel) -> Status {
        let bound = seen.bound.first();
        Status {
            master: target.master.to_owned(),
            vip: target.vip.address,
            prefix: target.vip.prefix,
            bound: bound.is_some(),
            interface: link.map(|link| link.name.clone()),
            bound_prefix: bound.map(|binding| binding.prefix),
            redis_master: None,
            redis_master_is_here: None,
            sentinel: sentinel.address.to_string(),
            sentinel_error: None,
            probed: false,
            claimed_by: Vec::new(),
            probe_error: None,
        }
    }

    async fn add_truth(
        &mut self,
        truth: &Result<Option<MasterAddress>, Fault>,
        kernel: &Kernel<'_>,
        names_until: Instant,
    ) -> Result<(), Fault> {
        let master = match truth {
            Ok(Some(master)) => master,
            Ok(None) => {
                let unknown = format!("Sentinel does not monitor a master named {}", self.master);
                self.sentinel_error = Some(unknown);
                return Ok(());
            }
            Err(fault) => {
                self.sentinel_error = Some(fault.to_string());
                return Ok(());
            }
        };
        self.redis_master = Some(master.to_string());
        let host = match master.host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::Name(master.host.clone()),
        };
        // A name that does not resolve, or not in time, leaves the question open.
        let addresses = timeout_at(names_until.into(), resolve::addresses(&host)).await;
        if let Ok(Ok(addresses)) = addresses {
            self.redis_master_is_here = Some(kernel.where_is(&addresses).await? != ToIs::Elsewhere);
        }
        Ok(())
    }

    fn sentence(&self) -> String {
        let held = match (&self.interface, self.bound_prefix) {
            (Some(interface), Some(prefix)) => {
                format!("{}/{prefix} is here, on {interface}", self.vip)
            }
            _ => format!("{} is not here", self.vip),
        };
        let master = match (&self.redis_master, self.redis_master_is_here) {
            (Some(master), Some(true)) => format!("master is {master}, this host"),
            (Some(master), Some(false)) => format!("master is {master}, another host"),
            (Some(master), None) => {
                format!("master is {master}, a name that does not resolve here")
            }
            (None, _) => format!(
                "master is unknown: {}",
                self.sentinel_error
                    .as_deref()
                    .unwrap_or("Sentinel was not asked")
            ),
        };
        let claims = match (&self.probe_error, self.claimed_by.as_slice()) {
            (Some(error), _) => format!("the network was not asked: {error}"),
            (None, _) if !self.probed => {
                "the network was not asked: no interface with neighbours".into()
            }
            (None, []) if self.bound => "nobody else claims it".into(),
            (None, []) => "nobody claims it".into(),
            (None, macs) if self.bound => format!("ALSO CLAIMED by {}", macs.join(", ")),
            (None, macs) => format!("claimed by {}", macs.join(", ")),
        };
        format!("{}: {held}; {master}; {claims}", self.master)
    }
}

/// Asks the network about all VIPs at once.
fn probe(looked: Vec<Looked>) -> Vec<Status> {
    let (mut rows, links): (Vec<Status>, Vec<Option<Link>>) = looked
        .into_iter()
        .map(|looked| (looked.row, looked.link))
        .unzip();
    let with_neighbours = |(place, link): (usize, &'_ Option<Link>)| {
        link.as_ref()
            .filter(|link| link.mac.is_some())
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
    let answers = claimants(&questions, PROBE);
    for (place, answer) in places.into_iter().zip(answers) {
        let row = &mut rows[place];
        match answer {
            Ok(macs) => {
                row.probed = true;
                row.claimed_by = macs.iter().map(MacAddr::to_string).collect();
            }
            Err(fault) => row.probe_error = Some(fault.to_string()),
        }
    }
    rows
}
