//! The announcer: a process of its own that goes on announcing a run's VIPs for some seconds after
//! the run has ended, and notes which neighbours answer. Each VIP has a voice: it looks whether the
//! VIP is still here before every frame, answers a rival's claim while the master is here, and ends as
//! soon as the VIP goes, the master turns out to be elsewhere, or a newer announcer of the same VIP begins.
//! The others go on.

mod happenings;
mod interface;
mod kernel;
mod presence;
mod record;
pub mod resident;
pub mod schedule;
mod truth;
mod voice;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::ffi::OsString;
use std::future::pending;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{Either, join, join_all, select};
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};

use super::detached;
use crate::cli::ANNOUNCER;
use crate::config::Config;
use crate::exit::Fault;
use crate::report::to_json;
use crate::vip::Vip;
use happenings::{Group, Happenings};
use interface::Interface;
use kernel::Kernel;
use presence::Said;
use schedule::Schedule;
use truth::Truth;
use voice::Voice;

/// How long an announcer works at most.
pub const LIFE: Duration = Duration::from_secs(15);

/// How many VIPs one process announces. Each takes a file, of which a process may have 1024 unless
/// somebody has allowed it more, and some hundred bytes of the arguments' 2 MiB.
const MOST: usize = 256;

/// How many answers and rivals are remembered.
const REMEMBERED: usize = 16;

/// What is to be announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its master's name, for the log.
    pub master: String,
    /// The VIP.
    pub vip: Vip,
    /// The number of the interface that has it.
    pub ifindex: u32,
    /// Neighbours whose answers prove delivery: gateways, FROM, the neighbours that the configuration names.
    pub peers: Vec<IpAddr>,
    /// Whether an operator wants the VIP here, whatever the Sentinels say now.
    #[serde(default)]
    pub is_ordered: bool,
}

/// What an announcer has done and heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many frames were sent.
    pub frames: usize,
    /// How many neighbours are asked.
    #[serde(default)]
    pub asked: usize,
    /// Who answered, and how many milliseconds after the start.
    pub confirmed_by: Vec<(IpAddr, u64)>,
    /// The hardware addresses of others that claimed the VIP.
    pub rivals: Vec<String>,
    /// How often others claimed it.
    #[serde(default)]
    pub claims: u64,
    /// Why it ended; empty while it works.
    pub ended: String,
}

/// Why a voice ended, as its last line says it.
type End = &'static str;

/// How a voice ended: as it should, or with a fault.
type Outcome = Result<End, Fault>;

const INTERFACE_GONE: End = "the interface is gone";

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What was done and heard, until a fault if there was one.
    pub summary: Summary,
    /// What it failed at.
    pub fault: Option<Fault>,
}

/// Starts an announcer that outlives this process: its own executable, nothing of this one's files,
/// folder or environment. In `configuration` it finds whom to ask what is true.
///
/// # Errors
///
/// A process that cannot be started is a passing fault; the VIPs are bound and announced all the
/// same.
pub fn detach(jobs: &[Job], configuration: &Path) -> Result<(), Fault> {
    let configuration = std::path::absolute(configuration).unwrap_or_else(|_| configuration.into());
    for jobs in jobs.chunks(MOST) {
        let of_each = jobs.iter().map(|job| format!("--job={}", to_json(job)));
        let arguments = of_each.map(OsString::from).chain([
            OsString::from("--config"),
            configuration.clone().into_os_string(),
        ]);
        detached::start(ANNOUNCER, arguments)?;
    }
    Ok(())
}

/// Announces all VIPs by this schedule, each in the place of its present announcer, and leaves each
/// result for `status`. `at_end` is called as soon as a job has ended, while the others go on. Without a
/// configuration nothing can be known about the masters. Returns what came of each job, in their order.
pub async fn work(
    jobs: &[Job],
    schedule: &Schedule,
    config: Option<&Config>,
    at_end: impl AsyncFn(&Job, &Ended),
) -> Vec<Ended> {
    let started = Instant::now();
    let truth = Rc::new(Truth::new(config));
    let voices: Vec<Rc<Voice>> = jobs
        .iter()
        .map(|job| Voice::new(job.clone(), schedule.clone(), Rc::clone(&truth), started))
        .map(Rc::new)
        .collect();
    let (shared, happenings) = match Shared::open(jobs).await {
        Ok((shared, happenings)) => (Ok(shared), Some(happenings)),
        Err(fault) => (Err(fault), None),
    };
    let each = voices.iter().map(async |voice| {
        let ended = match &shared {
            Ok(shared) => {
                let interface = shared.interfaces[&Side::of(&voice.job)].as_ref();
                let interface = interface.map(Rc::as_ref);
                voice.work(&shared.kernel, interface).await
            }
            Err(fault) => voice.refuse(fault),
        };
        at_end(&voice.job, &ended).await;
        ended
    });
    // Only a voice that has something to do is woken.
    let all = each.collect::<FuturesOrdered<_>>().collect::<Vec<Ended>>();
    let happenings = async {
        if let (Ok(shared), Some(happenings)) = (&shared, happenings) {
            let groups = shared.groups(&voices);
            let happenings = happenings.pass_on(&shared.kernel, &groups);
            let answers = truth.find_out(&shared.kernel, |master| {
                let its = voices.iter().filter(|voice| voice.job.master == *master);
                its.for_each(|voice| voice.wake());
            });
            join(happenings, answers).await;
        }
        pending::<Infallible>().await
    };
    match select(pin!(all), pin!(happenings)).await {
        Either::Left((ended, _)) => ended,
        Either::Right((never, _)) => match never {},
    }
}

/// An interface and an address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    ifindex: u32,
    is_ipv4: bool,
}

impl Side {
    fn of(job: &Job) -> Side {
        Side {
            ifindex: job.ifindex,
            is_ipv4: job.vip.address.is_ipv4(),
        }
    }

    /// Returns the interface with those of the voices that are on it.
    fn group<'a>(self, interface: &Rc<Interface>, voices: &[Rc<Voice<'a>>]) -> Group<'a> {
        let its = voices.iter().filter(|voice| Side::of(&voice.job) == self);
        Group {
            ifindex: self.ifindex,
            interface: Rc::clone(interface),
            voices: its.cloned().collect(),
        }
    }
}

/// What all voices of a process share.
struct Shared {
    kernel: Kernel,
    /// An interface that cannot be used says how its voices end.
    interfaces: BTreeMap<Side, Result<Rc<Interface>, Outcome>>,
}

impl Shared {
    /// Opens it, and watches what happens from now on.
    async fn open(jobs: &[Job]) -> Result<(Shared, Happenings), Fault> {
        // Before anything is looked at, so that no change is missed.
        let happenings = Happenings::watch()?;
        let kernel = Kernel::open().await?;
        let mut interfaces = BTreeMap::new();
        for job in jobs {
            if let Entry::Vacant(none) = interfaces.entry(Side::of(job)) {
                let interface = Interface::open(&kernel, job.ifindex, job.vip.address).await;
                none.insert(interface.map(Rc::new));
            }
        }
        Ok((Shared { kernel, interfaces }, happenings))
    }

    /// Returns the voices by interface.
    fn groups<'a>(&self, voices: &[Rc<Voice<'a>>]) -> Vec<Group<'a>> {
        let usable = self.interfaces.iter();
        usable
            .filter_map(|(side, interface)| Some((side, interface.as_ref().ok()?)))
            .map(|(side, interface)| side.group(interface, voices))
            .collect()
    }
}

/// What is known of a VIP's announcer.
pub enum Known {
    /// It is at work, and has done this so far.
    AtWork(Summary),
    /// It is this process, which does not answer: it is stopped, or hangs.
    Silent(i32),
    /// It ended so long ago, and had done this.
    Ended(Summary, Duration),
}

/// Returns what is known of a VIP's announcer, if anything; of the one at work on these interfaces,
/// else of the last one. Waits a second at most.
pub async fn latest(vip: IpAddr, interfaces: impl Iterator<Item = u32>) -> Option<Known> {
    let said = join_all(interfaces.map(|ifindex| presence::ask(vip, ifindex))).await;
    let mut silent = None;
    for said in said.into_iter().flatten() {
        match said {
            Said::Done(summary) => return Some(Known::AtWork(summary)),
            Said::Nothing(process) => silent = Some(Known::Silent(process)),
        }
    }
    if silent.is_some() {
        return silent;
    }
    record::read(vip).map(|(summary, age)| Known::Ended(summary, age))
}

/// Has the announcer of a VIP on an interface end, if there is one, and does not wait for it: what
/// it still had to say is about to be no longer true.
pub fn dismiss(vip: IpAddr, ifindex: u32) {
    presence::dismiss(vip, ifindex);
}

impl Summary {
    /// Remembers who answered. Returns whether that is new.
    fn confirm(&mut self, peer: IpAddr, now: Duration) -> bool {
        let new = !self.confirmed_by.iter().any(|(known, _)| *known == peer)
            && self.confirmed_by.len() < REMEMBERED;
        if new {
            self.confirmed_by.push((peer, now.as_millis() as u64));
        }
        new
    }

    /// Remembers a claim. Returns whether the rival is new.
    fn rival(&mut self, mac: &str) -> bool {
        self.claims += 1;
        let new = !self.rivals.iter().any(|known| known == mac) && self.rivals.len() < REMEMBERED;
        if new {
            self.rivals.push(mac.to_owned());
        }
        new
    }

    /// Returns who answered and when, as a person reads it.
    pub fn confirmed(&self) -> String {
        let each = self
            .confirmed_by
            .iter()
            .map(|(peer, ms)| format!("{peer} after {ms} ms"));
        match self.confirmed_by.as_slice() {
            [] if self.asked == 0 => {
                "nobody, as there was nobody to ask (no gateway, no announce_to)".into()
            }
            [] => "nobody".into(),
            _ => each.collect::<Vec<_>>().join(", "),
        }
    }
}
