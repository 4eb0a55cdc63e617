//! Servers of this host, through sock_diag: where they listen, and which user's process it is that answers a connection.

use std::net::{IpAddr, SocketAddr as Endpoint};

use futures_util::StreamExt as _;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::{SocketId, StateFlags};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkPayload};
use rtnetlink::proto::new_connection;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use tokio::time::timeout;

use super::ANSWER;
use super::sockets::{Message, ask, check, request};
use crate::link::LOOPBACK;

/// States of a socket, from tcp_states.h: those of one that nobody may have accepted yet, and that of one that listens.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const NEW_SYN_RECV: u8 = 12;
const LISTEN: u8 = 10;

/// What the kernel knows of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// A process of this user has accepted it.
    Accepted(u32),
    /// Nobody has accepted it yet.
    NotAccepted,
    /// Who had accepted it has closed it, and reads nothing more.
    Closed,
    /// It is not in this host's network namespace, or not there yet: all that there is listens.
    Listens,
    /// It is not in this host's network namespace, and nobody listens there.
    Elsewhere,
}

/// Returns what the kernel knows of the other end of a connection of this process to an address of this host. A socket that
/// nobody has accepted, or that was closed, has no inode (`sock_i_ino` in net/core/sock.c); one that was accepted has the
/// user who did that.
///
/// # Errors
///
/// Says why the kernel does not tell.
pub async fn other_end(here: Endpoint, there: Endpoint) -> Result<OtherEnd, String> {
    let (from, to) = (there.ip().to_canonical(), here.ip().to_canonical());
    // Who has bound it to the loopback interface, by which such a connection goes, is found by that alone
    // (`inet_bound_dev_eq` in inet_sock.h).
    let interface_id = match there {
        Endpoint::V6(there) if there.scope_id() != 0 => there.scope_id(),
        _ => LOOPBACK,
    };
    let id = SocketId {
        source_port: there.port(),
        destination_port: here.port(),
        source_address: from,
        destination_address: to,
        interface_id,
        // Whichever it is (INET_DIAG_NOCOOKIE in inet_diag.h).
        cookie: [0xff; 8],
    };
    let family = if from.is_ipv4() { AF_INET } else { AF_INET6 };
    let (connection, mut handle, _) =
        new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let one = Message::Find(request(family, id, StateFlags::all()), Vec::new());
    let mut answer = ask(&mut handle, one, NLM_F_REQUEST)?;
    let late = |_| "the kernel did not answer".to_owned();
    let said = timeout(ANSWER, answer.next()).await.map_err(late)?;
    match said.map(|message| message.payload) {
        Some(NetlinkPayload::InnerMessage(Message::Found(socket))) => Ok(match socket.state {
            LISTEN => OtherEnd::Listens,
            _ if socket.inode != 0 => OtherEnd::Accepted(socket.uid),
            ESTABLISHED | SYN_RECV | NEW_SYN_RECV => OtherEnd::NotAccepted,
            _ => OtherEnd::Closed,
        }),
        Some(NetlinkPayload::Error(error)) if error.raw_code() == -(Errno::ENOENT as i32) => {
            Ok(OtherEnd::Elsewhere)
        }
        Some(NetlinkPayload::Error(error)) => {
            check(error.raw_code())?;
            Ok(OtherEnd::Elsewhere)
        }
        _ => Err("the connection to the kernel broke".into()),
    }
}

/// Returns whether an address is one of this host's; not where the kernel does not tell.
pub fn is_own_address(address: IpAddr) -> bool {
    let own = getifaddrs().into_iter().flatten();
    let mut own = own.filter_map(|one| {
        let at = one.address?;
        let v4 = at.as_sockaddr_in().map(|at| at.ip().into());
        v4.or_else(|| at.as_sockaddr_in6().map(|at| at.ip().into()))
    });
    address.is_loopback() || own.any(|one: IpAddr| one == address.to_canonical())
}

/// Returns where this host's servers listen on these ports, an unspecified address as it is, and the number of
/// the user whose socket it is.
///
/// # Errors
///
/// Says why the kernel does not tell.
pub async fn listeners(ports: &[u16]) -> Result<Vec<(Endpoint, u32)>, String> {
    let (connection, mut handle, _) =
        new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let asked = async {
        let mut found = Vec::new();
        let families = [
            (AF_INET, SocketId::new_v4 as fn() -> SocketId),
            (AF_INET6, SocketId::new_v6),
        ];
        for (port, (family, id)) in ports
            .iter()
            .flat_map(|port| families.map(|one| (*port, one)))
        {
            // The kernel lists only the sockets of that port (`inet_diag_dump_icsk` in net/ipv4/inet_diag.c).
            let of_port = SocketId {
                source_port: port,
                ..id()
            };
            let listening = request(family, of_port, StateFlags::LISTEN);
            let mut answer = ask(
                &mut handle,
                Message::Find(listening, Vec::new()),
                NLM_F_REQUEST | NLM_F_DUMP,
            )?;
            while let Some(message) = answer.next().await {
                match message.payload {
                    NetlinkPayload::InnerMessage(Message::Found(socket)) => {
                        let id = &socket.socket_id;
                        let at = Endpoint::new(id.source_address, id.source_port);
                        found.push((at, socket.uid));
                    }
                    NetlinkPayload::Error(error) => check(error.raw_code())?,
                    _ => {}
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    };
    let late = || Err("the kernel did not answer".into());
    timeout(ANSWER, asked).await.unwrap_or_else(|_| late())
}

/// Returns which of these servers answers at an address: the number of its user.
pub fn who_answers(found: &[(Endpoint, u32)], at: Endpoint) -> Option<u32> {
    let of_port = found
        .iter()
        .filter(|(listens, _)| listens.port() == at.port());
    let answers = of_port.filter_map(|(listens, user)| Some((rank(listens.ip(), at.ip())?, *user)));
    answers.min().map(|(_, user)| user)
}

/// Returns which of the servers that listen on a port answers at an address: that with the least number, none of which
/// there is no number.
fn rank(listens: IpAddr, address: IpAddr) -> Option<u8> {
    let address = address.to_canonical();
    match listens {
        at if at.to_canonical() == address => Some(0),
        at if at.is_unspecified() && at.is_ipv4() == address.is_ipv4() => Some(1),
        // It may listen for IPv4, too.
        IpAddr::V6(at) if at.is_unspecified() => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::task::yield_now;

    use super::*;

    async fn found(stream: &TcpStream) -> OtherEnd {
        let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        other_end(here, there).await.unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_has_accepted_a_connection_is_known_though_nobody_listens_any_more() {
        let own = nix::unistd::geteuid().as_raw();
        for (listens, at) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.2", "127.0.0.2"),
            ("[::1]", "[::1]"),
            ("[::]", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind(format!("{listens}:0")).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            // From another address than where it leads.
            let socket = match at {
                "[::1]" => TcpSocket::new_v6().unwrap(),
                _ => TcpSocket::new_v4().unwrap(),
            };
            if at == "127.0.0.2" {
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            }
            let there = format!("{at}:{port}").parse().unwrap();
            let stream = socket.connect(there).await.unwrap();
            // The last of the three segments may be on its way.
            while found(&stream).await == OtherEnd::Listens {
                yield_now().await;
            }
            assert_eq!(found(&stream).await, OtherEnd::NotAccepted, "{at}");
            let accepted = listener.accept().await.unwrap();
            drop(listener);
            assert_eq!(found(&stream).await, OtherEnd::Accepted(own), "{at}");
            drop(accepted);
            assert_eq!(found(&stream).await, OtherEnd::Closed, "{at}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_there_is_not_is_elsewhere() {
        let listener = TcpListener::bind("127.0.0.99:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert_eq!(other_end(nobody, there).await, Ok(OtherEnd::Listens));
        drop(listener);
        assert_eq!(other_end(nobody, there).await, Ok(OtherEnd::Elsewhere));
    }
}
