//! The announcer: a process of its own that goes on announcing a VIP for some seconds after the run
//! has ended, and notes which neighbours answer. It looks whether the VIP is still here
//! before every frame, answers a rival's claim, and ends as soon as the VIP goes.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::announce::schedule::Schedule;
use crate::announce::{Heard, PacketSocket, directed, hear, round};
use crate::exit::Fault;
use crate::link::Link;
use crate::netlink::{Event, Netlink, Route, events};
use crate::observe::Kernel;
use crate::vip::Vip;

/// How long an announcer works at most.
pub const LIFE: Duration = Duration::from_secs(15);

/// How long a new announcer waits for one of the same VIP that is just ending.
const HANDOVER: Duration = Duration::from_millis(500);

/// The largest frame that is looked at, and how many between two looks at the clock.
const FRAME: usize = 1514;
const BATCH: usize = 64;

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

/// What wakes an announcer beside the clock and a frame.
enum Happened {
    Event(Event),
    Signal,
}

/// Announces a VIP until its schedule is over or the VIP is gone from the interface. Returns what
/// it did; `note` is told of it whenever there is something new.
///
/// # Errors
///
/// A netlink or packet socket fault.
pub async fn announce(
    job: &Job,
    mut schedule: Schedule,
    mut note: impl FnMut(&Summary),
) -> Result<Summary, Fault> {
    let started = Instant::now();
    let mut happenings = happenings()?;
    let netlink = Netlink::open()?;
    let mut summary = Summary::default();
    let ended = |mut summary: Summary, why: &str| {
        summary.ended = why.into();
        Ok(summary)
    };
    let Some(link) = netlink.link(job.ifindex).await? else {
        return ended(summary, "the interface is gone");
    };
    if link.mac.is_none() {
        return ended(summary, "the interface has no neighbours");
    }
    let socket = listener(&link, job.vip)?;
    let mut carrier = link.carrier;
    let voice = Voice {
        job,
        netlink: &netlink,
        socket: &socket,
        link: &link,
    };
    loop {
        let now = started.elapsed();
        if schedule.is_over(now) {
            return ended(summary, "its time was up");
        }
        if schedule.is_due(now) && !voice.announce(&mut summary).await? {
            return ended(summary, "the VIP is gone");
        }
        let wake = (started + schedule.next()).into();
        let happened = match timeout_at(
            wake,
            select(Box::pin(socket.readable()), Box::pin(happenings.recv())),
        )
        .await
        {
            Err(_) => continue,
            Ok(Either::Right((happened, _))) => happened,
            Ok(Either::Left((Err(error), _))) => {
                return Err(Fault::passing(format!(
                    "cannot listen on {}: {error}",
                    link.name
                )));
            }
            Ok(Either::Left((Ok(mut ready), _))) => {
                let heard = voice.listen(&mut summary, started.elapsed())?;
                if heard.drained {
                    ready.clear_ready();
                }
                if heard.rival
                    && schedule.may_answer(started.elapsed())
                    && !voice.announce(&mut summary).await?
                {
                    return ended(summary, "the VIP is gone");
                }
                if heard.news {
                    note(&summary);
                }
                continue;
            }
        };
        match happened {
            None => return Err(Fault::passing("the connection to the kernel broke")),
            Some(Happened::Signal) => return ended(summary, "a signal ended it"),
            Some(Happened::Event(Event::AddressGone(address, ifindex)))
                if address == job.vip.address
                    && ifindex == job.ifindex
                    && !voice.is_here().await.unwrap_or(true) =>
            {
                return ended(summary, "the VIP is gone");
            }
            Some(Happened::Event(Event::LinkGone(ifindex))) if ifindex == job.ifindex => {
                return ended(summary, "the interface is gone");
            }
            Some(Happened::Event(Event::Link(ifindex, connected))) if ifindex == job.ifindex => {
                let came = connected && !carrier;
                carrier = connected;
                if came && !voice.announce(&mut summary).await? {
                    return ended(summary, "the VIP is gone");
                }
            }
            Some(Happened::Event(_)) => {}
        }
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

/// Collects the kernel's events and the signals that Sentinel lets its scripts ignore.
fn happenings() -> Result<mpsc::UnboundedReceiver<Happened>, Fault> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut events = events()?;
    let tell_event = tell.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let _ = tell_event.send(Happened::Event(event));
        }
    });
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
    Ok(told)
}

/// What listening brought.
struct HeardNow {
    drained: bool,
    rival: bool,
    news: bool,
}

/// The VIP's voice on its interface.
struct Voice<'a> {
    job: &'a Job,
    netlink: &'a Netlink,
    socket: &'a AsyncFd<PacketSocket>,
    link: &'a Link,
}

impl Voice<'_> {
    /// Sends one round. Returns false, and sends nothing more, once the VIP is not here: a late
    /// frame would steal it back from the host that has it now. An interface that is down has
    /// nobody to be told, and comes up again or goes.
    async fn announce(&self, summary: &mut Summary) -> Result<bool, Fault> {
        let Some(mac) = self.link.mac else {
            return Ok(true);
        };
        let vip = self.job.vip.address;
        for frame in round(mac, vip)
            .into_iter()
            .chain(directed(mac, vip, &self.job.peers))
        {
            match self.is_here().await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // Not to be known now: no frame, and the next round asks again.
                Err(_) => return Ok(true),
            }
            if self.socket.get_ref().send(&frame).is_err() {
                return Ok(true);
            }
            summary.frames += 1;
        }
        Ok(true)
    }

    /// Whether the VIP is on this interface still.
    async fn is_here(&self) -> Result<bool, Fault> {
        let vip = self.job.vip.address;
        if self.netlink.route(vip).await? == Route::Local(self.job.ifindex) {
            return Ok(true);
        }
        let bindings = Kernel::new(self.netlink).bindings(vip).await?;
        Ok(bindings
            .iter()
            .any(|binding| binding.ifindex == self.job.ifindex))
    }

    fn listen(&self, summary: &mut Summary, now: Duration) -> Result<HeardNow, Fault> {
        let mut heard = HeardNow {
            drained: false,
            rival: false,
            news: false,
        };
        let Some(mac) = self.link.mac else {
            return Ok(heard);
        };
        let mut buffer = [0; FRAME];
        for _ in 0..BATCH {
            // An interface that went down says so once.
            let Ok(Some(frame)) = self.socket.get_ref().receive(&mut buffer) else {
                heard.drained = true;
                break;
            };
            match hear(frame, mac, self.job.vip.address) {
                Some(Heard::Answer(peer)) => heard.news |= summary.confirm(peer, now),
                Some(Heard::Rival(rival)) => {
                    heard.rival = true;
                    heard.news |= summary.rival(&rival.to_string());
                }
                None => {}
            }
        }
        Ok(heard)
    }
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

    fn rival(&mut self, mac: &str) -> bool {
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
            [] => "nobody".into(),
            _ => each.collect::<Vec<_>>().join(", "),
        }
    }
}

/// Where an announcer leaves what it did, for `status`: one file for each VIP and network
/// namespace, locked while it works.
pub struct Record {
    file: File,
}

/// Where these files are; a hardened service may not be able to write there, and does without.
const FOLDER: &str = "/run/vipswitch";

fn path(vip: IpAddr) -> Option<PathBuf> {
    // `net:[4026531840]`
    let namespace = fs::read_link("/proc/self/ns/net").ok()?;
    let number: String = namespace
        .to_str()?
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    Some(PathBuf::from(FOLDER).join(format!("{number}-{vip}.json")))
}

/// Whether a record is a plain file of root's or of this process's own user, and of nobody else.
fn is_ours(file: &File) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    file.metadata().is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.nlink() == 1
            && [0, own].contains(&metadata.uid())
            && metadata.mode() & 0o022 == 0
    })
}

/// Whether an announcer may work.
pub enum Turn {
    /// It may, and leaves its record here, if it can leave one.
    Mine(Option<Record>),
    /// Another one of the same VIP is at work.
    Taken,
}

impl Record {
    /// Takes a VIP's record over, and waits a moment for one who is just ending.
    pub async fn take(vip: IpAddr) -> Turn {
        let Some(file) = Record::open(vip) else {
            return Turn::Mine(None);
        };
        let give_up = Instant::now() + HANDOVER;
        loop {
            match file.try_lock() {
                Ok(()) => return Turn::Mine(Some(Record { file })),
                Err(TryLockError::WouldBlock) if Instant::now() > give_up => return Turn::Taken,
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(TryLockError::Error(_)) => return Turn::Mine(None),
            }
        }
    }

    fn open(vip: IpAddr) -> Option<File> {
        // Who can open the file could lock it, and so silence the announcer.
        let _ = DirBuilder::new().mode(0o755).create(FOLDER);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path(vip)?)
            .ok()?;
        is_ours(&file).then_some(file)
    }

    /// Writes down what an announcer has done so far. Failing to is no reason to stop.
    pub fn write(&mut self, summary: &Summary) {
        let text = serde_json::to_string(summary).unwrap_or_default();
        let _ = self.file.set_len(0);
        let _ = self.file.rewind();
        let _ = self.file.write_all(text.as_bytes());
    }

    /// Returns what is known of a VIP's announcer, if anything: whether it is at work, and what it
    /// has done.
    pub fn read(vip: IpAddr) -> Option<(bool, Summary)> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path(vip)?)
            .ok()?;
        if !is_ours(&file) {
            return None;
        }
        let mut text = String::new();
        io::Read::by_ref(&mut file)
            .take(64 * 1024)
            .read_to_string(&mut text)
            .ok()?;
        let at_work = file.try_lock_shared().is_err();
        Some((at_work, serde_json::from_str(&text).ok()?))
    }
}
