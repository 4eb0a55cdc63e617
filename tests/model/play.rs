//! One case from its first step to its rest, and many of them.

pub mod planned;

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine as _;

use crate::agent::{Agents, Flaw};
use crate::agent_audit::CONVERGES;
use crate::audit::{Audit, RUN, is_split};
use crate::cluster::{Cluster, Event, HOSTS, Process, Signal, ms};
use crate::driver::{Driver, OneShot, Policy, SYNC};
use crate::steps::{self, Site, Status, Step};

/// For how long nothing may have changed: longer than any of Sentinel's timers (a failover that has failed is
/// tried again after 20 s, a master that says replica counts as down after 22 s) and than two rounds of
/// `sync` with their retries.
pub const REST: Duration = ms(90_000);

/// When the VIP must be where a majority names a master, although Sentinel may still have something to mend.
const SOON: Duration = SYNC.saturating_add(RUN);

/// By when there must be rest.
const PATIENCE: Duration = ms(900_000);

/// How many steps a case has at most.
const STEPS: usize = 25;

/// How many cases one seed is for: what is found is found again within these.
const BATCH: u64 = 100;

/// What acts on the hosts.
#[derive(Clone, Copy)]
pub struct Game {
    pub policy: Policy,
    /// What is wrong with the agents; `None` where there are none.
    pub agents: Option<Flaw>,
}

impl Game {
    /// Returns on which hosts the agent is, as the case has it: on all of them in most.
    fn hosts(self, seed: u64) -> [bool; HOSTS] {
        let is_everywhere = seed % 8 < 5;
        std::array::from_fn(|host| {
            self.agents.is_some() && (is_everywhere || seed >> (3 + host) & 1 == 1)
        })
    }
}

/// A case that is being played.
pub struct World {
    pub cluster: Cluster,
    pub audit: Audit,
    drivers: Vec<Box<dyn Driver>>,
    /// Where the VIP was bound last.
    bound: [bool; HOSTS],
}

impl World {
    pub fn new(game: Game, status: &Status) -> World {
        let mut cluster = Cluster::new(status.seed, status.priorities);
        for (host, has_agent) in game.hosts(status.seed).into_iter().enumerate() {
            cluster.machines[host].agent = has_agent.then_some(Process::Running);
        }
        let one_shot = OneShot::new(game.policy, &mut cluster);
        let mut world = World {
            audit: Audit::default(),
            drivers: vec![Box::new(one_shot)],
            bound: std::array::from_fn(|host| !cluster.machines[host].bound.is_empty()),
            cluster,
        };
        if let Some(flaw) = game.agents {
            let agents = Agents::new(game.policy, flaw, &mut world.cluster);
            world.add(agents);
        }
        world
    }

    /// Adds a driver beside the others.
    pub fn add(&mut self, driver: impl Driver + 'static) {
        self.drivers.push(Box::new(driver));
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.cluster.now + time;
        self.tell();
        while let Some(event) = self.cluster.pop(until) {
            match event {
                Event::Tick(host, process) => self.cluster.tick(host, process),
                Event::Deliver(to, from, words) => self.cluster.deliver(to, from, words),
                Event::Script(host, call) => self.cluster.script(host, call),
                Event::Wake(host, token) => {
                    for driver in &mut self.drivers {
                        driver.wake(host, token, &mut self.cluster, &mut self.audit);
                    }
                }
            }
            self.tell();
            if self.audit.wrong.is_some() {
                return;
            }
        }
        self.cluster.now = until;
    }

    fn tell(&mut self) {
        for host in 0..HOSTS {
            let is = !self.cluster.machines[host].bound.is_empty();
            if std::mem::replace(&mut self.bound[host], is) != is {
                self.cluster.signals.push(Signal::Address(host, is));
            }
        }
        self.audit.look(&self.cluster);
        for signal in std::mem::take(&mut self.cluster.signals) {
            self.audit.note(self.cluster.now, || shown(&signal));
            if let Signal::Published(_, event, of) = signal {
                self.audit.of_agents.published(event, of, &self.cluster);
            }
            for driver in &mut self.drivers {
                driver.notice(&signal, &mut self.cluster, &mut self.audit);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        self.run(ms(step.after));
        self.audit
            .note(self.cluster.now, || format!("{:?}", step.act));
        steps::act(step.act, &mut self.cluster);
    }

    /// Mends everything, waits for rest, and looks.
    fn settle(&mut self) {
        steps::mend(&mut self.cluster);
        self.audit.note(self.cluster.now, || "all is mended".into());
        let start = self.cluster.now;
        let (mut since, mut standing) = (start, self.standing());
        while self.cluster.now - since < REST {
            self.run(ms(1_000));
            if self.audit.wrong.is_some() {
                return;
            }
            let now = self.standing();
            if now != standing {
                (since, standing) = (self.cluster.now, now);
            }
            let agents = self.cluster.machines.iter();
            let is_everywhere = agents.clone().all(|machine| machine.agent.is_some());
            let soon = if is_everywhere { CONVERGES } else { SOON };
            if self.cluster.now - since == soon {
                self.audit.soon(&self.cluster);
            }
            if self.cluster.now - start > PATIENCE {
                self.audit.wrong = Some("there is no rest".into());
                return;
            }
        }
        self.audit.at_rest(&self.cluster);
    }

    fn standing(&self) -> impl PartialEq + use<> {
        let of = |host: usize| {
            let machine = &self.cluster.machines[host];
            (machine.sentinel.standing(), machine.redis)
        };
        (0..HOSTS).map(of).collect::<Vec<_>>()
    }
}

fn shown(signal: &Signal) -> String {
    match signal {
        Signal::Called(host, call) => {
            let role = if call.is_leader { "leader" } else { "observer" };
            format!(
                "Sentinel {host} calls the hook: {role} {} -> {}, epoch {}, failed {}",
                call.from, call.to, call.epoch, call.failed
            )
        }
        Signal::Published(by, event, of) => format!("Sentinel {by}: {event} {of}"),
        other => format!("{other:?}"),
    }
}

/// What was seen in all cases.
#[derive(Default)]
pub struct Seen {
    cases: AtomicU64,
    moves: AtomicU64,
    decisions: AtomicU64,
    forced: AtomicU64,
    split: AtomicU64,
    pauses: AtomicU64,
    planned: AtomicU64,
    elections: AtomicU64,
    requests: AtomicU64,
    leads: AtomicU64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        write!(
            f,
            "{} cases: {} failovers ({} forced), {} moves of the VIP, {} cases in which Sentinel split an epoch; {} pauses of writes, {} failovers while all was well; {} elections by agents, {} Sentinels asked, {} old masters again",
            number(&self.cases),
            number(&self.decisions),
            number(&self.forced),
            number(&self.moves),
            number(&self.split),
            number(&self.pauses),
            number(&self.planned),
            number(&self.elections),
            number(&self.requests),
            number(&self.leads)
        )
    }
}

/// A case in which an invariant did not hold.
#[derive(Debug)]
pub struct Found {
    pub what: String,
    pub seed: u64,
    pub case: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { what, seed, case } = self;
        write!(
            f,
            "{what}\nVIPSWITCH_MODEL_SEED={seed} VIPSWITCH_MODEL_CASES={BATCH}\n{case}"
        )
    }
}

/// Returns a seed that was not used before.
pub fn any_seed() -> u64 {
    RandomState::new().hash_one(0) >> 16
}

/// Plays that many cases, in batches on all processors.
///
/// # Errors
///
/// The first that breaks an invariant; made as small as possible if so wanted.
pub fn hunt(game: Game, cases: u64, seed: u64, make_small: bool) -> Result<Seen, Found> {
    let seen = Seen::default();
    let found = Mutex::new(None);
    let next = AtomicU64::new(0);
    let batches = cases.div_ceil(BATCH);
    let work = || {
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            if batch >= batches || found.lock().expect("no panic").is_some() {
                return;
            }
            let number = BATCH.min(cases - batch * BATCH);
            if let Err(one) = hunt_batch(game, number, seed.wrapping_add(batch), make_small, &seen)
            {
                found.lock().expect("no panic").get_or_insert(one);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match found.into_inner().expect("no panic") {
        Some(found) => Err(found),
        None => Ok(seen),
    }
}

fn runner(cases: u64, seed: u64, make_small: bool) -> TestRunner {
    let config = Config {
        cases: u32::try_from(cases).expect("a batch is small"),
        failure_persistence: None,
        max_shrink_iters: if make_small { 20_000 } else { 0 },
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn hunt_batch(
    game: Game,
    cases: u64,
    seed: u64,
    make_small: bool,
    seen: &Seen,
) -> Result<(), Found> {
    let mut runner = runner(cases, seed, make_small);
    // Where nothing is made small the counter must stay untouched.
    let strategy = Site::sequential_strategy(1..=STEPS);
    // The last that failed is the smallest; what the strategy ends with need not fail.
    let smallest = RefCell::new(None);
    let played = runner.run(&strategy, |(status, steps, counter)| {
        let counter = counter.as_ref().filter(|_| make_small);
        let world = play(game, &status, &steps, counter, false);
        match world.audit.wrong {
            Some(wrong) => {
                smallest.replace(Some((status, steps)));
                Err(TestCaseError::fail(wrong))
            }
            None => {
                count(seen, &world);
                Ok(())
            }
        }
    });
    let (status, steps) = match (played, smallest.into_inner()) {
        (Ok(()), _) => return Ok(()),
        (Err(_), Some(smallest)) => smallest,
        (Err(why), None) => panic!("no case can be made: {why}"),
    };
    let world = play(game, &status, &steps, None, true);
    let listed: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    Err(Found {
        what: world
            .audit
            .wrong
            .unwrap_or_else(|| "found, and not found again".into()),
        seed,
        case: format!(
            "{status:?}\n{}\n{}",
            listed.join("\n"),
            world.audit.log.join("\n")
        ),
    })
}

fn count(seen: &Seen, world: &World) {
    let add = |to: &AtomicU64, number: usize| to.fetch_add(number as u64, Ordering::Relaxed);
    let decisions = &world.cluster.decisions;
    add(&seen.cases, 1);
    add(&seen.decisions, decisions.len());
    add(
        &seen.forced,
        decisions.iter().filter(|one| one.is_forced).count(),
    );
    add(&seen.split, usize::from(is_split(&world.cluster)));
    let of_agents = &world.audit.of_agents;
    seen.moves.fetch_add(world.audit.moves, Ordering::Relaxed);
    seen.pauses.fetch_add(of_agents.pauses, Ordering::Relaxed);
    for (to, number) in [
        (&seen.planned, of_agents.planned_failovers),
        (&seen.elections, of_agents.elections),
        (&seen.requests, of_agents.requests),
        (&seen.leads, of_agents.leads),
    ] {
        to.fetch_add(number, Ordering::Relaxed);
    }
}

/// Plays some cases twice and returns what happened in each.
pub fn twice(game: Game, seed: u64) -> Vec<[Vec<String>; 2]> {
    let both = RefCell::new(Vec::new());
    let seen = |status: &Status, steps: &[Step]| play(game, status, steps, None, true).audit.log;
    let played = runner(20, seed, false).run(
        &Site::sequential_strategy(1..=STEPS),
        |(status, steps, _)| {
            let pair = [seen(&status, &steps), seen(&status, &steps)];
            both.borrow_mut().push(pair);
            Ok(())
        },
    );
    played.expect("nothing is checked");
    both.into_inner()
}

/// Plays one case.
pub fn play(
    game: Game,
    status: &Status,
    steps: &[Step],
    counter: Option<&Arc<AtomicUsize>>,
    keeps_log: bool,
) -> World {
    let mut world = World::new(game, status);
    world.audit.keeps_log = keeps_log;
    for step in steps {
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        world.step(step);
        if world.audit.wrong.is_some() {
            return world;
        }
    }
    world.settle();
    world
}
