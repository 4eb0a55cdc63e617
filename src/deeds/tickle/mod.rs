//! The tickle: clients whose connections came in between the reset and the removal of a VIP are told by
//! a bare ACK ([`tcp`](crate::frames::tcp)), until its new holder is there to reset them. A process of its
//! own does so, as the new holder may come later than the run ends.
//!
//! That process also lists the connections and destroys them: whatever happens to the run, sockets that
//! were not looked after stay for the next run to find.

mod clients;
mod dead_host;
mod ear;
mod line;
pub mod schedule;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pnet_base::MacAddr;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::detached;
use crate::abstract_lock::{Name, UNANSWERED, Wanted};
use crate::cli::TICKLER;
use crate::exit::Fault;
use crate::kernel::{self, Netlink, Route, Snapshot};
use crate::link::Link;
use crate::report::to_json;
use crate::vip::Vip;
use clients::{Clients, Pace};
use ear::Ear;
use schedule::Schedule;

pub use dead_host::{Done, Orphans, Pace as OrphansPace, tell_orphans};
pub use line::log_end;

/// How long a process may take beyond its schedule, with so many clients that a round takes a while.
pub const GRACE: Duration = Duration::from_secs(60);

/// How many VIPs one process looks after. Each takes some files, of which a process may have 1024.
const MOST: usize = 128;

/// A VIP that has left connections behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its master's name, for the log.
    pub master: String,
    /// The VIP.
    pub vip: Vip,
    /// The number of the interface that had it, if that is known.
    pub ifindex: Option<u32>,
}

/// What came of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many clients were told.
    pub clients: usize,
    /// How many packets went out to them.
    pub packets: usize,
    /// Who had the VIP last, as far as was found out.
    pub holder: Option<Holder>,
}

/// Who has a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This host, again.
    ThisHost,
    /// The host with this hardware address.
    Other(MacAddr),
}

/// Starts the process that looks after the connections of these VIPs. Nobody waits for it.
///
/// # Errors
///
/// A process that cannot be started is a passing fault.
pub fn detach(jobs: &[Job]) -> Result<(), Fault> {
    for jobs in jobs.chunks(MOST) {
        let of_each = jobs.iter().map(|job| format!("--job={}", to_json(job)));
        detached::start(TICKLER, of_each.map(Into::into))?;
    }
    Ok(())
}

/// Looks after all VIPs until each has been taken over somewhere and its clients have been told. `at_end` is
/// called as soon as a job has ended, unless it found nobody to tell.
pub async fn work(jobs: &[Job], at_end: impl AsyncFn(&Job, &Result<Told, Fault>)) {
    let pace = Pace::default();
    let each = jobs.iter().map(async |job| {
        let told = look_after(job, &pace).await;
        if !matches!(&told, Ok(Told { clients: 0, .. })) {
            at_end(job, &told).await;
        }
    });
    each.collect::<FuturesUnordered<_>>().count().await;
}

async fn look_after(job: &Job, pace: &Pace) -> Result<Told, Fault> {
    let vip = job.vip.address;
    let netlink = Netlink::open()?;
    let link = link(&netlink, job).await?;
    // Before anything is looked at, so that no claim is missed.
    let ear = Ear::open(vip, link.as_ref());
    let connections = list(vip).await?;
    if connections.is_empty() {
        return Ok(Told::default());
    }
    let mut clients = match Clients::new(&netlink, job, link.as_ref(), &connections).await {
        Ok(clients) => clients,
        Err(fault) => {
            // Else every run would find them, and do no better. Not those of an address that is here.
            if let Ok(false) = is_here(&netlink, vip).await {
                kernel::reset_these(&connections).await;
            }
            return Err(fault);
        }
    };
    let (started, mut schedule) = (Instant::now(), Schedule::default());
    let mut told = Told::default();
    let mut _name = None;
    while let Some(next) = schedule.next() {
        if let Ok(mac) = timeout_at((started + next).into(), ear.claim()).await {
            learn(&mut told, &mut schedule, Holder::Other(mac), started);
        }
        if !schedule.is_due(started.elapsed()) {
            continue;
        }
        let is_first = told.clients == 0;
        match is_here(&netlink, vip).await {
            // Taken over again at once: the connections are as good as before.
            Ok(true) if is_first => return Ok(Told::default()),
            Ok(true) => learn(&mut told, &mut schedule, Holder::ThisHost, started),
            Ok(false) | Err(_) => {}
        }
        told.packets += clients.tell(pace).await;
        if is_first {
            match destroy(vip, &connections).await {
                Some(name) => _name = name,
                None => return Ok(Told::default()),
            }
            told.clients = clients.number();
        }
        if told.clients == 0 {
            break;
        }
    }
    Ok(told)
}

/// Destroys the sockets. Not before their clients were told: an IPv6 one sends its RST although the address
/// is gone, and its client would come back to nobody.
///
/// What cannot be destroyed is found by every run, but one process is enough: returns the name that says so,
/// or `None` if another process has it.
async fn destroy(vip: IpAddr, connections: &[kernel::Connection]) -> Option<Option<Name>> {
    if kernel::reset_these(connections).await.number > 0 {
        return Some(None);
    }
    match Name::want(TICKLER, &vip.to_string(), UNANSWERED).await {
        Wanted::Mine(name) => Some(Some(name)),
        Wanted::Held(_) | Wanted::Denied => None,
    }
}

/// Takes in who has the VIP. A new holder resets the clients that are told now.
fn learn(told: &mut Told, schedule: &mut Schedule, holder: Holder, started: Instant) {
    if told.holder.replace(holder) != Some(holder) {
        schedule.claimed(started.elapsed());
    }
}

/// Returns the interface on which the new holder is to be heard.
async fn link(netlink: &Netlink, job: &Job) -> Result<Option<Link>, Fault> {
    let ifindex = match job.ifindex {
        Some(ifindex) => Some(ifindex),
        None => match netlink.route(job.vip.address).await? {
            Route::OnLink(ifindex, _) => Some(ifindex),
            _ => None,
        },
    };
    match ifindex {
        Some(ifindex) => netlink.link(ifindex).await,
        None => Ok(None),
    }
}

async fn is_here(netlink: &Netlink, vip: IpAddr) -> Result<bool, Fault> {
    if let Route::Local(_) = netlink.route(vip).await? {
        return Ok(true);
    }
    Ok(!Snapshot::new(netlink).bindings(vip).await?.is_empty())
}

/// Lists the connections of a VIP.
async fn list(vip: IpAddr) -> Result<Vec<kernel::Connection>, Fault> {
    let listed = kernel::connections(&[vip]).await;
    listed.map_err(|why| Fault::passing(format!("cannot list the connections of {vip}: {why}")))
}
