//! A network interface, as far as a VIP is concerned.

use pnet_base::MacAddr;

/// The loopback's number, the same in every network namespace (LOOPBACK_IFINDEX in the kernel's
/// include/net/flow.h).
pub const LOOPBACK: u32 = 1;

/// One network interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, `eth1` for example.
    pub name: String,
    /// The address that neighbours are told, where the link has neighbours: `None` on the
    /// loopback, on links without ARP, and on links that are not Ethernet.
    pub mac: Option<MacAddr>,
    /// Whether its far end is connected. Without carrier the kernel drops what is sent.
    pub carrier: bool,
    /// Its sysctl `promote_secondaries`: whether its secondary IPv4 addresses outlive their primary.
    pub promote_secondaries: i32,
    /// Whether it forwards IPv6, so that this host is a router to its neighbours.
    pub is_router: bool,
}
