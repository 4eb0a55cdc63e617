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
//! - Clients on this host itself: their segments leave, and no frame comes in. They wait until the VIP is announced: the
//!   release has forgotten which neighbour had it before, so that they ask for it and send nothing until then.
//! - A firewall of this host is not asked: the frames have not come that far. A reset says that nobody listens, which is
//!   so on every port of an address that is nowhere.
//! - On an ipvlan interface nothing arrives for an address that it does not have.

mod pace;
mod stand_in;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, join_all, select_all};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use pnet_base::MacAddr;
use tokio::time::timeout;

use crate::exit::Fault;
use crate::kernel::{Event, Netlink, events};
use stand_in::StandIn;

/// How long it goes on at most. A forced failover takes 0.3 s and one of Sentinel's own some seconds; after half a
/// minute nobody has the VIP, and no client is helped by refusals.
pub const LIFE: Duration = Duration::from_secs(30);

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
    /// This process was stopped: another host may have announced the VIP meanwhile.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Claimed(mac) => write!(f, "{mac} announced it"),
            End::Bound => f.write_str("it was bound here again"),
            End::NoNeighbours => f.write_str("its interface was gone"),
            End::Over => write!(f, "{} s were over", LIFE.as_secs()),
            End::Stopped => f.write_str("this process had been stopped for a while"),
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
        let stand_in = StandIn::open(job, link, own, netlink)?;
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
        if matches!(end, End::Claimed(_)) {
            stand_in.finish();
        }
        Ok(stand_in.refused(end))
    }
}
