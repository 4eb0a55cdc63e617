//! Who is connected to this host's servers: the other ends of established connections, many at a time.

use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt as _;
use netlink_packet_sock_diag::constants::AF_INET;
use netlink_packet_sock_diag::inet::{SocketId, StateFlags};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkPayload};
use rtnetlink::proto::new_connection;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use tokio::time::timeout;

use super::sockets::{Message, ask, check, families, request};
use super::{ANSWER, socket_filter};

/// Passes each established connection of these endpoints of this host to `each`: its own end, and the other one. The
/// kernel looks through its sockets once for every thousand endpoints and each family.
///
/// # Errors
///
/// Says why not, or why not all: by then some were passed.
pub async fn peers(
    endpoints: &[SocketAddr],
    mut each: impl FnMut(SocketAddr, SocketAddr),
) -> Result<(), String> {
    let listed = async {
        let (connection, mut handle, _) =
            new_connection::<Message>(NETLINK_SOCK_DIAG).map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        for some in endpoints.chunks(socket_filter::MOST) {
            let addresses: Vec<IpAddr> = some.iter().map(SocketAddr::ip).collect();
            for family in families(&addresses) {
                let id = match family {
                    AF_INET => SocketId::new_v4(),
                    _ => SocketId::new_v6(),
                };
                let established = request(family, id, StateFlags::ESTABLISHED);
                let find = Message::Find(established, socket_filter::of_endpoints(some));
                let mut answer = ask(&mut handle, find, NLM_F_REQUEST | NLM_F_DUMP)?;
                while let Some(message) = answer.next().await {
                    match message.payload {
                        NetlinkPayload::InnerMessage(Message::Found(socket)) => {
                            let id = &socket.socket_id;
                            let end = |address: IpAddr, port| {
                                SocketAddr::new(address.to_canonical(), port)
                            };
                            let own = end(id.source_address, id.source_port);
                            // A kernel that ignores the filter lists all there are.
                            if some.contains(&own) {
                                each(own, end(id.destination_address, id.destination_port));
                            }
                        }
                        NetlinkPayload::Error(error) => check(error.raw_code())?,
                        _ => {}
                    }
                }
            }
        }
        match connection.is_finished() {
            true => Err("the connection to the kernel broke".into()),
            false => Ok(()),
        }
    };
    let late = || Err("the kernel did not answer".into());
    timeout(ANSWER, listed).await.unwrap_or_else(|_| late())
}
