//! The clients of a host that died, with the VIP: nobody has reset their connections, and who waits in SUBSCRIBE or
//! BLPOP sends nothing, so that it would hang for hours. The VIP's new holder sends each a bare ACK in the VIP's
//! name. The client answers with its true numbers, to the VIP, which is here now; and this host's kernel, which
//! knows no such connection, resets it.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::is_here;
use crate::exit::Fault;
use crate::frames::{IpSocket, tcp};
use crate::kernel::{self, Netlink};

/// How long before each time that they are told, since the end of the time before: at once, as the announcement is out
/// already, and again as a frame may be lost, or a neighbour ignore an announcement for a second. A client answers only
/// once in 500 ms (net.ipv4.tcp_invalid_ratelimit): the second time is for packets that never arrived, the later ones
/// for answers that did not, too. A large crowd, who is told for some hundred milliseconds, has time to connect anew.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(2600),
];

/// How many packets go out at once, and the time between two on the average: 40,000 in a second, 22 Mbit/s. As many
/// clients connect anew in that time.
const AT_ONCE: usize = 64;
const APART: Duration = Duration::from_micros(25);

/// How much of a delay is made up for: the timer has milliseconds.
const LATE: Duration = Duration::from_millis(5);

/// The pause before a packet that found a full queue is sent again.
const PAUSE: Duration = Duration::from_millis(1);

/// The pace at which clients are told, which all VIPs of a process share.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the next packets may go out.
    next: Cell<Option<Instant>>,
}

impl Pace {
    /// Takes a turn for so many packets. Returns when they may go out.
    fn turn(&self, now: Instant, number: usize) -> Instant {
        let earliest = now - LATE;
        let at = self.next.get().map_or(earliest, |next| next.max(earliest));
        self.next.set(Some(at + APART.mul_f64(number as f64)));
        at
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
    let (mut done, mut sequence) = (Done::default(), 0);
    for pause in PAUSES {
        sleep(pause).await;
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
        if pause.is_zero() {
            done.clients = clients.len();
        }
        for some in clients.chunks(AT_ONCE) {
            sleep_until(pace.turn(Instant::now(), some.len())).await;
            for client in some {
                done.packets += usize::from(tell(&socket, *local, *client, sequence).await);
            }
            // All else has its turn, too.
            yield_now().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_told_at_a_pace_and_a_small_one_between() {
        let (pace, began) = (Pace::default(), Instant::now());
        let turn = |now: Duration, number| {
            pace.turn(began + now, number)
                .saturating_duration_since(began)
        };
        // 20,000 clients in half a second, a little of it at once.
        let mut now = Duration::ZERO;
        for place in 0..313 {
            now = now.max(turn(now, AT_ONCE));
            assert!(place > 3 || now.is_zero());
            if place == 100 {
                assert!(
                    turn(now, 1) < now + Duration::from_millis(2),
                    "another VIP's client waits"
                );
            }
        }
        assert!((490..500).contains(&now.as_millis()), "{now:?}");
        // After a rest no more is made up for than a few milliseconds.
        now += Duration::from_secs(9);
        let first = began + now;
        let turns: Vec<Instant> = (0..20).map(|_| pace.turn(first, AT_ONCE)).collect();
        assert!(turns[19] > first + Duration::from_millis(20), "{turns:?}");
    }
}
