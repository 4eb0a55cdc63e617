//! What travels on the channel: which clients are connected through a VIP. Short lines of text, read strictly:
//! a user who may PUBLISH on that Redis can have forged them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What every message begins with. A later version that old agents cannot read begins with another number.
const VERSION: &str = "1";

/// How many clients one message names at most.
pub const MOST_IN_MESSAGE: usize = 1024;

/// The longest message: clients of IPv6, and the words before them.
const LONGEST: usize = MOST_IN_MESSAGE * 2 * LENGTH + 128;

/// An IPv6 address and a port, in bytes; on the wire each byte is two digits.
const LENGTH: usize = 18;

/// How many of these bytes an IPv4-mapped address has before the IPv4 one. They do not travel.
const MAPPED: usize = 12;

/// The client's end of a connection, in few bytes: there may be 100,000. Ordered by address, then by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer([u8; LENGTH]);

impl Peer {
    /// Returns an endpoint as a client's. It has no scope.
    pub fn new(at: SocketAddr) -> Peer {
        let address = match at.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(&address.octets());
        bytes[16..].copy_from_slice(&at.port().to_be_bytes());
        Peer(bytes)
    }

    /// Returns the endpoint.
    pub fn endpoint(self) -> SocketAddr {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0[..16]);
        let port = u16::from_be_bytes([self.0[16], self.0[17]]);
        SocketAddr::new(Ipv6Addr::from(address).to_canonical(), port)
    }

    /// Returns the first and the last that the family of this VIP has.
    pub fn ends(vip: IpAddr) -> (Peer, Peer) {
        let (mut first, mut last) = ([0; LENGTH], [u8::MAX; LENGTH]);
        if vip.is_ipv4() {
            for bytes in [&mut first, &mut last] {
                bytes[..10].fill(0);
                bytes[10..MAPPED].fill(0xff);
            }
        }
        (Peer(first), Peer(last))
    }

    /// Returns the next client in the order, if there is one.
    pub fn next(self) -> Option<Peer> {
        let Peer(mut bytes) = self;
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(Peer(bytes));
            }
        }
        None
    }

    /// Returns whether it can be a client of this VIP on another host: an address of its family that one host has,
    /// and means the same host everywhere.
    pub fn is_plausible(self, vip: IpAddr) -> bool {
        let at = self.endpoint();
        let is_unicast = match (at.ip(), vip) {
            (IpAddr::V4(v4), IpAddr::V4(_)) => (1..224).contains(&v4.octets()[0]),
            (IpAddr::V6(v6), IpAddr::V6(_)) => {
                !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local()
            }
            _ => false,
        };
        is_unicast && !at.ip().is_loopback() && at.port() != 0 && at.ip() != vip
    }

    /// Writes it as it travels: 12 digits, for an IPv6 VIP 36.
    fn write(self, vip: IpAddr, text: &mut String) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in &self.0[own(vip)] {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }

    fn read(digits: &[u8], vip: IpAddr) -> Option<Peer> {
        let (Peer(mut bytes), _) = Peer::ends(vip);
        let own = &mut bytes[own(vip)];
        if digits.len() != 2 * own.len() {
            return None;
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        for (byte, pair) in own.iter_mut().zip(digits.chunks(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Peer(bytes))
    }
}

/// The bytes that travel.
fn own(vip: IpAddr) -> std::ops::Range<usize> {
    match vip {
        IpAddr::V4(_) => MAPPED..LENGTH,
        IpAddr::V6(_) => 0..LENGTH,
    }
}

/// News of a VIP's clients. Each can be lost, or come twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// These have connected.
    Came(Vec<Peer>),
    /// These are gone.
    Gone(Vec<Peer>),
    /// From one place of the list to another, both included, there are these and no others: what was missed is
    /// mended so.
    All(Peer, Peer, Vec<Peer>),
}

/// Returns the channel on which a VIP's clients are published.
pub fn channel(vip: IpAddr) -> String {
    format!("vipswitch:clients:{vip}")
}

impl Message {
    /// Returns it as it travels. `port` is the one of this master's Redis.
    pub fn text(&self, vip: IpAddr, port: u16) -> String {
        let (word, peers) = match self {
            Message::Came(peers) => ("came", peers),
            Message::Gone(peers) => ("gone", peers),
            Message::All(_, _, peers) => ("all", peers),
        };
        let mut text = format!("{VERSION} {port} {word}");
        if let Message::All(from, to, _) = self {
            for end in [from, to] {
                text.push(' ');
                end.write(vip, &mut text);
            }
        }
        text.push(' ');
        for peer in peers {
            peer.write(vip, &mut text);
        }
        text
    }

    /// Reads what has arrived on the channel of a VIP, if it is about this port. `None` is for all that an agent
    /// would not have sent: another shape, a client that cannot be one.
    pub fn read(text: &str, vip: IpAddr, port: u16) -> Option<Message> {
        if text.len() > LONGEST {
            return None;
        }
        let mut words = text.split(' ');
        if words.next()? != VERSION || words.next()? != port.to_string() {
            return None;
        }
        let kind = words.next()?;
        let message = match kind {
            "came" => Message::Came(peers(words.next()?, vip)?),
            "gone" => Message::Gone(peers(words.next()?, vip)?),
            "all" => {
                let from = Peer::read(words.next()?.as_bytes(), vip)?;
                let to = Peer::read(words.next()?.as_bytes(), vip)?;
                let peers = peers(words.next()?, vip)?;
                let are_within = peers.iter().all(|peer| (from..=to).contains(peer));
                (from <= to && are_within).then_some(Message::All(from, to, peers))?
            }
            _ => return None,
        };
        words.next().is_none().then_some(message)
    }
}

/// Reads clients, which are in their order.
fn peers(digits: &str, vip: IpAddr) -> Option<Vec<Peer>> {
    let each = digits.as_bytes().chunks(2 * own(vip).len());
    let all = each.map(|one| Peer::read(one, vip).filter(|peer| peer.is_plausible(vip)));
    let all = all.collect::<Option<Vec<Peer>>>()?;
    let is_list = all.len() <= MOST_IN_MESSAGE && all.is_sorted_by(|one, next| one < next);
    is_list.then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: &str = "192.168.56.250";

    fn peer(text: &str) -> Peer {
        Peer::new(text.parse().unwrap())
    }

    fn read(text: &str) -> Option<Message> {
        Message::read(text, VIP.parse().unwrap(), 8000)
    }

    #[test]
    fn what_is_written_is_read_in_both_families() {
        for (vip, some) in [
            (VIP, ["10.0.0.1:65535", "192.168.56.104:40001"]),
            ("fd00::250", ["[2001:db8::1]:1", "[fd00::104]:40001"]),
        ] {
            let vip: IpAddr = vip.parse().unwrap();
            let some = some.map(peer);
            let (first, last) = Peer::ends(vip);
            for message in [
                Message::Came(some.to_vec()),
                Message::Gone(some[1..].to_vec()),
                Message::All(first, last, some.to_vec()),
                Message::All(some[0], some[1], some[1..].to_vec()),
                Message::All(first, last, Vec::new()),
            ] {
                let text = message.text(vip, 8000);
                assert_eq!(Message::read(&text, vip, 8000), Some(message), "{text}");
                assert_eq!(Message::read(&text, vip, 8001), None, "another service");
            }
            assert_eq!(some.map(Peer::endpoint).map(Peer::new), some);
        }
        assert_eq!(
            Message::Came(vec![peer("192.168.56.104:40001")]).text(VIP.parse().unwrap(), 8000),
            "1 8000 came c0a838689c41"
        );
    }

    #[test]
    fn the_longest_message_is_read_and_a_longer_one_is_not() {
        let vip: IpAddr = "fd00::250".parse().unwrap();
        let some = |number: usize| {
            let port = |place| u16::try_from(place + 1).unwrap();
            let each = (0..number).map(|place| format!("[fd00::104]:{}", port(place)));
            let peers: Vec<Peer> = each.map(|text| peer(&text)).collect();
            Message::All(Peer::ends(vip).0, Peer::ends(vip).1, peers).text(vip, 65535)
        };
        assert!(Message::read(&some(MOST_IN_MESSAGE), vip, 65535).is_some());
        assert_eq!(Message::read(&some(MOST_IN_MESSAGE + 1), vip, 65535), None);
        let long = format!("1 8000 came {}", "0".repeat(1 << 20));
        assert_eq!(read(&long), None);
    }

    #[test]
    fn what_no_agent_sends_is_not_read() {
        let good = "c0a838689c41";
        assert!(read(&format!("1 8000 came {good}")).is_some());
        for text in [
            "",
            "1",
            "1 8000",
            "1 8000 came",
            "2 8000 came c0a838689c41",
            "1 08000 came c0a838689c41",
            "1 8001 came c0a838689c41",
            "1 8000 came C0A838689C41",
            "1 8000 came c0a838689c4",
            "1 8000 came c0a838689c41c0",
            "1 8000 came c0a838689c41 ",
            "1 8000 came c0a838689c41 c0a838689c42",
            "1 8000  came c0a838689c41",
            "1 8000 came c0a838689c41c0a838689c41",
            "1 8000 came c0a838689c42c0a838689c41",
            "1 8000 came ü0a838689c41",
            "1 8000 all ffffffffffff 000000000000 ",
            "1 8000 all 000000000000 c0a838680000 c0a838689c41",
            "1 8000 all 000000000000 ffffffffffff",
            "1 8000 else c0a838689c41",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_client_is_one_host_that_is_the_same_everywhere() {
        for (vip, at) in [
            (VIP, "0.0.0.0:1"),
            (VIP, "0.1.2.3:1"),
            (VIP, "127.0.0.1:1"),
            (VIP, "224.0.0.1:1"),
            (VIP, "240.0.0.1:1"),
            (VIP, "255.255.255.255:1"),
            (VIP, "192.168.56.104:0"),
            (VIP, "192.168.56.250:1"),
            (VIP, "[fd00::104]:1"),
            ("fd00::250", "[::]:1"),
            ("fd00::250", "[::1]:1"),
            ("fd00::250", "[ff02::1]:1"),
            ("fd00::250", "[fe80::1]:1"),
            ("fd00::250", "[fd00::250]:1"),
            ("fd00::250", "192.168.56.104:1"),
        ] {
            let vip: IpAddr = vip.parse().unwrap();
            assert!(!peer(at).is_plausible(vip), "{at} of {vip}");
            let text = Message::Came(vec![peer(at)]).text(vip, 8000);
            assert_eq!(Message::read(&text, vip, 8000), None, "{text}");
        }
    }
}
