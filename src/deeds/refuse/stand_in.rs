//! What answers instead of the kernel while a VIP is nowhere.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use pnet_base::MacAddr;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::pace::Pace;
use super::{End, Job, Refused};
use crate::evidence::FRESH;
use crate::exit::Fault;
use crate::frames::{Heard, PacketSocket, SolicitedGroup, answer_to, hear, refusal};
use crate::kernel::{Event, Netlink, Route, Snapshot};
use crate::link::Link;

/// The largest frame that is looked at, and how many between two looks at all else. Of larger ones the beginning is
/// enough.
const FRAME: usize = 1514;
const BATCH: usize = 64;

/// How soon it is looked again while the kernel still has a route to a VIP whose address is gone. It tells of the
/// address first and removes the route afterwards (`__inet_del_ifa` in net/ipv4/devinet.c, `ipv6_del_addr`), of which
/// it tells nothing that is listened to.
const ROUTE: Duration = Duration::from_millis(5);

/// How often it is seen at least that this process is not stopped.
const TURN: Duration = Duration::from_millis(200);

/// How many frames that came before the end are still refused.
const LAST: usize = 1024;

/// What answers instead of the kernel.
pub(super) struct StandIn {
    job: Job,
    link: Link,
    /// The hardware addresses of this host: a claim with one of them is not another host's.
    own: Vec<MacAddr>,
    netlink: Netlink,
    /// Hears ARP, or neighbor advertisements.
    ear: AsyncFd<PacketSocket>,
    segments: AsyncFd<PacketSocket>,
    _group: Option<SolicitedGroup>,
    started: Instant,
    /// When it was seen last that this process is not stopped.
    turned: Cell<Instant>,
    is_gone: Cell<bool>,
    gone: Notify,
    pace: RefCell<Pace>,
    refused: Cell<u64>,
    told: Cell<u64>,
}

impl StandIn {
    pub(super) fn open(
        job: Job,
        link: Link,
        own: Vec<MacAddr>,
        netlink: Netlink,
    ) -> Result<StandIn, Fault> {
        Ok(StandIn {
            ear: PacketSocket::listener(&link, job.vip)?.into_async()?,
            segments: PacketSocket::segments(&link, job.vip)?.into_async()?,
            _group: match job.vip {
                IpAddr::V4(_) => None,
                IpAddr::V6(vip) => SolicitedGroup::join(vip, link.index),
            },
            job,
            link,
            own,
            netlink,
            started: Instant::now(),
            turned: Cell::new(Instant::now()),
            is_gone: Cell::new(false),
            gone: Notify::new(),
            pace: RefCell::default(),
            refused: Cell::new(0),
            told: Cell::new(0),
        })
    }

    /// Watches whether the VIP is here. Ends when it is again.
    pub(super) async fn watch(&self, mut changes: BoxStream<'static, Event>) -> Result<End, Fault> {
        loop {
            if self.was_stopped() {
                return Ok(End::Stopped);
            }
            self.turned.set(Instant::now());
            let is_bound = self.is_bound().await?;
            let has_route = !is_bound && self.has_route().await?;
            match (is_bound || has_route, self.is_gone.get()) {
                (true, true) => return Ok(End::Bound),
                (false, false) => {
                    self.is_gone.set(true);
                    self.gone.notify_one();
                }
                (true, false) | (false, true) => {}
            }
            let change = self.change(&mut changes);
            let longest = if has_route { ROUTE } else { TURN };
            let seen = timeout(longest, change).await.unwrap_or(Ok(None));
            if let Some(end) = seen? {
                return Ok(end);
            }
        }
    }

    /// Returns whether this process was stopped: what was asked meanwhile is not to be answered, as another host may have
    /// the VIP by now.
    fn was_stopped(&self) -> bool {
        self.turned.get().elapsed() > FRESH
    }

    /// Waits until something about the VIP may have changed, or it is over.
    async fn change(&self, changes: &mut BoxStream<'static, Event>) -> Result<Option<End>, Fault> {
        loop {
            match changes.next().await {
                Some(Event::AddressNew(address, _) | Event::AddressGone(address, _))
                    if address == self.job.vip =>
                {
                    return Ok(None);
                }
                Some(Event::Lost) => return Ok(None),
                Some(Event::LinkGone(index)) if index == self.link.index => {
                    return Ok(Some(End::NoNeighbours));
                }
                Some(_) => {}
                None => return Err(Fault::passing("the connection to the kernel broke")),
            }
        }
    }

    async fn is_bound(&self) -> Result<bool, Fault> {
        let now = Snapshot::new(&self.netlink);
        Ok(!now.bindings(self.job.vip).await?.is_empty())
    }

    /// Returns whether the kernel's own route to the VIP still stands although no interface has it, which it does for a
    /// moment: until then it answers. A route of the site's own (AnyIP) does not count, although the kernel answers by
    /// that one as well: clients are to be refused all the same.
    async fn has_route(&self) -> Result<bool, Fault> {
        let route = self.netlink.route(self.job.vip).await?;
        Ok(matches!(route, Route::Local(_)))
    }

    /// Listens for another host that claims the VIP, and tells neighbours that ask. Ends at a claim.
    pub(super) async fn listen(&self) -> Result<End, Fault> {
        let mac = self.link.mac.unwrap_or_default();
        let mut buffer = [0; FRAME];
        loop {
            let readable = self.ear.readable().await;
            let mut ready = readable.map_err(|error| self.cannot_listen(&error))?;
            for _ in 0..BATCH {
                // An interface that went down says so once.
                let Ok(Some(frame)) = self.ear.get_ref().receive(&mut buffer) else {
                    ready.clear_ready();
                    break;
                };
                if let Some(Heard::Rival(rival)) = hear(frame, mac, self.job.vip)
                    && !self.own.contains(&rival)
                {
                    return Ok(End::Claimed(rival));
                }
                let may_answer = self.is_gone.get() && self.wait().is_zero();
                if may_answer && self.answer(&self.ear, frame) {
                    self.note();
                }
            }
            // The network may never fall silent.
            yield_now().await;
        }
    }

    /// Takes in the segments that have come since it was opened, as soon as the VIP is gone. Segments that came before
    /// that the kernel has answered, too; the release has reset their connections.
    pub(super) async fn take_in(&self) -> Result<End, Fault> {
        if !self.is_gone.get() {
            self.gone.notified().await;
        }
        loop {
            let readable = self.segments.readable().await;
            let mut ready = readable.map_err(|error| self.cannot_listen(&error))?;
            if !self.take_in_some(BATCH) {
                ready.clear_ready();
            }
            let wait = self.wait();
            match wait.is_zero() {
                true => yield_now().await,
                // What comes meanwhile waits, and is dropped by the kernel where that is too much.
                false => sleep(wait).await,
            }
        }
    }

    /// Answers at most so many frames. Returns whether there may be more.
    fn take_in_some(&self, most: usize) -> bool {
        let mut buffer = [0; FRAME];
        for _ in 0..most {
            let Ok(Some(frame)) = self.segments.get_ref().receive(&mut buffer) else {
                return false;
            };
            self.note();
            self.answer(&self.segments, frame);
        }
        true
    }

    /// Answers the segments that came before the claim: their clients would wait for a second before they send them
    /// again, and to the right host.
    pub(super) fn finish(&self) {
        if self.is_gone.get() {
            self.take_in_some(LAST);
        }
    }

    /// Returns what came of it, which ended so.
    pub(super) fn refused(&self, end: End) -> Refused {
        Refused {
            end,
            segments: self.refused.get(),
            neighbours: self.told.get(),
        }
    }

    /// Answers a frame. Returns false where there is nothing to answer.
    fn answer(&self, socket: &AsyncFd<PacketSocket>, frame: &[u8]) -> bool {
        let vip = self.job.vip;
        if self.was_stopped() {
            return false;
        }
        let (answer, count) = match refusal(frame, &self.link, vip) {
            Some(answer) => (answer, &self.refused),
            None => match answer_to(frame, &self.link, vip) {
                Some(answer) => (answer, &self.told),
                None => return false,
            },
        };
        // Where the interface does not take it (down, a full queue) the client will ask again.
        if socket.get_ref().send(&answer).is_ok() {
            count.set(count.get() + 1);
        }
        true
    }

    fn note(&self) {
        self.pace.borrow_mut().note(self.started.elapsed());
    }

    fn wait(&self) -> Duration {
        self.pace.borrow().wait(self.started.elapsed())
    }

    fn cannot_listen(&self, error: &std::io::Error) -> Fault {
        Fault::passing(format!("cannot listen on {}: {error}", self.link.name))
    }
}
