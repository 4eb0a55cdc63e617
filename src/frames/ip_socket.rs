//! The IP socket: whole IP packets, whose source may be an address that is not on this host any more. The
//! kernel finds the way, and asks for hardware addresses in the name of an address that is.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::exit::Fault;
use crate::kernel_error;

/// IPPROTO_RAW: packets have their IP headers, and none is received (raw(7)).
const WITH_HEADERS: i32 = 255;

/// How many bytes may wait for the hardware addresses of clients: each dead client's host keeps up to
/// 212,992 waiting for a second or three (net.ipv4.neigh.default.unres_qlen_bytes).
const QUEUE: usize = 16 << 20;

/// A socket for packets that one address sends. It never blocks.
pub struct IpSocket(Socket);

impl IpSocket {
    /// Opens a socket for packets from `source`. The rules for that source count (ip-rule(8)) where
    /// the kernel allows it. With a `device` packets leave through that one.
    ///
    /// # Errors
    ///
    /// A missing CAP_NET_RAW or a blocked address family is permanent.
    pub fn open(source: IpAddr, device: Option<&str>) -> Result<IpSocket, Fault> {
        let domain = match source {
            IpAddr::V4(_) => Domain::IPV4,
            IpAddr::V6(_) => Domain::IPV6,
        };
        let failed = |error: io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            kernel_error::packet("open an IP socket", errno)
        };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(WITH_HEADERS)));
        let socket = socket.map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // Without the larger queue, or the source, it sends all the same.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &QUEUE);
        let _ = match source {
            IpAddr::V4(_) => socket.set_freebind_v4(true),
            IpAddr::V6(_) => socket.set_freebind_v6(true),
        };
        let _ = socket.bind(&SockAddr::from(SocketAddr::new(source, 0)));
        if let Some(device) = device {
            let bound = socket.bind_device(Some(device.as_bytes()));
            bound.map_err(failed)?;
        }
        Ok(IpSocket(socket))
    }

    /// Sends a packet on its way to `peer`. The kernel takes the port of IPv6 for a protocol: it is left out.
    ///
    /// # Errors
    ///
    /// EAGAIN or ENOBUFS for a full queue, ENETUNREACH and the like where no route leads there.
    pub fn send(&self, packet: &[u8], mut peer: SocketAddr) -> Result<(), Errno> {
        peer.set_port(0);
        let sent = self.0.send_to(packet, &SockAddr::from(peer));
        sent.map(drop)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    }
}
