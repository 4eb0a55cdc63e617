//! The release: reset the VIP's connections, then remove it from here, exactly and everywhere, and
//! nothing else.

use std::net::IpAddr;

use super::announcer;
use crate::exit::{Fault, Halted};
use crate::kernel::{Address, Netlink, Snapshot, connections, reset_connections};
use crate::link::Link;
use crate::lock::Lock;
use crate::outcome::{Released, Reset};
use crate::vip::{Binding, Subnet, Vip};

/// Stops the VIP's announcer, resets the VIP's connections, removes these bindings of it, and verifies
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
/// fault: something else adds it.
pub async fn release(
    netlink: &Netlink,
    lock: &Lock,
    vip: Vip,
    bindings: &[Binding],
) -> Result<Released, Halted<Released>> {
    for binding in bindings {
        announcer::dismiss(vip.address, binding.ifindex);
    }
    let reset = reset_connections(vip.address).await;
    let mut done = Released {
        reset,
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
