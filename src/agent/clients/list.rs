//! The clients of one VIP, in order, in a few bytes each.

use super::wire::{Message, Peer};

/// The clients of one VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// In order, none twice.
    peers: Vec<Peer>,
}

impl List {
    /// Makes one of clients in any order, of whom some may stand twice; at most so many.
    pub fn of(mut peers: Vec<Peer>, most: usize) -> List {
        peers.sort_unstable();
        peers.dedup();
        peers.truncate(most);
        List { peers }
    }

    /// Returns the clients in their order.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Takes in what was said about it. It has `most` clients at most; those for whom there is no room are left out.
    pub fn learn(&mut self, message: &Message, most: usize) {
        match message {
            Message::Came(peers) => self.add(peers, most),
            Message::Gone(peers) => {
                let is_gone = |peer: &Peer| peers.binary_search(peer).is_ok();
                self.peers.retain(|peer| !is_gone(peer));
            }
            Message::All(from, to, peers) => {
                let begin = self.peers.partition_point(|peer| peer < from);
                let end = self.peers.partition_point(|peer| peer <= to);
                let others = self.peers.len() - (end - begin);
                let room = most.saturating_sub(others).min(peers.len());
                self.peers.splice(begin..end, peers[..room].iter().copied());
            }
        }
    }

    fn add(&mut self, peers: &[Peer], most: usize) {
        let is_new = |peer: &&Peer| self.peers.binary_search(peer).is_err();
        let room = most.saturating_sub(self.peers.len());
        let new: Vec<Peer> = peers.iter().filter(is_new).take(room).copied().collect();
        if new.is_empty() {
            return;
        }
        self.peers.reserve_exact(new.len());
        self.peers.extend(new);
        // Two runs in order: a merge.
        self.peers.sort_unstable();
    }

    /// Returns who has come and who is gone in `now`, at most so many of both.
    pub fn changes(&self, now: &List, most: usize) -> (Vec<Peer>, Vec<Peer>) {
        let not_in = |others: &List, peers: &[Peer], most: usize| -> Vec<Peer> {
            let mut others = others.peers.iter().peekable();
            let is_missing = |peer: &&Peer| {
                while others.next_if(|other| other < peer).is_some() {}
                others.peek() != Some(peer)
            };
            peers
                .iter()
                .filter(is_missing)
                .take(most)
                .copied()
                .collect()
        };
        let gone = not_in(now, &self.peers, most);
        let came = not_in(self, &now.peers, most - gone.len());
        (came, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peer {
        Peer::new(([10, 0, 0, 1], port).into())
    }

    fn list(ports: &[u16]) -> List {
        List::of(ports.iter().map(|port| peer(*port)).collect(), 100)
    }

    fn peers(ports: &[u16]) -> Vec<Peer> {
        list(ports).peers
    }

    #[test]
    fn clients_come_and_go_and_twice_is_as_once() {
        let mut known = list(&[5, 3, 3, 9]);
        for _ in 0..2 {
            known.learn(&Message::Came(peers(&[1, 4, 5])), 100);
            known.learn(&Message::Gone(peers(&[3, 7])), 100);
            assert_eq!(known, list(&[1, 4, 5, 9]));
        }
    }

    #[test]
    fn a_part_of_the_list_is_replaced_by_what_is_there() {
        let mut known = list(&[1, 3, 5, 7, 9]);
        known.learn(&Message::All(peer(3), peer(7), peers(&[4, 7])), 100);
        assert_eq!(known, list(&[1, 4, 7, 9]));
        let (first, last) = Peer::ends([10, 0, 0, 9].into());
        known.learn(&Message::All(first, last, peers(&[2])), 100);
        assert_eq!(known, list(&[2]));
        known.learn(&Message::All(first, last, Vec::new()), 100);
        assert_eq!(known, List::default());
    }

    #[test]
    fn it_never_has_more_than_there_is_room_for() {
        let mut known = list(&[1, 2, 3]);
        known.learn(&Message::Came(peers(&[4, 5, 6])), 4);
        assert_eq!(known, list(&[1, 2, 3, 4]));
        known.learn(&Message::Came(peers(&[7])), 4);
        assert_eq!(known, list(&[1, 2, 3, 4]));
        known.learn(&Message::All(peer(2), peer(3), peers(&[2, 3])), 3);
        assert_eq!(known, list(&[1, 2, 4]));
        assert_eq!(List::of(peers(&[1, 2, 3]), 2), list(&[1, 2]));
    }

    #[test]
    fn changes_lead_from_one_list_to_the_other_as_far_as_there_is_room() {
        let (before, now) = (list(&[1, 2, 3, 7]), list(&[2, 4, 5, 7, 9]));
        let (came, gone) = before.changes(&now, 100);
        assert_eq!((came, gone), (peers(&[4, 5, 9]), peers(&[1, 3])));
        let (came, gone) = before.changes(&now, 3);
        assert_eq!((came, gone), (peers(&[4]), peers(&[1, 3])));
        assert_eq!(now.changes(&now, 100), (Vec::new(), Vec::new()));
    }
}
