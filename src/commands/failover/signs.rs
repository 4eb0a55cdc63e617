//! Where the signs of a failover come from, each from a task of its own: the Sentinels' events and answers, both Redis,
//! the kernel, and this host's agent.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use super::course::Seen;
use super::known::{self, Known};
use crate::agent::chosen::turned_master;
use crate::agent::sentinels::{Heard, follow};
use crate::cli::Options;
use crate::evidence::Role;
use crate::failover::Endpoint;
use crate::gather::sites::endpoint;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{self, Lines, MasterAddress, Server};

/// How many signs may wait.
const QUEUE: usize = 256;

/// How often is asked.
const OFTEN: Duration = Duration::from_millis(15);
/// How often the agent is asked, which notes its times itself.
const AGENT: Duration = Duration::from_millis(40);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// A sign, and when it was seen.
pub(super) struct Sign {
    pub(super) at: Instant,
    pub(super) seen: Seen,
}

impl From<Seen> for Sign {
    fn from(seen: Seen) -> Sign {
        let at = Instant::now();
        Sign { at, seen }
    }
}

impl From<Heard<usize>> for Sign {
    fn from(heard: Heard<usize>) -> Sign {
        Seen::Heard(heard).into()
    }
}

/// All signs, until this is dropped.
pub(super) struct Signs {
    to: mpsc::Sender<Sign>,
    from: mpsc::Receiver<Sign>,
    tasks: Vec<AbortHandle>,
    /// The replicas that are asked whether they are the master, and who asks each.
    heirs: Vec<(Endpoint, AbortHandle)>,
}

impl Drop for Signs {
    fn drop(&mut self) {
        let heirs = self.heirs.iter().map(|(_, task)| task);
        self.tasks.iter().chain(heirs).for_each(AbortHandle::abort);
    }
}

impl Signs {
    /// Subscribes to the events of every Sentinel, by its place.
    pub(super) fn subscribe(ways: &[Server]) -> Signs {
        let (to, from) = mpsc::channel(QUEUE);
        let each = ways.iter().enumerate();
        let each = each.map(|(place, way)| spawn_local(follow(way.clone(), place, to.clone())));
        let tasks = each.map(|task| task.abort_handle()).collect();
        Signs {
            to,
            from,
            tasks,
            heirs: Vec::new(),
        }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(spawn_local(task).abort_handle());
    }

    /// Returns the next sign, `None` where there is none until then.
    pub(super) async fn next(&mut self, until: Instant) -> Option<Sign> {
        timeout_at(until, self.from.recv()).await.ok().flatten()
    }

    /// Asks every Sentinel that has answered until it names another master than before. Returns their places.
    pub(super) fn ask_sentinels(&mut self, known: &Known, name: &str) -> Vec<usize> {
        let each = known
            .poll
            .ways()
            .iter()
            .zip(&known.looked.looks)
            .enumerate();
        let mut places = Vec::new();
        for (place, (way, look)) in each {
            let Some(look) = look else { continue };
            let of = (way.clone(), name.to_owned(), look.master.clone());
            let to = self.to.clone();
            places.push(place);
            self.spawn(async move {
                let master = names_another(of).await;
                let _ = to.send(Seen::Named(place, master).into()).await;
            });
        }
        places
    }

    /// Asks no other replica any more than this one, which was chosen. Returns whether it is asked.
    pub(super) fn ask_only(&mut self, heir: &Endpoint) -> bool {
        self.heirs.retain(|(asked, task)| {
            let is_it = asked == heir;
            if !is_it {
                task.abort();
            }
            is_it
        });
        !self.heirs.is_empty()
    }

    /// Asks a replica that may be promoted until it says master.
    pub(super) fn ask_heir(&mut self, new: Option<Server>, heir: Endpoint) {
        let (to, at) = (self.to.clone(), heir.clone());
        let task = spawn_local(async move {
            let until = Instant::now() + super::PROMOTION;
            let seen = match &new {
                Some(new) if turned_master(new, until).await.is_ok() => Seen::Turned(at),
                _ => Seen::Silent(at),
            };
            let _ = to.send(seen.into()).await;
        });
        self.heirs.push((heir, task.abort_handle()));
    }

    /// Asks the old master until it says replica.
    pub(super) fn ask_old(&mut self, old: Option<Server>) {
        let to = self.to.clone();
        if let Some(old) = old {
            self.spawn(async move {
                follows(&old).await;
                let _ = to.send(Seen::Follows.into()).await;
            });
        }
    }

    /// Looks whether the VIPs come or go.
    pub(super) fn look_for_vips(&mut self, vips: Vec<IpAddr>) {
        let to = self.to.clone();
        self.spawn(async move {
            let Ok(netlink) = Netlink::open() else { return };
            let mut before = None;
            loop {
                let now = are_here(&netlink, &vips).await;
                if let Some(now) = now
                    && before.replace(now) != Some(now)
                {
                    let _ = to.send(Seen::Vips(now).into()).await;
                }
                sleep(OFTEN).await;
            }
        });
    }

    /// Asks this host's agent what it sees of a failover that began at this time of day, or later.
    pub(super) fn ask_agent(&mut self, name: &str, options: &Options, began: SystemTime) {
        let (to, name, options) = (self.to.clone(), name.to_owned(), options.clone());
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.spawn(async move {
            loop {
                let known = known::agent(&name, &options).await;
                let seen = known.and_then(|master| master.last_failover);
                if let Some(seen) = seen.filter(|seen| seen.began >= began.as_secs_f64()) {
                    let since = (seen.began - began.as_secs_f64()) * 1000.0;
                    let _ = to.send(Seen::Agent(Box::new(seen), since).into()).await;
                }
                sleep(AGENT).await;
            }
        });
    }
}

async fn names_another((way, name, before): (Server, String, MasterAddress)) -> Endpoint {
    let lines = Lines::keeping();
    loop {
        let said = redis::master_address(&way, &lines, &name, ANSWER).await;
        if let Ok(now) = said
            && now != before
            && let Ok(endpoint) = endpoint(&now.host, now.port)
        {
            return endpoint;
        }
        sleep(OFTEN).await;
    }
}

async fn follows(old: &Server) {
    loop {
        let state = known::tell(old, Instant::now() + ANSWER).await;
        if state.is_ok_and(|state| state.role == Role::Replica) {
            return;
        }
        sleep(OFTEN).await;
    }
}

/// Returns whether all of them are here, `None` where some are, or that cannot be told.
async fn are_here(netlink: &Netlink, vips: &[IpAddr]) -> Option<bool> {
    let carriers = Snapshot::new(netlink).carriers(vips).await.ok()?;
    let here = carriers.iter().filter(|(_, on)| on.is_some()).count();
    match here {
        0 => Some(false),
        all if all == vips.len() => Some(true),
        _ => None,
    }
}
