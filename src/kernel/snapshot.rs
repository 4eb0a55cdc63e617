//! What the kernel says about TO and about each VIP: the cheap question first, the list of all
//! addresses only where that one leaves something open.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::net::IpAddr;

use crate::exit::Fault;
use crate::kernel::{Address, Netlink, Route};
use crate::plan::{Call, ToIs};
use crate::vip::{Binding, Candidates, bits};

/// The loopback's number, the same in every network namespace (LOOPBACK_IFINDEX in the kernel's
/// include/net/flow.h).
const LOOPBACK: u32 = 1;

/// The kernel at one moment: the list of addresses is read once.
pub struct Snapshot<'a> {
    netlink: &'a Netlink,
    v4: OnceCell<Vec<Address>>,
    v6: OnceCell<Vec<Address>>,
}

impl<'a> Snapshot<'a> {
    /// Returns a view that has asked nothing yet.
    pub fn new(netlink: &'a Netlink) -> Self {
        Snapshot {
            netlink,
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }
    }

    /// Returns whether TO, whose addresses these are, is this host.
    ///
    /// # Errors
    ///
    /// A netlink fault. Addresses of which only some are this host's are a passing one: then the
    /// name stands for two hosts, and both would think that they are meant.
    pub async fn where_is(&self, addresses: &[IpAddr]) -> Result<ToIs, Fault> {
        let mut here = None;
        let mut elsewhere = None;
        for &address in addresses {
            match self.carrier(address).await? {
                Some(ifindex) => here = here.or(Some((address, ifindex))),
                None => elsewhere = elsewhere.or(Some(address)),
            }
        }
        match (here, elsewhere) {
            (Some((here, _)), Some(away)) => Err(Fault::passing(format!(
                "TO-IP is {here}, which is this host's, and {away}, which is not"
            ))
            .remedy("Give the name addresses of one host only, or let Redis announce addresses.")),
            (Some((_, ifindex)), None) => Ok(ToIs::Here(
                Some(ifindex).filter(|ifindex| *ifindex != LOOPBACK),
            )),
            (None, _) => Ok(ToIs::Elsewhere),
        }
    }

    /// Returns the interface that has this address, if one has.
    async fn carrier(&self, address: IpAddr) -> Result<Option<u32>, Fault> {
        if address.is_loopback() {
            return Ok(Some(LOOPBACK));
        }
        match self.netlink.route(address).await? {
            Route::Local(ifindex) => Ok(Some(ifindex)),
            // Before a release follows from it, the list is asked: an address may have no route.
            _ => Ok(self
                .bindings(address)
                .await?
                .first()
                .map(|binding| binding.ifindex)),
        }
    }

    /// Returns what the kernel says about a VIP, as far as `call` needs it: to a take-over one
    /// subnet is enough if the routing table names it, as no other address has to be looked at.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn see<'b>(
        &self,
        call: Call,
        vip: IpAddr,
        interface: Option<&'b str>,
    ) -> Result<Candidates<'b>, Fault> {
        let is_take_over = matches!(call, Call::Follow(ToIs::Here(_)) | Call::Bind);
        if is_take_over && let Route::OnLink(ifindex) = self.netlink.route(vip).await? {
            let configured = self.configured(interface).await?;
            return Ok(Candidates {
                configured,
                subnets: vec![ifindex],
                bound: Vec::new(),
            });
        }
        self.see_all(vip, interface).await
    }

    /// Returns all that the kernel says about a VIP.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn see_all<'b>(
        &self,
        vip: IpAddr,
        interface: Option<&'b str>,
    ) -> Result<Candidates<'b>, Fault> {
        Ok(Candidates {
            configured: self.configured(interface).await?,
            subnets: subnets(self.addresses(vip).await?, vip),
            bound: self.bindings(vip).await?,
        })
    }

    async fn configured<'b>(
        &self,
        interface: Option<&'b str>,
    ) -> Result<Option<(&'b str, Option<u32>)>, Fault> {
        match interface {
            None => Ok(None),
            Some(name) => {
                let link = self.netlink.link_named(name).await?;
                Ok(Some((name, link.map(|link| link.index))))
            }
        }
    }

    /// Returns every binding of an address on this host.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn bindings(&self, address: IpAddr) -> Result<Vec<Binding>, Fault> {
        let all = self.addresses(address).await?.iter();
        let same = all.filter(|other| other.local == address);
        let binding = |one: &Address| Binding {
            ifindex: one.ifindex,
            prefix: one.subnet.prefix,
            peer: one.subnet.address,
            usable: one.usable,
        };
        Ok(same.map(binding).collect())
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

/// Returns the interfaces that have a subnet with the VIP in it, the smallest subnet first. The
/// VIP's own binding counts for nothing: it would keep itself wherever it was put by mistake.
fn subnets(addresses: &[Address], vip: IpAddr) -> Vec<u32> {
    let mut holding: Vec<&Address> = addresses
        .iter()
        .filter(|address| address.ifindex != LOOPBACK && address.local != vip)
        .filter(|address| {
            (1..bits(vip)).contains(&address.subnet.prefix) && address.subnet.holds(vip)
        })
        .collect();
    holding.sort_by_key(|address| (Reverse(address.subnet.prefix), address.ifindex));
    holding.into_iter().map(|address| address.ifindex).collect()
}
