//! One run, from what was asked to what was done. Every command that changes anything goes
//! through here, and this page tells all of it:
//!
//! ```text
//! lock ─> truth, TO, kernel ─> decide ─> bind and announce, or release ─> settle and verify
//! ```
//!
//! `sync` asks the Sentinels before the lock, and under it whether this host's one still says so.
//!
//! Passing faults start it over with what is not done yet, from a fresh look at the kernel, until
//! [`PATIENCE`] is used up. The steps are in `steps`, what follows the run in `after`.

mod after;
mod asked;
mod foresee;
mod steps;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::config::Config;
use crate::deeds::announcer::Job;
use crate::deeds::release;
use crate::deeds::release::Released;
use crate::exit::{Exit, Fault, Kind};
use crate::frames::Senders;
use crate::kernel::Netlink;
use crate::kernel::Snapshot;
use crate::kernel_error;
use crate::lock::{self, Lock};
use crate::plan::{Action, Call, ToIs};
use crate::report::{Outcome, Phases};
use crate::sentinel::Truth;
use crate::sentinel::majority::Votes;

pub use asked::{Asked, Target};

/// How long passing faults are retried. Sentinel's own first retry is 30 s away, and it kills a
/// script after 60 s (sentinel.c, SENTINEL_SCRIPT_MAX_RUNTIME).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the last attempt may go on after that, if the kernel does not answer.
const GRACE: Duration = Duration::from_secs(10);

/// The pauses between attempts: short at first, as most faults pass at once, then doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tries until it succeeds, its fault is permanent, or the patience of a process that was started
/// at `started` is used up.
///
/// # Errors
///
/// Those of the last attempt.
pub fn patiently<T>(
    started: Instant,
    mut attempt: impl FnMut() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Err(fault) if fault.kind == Kind::Passing && started.elapsed() + pause < PATIENCE => {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

/// A run: what is asked for, and what came of it so far.
pub struct Run<'a> {
    asked: Asked<'a>,
    config: &'a Config,
    targets: Vec<Target<'a>>,
    dry_run: bool,
    started: Instant,
    /// How long passing faults are retried, since the start.
    pub patience: Duration,
    senders: Senders,
    changes: Vec<Changes>,
    jobs: Vec<Job>,
    detached: Vec<(IpAddr, u32)>,
    /// By interface, and whether of IPv4.
    gateways: BTreeMap<(u32, bool), Vec<IpAddr>>,
    /// Why further announcements could not be arranged.
    pub unannounced: Option<Fault>,
    /// Whether it went on although there was no lock to be had.
    pub unlocked: bool,
    /// What Sentinel said about its call.
    pub truth: Option<Truth>,
    /// What all Sentinels said.
    pub votes: Option<Votes>,
    /// What the call means, once that is known.
    pub call: Option<Call>,
    /// What came of each target, in their order.
    pub outcomes: Vec<Outcome>,
    /// What was measured.
    pub phases: Phases,
}

/// What all attempts together changed for one target: a later one, that finishes what an earlier
/// one began, must not say that it found it so.
#[derive(Clone, Default)]
struct Changes {
    added: bool,
    moved_from: Vec<String>,
    released: Released,
}

impl Changes {
    /// Whether the VIP was not here before, or in another place.
    fn is_news(&self) -> bool {
        self.added || !self.moved_from.is_empty()
    }
}

impl<'a> Run<'a> {
    /// Returns a run about `targets` that has done nothing yet. `started` is when the process
    /// was. A dry run plans and changes nothing.
    pub fn new(
        asked: Asked<'a>,
        config: &'a Config,
        targets: Vec<Target<'a>>,
        started: Instant,
        dry_run: bool,
    ) -> Self {
        let outcomes = targets.iter().map(|target| Outcome {
            master: target.master.to_owned(),
            vip: target.vip,
            result: Err(Fault::passing("not tried yet")),
            command_failed: None,
        });
        Run {
            asked,
            config,
            outcomes: outcomes.collect(),
            changes: vec![Changes::default(); targets.len()],
            targets,
            dry_run,
            started,
            patience: PATIENCE,
            senders: Senders::default(),
            jobs: Vec::new(),
            detached: Vec::new(),
            gateways: BTreeMap::new(),
            unannounced: None,
            unlocked: false,
            truth: None,
            votes: None,
            call: None,
            phases: Phases {
                loaded: started.elapsed(),
                ..Phases::default()
            },
        }
    }

    /// Returns what the log line says beside what was done to each VIP.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let why = match self.call {
            None => "unknown",
            Some(Call::Follow(ToIs::Here(_))) => "to_is_here",
            Some(Call::Follow(ToIs::Elsewhere)) => "to_is_elsewhere",
            Some(Call::NoNews) => "no_news",
            Some(Call::Bind) => "bind",
            Some(Call::Unbind) => "unbind",
            Some(Call::Announce) => "announce",
        };
        let mut pairs = vec![("why", why.to_owned())];
        pairs.extend(
            self.truth
                .iter()
                .map(|truth| ("sentinel", truth.to_string())),
        );
        pairs.extend(
            self.votes
                .iter()
                .map(|votes| ("sentinels", votes.to_string())),
        );
        pairs.extend(self.unlocked.then(|| ("lock", "none".to_owned())));
        let unannounced = self.unannounced.iter();
        pairs.extend(unannounced.map(|fault| ("announcer", fault.to_string())));
        let failed = self.command_failures();
        pairs.extend(failed.map(|(fault, _)| ("site_command", fault.to_string())));
        pairs
    }

    /// Returns why commands of the site's own failed, and whether each is required.
    pub fn command_failures(&self) -> impl Iterator<Item = &(Fault, bool)> {
        let all = self.outcomes.iter();
        all.filter_map(|outcome| outcome.command_failed.as_ref())
    }

    /// Returns what it is about.
    pub fn targets(&self) -> &[Target<'a>] {
        &self.targets
    }

    /// Returns the VIPs whose announcers ask neighbours, with their interfaces' numbers.
    pub fn announced_to_peers(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        self.detached.iter().copied()
    }

    /// Whether it has found everything as it should be, and left it so.
    pub fn found_all_well(&self) -> bool {
        let changed = |change: &Changes| change.is_news() || !change.released.interfaces.is_empty();
        self.outcomes.iter().all(|outcome| outcome.result.is_ok())
            && self.command_failures().next().is_none()
            && !self.changes.iter().any(changed)
    }

    /// Carries it out, and fills in `call`, `outcomes` and `phases`. `waiting` is told, once,
    /// which fault is being waited out. Returns how it ended.
    pub fn carry_out(&mut self, waiting: impl FnMut(&Fault)) -> Exit {
        let runtime = patiently(self.started, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map_err(|error| kernel_error::open("the event loop", &error))
        });
        match runtime {
            Ok(runtime) => {
                runtime.block_on(async {
                    self.retry(waiting).await;
                    self.run_site_commands().await;
                });
            }
            Err(fault) => self.fail_pending(&fault),
        }
        let faults = self
            .outcomes
            .iter()
            .map(|outcome| outcome.result.as_ref().err());
        let required = self
            .command_failures()
            .filter(|(_, required)| *required)
            .map(|(fault, _)| Some(fault));
        Exit::of_all(
            faults
                .chain(required)
                .map(|fault| fault.map(|fault| fault.kind)),
        )
    }

    async fn retry(&mut self, mut waiting: impl FnMut(&Fault)) {
        let give_up = self.started + self.patience;
        // Enough to find out that the kernel does not answer.
        let hard = give_up.max(Instant::now()) + GRACE;
        let mut pause = FIRST_PAUSE;
        loop {
            self.phases.tries += 1;
            match timeout_at(hard.into(), self.attempt()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.fail_pending(&fault),
                Err(_) => self.fail_pending(&Fault::passing("the kernel did not answer in time")),
            }
            self.phases.done = self.started.elapsed();
            self.detach_announcers();
            let pending = self.outcomes.iter().find(|outcome| is_pending(outcome));
            let Some(Err(fault)) = pending.map(|outcome| &outcome.result) else {
                return;
            };
            if Instant::now() + pause > give_up {
                return;
            }
            // What passes within some tries is not worth a word.
            if pause > LONGEST_PAUSE / 8 && pause <= LONGEST_PAUSE / 4 {
                waiting(fault);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tries once what is not done yet. Every VIP is announced before any is settled.
    async fn attempt(&mut self) -> Result<(), Fault> {
        self.ask_sentinels().await?;
        let lock = self.lock().await?;
        let netlink = Netlink::open()?;
        let kernel = Snapshot::new(&netlink);
        // A socket of an earlier attempt may be on an interface that went and came back.
        self.senders = Senders::default();
        let call = self.meaning(&kernel).await?;
        self.call = Some(call);
        let mut unsettled = Vec::new();
        for place in 0..self.targets.len() {
            if !is_pending(&self.outcomes[place]) {
                continue;
            }
            let result = match (self.plan(&kernel, call, place).await, &lock) {
                (Err(fault), _) => Err(fault),
                (Ok(action), None) => self.foresee(&netlink, call, action, place).await,
                (Ok(Action::TakeOver(goal)), _) => {
                    match self.take_over(&netlink, place, goal).await {
                        Ok(bound) => {
                            unsettled.push((place, bound, goal));
                            continue;
                        }
                        Err(fault) => Err(fault),
                    }
                }
                (Ok(Action::Announce(at)), _) => self.announce(&netlink, place, &at).await,
                (Ok(Action::Release(from)), Some(lock)) => {
                    self.release(&netlink, lock, place, &from).await
                }
                (Ok(Action::Nothing), _) => Ok(self.nothing(call, place).await),
            };
            self.outcomes[place].result = result;
        }
        // A dry run has nothing to settle.
        let Some(lock) = &lock else { return Ok(()) };
        for (place, bound, goal) in unsettled {
            let settled = self.settle(&netlink, lock, place, bound, goal).await;
            self.outcomes[place].result = settled;
        }
        // What goes wrong here is no VIP's fault, and the next run tries again.
        let _ = release::mend(&netlink, lock).await;
        Ok(())
    }

    /// Waits until no other run is about what is still to be tried. A dry run changes nothing, and
    /// waits for nobody.
    async fn lock(&mut self) -> Result<Option<Lock>, Fault> {
        if self.dry_run {
            return Ok(None);
        }
        let pending = self.targets.iter().zip(&self.outcomes);
        let pending = pending.filter(|(_, outcome)| is_pending(outcome));
        let lock = lock::vips(pending.map(|(target, _)| target.vip.address)).await?;
        self.unlocked |= !lock.is_held();
        Ok(Some(lock))
    }

    fn fail_pending(&mut self, fault: &Fault) {
        for outcome in self
            .outcomes
            .iter_mut()
            .filter(|outcome| is_pending(outcome))
        {
            outcome.result = Err(fault.clone());
        }
    }
}

/// Whether there is still something to try.
fn is_pending(outcome: &Outcome) -> bool {
    outcome
        .result
        .as_ref()
        .is_err_and(|fault| fault.kind == Kind::Passing)
}

/// Why nothing is to be done.
fn idle(call: Call) -> &'static str {
    match call {
        Call::NoNews => {
            "FROM and TO are the same, which tells nothing (Sentinel could not resolve the new master's name)"
        }
        Call::Follow(ToIs::Elsewhere) => "the master is on another host, and the VIP is not here",
        _ => "it is not on this host",
    }
}
