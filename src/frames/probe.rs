//! Asks the network who claims a VIP. The question changes no neighbour's table.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pnet_base::MacAddr;

use super::{PacketSocket, arp, ndp};
use crate::exit::Fault;
use crate::link::Link;

/// Which VIP is asked after, and where.
pub struct Question<'a> {
    /// The VIP.
    pub vip: IpAddr,
    /// The interface on which its holder would be.
    pub link: &'a Link,
}

/// The largest Ethernet frame without jumbo frames, which no ARP or neighbor message exceeds.
const FRAME: usize = 1514;

/// How many frames of one socket are read between two looks at the clock.
const BATCH: usize = 64;

/// Asks all questions at once and listens for `wait`. Returns for each the hardware addresses,
/// other than this host's `own`, that claim the VIP; none for an interface that has no neighbours.
pub fn claimants(
    questions: &[Question],
    own: &[MacAddr],
    wait: Duration,
) -> Vec<Result<Vec<MacAddr>, Fault>> {
    let mut asked: Vec<Result<Asked, Fault>> = questions.iter().map(Asked::ask).collect();
    let deadline = Instant::now() + wait;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        // Rounded up: a timeout of 0 would spin through the last millisecond.
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<PollFd> = asked
            .iter()
            .flatten()
            .filter_map(|asked| asked.socket.as_ref())
            .map(|socket| PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN))
            .collect();
        // An error can only be an interruption; the deadline bounds the loop.
        if fds.is_empty() || poll(&mut fds, left).is_ok_and(|ready| ready == 0) {
            break;
        }
        drop(fds);
        for one in &mut asked {
            if let Ok(Err(fault)) = one.as_mut().map(|one| one.listen(own)) {
                *one = Err(fault);
            }
        }
    }
    asked
        .into_iter()
        .map(|asked| asked.map(|asked| asked.claimants))
        .collect()
}

struct Asked {
    vip: IpAddr,
    socket: Option<PacketSocket>,
    claimants: Vec<MacAddr>,
}

impl Asked {
    fn ask(question: &Question) -> Result<Asked, Fault> {
        let Question { vip, link } = *question;
        let mut asked = Asked {
            vip,
            socket: None,
            claimants: Vec::new(),
        };
        if let Some(mac) = link.mac {
            let socket = PacketSocket::listener(link, vip)?;
            socket.send(&match vip {
                IpAddr::V4(vip) => arp::probe(mac, vip),
                IpAddr::V6(vip) => ndp::probe(mac, vip),
            })?;
            asked.socket = Some(socket);
        }
        Ok(asked)
    }

    fn listen(&mut self, own: &[MacAddr]) -> Result<(), Fault> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut buffer = [0; FRAME];
        // A flood must not keep this from looking at the clock.
        for _ in 0..BATCH {
            let Some(frame) = socket.receive(&mut buffer)? else {
                break;
            };
            let claim = match self.vip {
                IpAddr::V4(vip) => arp::claim(frame, vip),
                IpAddr::V6(vip) => ndp::claim(frame, vip),
            };
            match claim {
                Some(mac) if !own.contains(&mac) && !self.claimants.contains(&mac) => {
                    self.claimants.push(mac)
                }
                _ => {}
            }
        }
        Ok(())
    }
}
