//! Each VIP and its interface: where it belongs, who has it, and whether the network would hear of
//! it there.

use super::{NOT_ROOT, error_if, sentinel, warning_if};
use crate::check::facts::Facts;
use crate::check::facts::interface::Interface;
use crate::check::facts::network::{Kernel, Place, Trial};
use crate::check::finding::{Findings, Verdict, error, fault, unknown, warning};
use crate::exit::Exit;
use crate::gather::is_here;
use crate::judgement::{Known, Problem, problems};
use crate::kernel::Address;
use crate::once::left_over::left_over;
use crate::text::escape;
use crate::vip::{Binding, Vip, bits};

pub fn judge(facts: &Facts, findings: &mut Findings) {
    let kernel = match &facts.kernel {
        Ok(kernel) => kernel,
        Err(why) => return findings.add("netlink", "", fault(why)),
    };
    findings.add("netlink", "", trial(&kernel.change));
    findings.add("reset", "", reset(&kernel.reset));
    for vip in left_over(&kernel.addresses, &facts.config, &facts.remembered) {
        let left_over = warning(
            "vipswitch has bound it here, and no master of this configuration has it",
            "`vipswitch sync` releases it.",
        );
        findings.add("left-over", vip, left_over);
    }
    for place in &kernel.places {
        // That is told as `announced-address`.
        if !sentinel::is_a_servers(&place.vip, facts) {
            vip(place, kernel, facts, findings);
        }
        if let Ok(on) = &place.interface {
            interface(on, &place.vip, findings);
        }
    }
}

fn trial(trial: &Trial) -> Verdict {
    match trial {
        Trial::Works => None,
        Trial::Fails(why) => fault(why),
        Trial::NotAllowed => unknown(NOT_ROOT),
    }
}

fn reset(reset: &Trial) -> Verdict {
    match reset {
        Trial::Fails(why) => warning(
            format!("connections cannot be reset at a release: {}", why.cause()),
            "Clients that only listen need TCP keepalive then; or use a kernel with CONFIG_INET_DIAG_DESTROY.",
        ),
        _ => trial(reset),
    }
}

/// Returns what is wrong about a VIP, as `status` judges it, and whether the master's host is known.
fn wrong(place: &Place, kernel: &Kernel, facts: &Facts) -> (Vec<Problem>, bool) {
    let watched = facts.sentinel.iter().flat_map(|told| &told.watched);
    let mut of_master = watched.filter(|one| one.name == place.master);
    let redises = of_master.next().map_or(&[][..], |one| &one.redises);
    let name = |ifindex| {
        let link = kernel.links.iter().find(|link| link.index == ifindex);
        link.map_or("another interface", |link| link.name.as_str())
    };
    let bound = place.bound.iter().map(|binding| binding.ifindex);
    let master_is_here = redises.first().and_then(is_here);
    let problems = problems(&Known {
        belongs_on: place.interface.as_ref().map(|on| on.link.index),
        bound: bound.map(|ifindex| (ifindex, name(ifindex))).collect(),
        master_is_here,
        redis_is_here: redises.iter().map(is_here).max().flatten(),
        claimed_by: place.claimed_by.as_deref(),
        // Other findings tell that.
        undecided: None,
    });
    (problems, master_is_here.is_some())
}

fn vip(place: &Place, kernel: &Kernel, facts: &Facts, findings: &mut Findings) {
    let vip = place.vip;
    let (problems, is_master_known) = wrong(place, kernel, facts);
    let wrong = |check| {
        let mut wrong = problems.iter().map(of_problem);
        wrong.find(|(of, _)| *of == check)?.1
    };
    findings.add("interface", vip, wrong("interface"));
    let Ok(on) = &place.interface else { return };
    let unasked =
        || unknown("the network could not be asked").filter(|_| place.claimed_by.is_none());
    let claimed = wrong("claimed");
    // Where the master is unknown, another finding says why.
    if claimed.is_none() && is_master_known {
        findings.add("holder", vip, wrong("holder").or_else(unasked));
    }
    findings.add("claimed", vip, claimed.or_else(unasked));
    let is_configured = facts.config.masters[&place.master].interface.is_some();
    findings.add(
        "subnet",
        vip,
        subnet(&vip, on, is_configured, &kernel.addresses),
    );
    // An address that something else has bound comes back with every restart of the network.
    let is_foreign = |one: &Address| one.local == vip.address && !one.is_ours;
    let own_address = warning_if(
        kernel.has_marks && kernel.addresses.iter().any(is_foreign),
        "it is bound here and not by vipswitch: what bound it will bind it again after a reboot, wherever the master is",
        "Take it out of the network's configuration; bound by hand, let vipswitch do it: vipswitch unbind, then bind.",
    );
    findings.add("own-address", vip, own_address);
    findings.add("form", vip, form(place, kernel));
    let mut routes = kernel.source_routes.iter();
    let route = routes.find(|(source, _)| *source == vip.address);
    let route = route.and_then(|(_, route)| {
        warning(
            format!("the route {route} has it as its src, and loses that when the VIP goes"),
            "Take `src` out of the route, or have on_take_over set it again.",
        )
    });
    findings.add("route-source", vip, route);
}

/// Judges whether a VIP is bound so that it stays and cannot become a source address. The next take-over mends
/// it; where the master is elsewhere, it is to go at all.
fn form(place: &Place, kernel: &Kernel) -> Verdict {
    let vip = place.vip.address;
    let vips = || kernel.places.iter().map(|place| place.vip.address);
    let has_own = |binding: &Binding| {
        kernel.addresses.iter().any(|one| {
            let is_own = !one.is_ours && !vips().any(|vip| vip == one.local);
            one.ifindex == binding.ifindex && is_own && one.subnet.holds(vip)
        })
    };
    let is_wide = |binding: &&Binding| vip.is_ipv4() && binding.prefix < 32 && has_own(binding);
    let mut bound = place.bound.iter();
    if let Some(wide) = bound.clone().find(is_wide) {
        let text = format!(
            "it is bound as /{}: it can become the address from which this host speaks, and others know Sentinel and Redis by",
            wide.prefix
        );
        return warning(
            text,
            "`vipswitch sync` on the master's host makes it a /32.",
        );
    }
    bound.find(|binding| !binding.lasts)?;
    warning(
        "it is bound with a lifetime, and goes when that is over; or an IPv6 one can be a source address",
        "`vipswitch sync` on the master's host makes it stay.",
    )
}

/// Returns the check that a problem belongs to.
fn of_problem(problem: &Problem) -> (&'static str, Verdict) {
    let (text, remedy) = (problem.text(), problem.remedy());
    let verdict = match problem.exit() {
        Exit::Permanent => error(text, remedy),
        Exit::Passing | Exit::Done => warning(text, remedy),
    };
    let check = match problem {
        Problem::NoInterface(_) | Problem::Misplaced(_) => "interface",
        Problem::SeveralClaim { .. } => "claimed",
        Problem::NotHere(_) | Problem::StillHere | Problem::Nowhere | Problem::Undecided(_) => {
            "holder"
        }
    };
    (check, verdict)
}

fn subnet(vip: &Vip, on: &Interface, is_configured: bool, addresses: &[Address]) -> Verdict {
    let Vip { address, prefix } = *vip;
    let (index, name) = (on.link.index, &on.link.name);
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

fn interface(on: &Interface, vip: &Vip, findings: &mut Findings) {
    let name = &on.link.name;
    let carrier = match on.link.mac {
        None if on.link.carrier => warning(
            "has no neighbours that could be told (loopback, tunnel or no ARP)",
            "Name another `interface`, or have routers told by `on_take_over`.",
        ),
        _ => error_if(
            !on.link.carrier,
            "is down or not connected: nobody would hear of the VIP",
            &format!("ip link set {name} up, and look at its cable or switch port."),
        ),
    };
    findings.add("carrier", name, carrier);
    findings.add("packet-socket", name, trial(&on.socket));
    findings.add("sysctl", name, sysctls(on, vip));
    findings.add("network-manager", name, manager(on));
}

fn manager(on: &Interface) -> Verdict {
    let networkd = on.networkd.as_ref()?;
    let file = escape(&networkd.file);
    let last = file.rsplit('/').next().unwrap_or_default();
    let (keeps, ignores) = (networkd.keeps, networkd.ignores_carrier_loss);
    let when = [
        (!keeps).then_some("when it restarts"),
        (!ignores).then_some("when the cable is out for a moment"),
    ];
    let lines = [
        (!keeps).then_some("KeepConfiguration=static"),
        (!ignores).then_some("IgnoreCarrierLoss=yes"),
    ];
    let [when, lines] = [when, lines].map(|some| some.into_iter().flatten().collect::<Vec<_>>());
    let many = if lines.len() > 1 { "lines" } else { "line" };
    warning_if(
        !lines.is_empty(),
        &format!(
            "systemd-networkd manages it by {file} and removes the VIP {}",
            when.join(" and ")
        ),
        &format!(
            "Put the {many} {} below [Network] in a drop-in, /etc/systemd/network/{last}.d/vipswitch.conf, then: networkctl reload",
            lines.join(" and ")
        ),
    )
}

fn sysctls(on: &Interface, vip: &Vip) -> Verdict {
    let is_whole = vip.prefix == bits(vip.address);
    let mut sysctls = on.sysctls.iter();
    let wrong = sysctls.find_map(|it| Some((it, harm(*it, is_whole)?)));
    let ((name, value), why) = wrong?;
    let interface = &on.link.name;
    warning(
        format!("{name} is {value}: {why}"),
        format!("Set {name} of all and of {interface} to 0, in /etc/sysctl.d."),
    )
}

/// Returns what a sysctl does at a value that hurts (Documentation/networking/ip-sysctl.rst).
fn harm(sysctl: (&str, u32), is_whole: bool) -> Option<&'static str> {
    match sysctl {
        ("arp_ignore", 8) => Some("this host does not answer when it is asked for the VIP"),
        ("arp_ignore", 2) if is_whole => {
            Some("this host does not answer when it is asked for a VIP without a subnet")
        }
        ("drop_gratuitous_arp" | "drop_unsolicited_na", 1) => {
            Some("this host does not learn that the VIP has moved to another")
        }
        ("disable_ipv6", 1) => Some("an IPv6 VIP cannot be bound"),
        _ => None,
    }
}
