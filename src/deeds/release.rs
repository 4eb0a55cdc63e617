//! The release: reset the VIP's connections, then remove it from here, exactly and everywhere, and
//! nothing else.

use std::net::IpAddr;

use crate::deeds::announcer;
use crate::exit::Fault;
use crate::kernel::Snapshot;
use crate::kernel::{Address, Netlink, Reset, reset_connections};
use crate::link::Link;
use crate::lock::Lock;
use crate::vip::{Binding, Subnet, Vip};

/// What a release has changed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The interfaces that the VIP was removed from.
    pub interfaces: Vec<String>,
    /// What came of resetting its connections.
    pub reset: Reset,
}

/// Stops the VIP's announcer, resets the VIP's connections, removes these bindings of it, and verifies that none is left.
/// Adds to `released` what it does, also if what follows fails.
///
/// The reset comes first: once the address is gone no RST can leave, and a client that only
/// listens would never learn of the move. A second one takes those that came in between.
///
/// # Errors
///
/// Goes on past errors, so that as much as possible is removed, and returns the first. Connections
/// that cannot be reset are none. A VIP that is still there afterwards is a passing fault:
/// somebody else adds it.
pub async fn release(
    netlink: &Netlink,
    lock: &Lock,
    vip: Vip,
    bindings: &[Binding],
    released: &mut Released,
) -> Result<(), Fault> {
    for binding in bindings {
        announcer::dismiss(vip.address, binding.ifindex);
    }
    let before = reset_connections(vip.address).await;
    let removed = remove(
        netlink,
        lock,
        vip.address,
        bindings,
        &mut released.interfaces,
    )
    .await;
    let swept = reset_connections(vip.address).await;
    released.reset = std::mem::take(&mut released.reset).and(before).and(swept);
    removed?;
    match Snapshot::new(netlink).bindings(vip.address).await?.first() {
        None => Ok(()),
        Some(binding) => Err(Fault::passing(format!(
            "{}/{} was removed and is there again",
            vip.address, binding.prefix
        ))
        .remedy("Something else adds it: a network manager, or another script.")),
    }
}

/// Removes bindings of an address; those already gone are as they should be. Adds the names of
/// the interfaces to `removed`.
///
/// # Errors
///
/// As [`release`], without the verification.
pub(crate) async fn remove(
    netlink: &Netlink,
    lock: &Lock,
    address: IpAddr,
    bindings: &[Binding],
    removed: &mut Vec<String>,
) -> Result<(), Fault> {
    let mut first = Ok(());
    for &binding in bindings {
        match remove_one(netlink, lock, address, binding).await {
            Ok(name) => removed.extend(name),
            Err(fault) => first = first.and(Err(fault)),
        }
    }
    first
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
        // The one that had borrowed it may have been at work still.
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

/// Each on a connection of its own, as a fault mostly breaks the one that it happens on.
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
