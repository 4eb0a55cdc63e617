//! The take-over: bind the VIP and make the network know it, in that order and before anything
//! that can wait; then put right and verify what can wait.

use crate::announce::{PacketSocket, Senders, round};
use crate::exit::Fault;
use crate::link::Link;
use crate::netlink::{Added, Netlink, Route};
use crate::observe::Kernel;
use crate::release;
use crate::vip::{Binding, Vip};

/// A VIP that is bound and announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Where.
    pub link: Link,
    /// Whether it was there already.
    pub already: bool,
    /// How many frames went out.
    pub frames: usize,
}

/// Binds the VIP to an interface and sends one announcement round.
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
) -> Result<Bound, Fault> {
    let link = existing(netlink, ifindex).await?;
    let announcement = Announcement::prepare(senders, &link, vip)?;
    let already = netlink.add_address(&link, &vip).await? == Added::Already;
    let frames = announcement.send()?;
    Ok(Bound {
        link,
        already,
        frames,
    })
}

/// Announces a VIP that is bound already. Returns the interface and how many frames went out.
///
/// # Errors
///
/// As [`bind_and_announce`].
pub async fn announce(
    netlink: &Netlink,
    senders: &mut Senders,
    vip: Vip,
    ifindex: u32,
) -> Result<(Link, usize), Fault> {
    let link = existing(netlink, ifindex).await?;
    let frames = Announcement::prepare(senders, &link, vip)?.send()?;
    Ok((link, frames))
}

/// Removes the VIP from where it does not belong and verifies that it is where it does. Returns
/// the names of the interfaces that it was removed from.
///
/// # Errors
///
/// A VIP that is not there is a passing fault: somebody else removes it.
pub async fn settle(
    netlink: &Netlink,
    vip: Vip,
    link: &Link,
    stray: &[Binding],
) -> Result<Vec<String>, Fault> {
    let removed = release::remove(netlink, vip.address, stray).await?;
    let routed_here = netlink.route(vip.address).await? == Route::Local(link.index);
    if routed_here || is_listed(netlink, vip, link).await? {
        return Ok(removed);
    }
    Err(Fault::passing(format!(
        "{vip} was bound to {} and is gone again",
        link.name
    ))
    .remedy("Something else removes it: a network manager, or another script."))
}

/// An interface that is down has the address and no route to it.
async fn is_listed(netlink: &Netlink, vip: Vip, link: &Link) -> Result<bool, Fault> {
    let bindings = Kernel::new(netlink).bindings(vip.address).await?;
    Ok(bindings.iter().any(|binding| binding.ifindex == link.index))
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
    frames: Vec<Vec<u8>>,
}

impl<'a> Announcement<'a> {
    fn prepare(senders: &'a mut Senders, link: &Link, vip: Vip) -> Result<Self, Fault> {
        let Some(mac) = link.mac else {
            return Ok(Announcement {
                socket: None,
                frames: Vec::new(),
            });
        };
        Ok(Announcement {
            socket: Some(senders.on(link)?),
            frames: round(mac, vip.address),
        })
    }

    fn send(self) -> Result<usize, Fault> {
        if let Some(socket) = self.socket {
            for frame in &self.frames {
                socket.send(frame)?;
            }
        }
        Ok(self.frames.len())
    }
}
