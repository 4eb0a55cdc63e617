//! The take-over: bind the VIP and make the network know it, in that order and before anything
//! that can wait; then put right and verify what can wait.

use std::net::IpAddr;

use crate::deeds::release;
use crate::exit::Fault;
use crate::frames::{PacketSocket, Senders, directed, round};
use crate::kernel::Snapshot;
use crate::kernel::{Added, Netlink, Route};
use crate::link::Link;
use crate::lock::Lock;
use crate::report::Sent;
use crate::vip::{Binding, Vip};

/// A VIP that is bound and announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Where.
    pub link: Link,
    /// What went out.
    pub sent: Sent,
}

/// Binds the VIP to an interface, unless it is `there` already, and sends one announcement
/// round. `added` becomes true if this has bound it, also if what follows fails.
///
/// # Errors
///
/// Without the privilege for the frames nothing is changed. Otherwise a netlink or packet
/// socket fault; doing it again is safe.
pub async fn bind_and_announce(
    netlink: &Netlink,
    senders: &mut Senders,
    vip: Vip,
    ifindex: u32,
    there: bool,
    added: &mut bool,
) -> Result<Bound, Fault> {
    let link = existing(netlink, ifindex).await?;
    let announcement = Announcement::prepare(senders, &link, vip)?;
    if !there {
        *added |= bind(netlink, &link, vip).await?;
    }
    let sent = announcement.send().map_err(|fault| {
        fault.within(&format!("{vip} is on {} and was not announced", link.name))
    })?;
    Ok(Bound { link, sent })
}

/// Adds the address. Returns whether it was not there before, or not usable.
async fn bind(netlink: &Netlink, link: &Link, vip: Vip) -> Result<bool, Fault> {
    if netlink.add_address(link, &vip).await? == Added::New {
        return Ok(true);
    }
    if vip.address.is_ipv4() || netlink.route(vip.address).await? == Route::Local(link.index) {
        return Ok(false);
    }
    // Duplicate address detection goes on, or found the old holder: it never works by itself.
    for binding in Snapshot::new(netlink).bindings(vip.address).await? {
        if binding.ifindex == link.index && !binding.usable {
            netlink.delete_address(link, vip.address, binding).await?;
        }
    }
    Ok(netlink.add_address(link, &vip).await? == Added::New)
}

/// Asks these neighbours for their hardware address in the name of the VIP. Returns how many frames
/// went out.
///
/// # Errors
///
/// As [`bind_and_announce`].
pub fn ask(senders: &mut Senders, vip: Vip, link: &Link, peers: &[IpAddr]) -> Result<usize, Fault> {
    let frames = directed(link, vip.address, peers);
    if frames.is_empty() {
        return Ok(0);
    }
    let socket = senders.on(link)?;
    for frame in &frames {
        socket.send(frame)?;
    }
    Ok(frames.len())
}

/// Returns the neighbours whose answers prove that the network delivers to a VIP: these `known`
/// ones, and the `gateways` of its interface, each once.
pub fn peers(vip: Vip, known: &[IpAddr], gateways: &[IpAddr]) -> Vec<IpAddr> {
    let mut peers = Vec::new();
    for &peer in known.iter().chain(gateways.iter().take(MOST_GATEWAYS)) {
        let usable = peer.is_ipv4() == vip.address.is_ipv4() && peer != vip.address;
        if usable && !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

/// A host has one gateway or two; one that routes for others may have hundreds.
const MOST_GATEWAYS: usize = 8;

/// Announces a VIP that is bound already. Returns where, and what went out.
///
/// # Errors
///
/// As [`bind_and_announce`].
pub async fn announce(
    netlink: &Netlink,
    senders: &mut Senders,
    vip: Vip,
    ifindex: u32,
) -> Result<Bound, Fault> {
    let link = existing(netlink, ifindex).await?;
    let sent = Announcement::prepare(senders, &link, vip)?.send()?;
    Ok(Bound { link, sent })
}

/// Removes the VIP from where it does not belong, and verifies that it is where it does. Adds
/// the names of the interfaces that it was removed from to `removed`.
///
/// # Errors
///
/// A VIP that is not there is a passing fault: somebody else removes it.
pub async fn settle(
    netlink: &Netlink,
    lock: &Lock,
    vip: Vip,
    link: &Link,
    removed: &mut Vec<String>,
) -> Result<(), Fault> {
    let bindings = Snapshot::new(netlink).bindings(vip.address).await?;
    let (here, stray): (Vec<Binding>, Vec<Binding>) = bindings
        .into_iter()
        .partition(|binding| binding.ifindex == link.index);
    release::remove(netlink, lock, vip.address, &stray, removed).await?;
    if here.iter().any(|binding| binding.usable) {
        return Ok(());
    }
    Err(Fault::passing(format!(
        "{vip} was bound to {} and is gone again",
        link.name
    ))
    .remedy("Something else removes it: a network manager, or another script."))
}

async fn existing(netlink: &Netlink, ifindex: u32) -> Result<Link, Fault> {
    // Passing, because the next attempt looks which interface it belongs on now.
    netlink
        .link(ifindex)
        .await?
        .ok_or_else(|| Fault::passing(format!("interface number {ifindex} has just been removed")))
}

/// One round of frames, ready to go. A link without neighbours has none.
struct Announcement<'a> {
    socket: Option<&'a PacketSocket>,
    carrier: bool,
    frames: Vec<Vec<u8>>,
}

impl<'a> Announcement<'a> {
    fn prepare(senders: &'a mut Senders, link: &Link, vip: Vip) -> Result<Self, Fault> {
        let (socket, frames) = match link.mac {
            None => (None, Vec::new()),
            Some(_) => (Some(senders.on(link)?), round(link, vip.address)),
        };
        Ok(Announcement {
            socket,
            carrier: link.carrier,
            frames,
        })
    }

    fn send(self) -> Result<Sent, Fault> {
        let Some(socket) = self.socket else {
            return Ok(Sent::NoNeighbours);
        };
        for frame in &self.frames {
            socket.send(frame)?;
        }
        // Without carrier the kernel drops them without a word.
        Ok(if self.carrier {
            Sent::Frames(self.frames.len())
        } else {
            Sent::NoCarrier
        })
    }
}
