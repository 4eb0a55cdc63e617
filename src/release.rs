//! The release: remove the VIP from here, exactly and everywhere, and nothing else.

use std::net::IpAddr;

use crate::exit::Fault;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::vip::{Binding, Vip};

/// Removes these bindings of a VIP and verifies that none is left. Returns the names of the
/// interfaces.
///
/// # Errors
///
/// Goes on past errors, so that as much as possible is removed, and returns the first. A VIP
/// that is still there afterwards is a passing fault: somebody else adds it.
pub async fn release(
    netlink: &Netlink,
    vip: Vip,
    bindings: &[Binding],
) -> Result<Vec<String>, Fault> {
    let removed = remove(netlink, vip.address, bindings).await?;
    match Kernel::new(netlink).bindings(vip.address).await?.first() {
        None => Ok(removed),
        Some(binding) => Err(Fault::passing(format!(
            "{}/{} was removed and is there again",
            vip.address, binding.prefix
        ))
        .remedy("Something else adds it: a network manager, or another script.")),
    }
}

/// Removes bindings of an address; those already gone are as they should be. Returns the names
/// of the interfaces.
///
/// # Errors
///
/// As [`release`], without the verification.
pub(crate) async fn remove(
    netlink: &Netlink,
    address: IpAddr,
    bindings: &[Binding],
) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    let mut first = None;
    for &binding in bindings {
        match remove_one(netlink, address, binding).await {
            Ok(name) => names.extend(name),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    first.map_or(Ok(names), Err)
}

async fn remove_one(
    netlink: &Netlink,
    address: IpAddr,
    binding: Binding,
) -> Result<Option<String>, Fault> {
    let Some(link) = netlink.link(binding.ifindex).await? else {
        // Gone with its interface.
        return Ok(None);
    };
    netlink.delete_address(&link.name, address, binding).await?;
    Ok(Some(link.name))
}
