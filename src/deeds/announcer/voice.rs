//! The announcer's work: frames when they are due, an ear for answers and rivals, and an end as soon
//! as the VIP goes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::BoxStream;
use pnet_base::MacAddr;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout_at};

use super::presence::{self, Wish};
use super::{Job, Summary};
use crate::deeds::announcer::schedule::Schedule;
use crate::exit::Fault;
use crate::frames::{Heard, PacketSocket, directed, hear, round};
use crate::kernel::Snapshot;
use crate::kernel::{Event, Netlink, Route, events};
use crate::link::Link;
use crate::vip::Vip;

/// The largest frame that is looked at, and how many between two looks at the clock.
const FRAME: usize = 1514;
const BATCH: usize = 64;

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_millis(20);

/// What wakes an announcer beside the clock and a frame.
enum Happened {
    Event(Event),
    Signal,
    Wished(Wish),
    Broke,
}

/// Why an announcer ends, as its last line says it.
pub type End = &'static str;

const GONE: End = "the VIP is gone";
const INTERFACE_GONE: End = "the interface is gone";

/// Announces a VIP until its schedule is over or the VIP is gone from the interface; `place` is
/// where others reach it. Returns why it ended, and keeps in `summary` what it does.
///
/// # Errors
///
/// A netlink or packet socket fault.
pub async fn announce(
    job: &Job,
    mut schedule: Schedule,
    place: Option<UnixListener>,
    summary: &mut Summary,
) -> Result<End, Fault> {
    let started = Instant::now();
    let mut happenings = happenings(place)?;
    let netlink = Netlink::open()?;
    let link = match netlink.link(job.ifindex).await? {
        None => return Ok(INTERFACE_GONE),
        Some(Link { mac: None, .. }) => return Ok("the interface has no neighbours"),
        Some(link) => link,
    };
    let own = own(&netlink).await?;
    let mut voice = Voice {
        job,
        netlink,
        summary,
        link,
        own,
    };
    voice.work(started, &mut schedule, &mut happenings).await
}

/// Collects the kernel's events, the signals that Sentinel lets its scripts ignore, and what others
/// want.
fn happenings(place: Option<UnixListener>) -> Result<UnboundedReceiver<Happened>, Fault> {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(watch(events()?.boxed(), tell.clone()));
    for kind in [
        SignalKind::hangup(),
        SignalKind::alarm(),
        SignalKind::terminate(),
        SignalKind::interrupt(),
    ] {
        let mut signals = signal(kind)
            .map_err(|error| Fault::passing(format!("cannot watch for signals: {error}")))?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let _ = tell.send(Happened::Signal);
            }
        });
    }
    if let Some(place) = place {
        tokio::spawn(async move {
            while tell
                .send(Happened::Wished(presence::wish(&place).await))
                .is_ok()
            {}
        });
    }
    Ok(told)
}

/// Passes the kernel's events on. A connection that breaks is opened anew; what was missed is then
/// looked at.
async fn watch(mut stream: BoxStream<'static, Event>, tell: UnboundedSender<Happened>) {
    loop {
        while let Some(event) = stream.next().await {
            let _ = tell.send(Happened::Event(event));
        }
        sleep(REOPEN).await;
        match events() {
            Ok(again) => stream = again.boxed(),
            Err(_) => break,
        }
        let _ = tell.send(Happened::Event(Event::Lost));
    }
    let _ = tell.send(Happened::Broke);
}

/// The VIP's voice on its interface.
struct Voice<'a> {
    job: &'a Job,
    netlink: Netlink,
    summary: &'a mut Summary,
    link: Link,
    /// The hardware addresses of this host: Linux answers for its addresses on every interface
    /// (arp_ignore 0), which is no rival's claim.
    own: Vec<MacAddr>,
}

impl Voice<'_> {
    async fn work(
        &mut self,
        started: Instant,
        schedule: &mut Schedule,
        happenings: &mut UnboundedReceiver<Happened>,
    ) -> Result<End, Fault> {
        let socket = listener(&self.link, self.job.vip)?;
        loop {
            let now = started.elapsed();
            if schedule.is_over(now) {
                return Ok("its time was up");
            }
            let peers: Option<&[IpAddr]> = match (schedule.is_due(now), schedule.is_answer_due(now))
            {
                (true, _) => Some(&self.job.peers),
                (false, true) => Some(&[]),
                (false, false) => None,
            };
            if let Some(peers) = peers
                && !self.announce(&socket, peers).await
            {
                return Ok(GONE);
            }
            let wake = (started + schedule.next()).into();
            // What happened first: the network may never fall silent.
            let either = select(Box::pin(happenings.recv()), Box::pin(socket.readable()));
            match timeout_at(wake, either).await {
                Err(_) => {}
                Ok(Either::Right((Err(error), _))) => {
                    let link = &self.link.name;
                    return Err(Fault::passing(format!("cannot listen on {link}: {error}")));
                }
                Ok(Either::Right((Ok(mut ready), _))) => {
                    if self.listen(&socket, started.elapsed(), schedule) {
                        ready.clear_ready();
                    } else {
                        // Those that tell what happens are to have their turn.
                        yield_now().await;
                    }
                }
                Ok(Either::Left((happened, _))) => {
                    if let Some(end) = self.react(happened, &socket).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Returns why it ends, if it does.
    async fn react(
        &mut self,
        happened: Option<Happened>,
        socket: &AsyncFd<PacketSocket>,
    ) -> Result<Option<End>, Fault> {
        match happened {
            None | Some(Happened::Broke) => {
                Err(Fault::passing("the connection to the kernel broke"))
            }
            Some(Happened::Signal) => Ok(Some("a signal ended it")),
            Some(Happened::Wished(Wish::Leave)) => Ok(Some("another run ended it")),
            Some(Happened::Wished(Wish::Tell(to))) => {
                presence::tell(&to, self.summary);
                Ok(None)
            }
            Some(Happened::Event(Event::AddressGone(address, ifindex))) => {
                let ours = (address, ifindex) == (self.job.vip.address, self.job.ifindex);
                let gone = ours && !self.is_here().await.unwrap_or(true);
                Ok(gone.then_some(GONE))
            }
            Some(Happened::Event(Event::LinkGone(ifindex))) => {
                Ok((ifindex == self.job.ifindex).then_some(INTERFACE_GONE))
            }
            Some(Happened::Event(Event::Link(ifindex))) if ifindex == self.job.ifindex => {
                Ok(self.look_again(socket).await)
            }
            Some(Happened::Event(Event::Link(_))) => Ok(None),
            Some(Happened::Event(Event::Lost)) => {
                if !self.is_here().await.unwrap_or(true) {
                    return Ok(Some(GONE));
                }
                Ok(self.look_again(socket).await)
            }
        }
    }

    /// Announces at once where the interface has got carrier, or another hardware address. Returns
    /// why it ends, if it does.
    async fn look_again(&mut self, socket: &AsyncFd<PacketSocket>) -> Option<End> {
        let link = match self.netlink.link(self.job.ifindex).await {
            Ok(Some(link)) => link,
            Ok(None) => return Some(INTERFACE_GONE),
            // Not to be known now: the next round looks whether the VIP is here.
            Err(_) => return None,
        };
        let news = link.carrier && !self.link.carrier || link.mac != self.link.mac;
        self.link = link;
        if let Ok(own) = own(&self.netlink).await {
            self.own = own;
        }
        if news && !self.announce(socket, &self.job.peers).await {
            return Some(GONE);
        }
        None
    }

    /// Sends one round, and asks these peers. Returns false, and sends nothing more, once the VIP is
    /// not here: a late frame would steal it back from the host that has it now. An interface that is
    /// down has nobody to be told, and comes up again or goes.
    async fn announce(&mut self, socket: &AsyncFd<PacketSocket>, peers: &[IpAddr]) -> bool {
        let vip = self.job.vip.address;
        let frames = round(&self.link, vip);
        for frame in frames.into_iter().chain(directed(&self.link, vip, peers)) {
            match self.is_here().await {
                Ok(true) => {}
                Ok(false) => return false,
                // Not to be known now: no frame, and the next round asks again.
                Err(_) => return true,
            }
            // One that is not taken (a full queue) does not keep back the others.
            if socket.get_ref().send(&frame).is_ok() {
                self.summary.frames += 1;
            }
        }
        true
    }

    /// Whether the VIP is on this interface still. A connection to the kernel that broke is opened
    /// anew.
    async fn is_here(&mut self) -> Result<bool, Fault> {
        let seen = self.see().await;
        if seen.is_ok() {
            return seen;
        }
        self.netlink = Netlink::open()?;
        self.see().await
    }

    async fn see(&self) -> Result<bool, Fault> {
        let vip = self.job.vip.address;
        if self.netlink.route(vip).await? == Route::Local(self.job.ifindex) {
            return Ok(true);
        }
        let bindings = Snapshot::new(&self.netlink).bindings(vip).await?;
        Ok(bindings
            .iter()
            .any(|binding| binding.ifindex == self.job.ifindex))
    }

    /// Takes in what was received. Returns whether that was all.
    fn listen(
        &mut self,
        socket: &AsyncFd<PacketSocket>,
        now: Duration,
        schedule: &mut Schedule,
    ) -> bool {
        let Some(mac) = self.link.mac else {
            return true;
        };
        let mut buffer = [0; FRAME];
        for _ in 0..BATCH {
            // An interface that went down says so once.
            let Ok(Some(frame)) = socket.get_ref().receive(&mut buffer) else {
                return true;
            };
            match hear(frame, mac, self.job.vip.address) {
                Some(Heard::Rival(rival)) if !self.own.contains(&rival) => {
                    schedule.owe_answer();
                    self.summary.rival(&rival.to_string());
                }
                Some(Heard::Answer(peer)) if self.job.peers.contains(&peer) => {
                    self.summary.confirm(peer, now);
                }
                Some(_) | None => {}
            }
        }
        false
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor can change; ours owns one for life"
)]
fn listener(link: &Link, vip: Vip) -> Result<AsyncFd<PacketSocket>, Fault> {
    let socket = PacketSocket::listener(link, vip.address)?;
    AsyncFd::new(socket)
        .map_err(|error| Fault::passing(format!("cannot listen on {}: {error}", link.name)))
}

async fn own(netlink: &Netlink) -> Result<Vec<MacAddr>, Fault> {
    let links = netlink.links().await?;
    Ok(links.iter().filter_map(|link| link.mac).collect())
}
