//! The release: reset the VIP's connections, then remove it from here, exactly and everywhere, and
//! nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::announcer;
use crate::exit::{Fault, Halted};
use crate::kernel::{
    Address, Netlink, Snapshot, SourceRoute, connections, has_marks, reset_connections,
};
use crate::link::Link;
use crate::lock::Lock;
use crate::outcome::{Released, Reset};
use crate::vip::{Binding, Subnet, Vip, bits};

/// A VIP that is to go, and what is known of its host.
pub struct Leaving<'a> {
    /// The VIP.
    pub vip: Vip,
    /// Where it is bound.
    pub bindings: &'a [Binding],
    /// All VIPs of the configuration: none is the host's own address.
    pub vips: &'a BTreeSet<IpAddr>,
    /// The routes that have the VIP as their source. Listed beforehand: with a full table it takes a quarter of a
    /// second, in which clients that were reset would come back.
    pub routes: Result<Vec<SourceRoute>, Fault>,
}

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
    leaving: Leaving<'_>,
) -> Result<Released, Halted<Released>> {
    let Leaving { vip, bindings, .. } = leaving;
    if let Err(fault) = refuse(netlink, vip, bindings, leaving.vips).await {
        return Err(Halted {
            fault,
            done: Released::default(),
        });
    }
    for binding in bindings {
        announcer::dismiss(vip.address, binding.ifindex);
    }
    let mut routes = Routes::of(vip.address, leaving.routes);
    let reset = reset_connections(vip.address).await;
    let mut done = Released {
        reset,
        ..Released::default()
    };
    let removed = remove_with(netlink, lock, vip.address, bindings, &mut routes).await;
    if removed.is_err() {
        routes.put_back().await;
    }
    done.routes = routes.told();
    match removed {
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

/// Refuses to remove an address that may be the host's own: one that does not bear our mark, where the host has no
/// other of its own in its subnet and on its interface, or where another of its own is there only as a secondary
/// of it. An address that bears the mark anywhere on this host is a VIP that has moved here; `vips` are no
/// addresses of the host's own.
///
/// # Errors
///
/// A refusal is permanent. A kernel without marks cannot tell, and nothing is refused.
pub async fn refuse(
    netlink: &Netlink,
    vip: Vip,
    bindings: &[Binding],
    vips: &BTreeSet<IpAddr>,
) -> Result<(), Fault> {
    if bindings.iter().any(|binding| binding.is_ours) || !has_marks() {
        return Ok(());
    }
    let address = vip.address;
    let all = netlink.addresses(address).await?;
    let Some((binding, why)) = reason(address, bindings, &all, vips) else {
        return Ok(());
    };
    let Some(link) = netlink.link(binding.ifindex).await? else {
        return Ok(());
    };
    let (prefix, name) = (binding.prefix, &link.name);
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let why = match why {
        Why::Only => {
            format!("{name} has no other {family} address, so that this host may be reached by it")
        }
        Why::Primary(of) => format!(
            "it is the primary address there and {of} its secondary, so that it may be this host's own"
        ),
    };
    Err(Fault::permanent(format!(
        "will not remove {address}/{prefix} from {name}: vipswitch has not bound it, and {why}"
    ))
    .remedy(format!(
        "If it is this host's own, correct `vip` in the configuration; else remove it by hand: ip addr del {address}/{prefix} dev {name}"
    )))
}

/// Why an address may be the host's own.
enum Why {
    /// Its interface has no other.
    Only,
    /// It is the primary one of this one of the host's own.
    Primary(IpAddr),
}

/// Returns the binding that may be the host's own address among `all`, and why, if one may.
fn reason<'a>(
    vip: IpAddr,
    bindings: &'a [Binding],
    all: &[Address],
    vips: &BTreeSet<IpAddr>,
) -> Option<(&'a Binding, Why)> {
    let is_own = |one: &&Address| one.local != vip && !one.is_ours && !vips.contains(&one.local);
    let own: Vec<&Address> = all.iter().filter(is_own).collect();
    let subnet = |binding: &Binding| Subnet {
        address: binding.peer,
        prefix: binding.prefix,
    };
    let is_primary = |binding: &&Binding| {
        let mut there = all.iter().filter(|one| one.local == vip && !one.secondary);
        there.any(|one| (one.ifindex, one.subnet) == (binding.ifindex, subnet(binding)))
    };
    for binding in bindings.iter().filter(is_primary) {
        let subnet = subnet(binding);
        let depends = |one: &&&Address| {
            one.ifindex == binding.ifindex
                && one.secondary
                && one.subnet.prefix == subnet.prefix
                && subnet.holds(one.subnet.address)
        };
        // Nothing tells it from a VIP that a script had bound before the host's own address came again.
        if let Some(secondary) = own.iter().find(depends) {
            return Some((binding, Why::Primary(secondary.local)));
        }
    }
    let reaches = |one: &&Address| one.subnet.prefix < bits(one.local) && one.subnet.holds(vip);
    // Reached by that one, on whatever interface.
    if own.iter().any(reaches) {
        return None;
    }
    let is_only = |binding: &&Binding| {
        let is_there = |one: &&Address| one.ifindex == binding.ifindex && is_global(one.local);
        !own.iter().any(is_there)
    };
    let mut primary = bindings.iter().filter(is_primary);
    primary.find(is_only).map(|binding| (binding, Why::Only))
}

/// Whether an address is more than its link's.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

/// The routes that have a VIP as their source and would go with it, or would go on sending from it.
#[derive(Default)]
struct Routes {
    pending: Vec<SourceRoute>,
    /// Each with whether one without a source was added for it.
    freed: Vec<(SourceRoute, bool)>,
    failed: Vec<String>,
    source: Option<IpAddr>,
}

impl Routes {
    fn of(source: IpAddr, routes: Result<Vec<SourceRoute>, Fault>) -> Routes {
        let why = |fault: &Fault| format!("routes with src {source} are not kept: {fault}");
        Routes {
            failed: routes.as_ref().err().map(why).into_iter().collect(),
            pending: routes.unwrap_or_default(),
            freed: Vec::new(),
            source: Some(source),
        }
    }

    /// Takes their source from them, once.
    async fn free(&mut self, netlink: &Netlink) {
        for route in std::mem::take(&mut self.pending) {
            match netlink.free_route(&route).await {
                Ok(added) => self.freed.push((route, added)),
                Err(fault) => {
                    let text = format!("route {route} with its src is not kept: {fault}");
                    self.failed.push(text);
                }
            }
        }
    }

    /// Gives them their source back, where the VIP has stayed: on a connection of its own, as the other one may
    /// be what has failed. Where the VIP has gone the kernel refuses it.
    async fn put_back(&mut self) {
        if self.freed.is_empty() {
            return;
        }
        let Ok(netlink) = Netlink::open() else { return };
        let mut kept = Vec::new();
        for (route, added) in std::mem::take(&mut self.freed) {
            if netlink.put_route_back(&route, added).await.is_err() {
                kept.push((route, added));
            }
        }
        self.freed = kept;
    }

    /// Returns what came of each.
    fn told(self) -> Vec<String> {
        let source = self.source.map(|source| source.to_string());
        let source = source.unwrap_or_default();
        let lost =
            |(route, _): &(SourceRoute, bool)| format!("route {route} has lost its src {source}");
        self.freed.iter().map(lost).chain(self.failed).collect()
    }
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
    remove_with(netlink, lock, address, bindings, &mut Routes::default()).await
}

async fn remove_with(
    netlink: &Netlink,
    lock: &Lock,
    address: IpAddr,
    bindings: &[Binding],
    routes: &mut Routes,
) -> Result<Vec<String>, Halted<Vec<String>>> {
    let mut removed = Vec::new();
    let mut first = None;
    for &binding in bindings {
        match remove_one(netlink, lock, address, binding, routes).await {
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
    routes: &mut Routes,
) -> Result<Option<String>, Fault> {
    // Another VIP's run may borrow the interface's setting between our look and our removal.
    let _alone = lock.interface(binding.ifindex).await?;
    let Some(link) = netlink.link(binding.ifindex).await? else {
        // Gone with its interface.
        return Ok(None);
    };
    let promotes = ![0, LENT].contains(&link.promote_secondaries);
    let lends = !promotes && has_dependents(netlink, &link, address, binding).await?;
    netlink.forget_neighbour(&link, address).await;
    // Not before all else that may fail or take long.
    routes.free(netlink).await;
    if !lends {
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
