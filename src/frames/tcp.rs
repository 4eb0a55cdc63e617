//! TCP segments in the VIP's name: the tickle, which has a client find out that its connection is gone, and the
//! refusal, which a client gets where nobody listens.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags, TcpPacket};

/// The lengths of the headers, in bytes, without options.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;

/// As Linux sends it (net.ipv4.ip_default_ttl).
const HOPS: u8 = 64;

/// What a segment without data says.
struct Says {
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
}

/// Returns the IP packet with the tickle from `local` to `peer`, `None` if they are of two address families: a bare
/// ACK (the trick of CTDB, `ctdb_tcp_packet` in Samba's ctdb/common). A client that still has the connection finds
/// the sequence number wrong and answers with its true numbers (RFC 9293 section 3.10.7.4). The VIP's holder knows
/// no such connection and resets it.
///
/// A sequence number within the client's receive window gets no answer: two that lie half of all numbers
/// apart cannot both be in it.
pub fn bare_ack(local: SocketAddr, peer: SocketAddr, sequence: u32) -> Option<Vec<u8>> {
    let says = Says {
        sequence,
        acknowledgment: 0,
        flags: TcpFlags::ACK,
    };
    packet(local, peer, &says)
}

/// Returns the IP packet with the reset that a kernel sends for a received packet if it has the VIP and nobody listens
/// there (RFC 9293 section 3.10.7.1). `None` where a kernel would send none: the received packet has no segment for the
/// VIP, is a reset itself, a fragment or malformed, or comes from an address that is nobody's.
///
/// The received packet may be cut off behind the TCP header. Its checksums are not verified: where the network card
/// computes them, a packet socket sees the packet before that. A reset for a corrupt packet does no harm.
pub fn refusal(received: &[u8], vip: IpAddr) -> Option<Vec<u8>> {
    let (peer, length, segment) = match vip {
        IpAddr::V4(_) => segment_v4(received)?,
        IpAddr::V6(_) => segment_v6(received)?,
    };
    let (from, to) = peer;
    let segment = TcpPacket::new(segment)?;
    let header = usize::from(segment.get_data_offset()) * 4;
    let flags = segment.get_flags();
    if to != vip || !is_somebody(from, vip) || header < TCP || flags & TcpFlags::RST != 0 {
        return None;
    }
    let data = length.checked_sub(header)?;
    let says = if flags & TcpFlags::ACK != 0 {
        Says {
            sequence: segment.get_acknowledgement(),
            acknowledgment: 0,
            flags: TcpFlags::RST,
        }
    } else {
        // SYN and FIN have a number each.
        let controls = [TcpFlags::SYN, TcpFlags::FIN];
        let controls = controls.iter().filter(|flag| flags & **flag != 0).count();
        let end = segment.get_sequence();
        Says {
            sequence: 0,
            acknowledgment: end.wrapping_add((data + controls) as u32),
            flags: TcpFlags::RST | TcpFlags::ACK,
        }
    };
    let local = SocketAddr::new(vip, segment.get_destination());
    packet(local, SocketAddr::new(from, segment.get_source()), &says)
}

/// The addresses of an IP packet, the length of the TCP segment in it by its header, and as much of the segment as
/// was received.
type Segment<'a> = ((IpAddr, IpAddr), usize, &'a [u8]);

fn segment_v4(received: &[u8]) -> Option<Segment<'_>> {
    let ip = Ipv4Packet::new(received)?;
    let header = usize::from(ip.get_header_length()) * 4;
    let is_whole = ip.get_fragment_offset() == 0 && ip.get_flags() & Ipv4Flags::MoreFragments == 0;
    let is_tcp = ip.get_version() == 4
        && header >= IPV4
        && ip.get_next_level_protocol() == IpNextHeaderProtocols::Tcp;
    let length = usize::from(ip.get_total_length()).checked_sub(header)?;
    let addresses = (ip.get_source().into(), ip.get_destination().into());
    let segment = received.get(header..)?;
    (is_whole && is_tcp).then_some((addresses, length, segment))
}

/// Fragments, and whatever else has a header between those of IPv6 and TCP, are passed over.
fn segment_v6(received: &[u8]) -> Option<Segment<'_>> {
    let ip = Ipv6Packet::new(received)?;
    let is_tcp = ip.get_version() == 6 && ip.get_next_header() == IpNextHeaderProtocols::Tcp;
    let addresses = (ip.get_source().into(), ip.get_destination().into());
    let segment = received.get(IPV6..)?;
    is_tcp.then_some((addresses, ip.get_payload_length().into(), segment))
}

/// Whether an address can be one host's other than the VIP's.
fn is_somebody(address: IpAddr, vip: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address != vip
        && !is_broadcast
        && !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
}

fn packet(local: SocketAddr, peer: SocketAddr, says: &Says) -> Option<Vec<u8>> {
    let header = match local.ip() {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    let mut packet = vec![0; header + TCP];
    let (ip, segment) = packet.split_at_mut(header);
    let mut segment = MutableTcpPacket::new(segment)?;
    segment.set_source(local.port());
    segment.set_destination(peer.port());
    segment.set_sequence(says.sequence);
    segment.set_acknowledgement(says.acknowledgment);
    segment.set_data_offset((TCP / 4) as u8);
    segment.set_flags(says.flags);
    let segment = segment.consume_to_immutable();
    let checksum = match (local.ip(), peer.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = MutableIpv4Packet::new(ip)?;
            ip.set_version(4);
            ip.set_header_length((IPV4 / 4) as u8);
            ip.set_total_length((IPV4 + TCP) as u16);
            ip.set_flags(Ipv4Flags::DontFragment);
            ip.set_ttl(HOPS);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
            ip.set_source(from);
            ip.set_destination(to);
            ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
            tcp::ipv4_checksum(&segment, &from, &to)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut ip = MutableIpv6Packet::new(ip)?;
            ip.set_version(6);
            ip.set_payload_length(TCP as u16);
            ip.set_next_header(IpNextHeaderProtocols::Tcp);
            ip.set_hop_limit(HOPS);
            ip.set_source(from);
            ip.set_destination(to);
            tcp::ipv6_checksum(&segment, &from, &to)
        }
        _ => return None,
    };
    MutableTcpPacket::new(&mut packet[header..])?.set_checksum(checksum);
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};
    use proptest::prelude::*;

    #[test]
    fn it_is_a_bare_ack_from_the_vip_to_the_client() {
        for (local, peer) in both() {
            let packet = bare_ack(local, peer, 1 << 31).unwrap();
            let read = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = read.transport else {
                panic!("{packet:02x?}")
            };
            assert!(tcp.ack() && !tcp.syn() && !tcp.rst() && !tcp.fin() && !tcp.psh());
            assert_eq!(
                (tcp.source_port(), tcp.destination_port()),
                (8000, peer.port())
            );
            assert_eq!(
                (tcp.sequence_number(), tcp.acknowledgment_number()),
                (1 << 31, 0)
            );
            assert!(tcp.payload().is_empty());
            match read.net.unwrap() {
                NetSlice::Ipv4(ip) => {
                    let header = ip.header();
                    assert_eq!(IpAddr::V4(header.source_addr()), local.ip());
                    assert_eq!(IpAddr::V4(header.destination_addr()), peer.ip());
                    assert_eq!(
                        header.header_checksum(),
                        header.to_header().calc_header_checksum()
                    );
                    let right = tcp.calc_checksum_ipv4(header.source(), header.destination());
                    assert_eq!(tcp.checksum(), right.unwrap());
                }
                NetSlice::Ipv6(ip) => {
                    let header = ip.header();
                    assert_eq!(IpAddr::V6(header.source_addr()), local.ip());
                    assert_eq!(IpAddr::V6(header.destination_addr()), peer.ip());
                    let right = tcp.calc_checksum_ipv6(header.source(), header.destination());
                    assert_eq!(tcp.checksum(), right.unwrap());
                }
                NetSlice::Arp(_) => panic!("{packet:02x?}"),
            }
        }
    }

    /// A segment from the client to the VIP, as another library makes it.
    fn segment(
        local: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
        change: impl Fn(&mut TcpHeader),
    ) -> Vec<u8> {
        let mut header = TcpHeader::new(peer.port(), local.port(), 1_000_000, 512);
        change(&mut header);
        let builder = match (peer.ip(), local.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            other => panic!("{other:?}"),
        };
        let mut packet = Vec::new();
        builder.tcp_header(header).write(&mut packet, data).unwrap();
        packet
    }

    fn both() -> [(SocketAddr, SocketAddr); 2] {
        [
            ("192.168.56.250:8000", "192.168.56.103:40001"),
            ("[fd00::250]:8000", "[fd00::103]:65535"),
        ]
        .map(|(local, peer)| (local.parse().unwrap(), peer.parse().unwrap()))
    }

    /// Reads a reset: its addresses, sequence and acknowledgment number, and whether that one counts.
    fn read_reset(packet: &[u8]) -> (SocketAddr, SocketAddr, u32, u32, bool) {
        let read = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = read.transport else {
            panic!("{packet:02x?}")
        };
        assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && !tcp.psh() && tcp.payload().is_empty());
        let (from, to): (IpAddr, IpAddr) = match read.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let sum = header.to_header().calc_header_checksum();
                assert_eq!(header.header_checksum(), sum);
                let right = tcp.calc_checksum_ipv4(header.source(), header.destination());
                assert_eq!(tcp.checksum(), right.unwrap());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let right = tcp.calc_checksum_ipv6(header.source(), header.destination());
                assert_eq!(tcp.checksum(), right.unwrap());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Arp(_) => panic!("{packet:02x?}"),
        };
        let (from, to) = (
            SocketAddr::new(from, tcp.source_port()),
            SocketAddr::new(to, tcp.destination_port()),
        );
        let (sequence, acknowledgment) = (tcp.sequence_number(), tcp.acknowledgment_number());
        (from, to, sequence, acknowledgment, tcp.ack())
    }

    #[test]
    fn a_connect_is_refused_with_the_number_that_follows_its_own() {
        for (local, peer) in both() {
            let syn = segment(local, peer, b"", |header| {
                header.syn = true;
                // Options count as no data.
                header
                    .set_options_raw(&[2, 4, 5, 0xb4, 1, 1, 4, 2])
                    .unwrap();
            });
            let reset = read_reset(&refusal(&syn, local.ip()).unwrap());
            assert_eq!(reset, (local, peer, 0, 1_000_001, true));
            // TCP Fast Open has data in it.
            let syn = segment(local, peer, b"PING\r\n", |header| header.syn = true);
            let reset = read_reset(&refusal(&syn, local.ip()).unwrap());
            assert_eq!(reset, (local, peer, 0, 1_000_007, true));
            let last = segment(local, peer, b"", |header| {
                header.syn = true;
                header.sequence_number = u32::MAX;
            });
            let reset = read_reset(&refusal(&last, local.ip()).unwrap());
            assert_eq!(reset, (local, peer, 0, 0, true));
        }
    }

    #[test]
    fn a_segment_of_a_connection_is_refused_with_the_number_that_its_sender_expects() {
        for (local, peer) in both() {
            let ack = |fin| {
                move |header: &mut TcpHeader| {
                    header.ack = true;
                    header.fin = fin;
                    header.acknowledgment_number = 77;
                }
            };
            for data in [&b""[..], b"GET k\r\n"] {
                for fin in [false, true] {
                    let received = segment(local, peer, data, ack(fin));
                    let reset = read_reset(&refusal(&received, local.ip()).unwrap());
                    assert_eq!(reset, (local, peer, 77, 0, false));
                }
            }
            // What does not fit the buffer is cut off behind the headers.
            let received = segment(local, peer, &[7; 9000], ack(false));
            assert!(refusal(&received[..1500], local.ip()).is_some());
        }
    }

    #[test]
    fn what_a_kernel_would_not_answer_is_not_answered() {
        for (local, peer) in both() {
            let syn = |header: &mut TcpHeader| header.syn = true;
            let vip = local.ip();
            let good = segment(local, peer, b"", syn);
            assert!(refusal(&good, vip).is_some());
            let reset = segment(local, peer, b"", |header| header.rst = true);
            assert_eq!(refusal(&reset, vip), None);
            assert_eq!(refusal(&good, peer.ip()), None, "for another address");
            let of =
                |peer: &str| segment(local, SocketAddr::new(peer.parse().unwrap(), 9), b"", syn);
            let nobodys: &[&str] = match vip {
                IpAddr::V4(_) => &["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"],
                IpAddr::V6(_) => &["::", "::1", "ff02::1"],
            };
            for nobody in nobodys {
                assert_eq!(refusal(&of(nobody), vip), None, "{nobody}");
            }
            assert_eq!(refusal(&of(&vip.to_string()), vip), None, "from itself");
            for length in 0..good.len() {
                assert_eq!(refusal(&good[..length], vip), None, "{length}");
            }
            let mut short = good.clone();
            let header = good.len() - TCP;
            short[header + 12] = 4 << 4;
            assert_eq!(refusal(&short, vip), None, "a header that is too short");
            short[header + 12] = 15 << 4;
            assert_eq!(refusal(&short, vip), None, "and one that is too long");
        }
        let [(local, peer), _] = both();
        let good = segment(local, peer, b"", |header| header.syn = true);
        for (at, bits) in [(6, 0x20), (6, 0x01), (7, 0x01)] {
            let mut fragment = good.clone();
            fragment[at] |= bits;
            assert_eq!(refusal(&fragment, local.ip()), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_from_the_network_is_the_end_of_us(
            six: bool,
            changes in prop::collection::vec((0..60usize, any::<u8>()), 0..12),
            length in 0..70usize,
        ) {
            let (local, peer) = both()[usize::from(six)];
            let mut packet = segment(local, peer, b"0123456789", |header| header.syn = true);
            for (at, byte) in changes {
                if let Some(there) = packet.get_mut(at) {
                    *there = byte;
                }
            }
            packet.truncate(length);
            if let Some(answer) = refusal(&packet, local.ip()) {
                prop_assert_eq!(read_reset(&answer).0.ip(), local.ip());
            }
        }
    }

    #[test]
    fn two_address_families_make_no_packet() {
        let (v4, v6) = (
            "10.0.0.1:1".parse().unwrap(),
            "[fd00::1]:1".parse().unwrap(),
        );
        assert_eq!(bare_ack(v4, v6, 0), None);
        assert_eq!(bare_ack(v6, v4, 0), None);
    }
}
