//! Membership of the multicast group on which an IPv6 address is solicited. The kernel leaves the group with the address:
//! without this, network cards and switches would keep back the questions of neighbours that know it no more.

use std::net::Ipv6Addr;

use socket2::{Domain, Socket, Type};

use super::ndp::solicited_node;

/// A membership, for as long as it lives.
pub struct SolicitedGroup {
    _socket: Socket,
}

impl SolicitedGroup {
    /// Joins the group of an address on the interface of this number. Returns `None` where the kernel refuses it:
    /// then only neighbours that still know the address reach it.
    pub fn join(address: Ipv6Addr, ifindex: u32) -> Option<SolicitedGroup> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
        let group = solicited_node(address);
        socket.join_multicast_v6(&group, ifindex).ok()?;
        Some(SolicitedGroup { _socket: socket })
    }
}
