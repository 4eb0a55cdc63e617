//! Addresses: the list of them, adding one, deleting exactly one.

use std::fs;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;
use crate::exit::Fault;
use crate::kernel_error;
use crate::link::Link;
use crate::vip::{Binding, Subnet, Vip};

/// The owner tag of the addresses that we add (IFA_PROTO, Linux 5.18). Numbers up to 3 are the
/// kernel's (include/uapi/linux/if_addr.h); no others are registered. This is an ASCII `v`.
const OWNER: u8 = 118;

/// Returns whether the kernel keeps our mark on an address: Linux 5.18 or later.
pub fn has_marks() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let parts = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    parts.collect::<Vec<_>>() >= vec![5, 18]
}

/// One address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of its interface.
    pub ifindex: u32,
    /// The address.
    pub local: IpAddr,
    /// Its subnet: on a point-to-point link the peer's.
    pub subnet: Subnet,
    /// Whether it works: false while duplicate address detection goes on, and when it failed.
    pub usable: bool,
    /// Whether the kernel removes it with its primary, unless it promotes secondaries.
    pub secondary: bool,
    /// Whether it stays as it is: no lifetime ends it, and an IPv6 one is never chosen as a source.
    pub lasts: bool,
    /// Whether it bears the mark of the addresses that we add, on a kernel that has marks.
    pub is_ours: bool,
}

/// What came of adding an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there already.
    Already,
}

impl Netlink {
    /// Returns the addresses of the family of `like` on all interfaces, down or up.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn addresses(&self, like: IpAddr) -> Result<Vec<Address>, Fault> {
        let mut message = AddressMessage::default();
        message.header.family = family(like);
        let request = RouteNetlinkMessage::GetAddress(message);
        self.list("addresses", request, |message| match message {
            RouteNetlinkMessage::NewAddress(message) => read(&message),
            _ => None,
        })
        .await
    }

    /// Binds a VIP to an interface. An IPv6 address is usable at once (`nodad`: detection of
    /// duplicates would cost 1.4 s, and the old holder may still have it) and never a source
    /// of new connections (preferred lifetime 0, RFC 4862 section 5.5.4).
    ///
    /// # Errors
    ///
    /// A netlink fault. An address that is there already is not an error.
    pub async fn add_address(&self, link: &Link, vip: &Vip) -> Result<Added, Fault> {
        let add = async {
            match self.add(link.index, vip, true).await {
                // A kernel before 5.18 may refuse the attribute that it does not know.
                Err(error) if is(&error, &[Errno::EINVAL, Errno::EOPNOTSUPP]) => {
                    self.add(link.index, vip, false).await
                }
                added => added,
            }
        };
        self.answer(|| format!("add {vip} to {}", link.name), add)
            .await
    }

    async fn add(&self, ifindex: u32, vip: &Vip, tagged: bool) -> Result<Added, rtnetlink::Error> {
        let mut request = self.handle.address().add(ifindex, vip.address, vip.prefix);
        let attributes = &mut request.message_mut().attributes;
        attributes.extend(forever(vip.address, tagged));
        match request.execute().await {
            Ok(()) => Ok(Added::New),
            // Somebody, or an earlier run, has bound it: what was wanted.
            Err(error) if is(&error, &[Errno::EEXIST]) => Ok(Added::Already),
            Err(error) => Err(error),
        }
    }

    /// Makes a binding of `address` stay as it is: takes a lifetime from it, and keeps an IPv6 one from being a
    /// source. Its mark, or that it has none, is kept.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn renew_address(
        &self,
        link: &Link,
        address: IpAddr,
        binding: Binding,
    ) -> Result<(), Fault> {
        let Binding { prefix, peer, .. } = binding;
        let mut request = self.handle.address().add(link.index, address, prefix);
        request = request.replace();
        let message = request.message_mut();
        // rtnetlink knows of no peer. The kernel finds the address by both (`find_matching_ifa` in
        // net/ipv4/devinet.c).
        for attribute in &mut message.attributes {
            if let AddressAttribute::Address(of) = attribute {
                *of = peer;
            }
        }
        message.attributes.extend(forever(address, binding.is_ours));
        let tried = || format!("take the lifetime from {address}/{prefix} on {}", link.name);
        self.answer(tried, request.execute()).await
    }

    /// Removes exactly this binding of `address`. The kernel compares address, prefix length
    /// and interface only if all are given, and the prefix with the peer's address if there is
    /// one (`inet_rtm_deladdr` in net/ipv4/devinet.c).
    ///
    /// # Errors
    ///
    /// A netlink fault. An address that is gone already, alone or with its interface, is not an error.
    pub async fn delete_address(
        &self,
        link: &Link,
        address: IpAddr,
        binding: Binding,
    ) -> Result<(), Fault> {
        let Binding { prefix, peer, .. } = binding;
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.index = link.index;
        message.header.prefix_len = prefix;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(peer),
        ];
        let delete = async {
            match self.handle.address().del(message).execute().await {
                // Gone meanwhile, alone or with its interface: what was wanted.
                Err(error) if is(&error, &[Errno::EADDRNOTAVAIL, Errno::ENODEV]) => Ok(()),
                deleted => deleted,
            }
        };
        self.answer(
            || format!("remove {address}/{prefix} from {}", link.name),
            delete,
        )
        .await
    }

    /// Forgets which neighbour had an address before it came to this host. Without that the clients here would send to
    /// that one as soon as the address has left: it takes nothing, and they try again after a second. What cannot be
    /// forgotten costs that second, mostly because nothing was known.
    pub async fn forget_neighbour(&self, link: &Link, address: IpAddr) {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link.index;
        message.attributes = vec![NeighbourAttribute::Destination(address.into())];
        let forget = self.handle.neighbours().del(message).execute();
        let _ = self.answer(String::new, forget).await;
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn is(error: &rtnetlink::Error, errnos: &[Errno]) -> bool {
    kernel_error::number(error).is_some_and(|errno| errnos.contains(&errno))
}

pub(super) fn read(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut address = None;
    let mut is_ours = false;
    // An address without is one without end.
    let mut lifetimes = (u32::MAX, u32::MAX);
    // The header has room for the first eight flags only.
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(of) => lifetimes = (of.ifa_valid, of.ifa_preferred),
            AddressAttribute::Protocol(AddressProtocol::Other(OWNER)) => is_ours = true,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's; IPv6 sends no IFA_LOCAL without a peer.
    let address = address.or(local)?;
    let local = local.unwrap_or(address);
    Some(Address {
        ifindex: message.header.index,
        local,
        subnet: Subnet {
            address,
            prefix: message.header.prefix_len,
        },
        usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        // For IPv6 the same bit says temporary.
        secondary: local.is_ipv4() && flags.contains(AddressFlags::Secondary),
        lasts: lifetimes.0 == u32::MAX && (local.is_ipv4() || lifetimes.1 == 0),
        is_ours,
    })
}

/// What an address is to have that stays.
fn forever(address: IpAddr, tagged: bool) -> Vec<AddressAttribute> {
    let tag = AddressAttribute::Protocol(AddressProtocol::Other(OWNER));
    let mut attributes: Vec<AddressAttribute> = tagged.then_some(tag).into_iter().collect();
    if address.is_ipv6() {
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        attributes.push(AddressAttribute::CacheInfo(never_preferred()));
    }
    attributes
}

/// Valid for ever, preferred never. The kernel takes u32::MAX seconds for ever.
fn never_preferred() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = u32::MAX;
    lifetimes.ifa_preferred = 0;
    lifetimes
}
