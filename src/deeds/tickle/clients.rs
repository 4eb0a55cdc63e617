//! The clients of a VIP that is gone: their connections, and the tickle for each.

use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::Job;
use crate::exit::Fault;
use crate::frames::{IpSocket, tcp};
use crate::kernel::{Connection, Netlink, Route};
use crate::link::Link;
use crate::vip::Subnet;

/// How many clients of one VIP are told at most.
const MOST: usize = 100_000;

/// How many packets go out before a pause. With the pause they are 0.1 ms apart on average.
const AT_ONCE: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// One VIP's turn to send: all VIPs of a process share the pace.
pub type Pace = Mutex<()>;

/// Connections that the VIP has left behind.
pub struct Clients {
    connections: Vec<Connection>,
    routed: IpSocket,
    /// For clients in the subnet that this host was in only by the VIP. IPv4 alone: there a packet that is to leave
    /// through one interface needs no route (`ip_route_output_key_hash_rcu` in net/ipv4/route.c).
    on_link: Option<(Subnet, IpSocket)>,
    /// Changes with each round.
    sequence: u32,
}

impl Clients {
    /// Opens what it takes to tell the clients at the other end of these connections. `link` is the
    /// interface that had the VIP.
    ///
    /// # Errors
    ///
    /// As [`IpSocket::open`].
    pub async fn new(
        netlink: &Netlink,
        job: &Job,
        link: Option<&Link>,
        connections: &[Connection],
    ) -> Result<Clients, Fault> {
        let vip = job.vip.address;
        // An end of a connection of the VIP with itself was on this host, and is reset.
        let others = connections.iter().filter(|one| one.peer.ip() != vip);
        let connections = others.take(MOST).cloned().collect();
        let route = netlink.route(vip).await.unwrap_or(Route::Elsewhere);
        let alone = link.filter(|link| {
            let is_there = matches!(route, Route::OnLink(on, _) if on == link.index);
            vip.is_ipv4() && !is_there
        });
        let on_link = alone.and_then(|link| {
            let socket = IpSocket::open(vip, Some(&link.name)).ok()?;
            let subnet = Subnet {
                address: vip,
                prefix: job.vip.prefix,
            };
            Some((subnet, socket))
        });
        Ok(Clients {
            connections,
            routed: IpSocket::open(vip, None)?,
            on_link,
            sequence: 0,
        })
    }

    /// Returns how many there are.
    pub fn number(&self) -> usize {
        self.connections.len()
    }

    /// Tells each once. Returns how many packets went out.
    pub async fn tell(&mut self, pace: &Pace) -> usize {
        let mut sent = 0;
        for some in self.connections.chunks(AT_ONCE) {
            let _turn = pace.lock().await;
            for connection in some {
                sent += usize::from(self.tickle(connection).await);
            }
            sleep(PAUSE).await;
        }
        self.sequence ^= 1 << 31;
        sent
    }

    /// Returns whether the packet went out. The next round tries again what did not.
    async fn tickle(&self, Connection { local, peer, .. }: &Connection) -> bool {
        let Some(packet) = tcp::bare_ack(*local, *peer, self.sequence) else {
            return false;
        };
        let is_near = |(subnet, _): &&(Subnet, IpSocket)| subnet.holds(peer.ip());
        let socket = match self.on_link.as_ref().filter(is_near) {
            Some((_, socket)) => socket,
            None => &self.routed,
        };
        match socket.send(&packet, *peer) {
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                sleep(PAUSE).await;
                socket.send(&packet, *peer).is_ok()
            }
            sent => sent.is_ok(),
        }
    }
}
