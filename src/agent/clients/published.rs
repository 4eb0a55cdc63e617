//! What the holder of a VIP has published of its clients, and what it publishes next: once a second what has
//! changed, and a part of the whole list, which who has missed something, or begins to listen, learns in turns.

use std::net::IpAddr;

use super::MOST;
use super::list::List;
use super::wire::{MOST_IN_MESSAGE, Message, Peer};

/// How many changes are published in a second at most: 200 kB of the replication link for IPv4.
const CHANGES: usize = 16 * MOST_IN_MESSAGE;

/// How much of the whole list is published in a second, as its replication backlog of 1 MiB serves the replicas that
/// reconnect, too. All of 20,000 clients take 10 s.
const PART: usize = 2 * MOST_IN_MESSAGE;

/// How many seconds a turn takes at least.
const TURN: u32 = 5;

/// What was published of a VIP's clients.
#[derive(Clone, Debug)]
pub struct Published {
    vip: IpAddr,
    /// What a listener knows who has heard everything. `None` before the first second.
    told: Option<List>,
    /// Up to where this turn has come, `None` at its end.
    turn: Option<Peer>,
    /// How many seconds ago this turn began.
    age: u32,
    /// Whether all of the list was published once.
    is_whole: bool,
}

impl Published {
    /// Begins to publish the clients of a VIP.
    pub fn new(vip: IpAddr) -> Published {
        Published {
            vip,
            told: None,
            turn: Some(Peer::ends(vip).0),
            age: 0,
            is_whole: false,
        }
    }

    /// Returns what is to be published in this second, as these are the clients now.
    pub fn next(&mut self, now: &[Peer]) -> Vec<Message> {
        let vip = self.vip;
        let plausible = now.iter().filter(|peer| peer.is_plausible(vip));
        let now = List::of(plausible.copied().collect(), MOST);
        let mut messages = Vec::new();
        match &mut self.told {
            None => self.told = Some(now),
            Some(told) => {
                let (came, gone) = told.changes(&now, CHANGES);
                let changes = gone
                    .chunks(MOST_IN_MESSAGE)
                    .map(|some| Message::Gone(some.to_vec()));
                let changes = changes.chain(
                    came.chunks(MOST_IN_MESSAGE)
                        .map(|some| Message::Came(some.to_vec())),
                );
                messages.extend(changes.inspect(|change| told.learn(change, MOST)));
            }
        }
        self.age += 1;
        if self.turn.is_none() && self.age >= TURN {
            (self.turn, self.age) = (Some(Peer::ends(vip).0), 0);
        }
        // Who listens already may know of clients of an earlier holder: the first turn is quick.
        let part = if self.is_whole { PART } else { CHANGES };
        for _ in 0..part / MOST_IN_MESSAGE {
            messages.extend(self.part());
        }
        messages
    }

    /// Returns the next part of the list, `None` at the end of the turn.
    fn part(&mut self) -> Option<Message> {
        let (_, last) = Peer::ends(self.vip);
        let (from, told) = (self.turn?, self.told.as_ref()?);
        let rest = &told.peers()[told.peers().partition_point(|peer| *peer < from)..];
        let (some, to) = match rest.split_at_checked(MOST_IN_MESSAGE) {
            Some((some, [_, ..])) => {
                let to = *some.last()?;
                // Without a gap: a listener may know of a client that never was, or is gone, between any two.
                self.turn = to.next();
                (some, to)
            }
            _ => {
                (self.turn, self.is_whole) = (None, true);
                (rest, last)
            }
        };
        Some(Message::All(from, to, some.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 56, 250));

    fn clients(number: u32) -> Vec<Peer> {
        let at = |place: u32| {
            (
                [10, 0, 0, (place / 60_000 + 1) as u8],
                (place % 60_000 + 1) as u16,
            )
        };
        (0..number)
            .map(|place| Peer::new(at(place).into()))
            .collect()
    }

    fn learn(known: &mut List, messages: &[Message]) {
        for message in messages {
            // As it arrives.
            let read = Message::read(&message.text(VIP, 8000), VIP, 8000).unwrap();
            assert_eq!(&read, message);
            known.learn(message, MOST);
        }
    }

    #[test]
    fn who_listened_before_knows_all_after_a_second_and_nothing_of_an_earlier_holder() {
        for number in [0, 1, 1024, 1025, 16_000] {
            let mut published = Published::new(VIP);
            let mut known = List::of(clients(20_000).split_off(15_000), MOST);
            learn(&mut known, &published.next(&clients(number)));
            assert_eq!(known.peers(), clients(number));
        }
    }

    #[test]
    fn a_hundred_thousand_are_published_and_no_more() {
        let mut published = Published::new(VIP);
        let mut known = List::default();
        for _ in 0..7 {
            let messages = published.next(&clients(100_123));
            assert!(messages.len() <= 33);
            learn(&mut known, &messages);
        }
        assert_eq!(known.peers(), &clients(100_123)[..MOST]);
    }

    #[test]
    fn who_begins_late_or_missed_a_message_knows_all_after_a_turn() {
        for (number, seconds) in [(3, 5), (10_000, 10), (20_000, 21)] {
            let mut published = Published::new(VIP);
            published.next(&clients(number));
            published.next(&clients(number));
            let mut known = List::of(clients(number + 9).split_off(7), MOST);
            for _ in 0..seconds {
                let messages = published.next(&clients(number));
                assert!(messages.len() <= PART / MOST_IN_MESSAGE);
                learn(&mut known, &messages);
            }
            assert_eq!(known.peers(), clients(number));
        }
    }

    #[test]
    fn what_has_changed_is_published_in_the_same_second() {
        let mut published = Published::new(VIP);
        let mut known = List::default();
        learn(&mut known, &published.next(&clients(50_000)));
        for _ in 0..3 {
            learn(&mut known, &published.next(&clients(50_000)));
        }
        let now = clients(52_000).split_off(1_000);
        learn(&mut known, &published.next(&now));
        assert_eq!(known.peers(), now);
    }

    #[test]
    fn a_client_that_cannot_be_one_is_not_published() {
        let mut published = Published::new(VIP);
        let own = Peer::new((VIP, 40_001).into());
        let messages = published.next(&[own, clients(1)[0]]);
        let (first, last) = Peer::ends(VIP);
        assert_eq!(messages, [Message::All(first, last, clients(1))]);
    }
}
