//! Routes whose preferred source is an address. The kernel removes those of the main table with the address,
//! default routes too, and most kernels say nothing of it (`fib_sync_down_addr` in net/ipv4/fib_semantics.c);
//! those of other tables go on sending from an address that is not here any more. IPv6 keeps the route and drops
//! the source (`fib6_remove_prefsrc` in net/ipv6/route.c), so that this is about IPv4 alone.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt as _;
use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::new_connection;
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::Netlink;
use crate::exit::Fault;
use crate::kernel_error;

/// How often a list that has changed while it was read is read again.
const TRIES: usize = 3;

/// A route with a preferred source.
#[derive(Clone, Debug)]
pub struct SourceRoute(RouteMessage);

impl Netlink {
    /// Returns the routes of all tables that somebody has made with this source. None for IPv6.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn routes_from(&self, source: IpAddr) -> Result<Vec<SourceRoute>, Fault> {
        if source.is_ipv6() {
            return Ok(Vec::new());
        }
        let mut routes = self.source_routes().await?;
        routes.retain(|route| route.source().map(IpAddr::V4) == Some(source));
        Ok(routes)
    }

    /// Returns the IPv4 routes of all tables that somebody has made with a source.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn source_routes(&self) -> Result<Vec<SourceRoute>, Fault> {
        let tried = || "list the routes of this host".to_owned();
        for _ in 0..TRIES {
            if let Some(routes) = self.answer(tried, list()).await? {
                return Ok(routes);
            }
        }
        let text = format!("cannot {}: they change all the time", tried());
        Err(Fault::passing(text))
    }

    /// Puts a route without its source in the place of one, at once: the kernel then takes the host's own.
    /// Returns whether it had to be added: false where there was one like it.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn free_route(&self, route: &SourceRoute) -> Result<bool, Fault> {
        let mut old = cleaned(&route.0);
        let mut new = old.clone();
        let is_source = |one: &RouteAttribute| matches!(one, RouteAttribute::PrefSource(_));
        new.attributes.retain(|one| !is_source(one));
        // Before the other route of its kind, so that there is a route at every moment.
        let tried = || format!("keep the route {route}");
        let new = RouteNetlinkMessage::NewRoute(new);
        let added = self
            .answer(tried, ask(self.handle.clone(), new, NLM_F_CREATE))
            .await?;
        // In the main table it would go with the address.
        old.header.flags = RouteFlags::empty();
        let old = RouteNetlinkMessage::DelRoute(old);
        self.answer(tried, ask(self.handle.clone(), old, 0)).await?;
        Ok(added)
    }

    /// Puts a route with its source back: in the place of the one without, if that was `added` for it.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn put_route_back(&self, route: &SourceRoute, added: bool) -> Result<(), Fault> {
        let tried = || format!("put the route {route} back");
        let message = RouteNetlinkMessage::NewRoute(cleaned(&route.0));
        // The one that was added stands before all others of its kind, and the first is replaced
        // (`fib_table_insert` in net/ipv4/fib_trie.c).
        let flags = NLM_F_CREATE | if added { NLM_F_REPLACE } else { 0 };
        let asked = ask(self.handle.clone(), message, flags);
        self.answer(tried, asked).await.map(|_| ())
    }
}

/// Returns whether it changed anything: false where it was so already.
async fn ask(
    mut handle: rtnetlink::Handle,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<bool, rtnetlink::Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answer = handle.request(request)?;
    while let Some(message) = answer.next().await {
        if let NetlinkPayload::Error(error) = message.payload
            && error.code.is_some()
        {
            let error = rtnetlink::Error::NetlinkError(error);
            // There already, or gone already: what was wanted.
            return match kernel_error::number(&error) {
                Some(nix::errno::Errno::EEXIST | nix::errno::Errno::ESRCH) => Ok(false),
                _ => Err(error),
            };
        }
    }
    Ok(true)
}

/// Returns a route as the kernel takes it: without what it only tells.
fn cleaned(route: &RouteMessage) -> RouteMessage {
    use RouteAttribute::{CacheInfo, Encap, EncapType, Gateway, MultiPath, NhId, Oif, Via};
    let mut route = route.clone();
    route.header.flags &= RouteFlags::Onlink;
    let has_object = route.attributes.iter().any(|one| matches!(one, NhId(_)));
    route.attributes.retain(|one| match one {
        CacheInfo(_) => false,
        // A next hop object says all of these; they are told with it and refused with it.
        Gateway(_) | Oif(_) | Via(_) | MultiPath(_) | Encap(_) | EncapType(_) => !has_object,
        _ => true,
    });
    for attribute in &mut route.attributes {
        if let MultiPath(hops) = attribute {
            for hop in hops {
                hop.flags &= RouteNextHopFlags::Onlink;
            }
        }
    }
    route
}

impl SourceRoute {
    /// Returns the source.
    pub fn source(&self) -> Option<Ipv4Addr> {
        self.0.attributes.iter().find_map(|one| match one {
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => Some(*source),
            _ => None,
        })
    }
}

/// As `ip route` shows it: where to, by which gateway, in which table.
impl std::fmt::Display for SourceRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let header = &self.0.header;
        let mut to = "default".to_owned();
        let (mut via, mut table) = (String::new(), u32::from(header.table));
        for attribute in &self.0.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    to = format!("{address}/{}", header.destination_prefix_length);
                }
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                    via = format!(" via {gateway}");
                }
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        write!(f, "{to}{via}")?;
        match table {
            MAIN => Ok(()),
            table => write!(f, " of table {table}"),
        }
    }
}

/// RT_TABLE_MAIN in the kernel's include/uapi/linux/rtnetlink.h.
const MAIN: u32 = 254;

/// Reads the list of all routes, of which only those with a source are kept: a router may have a million. `None`
/// if it was interrupted.
async fn list() -> Result<Option<Vec<SourceRoute>>, rtnetlink::Error> {
    let broken = |_| rtnetlink::Error::RequestFailed;
    let (connection, handle, _) =
        new_connection::<Message>(NETLINK_ROUTE).map_err(|_| rtnetlink::Error::RequestFailed)?;
    let connection = tokio::spawn(connection);
    let mut all = RouteMessage::default();
    all.header.address_family = AddressFamily::Inet;
    let ask = Message::Ask(RouteNetlinkMessage::GetRoute(all));
    let mut request =
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(ask));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answer = handle
        .request(request, SocketAddr::new(0, 0))
        .map_err(broken)?;
    let mut found = Vec::new();
    let mut is_whole = true;
    while let Some(message) = answer.next().await {
        is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
        match message.payload {
            NetlinkPayload::InnerMessage(Message::Found(route)) => found.push(SourceRoute(*route)),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
            NetlinkPayload::Overrun(_) => is_whole = false,
            _ => {}
        }
    }
    is_whole &= !connection.is_finished();
    Ok(is_whole.then_some(found))
}

/// A message about routes, read no further than to see whether it matters.
#[derive(Clone, Debug)]
enum Message {
    Ask(RouteNetlinkMessage),
    Found(Box<RouteMessage>),
    Other,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Message::Ask(message) => message.message_type(),
            Message::Found(_) | Message::Other => 0,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Message::Ask(message) => message.buffer_len(),
            Message::Found(_) | Message::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Message::Ask(message) = self {
            message.serialize(buffer);
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if !has_source(payload) {
            return Ok(Message::Other);
        }
        Ok(match RouteNetlinkMessage::deserialize(header, payload)? {
            RouteNetlinkMessage::NewRoute(route) => Message::Found(Box::new(route)),
            _ => Message::Other,
        })
    }
}

/// Returns whether a route has a preferred source and was not made by the kernel for an address (`struct rtmsg`
/// and its attributes in include/uapi/linux/rtnetlink.h).
fn has_source(payload: &[u8]) -> bool {
    const HEADER: usize = 12;
    const PROTOCOL: usize = 5;
    const RTPROT_KERNEL: u8 = 2;
    const RTA_PREFSRC: u16 = 7;
    let Some((header, mut rest)) = payload.split_at_checked(HEADER) else {
        return false;
    };
    if header[PROTOCOL] == RTPROT_KERNEL {
        return false;
    }
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == RTA_PREFSRC {
            return true;
        }
        match rest.get(length.max(4).next_multiple_of(4)..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}
