//! What an Ethernet header says about who a frame is from, and frames that go back there.

use pnet_base::MacAddr;
use pnet_packet::ethernet::{EtherType, EthernetPacket, MutableEthernetPacket};

/// The length of the header, in bytes.
const HEADER: usize = 14;

/// Whether a hardware address is one network card's: the lowest bit of the first byte makes it a group's (IEEE 802).
pub fn is_one_host(mac: MacAddr) -> bool {
    mac.0 & 1 == 0 && mac != MacAddr::zero()
}

/// Returns the packet of this type in a received frame, if it is to `mac` alone and from another host.
pub fn packet(frame: &[u8], mac: MacAddr, ethertype: EtherType) -> Option<&[u8]> {
    let header = EthernetPacket::new(frame)?;
    let source = header.get_source();
    let is_mine = header.get_ethertype() == ethertype
        && header.get_destination() == mac
        && is_one_host(source)
        && source != mac;
    is_mine.then(|| &frame[HEADER..])
}

/// Returns the frame that carries a packet back to where a received one came from: behind a router that is the router.
pub fn back(received: &[u8], packet: &[u8]) -> Option<Vec<u8>> {
    let received = EthernetPacket::new(received)?;
    let mut frame = vec![0; HEADER];
    frame.extend(packet);
    let mut header = MutableEthernetPacket::new(&mut frame)?;
    header.set_destination(received.get_source());
    header.set_source(received.get_destination());
    header.set_ethertype(received.get_ethertype());
    Some(frame)
}
