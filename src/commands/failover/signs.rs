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
    /// The replica that is asked whether it is the master, and who asks it.
    heir: Option<(Endpoint, AbortHandle)>,
}

impl Drop for Signs {
    fn drop(&mut self) {
        let heir = self.heir.iter().map(|(_, task)| task);
        self.tasks.iter().chain(heir).for_each(AbortHandle::abort);
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
            heir: None,
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

    /// Returns whether this is the replica that is asked.
    pub(super) fn asks(&self, heir: &Endpoint) -> bool {
        let asked = self.heir.as_ref();
        asked.is_some_and(|(asked, _)| asked == heir)
    }

    /// Asks the replica that is to be promoted until it says master, and no other one any more.
    pub(super) fn ask_heir(&mut self, new: Option<Server>, heir: Endpoint) {
        let (to, at) = (self.to.clone(), heir.clone());
        let task = spawn_local(async move {
            let until = Instant::now() + super::PROMOTION;
            let seen = match &new {
                Some(new) if turned_master(new, until).await.is_ok() => Seen::Turned(at),
                _ => Seen::Silent,
            };
            let _ = to.send(seen.into()).await;
        });
        if let Some((_, before)) = self.heir.replace((heir, task.abort_handle())) {
            before.abort();
        }
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
