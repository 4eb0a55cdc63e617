//! What the kernel says about TO and about each VIP: the cheap question first, the list of all
//! addresses only where that one leaves something open.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::exit::Fault;
use crate::kernel::{Address, Netlink, Route};
use crate::link::LOOPBACK;
use crate::vip::{Binding, Candidates, bits};

/// The kernel at one moment: nothing is asked twice, also where several ask at the same time.
pub struct Snapshot<'a> {
    netlink: &'a Netlink,
    vips: BTreeSet<IpAddr>,
    carriers: RefCell<BTreeMap<IpAddr, Rc<OnceCell<Option<u32>>>>>,
    v4: OnceCell<Vec<Address>>,
    v6: OnceCell<Vec<Address>>,
}

impl<'a> Snapshot<'a> {
    /// Returns a snapshot for which nothing was asked yet.
    pub fn new(netlink: &'a Netlink) -> Self {
        Snapshot::knowing(netlink, BTreeSet::new())
    }

    /// Returns a snapshot for which nothing was asked yet, and which takes none of these `vips` for an
    /// interface's own address.
    pub fn knowing(netlink: &'a Netlink, vips: BTreeSet<IpAddr>) -> Self {
        Snapshot {
            netlink,
            vips,
            carriers: RefCell::default(),
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }
    }

    /// Returns each address with the number of the interface that has it, if it is this host's.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn carriers(
        &self,
        addresses: &[IpAddr],
    ) -> Result<Vec<(IpAddr, Option<u32>)>, Fault> {
        let mut carriers = Vec::new();
        for &address in addresses {
            let cell = Rc::clone(self.carriers.borrow_mut().entry(address).or_default());
            let carrier = cell.get_or_try_init(|| self.carrier(address)).await?;
            carriers.push((address, *carrier));
        }
        Ok(carriers)
    }

    /// Returns whether any of these addresses lies in a subnet of this host. What cannot be asked counts as no.
    pub async fn are_on_link(&self, addresses: &[IpAddr]) -> bool {
        for &address in addresses {
            if self
                .subnets(address)
                .await
                .is_ok_and(|found| !found.is_empty())
            {
                return true;
            }
        }
        false
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

    /// Returns what a take-over needs to know about a VIP, if the routing table alone tells it: the one
    /// subnet that it lies in. `None` where the VIP is on this host already, in no subnet of its, or where the
    /// list of addresses has to be asked.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn see_subnet<'b>(
        &self,
        vip: IpAddr,
        interface: Option<&'b str>,
    ) -> Result<Option<Candidates<'b>>, Fault> {
        let Route::OnLink(ifindex, source) = self.netlink.route(vip).await? else {
            return Ok(None);
        };
        // The kernel makes the route of an IPv6 address a moment after the address (`addrconf_dad_work` in
        // net/ipv6/addrconf.c): the VIP may be here without one. And its routes do not tell whose they are.
        if vip.is_ipv6() {
            let seen = self.see(vip, interface).await?;
            let tells = seen.bound.is_empty() && !seen.subnets.is_empty();
            return Ok(Some(seen).filter(|_| tells));
        }
        let configured = self.configured(interface).await?;
        let elsewhere = configured.is_some_and(|(_, configured)| configured != Some(ifindex));
        let is_a_vips = source.is_none_or(|source| self.vips.contains(&source));
        if elsewhere || is_a_vips {
            return Ok(None);
        }
        Ok(Some(Candidates {
            configured,
            subnets: vec![ifindex],
            bound: Vec::new(),
        }))
    }

    /// Returns all that the kernel says about a VIP.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn see<'b>(
        &self,
        vip: IpAddr,
        interface: Option<&'b str>,
    ) -> Result<Candidates<'b>, Fault> {
        Ok(Candidates {
            configured: self.configured(interface).await?,
            subnets: self.subnets(vip).await?,
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
            lasts: one.lasts,
            is_ours: one.is_ours,
        };
        Ok(same.map(binding).collect())
    }

    async fn addresses(&self, like: IpAddr) -> Result<&[Address], Fault> {
        let cell = if like.is_ipv4() { &self.v4 } else { &self.v6 };
        let addresses = cell
            .get_or_try_init(|| self.netlink.addresses(like))
            .await?;
        Ok(addresses)
    }

    /// Returns the interfaces that have a subnet with the VIP in it, the smallest subnet first. No VIP counts,
    /// this one or another: it would keep itself, or two would keep each other, wherever they were put by
    /// mistake.
    async fn subnets(&self, vip: IpAddr) -> Result<Vec<u32>, Fault> {
        let is_vip =
            |one: &Address| one.is_ours || one.local == vip || self.vips.contains(&one.local);
        let all = self.addresses(vip).await?.iter();
        let mut holding: Vec<&Address> = all
            .filter(|one| one.ifindex != LOOPBACK && !is_vip(one))
            .filter(|one| (1..bits(vip)).contains(&one.subnet.prefix) && one.subnet.holds(vip))
            .collect();
        holding.sort_unstable_by_key(|one| (Reverse(one.subnet.prefix), one.ifindex));
        Ok(holding.into_iter().map(|one| one.ifindex).collect())
    }
}
