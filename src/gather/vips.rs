//! What the kernel says of each VIP: where it is bound, and where it belongs. `status` and `check` judge by it.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Target;
use crate::exit::Fault;
use crate::frames::Question;
use crate::kernel::Snapshot;
use crate::link::Link;
use crate::vip::{Binding, Vip, choose_interface};

/// How long others may take to answer a probe. A neighbour answers in well under a millisecond, a sleeping or busy
/// neighbour in some hundred.
pub const PROBE: Duration = Duration::from_millis(500);

/// One VIP.
pub struct Seen<'a> {
    /// The master that it belongs to.
    pub master: &'a str,
    /// As configured.
    pub vip: Vip,
    /// The interface that it belongs on, or why no interface fits.
    pub belongs_on: Result<&'a Link, Fault>,
    /// Where it is bound.
    pub bound: Vec<(&'a Link, Binding)>,
}

impl<'a> Seen<'a> {
    /// Looks at the VIP of a target. `links` are this host's, `carries` is the interface with the address of its Redis.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn of(
        target: &Target<'a>,
        (snapshot, links): (&Snapshot<'_>, &'a [Link]),
        carries: Option<u32>,
    ) -> Result<Seen<'a>, Fault> {
        let interface = target.master.interface.as_deref();
        let seen = snapshot.see(target.vip.address, interface).await?;
        let link = |ifindex| links.iter().find(|link| link.index == ifindex);
        let chosen = choose_interface(&target.vip, &seen, carries);
        let gone = || Fault::passing("the interface has gone meanwhile");
        let bound = seen.bound.iter();
        Ok(Seen {
            master: target.name,
            vip: target.vip,
            belongs_on: chosen.and_then(|(ifindex, _)| link(ifindex).ok_or_else(gone)),
            bound: bound
                .filter_map(|binding| Some((link(binding.ifindex)?, *binding)))
                .collect(),
        })
    }

    /// Returns the interfaces that have it; else the one that it belongs on, without a binding.
    pub fn places(&self) -> Vec<(&'a Link, Option<Binding>)> {
        let bound = self.bound.iter();
        let mut places: Vec<_> = bound.map(|(link, it)| (*link, Some(*it))).collect();
        if let ([], Ok(link)) = (places.as_slice(), &self.belongs_on) {
            places.push((link, None));
        }
        places
    }

    /// Returns the number and the name of each interface that has it.
    pub fn bound_on(&self) -> Vec<(u32, &'a str)> {
        let links = self.bound.iter().map(|(link, _)| link);
        links.map(|link| (link.index, link.name.as_str())).collect()
    }
}

/// Returns the question who claims an address, where its interface has neighbours to ask.
pub fn question(vip: IpAddr, link: &Link) -> Option<Question<'_>> {
    let can_ask = link.mac.is_some() && link.carrier;
    can_ask.then_some(Question { vip, link })
}
