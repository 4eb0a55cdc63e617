//! Tells the network which interface a VIP is on: frames ([`arp`], [`ndp`]), the packet socket
//! that carries them, and the probe that asks who else claims the VIP; tells clients that they
//! lost it ([`tcp`], the IP socket); and answers in its name where it is nowhere. Knows neither the configuration
//! nor Sentinel.

pub mod arp;
mod ethernet;
mod ip_socket;
pub mod ndp;
mod packet_socket;
mod probe;
mod segment_filter;
mod solicited_group;
pub mod tcp;

use std::net::IpAddr;

use pnet_base::MacAddr;
use pnet_packet::ethernet::EtherTypes;

use crate::link::Link;

pub use ip_socket::IpSocket;
pub use packet_socket::{PacketSocket, Senders};
pub use probe::{Question, claimants};
pub use solicited_group::SolicitedGroup;

/// Returns the frames that ask these peers for their hardware address in the name of the VIP, so
/// that their answers prove delivery. Peers of the other address family are passed over.
pub fn directed(link: &Link, vip: IpAddr, peers: &[IpAddr]) -> Vec<Vec<u8>> {
    let Some(mac) = link.mac else {
        return Vec::new();
    };
    let ask = |peer: &IpAddr| match (vip, *peer) {
        (IpAddr::V4(vip), IpAddr::V4(peer)) => Some(arp::directed_request(mac, vip, peer)),
        (IpAddr::V6(vip), IpAddr::V6(peer)) => Some(ndp::directed_solicitation(mac, vip, peer)),
        _ => None,
    };
    peers
        .iter()
        .filter(|peer| **peer != vip)
        .filter_map(ask)
        .collect()
}

/// What a received frame says about a VIP that this host has at the hardware address `mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This peer knows it here.
    Answer(IpAddr),
    /// This other hardware address claims it.
    Rival(MacAddr),
}

/// Returns what a received frame says about a VIP, if anything.
pub fn hear(frame: &[u8], mac: MacAddr, vip: IpAddr) -> Option<Heard> {
    let (claim, answer) = match vip {
        IpAddr::V4(vip) => (
            arp::claim(frame, vip),
            arp::answer(frame, mac, vip).map(IpAddr::V4),
        ),
        IpAddr::V6(vip) => (
            ndp::claim(frame, vip),
            ndp::answer(frame, mac, vip).map(IpAddr::V6),
        ),
    };
    match claim {
        Some(rival) if rival != mac => Some(Heard::Rival(rival)),
        _ => answer.map(Heard::Answer),
    }
}

/// Returns the frames of one announcement round, in the order in which they are sent.
///
/// For IPv4 an ARP request and an ARP reply, as some gear takes only the one and some only the
/// other; for IPv6 an unsolicited neighbor advertisement. A link without neighbours has none.
pub fn round(link: &Link, vip: IpAddr) -> Vec<Vec<u8>> {
    let Some(mac) = link.mac else {
        return Vec::new();
    };
    match vip {
        IpAddr::V4(vip) => vec![
            arp::announcement_request(mac, vip),
            arp::announcement_reply(mac, vip),
        ],
        IpAddr::V6(vip) => vec![ndp::unsolicited_advertisement(mac, vip, link.is_router)],
    }
}

/// Returns the frame that refuses the TCP segment in a received one ([`tcp::refusal`]), back to where that came from.
/// `None` if there is nothing to refuse, or it was not sent to this link's hardware address alone.
pub fn refusal(received: &[u8], link: &Link, vip: IpAddr) -> Option<Vec<u8>> {
    let ethertype = match vip {
        IpAddr::V4(_) => EtherTypes::Ipv4,
        IpAddr::V6(_) => EtherTypes::Ipv6,
    };
    let packet = ethernet::packet(received, link.mac?, ethertype)?;
    ethernet::back(received, &tcp::refusal(packet, vip)?)
}

/// Returns the frame that tells one neighbour that the VIP is at this link's hardware address, if a received one asks
/// for that. A host that is about to have the VIP itself, and asks whether anybody has it, gets no answer.
pub fn answer_to(received: &[u8], link: &Link, vip: IpAddr) -> Option<Vec<u8>> {
    let mac = link.mac?;
    match vip {
        IpAddr::V4(vip) => arp::reply_to(received, mac, vip),
        IpAddr::V6(vip) => ndp::advertisement_to(received, mac, vip, link.is_router),
    }
}
