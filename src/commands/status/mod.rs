//! `status`: who is master, who holds the VIP, does anyone else claim it. Changes nothing.

mod row;
mod truth;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pnet_base::MacAddr;

use row::Status;
use truth::Truth;

use super::{colours, load, print};
use crate::cli::{self, Options};
use crate::config::{Config, Target};
use crate::deeds::announcer;
use crate::exit::{Exit, Fault};
use crate::frames::{Question, claimants};
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
    let config = load(options, started).await?;
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
    print(&text).await?;
    let worst = rows.iter().map(Status::exit).max_by_key(|exit| exit.code());
    Ok(worst.filter(|_| of.exit_code).unwrap_or(Exit::Done))
}

/// A row, and what its problem is judged by.
struct Looked {
    row: Status,
    /// Where the VIP's holder can be asked for.
    link: Option<Link>,
    belongs_on: Result<u32, Fault>,
    bound: Vec<Link>,
    /// Whether the VIP belongs here, if that is known.
    master_is_here: Option<bool>,
    /// Why `sync` could decide nothing.
    undecided: Option<Fault>,
    /// The addresses of the master's host, where that is another one.
    master_at: Vec<IpAddr>,
}

/// What the kernel says of a VIP.
type Seen = (Vec<(Link, Option<Binding>)>, Result<u32, Fault>);

async fn look(
    config: &Config,
    targets: &[Target<'_>],
) -> Result<(Vec<Looked>, Vec<MacAddr>), Fault> {
    let netlink = Netlink::open()?;
    let kernel = Snapshot::new(&netlink);
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
    let names_until = Instant::now() + NAMES;
    let mut looked = Vec::new();
    for ((target, (places, belongs_on)), announcer) in targets.iter().zip(all_seen).zip(announcers)
    {
        let mut row = Status::new(target, &places, &config.sentinel, announcer);
        let truth = truths.get(target.name);
        if let Some(truth) = truth {
            row.add_truth(&truth.said, &kernel, names_until).await?;
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

/// Who answers for an address on an interface.
type Claims = Vec<(u32, IpAddr, Result<Vec<MacAddr>, Fault>)>;

/// Asks the network about all VIPs at once, and for the hosts of their masters; judges what is known of each
/// then.
async fn probe(mut looked: Vec<Looked>, own: &[MacAddr]) -> Vec<Status> {
    let mut questions: Vec<Question> = Vec::new();
    for one in &looked {
        let with_neighbours = |link: &&Link| link.mac.is_some() && link.carrier;
        let Some(link) = one.link.as_ref().filter(with_neighbours) else {
            continue;
        };
        for &vip in [&one.row.vip].into_iter().chain(&one.master_at) {
            let is_it = |asked: &Question| (asked.vip, asked.link.index) == (vip, link.index);
            if !questions.iter().any(is_it) {
                questions.push(Question { vip, link });
            }
        }
    }
    let answers = claimants(&questions, own, PROBE).await;
    let asked = questions.iter().zip(answers);
    let claims: Claims = asked
        .map(|(question, answer)| (question.link.index, question.vip, answer))
        .collect();
    for one in &mut looked {
        one.judge(&claims);
    }
    looked.into_iter().map(|one| one.row).collect()
}

impl Looked {
    fn new(
        row: Status,
        places: Vec<(Link, Option<Binding>)>,
        belongs_on: Result<u32, Fault>,
        truth: Option<&Truth>,
    ) -> Looked {
        let master_is_here = truth.and_then(Truth::is_here).or(row.redis_master_is_here);
        let is_elsewhere = master_is_here == Some(false) && row.redis_master_is_here == Some(false);
        let master_at = truth.filter(|_| is_elsewhere);
        let bound = places.iter().filter(|(_, binding)| binding.is_some());
        Looked {
            row,
            link: places.first().map(|(link, _)| link.clone()),
            belongs_on,
            bound: bound.map(|(link, _)| link.clone()).collect(),
            master_is_here,
            undecided: truth.and_then(Truth::undecided).cloned(),
            master_at: master_at
                .map(|truth| truth.addresses.clone())
                .unwrap_or_default(),
        }
    }

    /// Returns who answers for an address where the VIP's holder would be, if that was asked.
    fn answers<'c>(
        &self,
        claims: &'c Claims,
        of: IpAddr,
    ) -> Option<&'c Result<Vec<MacAddr>, Fault>> {
        let on = self.link.as_ref()?.index;
        let mut claims = claims.iter();
        let (_, _, answer) = claims.find(|(link, address, _)| (*link, *address) == (on, of))?;
        Some(answer)
    }

    /// Adds who claims the VIP, and what is wrong about it.
    fn judge(&mut self, claims: &Claims) {
        let claim = self.answers(claims, self.row.vip).cloned();
        let at_master = self
            .master_at
            .iter()
            .filter_map(|of| self.answers(claims, *of));
        let masters: Vec<MacAddr> = at_master.flatten().flatten().copied().collect();
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
        let names = self.bound.iter();
        let known = Known {
            belongs_on: self.belongs_on.as_ref().copied(),
            bound: names.map(|link| (link.index, link.name.as_str())).collect(),
            master_is_here: self.master_is_here,
            redis_is_here: None,
            claimed_by: claimed_by.as_deref(),
            undecided: self.undecided.as_ref(),
        };
        row.add_problems(&problems(&known));
        row.probed = claimed_by.is_some();
        let claimed_by = claimed_by.unwrap_or_default();
        row.held_by_masters_host = match claimed_by.as_slice() {
            [holder] if !row.bound && !masters.is_empty() => Some(masters.contains(holder)),
            _ => None,
        };
        row.claimed_by = claimed_by.iter().map(MacAddr::to_string).collect();
    }
}
