//! The agent at work: the loop that owns the state, and what it carries out. Whatever takes time is a task of its own
//! that ends by sending an event.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{timeout, timeout_at};

use super::announcing::announcers;
use super::clients::Known;
use super::commands_of::CommandsOf;
use super::core::{Action, Core, Event, Master, Settings, Stands, Time};
use super::failures::Failures;
use super::following::Followed;
use super::journal::say_of;
use super::last_failovers::LastFailovers;
use super::maintenance::Maintenance;
use super::orders::Orders;
use super::outdated::Outdated;
use super::progress::Progress;
use super::remembering::Remembering;
use super::urgent::Urgent;
use super::watched::Watched;
use crate::config::{Config, Target};
use crate::deeds::announcer::resident::Announcers;
use crate::deeds::stranded::Stranded;
use crate::deeds::tickle::OrphansPace;
use crate::engine::Engine;
use crate::evidence::Order;
use crate::failover::Endpoint;
use crate::gather::remembered::Memory;
use crate::kernel::Netlink;
use crate::log::Level;
use crate::redis::{Lines, Server};
use crate::text::escape;

/// How many events may wait. A task that sends more waits for its turn.
pub(super) const QUEUE: usize = 1024;

/// How many masters are settled at the same time: each has some files open.
const AT_ONCE: usize = 32;

/// How long a round of questions may take: much longer than it ever does.
const ROUND: Duration = Duration::from_secs(30);

/// How long a failover that goes on may hold up the agent's end, or a configuration without its master or its VIPs. A
/// majority confirms it within about a second; systemd waits 10 s.
pub(super) const LAST_DUTY: Duration = Duration::from_secs(5);

/// How many masters `systemctl status` shows.
const SHOWN: usize = 10;

/// How many commands of the site run at the same time.
const COMMANDS: usize = 32;

/// The hardware addresses that answer for a VIP, and where that was to be when they were asked.
pub(super) type Answer = (Vec<String>, Option<Stands>);

/// The agent at work.
pub(super) struct World {
    /// What the configuration says.
    pub(super) configured: RefCell<Rc<Config>>,
    /// What is to be used from now on, and how long a failover may hold that up.
    pub(super) wanted: RefCell<Option<(Rc<Config>, Time)>>,
    /// How often the configuration was read again, and the files that it names.
    pub(super) reloads: Cell<u64>,
    /// The configuration has changed.
    pub(super) reloaded: Notify,
    /// Whether the agent is to end.
    pub(super) is_to_end: Cell<bool>,
    /// When the agent was started: every time in the core is since then.
    pub(super) started: Instant,
    /// The same as a time of day, for those who ask.
    pub(super) since: SystemTime,
    pub(super) core: Rc<RefCell<Core>>,
    pub(super) engine: Engine,
    pub(super) lines: Rc<Lines>,
    pub(super) memory: RefCell<Rc<Memory>>,
    pub(super) remembering: Rc<Remembering>,
    pub(super) announcers: Announcers,
    pub(super) netlink: Netlink,
    pub(super) to: mpsc::Sender<Event>,
    progress: Rc<Progress>,
    /// Something was settled, or asked: who waits for that looks again.
    pub(super) news: Notify,
    pub(super) orders: Orders,
    last_failovers: LastFailovers,
    pub(super) maintenance: Maintenance,
    /// How many rounds of questions have ended.
    pub(super) rounds: Cell<u64>,
    /// How many have begun: what the core hears now is answered by the next.
    pub(super) rounds_begun: Cell<u64>,
    /// Until when a round of questions waits for every Sentinel.
    pub(super) full_until: Cell<Time>,
    pub(super) turns: Semaphore,
    pub(super) commands: Semaphore,
    pub(super) followed: RefCell<BTreeMap<String, Followed>>,
    pub(super) watched: RefCell<BTreeMap<(String, SocketAddr), Watched>>,
    /// Who asks a chosen replica, by the master's name.
    pub(super) asks: RefCell<BTreeMap<String, AbortHandle>>,
    /// How each master's Sentinels are asked.
    pub(super) ways: RefCell<BTreeMap<String, Vec<Server>>>,
    /// One election at a time: the Sentinels have one epoch for all masters.
    pub(super) elections: Semaphore,
    /// Up to which epoch they have voted in those elections.
    pub(super) taken: Cell<u64>,
    /// The releases that all else waits for.
    pub(super) urgent: Rc<Urgent>,
    /// Who refuses clients in place of a dead Redis, by the master's name.
    pub(super) refusing: RefCell<BTreeMap<String, AbortHandle>>,
    /// Each Redis of this host that may not be told to follow another: that was said.
    pub(super) has_refused_to_follow: RefCell<BTreeSet<SocketAddr>>,
    /// Who answers for each VIP, when that was asked last.
    pub(super) answers: RefCell<BTreeMap<std::net::IpAddr, Answer>>,
    pub(super) outdated: Outdated,
    /// The run id of each Redis as a Sentinel told it last, by master-name.
    pub(super) run_ids: RefCell<BTreeMap<String, Vec<(Endpoint, String)>>>,
    /// The commands of the site.
    pub(super) commands_of: CommandsOf,
    /// The masters whose commands wait until they are run again.
    pub(super) waiting_commands: RefCell<BTreeSet<String>>,
    /// What goes wrong again and again.
    pub(super) failures: RefCell<Failures>,
    /// Who is connected to the VIPs of other hosts.
    pub(super) clients: RefCell<Known>,
    /// This host's own clients of the VIPs that it takes over.
    pub(super) stranded: Stranded,
    /// All VIPs share the pace at which clients are told.
    pub(super) pace: Rc<OrphansPace>,
    /// The masters whose Redis does not let the agent publish that, or hear of it; said once.
    pub(super) without_channel: RefCell<BTreeSet<String>>,
}

/// Returns what the core is to know of the masters.
pub(super) fn settings(config: &Config) -> impl Iterator<Item = Settings> {
    config.masters.iter().map(|(name, master)| Settings {
        name: name.clone(),
        vips: master.vips.iter().map(|vip| vip.address).collect(),
        on_isolation: master.on_isolation,
        on_redis_death: master.on_redis_death,
    })
}

impl World {
    /// Opens what is needed.
    ///
    /// # Errors
    ///
    /// No connection to the kernel.
    pub(super) fn new(
        config: Rc<Config>,
        (started, progress): (Instant, Rc<Progress>),
        to: mpsc::Sender<Event>,
    ) -> Result<World, crate::exit::Fault> {
        let core = Rc::new(RefCell::new(Core::new(settings(&config))));
        let vips = config.vips().map(|vip| vip.address);
        let world = World {
            engine: Engine::new(started, false, Vec::new()).knowing(vips),
            lines: Rc::new(Lines::keeping()),
            memory: RefCell::new(Rc::new(Memory::read())),
            remembering: Rc::default(),
            netlink: Netlink::open()?,
            announcers: announcers(&core, started, config.agent.announce_every),
            core,
            configured: RefCell::new(Rc::clone(&config)),
            wanted: RefCell::default(),
            reloads: Cell::new(0),
            reloaded: Notify::new(),
            is_to_end: Cell::new(false),
            started,
            since: SystemTime::now() - started.elapsed(),
            to,
            progress,
            news: Notify::new(),
            orders: Orders::default(),
            last_failovers: LastFailovers::default(),
            maintenance: Maintenance::default(),
            rounds: Cell::new(0),
            rounds_begun: Cell::new(0),
            full_until: Cell::new(Time::ZERO),
            turns: Semaphore::new(AT_ONCE),
            commands: Semaphore::new(COMMANDS),
            followed: RefCell::default(),
            watched: RefCell::default(),
            asks: RefCell::default(),
            ways: RefCell::default(),
            elections: Semaphore::new(1),
            taken: Cell::new(0),
            urgent: Rc::default(),
            refusing: RefCell::default(),
            has_refused_to_follow: RefCell::default(),
            answers: RefCell::default(),
            outdated: Outdated::default(),
            run_ids: RefCell::default(),
            commands_of: CommandsOf::default(),
            waiting_commands: RefCell::default(),
            failures: RefCell::default(),
            clients: RefCell::default(),
            stranded: Stranded::default(),
            pace: Rc::default(),
            without_channel: RefCell::default(),
        };
        world.recall(config.masters.keys());
        Ok(world)
    }

    /// Returns what the configuration says now. It may change whenever something is waited for.
    pub(super) fn config(&self) -> Rc<Config> {
        Rc::clone(&self.configured.borrow())
    }

    /// Returns the time since the agent's start.
    pub(super) fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// Tells the core of an event. Where the queue is full the sender waits.
    pub(super) async fn tell(&self, event: Event) {
        // It is closed only when this world ends.
        let _ = self.to.send(event).await;
    }

    /// Takes events and has done what follows from them, until the agent is to end.
    pub(super) async fn work(self: &Rc<Self>, events: &mut mpsc::Receiver<Event>) {
        self.take(Event::Woke);
        let mut end: Option<Time> = None;
        loop {
            self.progress.turn(Instant::now());
            if self.is_to_end.get() {
                let until = *end.get_or_insert_with(|| self.now() + LAST_DUTY);
                // Writes that are paused for a failover would reach the old master again, and be lost with it; and
                // whoever comes next does not know of a failover that no majority has confirmed.
                if self.now() >= until || !self.core.borrow().is_busy() {
                    return;
                }
            }
            self.use_wanted();
            let wake = self.started + self.core.borrow().wake(self.now());
            match timeout_at(wake.into(), events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) | Err(_) => self.take(Event::Woke),
            }
        }
    }

    /// Tells the core, and begins what it wants done.
    pub(super) fn take(self: &Rc<Self>, event: Event) {
        // What a round tells of each master is told at its end: to look at all masters for each costs the more.
        let is_news = matches!(
            event,
            Event::Settled(..) | Event::PollEnded | Event::Maintenance(..)
        );
        let is_order = matches!(event, Event::PollEnded | Event::Forced(..));
        let mut is_of_failover = matches!(event, Event::PollEnded | Event::Promotes(..));
        if matches!(event, Event::PollEnded) {
            self.rounds.set(self.rounds.get() + 1);
            self.progress.round(Instant::now());
        }
        let actions = self.core.borrow_mut().on(event, self.now());
        for action in actions {
            // Before it is done: this agent may be killed in between.
            is_of_failover |= matches!(action, Action::Unpause(_, _, Some(_)));
            self.carry_out(action);
        }
        if is_of_failover {
            self.last_failovers.keep(&self.core.borrow(), self.now());
        }
        if is_order {
            self.orders.keep(&self.core.borrow());
        }
        if is_news {
            self.maintenance.keep(&self.core.borrow(), self.now());
            self.news.notify_waiters();
        }
    }

    /// Writes anew what is kept for the next agent: something has removed it.
    pub(super) fn keep_anew(&self) {
        let (core, now) = (self.core.borrow(), self.now());
        self.last_failovers.keep_anew(&core, now);
        self.orders.keep_anew(&core);
        self.maintenance.keep_anew(&core, now);
    }

    /// Tells the core, and has the Sentinels asked about these masters. Returns the number of rounds that had begun by
    /// then: one more has to end before the answers are from after this.
    pub(super) async fn ask_from_now(self: &Rc<Self>, event: Event) -> u64 {
        let begun = self.rounds_begun.get();
        // Not by the queue: a round about others may begin before it comes to this.
        self.take(event);
        // The loop is to look at the clock.
        self.tell(Event::Woke).await;
        begun
    }

    /// Asks the Sentinels. A round that does not end is given up, and the next one begins.
    async fn ask(self: Rc<Self>, some: Option<Vec<String>>) {
        self.urgent.over().await;
        let _ = timeout(ROUND, Rc::clone(&self).poll(some)).await;
        self.tell(Event::PollEnded).await;
    }

    fn carry_out(self: &Rc<Self>, action: Action) {
        let world = Rc::clone(self);
        if matches!(action, Action::Poll | Action::PollSome(_)) {
            self.rounds_begun.set(self.rounds_begun.get() + 1);
        }
        match action {
            Action::Poll => {
                spawn_local(async move { world.ask(None).await });
            }
            Action::PollSome(names) => {
                spawn_local(async move { world.ask(Some(names)).await });
            }
            Action::Settle(name) => {
                let core = self.core.borrow();
                let is_urgent = core.master(&name).is_some_and(Master::has_to_let_go);
                let turn = is_urgent.then(|| self.urgent.begin());
                spawn_local(async move { world.settle(name, turn).await });
            }
            Action::Expect(name, at) => {
                if let Some(watched) = self.watched.borrow().get(&(name, at)) {
                    watched.expect();
                }
            }
            Action::AskChosen(name, to, left) => self.ask_chosen(name, to, left),
            Action::Pause(name, at, longest) => {
                spawn_local(async move { world.pause(name, at, longest).await });
            }
            Action::Unpause(name, at, heir) => {
                spawn_local(async move { world.unpause(name, at, heir).await });
            }
            Action::Lead(name, at) => {
                spawn_local(async move { world.lead(name, at).await });
            }
            Action::Elect(name, dead, near, votes) => {
                spawn_local(async move { world.elect(name, dead, near, votes).await });
            }
            Action::Refuse(name, wanted) => self.refuse(name, wanted),
            Action::Log(name, is_well, sentence) => {
                let level = if is_well {
                    Level::Notice
                } else {
                    Level::Warning
                };
                spawn_local(async move { say_of(&name, level, &sentence).await });
            }
        }
    }

    fn ask_chosen(self: &Rc<Self>, name: String, to: Endpoint, left: Duration) {
        let world = Rc::clone(self);
        let of = name.clone();
        let task = spawn_local(async move { world.follow_chosen(name, to, left).await });
        let before = self.asks.borrow_mut().insert(of, task.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
    }

    /// Releases every VIP that is here: the agent is stopped for good.
    pub(super) async fn release_all(self: &Rc<Self>) {
        let config = self.config();
        let each = config.masters.keys().map(async |name| {
            let targets = Target::of(&config, &[name]).unwrap_or_default();
            let (task, _) = self
                .attempt(name, targets, Some((Order::Unbind, true)))
                .await;
            self.write_log(&task).await;
        });
        // Before systemd kills it.
        let _ = timeout(LAST_DUTY, join_all(each)).await;
    }

    /// Returns how the masters stand, for `systemctl status`.
    pub(super) fn in_a_line(&self) -> String {
        let core = self.core.borrow();
        let each = core.masters().map(|master| {
            let stands = match master.stands() {
                Some(Stands::Here) => "here",
                Some(Stands::Elsewhere) => "elsewhere",
                None => "unknown",
            };
            format!("{}: {stands}", escape(&master.name))
        });
        let mut shown: Vec<String> = each.take(SHOWN + 1).collect();
        if shown.len() > SHOWN {
            shown.truncate(SHOWN);
            shown.push("…".to_owned());
        }
        shown.join(", ")
    }

    /// Ends what goes on. Writes that are paused are allowed again; VIPs stay as they are.
    pub(super) async fn end(&self) {
        for (_, task) in self.asks.take().into_iter().chain(self.refusing.take()) {
            task.abort();
        }
        self.followed.take();
        let watched = self.watched.take();
        for watched in watched.values() {
            watched.end_pause().await;
        }
    }
}
