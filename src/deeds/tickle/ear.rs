//! Who has the VIP now: the ear hears it announced, and asks once.

use std::future::pending;
use std::net::IpAddr;

use pnet_base::MacAddr;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use crate::frames::{Heard, PacketSocket, arp, hear, ndp};
use crate::link::Link;

/// The largest frame that is looked at, and how many between two looks at all else.
const FRAME: usize = 1514;
const BATCH: usize = 64;

/// An ear on the interface that had the VIP.
pub struct Ear(Option<Open>);

struct Open {
    vip: IpAddr,
    mac: MacAddr,
    socket: AsyncFd<PacketSocket>,
}

impl Ear {
    /// Listens from now on, and asks who has the VIP; the question changes no neighbour's table. Without an
    /// interface that has neighbours, or without the socket, nothing will be heard.
    pub fn open(vip: IpAddr, link: Option<&Link>) -> Ear {
        let open = |link: &Link| {
            let mac = link.mac?;
            let socket = PacketSocket::listener(link, vip).ok()?;
            // Who does not hear the question is heard when it announces.
            let _ = socket.send(&match vip {
                IpAddr::V4(vip) => arp::probe(mac, vip),
                IpAddr::V6(vip) => ndp::probe(mac, vip),
            });
            let socket = socket.into_async().ok()?;
            Some(Open { vip, mac, socket })
        };
        Ear(link.and_then(open))
    }

    /// Waits until another hardware address claims the VIP, and returns it.
    pub async fn claim(&self) -> MacAddr {
        let Some(Open { vip, mac, socket }) = &self.0 else {
            return pending().await;
        };
        while let Ok(mut ready) = socket.readable().await {
            let mut buffer = [0; FRAME];
            for _ in 0..BATCH {
                // An interface that went down says so once.
                let Ok(Some(frame)) = socket.get_ref().receive(&mut buffer) else {
                    ready.clear_ready();
                    break;
                };
                if let Some(Heard::Rival(rival)) = hear(frame, *mac, *vip) {
                    return rival;
                }
            }
            // The network may never fall silent.
            yield_now().await;
        }
        pending().await
    }
}
