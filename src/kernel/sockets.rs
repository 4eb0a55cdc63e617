//! Connections, through sock_diag (NETLINK_SOCK_DIAG): which ones an address has, and resetting
//! them. A client that is blocked in SUBSCRIBE or BLPOP sends nothing, so that it never learns by
//! itself that the address went; a reset tells it at once, while the address is still there to
//! send it from.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr as Endpoint, SocketAddrV6};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use netlink_packet_sock_diag::{SOCK_DESTROY, SOCK_DIAG_BY_FAMILY};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable as _,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::SocketAddr;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{ANSWER, socket_filter};
use crate::few;
use crate::outcome::Reset;

/// How often a broken or lost answer is asked for again.
const TRIES: usize = 3;

/// How long a sweep may take in all: some ten thousand connections need about a second, and no
/// connections that come in meanwhile may keep the address here.
const SWEEP: Duration = Duration::from_secs(3);

/// How many are reset before the kernel's answers are read.
const AT_ONCE: usize = 64;

/// Resets every TCP connection that has `address` as its local address, IPv4-mapped ones
/// included. Sockets that listen are left: they belong to a server that goes on.
pub async fn reset_connections(address: IpAddr) -> Reset {
    let mut done = Reset::default();
    let sweep = async {
        for _ in 0..TRIES {
            done.why_not_all = None;
            match reset(address, &mut done).await {
                Ok(true) => return,
                Ok(false) => done.why_not_all = Some("the connection to the kernel broke".into()),
                Err(why) => {
                    done.why_not_all = Some(why);
                    return;
                }
            }
        }
    };
    if timeout(SWEEP, sweep).await.is_err() {
        let late = format!("{} s were not enough", SWEEP.as_secs());
        done.why_not_all = Some(late);
    }
    done
}

/// A TCP connection of an address of this host, made or being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This end. The address of an IPv4-mapped socket is the IPv4 one.
    pub local: Endpoint,
    /// The other end, likewise. A link-local one has the interface's number as its scope.
    pub peer: Endpoint,
    family: u8,
    socket: SocketId,
}

impl Connection {
    fn new(family: u8, socket: SocketId) -> Connection {
        let local = socket.source_address.to_canonical();
        let peer = match socket.destination_address.to_canonical() {
            IpAddr::V6(peer) if peer.is_unicast_link_local() => {
                SocketAddrV6::new(peer, socket.destination_port, 0, socket.interface_id).into()
            }
            peer => Endpoint::new(peer, socket.destination_port),
        };
        Connection {
            local: Endpoint::new(local, socket.source_port),
            peer,
            family,
            socket,
        }
    }
}

/// Which end of a connection has an address.
#[derive(Clone, Copy, Debug)]
enum End {
    Local,
    Peer,
}

impl End {
    fn address(self, of: &SocketId) -> IpAddr {
        let address = match self {
            End::Local => of.source_address,
            End::Peer => of.destination_address,
        };
        address.to_canonical()
    }

    fn states(self) -> StateFlags {
        let all = StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT;
        match self {
            End::Local => all,
            // It is made anew by itself, with whoever is there now.
            End::Peer => all - StateFlags::SYN_SENT,
        }
    }
}

/// Returns the connections that have one of `addresses` as their local address, IPv4-mapped ones
/// included. The kernel looks through its sockets once for all addresses and each family.
///
/// # Errors
///
/// Says why not.
pub async fn connections(addresses: &[IpAddr]) -> Result<Vec<Connection>, String> {
    connections_by(End::Local, addresses).await
}

/// Returns this host's own connections to addresses that were made while these were another host's. Whoever connects to an
/// address of its own host does so from that very address (`ip_route_output_key_hash_rcu` in net/ipv4/route.c; RFC 6724,
/// rule 1): also where a packet filter redirects it, and its other end has another address or is in a container.
///
/// # Errors
///
/// Says why the kernel does not tell.
pub async fn stranded(addresses: &[IpAddr]) -> Result<Vec<Connection>, String> {
    let mut found = connections_by(End::Peer, addresses).await?;
    found.retain(|one| one.local.ip() != one.peer.ip());
    if found.is_empty() {
        return Ok(found);
    }
    // Asked for later: whoever has chosen another address, and has connected meanwhile, has its other end here.
    let own = connections_by(End::Local, addresses).await?;
    let own: BTreeSet<(Endpoint, Endpoint)> = few::set(own.iter().map(|one| (one.local, one.peer)));
    // Who was redirected to another address of this host is the peer of a connection of that.
    let is_alone = |(local, peer): &&(Endpoint, Endpoint)| {
        local.ip() == peer.ip() && !own.contains(&(*peer, *local))
    };
    let redirected: BTreeSet<Endpoint> =
        few::set(own.iter().filter(is_alone).map(|(local, _)| *local));
    found.retain(|one| !own.contains(&(one.peer, one.local)) && !redirected.contains(&one.peer));
    Ok(found)
}

async fn connections_by(end: End, addresses: &[IpAddr]) -> Result<Vec<Connection>, String> {
    let find_all = async {
        let (connection, mut handle, _) =
            new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let mut all = Vec::new();
        for some in addresses.chunks(socket_filter::MOST) {
            for family in families(some) {
                let found = find(&mut handle, family, (end, some)).await?;
                all.extend(
                    found
                        .into_iter()
                        .map(|socket| Connection::new(family, socket)),
                );
            }
        }
        match connection.is_finished() {
            true => Err("the connection to the kernel broke".into()),
            false => Ok(all),
        }
    };
    let late = || Err(format!("{} s were not enough", SWEEP.as_secs()));
    timeout(SWEEP, find_all).await.unwrap_or_else(|_| late())
}

/// Resets these connections and no others, whatever has the same ends by now: each has a number in the kernel. One that is
/// gone is passed over.
pub async fn reset_these(connections: &[Connection]) -> Reset {
    let mut done = Reset::default();
    match new_connection::<Message>(NETLINK_SOCK_DIAG) {
        Err(error) => done.why_not_all = Some(error.to_string()),
        Ok((connection, handle, _)) => {
            tokio::spawn(connection);
            let sockets = connections
                .iter()
                .map(|one| (one.family, one.socket.clone()));
            let sockets: Vec<_> = sockets.collect();
            if timeout(SWEEP, destroy_all(&handle, &sockets, &mut done))
                .await
                .is_err()
            {
                done.why_not_all = Some(format!("{} s were not enough", SWEEP.as_secs()));
            }
        }
    }
    done
}

/// Tries whether connections can be reset at all, on one between two sockets of this process on
/// the loopback, and on no other.
///
/// # Errors
///
/// Says why not.
pub async fn try_reset() -> Result<(), String> {
    let tried = async {
        let said = |error: io::Error| format!("no connection on the loopback: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(said)?;
        let there = listener.local_addr().map_err(said)?;
        let stream = TcpStream::connect(there).await.map_err(said)?;
        let here = stream.local_addr().map_err(said)?;
        reset_one(here.port(), there.port()).await
    };
    let late = || Err("the kernel did not answer".into());
    timeout(ANSWER, tried).await.unwrap_or_else(|_| late())
}

async fn reset_one(from: u16, to: u16) -> Result<(), String> {
    let (connection, mut handle, _) =
        new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let found = find(&mut handle, AF_INET, (End::Local, &[localhost])).await?;
    let is_own = |socket: &SocketId| {
        socket.source_port == from
            && socket.destination_port == to
            && socket.destination_address == localhost
    };
    let own = found.into_iter().find(is_own);
    let own = own.ok_or("the kernel does not list this process's own connection")?;
    match destroy(handle, AF_INET, own).await? {
        true => Ok(()),
        false => Err("the kernel did not find the connection that it listed".into()),
    }
}

/// Counts what it resets in `done`. Returns whether it has seen all: not if the connection to the
/// kernel broke.
async fn reset(address: IpAddr, done: &mut Reset) -> Result<bool, String> {
    let (connection, mut handle, _) =
        new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    for family in families(&[address]) {
        let found = find(&mut handle, family, (End::Local, &[address])).await?;
        let found: Vec<_> = found.into_iter().map(|socket| (family, socket)).collect();
        destroy_all(&handle, &found, done).await;
    }
    Ok(!connection.is_finished())
}

/// The families whose sockets may have one of these addresses.
pub(super) fn families(addresses: &[IpAddr]) -> impl Iterator<Item = u8> + use<> {
    let v4 = addresses.iter().any(IpAddr::is_ipv4).then_some(AF_INET);
    v4.into_iter().chain([AF_INET6])
}

async fn destroy_all(
    handle: &ConnectionHandle<Message>,
    sockets: &[(u8, SocketId)],
    done: &mut Reset,
) {
    for some in sockets.chunks(AT_ONCE) {
        let each = some
            .iter()
            .map(|(family, socket)| destroy(handle.clone(), *family, socket.clone()));
        for destroyed in join_all(each).await {
            match destroyed {
                Ok(was_there) => done.number += usize::from(was_there),
                // The others are still to be reset.
                Err(why) => done.why_not_all = done.why_not_all.take().or(Some(why)),
            }
        }
    }
}

/// Returns the sockets of one family that have one of these addresses at this end. There may be
/// [`socket_filter::MOST`] of them.
async fn find(
    handle: &mut ConnectionHandle<Message>,
    family: u8,
    (end, addresses): (End, &[IpAddr]),
) -> Result<Vec<SocketId>, String> {
    let socket_id = if family == AF_INET {
        SocketId::new_v4()
    } else {
        SocketId::new_v6()
    };
    let all = request(family, socket_id, end.states());
    let filter = match end {
        End::Local => socket_filter::of_sources(addresses),
        End::Peer => socket_filter::of_destinations(addresses),
    };
    let find = Message::Find(all, filter);
    let mut answer = ask(handle, find, NLM_F_REQUEST | NLM_F_DUMP)?;
    let mut found = Vec::new();
    while let Some(message) = answer.next().await {
        match message.payload {
            NetlinkPayload::InnerMessage(Message::Found(socket))
                if addresses.contains(&end.address(&socket.socket_id)) =>
            {
                found.push(socket.socket_id);
            }
            NetlinkPayload::Error(error) => check(error.raw_code())?,
            _ => {}
        }
    }
    Ok(found)
}

/// Returns whether the socket was still there to be destroyed.
async fn destroy(
    mut handle: ConnectionHandle<Message>,
    family: u8,
    socket: SocketId,
) -> Result<bool, String> {
    let one = Message::Destroy(request(family, socket, StateFlags::all()));
    let mut answer = ask(&mut handle, one, NLM_F_REQUEST | NLM_F_ACK)?;
    while let Some(message) = answer.next().await {
        if let NetlinkPayload::Error(error) = message.payload {
            if error.raw_code() == -(Errno::ENOENT as i32) {
                return Ok(false);
            }
            check(error.raw_code())?;
        }
    }
    Ok(true)
}

pub(super) fn request(family: u8, socket_id: SocketId, states: StateFlags) -> InetRequest {
    InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    }
}

pub(super) fn ask(
    handle: &mut ConnectionHandle<Message>,
    message: Message,
    flags: u16,
) -> Result<impl futures_util::Stream<Item = NetlinkMessage<Message>> + use<>, String> {
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(message),
    );
    message.header.flags = flags;
    handle
        .request(message, SocketAddr::new(0, 0))
        .map_err(|_| "the connection to the kernel broke".into())
}

/// Words what the kernel refuses. Zero is its consent.
pub(super) fn check(code: i32) -> Result<(), String> {
    match Errno::from_raw(-code) {
        Errno::UnknownErrno if code == 0 => Ok(()),
        Errno::EOPNOTSUPP => Err("this kernel was built without INET_DIAG_DESTROY".into()),
        Errno::ENOENT => Err("this kernel has no tcp_diag".into()),
        Errno::EPERM | Errno::EACCES => Err("CAP_NET_ADMIN is missing".into()),
        errno => Err(errno.desc().into()),
    }
}

/// A message of sock_diag. The crate for its packets has no name for destroying.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// With the filter that follows it.
    Find(InetRequest, Vec<u8>),
    Destroy(InetRequest),
    /// Without the attributes that follow, which the crate keeps in 2 kB for each: there may be 100,000 sockets.
    Found(Box<InetResponseHeader>),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Message::Destroy(_) => SOCK_DESTROY,
            Message::Find(..) | Message::Found(_) => SOCK_DIAG_BY_FAMILY,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Message::Find(request, filter) => request.buffer_len() + filter.len(),
            Message::Destroy(request) => request.buffer_len(),
            Message::Found(_) => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Message::Find(request, filter) => {
                let (first, last) = buffer.split_at_mut(request.buffer_len());
                request.emit(first);
                last.copy_from_slice(filter);
            }
            Message::Destroy(request) => request.emit(buffer),
            Message::Found(_) => {}
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Message::Found(Box::new(InetResponseHeader::parse(
            payload,
        )?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_refuses_is_said_in_words() {
        assert_eq!(check(0), Ok(()));
        for (errno, said) in [
            (Errno::EOPNOTSUPP, "without INET_DIAG_DESTROY"),
            (Errno::EPERM, "CAP_NET_ADMIN"),
            (Errno::ENOENT, "tcp_diag"),
        ] {
            assert!(check(-(errno as i32)).unwrap_err().contains(said));
        }
    }
}
