//! Where the kernel's routing table sends an address. One look-up costs about 2 µs however many
//! addresses the host has, a dump of 5,000 addresses 1.7 ms: so this is asked first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};

use super::Netlink;
use crate::exit::Fault;
use crate::kernel_error;
use crate::vip::bits;

/// What the routing table says about an address. Only routes that the kernel itself made for an
/// address count: others may say anything (AnyIP, a static route to an interface).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It is an address of this host, on the interface of this number.
    Local(u32),
    /// It lies in the subnet of an address on the interface of this number. IPv4 tells which address.
    OnLink(u32, Option<IpAddr>),
    /// Neither, as far as routes tell.
    Elsewhere,
}

impl Netlink {
    /// Returns what the routing table says about `address`. [`Route::Elsewhere`] is no proof
    /// that it is not bound: an IPv6 address on an interface that is down, or that failed
    /// duplicate address detection, has no route, and policy routing may look elsewhere.
    ///
    /// # Errors
    ///
    /// A netlink fault. A table without a route is not an error.
    pub async fn route(&self, address: IpAddr) -> Result<Route, Fault> {
        let tried = || format!("look up the route to {address}");
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, bits(address))
            .map_err(|error| Fault::permanent(format!("cannot {}: {error}", tried())))?
            .build();
        // Gives the table's entry, which names the interface that carries a local address;
        // the plain answer would say `lo`.
        message.header.flags |= RouteFlags::FibMatch;
        let first = async {
            match self.handle.route().get(message).execute().try_next().await {
                Err(error) if is_no_route(&error) => Ok(None),
                message => message,
            }
        };
        let message = self.answer(tried, first).await?;
        Ok(message.map_or(Route::Elsewhere, |message| read(&message, bits(address))))
    }
}

/// Addresses far away, whose route tells a gateway: public ones, as private ones and those for documentation are
/// often routed in a way of their own. One of each half, as a tunnel's default route is often two halves.
const FAR_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(193, 0, 14, 129)];
const FAR_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1),
];

impl Netlink {
    /// Returns the gateways through which this host reaches others by an interface: those to addresses far away,
    /// and those to `known` hosts; also those of the traffic that `from` sends, where routing has a policy. Some
    /// look-ups: a router has so many routes that they cannot be listed.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn gateways(
        &self,
        ifindex: u32,
        from: IpAddr,
        known: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Fault> {
        let far: Vec<IpAddr> = match from {
            IpAddr::V4(_) => FAR_V4.map(IpAddr::V4).into(),
            IpAddr::V6(_) => FAR_V6.map(IpAddr::V6).into(),
        };
        let known = known.iter().filter(|to| to.is_ipv4() == from.is_ipv4());
        let mut found = Vec::new();
        for to in far.iter().chain(known.take(MOST_KNOWN)) {
            for from in [None, Some(from)] {
                let route = self.route_by(*to, ifindex, from).await?;
                for gateway in route.iter().flat_map(|route| gateways(route, ifindex)) {
                    if gateway.is_ipv4() == to.is_ipv4() && !found.contains(&gateway) {
                        found.push(gateway);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the table's entry for what this host sends by an interface, if there is one.
    async fn route_by(
        &self,
        to: IpAddr,
        ifindex: u32,
        from: Option<IpAddr>,
    ) -> Result<Option<RouteMessage>, Fault> {
        let tried = || format!("look up the route to {to} by interface number {ifindex}");
        let invalid = |error| Fault::permanent(format!("cannot {}: {error}", tried()));
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to, bits(to))
            .map_err(invalid)?
            .output_interface(ifindex);
        if let Some(from) = from {
            route = route.source_prefix(from, bits(from)).map_err(invalid)?;
        }
        let mut message = route.build();
        message.header.flags |= RouteFlags::FibMatch;
        let first = async {
            match self.handle.route().get(message).execute().try_next().await {
                Err(error) if is_no_route(&error) => Ok(None),
                message => message,
            }
        };
        self.answer(tried, first).await
    }
}

/// So many hosts are asked about: an answer takes some microseconds.
const MOST_KNOWN: usize = 8;

/// Returns the gateways of one route that are reached through an interface: its own, or those of
/// its several next hops.
fn gateways(route: &RouteMessage, ifindex: u32) -> Vec<IpAddr> {
    let mut found = Vec::new();
    if route.attributes.contains(&RouteAttribute::Oif(ifindex)) {
        found.extend(gateway(&route.attributes));
    }
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            let through = hops.iter().filter(|hop| hop.interface_index == ifindex);
            found.extend(through.filter_map(|hop| gateway(&hop.attributes)));
        }
    }
    found
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        _ => None,
    })
}

/// No route at all, or one of type unreachable, prohibit or blackhole.
fn is_no_route(error: &rtnetlink::Error) -> bool {
    matches!(
        kernel_error::number(error),
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL)
    )
}

fn read(message: &RouteMessage, whole: u8) -> Route {
    let header = &message.header;
    let mut interface = None;
    let mut gateway = false;
    let mut source = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => {
                source = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                gateway = true
            }
            _ => {}
        }
    }
    let of_an_address = header.protocol == RouteProtocol::Kernel && !gateway;
    match (header.kind, interface, header.destination_prefix_length) {
        (RouteType::Local, Some(index), length) if of_an_address && length == whole => {
            Route::Local(index)
        }
        (RouteType::Unicast, Some(index), 1..) if of_an_address => Route::OnLink(index, source),
        _ => Route::Elsewhere,
    }
}
