//! What changes in the kernel while somebody watches.

use std::net::IpAddr;

use futures_util::{Stream, StreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use crate::exit::Fault;
use crate::kernel_error;

use super::address;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address was removed from an interface.
    AddressGone(IpAddr, u32),
    /// An address was added to an interface, or changed there.
    AddressNew(IpAddr, u32),
    /// An interface changed, and had carrier then, or not: it may have it again by now.
    Link(u32, bool),
    /// An interface is gone.
    LinkGone(u32),
    /// Some changes were lost, as there were too many at once.
    Lost,
}

/// Returns the changes from now on. The stream ends if the connection to the kernel breaks.
///
/// # Errors
///
/// As [`super::Netlink::open`].
pub fn events() -> Result<impl Stream<Item = Event> + Unpin, Fault> {
    let groups = [
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Link,
    ];
    let (connection, _, messages) = new_multicast_connection(&groups)
        .map_err(|error| kernel_error::open("a netlink socket", &error))?;
    tokio::spawn(connection);
    Ok(messages.filter_map(|(message, _)| std::future::ready(read(message.payload))))
}

fn read(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(Event::Lost),
        _ => return None,
    };
    match message {
        RouteNetlinkMessage::DelAddress(message) => {
            let address = address::read(&message)?;
            Some(Event::AddressGone(address.local, address.ifindex))
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let address = address::read(&message)?;
            Some(Event::AddressNew(address.local, address.ifindex))
        }
        RouteNetlinkMessage::NewLink(message) => {
            let carrier = message.header.flags.contains(LinkFlags::LowerUp);
            Some(Event::Link(message.header.index, carrier))
        }
        RouteNetlinkMessage::DelLink(message) => Some(Event::LinkGone(message.header.index)),
        _ => None,
    }
}
