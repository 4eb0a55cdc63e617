//! Each VIP: where it belongs, who has it, and whether the network would hear of it there.

use std::net::IpAddr;

use futures_util::future::join_all;
use pnet_base::MacAddr;

use super::{Known, NOT_ROOT, interface};
use crate::config::Target;
use crate::exit::{Exit, Fault};
use crate::frames::claimants;
use crate::gather::is_here;
use crate::gather::remembered::Memory;
use crate::gather::vips::{PROBE, Seen, question};
use crate::judgement::{self, Problem, problems};
use crate::kernel::{Address, Netlink, Snapshot, SourceRoute, has_marks, try_reset};
use crate::link::Link;
use crate::once::left_over::left_over;
use crate::place::Place;
use crate::privilege::{self, Capability};
use crate::report::finding::{Findings, Verdict, error, unknown, warning, warning_if};
use crate::vip::{Vip, bits};

/// What the kernel says.
struct Kernel {
    addresses: Vec<Address>,
    links: Vec<Link>,
    /// The IPv4 routes that have a source; none where they cannot be listed: a release says so.
    routes: Vec<SourceRoute>,
}

/// Looks at the kernel, asks the network who claims each VIP, and judges. Returns an interface without carrier.
///
/// # Errors
///
/// A netlink fault.
pub async fn judge(known: &Known, findings: &mut Findings) -> Result<Option<String>, Fault> {
    let netlink = Netlink::open()?;
    let mut addresses = netlink.addresses(IpAddr::from([0; 4])).await?;
    addresses.extend(netlink.addresses(IpAddr::from([0; 16])).await?);
    let kernel = Kernel {
        addresses,
        links: netlink.links().await?,
        routes: netlink.source_routes().await.unwrap_or_default(),
    };
    findings.add("reset", "", reset(try_reset().await.err()));
    for vip in left_over(&kernel.addresses, &known.config, &Memory::read()) {
        let left_over = warning(
            "vipswitch has bound it here, and no master of this configuration has it",
            "`vipswitch sync` releases it.",
        );
        findings.add("left-over", vip, left_over);
    }
    let mut cut = None;
    for (place, claimed_by) in places(known, &netlink, &kernel.links).await? {
        // That is told as `announced-address`.
        if !known.is_a_servers(&place.vip) {
            vip((&place, claimed_by.as_deref()), &kernel, known, findings);
        }
        if let Ok(link) = place.belongs_on {
            interface::judge(link, &place.vip, findings);
            cut = cut.or((!link.carrier).then(|| link.name.clone()));
        }
    }
    Ok(cut)
}

/// Looks at every VIP, and asks the network who claims it, where its interface has neighbours to ask. An answer is
/// `None` where it was not asked.
async fn places<'a>(
    known: &'a Known,
    netlink: &Netlink,
    links: &'a [Link],
) -> Result<Vec<(Seen<'a>, Option<Vec<MacAddr>>)>, Fault> {
    let vips = known.config.vips().map(|vip| vip.address).collect();
    let snapshot = Snapshot::knowing(netlink, vips);
    let own: Vec<MacAddr> = links.iter().filter_map(|link| link.mac).collect();
    let mut places = Vec::new();
    for target in Target::of(&known.config, &[] as &[&str])? {
        let mut redises = known.redises(target.name).iter();
        let carries = redises.find_map(|site| match site.place {
            Ok(Place::Here(carrier)) => carrier,
            _ => None,
        });
        places.push(Seen::of(&target, (&snapshot, links), carries).await?);
    }
    let claims = join_all(places.iter().map(async |seen| {
        let link = *seen.belongs_on.as_ref().ok()?;
        let question = question(seen.vip.address, link)?;
        claimants(&[question], &own, PROBE).await.pop()?.ok()
    }));
    let claims = claims.await;
    Ok(places.into_iter().zip(claims).collect())
}

fn reset(why: Option<String>) -> Verdict {
    let why = why?;
    if !privilege::is_there(Capability::NetAdmin) {
        return unknown(NOT_ROOT);
    }
    warning(
        format!("connections cannot be reset at a release: {why}"),
        "Clients that only listen need TCP keepalive then; or use a kernel with CONFIG_INET_DIAG_DESTROY.",
    )
}

/// Returns what is wrong about a VIP, as `status` judges it, and whether the master's host is known.
fn wrong((place, claimed_by): (&Seen, Option<&[MacAddr]>), known: &Known) -> (Vec<Problem>, bool) {
    let redises = known.redises(place.master);
    let master_is_here = redises.first().and_then(is_here);
    let agent = known.agent.as_ref().ok();
    let problems = problems(&judgement::Known {
        belongs_on: place.belongs_on.as_ref().map(|link| link.index),
        bound: place.bound_on(),
        master_is_here,
        redis_is_here: redises.iter().map(is_here).max().flatten(),
        claimed_by,
        // Other findings tell that.
        undecided: None,
        kept: agent.and_then(|agent| agent.keeps(place.master, place.vip.address)),
    });
    (problems, master_is_here.is_some())
}

fn vip(
    (place, claimed_by): (&Seen, Option<&[MacAddr]>),
    kernel: &Kernel,
    known: &Known,
    findings: &mut Findings,
) {
    let vip = place.vip;
    let (problems, is_master_known) = wrong((place, claimed_by), known);
    let wrong = |check| {
        let mut wrong = problems.iter().map(of_problem);
        wrong.find(|(of, _)| *of == check)?.1
    };
    findings.add("interface", vip, wrong("interface"));
    let Ok(link) = &place.belongs_on else { return };
    let unasked = || unknown("the network could not be asked").filter(|_| claimed_by.is_none());
    let claimed = wrong("claimed");
    // Where the master is unknown, another finding says why.
    if claimed.is_none() && is_master_known {
        findings.add("holder", vip, wrong("holder").or_else(unasked));
    }
    findings.add("claimed", vip, claimed.or_else(unasked));
    let is_configured = known.config.masters[place.master].interface.is_some();
    let subnet = subnet(&vip, link, is_configured, &kernel.addresses);
    findings.add("subnet", vip, subnet);
    // An address that something else has bound comes back with every restart of the network.
    let is_foreign = |one: &Address| one.local == vip.address && !one.is_ours;
    let own_address = warning_if(
        has_marks() && kernel.addresses.iter().any(is_foreign),
        "it is bound here and not by vipswitch: what bound it will bind it again after a reboot, wherever the master is",
        "Take it out of the network's configuration; bound by hand, let vipswitch do it: vipswitch unbind, then bind.",
    );
    findings.add("own-address", vip, own_address);
    let mut routes = kernel.routes.iter();
    let route = routes.find(|route| route.source().map(IpAddr::V4) == Some(vip.address));
    let route = route.and_then(|route| {
        warning(
            format!("the route {route} has it as its src, and loses that when the VIP goes"),
            "Take `src` out of the route, or have on_take_over set it again.",
        )
    });
    findings.add("route-source", vip, route);
}

/// Returns the check that a problem belongs to.
fn of_problem(problem: &Problem) -> (&'static str, Verdict) {
    let is_grave = problem.exit() == Exit::Permanent;
    let level = if is_grave { error } else { warning };
    let check = match problem {
        Problem::NoInterface(_) | Problem::Misplaced(_) => "interface",
        Problem::SeveralClaim { .. } => "claimed",
        _ => "holder",
    };
    (check, level(problem.text(), problem.remedy()))
}

fn subnet(vip: &Vip, link: &Link, is_configured: bool, addresses: &[Address]) -> Verdict {
    let Vip { address, prefix } = *vip;
    let (index, name) = (link.index, &link.name);
    let holds = |one: &&Address| {
        let is_subnet = one.subnet.prefix < bits(one.local) && one.subnet.holds(address);
        is_subnet && one.ifindex == index && one.local != address
    };
    let holding = addresses.iter().filter(holds);
    let length = holding.map(|one| one.subnet.prefix).max();
    let is_whole = prefix == bits(address);
    match length {
        Some(length) if !is_whole && length != prefix => warning(
            format!(
                "the subnet of {name} is a /{length}: with another prefix length other hosts are looked for in the wrong place"
            ),
            format!("Write {address}/{length}, or no prefix length."),
        ),
        None if is_configured || !is_whole => warning(
            format!("no subnet of {name} holds it: the hosts there will not ask for it"),
            "Correct `vip` or `interface`, or see to it that a router sends it there.",
        ),
        _ => None,
    }
}
