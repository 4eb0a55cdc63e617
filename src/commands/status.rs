//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pnet_base::MacAddr;
use serde::Serialize;
use tokio::time::timeout_at;

use super::{load, print};
use crate::announce::{Question, claimants};
use crate::announcer::{self, Known, Summary};
use crate::cli::{Masters, Options};
use crate::config::{Config, SENTINEL_TIMEOUT, Sentinel};
use crate::exit::{Exit, Fault};
use crate::failover::Host;
use crate::link::Link;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::ToIs;
use crate::report::{printable, to_json};
use crate::run::Target;
use crate::sentinel::{MasterAddress, master_address};
use crate::vip::{Binding, Candidates, Vip, choose_interface};
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
    bindings: Vec<BoundTo>,
    interface: Option<String>,
    redis_master: Option<String>,
    redis_master_is_here: Option<bool>,
    sentinel: String,
    sentinel_error: Option<String>,
    probed: bool,
    claimed_by: Vec<String>,
    probe_error: Option<String>,
    announcer: Option<Announcing>,
    problem: Option<String>,
}

/// What is known of the VIP's announcer: the one at work, else the last one.
#[derive(Debug, Serialize)]
struct Announcing {
    at_work: bool,
    /// Since it ended.
    seconds_ago: Option<u64>,
    #[serde(flatten)]
    summary: Summary,
}

impl fmt::Display for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let confirmed = self.summary.confirmed();
        match self.seconds_ago {
            None => write!(f, "; it is being announced, confirmed by {confirmed}")?,
            Some(ago) => {
                let ago = ago_in_words(ago);
                write!(f, "; it was announced ({ago}), confirmed by {confirmed}")?;
            }
        }
        if !self.summary.rivals.is_empty() {
            write!(f, ", rivals {}", self.summary.rivals.join(", "))?;
        }
        Ok(())
    }
}

impl From<Known> for Announcing {
    fn from(known: Known) -> Self {
        let (summary, age) = match known {
            Known::AtWork(summary) => (summary, None),
            Known::Ended(summary, age) => (summary, Some(age.as_secs())),
        };
        Announcing {
            at_work: age.is_none(),
            seconds_ago: age,
            summary,
        }
    }
}

fn ago_in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

/// One place where a VIP is bound.
#[derive(Debug, Serialize)]
struct BoundTo {
    interface: String,
    prefix: u8,
    usable: bool,
}

impl fmt::Display for BoundTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unusable = if self.usable {
            ""
        } else {
            " but unusable (duplicate address detection)"
        };
        write!(f, "on {} as /{}{unusable}", self.interface, self.prefix)
    }
}

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
        .map_err(|error| errno::open("the event loop", &error))?;
    let (looked, own) = runtime.block_on(look(&config, &targets))?;
    let rows: Vec<Status> = probe(looked, &own);
    let mut text = String::new();
    for row in &rows {
        text += &if options.json {
            to_json(row)
        } else {
            printable(&row.sentence())
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

async fn look(
    config: &Config,
    targets: &[Target<'_>],
) -> Result<(Vec<Looked>, Vec<MacAddr>), Fault> {
    let netlink = Netlink::open()?;
    let kernel = Kernel::new(&netlink);
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

impl Status {
    fn new(target: &Target, places: &[(Link, Option<Binding>)], sentinel: &Sentinel) -> Status {
        let bound = places.iter().filter_map(|(link, binding)| {
            let Binding { prefix, usable, .. } = (*binding)?;
            Some(BoundTo {
                interface: link.name.clone(),
                prefix,
                usable,
            })
        });
        Status {
            master: target.master.to_owned(),
            vip: target.vip.address,
            prefix: target.vip.prefix,
            bound: places.iter().any(|(_, binding)| binding.is_some()),
            bindings: bound.collect(),
            interface: places.first().map(|(link, _)| link.name.clone()),
            redis_master: None,
            redis_master_is_here: None,
            sentinel: sentinel.address.to_string(),
            sentinel_error: None,
            probed: false,
            claimed_by: Vec::new(),
            probe_error: None,
            announcer: announcer::latest(
                target.vip.address,
                places.iter().map(|(link, _)| link.index),
            )
            .map(Announcing::from),
            problem: None,
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
            let is_here = kernel.where_is(&addresses).await? != ToIs::Elsewhere;
            self.redis_master_is_here = Some(is_here);
            let apart = match (is_here, self.bound) {
                (true, false) => {
                    Some("the master is here and the VIP is not: `vipswitch sync` brings it")
                }
                (false, true) => {
                    Some("the master is on another host: `vipswitch sync` releases the VIP")
                }
                _ => None,
            };
            self.problem = self.problem.take().or(apart.map(str::to_owned));
        }
        Ok(())
    }

    fn sentence(&self) -> String {
        let bindings: Vec<String> = self.bindings.iter().map(ToString::to_string).collect();
        let held = match bindings.as_slice() {
            [] => format!("{} is not here", self.vip),
            bindings => format!("{} is here, {}", self.vip, bindings.join(" and ")),
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
        let announcing = match (&self.announcer, self.bound) {
            (Some(announcing), true) => announcing.to_string(),
            _ => String::new(),
        };
        let problem = self.problem.as_ref().map(|why| format!("; PROBLEM: {why}"));
        format!(
            "{}: {held}{announcing}; {master}; {claims}{}",
            self.master,
            problem.unwrap_or_default()
        )
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
