//! The announcer: a process of its own that goes on announcing a VIP for some seconds after the run
//! has ended, and notes which neighbours answer. It looks whether the VIP is still here
//! before every frame, answers a rival's claim, and ends as soon as the VIP goes, or a newer
//! announcer of the same VIP begins.

mod presence;
mod record;
pub mod schedule;
mod voice;

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::deeds::announcer::schedule::Schedule;
use crate::exit::Fault;
use crate::vip::Vip;

/// How long an announcer works at most.
pub const LIFE: Duration = Duration::from_secs(15);

/// How many answers and rivals are remembered.
const REMEMBERED: usize = 16;

/// What is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its master's name, for the log.
    pub master: String,
    /// The VIP.
    pub vip: Vip,
    /// The number of the interface that has it.
    pub ifindex: u32,
    /// Neighbours whose answers prove delivery: gateways, FROM, those that the configuration names.
    pub peers: Vec<IpAddr>,
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
    /// Why it ended; empty while it works.
    pub ended: String,
}

/// Starts an announcer that outlives this process: its own executable, nothing of this one's files,
/// folder or environment.
///
/// # Errors
///
/// A process that cannot be started is a passing fault; the VIP is bound and announced all the
/// same.
pub fn detach(job: &Job) -> Result<(), Fault> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("announcer")
        .arg(format!("--master={}", job.master));
    command.args([
        "--vip",
        &job.vip.to_string(),
        "--ifindex",
        &job.ifindex.to_string(),
    ]);
    for peer in &job.peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command.env_clear().current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Not waited for: it goes to the first process when this one has ended, as it soon will.
    command
        .spawn()
        .map(drop)
        .map_err(|error| Fault::passing(format!("cannot start the announcer: {error}")))
}

/// Announces a VIP by this schedule, in the place of whoever does so now, and leaves its last result
/// for `status`. Returns what it did, and what it failed at, if it did.
pub async fn work(job: &Job, schedule: Schedule) -> (Summary, Option<Fault>) {
    let place = presence::take(job.vip.address, job.ifindex).await;
    // What an earlier one has found is no longer true of this one.
    record::remove(job.vip.address);
    let mut summary = Summary {
        asked: job.peers.len(),
        ..Summary::default()
    };
    let ended = voice::announce(job, schedule, place, &mut summary).await;
    summary.ended = match &ended {
        Ok(why) => (*why).to_owned(),
        Err(fault) => fault.to_string(),
    };
    record::write(job.vip.address, &summary);
    (summary, ended.err())
}

/// What is known of a VIP's announcer.
pub enum Known {
    /// It is at work, and has done this so far.
    AtWork(Summary),
    /// It ended so long ago, and had done this.
    Ended(Summary, Duration),
}

/// Returns what is known of a VIP's announcer, if anything; of the one at work on these interfaces,
/// else of the last one. Waits a second at most.
pub fn latest(vip: IpAddr, interfaces: impl Iterator<Item = u32>) -> Option<Known> {
    let mut interfaces = interfaces;
    match interfaces.find_map(|ifindex| presence::ask(vip, ifindex)) {
        Some(summary) => Some(Known::AtWork(summary)),
        None => record::read(vip).map(|(summary, age)| Known::Ended(summary, age)),
    }
}

/// Has the announcer of a VIP on an interface end, if there is one, and does not wait for it: what
/// it still had to say is about to be no longer true.
pub fn dismiss(vip: IpAddr, ifindex: u32) {
    presence::dismiss(vip, ifindex);
}

impl Summary {
    /// Remembers who answered.
    fn confirm(&mut self, peer: IpAddr, now: Duration) {
        let new = !self.confirmed_by.iter().any(|(known, _)| *known == peer)
            && self.confirmed_by.len() < REMEMBERED;
        if new {
            self.confirmed_by.push((peer, now.as_millis() as u64));
        }
    }

    fn rival(&mut self, mac: &str) {
        let new = !self.rivals.iter().any(|known| known == mac) && self.rivals.len() < REMEMBERED;
        if new {
            self.rivals.push(mac.to_owned());
        }
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
