//! The release: reset the VIP's connections, then remove it from here, exactly and everywhere, and
//! nothing else.

use std::net::IpAddr;

use super::announcer;
use crate::exit::{Fault, Halted};
use crate::kernel::{Address, Netlink, Snapshot, connections, has_marks, reset_connections};
use crate::link::Link;
use crate::lock::Lock;
use crate::outcome::{Released, Reset};
use crate::vip::{Binding, Subnet, Vip, bits};

/// Refuses, if need be, stops the VIP's announcer, resets the VIP's connections, removes these bindings of it, and verifies
/// that none is left. Returns what it did; so it does in the error.
///
/// The reset comes first: once the address is gone no RST can leave, and a client that only
/// listens would never learn of the move. Connections that came in between are counted, and left for
/// [`tickle`](super::tickle).
///
/// # Errors
///
/// Goes on past errors, so that as much as possible is removed, and returns the first. A connection
/// that cannot be reset does not fail the release. A VIP that is still there afterwards is a passing
/// fault: something else adds it. An address that is not to be removed is a permanent one.
pub async fn release(
    netlink: &Netlink,
    lock: &Lock,
    vip: Vip,
    bindings: &[Binding],
) -> Result<Released, Halted<Released>> {
    if let Err(fault) = refuse(netlink, vip, bindings).await {
        return Err(Halted {
            fault,
            done: Released::default(),
        });
    }
    for binding in bindings {
        announcer::dismiss(vip.address, binding.ifindex);
    }
    let reset = reset_connections(vip.address).await;
    let mut done = Released {
        reset,
        routes: keep_routes(netlink, vip.address).await,
        ..Released::default()
    };
    match remove(netlink, lock, vip.address, bindings).await {
        Ok(interfaces) => done.interfaces = interfaces,
        Err(Halted {
            fault,
            done: interfaces,
        }) => {
            done.interfaces = interfaces;
            return Err(Halted { fault, done });
        }
    }
    let left_behind = connections(&[vip.address]).await;
    let left = match Snapshot::new(netlink).bindings(vip.address).await {
        Ok(left) => left,
        Err(fault) => return Err(Halted { fault, done }),
    };
    let Some(binding) = left.first() else {
        let late = match left_behind {
            Ok(connections) => Reset {
                number: connections.len(),
                why_not_all: None,
            },
            Err(why) => Reset {
                number: 0,
                why_not_all: Some(why),
            },
        };
        done.left_behind = late != Reset::default();
        done.reset = done.reset.and(late);
        return Ok(done);
    };
    let text = format!(
        "{}/{} was removed and is there again",
        vip.address, binding.prefix
    );
    let fault = Fault::passing(text)
        .remedy("Something else adds it: a network manager, or another script.");
    Err(Halted { fault, done })
}

/// Refuses to remove an address that may be the host's own: one that does not bear our mark, where it is its
/// interface's only one, and the host has no other in its subnet: without it, it could not be reached there any
/// more. An address that bears the mark anywhere on this host is a VIP that has moved here.
///
/// # Errors
///
/// A refusal is permanent. A kernel without marks cannot tell, and nothing is refused.
pub async fn refuse(netlink: &Netlink, vip: Vip, bindings: &[Binding]) -> Result<(), Fault> {
    if bindings.iter().any(|binding| binding.is_ours) || !has_marks() {
        return Ok(());
    }
    let all = netlink.addresses(vip.address).await?;
    let reaches = |one: &Address| {
        one.local != vip.address
            && one.subnet.prefix < bits(one.local)
            && one.subnet.holds(vip.address)
    };
    // Reached by that one, on whatever interface.
    if all.iter().any(reaches) {
        return Ok(());
    }
    let is_on = |ifindex| move |one: &&Address| one.ifindex == ifindex && is_global(one.local);
    let is_only = |binding: &&Binding| {
        let mut there = all.iter().filter(is_on(binding.ifindex));
        there.all(|one| one.local == vip.address)
    };
    let Some(binding) = bindings.iter().find(is_only) else {
        return Ok(());
    };
    let Some(link) = netlink.link(binding.ifindex).await? else {
        return Ok(());
    };
    let (address, prefix) = (vip.address, binding.prefix);
    Err(Fault::permanent(format!(
        "will not remove {address}/{prefix} from {}: vipswitch has not bound it, and {} has no other {} address, so that this host may be reached by it",
        link.name,
        link.name,
        if address.is_ipv4() { "IPv4" } else { "IPv6" },
    ))
    .remedy(format!(
        "If it is this host's own, correct `vip` in the configuration; else remove it by hand: ip addr del {address}/{prefix} dev {}",
        link.name
    )))
}

/// Whether an address is more than its link's.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

/// Keeps the routes that have the VIP as their source and would go with it, or would go on sending from it.
/// Returns what came of each.
async fn keep_routes(netlink: &Netlink, vip: IpAddr) -> Vec<String> {
    let routes = match netlink.routes_from(vip).await {
        Ok(routes) => routes,
        Err(fault) => return vec![format!("routes with src {vip} are not kept: {fault}")],
    };
    let mut told = Vec::new();
    for route in routes {
        told.push(match netlink.free_route(&route).await {
            Ok(()) => format!("route {route} has lost its src {vip}"),
            Err(fault) => format!("route {route} with src {vip} is not kept: {fault}"),
        });
    }
    told
}

/// Removes bindings of an address; a binding that is gone already is not an error. Returns the names of
/// the interfaces; so it does in the error.
///
/// # Errors
///
/// As [`release`], without the verification.
pub(crate) async fn remove(
    netlink: &Netlink,
    lock: &Lock,
    address: IpAddr,
    bindings: &[Binding],
) -> Result<Vec<String>, Halted<Vec<String>>> {
    let mut removed = Vec::new();
    let mut first = None;
    for &binding in bindings {
        match remove_one(netlink, lock, address, binding).await {
            Ok(name) => removed.extend(name),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    match first {
        None => Ok(removed),
        Some(fault) => Err(Halted {
            fault,
            done: removed,
        }),
    }
}

async fn remove_one(
    netlink: &Netlink,
    lock: &Lock,
    address: IpAddr,
    binding: Binding,
) -> Result<Option<String>, Fault> {
    // Another VIP's run may borrow the interface's setting between our look and our removal.
    let _alone = lock.interface(binding.ifindex).await?;
    let Some(link) = netlink.link(binding.ifindex).await? else {
        // Gone with its interface.
        return Ok(None);
    };
    let promotes = ![0, LENT].contains(&link.promote_secondaries);
    if promotes || !has_dependents(netlink, &link, address, binding).await? {
        netlink.delete_address(&link, address, binding).await?;
        return Ok(Some(link.name));
    }
    let deleted = match netlink.set_promote_secondaries(&link, LENT).await {
        Ok(()) => netlink.delete_address(&link, address, binding).await,
        // It may have been done all the same, if only the answer was lost.
        Err(fault) => Err(fault),
    };
    restore(&link).await?;
    deleted.map(|()| Some(link.name))
}

/// What `promote_secondaries` is for the moment of a removal. Not 1, so that the next run knows
/// that it was not the administrator's if this one is killed meanwhile: any number means yes to the
/// kernel (`IN_DEV_PROMOTE_SECONDARIES` in include/linux/inetdevice.h). An ASCII `v`.
const LENT: i32 = 118;

/// Gives interfaces back what a run had borrowed that was killed.
///
/// # Errors
///
/// A netlink fault.
pub async fn mend(netlink: &Netlink, lock: &Lock) -> Result<(), Fault> {
    let is_lent = |link: &Link| link.promote_secondaries == LENT;
    for link in netlink.links().await?.into_iter().filter(is_lent) {
        let _alone = lock.interface(link.index).await?;
        // The run that had borrowed it may still have been at work.
        if netlink
            .link(link.index)
            .await?
            .as_ref()
            .is_some_and(is_lent)
        {
            restore(&link).await?;
        }
    }
    Ok(())
}

/// Gives an interface its setting back, and does not give up at the first fault.
async fn restore(link: &Link) -> Result<(), Fault> {
    let mut last = Ok(());
    for _ in 0..RESTORE_TRIES {
        last = match Netlink::open() {
            Ok(netlink) => netlink.set_promote_secondaries(link, 0).await,
            Err(fault) => Err(fault),
        };
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Each on a connection of its own: a fault mostly breaks the connection on which it happens.
const RESTORE_TRIES: usize = 5;

/// Returns whether the kernel would remove other addresses with this one: the secondaries of a
/// primary IPv4 address. The host's own address is one if the VIP was there before it.
async fn has_dependents(
    netlink: &Netlink,
    link: &Link,
    address: IpAddr,
    binding: Binding,
) -> Result<bool, Fault> {
    if address.is_ipv6() {
        return Ok(false);
    }
    let subnet = Subnet {
        address: binding.peer,
        prefix: binding.prefix,
    };
    let same = |other: &&Address| {
        other.ifindex == link.index
            && other.subnet.prefix == binding.prefix
            && subnet.holds(other.subnet.address)
    };
    // Asked anew each time: removing one VIP makes another one the primary.
    let all = netlink.addresses(address).await?;
    Ok(all
        .iter()
        .filter(same)
        .any(|other| other.secondary && other.local != address)
        && all
            .iter()
            .filter(same)
            .any(|other| !other.secondary && other.local == address))
}
