//! ARP frames (RFC 826, announcements and probes after RFC 5227), and what their answers say.

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet as _;
use pnet_packet::arp::{
    ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket,
};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};

use super::ethernet::is_one_host;

/// The length of an ARP frame for IPv4 over Ethernet, in bytes: header and payload, without the
/// padding, which is the network card's business.
const FRAME: usize = 14 + 28;

/// Returns a gratuitous ARP request: sender and target protocol address are the VIP, the target
/// hardware address is zero (RFC 5227 section 2.3).
pub fn announcement_request(mac: MacAddr, vip: Ipv4Addr) -> Vec<u8> {
    broadcast(ArpOperations::Request, (mac, vip), (MacAddr::zero(), vip))
}

/// Returns a gratuitous ARP reply whose target hardware address equals the sender's: Linux
/// takes it for gratuitous only so, and moves an entry younger than a second (its locktime).
pub fn announcement_reply(mac: MacAddr, vip: Ipv4Addr) -> Vec<u8> {
    broadcast(ArpOperations::Reply, (mac, vip), (mac, vip))
}

/// Returns a probe (RFC 5227 section 1.1): a request whose sender protocol address is zero, so
/// that it changes no neighbour's table. The holder of the VIP answers.
pub fn probe(mac: MacAddr, vip: Ipv4Addr) -> Vec<u8> {
    broadcast(
        ArpOperations::Request,
        (mac, Ipv4Addr::UNSPECIFIED),
        (MacAddr::zero(), vip),
    )
}

/// Returns a request for a neighbour's hardware address whose sender is the VIP. Of all
/// announcements only this one also makes an entry in a neighbour's table that has none. Hosts that drop
/// gratuitous ARP take it, and its answer proves that the network delivers to the VIP here.
pub fn directed_request(mac: MacAddr, vip: Ipv4Addr, peer: Ipv4Addr) -> Vec<u8> {
    broadcast(ArpOperations::Request, (mac, vip), (MacAddr::zero(), peer))
}

/// Returns who answered a directed request, if a received frame is such an answer: an ARP reply
/// to the VIP at this hardware address.
pub fn answer(frame: &[u8], mac: MacAddr, vip: Ipv4Addr) -> Option<Ipv4Addr> {
    let ethernet = EthernetPacket::new(frame)?;
    let arp = ArpPacket::new(ethernet.payload())?;
    let is_answer = ethernet.get_ethertype() == EtherTypes::Arp
        && arp.get_operation() == ArpOperations::Reply
        && arp.get_target_proto_addr() == vip
        && arp.get_target_hw_addr() == mac
        && arp.get_sender_proto_addr() != vip;
    is_answer.then(|| arp.get_sender_proto_addr())
}

/// Returns the reply to a neighbour that asks for the VIP's hardware address, if a received frame is such a question.
/// A probe (RFC 5227) is not one: it comes from a host that is about to have the VIP, and does so where nobody answers.
pub fn reply_to(frame: &[u8], mac: MacAddr, vip: Ipv4Addr) -> Option<Vec<u8>> {
    let ethernet = EthernetPacket::new(frame)?;
    let arp = ArpPacket::new(ethernet.payload())?;
    let (asker, asker_mac) = (arp.get_sender_proto_addr(), arp.get_sender_hw_addr());
    let is_question = ethernet.get_ethertype() == EtherTypes::Arp
        && [mac, MacAddr::broadcast()].contains(&ethernet.get_destination())
        && arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && arp.get_operation() == ArpOperations::Request
        && arp.get_target_proto_addr() == vip
        && is_one_host(asker_mac)
        && asker_mac != mac
        && asker != vip
        && !asker.is_unspecified()
        && !asker.is_multicast()
        && !asker.is_broadcast();
    let reply = || {
        let (sender, target) = ((mac, vip), (asker_mac, asker));
        to(asker_mac, ArpOperations::Reply, sender, target)
    };
    is_question.then(reply)
}

/// Returns the hardware address that a received frame claims the VIP for, if it is an ARP frame
/// whose sender says that it has the VIP.
pub fn claim(frame: &[u8], vip: Ipv4Addr) -> Option<MacAddr> {
    let ethernet = EthernetPacket::new(frame)?;
    let arp = ArpPacket::new(ethernet.payload())?;
    let is_claim = ethernet.get_ethertype() == EtherTypes::Arp
        && arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && arp.get_sender_proto_addr() == vip;
    is_claim.then(|| arp.get_sender_hw_addr())
}

fn broadcast(
    operation: ArpOperation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    to(MacAddr::broadcast(), operation, sender, target)
}

fn to(
    destination: MacAddr,
    operation: ArpOperation,
    (sender_mac, sender): (MacAddr, Ipv4Addr),
    (target_mac, target): (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(destination);
        ethernet.set_source(sender_mac);
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[14..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(operation);
        arp.set_sender_hw_addr(sender_mac);
        arp.set_sender_proto_addr(sender);
        arp.set_target_hw_addr(target_mac);
        arp.set_target_proto_addr(target);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpHardwareId, EtherType, NetSlice, SlicedPacket};

    const MAC: MacAddr = MacAddr(0x02, 0, 0, 0, 0, 0x65);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 250);

    #[test]
    fn the_request_is_what_rfc_5227_says() {
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x65, 0x08,
            0x06, // Ethernet
            0, 1, 0x08, 0, 6, 4, 0, 1, // Ethernet, IPv4, lengths, request
            0x02, 0, 0, 0, 0, 0x65, 192, 168, 56, 250, // sender
            0, 0, 0, 0, 0, 0, 192, 168, 56, 250, // target
        ];
        assert_eq!(announcement_request(MAC, VIP), golden);
    }

    #[test]
    fn the_reply_names_its_sender_as_target() {
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x65, 0x08,
            0x06, // Ethernet
            0, 1, 0x08, 0, 6, 4, 0, 2, // Ethernet, IPv4, lengths, reply
            0x02, 0, 0, 0, 0, 0x65, 192, 168, 56, 250, // sender
            0x02, 0, 0, 0, 0, 0x65, 192, 168, 56, 250, // target
        ];
        assert_eq!(announcement_reply(MAC, VIP), golden);
    }

    #[test]
    fn another_parser_reads_the_same_in_each() {
        for (frame, operation, sender, target_mac) in [
            (announcement_request(MAC, VIP), 1, VIP, [0; 6]),
            (announcement_reply(MAC, VIP), 2, VIP, MAC.octets()),
            (probe(MAC, VIP), 1, Ipv4Addr::UNSPECIFIED, [0; 6]),
            (directed_request(MAC, VIP, VIP), 1, VIP, [0; 6]),
        ] {
            let Ok(SlicedPacket {
                net: Some(NetSlice::Arp(arp)),
                ..
            }) = SlicedPacket::from_ethernet(&frame)
            else {
                panic!("no ARP in {frame:02x?}");
            };
            assert_eq!(arp.hw_addr_type(), ArpHardwareId::ETHERNET);
            assert_eq!(arp.proto_addr_type(), EtherType::IPV4);
            assert_eq!(arp.operation().0, operation);
            assert_eq!(arp.sender_hw_addr(), MAC.octets());
            assert_eq!(arp.sender_protocol_addr(), sender.octets());
            assert_eq!(arp.target_hw_addr(), target_mac);
            assert_eq!(arp.target_protocol_addr(), VIP.octets());
        }
    }

    #[test]
    fn an_answer_is_a_reply_to_the_vip_here() {
        let peer = Ipv4Addr::new(192, 168, 56, 1);
        let theirs = MacAddr(0x02, 0, 0, 0, 0, 1);
        let reply = |to_mac, to| broadcast(ArpOperations::Reply, (theirs, peer), (to_mac, to));
        assert_eq!(answer(&reply(MAC, VIP), MAC, VIP), Some(peer));
        assert_eq!(answer(&reply(theirs, VIP), MAC, VIP), None);
        assert_eq!(answer(&reply(MAC, peer), MAC, VIP), None);
        assert_eq!(answer(&directed_request(theirs, peer, VIP), MAC, VIP), None);
        assert_eq!(answer(&announcement_reply(MAC, VIP), MAC, VIP), None);
        assert_eq!(directed_request(MAC, VIP, peer)[38..], peer.octets());
    }

    #[test]
    fn a_claim_is_a_sender_that_says_it_has_the_vip() {
        assert_eq!(claim(&announcement_reply(MAC, VIP), VIP), Some(MAC));
        assert_eq!(claim(&announcement_request(MAC, VIP), VIP), Some(MAC));
        assert_eq!(claim(&probe(MAC, VIP), VIP), None);
        assert_eq!(
            claim(
                &announcement_reply(MAC, VIP),
                Ipv4Addr::new(192, 168, 56, 25)
            ),
            None
        );
        assert_eq!(claim(&announcement_reply(MAC, VIP)[..41], VIP), None);
        assert_eq!(claim(&[], VIP), None);
    }

    #[test]
    fn a_question_is_answered_to_its_asker_alone_and_a_probe_is_not() {
        let peer = Ipv4Addr::new(192, 168, 56, 1);
        let theirs = MacAddr(0x02, 0, 0, 0, 0, 1);
        let reply = reply_to(&directed_request(theirs, peer, VIP), MAC, VIP).unwrap();
        assert_eq!(reply[..6], theirs.octets());
        assert_eq!(reply[6..12], MAC.octets());
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!(claim(&reply, VIP), Some(MAC));
        assert_eq!(reply[32..38], theirs.octets());
        assert_eq!(reply[38..42], peer.octets());
        // As of a host that looks whether its entry is still right.
        let mut asked_alone = directed_request(theirs, peer, VIP);
        asked_alone[..6].copy_from_slice(&MAC.octets());
        assert!(reply_to(&asked_alone, MAC, VIP).is_some());
        asked_alone[..6].copy_from_slice(&[2; 6]);
        for other in [
            asked_alone,
            probe(theirs, VIP),
            announcement_request(theirs, VIP),
            announcement_reply(theirs, VIP),
            directed_request(theirs, peer, peer),
            directed_request(MAC, peer, VIP),
            directed_request(MacAddr::broadcast(), peer, VIP),
            directed_request(theirs, Ipv4Addr::BROADCAST, VIP),
            directed_request(theirs, peer, VIP)[..41].to_vec(),
        ] {
            assert_eq!(reply_to(&other, MAC, VIP), None, "{other:02x?}");
        }
    }
}
