//! A run from its arguments to its end: gathers evidence and settles, again while faults may pass, until
//! the deadline. Hook, `sync` and the operator's commands differ in which evidence they gather, in nothing
//! else.

mod announcements;
pub mod left_over;
mod owed_command;
mod polls;
mod site_commands;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout_at};

use self::announcements::Announcements;
use self::polls::{Rounds, Told};
use self::site_commands::Queue;
pub(crate) use self::site_commands::{COMMANDS_UNTIL, MOMENT};
use crate::config::{Config, Target};
use crate::deeds::stranded::Stranded;
use crate::engine::{Engine, Expected, Task};
use crate::evidence::{FRESH, Order};
use crate::exit::{Exit, Fault};
use crate::failover::{Failover, Host};
use crate::few;
use crate::gather::remembered::Memory;
use crate::gather::{self, Patience};
use crate::hosts;
use crate::kernel::Snapshot;
use crate::outcome::Outcome;
use crate::redis::Lines;
use crate::verdict::Verdict;

/// How long passing faults are retried. Sentinel's own first retry is 30 s away, and it kills a
/// script after 60 s (sentinel.c, SENTINEL_SCRIPT_MAX_RUNTIME).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the last attempt may go on after that, if the kernel does not answer.
const GRACE: Duration = Duration::from_secs(10);

/// The pauses between attempts: short at first, as most faults pass at once, then doubling.
pub const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a try takes that is told of: a second one of that kind may take several seconds.
const WORTH_A_WORD: Duration = Duration::from_secs(1);

/// How many masters are settled at the same time: each has some files open.
const AT_ONCE: usize = 32;

/// How long a poll may wait for its task's turn: what it says is older then than a failover takes.
const STALE: Duration = Duration::from_secs(1);

const OLD: &str = "this run had to wait for another one, was stopped, or the machine was very busy, after the Sentinels were asked: nothing was done by what may not be true any more";

/// How many site commands of a `sync` run at the same time. More than may hang: those that wait for their
/// turn until the run ends are left to the next one.
const COMMANDS: usize = 32;

/// What a run was started for.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Sentinel called.
    Hook(&'a Failover),
    /// An operator called.
    Operator(Order),
    /// This host is to agree with what is true now.
    Sync,
}

/// A run: what is asked for, and what came of it so far.
pub struct Run<'a> {
    shared: Shared<'a>,
    /// What is settled together, and what came of it: one task for a hook or an operator's order, one for
    /// each master where every master has a truth of its own.
    pub tasks: Vec<Task<'a>>,
}

/// What the tasks of a run have in common.
struct Shared<'a> {
    entry: Entry<'a>,
    config: &'a Config,
    dry_run: bool,
    started: Instant,
    /// Its packet sockets stay open to the end: closing one waits for the kernel, about 11 ms.
    engine: Engine,
    announcements: Announcements,
    /// So many tasks are settled at the same time.
    turns: Semaphore,
    /// So many site commands run at the same time.
    commands: Semaphore,
    /// Who is asked where this host's Sentinel is silent.
    memory: RefCell<Memory>,
    /// What later tries are told.
    rounds: Rounds,
    /// This host's own clients of the VIPs that it takes over.
    stranded: Stranded,
}

/// What the tries of one task have met so far.
struct Tries {
    /// Since when the Sentinels have not been of one mind.
    divided: Option<Instant>,
    /// How long they are waited for.
    patience: Patience,
}

impl Default for Tries {
    fn default() -> Tries {
        Tries {
            divided: None,
            patience: Patience::Full,
        }
    }
}

impl<'a> Run<'a> {
    /// Returns a run about `targets` that has done nothing yet. `started` is when the process
    /// was. A dry run plans and changes nothing.
    pub fn new(
        entry: Entry<'a>,
        config: &'a Config,
        targets: Vec<Target<'a>>,
        started: Instant,
        dry_run: bool,
    ) -> Self {
        let mut tasks: Vec<Task> = match entry {
            Entry::Hook(failover) => {
                let expected = match failover.to.host {
                    Host::Address(address) => Expected::At(address),
                    Host::Name(_) => Expected::Unknown,
                };
                let mut task = Task::new(targets, expected);
                task.peers = failover
                    .from
                    .iter()
                    .flat_map(|from| hosts::at_hand(&from.host))
                    .collect();
                vec![task]
            }
            Entry::Operator(Order::Bind) => vec![Task::new(targets, Expected::Here)],
            Entry::Operator(_) => vec![Task::new(targets, Expected::Unknown)],
            Entry::Sync => {
                let masters = targets.chunk_by(|one, other| one.name == other.name);
                let task = |of: &[Target<'a>]| Task {
                    is_routine: true,
                    ..Task::new(of.to_vec(), Expected::Unknown)
                };
                masters.map(task).collect()
            }
        };
        let vips = tasks.iter().flat_map(|task| &task.targets);
        let vips = vips.map(|target| target.vip.address).collect();
        let loaded = started.elapsed();
        tasks
            .iter_mut()
            .for_each(|task| task.phases.loaded = loaded);
        Run {
            shared: Shared {
                entry,
                config,
                dry_run,
                started,
                engine: Engine::new(started, dry_run, vips)
                    .knowing(config.vips().map(|vip| vip.address)),
                announcements: Announcements::new(&config.path),
                turns: Semaphore::new(AT_ONCE),
                commands: Semaphore::new(COMMANDS),
                memory: RefCell::default(),
                rounds: Rounds::default(),
                stranded: Stranded::default(),
            },
            tasks,
        }
    }

    /// Carries it out, and fills in what came of it. No master waits for another. `waiting` is told, once for
    /// each task, which fault is being waited out, and `ended` of each task at its end. Returns how it ended.
    pub async fn carry_out(
        &mut self,
        waiting: impl AsyncFn(&Fault),
        ended: impl AsyncFn(&Task<'_>),
    ) -> Exit {
        let Run { shared, tasks } = self;
        let shared = &*shared;
        let polls = match shared.entry {
            Entry::Sync => {
                shared.memory.replace(Memory::read());
                let polls = shared.poll(tasks).await;
                if !shared.dry_run {
                    // Before commands that may take long; `check` says where this cannot be.
                    let _ = shared.memory.borrow_mut().write(shared.config);
                }
                polls
            }
            _ => tasks.iter().map(|_| None).collect(),
        };
        let each = stream::iter(tasks.iter_mut().zip(polls));
        // A command holds up no other task: the limit is that of settling alone.
        let all = each.for_each_concurrent(None, async |(task, poll)| {
            shared.settle_and_tell(task, poll, &waiting).await;
            ended(task).await;
        });
        shared.announcements.while_at_work(all).await;
        if !matches!(shared.entry, Entry::Sync) && !shared.dry_run {
            let names: BTreeSet<&str> = few::set(
                tasks
                    .iter()
                    .flat_map(|task| &task.targets)
                    .map(|target| target.name),
            );
            let names: Vec<&str> = names.into_iter().collect();
            gather::remember_new(shared.config, &names).await;
        }
        if matches!(shared.entry, Entry::Sync) && !shared.dry_run {
            // `check` says where this cannot be.
            let _ = shared.memory.borrow_mut().write(shared.config);
        }
        Exit::worst(self.tasks.iter().map(Task::exit))
    }

    /// Returns what came of every VIP.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.tasks.iter().flat_map(|task| &task.outcomes)
    }

    /// Returns why commands of the site's own failed, and whether each is required.
    pub fn command_failures(&self) -> impl Iterator<Item = &(Fault, bool)> {
        self.outcomes()
            .filter_map(|outcome| outcome.command_failed.as_ref())
    }

    /// Returns why further announcements of some VIPs could not be arranged.
    pub fn unannounced(&self) -> Option<Fault> {
        self.shared.announcements.failed.take()
    }

    /// Returns the VIPs whose announcers ask neighbours, with their interfaces' numbers.
    pub fn announced_to_peers(&self) -> Vec<(IpAddr, u32)> {
        self.shared.announcements.asking.take()
    }
}

/// Returns what the log line of a task says beside what was done to each VIP.
pub fn pairs(task: &Task<'_>) -> Vec<(&'static str, String)> {
    let why = task.verdict.as_ref().map_or("unknown", Verdict::name);
    let mut pairs = vec![("why", why.to_owned())];
    let evidence = task.evidence.as_ref();
    let word = evidence.and_then(|evidence| evidence.word.as_ref());
    pairs.extend(word.map(|word| ("sentinel", word.to_string())));
    let ballot = evidence.and_then(|evidence| evidence.ballot.as_ref());
    pairs.extend(ballot.map(|ballot| ("sentinels", ballot.to_string())));
    pairs.extend(task.unlocked.then(|| ("lock", "none".to_owned())));
    let unannounced = task.unannounced.iter();
    pairs.extend(unannounced.map(|fault| ("announcer", fault.to_string())));
    let failed = task
        .outcomes
        .iter()
        .filter_map(|outcome| outcome.command_failed.as_ref());
    pairs.extend(failed.map(|(fault, _)| ("site_command", fault.to_string())));
    pairs
}

impl Shared<'_> {
    /// Tries until nothing is pending or the patience is used up. The first attempt has its `poll` already.
    async fn retry<'b>(
        &self,
        task: &mut Task<'b>,
        mut poll: Option<Told>,
        waiting: &impl AsyncFn(&Fault),
        mut commands: Queue<'b>,
    ) {
        let give_up = self.started + PATIENCE;
        let mut pause = FIRST_PAUSE;
        let mut tries = Tries::default();
        let mut is_told = false;
        loop {
            task.phases.tries += 1;
            self.announcements.begin();
            // For this attempt alone: masters that fail again and again must not hold up those that wait. It is
            // never closed, so that this does not fail.
            let turn = self.turns.acquire().await;
            let fresh = poll.take().filter(|(at, _)| at.elapsed() < STALE);
            let began = Instant::now();
            let attempt = self.attempt(task, fresh, &mut tries);
            // Enough to find out that the kernel does not answer.
            let hard = give_up.max(Instant::now()) + GRACE;
            match timeout_at(hard.into(), attempt).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => task.fail_pending(&fault),
                Err(_) => {
                    let text = "the attempt did not end in time: the kernel, a lock or a name server hangs";
                    task.fail_pending(&Fault::passing(text));
                }
            }
            drop(turn);
            task.phases.done = self.started.elapsed();
            let left_behind = std::mem::take(&mut task.left_behind);
            let jobs = std::mem::take(&mut task.jobs);
            if let Err(fault) = self.announcements.end(jobs, left_behind) {
                task.unannounced.get_or_insert(fault);
            }
            self.queue_commands(task, &mut commands).await;
            // Last: no announcement and no command waits until the kernel has looked through all sockets.
            let stranded = std::mem::take(&mut task.stranded);
            self.stranded.reset(stranded).await;
            let Some(fault) = task.pending().and_then(Outcome::fault) else {
                return;
            };
            if Instant::now() + pause > give_up {
                return;
            }
            // What passes within some tries is not worth a word, unless they are long.
            let is_long = began.elapsed() > WORTH_A_WORD || pause > LONGEST_PAUSE / 8;
            if is_long && !std::mem::replace(&mut is_told, true) {
                waiting(fault).await;
            }
            let took = began.elapsed();
            sleep(pause).await;
            let left = give_up.saturating_duration_since(Instant::now());
            tries.patience = tries.patience.after(took, left);
            pause = (pause * 2).min(LONGEST_PAUSE);
            // What was looked up for the last attempt may have changed.
            self.engine.begin();
        }
    }

    /// Tries once what is not done yet.
    async fn attempt(
        &self,
        task: &mut Task<'_>,
        told: Option<Told>,
        tries: &mut Tries,
    ) -> Result<(), Fault> {
        let config = self.config;
        match self.entry {
            Entry::Hook(failover) => {
                let before = task
                    .evidence
                    .as_ref()
                    .and_then(|evidence| evidence.word.clone());
                let gather = async |snapshot: &Snapshot<'_>| {
                    gather::of_call(config, failover, (before, None), snapshot).await
                };
                self.engine.settle(task, gather).await
            }
            Entry::Operator(order) => {
                let names: BTreeSet<&str> = few::set(task.targets.iter().map(|target| target.name));
                let names: Vec<&str> = names.into_iter().collect();
                let gather = async |snapshot: &Snapshot<'_>| {
                    Ok(gather::of_order(config, order, &names, snapshot).await)
                };
                self.engine.settle(task, gather).await
            }
            Entry::Sync => {
                let (at, polled) = match told {
                    Some(told) => told,
                    None => self.poll_again(task, tries.patience).await,
                };
                let polled = polled?;
                let name = task
                    .targets
                    .first()
                    .map(|target| target.name)
                    .unwrap_or_default();
                let waited = tries
                    .divided
                    .map(|since| since.elapsed())
                    .unwrap_or_default();
                let not_older_than = |time| match at.elapsed() > time {
                    true => Err(Fault::passing(OLD)),
                    false => Ok(()),
                };
                let gather = async |snapshot: &Snapshot<'_>| {
                    // Another run may have had the lock for seconds, or this one was stopped, and the other Sentinels are
                    // not asked again under the lock.
                    not_older_than(FRESH)?;
                    let lines = Lines::default();
                    self.memory.borrow().tell(config, &lines.owner);
                    let within = polled.patience().one_answer();
                    let said = gather::master_of(config, &lines, name, within);
                    let at_hand = (&lines, snapshot);
                    let known =
                        gather::of_poll(config, name, &polled, waited, said, at_hand).await?;
                    // A Redis of this host is, in two rounds at most.
                    not_older_than(FRESH + 2 * polled.patience().round())?;
                    Ok(known)
                };
                let settled = self.engine.settle(task, gather).await;
                let ballot = task
                    .evidence
                    .as_ref()
                    .and_then(|evidence| evidence.ballot.as_ref());
                let waits = ballot.is_some_and(|ballot| ballot.waits_for_a_minority());
                let since = tries.divided.unwrap_or_else(Instant::now);
                tries.divided = waits.then_some(since);
                settled
            }
        }
    }
}
