//! The take-over: bind the VIP and make the network know it, in that order and before anything
//! that can wait; then put right and verify what can wait.

use std::net::IpAddr;
use std::rc::Rc;

use super::release;
use crate::exit::{Fault, Halted};
use crate::frames::{PacketSocket, Senders, directed, round};
use crate::kernel::{Added, Netlink, Route, Snapshot};
use crate::link::Link;
use crate::lock::Lock;
use crate::outcome::Sent;
use crate::plan::Goal;
use crate::vip::{Binding, Vip};

/// An announcement of a VIP that is ready to go: only binding and sending are left.
pub struct Prepared {
    /// Where the VIP is to be.
    pub link: Link,
    vip: Vip,
    /// None on a link without neighbours.
    socket: Option<Rc<PacketSocket>>,
    frames: Vec<Vec<u8>>,
}

impl Prepared {
    /// Opens what the announcement of a VIP on an interface needs, and makes its frames.
    ///
    /// # Errors
    ///
    /// Without the privilege for the frames it is permanent; otherwise a netlink or packet socket fault.
    pub async fn new(
        netlink: &Netlink,
        senders: &Senders,
        vip: Vip,
        ifindex: u32,
    ) -> Result<Prepared, Fault> {
        // Passing, because the next attempt looks which interface it belongs on now.
        let link = netlink.link(ifindex).await?.ok_or_else(|| {
            Fault::passing(format!("interface number {ifindex} has just been removed"))
        })?;
        let socket = match link.mac {
            None => None,
            Some(_) => Some(senders.on(&link)?),
        };
        let frames = round(&link, vip.address);
        Ok(Prepared {
            link,
            vip,
            socket,
            frames,
        })
    }

    /// Binds the VIP, unless it is there already, and sends the announcement, unless `bound`, which is called between
    /// the two, says why not. Returns whether this has bound it, and what went out; so it does in the error.
    ///
    /// # Errors
    ///
    /// A netlink or packet socket fault, and what `bound` says; doing it again is safe.
    pub async fn bind_and_announce(
        &self,
        netlink: &Netlink,
        goal: &Goal,
        bound: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(bool, Sent), Halted<bool>> {
        let added = self.bind(netlink, goal).await?;
        match bound().and_then(|()| self.announce()) {
            Ok(sent) => Ok((added, sent)),
            Err(fault) => {
                let reached = format!(
                    "{} is on {} and was not announced",
                    self.vip, self.link.name
                );
                Err(Halted {
                    fault: fault.within(&reached),
                    done: added,
                })
            }
        }
    }

    /// Binds the VIP as it is to be. Returns whether it was not there before in any form.
    async fn bind(&self, netlink: &Netlink, goal: &Goal) -> Result<bool, Fault> {
        let vip = Vip {
            prefix: goal.prefix,
            ..self.vip
        };
        match goal.adopt {
            None => bind(netlink, &self.link, vip).await,
            Some(there) if there.prefix != goal.prefix => {
                netlink.add_address(&self.link, &vip).await?;
                Ok(false)
            }
            Some(there) if !there.lasts => {
                netlink
                    .renew_address(&self.link, vip.address, there)
                    .await?;
                Ok(false)
            }
            Some(_) => Ok(false),
        }
    }

    /// Sends the announcement. Returns what went out.
    ///
    /// # Errors
    ///
    /// A packet socket fault.
    pub fn announce(&self) -> Result<Sent, Fault> {
        let Some(socket) = &self.socket else {
            return Ok(Sent::NoNeighbours);
        };
        for frame in &self.frames {
            socket.send(frame)?;
        }
        // Without carrier the kernel drops them without a word.
        Ok(if self.link.carrier {
            Sent::Frames(self.frames.len())
        } else {
            Sent::NoCarrier
        })
    }

    /// Asks these neighbours for their hardware address in the name of the VIP. Returns how many frames
    /// went out.
    ///
    /// # Errors
    ///
    /// A packet socket fault.
    pub fn ask(&self, peers: &[IpAddr]) -> Result<usize, Fault> {
        let frames = directed(&self.link, self.vip.address, peers);
        if let Some(socket) = &self.socket {
            for frame in &frames {
                socket.send(frame)?;
            }
        }
        Ok(frames.len())
    }
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

/// A host has one or two gateways; a router may have hundreds.
const MOST_GATEWAYS: usize = 8;

/// What was put right about a VIP that is there.
#[derive(Debug, Default)]
pub struct Settled {
    /// The names of the interfaces that it was removed from.
    pub removed: Vec<String>,
    /// The prefix length of a subnet that it had on its own interface.
    pub narrowed: Option<u8>,
}

/// Removes the VIP from where it does not belong, and verifies that it is on `link`, as it is to be. Returns
/// what it has done; so it does in the error.
///
/// # Errors
///
/// A VIP that is not there is a passing fault: something else removes it.
pub async fn settle(
    netlink: &Netlink,
    lock: &Lock,
    vip: Vip,
    link: &Link,
    goal: &Goal,
) -> Result<Settled, Halted<Settled>> {
    let bindings = Snapshot::new(netlink).bindings(vip.address).await?;
    let (here, stray): (Vec<Binding>, Vec<Binding>) = bindings
        .into_iter()
        .partition(|binding| binding.ifindex == link.index);
    let mut done = Settled::default();
    match release::remove(netlink, lock, vip.address, &stray).await {
        Ok(removed) => done.removed = removed,
        Err(Halted {
            fault,
            done: removed,
        }) => {
            done.removed = removed;
            return Err(Halted { fault, done });
        }
    }
    let (wide, fit): (Vec<Binding>, Vec<Binding>) = here
        .into_iter()
        .partition(|binding| goal.is_too_wide(binding));
    if fit.iter().any(|binding| binding.usable) {
        // Last, so that at no moment the address is not there.
        if let Err(Halted { fault, .. }) = release::remove(netlink, lock, vip.address, &wide).await
        {
            return Err(Halted { fault, done });
        }
        done.narrowed = wide.first().map(|binding| binding.prefix);
        return Ok(done);
    }
    let text = format!("{vip} was bound to {} and is gone again", link.name);
    let fault = Fault::passing(text)
        .remedy("Something else removes it: a network manager, or another script.");
    Err(Halted { fault, done })
}
