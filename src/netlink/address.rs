//! Addresses: the list of them, adding one, deleting exactly one.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::{Netlink, answer};
use crate::errno;
use crate::exit::Fault;
use crate::link::Link;
use crate::vip::{Binding, Subnet, Vip};

/// The owner tag of the addresses that we add (IFA_PROTO, Linux 5.18). Numbers up to 3 are the
/// kernel's (include/uapi/linux/if_addr.h); no others are registered. This is an ASCII `v`.
const OWNER: u8 = 118;

/// One address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of its interface.
    pub ifindex: u32,
    /// The address, and the prefix length that makes its subnet.
    pub subnet: Subnet,
}

/// What came of adding an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there already.
    Already,
}

/// What came of deleting an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone now.
    Now,
    /// It was gone already.
    Already,
}

impl Netlink {
    /// Returns the addresses of the family of `like` on all interfaces, also on those that are
    /// down.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn addresses(&self, like: IpAddr) -> Result<Vec<Address>, Fault> {
        let mut request = self.handle.address().get();
        request.message_mut().header.family = match like {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let all = request
            .execute()
            .try_filter_map(async |message| Ok(read(&message)))
            .try_collect();
        answer(|| "list the addresses of this host".into(), all).await
    }

    /// Binds a VIP to an interface. An IPv6 address is usable at once (`nodad`: detection of
    /// duplicates would cost 1.4 s, and the old holder may still have it) and never a source
    /// of new connections (preferred lifetime 0, RFC 4862 section 5.5.4).
    ///
    /// # Errors
    ///
    /// A netlink fault; one already there is none.
    pub async fn add_address(&self, link: &Link, vip: &Vip) -> Result<Added, Fault> {
        let add = async {
            match self.add(link.index, vip, true).await {
                // A kernel before 5.18 may refuse the attribute that it does not know.
                Err(error)
                    if matches!(
                        errno::number(&error),
                        Some(Errno::EINVAL | Errno::EOPNOTSUPP)
                    ) =>
                {
                    self.add(link.index, vip, false).await
                }
                added => added,
            }
        };
        answer(|| format!("add {vip} to {}", link.name), add).await
    }

    async fn add(&self, ifindex: u32, vip: &Vip, tagged: bool) -> Result<Added, rtnetlink::Error> {
        let mut request = self.handle.address().add(ifindex, vip.address, vip.prefix);
        let attributes = &mut request.message_mut().attributes;
        if tagged {
            attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OWNER)));
        }
        if vip.address.is_ipv6() {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            attributes.push(AddressAttribute::CacheInfo(never_preferred()));
        }
        match request.execute().await {
            Ok(()) => Ok(Added::New),
            // Somebody, or an earlier run, has bound it: what was wanted.
            Err(error) if errno::number(&error) == Some(Errno::EEXIST) => Ok(Added::Already),
            Err(error) => Err(error),
        }
    }

    /// Removes exactly this binding of `address`. The kernel compares address, prefix length
    /// and interface only if all three are given. `link` is the interface's name, for messages.
    ///
    /// # Errors
    ///
    /// A netlink fault; one already gone, or gone with its interface, is none.
    pub async fn delete_address(
        &self,
        link: &str,
        address: IpAddr,
        binding: Binding,
    ) -> Result<Deleted, Fault> {
        let Binding { ifindex, prefix } = binding;
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.index = ifindex;
        message.header.prefix_len = prefix;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        let delete = async {
            match self.handle.address().del(message).execute().await {
                Ok(()) => Ok(Deleted::Now),
                // Gone meanwhile, alone or with its interface: what was wanted.
                Err(error)
                    if matches!(
                        errno::number(&error),
                        Some(Errno::EADDRNOTAVAIL | Errno::ENODEV)
                    ) =>
                {
                    Ok(Deleted::Already)
                }
                Err(error) => Err(error),
            }
        };
        answer(|| format!("remove {address}/{prefix} from {link}"), delete).await
    }
}

fn read(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's; IPv6 sends no IFA_LOCAL without a peer.
    let address = local.or(address)?;
    let subnet = Subnet {
        address,
        prefix: message.header.prefix_len,
    };
    Some(Address {
        ifindex: message.header.index,
        subnet,
    })
}

/// Valid for ever, preferred never. The kernel takes u32::MAX seconds for ever.
fn never_preferred() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = u32::MAX;
    lifetimes.ifa_preferred = 0;
    lifetimes
}
