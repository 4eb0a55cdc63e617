//! Who is connected through the VIPs: what the holder of one publishes, and what the others know. Pure.
//!
//! What is known is not to be trusted: a user who may PUBLISH on the Redis of a master can have forged it. So it is
//! bounded, read strictly, and used for one thing only: a bare ACK to each of these addresses when this host takes the
//! VIP over. To a host that has no such connection that is a packet of 40 bytes (60 for IPv6) which its kernel
//! answers with a reset; to one that has it with this VIP's new holder it is a duplicate which changes nothing.

mod list;
mod published;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub use list::List;
pub use published::Published;
pub use wire::{Message, Peer, channel};

/// What it costs that a Redis does not carry the list.
pub const WITHOUT_LIST: &str = "the agents cannot tell each other who is connected, so that clients of a host that dies may hang";

/// The rights that the list needs at a Redis, as ACL rules.
pub const RIGHTS: &str = "+publish +subscribe &vipswitch:*";

/// How many clients of a VIP are known, or published, at most.
pub const MOST: usize = 100_000;

/// How many clients of all VIPs are known at most: 18 bytes each.
const MOST_IN_ALL: usize = 2 * MOST;

/// The clients that other holders have published.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By the VIP, and the port of its master's Redis.
    lists: BTreeMap<(IpAddr, u16), List>,
}

impl Known {
    /// Takes in what has arrived on the channel of a VIP, at the Redis of this host that has this port. What no agent
    /// would send changes nothing.
    pub fn learn(&mut self, vip: IpAddr, port: u16, text: &str) {
        let Some(message) = Message::read(text, vip, port) else {
            return;
        };
        let number = |list: &List| list.peers().len();
        let in_all: usize = self.lists.values().map(number).sum();
        let list = self.lists.entry((vip, port)).or_default();
        let room = MOST_IN_ALL.saturating_sub(in_all - number(list));
        list.learn(&message, MOST.min(room));
    }

    /// Returns how many clients of a VIP are known.
    pub fn number(&self, vip: IpAddr) -> usize {
        self.of(vip).map(|(_, list)| list.peers().len()).sum()
    }

    /// Returns the clients of a VIP by the port of its Redis, and forgets them: they are told once.
    pub fn take(&mut self, vip: IpAddr) -> Vec<(u16, Vec<SocketAddr>)> {
        let all = self.of(vip).filter(|(_, list)| !list.peers().is_empty());
        let endpoints = |list: &List| list.peers().iter().map(|peer| peer.endpoint()).collect();
        let all = all.map(|(port, list)| (port, endpoints(list))).collect();
        self.lists.retain(|(of, _), _| *of != vip);
        all
    }

    fn of(&self, vip: IpAddr) -> impl Iterator<Item = (u16, &List)> {
        let of = self.lists.range((vip, 0)..=(vip, u16::MAX));
        of.map(|((_, port), list)| (*port, list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(last: u8) -> IpAddr {
        [192, 168, 56, last].into()
    }

    fn fill(known: &mut Known, vip: IpAddr, port: u16, number: u32) {
        let mut published = Published::new(vip);
        let peer =
            |place: u32| Peer::new(([10, 0, (place >> 16) as u8, 1], (place | 1) as u16).into());
        let clients: Vec<Peer> = (0..number).map(|place| peer(2 * place)).collect();
        for _ in 0..10 {
            for message in published.next(&clients) {
                known.learn(vip, port, &message.text(vip, port));
            }
        }
    }

    #[test]
    fn the_clients_of_a_vip_are_told_once_and_those_of_others_stay() {
        let mut known = Known::default();
        fill(&mut known, vip(250), 8000, 3);
        fill(&mut known, vip(251), 8001, 5);
        assert_eq!((known.number(vip(250)), known.number(vip(251))), (3, 5));
        let taken = known.take(vip(250));
        let [(8000, clients)] = &taken[..] else {
            panic!("{taken:?}")
        };
        assert_eq!(clients[2], "10.0.0.1:5".parse().unwrap());
        assert_eq!((known.number(vip(250)), known.number(vip(251))), (0, 5));
        assert_eq!(known.take(vip(250)), []);
    }

    #[test]
    fn what_is_forged_about_every_vip_takes_a_bounded_room() {
        let mut known = Known::default();
        for last in 1..=5 {
            fill(&mut known, vip(last), 8000, 120_000);
        }
        let numbers: Vec<usize> = (1..=5).map(|last| known.number(vip(last))).collect();
        assert_eq!(numbers, [MOST, MOST, 0, 0, 0]);
        known.take(vip(1));
        fill(&mut known, vip(3), 8000, 7);
        assert_eq!(known.number(vip(3)), 7);
    }
}
