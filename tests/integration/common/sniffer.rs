//! What really is on the wire, seen by a raw socket on the far end. The socket is in a child
//! process, this test binary again, as only a process can enter a network namespace.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etherparse::{NetSlice, SlicedPacket};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};

use super::{Host, PATIENCE, wait_for};

/// Names the socket of the parent to the child.
const PARENT: &str = "VIPSWITCH_TEST_SNIFFER";

/// One frame as captured.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it arrived, since the epoch, by the kernel's clock.
    pub time: Duration,
    /// All of it, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Whether this is ARP.
    pub fn is_arp(&self) -> bool {
        self.bytes[12..14] == [0x08, 0x06]
    }

    /// Whether this is ICMPv6 of this type.
    pub fn is_icmpv6(&self, kind: u8) -> bool {
        self.bytes[12..14] == [0x86, 0xdd] && self.bytes[20] == 58 && self.bytes[54] == kind
    }

    /// Whether ARP or neighbor discovery has this address in it.
    pub fn is_about(&self, address: &str) -> bool {
        let octets = match address.parse().unwrap() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        (self.is_arp() || self.bytes[12..14] == [0x86, 0xdd])
            && self.bytes[14..]
                .windows(octets.len())
                .any(|window| window == octets)
    }
}

/// Reads ARP: operation, sender and target, as text.
pub fn arp(frame: &Frame) -> (u16, [String; 2], [String; 2]) {
    let Ok(SlicedPacket {
        net: Some(NetSlice::Arp(arp)),
        ..
    }) = SlicedPacket::from_ethernet(&frame.bytes)
    else {
        panic!("no ARP: {frame:02x?}");
    };
    let ip =
        |bytes: &[u8]| std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string();
    (
        arp.operation().0,
        [mac(arp.sender_hw_addr()), ip(arp.sender_protocol_addr())],
        [mac(arp.target_hw_addr()), ip(arp.target_protocol_addr())],
    )
}

/// Returns a hardware address as text.
pub fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

/// A capture that is going on: every frame that a host receives.
pub struct Sniffer {
    child: Child,
    frames: Arc<Mutex<Vec<Frame>>>,
}

impl Sniffer {
    /// Starts capturing on a host. It captures when this returns.
    pub fn start(host: &Host) -> Sniffer {
        Sniffer::with_child(host, ["common::sniffer::child", "--exact", "--ignored"])
    }

    /// Starts capturing in a child that is this executable with other arguments, which must
    /// call [`serve`].
    pub fn with_child<const N: usize>(host: &Host, arguments: [&str; N]) -> Sniffer {
        let path = host.lab.unique("sniffer");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = host.command(std::env::current_exe().unwrap());
        command.args(arguments).env(PARENT, &path);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let frames = Arc::new(Mutex::new(Vec::new()));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(socket.recv(&mut [0; 1]).expect("the sniffer starts"), 0);
        socket.set_read_timeout(None).unwrap();
        let sink = frames.clone();
        thread::spawn(move || receive(&socket, &sink));
        Sniffer { child, frames }
    }

    /// Returns what was captured so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap().clone()
    }

    /// Returns the frames so far that are about an address.
    pub fn about(&self, address: &str) -> Vec<Frame> {
        self.frames()
            .into_iter()
            .filter(|frame| frame.is_about(address))
            .collect()
    }

    /// Waits until so many frames about an address are there and returns them.
    #[track_caller]
    pub fn wait(&self, address: &str, number: usize) -> Vec<Frame> {
        let enough = || Some(self.about(address)).filter(|frames| frames.len() >= number);
        wait_for(PATIENCE, enough)
            .unwrap_or_else(|| panic!("no {number} frames: {:02x?}", self.frames()))
    }

    /// Waits for so many announcement rounds for an IPv4 address.
    pub fn wait_for_rounds(&self, address: &str, number: usize) {
        wait_for(PATIENCE, || (self.rounds(address) >= number).then_some(()))
            .unwrap_or_else(|| panic!("no {number} rounds: {:02x?}", self.about(address)));
    }

    /// Waits for the last announcement round of what began at `began` or later, a take-over or a link that came up: it goes
    /// out 10 s after that. How many there were tells nothing: on a busy machine two that are due are one, and a bridge
    /// whose port came up forwards the first ones not at all.
    #[track_caller]
    pub fn wait_for_last_round(&self, address: &str, began: SystemTime) {
        let end = began.duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(10);
        let is_last = || {
            let frames = self.about(address);
            frames.iter().any(|frame| frame.time > end).then_some(())
        };
        wait_for(PATIENCE, is_last)
            .unwrap_or_else(|| panic!("no last round: {:02x?}", self.about(address)));
    }

    /// Returns how many announcement rounds there were for an IPv4 address.
    pub fn rounds(&self, address: &str) -> usize {
        // The reply of each, whose sender is its target.
        let is_reply =
            |frame: &&Frame| frame.bytes[21] == 2 && frame.bytes[22..32] == frame.bytes[32..42];
        self.about(address).iter().filter(is_reply).count()
    }

    /// Lets `sender` send a marker and waits for it, so that whatever it sent before has been
    /// captured; returns what is about an address.
    #[track_caller]
    pub fn settled(&self, sender: &Host, address: &str) -> Vec<Frame> {
        // Nobody has this address, so that a datagram to it becomes a broadcast ARP request.
        let marker = format!("192.168.56.{}", 150 + self.frames().len() % 50);
        let before = self.about(&marker).len();
        sender.run("bash", ["-c", &format!("echo > /dev/udp/{marker}/9")]);
        let arrived = || (self.about(&marker).len() > before).then_some(());
        wait_for(PATIENCE, arrived).expect("the marker arrives");
        self.about(address)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Adds what the child sends to `sink`, until it ends: 12 bytes of time and then the frame.
fn receive(socket: &UnixDatagram, sink: &Mutex<Vec<Frame>>) {
    let mut buffer = vec![0; 70_000];
    while let Ok(length) = socket.recv(&mut buffer) {
        let Some((time, bytes)) = buffer[..length].split_first_chunk::<12>() else {
            return;
        };
        let (seconds, nanoseconds) = time.split_at(8);
        let time = Duration::new(
            u64::from_le_bytes(seconds.try_into().unwrap()),
            u32::from_le_bytes(nanoseconds.try_into().unwrap()),
        );
        sink.lock().unwrap().push(Frame {
            time,
            bytes: bytes.to_vec(),
        });
    }
}

/// The child's part: sends every frame that arrives to the parent, until it is killed.
pub fn serve() {
    let Some(path) = std::env::var_os(PARENT) else {
        return;
    };
    let parent = UnixDatagram::unbound().unwrap();
    parent.connect(Path::new(&path)).unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let frames = socket(
        AddressFamily::Packet,
        SockType::Raw,
        flags,
        SockProtocol::EthAll,
    )
    .unwrap();
    setsockopt(&frames, sockopt::ReceiveTimestampns, &true).unwrap();
    parent.send(&[]).unwrap();
    let mut buffer = vec![0; 66_000];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    // The parent's end of the socket is gone when it is.
    while let Some(message) = next(frames.as_raw_fd(), &mut buffer, &mut control) {
        if parent.send(&message).is_err() {
            return;
        }
    }
}

/// Returns the next frame that came in from the network, as [`receive`] reads it. What the host
/// sent itself is no proof of anything, and the loopback is no network.
#[expect(clippy::ptr_arg, reason = "recvmsg takes the vector")]
fn next(fd: i32, buffer: &mut [u8], control: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        let mut into = [IoSliceMut::new(buffer)];
        let message = recvmsg::<LinkAddr>(fd, &mut into, Some(control), MsgFlags::empty()).ok()?;
        let from = message.address?;
        let time = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => Some(time),
            _ => None,
        })?;
        let length = message.bytes;
        if from.pkttype() == libc::PACKET_OUTGOING || from.ifindex() == 1 {
            continue;
        }
        let mut out = (time.tv_sec() as u64).to_le_bytes().to_vec();
        out.extend((time.tv_nsec() as u32).to_le_bytes());
        out.extend(&buffer[..length]);
        return Some(out);
    }
}

#[test]
#[ignore = "no test: the process in which a sniffer captures"]
fn child() {
    serve();
}
