//! What the kernel says about every VIP and its interface, and who claims the VIP. Looks, changes
//! nothing.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use pnet_base::MacAddr;

use super::interface::Interface;
use super::sentinel::Watched;
use crate::config::Config;
use crate::exit::Fault;
use crate::frames::{Question, claimants};
use crate::kernel::{Address, Netlink, Snapshot, has_marks, try_reset};
use crate::link::Link;
use crate::privilege::{self, Capability};
use crate::vip::{Binding, Vip, choose_interface};

/// How long neighbours may take to answer the probe.
const PROBE: Duration = Duration::from_millis(500);

/// What came of trying something.
#[derive(Clone, Debug)]
pub enum Trial {
    Works,
    Fails(Fault),
    /// This process lacks the privilege to try it.
    NotAllowed,
}

impl Trial {
    pub fn of<T>(tried: Result<T, Fault>, needs: Capability) -> Trial {
        match tried {
            Ok(_) => Trial::Works,
            Err(_) if !privilege::is_there(needs) => Trial::NotAllowed,
            Err(fault) => Trial::Fails(fault),
        }
    }
}

/// What the kernel says.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Whether addresses can be changed.
    pub change: Trial,
    /// Whether connections can be reset.
    pub reset: Trial,
    /// Whether the kernel keeps the mark of an address's owner (since Linux 5.18).
    pub has_marks: bool,
    pub addresses: Vec<Address>,
    pub links: Vec<Link>,
    /// The IPv4 routes that have a source: it and the route.
    pub source_routes: Vec<(IpAddr, String)>,
    pub places: Vec<Place>,
}

/// One VIP.
#[derive(Clone, Debug)]
pub struct Place {
    pub master: String,
    pub vip: Vip,
    /// The interface that it belongs on.
    pub interface: Result<Interface, Fault>,
    /// Where it is bound.
    pub bound: Vec<Binding>,
    /// The other hosts that claim it, where the network was asked.
    pub claimed_by: Option<Vec<MacAddr>>,
}

/// Looks at the kernel, and asks the network who claims each VIP.
///
/// # Errors
///
/// A netlink fault.
pub async fn look(config: &Config, watched: &[Watched]) -> Result<Kernel, Fault> {
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    let mut addresses = netlink.addresses(IpAddr::from([0; 4])).await?;
    addresses.extend(netlink.addresses(IpAddr::from([0; 16])).await?);
    let mut places = places(config, watched, &netlink, &links).await?;
    let own: Vec<MacAddr> = links.iter().filter_map(|link| link.mac).collect();
    let claims = join_all(places.iter().map(|place| claimed_by(place, &own))).await;
    for (place, claim) in places.iter_mut().zip(claims) {
        place.claimed_by = claim;
    }
    let reset = try_reset().await.map_err(Fault::permanent);
    Ok(Kernel {
        change: try_change(&netlink, &links).await,
        reset: Trial::of(reset, Capability::NetAdmin),
        has_marks: has_marks(),
        addresses,
        links,
        source_routes: source_routes(&netlink).await,
        places,
    })
}

/// What cannot be listed counts for nothing: the release says so.
async fn source_routes(netlink: &Netlink) -> Vec<(IpAddr, String)> {
    let routes = netlink.source_routes().await.unwrap_or_default();
    let each = routes.iter();
    each.filter_map(|route| Some((route.source()?.into(), route.to_string())))
        .collect()
}

async fn places(
    config: &Config,
    watched: &[Watched],
    netlink: &Netlink,
    links: &[Link],
) -> Result<Vec<Place>, Fault> {
    let vips = config.vips().map(|vip| vip.address).collect();
    let snapshot = Snapshot::knowing(netlink, vips);
    let mut places = Vec::new();
    for (name, master) in &config.masters {
        let redises = watched.iter().filter(|one| one.name == *name);
        let mut redises = redises.flat_map(|one| &one.redises);
        let carries = redises.find_map(|site| match site.place {
            Ok(crate::place::Place::Here(carrier)) => carrier,
            _ => None,
        });
        for vip in &master.vips {
            let seen = snapshot
                .see(vip.address, master.interface.as_deref())
                .await?;
            let interface = choose_interface(vip, &seen, carries).and_then(|(ifindex, _)| {
                let link = links.iter().find(|link| link.index == ifindex);
                let gone = || Fault::passing("the interface has gone meanwhile");
                Ok(Interface::look(link.ok_or_else(gone)?, vip))
            });
            places.push(Place {
                master: name.clone(),
                vip: *vip,
                interface,
                bound: seen.bound,
                claimed_by: None,
            });
        }
    }
    Ok(places)
}

/// Tries whether this process may change addresses, on an interface that cannot exist.
async fn try_change(netlink: &Netlink, links: &[Link]) -> Trial {
    let Some(link) = links.first() else {
        return Trial::NotAllowed;
    };
    let (index, address) = (i32::MAX as u32, IpAddr::from([192, 0, 2, 1]));
    let nowhere = Link {
        index,
        ..link.clone()
    };
    let binding = Binding {
        ifindex: index,
        prefix: 32,
        peer: address,
        usable: true,
        lasts: true,
        is_ours: true,
    };
    let tried = netlink.delete_address(&nowhere, address, binding).await;
    Trial::of(tried, Capability::NetAdmin)
}

/// Asks the network who claims a VIP, where its interface has neighbours to ask.
async fn claimed_by(place: &Place, own: &[MacAddr]) -> Option<Vec<MacAddr>> {
    let link = &place.interface.as_ref().ok()?.link;
    let vip = place.vip.address;
    let can_ask = link.mac.is_some() && link.carrier;
    let question = can_ask.then_some(Question { vip, link })?;
    let answers = claimants(&[question], own, PROBE).await;
    answers.into_iter().next()?.ok()
}
