//! The tickle: a bare ACK in the VIP's name (the trick of CTDB, `ctdb_tcp_packet` in Samba's
//! ctdb/common). A client that still has the connection finds the sequence number wrong and answers with
//! its true numbers (RFC 9293 section 3.10.7.4). The VIP's holder knows no such connection and resets it.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};

/// The lengths of the headers, in bytes, without options.
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;

/// As Linux sends it (net.ipv4.ip_default_ttl).
const HOPS: u8 = 64;

/// Returns the IP packet with the ACK from `local` to `peer`, `None` if they are of two address families.
///
/// A sequence number within the client's receive window gets no answer: two that lie half of all numbers
/// apart cannot both be in it.
pub fn bare_ack(local: SocketAddr, peer: SocketAddr, sequence: u32) -> Option<Vec<u8>> {
    let header = match local.ip() {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    let mut packet = vec![0; header + TCP];
    let (ip, segment) = packet.split_at_mut(header);
    let mut segment = MutableTcpPacket::new(segment)?;
    segment.set_source(local.port());
    segment.set_destination(peer.port());
    segment.set_sequence(sequence);
    segment.set_data_offset((TCP / 4) as u8);
    segment.set_flags(TcpFlags::ACK);
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
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn it_is_a_bare_ack_from_the_vip_to_the_client() {
        for (local, peer) in [
            ("192.168.56.250:8000", "192.168.56.103:40001"),
            ("[fd00::250]:8000", "[fd00::103]:65535"),
        ] {
            let (local, peer): (SocketAddr, SocketAddr) =
                (local.parse().unwrap(), peer.parse().unwrap());
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
