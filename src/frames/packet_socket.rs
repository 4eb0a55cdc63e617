//! The packet socket: whole Ethernet frames, out of and into one interface.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socket, sockopt,
};
use pnet_datalink::{ChannelType, Config, NetworkInterface};
use pnet_packet::ethernet::{EtherType, EtherTypes};
use socket2::{SockFilter, SockRef};
use tokio::io::unix::AsyncFd;

use super::segment_filter;
use crate::exit::Fault;
use crate::kernel_error;
use crate::link::Link;

/// Lets ICMPv6 messages of type 136 pass that follow the IPv6 header at once, in whole Ethernet
/// frames (linux/Documentation/networking/filter.rst; RFC 8200 section 3, RFC 4861 section 4.4).
const NEIGHBOR_ADVERTISEMENTS: [SockFilter; 6] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
    SockFilter::new(JUMP_IF_EQUAL, 0, 3, 58),
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, 136),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
/// BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K and BPF_RET | BPF_K of linux/bpf_common.h.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// How many bytes of segments may wait: clients that were reset come back all at once, and the kernel counts 0.8 to
/// 2.5 kB for each frame.
const CROWD: usize = 16 << 20;

/// A packet socket on one interface. It never blocks.
pub struct PacketSocket {
    fd: OwnedFd,
    link: String,
}

impl PacketSocket {
    /// Opens a packet socket on `link` for sending. It receives nothing, and the kernel reads
    /// each frame's type from the frame (`packet_parse_headers` in net/packet/af_packet.c), so
    /// that one serves both address families.
    ///
    /// # Errors
    ///
    /// A missing CAP_NET_RAW or a blocked address family is permanent.
    pub fn sender(link: &Link) -> Result<PacketSocket, Fault> {
        Self::open(link, EtherType(0), &[])
    }

    /// Opens a packet socket on `link` that sends, and receives what may claim an address of
    /// the family of `like`.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::sender`].
    pub fn listener(link: &Link, like: IpAddr) -> Result<PacketSocket, Fault> {
        match like {
            IpAddr::V4(_) => Self::open(link, EtherTypes::Arp, &[]),
            IpAddr::V6(_) => Self::open(link, EtherTypes::Ipv6, &NEIGHBOR_ADVERTISEMENTS),
        }
    }

    /// Opens a packet socket on `link` that sends, and receives the TCP segments to `vip`, for IPv6 the neighbor
    /// solicitations for it as well. What this host sends is not received.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::sender`].
    pub fn segments(link: &Link, vip: IpAddr) -> Result<PacketSocket, Fault> {
        let receives = match vip {
            IpAddr::V4(_) => EtherTypes::Ipv4,
            IpAddr::V6(_) => EtherTypes::Ipv6,
        };
        let socket = Self::open(link, receives, &segment_filter::segments(vip))?;
        // With the smaller queue more of a crowd of clients has to ask again, after a second.
        let _ = setsockopt(&socket.fd, sockopt::RcvBufForce, &CROWD);
        Ok(socket)
    }

    fn open(
        link: &Link,
        receives: EtherType,
        filter: &[SockFilter],
    ) -> Result<PacketSocket, Fault> {
        let tried = || format!("open a packet socket on {}", link.name);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)
            .map_err(|error| kernel_error::packet(&tried(), error))?;
        if !filter.is_empty() {
            // The filter only saves work: the receiver looks at each frame.
            let _ = SockRef::from(&fd).attach_filter(filter);
        }
        bind(&fd, link, receives).map_err(|error| kernel_error::packet(&tried(), error))?;
        Ok(PacketSocket {
            fd,
            link: link.name.clone(),
        })
    }

    /// Sends one whole frame.
    ///
    /// # Errors
    ///
    /// An interface that is down (ENETDOWN) or a full queue (ENOBUFS) is passing.
    pub fn send(&self, frame: &[u8]) -> Result<(), Fault> {
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty())
            .map(drop)
            .map_err(|error| {
                let fault = kernel_error::packet(&format!("send a frame on {}", self.link), error);
                match error {
                    Errno::ENETDOWN => {
                        fault.remedy(format!("Bring it up: ip link set {} up", self.link))
                    }
                    _ => fault,
                }
            })
    }

    /// Returns the next frame that was received, `None` if there is no frame now.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::send`].
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>, Fault> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(kernel_error::packet(
                &format!("listen on {}", self.link),
                error,
            )),
        }
    }
}

impl PacketSocket {
    /// Returns the socket as what can be waited for. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2), passing.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor can change; ours owns one for life"
    )]
    pub fn into_async(self) -> Result<AsyncFd<PacketSocket>, Fault> {
        let link = self.link.clone();
        AsyncFd::new(self)
            .map_err(|error| Fault::passing(format!("cannot listen on {link}: {error}")))
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The sockets that a run announces through, one an interface. They stay open to its end:
/// closing one waits for an RCU grace period, about 11 ms, which no VIP's first frame may wait
/// for.
#[derive(Default)]
pub struct Senders(RefCell<Vec<(u32, Rc<PacketSocket>)>>);

impl Senders {
    /// Returns the socket for `link`, opened on its first use.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::sender`].
    pub fn on(&self, link: &Link) -> Result<Rc<PacketSocket>, Fault> {
        let mut open = self.0.borrow_mut();
        if let Some((_, socket)) = open.iter().find(|(ifindex, _)| *ifindex == link.index) {
            return Ok(Rc::clone(socket));
        }
        let socket = Rc::new(PacketSocket::sender(link)?);
        open.push((link.index, Rc::clone(&socket)));
        Ok(socket)
    }

    /// Forgets the sockets, as their interfaces may have gone and come back. Those still in use stay open.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// Binds the socket to the interface, to receive frames of one type, or none. pnet_datalink is used for
/// this alone, as nix cannot make a link-layer address without unsafe code; it works on a
/// duplicate, which it closes.
fn bind(fd: &OwnedFd, link: &Link, receives: EtherType) -> Result<(), Errno> {
    let from_io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let duplicate = fd.try_clone().map_err(from_io)?;
    let interface = NetworkInterface {
        name: link.name.clone(),
        description: String::new(),
        index: link.index,
        mac: link.mac,
        ips: Vec::new(),
        flags: 0,
    };
    let config = Config {
        channel_type: ChannelType::Layer3(receives.0),
        promiscuous: false,
        socket_fd: Some(duplicate.into_raw_fd()),
        read_buffer_size: 0,
        write_buffer_size: 0,
        ..Config::default()
    };
    pnet_datalink::channel(&interface, config)
        .map(drop)
        .map_err(from_io)
}
