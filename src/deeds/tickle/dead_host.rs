//! The clients of a host that died, with the VIP: nobody has reset their connections, and who waits in SUBSCRIBE or
//! BLPOP sends nothing, so that it would hang for hours. The VIP's new holder sends each a bare ACK in the VIP's
//! name. The client answers with its true numbers, to the VIP, which is here now; and this host's kernel, which
//! knows no such connection, resets it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Mutex;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::is_here;
use crate::exit::Fault;
use crate::frames::{IpSocket, tcp};
use crate::kernel::{self, Netlink};

/// When they are told, since the VIP was bound: at once, as the announcement is out already, and again as a frame may
/// be lost, or a neighbour ignore an announcement for a second. A client answers only once in 500 ms
/// (net.ipv4.tcp_invalid_ratelimit): the second time is for packets that never arrived, the later ones for answers
/// that did not, too.
const ROUNDS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(900),
    Duration::from_millis(2400),
    Duration::from_secs(5),
];

/// How many packets go out at once, and the time between two on the average: 40,000 in a second, 22 Mbit/s. As many
/// clients connect anew in that time.
const AT_ONCE: u32 = 64;
const APART: Duration = Duration::from_micros(25);

/// How much of a delay is made up for: the timer has milliseconds.
const LATE: Duration = Duration::from_millis(5);

/// The pause before a packet that found a full queue is sent again.
const PAUSE: Duration = Duration::from_millis(1);

/// The pace at which clients are told, which all VIPs of a process share: each waits for its turn.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next packets may go out.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until [`AT_ONCE`] packets may go out.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        let earliest = Instant::now() - LATE;
        let at = next.map_or(earliest, |next| next.max(earliest));
        sleep_until(at).await;
        *next = Some(at + APART * AT_ONCE);
        drop(next);
        // All else has its turn, too.
        yield_now().await;
    }
}

/// The clients of a VIP, as its holder had them that is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// The VIP and the port of the Redis.
    pub local: SocketAddr,
    /// The clients, as far as is known. They may be forged.
    pub clients: Vec<SocketAddr>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many clients were told.
    pub clients: usize,
    /// How many packets went out to them.
    pub packets: usize,
    /// How many had connected anew, by the same port of theirs, before they were told.
    pub reconnected: usize,
}

/// Tells the clients of a dead host, as long as the VIP is here. Takes some seconds.
///
/// A client that has connected anew is left alone. Were it told all the same, because it did so just now, its answer
/// would reach its own connection here, which takes it for a duplicate.
///
/// # Errors
///
/// A netlink fault, or no socket to send from.
pub async fn tell_orphans(orphans: &Orphans, pace: &Pace) -> Result<Done, Fault> {
    let Orphans { local, clients } = orphans;
    let netlink = Netlink::open()?;
    let vip = local.ip();
    let socket = IpSocket::open(vip, None)?;
    let own: HashSet<IpAddr> = {
        let addresses = netlink.addresses(vip).await?;
        addresses.iter().map(|address| address.local).collect()
    };
    let clients = clients.iter().filter(|client| !own.contains(&client.ip()));
    let mut clients: Vec<SocketAddr> = clients.copied().collect();
    let (began, mut done, mut sequence) = (Instant::now(), Done::default(), 0);
    for round in ROUNDS {
        sleep_until(began + round).await;
        if clients.is_empty() || !is_here(&netlink, vip).await? {
            break;
        }
        let mut connected = HashSet::new();
        // What is not listed is told once more: that harms nobody.
        let note = |_, peer| {
            connected.insert(peer);
        };
        let _ = kernel::peers(&[*local], note).await;
        let before = clients.len();
        clients.retain(|client| !connected.contains(client));
        done.reconnected += before - clients.len();
        if round.is_zero() {
            done.clients = clients.len();
        }
        for some in clients.chunks(AT_ONCE as usize) {
            pace.turn().await;
            for client in some {
                done.packets += usize::from(tell(&socket, *local, *client, sequence).await);
            }
        }
        // A number within the client's window gets no answer: the next lies outside then.
        sequence ^= 1 << 31;
    }
    Ok(done)
}

/// Returns whether the packet went out. The next round tries again what did not.
async fn tell(socket: &IpSocket, local: SocketAddr, client: SocketAddr, sequence: u32) -> bool {
    let Some(packet) = tcp::bare_ack(local, client, sequence) else {
        return false;
    };
    match socket.send(&packet, client) {
        Err(Errno::EAGAIN | Errno::ENOBUFS) => {
            sleep(PAUSE).await;
            socket.send(&packet, client).is_ok()
        }
        sent => sent.is_ok(),
    }
}
