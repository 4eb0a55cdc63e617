//! What the kernel says about TO and about each VIP: the cheap question first, the list of all
//! addresses only where it is needed, and then once.

use std::cell::OnceCell;
use std::net::IpAddr;

use crate::exit::Fault;
use crate::netlink::{Address, Netlink, Route};
use crate::plan::{Call, Seen, ToIs};
use crate::vip::{Binding, Vip, bits};

/// The loopback's number, the same in every network namespace (LOOPBACK_IFINDEX in the kernel's
/// include/net/flow.h).
const LOOPBACK: u32 = 1;

/// The kernel as one attempt sees it.
pub struct Kernel<'a> {
    /// The connection that asks, and that changes.
    pub netlink: &'a Netlink,
    v4: OnceCell<Vec<Address>>,
    v6: OnceCell<Vec<Address>>,
}

impl<'a> Kernel<'a> {
    /// Returns a view that has asked nothing yet.
    pub fn new(netlink: &'a Netlink) -> Self {
        Kernel {
            netlink,
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }
    }

    /// Returns whether one of `addresses`, all of them TO's, is an address of this host.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn where_is(&self, addresses: &[IpAddr]) -> Result<ToIs, Fault> {
        for &address in addresses {
            let carrier = match self.netlink.route(address).await? {
                Route::Local(ifindex) => Some(ifindex),
                // Before a release follows from it: an interface that is down keeps its
                // addresses and loses its routes.
                _ => self
                    .bindings(address)
                    .await?
                    .first()
                    .map(|binding| binding.ifindex),
            };
            if let Some(ifindex) = carrier {
                return Ok(ToIs::Here(
                    Some(ifindex).filter(|ifindex| *ifindex != LOOPBACK),
                ));
            }
        }
        Ok(ToIs::Elsewhere)
    }

    /// Returns what the kernel says about a VIP, as far as `call` needs it.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn see<'b>(
        &self,
        call: Call,
        vip: Vip,
        interface: Option<&'b str>,
    ) -> Result<Seen<'b>, Fault> {
        let configured = match interface {
            Some(name) => {
                let link = self.netlink.link_named(name).await?;
                Some((name, link.map(|link| link.index)))
            }
            None => None,
        };
        let mut seen = Seen {
            vip,
            bound: Vec::new(),
            configured,
            subnet: None,
        };
        if matches!(call, Call::Follow(ToIs::Here(_)) | Call::Bind) {
            match self.netlink.route(vip.address).await? {
                Route::OnLink(ifindex) => {
                    seen.subnet = Some(ifindex);
                    return Ok(seen);
                }
                Route::Elsewhere if configured.is_some() => return Ok(seen),
                Route::Elsewhere | Route::Local(_) => {
                    seen.subnet = self.subnet(vip.address).await?
                }
            }
        }
        seen.bound = self.bindings(vip.address).await?;
        Ok(seen)
    }

    /// Returns every binding of an address on this host.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn bindings(&self, address: IpAddr) -> Result<Vec<Binding>, Fault> {
        let all = self.addresses(address).await?.iter();
        let same = all.filter(|other| other.subnet.address == address);
        Ok(same
            .map(|other| Binding {
                ifindex: other.ifindex,
                prefix: other.subnet.prefix,
            })
            .collect())
    }

    /// Returns the interface with the smallest subnet that holds the VIP. The VIP's own binding
    /// counts for nothing: it would keep itself wherever it was put by mistake.
    async fn subnet(&self, vip: IpAddr) -> Result<Option<u32>, Fault> {
        let all = self.addresses(vip).await?.iter();
        let holding = all.filter(|address| {
            address.ifindex != LOOPBACK
                && address.subnet.address != vip
                && (1..bits(vip)).contains(&address.subnet.prefix)
                && address.subnet.holds(vip)
        });
        Ok(holding
            .max_by_key(|address| address.subnet.prefix)
            .map(|address| address.ifindex))
    }

    async fn addresses(&self, like: IpAddr) -> Result<&[Address], Fault> {
        let cell = if like.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(addresses) = cell.get() {
            return Ok(addresses);
        }
        let addresses = self.netlink.addresses(like).await?;
        Ok(cell.get_or_init(|| addresses))
    }
}
