//! The clients of a host that died, with the VIP: nobody has reset their connections, and who waits in SUBSCRIBE or
//! BLPOP sends nothing, so that it would hang for hours. The VIP's new holder sends each a bare ACK in the VIP's
//! name. The client answers with its true numbers, to the VIP, which is here now; and this host's kernel, which
//! knows no such connection, resets it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::time::{sleep, sleep_until};

use super::clients::Pace;
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

/// How many packets go out before a pause: about 40,000 in a second, with the pause as short as the clock has it. As
/// many clients connect anew in that time.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

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
        sleep_until((began + round).into()).await;
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
        for some in clients.chunks(AT_ONCE) {
            let _turn = pace.lock().await;
            for client in some {
                done.packets += usize::from(tell(&socket, *local, *client, sequence).await);
            }
            sleep(PAUSE).await;
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
