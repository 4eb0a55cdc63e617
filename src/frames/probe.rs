//! Asks the network who claims a VIP. The question changes no neighbour's table.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pnet_base::MacAddr;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::{PacketSocket, arp, ndp};
use crate::exit::Fault;
use crate::link::Link;

/// Which VIP is asked after, and where.
pub struct Question<'a> {
    /// The VIP.
    pub vip: IpAddr,
    /// The interface on which its holder would be.
    pub link: &'a Link,
}

/// The largest Ethernet frame without jumbo frames, which no ARP or neighbor message exceeds.
const FRAME: usize = 1514;

/// How many frames of one socket are read between two looks at the clock.
const BATCH: usize = 64;

/// How many claimants of a VIP are remembered. A host that makes hardware addresses up must fill neither memory nor log.
const REMEMBERED: usize = 8;

/// Asks all questions at once and listens for `wait`. Returns for each the hardware addresses,
/// other than this host's `own`, that claim the VIP, the first few of them; none for an interface that has no
/// neighbours.
pub async fn claimants(
    questions: &[Question<'_>],
    own: &[MacAddr],
    wait: Duration,
) -> Vec<Result<Vec<MacAddr>, Fault>> {
    let deadline = Instant::now() + wait;
    join_all(
        questions
            .iter()
            .map(|question| ask(question, own, deadline)),
    )
    .await
}

async fn ask(
    question: &Question<'_>,
    own: &[MacAddr],
    deadline: Instant,
) -> Result<Vec<MacAddr>, Fault> {
    let Question { vip, link } = *question;
    let mut claimants = Vec::new();
    let Some(mac) = link.mac else {
        return Ok(claimants);
    };
    let socket = PacketSocket::listener(link, vip)?;
    socket.send(&match vip {
        IpAddr::V4(vip) => arp::probe(mac, vip),
        IpAddr::V6(vip) => ndp::probe(mac, vip),
    })?;
    let socket = socket.into_async()?;
    while let Ok(ready) = timeout_at(deadline, socket.readable()).await {
        let mut ready = ready
            .map_err(|error| Fault::passing(format!("cannot listen on {}: {error}", link.name)))?;
        if listen(socket.get_ref(), vip, own, &mut claimants)? {
            ready.clear_ready();
        } else {
            // A flood must not keep this from looking at the clock.
            yield_now().await;
        }
    }
    Ok(claimants)
}

/// Takes in what was received. Returns whether that was all.
fn listen(
    socket: &PacketSocket,
    vip: IpAddr,
    own: &[MacAddr],
    claimants: &mut Vec<MacAddr>,
) -> Result<bool, Fault> {
    let mut buffer = [0; FRAME];
    for _ in 0..BATCH {
        let Some(frame) = socket.receive(&mut buffer)? else {
            return Ok(true);
        };
        let claim = match vip {
            IpAddr::V4(vip) => arp::claim(frame, vip),
            IpAddr::V6(vip) => ndp::claim(frame, vip),
        };
        if let Some(mac) = claim.filter(|mac| !own.contains(mac)) {
            remember(mac, claimants);
        }
    }
    Ok(false)
}

fn remember(mac: MacAddr, claimants: &mut Vec<MacAddr>) {
    if claimants.len() < REMEMBERED && !claimants.contains(&mac) {
        claimants.push(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_claimant_is_remembered_once_and_of_a_flood_the_first_few() {
        let mac = |last: u8| MacAddr::new(2, 0, 0, 0, 0, last);
        let mut claimants = Vec::new();
        for last in [1, 2, 1, 2] {
            remember(mac(last), &mut claimants);
        }
        assert_eq!(claimants, [mac(1), mac(2)]);
        (0..=u8::MAX).for_each(|last| remember(mac(last), &mut claimants));
        assert_eq!(claimants[..2], [mac(1), mac(2)]);
        assert!((3..=16).contains(&claimants.len()), "{claimants:?}");
    }
}
