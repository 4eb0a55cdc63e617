//! One attempt to settle a master, by the same engine that the hook and `sync` use; then what follows from it:
//! further announcements, clients that are told, commands of the site.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::core::{Event, Settled, Time};
use super::journal::say_of;
use super::urgent::Turn;
use super::world::World;
use crate::config::Target;
use crate::deeds::tickle;
use crate::deeds::tickle::schedule::LIFE;
use crate::engine::{Expected, Task};
use crate::evidence::{Evidence, Order};
use crate::exit::{Exit, Fault, Kind};
use crate::kernel::Snapshot;
use crate::log::{self, Level};
use crate::once::{self, Entry};
use crate::outcome::{Did, Outcome, Phases};
use crate::report::log_line;
use crate::verdict::{Verdict, Why};

/// How long an attempt may take, if the kernel or a lock does not answer.
const ATTEMPT: Duration = Duration::from_secs(20);

/// How long after a command of the site has failed it is run again.
const COMMANDS_AGAIN: Duration = Duration::from_secs(30);

impl World {
    /// Settles a master by what is known, and tells the core how that ended. All else waits as long as this has its
    /// `turn`.
    pub(super) async fn settle(self: Rc<Self>, name: String, turn: Option<Turn>) {
        let config = self.config();
        let targets = Target::of(&config, &[&name]).unwrap_or_default();
        let (mut task, at) = self.attempt(&name, targets, None).await;
        drop(turn);
        let settled = Settled {
            verdict: task.verdict.clone(),
            failed: failed(&task),
            took_over: task.outcomes.iter().any(|outcome| outcome.so_far.is_news()),
            released: task
                .outcomes
                .iter()
                .any(|outcome| matches!(outcome.did(), Some(Did::Released(_)))),
            bound: at.bound,
            first_frame: at.announced,
        };
        let of = name.clone();
        let running = self.commands_of.begin(&of);
        self.tell(Event::Settled(name, Box::new(settled))).await;
        self.write_news(&of, &task).await;
        let has_failed = self.run_commands(&mut task).await > 0;
        drop(running);
        self.news.notify_waiters();
        if has_failed {
            self.look_again_later(of);
        }
    }

    /// Has the master looked at in a while, whose command has failed, as `sync` does by its timer: once, however often it is
    /// settled meanwhile.
    pub(super) fn look_again_later(self: &Rc<Self>, of: String) {
        if !self.waiting_commands.borrow_mut().insert(of.clone()) {
            return;
        }
        let world = Rc::clone(self);
        spawn_local(async move {
            sleep(COMMANDS_AGAIN).await;
            world.waiting_commands.borrow_mut().remove(&of);
            world.tell(Event::Look(vec![of])).await;
        });
    }

    /// Makes one attempt, under the lock; by an order, if there is one, and whether it is forced, else by what is known
    /// then. Returns what came of it, timed since it began, and the same times since the agent's start.
    pub(super) async fn attempt<'a>(
        self: &Rc<Self>,
        name: &str,
        targets: Vec<Target<'a>>,
        order: Option<(Order, bool)>,
    ) -> (Task<'a>, Phases) {
        let began = self.now();
        let known = self.core.borrow().evidence(name, self.now());
        let verdict = crate::verdict::verdict(&known);
        let expected = match (order, &verdict) {
            (Some((Order::Bind, _)), _) | (None, Verdict::Here(..)) => Expected::Here,
            _ => Expected::Unknown,
        };
        let mut task = Task::new(targets, expected);
        task.is_routine = task
            .targets
            .iter()
            .all(|target| self.announcers.has(target.vip.address));
        task.peers = old_master(&known);
        task.phases.tries = 1;
        // It is never closed, so that this does not fail.
        let turn = self.turns.acquire().await;
        self.engine.look_anew();
        let targets = task.targets.clone();
        let gather = async |now: &Snapshot<'_>| {
            let known = || self.core.borrow().evidence(name, self.now());
            match order {
                None => has_own_address(&known(), now).await?,
                // Weighed again: it may have waited for its turn since before a stop. One that is forced is an operator's
                // word, or the end of this agent.
                Some((order, false)) => self.weigh(name, order, false).map(drop)?,
                Some((_, true)) => {}
            }
            // Only now: nothing is known to an agent that was stopped while it asked the kernel.
            let known = known();
            let known = Evidence {
                order: order.map(|(order, _)| order).or(known.order),
                ..known
            };
            // Not sooner: while this waits for its turn the truth may change, and a VIP that stays is announced on.
            let is_release = matches!(crate::verdict::verdict(&known), Verdict::Elsewhere(_));
            self.are_configured(&targets, is_release)?;
            if is_release {
                let vips = targets.iter().map(|target| target.vip.address);
                vips.for_each(|vip| self.announcers.stop(vip));
            }
            Ok(known)
        };
        match timeout(ATTEMPT, self.engine.settle(&mut task, gather)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => task.fail_pending(&fault),
            Err(_) => {
                let text = "the attempt did not end in time: the kernel or a lock hangs";
                task.fail_pending(&Fault::passing(text));
            }
        }
        drop(turn);
        let at = task.phases;
        let since = |at: Time| at.saturating_sub(began);
        task.phases.bound = at.bound.map(since);
        task.phases.announced = at.announced.map(since);
        task.phases.done = since(self.now());
        for job in std::mem::take(&mut task.jobs) {
            self.announcers.announce(job);
        }
        // Its announcement is out.
        for (target, outcome) in task.targets.iter().zip(&task.outcomes) {
            if target.master.tell_clients && outcome.so_far.is_news() {
                self.tell_clients(target.name, target.vip.address);
            }
        }
        let stranded = std::mem::take(&mut task.stranded);
        let world = Rc::clone(self);
        spawn_local(async move { world.stranded.reset(stranded).await });
        let left_behind = std::mem::take(&mut task.left_behind);
        if !left_behind.is_empty() {
            spawn_local(async move {
                let work = tickle::work(&left_behind, tickle::log_end);
                let _ = timeout(LIFE + tickle::GRACE, work).await;
            });
        }
        (task, at)
    }

    /// Makes sure that these VIPs are their master's still: the turn and the lock may have taken seconds, and nobody looks
    /// after one that a reload has removed meanwhile. It may be released, unless it is another master's by now.
    fn are_configured(&self, targets: &[Target<'_>], is_release: bool) -> Result<(), Fault> {
        let config = self.config();
        let may_be = |target: &Target<'_>| {
            let master = config.masters.get(target.name);
            let is_used = || config.vips().any(|vip| vip.address == target.vip.address);
            master.is_some_and(|master| master.vips.contains(&target.vip))
                || is_release && !is_used()
        };
        match targets.iter().all(may_be) {
            true => Ok(()),
            false => Err(Fault::passing(
                "the configuration was read again meanwhile, and has other VIPs for this master",
            )),
        }
    }

    /// Writes what came of an attempt to the log, unless the same was said of the last one.
    async fn write_news(&self, name: &str, task: &Task<'_>) {
        let reasons = task.outcomes.iter().filter_map(Outcome::fault);
        let reasons: Vec<String> = reasons.map(ToString::to_string).collect();
        let now = self.now();
        if !reasons.is_empty() {
            let is_news = self
                .failures
                .borrow_mut()
                .failed(name, &reasons.join("; "), now);
            if is_news {
                self.write_log(task).await;
            }
            return;
        }
        self.write_log(task).await;
        if let Some(Verdict::Here(..) | Verdict::Elsewhere(_)) = task.verdict {
            let over = self.failures.borrow_mut().went_well(name, now);
            if let Some(over) = over {
                say_of(name, Level::Notice, &over).await;
            }
        }
    }

    /// Writes what was done to the log, once; not that all was found well.
    pub(super) async fn write_log(&self, task: &Task<'_>) {
        if task.outcomes.iter().all(Outcome::found_well) {
            return;
        }
        let name = task.targets.first().map(|target| target.name);
        let exit = task.exit();
        let mut call = vec![("master", name.unwrap_or_default().to_owned())];
        call.extend(once::pairs(task));
        call.push(("by", "agent".to_owned()));
        let line = log_line(&call, &task.outcomes, &task.phases, exit.code());
        let level = match exit {
            Exit::Done => Level::Notice,
            Exit::Passing => Level::Warning,
            Exit::Permanent => Level::Error,
        };
        log::line(level, &line).await;
    }

    /// Runs the commands of the site that are owed, and notes which have failed. Returns how many: they are to be run again.
    pub(super) async fn run_commands(&self, task: &mut Task<'_>) -> u64 {
        let mut failed = Vec::new();
        for (place, (target, outcome)) in task.targets.iter().zip(&task.outcomes).enumerate() {
            let Some(did) = outcome.did() else { continue };
            let owed = Entry::Sync.owed(task, target, outcome, did).await;
            let Some((command, job)) = owed else { continue };
            let _turn = self.commands.acquire().await;
            let done = match job.start(command, &self.config().path) {
                Ok(end) => end.await,
                Err(fault) => Err(fault),
            };
            let what = format!("{} {}", target.name, target.vip.address);
            if let Err(fault) = done {
                let reason = fault.to_string();
                failed.push((place, fault, command.required));
                let now = self.now();
                if self.failures.borrow_mut().failed(&what, &reason, now) {
                    say_of(target.name, Level::Warning, &reason).await;
                }
                continue;
            }
            let over = self.failures.borrow_mut().went_well(&what, self.now());
            if let Some(over) = over {
                say_of(target.name, Level::Notice, &over).await;
            }
        }
        if let Some(target) = task.targets.first() {
            let required = failed.iter().find(|(.., required)| *required);
            let required = required.map(|(_, fault, _)| fault.clone());
            self.commands_of.ended(target.name, failed.len(), required);
        }
        let pending = failed.len() as u64;
        for (place, fault, required) in failed {
            task.outcomes[place].command_failed = Some((fault, required));
        }
        pending
    }
}

/// Whether the address by which this host is the master's is still here: without it the VIP would become the
/// interface's own address, and so the source of what Redis and Sentinel send.
async fn has_own_address(known: &Evidence, now: &Snapshot<'_>) -> Result<(), Fault> {
    let Verdict::Here(Some(_), why) = crate::verdict::verdict(known) else {
        return Ok(());
    };
    // An operator's order is not about the master's address, which may be another host's.
    if why == Why::Ordered {
        return Ok(());
    }
    let winner = known.ballot.as_ref().and_then(|ballot| ballot.winner());
    let Some(site) = known.promoted().or(winner) else {
        return Ok(());
    };
    let carriers = now.carriers(&site.addresses).await?;
    if site.addresses.is_empty() || carriers.iter().any(|(_, carrier)| carrier.is_some()) {
        return Ok(());
    }
    let text = format!("this host has lost its own address, {}", site.endpoint.host);
    Err(Fault::passing(text).remedy("The VIP is bound as soon as that is back."))
}

/// Returns the addresses of the master that the Sentinels named before a promotion: its host is asked whether it
/// has heard the announcement.
fn old_master(known: &Evidence) -> Vec<std::net::IpAddr> {
    let winner = known.ballot.as_ref().and_then(|ballot| ballot.winner());
    let other = winner.filter(|site| !site.is_here());
    other.map(|site| site.addresses.clone()).unwrap_or_default()
}

/// Returns the fault that may pass soonest.
fn failed(task: &Task<'_>) -> Option<Fault> {
    let faults = task.outcomes.iter().filter_map(|outcome| outcome.fault());
    faults
        .min_by_key(|fault| fault.kind == Kind::Permanent)
        .cloned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::agent::progress::Progress;
    use crate::config::{self, Config};

    fn config(masters: &str) -> Rc<Config> {
        Rc::new(config::parse(masters, Path::new("/x")).unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_vip_that_a_reload_removes_during_an_attempt_is_not_bound() {
        let attempts = async {
            let before = config("[masters.m]\nvip = '192.0.2.241/24'");
            let began = Instant::now();
            let progress = Rc::new(Progress::new(began));
            let (to, _events) = mpsc::channel(16);
            let world = World::new(Rc::clone(&before), (began, progress), to).unwrap();
            let world = Rc::new(world);
            let fault = async |order| {
                let attempt = async || {
                    let targets = Target::of(&before, &["m"]).unwrap();
                    let (task, _) = world.attempt("m", targets, order).await;
                    task.outcomes[0].fault().map(ToString::to_string)
                };
                let is_busy = |fault: &Option<String>| {
                    fault
                        .as_ref()
                        .is_some_and(|it| it.contains("machine very busy"))
                };
                let mut fault = attempt().await;
                while is_busy(&fault) {
                    fault = attempt().await;
                }
                fault
            };
            // Nothing is known, so that the VIP stays as it is.
            assert_eq!(fault(None).await, None);
            for order in [Order::Bind, Order::Unbind] {
                let waits = fault(Some((order, false))).await.unwrap();
                assert!(waits.contains("were not asked yet"), "{waits}");
            }
            let is_told = |fault: &str| fault.contains("has other VIPs");
            world
                .configured
                .replace(config("[masters.m]\nvip = '192.0.2.242/24'"));
            assert!(fault(None).await.is_some_and(|it| is_told(&it)));
            let may_release = || {
                let targets = Target::of(&before, &["m"]).unwrap();
                world.are_configured(&targets, true).is_ok()
            };
            assert!(may_release());
            world.configured.replace(config(
                "[masters.m]\nvip = '192.0.2.242/24'\n[masters.n]\nvip = '192.0.2.241/24'",
            ));
            assert!(!may_release(), "it is another master's by now");
        };
        LocalSet::new().run_until(attempts).await;
    }
}
