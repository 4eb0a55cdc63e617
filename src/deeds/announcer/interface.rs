//! What the voices on one interface share: its state and a packet socket. One for each address
//! family, as a packet socket receives one.

use std::cell::{Ref, RefCell};
use std::io;
use std::net::IpAddr;

use tokio::io::unix::AsyncFd;

use super::kernel::{Kernel, in_time};
use super::{INTERFACE_GONE, Outcome};
use crate::exit::Fault;
use crate::frames::PacketSocket;
use crate::link::Link;

/// The largest frame that is looked at, and how many between two looks at all else.
const FRAME: usize = 1514;
const BATCH: usize = 64;

/// An interface, for the VIPs of one address family.
pub struct Interface {
    link: RefCell<Link>,
    socket: AsyncFd<PacketSocket>,
}

/// What came of a look at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It has got carrier or another hardware address: the network is to be told at once.
    News,
    /// Nothing that the network has to be told.
    NoNews,
    /// There is no such interface any more.
    Gone,
}

impl Interface {
    /// Opens an interface for VIPs of the family of `like`.
    ///
    /// # Errors
    ///
    /// How each voice on it ends: the interface is gone or has no neighbours, or a netlink or
    /// packet socket fault.
    pub async fn open(kernel: &Kernel, ifindex: u32, like: IpAddr) -> Result<Interface, Outcome> {
        let link = match in_time(kernel.netlink().link(ifindex)).await {
            Err(fault) => return Err(Err(fault)),
            Ok(None) => return Err(Ok(INTERFACE_GONE)),
            Ok(Some(Link { mac: None, .. })) => return Err(Ok("the interface has no neighbours")),
            Ok(Some(link)) => link,
        };
        let socket = PacketSocket::listener(&link, like)
            .and_then(PacketSocket::into_async)
            .map_err(Err)?;
        Ok(Interface {
            link: RefCell::new(link),
            socket,
        })
    }

    /// Returns the interface as the last look has found it.
    pub fn link(&self) -> Ref<'_, Link> {
        self.link.borrow()
    }

    /// Notes that it was without carrier for a while, which the next look may come too late to see.
    pub fn lost_carrier(&self) {
        self.link.borrow_mut().carrier = false;
    }

    /// Looks at the interface anew.
    pub async fn look(&self, kernel: &Kernel) -> Look {
        let index = self.link().index;
        let link = match in_time(kernel.netlink().link(index)).await {
            Ok(Some(link)) => link,
            Ok(None) => return Look::Gone,
            // Not to be known now. Each round asks whether the VIP is here.
            Err(_) => return Look::NoNews,
        };
        let before = self.link.replace(link);
        let now = self.link();
        match now.carrier && !before.carrier || now.mac != before.mac {
            true => Look::News,
            false => Look::NoNews,
        }
    }

    /// Sends one frame. Returns false where it is not taken: the queue is full, or the interface is
    /// down.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.socket.get_ref().send(frame).is_ok()
    }

    /// Waits for frames, and hands on what has come, a batch at most.
    ///
    /// # Errors
    ///
    /// An event loop that cannot watch the socket any more.
    pub async fn receive(&self, mut hear: impl FnMut(&[u8])) -> Result<(), Fault> {
        let readable = self.socket.readable().await;
        let mut ready = readable.map_err(|error| cannot_listen(&self.link(), &error))?;
        let mut buffer = [0; FRAME];
        for _ in 0..BATCH {
            // An interface that went down says so once.
            let Ok(Some(frame)) = self.socket.get_ref().receive(&mut buffer) else {
                ready.clear_ready();
                return Ok(());
            };
            hear(frame);
        }
        Ok(())
    }
}

fn cannot_listen(link: &Link, error: &io::Error) -> Fault {
    Fault::passing(format!("cannot listen on {}: {error}", link.name))
}
