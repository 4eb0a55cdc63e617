//! The way to a server: a TCP port or a Unix socket.

use std::io::{self, ErrorKind};

use std::time::Duration;

use futures_util::future::select_ok;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use super::no_answer::NoAnswer;
use super::owner::Stranger;
use super::server::{Endpoint, Server};
use super::stream::{Stream, words};

/// How long a connection may be idle until the kernel asks whether the other end is there, and how often.
const IDLE: Duration = Duration::from_secs(1);

/// How long data may stay unacknowledged before the connection fails (TCP_USER_TIMEOUT, tcp(7)): a host that lost its
/// power is known within 2 s.
const UNHEARD: Duration = Duration::from_secs(2);

/// Connects to the server, to the first of its addresses that accepts.
pub(super) async fn connect(server: &Server) -> Result<Box<dyn Stream>, NoAnswer> {
    let unreachable = |error: io::Error| match error.kind() {
        _ if error.get_ref().is_some_and(|it| it.is::<Stranger>()) => {
            NoAnswer::Stranger(error.to_string())
        }
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::TimedOut => NoAnswer::NoRoute(words(&error)),
        _ => NoAnswer::Unreachable(words(&error)),
    };
    let owner = server.owner.as_ref();
    let tcp = |address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let user = match owner {
                Some(owner) => owner.of_tcp(&stream).await?,
                None => None,
            };
            // The end of a TLS handshake would hold back the question until it is acknowledged.
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(IDLE))?;
            socket.set_tcp_user_timeout(Some(UNHEARD))?;
            Ok::<_, io::Error>((stream, user))
        })
    };
    match &server.endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            if let Some(owner) = owner {
                owner.note(owner.of_unix(&stream).map_err(unreachable)?);
            }
            Ok(Box::new(stream))
        }
        Endpoint::Tcp(address) => {
            let all = [address].into_iter().chain(&server.further);
            let ((stream, user), _) = select_ok(all.copied().map(tcp))
                .await
                .map_err(unreachable)?;
            if let Some(owner) = owner.filter(|_| server.is_own) {
                owner.note(user);
            }
            Ok(Box::new(stream))
        }
    }
}
