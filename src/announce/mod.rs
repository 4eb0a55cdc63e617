//! Tells the network which interface a VIP is on: frames ([`arp`], [`ndp`]), the packet socket
//! that carries them, and the probe that asks who else claims the VIP. Knows neither the
//! configuration nor Sentinel.

pub mod arp;
pub mod ndp;
mod probe;
mod socket;

use std::net::IpAddr;

use pnet_base::MacAddr;

pub use probe::{Question, claimants};
pub use socket::{PacketSocket, Senders};

/// Returns the frames of one announcement round, in the order in which they are sent.
///
/// For IPv4 an ARP request and an ARP reply, as some gear takes only the one and some only the
/// other; for IPv6 an unsolicited neighbor advertisement.
pub fn round(mac: MacAddr, vip: IpAddr) -> Vec<Vec<u8>> {
    match vip {
        IpAddr::V4(vip) => vec![
            arp::announcement_request(mac, vip),
            arp::announcement_reply(mac, vip),
        ],
        IpAddr::V6(vip) => vec![ndp::unsolicited_advertisement(mac, vip)],
    }
}
