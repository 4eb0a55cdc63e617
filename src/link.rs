//! A network interface, as far as a VIP is concerned.

use pnet_base::MacAddr;

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
    /// Whether it is the loopback, which can carry no VIP that anyone else would reach.
    pub loopback: bool,
}
