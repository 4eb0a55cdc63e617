//! The refusal: where a VIP has just been released as its Redis died, its clients are refused at once, until another
//! host has the VIP.
//!
//! Their neighbour tables still lead here. Without the VIP this host's kernel is silent, and their connects time out;
//! with it they could reach a Redis that is started again here, with old data. So this stands in for a kernel that has
//! the VIP and nobody who listens: it answers segments with the reset that such a kernel sends, and neighbours that ask
//! where the VIP is. It announces nothing, and ends as soon as another host does.
//!
//! What it leaves to others:
//! - While the VIP is bound here the kernel answers. This waits for the VIP to go, so that it can begin before.
//! - With `net.ipv4.ip_forward` (or IPv6 `forwarding`) the kernel forwards what comes for the VIP as well: it asks for the
//!   VIP's hardware address under an address of its own, which claims nothing, and passes on to the new holder what it
//!   has kept, at most three seconds' worth. The client of such a segment is refused already, and resets what comes of
//!   it. Redirects (ICMP) tell clients to ask for the VIP on their own link, which they do anyway. Without forwarding
//!   the kernel drops segments for a foreign address and says nothing (`ip_error` in net/ipv4/route.c).
//! - Clients on this host itself: their segments leave, and no frame comes in. They wait until the VIP is announced.
//! - A firewall of this host is not asked: the frames have not come that far. A reset says that nobody listens, which is
//!   so on every port of an address that is nowhere.
//! - On an ipvlan interface nothing arrives for an address that it does not have.

mod pace;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::{LocalBoxFuture, join_all, select_all};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use pnet_base::MacAddr;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::exit::Fault;
use crate::frames::{Heard, PacketSocket, SolicitedGroup, answer_to, hear, refusal};
use crate::kernel::{Event, Netlink, Route, Snapshot, events};
use crate::link::Link;
use pace::Pace;

/// How long it goes on at most. A forced failover takes 0.3 s and one of Sentinel's own some seconds; after half a
/// minute nobody has the VIP, and no client is helped by refusals.
pub const LIFE: Duration = Duration::from_secs(30);

/// The largest frame that is looked at, and how many between two looks at all else. Of larger ones the beginning is
/// enough.
const FRAME: usize = 1514;
const BATCH: usize = 64;

/// How soon it is looked again while the kernel still has a route to a VIP whose address is gone. It tells of the
/// address first and removes the route afterwards (`__inet_del_ifa` in net/ipv4/devinet.c, `ipv6_del_addr`), of which
/// it tells nothing that is listened to.
const ROUTE: Duration = Duration::from_millis(5);

/// How many frames that came before the end are still refused.
const LAST: usize = 1024;

/// A VIP that is being released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The VIP.
    pub vip: IpAddr,
    /// The number of the interface that had it.
    pub ifindex: u32,
}

/// What came of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How it ended.
    pub end: End,
    /// How many segments were refused.
    pub segments: u64,
    /// How many times a neighbour was told where the VIP is.
    pub neighbours: u64,
}

/// Why clients are not refused any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host with this hardware address claims the VIP.
    Claimed(MacAddr),
    /// The VIP is bound here again.
    Bound,
    /// The interface is gone, or has no neighbours.
    NoNeighbours,
    /// Nobody has had the VIP for so long.
    Over,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Claimed(mac) => write!(f, "{mac} announced it"),
            End::Bound => f.write_str("it was bound here again"),
            End::NoNeighbours => f.write_str("its interface was gone"),
            End::Over => write!(f, "{} s were over", LIFE.as_secs()),
        }
    }
}

/// Refuses the clients of these VIPs, each as [`Refusal::work`] does, and returns what came of each, in their order. It
/// may be dropped at any time.
pub async fn refuse(jobs: &[Job]) -> Vec<Result<Refused, Fault>> {
    let each = jobs
        .iter()
        .map(async |job| match Refusal::open(*job).await? {
            Some(refusal) => refusal.work(LIFE).await,
            None => Ok(Refused {
                end: End::NoNeighbours,
                segments: 0,
                neighbours: 0,
            }),
        });
    join_all(each).await
}

/// What it takes to refuse the clients of one VIP. From now on nothing that comes for the VIP is missed.
///
/// To drop it closes two packet sockets, which takes the kernel some ten milliseconds each.
pub struct Refusal {
    changes: BoxStream<'static, Event>,
    stand_in: StandIn,
}

/// What answers instead of the kernel.
struct StandIn {
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
    is_gone: Cell<bool>,
    gone: Notify,
    pace: RefCell<Pace>,
    refused: Cell<u64>,
    told: Cell<u64>,
}

impl Refusal {
    /// Opens it. Best before the release: a client that comes between the two is then refused as soon as
    /// [`Refusal::work`] begins. Returns `None` where the interface is gone, or has no neighbours.
    ///
    /// # Errors
    ///
    /// A netlink or packet socket fault.
    pub async fn open(job: Job) -> Result<Option<Refusal>, Fault> {
        // Before anything is looked at, so that no change is missed.
        let changes = events()?.boxed();
        let netlink = Netlink::open()?;
        let links = netlink.links().await?;
        let own = links.iter().filter_map(|link| link.mac).collect();
        let mut links = links.into_iter();
        let link = links.find(|link| link.index == job.ifindex && link.mac.is_some());
        let Some(link) = link else { return Ok(None) };
        let stand_in = StandIn {
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
            is_gone: Cell::new(false),
            gone: Notify::new(),
            pace: RefCell::default(),
            refused: Cell::new(0),
            told: Cell::new(0),
        };
        Ok(Some(Refusal { changes, stand_in }))
    }

    /// Waits until the VIP is not on this host, and refuses its clients until another host claims it, it is bound here
    /// again, or `life` is over. Returns what came of it.
    ///
    /// It may be dropped at any time, and is to be before this host binds the VIP: what is noticed afterwards could reset
    /// a client of the first millisecond.
    ///
    /// # Errors
    ///
    /// A netlink fault, or a socket that cannot be watched.
    pub async fn work(self, life: Duration) -> Result<Refused, Fault> {
        let Refusal { changes, stand_in } = self;
        let ways: [LocalBoxFuture<'_, Result<End, Fault>>; 3] = [
            stand_in.watch(changes).boxed_local(),
            stand_in.listen().boxed_local(),
            stand_in.take_in().boxed_local(),
        ];
        let end = match timeout(life, select_all(ways)).await {
            Ok((end, ..)) => end?,
            Err(_) => End::Over,
        };
        if matches!(end, End::Claimed(_)) && stand_in.is_gone.get() {
            stand_in.finish();
        }
        Ok(Refused {
            end,
            segments: stand_in.refused.get(),
            neighbours: stand_in.told.get(),
        })
    }
}

impl StandIn {
    /// Watches whether the VIP is here. Ends when it is again.
    async fn watch(&self, mut changes: BoxStream<'static, Event>) -> Result<End, Fault> {
        loop {
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
            let seen = match has_route {
                true => timeout(ROUTE, change).await.unwrap_or(Ok(None)),
                false => change.await,
            };
            if let Some(end) = seen? {
                return Ok(end);
            }
        }
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

    /// Returns whether the kernel answers for the VIP although no interface has it, for a moment or by a route of the
    /// site's own.
    async fn has_route(&self) -> Result<bool, Fault> {
        let route = self.netlink.route(self.job.vip).await?;
        Ok(matches!(route, Route::Local(_)))
    }

    /// Listens for another host that claims the VIP, and tells neighbours that ask. Ends at a claim.
    async fn listen(&self) -> Result<End, Fault> {
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
    async fn take_in(&self) -> Result<End, Fault> {
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
    fn finish(&self) {
        self.take_in_some(LAST);
    }

    /// Answers a frame. Returns false where there is nothing to answer.
    fn answer(&self, socket: &AsyncFd<PacketSocket>, frame: &[u8]) -> bool {
        let vip = self.job.vip;
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
