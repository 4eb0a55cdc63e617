//! Neighbor discovery frames (RFC 4861), and what their answers say.

use std::net::Ipv6Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    Icmpv6Codes, MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOption,
    NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Type, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::ethernet::is_one_host;

/// All nodes on the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The hop limit that proves that no router forwarded the message (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// A neighbor advertisement without its options, and a solicitation is as long.
const MESSAGE: usize = 24;
/// A link-layer address option.
const OPTION: usize = 8;

/// Returns an unsolicited neighbor advertisement (RFC 4861 section 7.2.6) to all nodes, with
/// Override and the target's link-layer address: without both no entry moves. The Router flag is to
/// be as in the kernel's own, or neighbours take the host out of their list of routers (RFC 4861
/// section 7.2.5).
pub fn unsolicited_advertisement(mac: MacAddr, vip: Ipv6Addr, is_router: bool) -> Vec<u8> {
    let mut message = advertisement(mac, vip, NeighborAdvertFlags::Override | router(is_router));
    multicast((mac, vip), ALL_NODES, &mut message)
}

fn router(is_router: bool) -> u8 {
    if is_router {
        NeighborAdvertFlags::Router
    } else {
        0
    }
}

/// An advertisement with these flags and the target's link-layer address, without its checksum.
fn advertisement(mac: MacAddr, vip: Ipv6Addr, flags: u8) -> Vec<u8> {
    let mut message = vec![0; MESSAGE + OPTION];
    if let Some(mut advert) = MutableNeighborAdvertPacket::new(&mut message) {
        advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advert.set_icmpv6_code(Icmpv6Codes::NoCode);
        advert.set_flags(flags);
        advert.set_target_addr(vip);
        advert.set_options(&[NdpOption {
            option_type: NdpOptionTypes::TargetLLAddr,
            length: 1,
            data: mac.octets().to_vec(),
        }]);
    }
    message
}

/// Returns a neighbor solicitation from the unspecified address, as duplicate address detection
/// sends it (RFC 4862 section 5.4.2): it changes no neighbour's table, and the holder of
/// the VIP answers to all nodes.
pub fn probe(mac: MacAddr, vip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![0; MESSAGE];
    if let Some(mut solicit) = MutableNeighborSolicitPacket::new(&mut message) {
        solicit.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicit.set_icmpv6_code(Icmpv6Codes::NoCode);
        solicit.set_target_addr(vip);
    }
    multicast(
        (mac, Ipv6Addr::UNSPECIFIED),
        solicited_node(vip),
        &mut message,
    )
}

/// Returns a neighbor solicitation for a peer whose source is the VIP, with its link-layer
/// address (RFC 4861 section 4.3): the peer takes that into its table and answers to the VIP.
pub fn directed_solicitation(mac: MacAddr, vip: Ipv6Addr, peer: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![0; MESSAGE + OPTION];
    if let Some(mut solicit) = MutableNeighborSolicitPacket::new(&mut message) {
        solicit.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicit.set_icmpv6_code(Icmpv6Codes::NoCode);
        solicit.set_target_addr(peer);
        solicit.set_options(&[NdpOption {
            option_type: NdpOptionTypes::SourceLLAddr,
            length: 1,
            data: mac.octets().to_vec(),
        }]);
    }
    multicast((mac, vip), solicited_node(peer), &mut message)
}

/// Returns who answered a directed solicitation, if a received frame is such an answer: a
/// neighbor advertisement to the VIP at this hardware address.
pub fn answer(frame: &[u8], mac: MacAddr, vip: Ipv6Addr) -> Option<Ipv6Addr> {
    let ethernet = EthernetPacket::new(frame)?;
    let ip = Ipv6Packet::new(ethernet.payload())?;
    let advert = NeighborAdvertPacket::new(ip.payload())?;
    let is_answer = ethernet.get_ethertype() == EtherTypes::Ipv6
        && ethernet.get_destination() == mac
        && ip.get_destination() == vip
        && ip.get_next_header() == IpNextHeaderProtocols::Icmpv6
        && ip.get_hop_limit() == HOP_LIMIT
        && advert.get_icmpv6_type() == Icmpv6Types::NeighborAdvert
        && advert.get_target_addr() != vip;
    is_answer.then(|| advert.get_target_addr())
}

/// Returns the advertisement for a neighbour that solicits the VIP's hardware address, if a received frame is such a
/// solicitation. It goes to that neighbour alone, and does not override what another host has advertised.
///
/// Duplicate address detection is not answered: it comes from a host that is about to have the VIP, and does so where
/// nobody answers.
pub fn advertisement_to(
    frame: &[u8],
    mac: MacAddr,
    vip: Ipv6Addr,
    is_router: bool,
) -> Option<Vec<u8>> {
    let ethernet = EthernetPacket::new(frame)?;
    let ip = Ipv6Packet::new(ethernet.payload())?;
    let solicit = NeighborSolicitPacket::new(ethernet.payload().get(IPV6..)?)?;
    let (asker, asker_mac) = (ip.get_source(), ethernet.get_source());
    let destination = ethernet.get_destination();
    let is_question = ethernet.get_ethertype() == EtherTypes::Ipv6
        && (destination == mac || destination == group_mac(solicited_node(vip)))
        && ip.get_version() == 6
        && ip.get_next_header() == IpNextHeaderProtocols::Icmpv6
        && ip.get_hop_limit() == HOP_LIMIT
        && solicit.get_icmpv6_type() == Icmpv6Types::NeighborSolicit
        && solicit.get_icmpv6_code() == Icmpv6Codes::NoCode
        && solicit.get_target_addr() == vip
        && is_one_host(asker_mac)
        && asker_mac != mac
        && asker != vip
        && !asker.is_unspecified()
        && !asker.is_multicast()
        && !asker.is_loopback();
    if !is_question {
        return None;
    }
    let flags = NeighborAdvertFlags::Solicited | router(is_router);
    let mut message = advertisement(mac, vip, flags);
    Some(wrap((mac, vip), (asker_mac, asker), &mut message))
}

/// Returns the hardware address that a received frame claims the VIP for, if it is a neighbor
/// advertisement for it. Without the option that names it, it is the frame's source.
pub fn claim(frame: &[u8], vip: Ipv6Addr) -> Option<MacAddr> {
    let ethernet = EthernetPacket::new(frame)?;
    let ip = Ipv6Packet::new(ethernet.payload())?;
    let message = ip.payload();
    let kind = Icmpv6Packet::new(message)?.get_icmpv6_type();
    let is_claim = ethernet.get_ethertype() == EtherTypes::Ipv6
        && ip.get_next_header() == IpNextHeaderProtocols::Icmpv6
        && ip.get_hop_limit() == HOP_LIMIT
        && kind == Icmpv6Type(136)
        && NeighborAdvertPacket::new(message)?.get_target_addr() == vip;
    is_claim
        .then(|| target_link_layer_address(&message[MESSAGE..]).unwrap_or(ethernet.get_source()))
}

/// Reads the option by its bytes: pnet_packet computes its length in u8, which overflows on a
/// hostile one.
fn target_link_layer_address(mut options: &[u8]) -> Option<MacAddr> {
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == NdpOptionTypes::TargetLLAddr.0 {
            let octets: [u8; 6] = option[2..8].try_into().ok()?;
            return Some(octets.into());
        }
        options = &options[length..];
    }
    None
}

/// Returns the multicast group on which the holder of an address is solicited (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// Returns the Ethernet group of a multicast group: it follows from the last four bytes (RFC 2464 section 7).
fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr(0x33, 0x33, a, b, c, d)
}

/// Wraps an ICMPv6 message for a multicast group.
fn multicast(from: (MacAddr, Ipv6Addr), group: Ipv6Addr, message: &mut [u8]) -> Vec<u8> {
    wrap(from, (group_mac(group), group), message)
}

fn wrap(
    (mac, source): (MacAddr, Ipv6Addr),
    (destination_mac, destination): (MacAddr, Ipv6Addr),
    message: &mut [u8],
) -> Vec<u8> {
    if let Some(mut icmp) = MutableIcmpv6Packet::new(message) {
        let sum = checksum(&icmp.to_immutable(), &source, &destination);
        icmp.set_checksum(sum);
    }
    let mut frame = vec![0; ETHERNET + IPV6 + message.len()];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(destination_mac);
        ethernet.set_source(mac);
        ethernet.set_ethertype(EtherTypes::Ipv6);
    }
    if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET..]) {
        ip.set_version(6);
        ip.set_payload_length(message.len() as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(HOP_LIMIT);
        ip.set_source(source);
        ip.set_destination(destination);
    }
    frame[ETHERNET + IPV6..].copy_from_slice(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Type as Read, NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr(0x02, 0, 0, 0, 0, 0x65);
    const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn the_advertisement_has_override_and_the_target_link_layer_address() {
        #[rustfmt::skip]
        let golden = [
            0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 0x65, 0x86, 0xdd, // Ethernet
            0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6: 32 bytes of ICMPv6, hop limit 255
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, // from the VIP
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to all nodes
            136, 0, 0xf1, 0x68, 0x20, 0, 0, 0, // advertisement, checksum, Override
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, // target
            2, 1, 0x02, 0, 0, 0, 0, 0x65, // its link-layer address
        ];
        assert_eq!(unsolicited_advertisement(MAC, VIP, false), golden);
    }

    fn parts(frame: &[u8]) -> (etherparse::Ipv6HeaderSlice<'_>, etherparse::Icmpv6Slice<'_>) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        match (packet.net, packet.transport) {
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => (ip.header(), icmp),
            other => panic!("no ICMPv6 in {other:?}"),
        }
    }

    #[test]
    fn another_parser_reads_the_same_and_agrees_on_the_checksum() {
        let frame = unsolicited_advertisement(MAC, VIP, false);
        let (ip, icmp) = parts(&frame);
        assert_eq!(
            (ip.source_addr(), ip.destination_addr(), ip.hop_limit()),
            (VIP, ALL_NODES, 255)
        );
        let Read::NeighborAdvertisement(header) = icmp.icmp_type() else {
            panic!("{:?}", icmp.icmp_type())
        };
        assert!(header.r#override && !header.solicited && !header.router);
        assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));

        let frame = probe(MAC, VIP);
        let (ip, icmp) = parts(&frame);
        assert_eq!(ip.source_addr(), Ipv6Addr::UNSPECIFIED);
        assert_eq!(
            ip.destination_addr(),
            "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert!(matches!(icmp.icmp_type(), Read::NeighborSolicitation));
        let frame = directed_solicitation(MAC, VIP, ALL_NODES);
        let (ip, icmp) = parts(&frame);
        assert_eq!(ip.source_addr(), VIP);
        assert!(matches!(icmp.icmp_type(), Read::NeighborSolicitation));
        assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
        assert_eq!(frame[78..], [1, 1, 0x02, 0, 0, 0, 0, 0x65]);
        let frame = probe(MAC, VIP);
        let (ip, icmp) = parts(&frame);
        assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
    }

    #[test]
    fn a_claim_is_an_advertisement_for_the_vip() {
        assert_eq!(
            claim(&unsolicited_advertisement(MAC, VIP, false), VIP),
            Some(MAC)
        );
        assert_eq!(
            claim(&unsolicited_advertisement(MAC, VIP, false), ALL_NODES),
            None
        );
        assert_eq!(claim(&probe(MAC, VIP), VIP), None);
        let without_option =
            &unsolicited_advertisement(MAC, VIP, false)[..ETHERNET + IPV6 + MESSAGE];
        assert_eq!(claim(without_option, VIP), Some(MAC));
    }

    #[test]
    fn a_solicitation_is_answered_to_its_asker_alone_and_duplicate_address_detection_is_not() {
        let peer: Ipv6Addr = "fd00::1".parse().unwrap();
        let theirs = MacAddr(0x02, 0, 0, 0, 0, 1);
        let asked = directed_solicitation(theirs, peer, VIP);
        for is_router in [false, true] {
            let frame = advertisement_to(&asked, MAC, VIP, is_router).unwrap();
            assert_eq!(frame[..6], theirs.octets());
            assert_eq!(frame[6..12], MAC.octets());
            let (ip, icmp) = parts(&frame);
            assert_eq!((ip.source_addr(), ip.destination_addr()), (VIP, peer));
            assert_eq!(ip.hop_limit(), 255);
            assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
            let Read::NeighborAdvertisement(header) = icmp.icmp_type() else {
                panic!("{:?}", icmp.icmp_type())
            };
            assert!(header.solicited && !header.r#override && header.router == is_router);
            assert_eq!(claim(&frame, VIP), Some(MAC));
            assert_eq!(frame[78..], [2, 1, 0x02, 0, 0, 0, 0, 0x65]);
        }
        // As of a host that looks whether its entry is still right.
        let mut asked_alone = asked.clone();
        asked_alone[..6].copy_from_slice(&MAC.octets());
        assert!(advertisement_to(&asked_alone, MAC, VIP, false).is_some());
        asked_alone[..6].copy_from_slice(&[2; 6]);
        let mut forwarded = asked.clone();
        forwarded[ETHERNET + 7] = 254;
        for other in [
            asked_alone,
            forwarded,
            probe(theirs, VIP),
            directed_solicitation(theirs, VIP, VIP),
            directed_solicitation(theirs, peer, peer),
            directed_solicitation(MAC, peer, VIP),
            unsolicited_advertisement(theirs, VIP, false),
            asked[..ETHERNET + IPV6 + MESSAGE - 1].to_vec(),
        ] {
            assert_eq!(
                advertisement_to(&other, MAC, VIP, false),
                None,
                "{other:02x?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_frame_from_the_network_is_the_end_of_us(mut tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = unsolicited_advertisement(MAC, VIP, false);
            frame.truncate(ETHERNET + IPV6 + MESSAGE);
            frame.append(&mut tail);
            let payload = (frame.len() - ETHERNET - IPV6) as u8;
            frame[19] = payload;
            prop_assert!(claim(&frame, VIP).is_some());
            let _ = claim(&frame[14..], VIP);
            frame[ETHERNET + IPV6] = 135;
            let _ = advertisement_to(&frame, MAC, VIP, false);
        }
    }
}
