//! The agent: stays resident on every server, and makes this host agree with what is true as soon as that
//! changes. One loop owns the state ([`core`], pure): everything else sends it events and carries out its actions.
//! What moves a VIP is the same engine that the hook and `sync` use.

pub mod absence;
mod announcing;
pub mod backoff;
pub mod chosen;
pub mod client;
mod client_channel;
pub mod clients;
pub mod core;
mod deaths;
mod failures;
mod following;
mod hand_over;
mod journal;
mod kernel_events;
mod last_failovers;
mod maintenance;
mod maintenance_request;
pub mod metrics;
mod old_votes;
mod orders;
mod polls;
mod probes;
mod progress;
pub mod redis;
mod redis_connection;
mod redis_process;
mod remembering;
pub mod request;
mod requests;
pub mod rights;
pub mod sentinels;
pub mod service;
mod settle;
mod shown;
mod sight;
pub mod sign;
pub mod snapshot;
pub mod socket;
pub mod socket_path;
mod urgent;
mod world;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::sleep;

use self::journal::say;
use self::progress::Progress;
use self::service::Signal;
use self::socket::{Asked, Server};
use self::world::{End, QUEUE, World};
use crate::config::{self, Config};
use crate::exit::{Exit, Fault};
use crate::log::Level;
use crate::once::PATIENCE;
use crate::runtime_folder;

/// It is about every master of the configuration.
const NO_MASTERS: [&str; 0] = [];

/// The pause before another try to serve metrics.
const METRICS_PAUSE: Duration = Duration::from_secs(5);

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_secs(1);

/// How many requests may wait.
const REQUESTS: usize = 64;

/// Stays resident until a signal ends it. `path` is the configuration's file. Returns how it ended.
///
/// # Errors
///
/// A configuration that cannot be used, another agent at work on this host, and what the agent cannot do without.
pub async fn run(path: &Path, started: Instant) -> anyhow::Result<Exit> {
    let done = LocalSet::new().run_until(stay(path, started)).await;
    if let Err(fault) = &done {
        say(Level::Error, &fault.to_string()).await;
    }
    done?;
    Ok(Exit::Done)
}

/// The world of now, for tasks that outlive a change of the configuration.
type Current = Rc<RefCell<Option<Rc<World>>>>;

/// What ends the world of now; what comes while one world gives way to the next ends that.
type Next = Rc<RefCell<Option<End>>>;

async fn stay(path: &Path, started: Instant) -> Result<(), Fault> {
    service::missing()?;
    for surplus in service::privileges() {
        say(Level::Warning, &surplus).await;
    }
    let mut config = Rc::new(config::load(path, &NO_MASTERS, started + PATIENCE).await?);
    // Systemd has made it; the lock's error says where it cannot be.
    let _ = runtime_folder::get_ready();
    let server = Server::open(&config)?;
    if let Some(warning) = &server.warning {
        say(Level::Warning, &warning.to_string()).await;
    }
    let current = Current::default();
    let (to, requests) = mpsc::channel(REQUESTS);
    let serving = spawn_local(server.serve(to));
    let answering = spawn_local(answer(requests, Rc::clone(&current)));
    let progress = Rc::new(Progress::new(Instant::now()));
    let alive = spawn_local(stay_alive(Rc::clone(&progress)));
    let next = Next::default();
    let ended = loop {
        let begun = (started, path, &progress);
        match work(&config, begun, &current, &next).await {
            Ok(Some(new)) => config = new,
            Ok(None) => break Ok(()),
            Err(fault) => break Err(fault),
        }
    };
    service::stopping();
    for task in [
        alive.abort_handle(),
        answering.abort_handle(),
        serving.abort_handle(),
    ] {
        task.abort();
    }
    ended
}

/// Works with a configuration until another one is to be used, which it returns, or a signal ends the agent.
async fn work(
    config: &Rc<Config>,
    (started, path, progress): (Instant, &Path, &Rc<Progress>),
    current: &Current,
    next: &Next,
) -> Result<Option<Rc<Config>>, Fault> {
    let (to, mut events) = mpsc::channel(QUEUE);
    let world = Rc::new(World::new(
        Rc::clone(config),
        (started, Rc::clone(progress)),
        to,
    )?);
    current.replace(Some(Rc::clone(&world)));
    let beside = begin(&world, path, next)?;
    let end = world.work(&mut events, || next.borrow_mut().take()).await;
    // Nobody asks for a world that is at its end.
    current.replace(None);
    world.end().await;
    if matches!(end, End::Stop) && config.agent.release_on_stop {
        world.release_all().await;
    }
    beside.iter().for_each(AbortHandle::abort);
    Ok(match end {
        End::Reload(config) => Some(config),
        End::Stop => None,
    })
}

/// Begins what goes on beside the loop.
fn begin(world: &Rc<World>, path: &Path, next: &Next) -> Result<Vec<AbortHandle>, Fault> {
    let mut tasks = vec![
        spawn_local(heed_signals(
            Rc::clone(world),
            path.to_owned(),
            Rc::clone(next),
        )?),
        spawn_local(announce(Rc::clone(world))),
        spawn_local(kernel_events::pass_on(Rc::clone(world))),
        spawn_local(probes::ask_every_minute(Rc::clone(world))),
        spawn_local(let_go(Rc::clone(world))),
        spawn_local(client_channel::work(Rc::clone(world))),
        spawn_local(sign::work(Rc::clone(world))),
        spawn_local(old_votes::watch(Rc::clone(world))),
        spawn_local(tell_systemd(Rc::clone(world))),
    ];
    if let Some(at) = world.config.agent.metrics {
        tasks.push(spawn_local(serve_metrics(at, Rc::clone(world))));
    }
    Ok(tasks.iter().map(|task| task.abort_handle()).collect())
}

/// Serves metrics. Their address may be another program's, or not be there yet.
async fn serve_metrics(at: SocketAddr, world: Rc<World>) {
    let mut said = None;
    loop {
        let shown = Rc::clone(&world);
        let Err(fault) = metrics::serve(at, move || shown.snapshot()).await;
        let fault = fault.to_string();
        if said.as_ref() != Some(&fault) {
            say(Level::Warning, &fault).await;
            said = Some(fault);
        }
        sleep(METRICS_PAUSE).await;
    }
}

/// Waits for signals: a new configuration that can be used ends this world, a broken one changes nothing.
fn heed_signals(
    world: Rc<World>,
    path: std::path::PathBuf,
    next: Next,
) -> Result<impl Future<Output = ()>, Fault> {
    let mut signals = service::signals()?;
    Ok(async move {
        while let Some(signal) = signals.next().await {
            match signal {
                Signal::Stop => {
                    next.replace(Some(End::Stop));
                }
                Signal::Reload => match config::load(&path, &NO_MASTERS, Instant::now()).await {
                    Ok(config) => {
                        say(Level::Notice, "the configuration was read again").await;
                        // To end comes before everything else.
                        next.borrow_mut()
                            .get_or_insert(End::Reload(Rc::new(config)));
                    }
                    Err(fault) => {
                        let text = format!("the configuration stays as it was: {fault}");
                        say(Level::Error, &text).await;
                        continue;
                    }
                },
            }
            world.tell(core::Event::Woke).await;
        }
    })
}

/// Has every request answered by the world of now.
async fn answer(mut requests: mpsc::Receiver<Asked>, current: Current) {
    while let Some(asked) = requests.recv().await {
        let world = current.borrow().clone();
        match world {
            Some(world) => {
                spawn_local(world.answer(asked));
            }
            // The asker learns it by the end of the connection, and does its own work.
            None => drop(asked),
        }
    }
}

/// Releases what an earlier configuration has left.
async fn let_go(world: Rc<World>) {
    let released = crate::once::left_over::release_left_over(&world.config, false).await;
    for outcome in released.unwrap_or_default() {
        say(Level::Notice, &outcome.sentence(false)).await;
    }
}

/// Tells systemd that the agent is ready once the Sentinels were asked, and how it stands.
async fn tell_systemd(world: Rc<World>) {
    let mut before = String::new();
    loop {
        let news = world.news.notified();
        if world.rounds.get() > 0 {
            if before.is_empty() {
                service::ready();
            }
            let now = world.in_a_line();
            if now != before {
                service::status(&now);
                before = now;
            }
        }
        news.await;
    }
}

/// Tells systemd that the agent gets on. Systemd restarts an agent that does not.
async fn stay_alive(progress: Rc<Progress>) {
    let Some(every) = service::watchdog_every() else {
        return;
    };
    loop {
        // After the whole machine was stopped the next look finds that the loop has turned since.
        if progress.is_alive(Instant::now()) {
            service::alive();
        }
        sleep((every / 4).max(Duration::from_millis(10))).await;
    }
}

/// Announces, for ever.
async fn announce(world: Rc<World>) {
    loop {
        let Err(fault) = world.announcers.run().await;
        say(Level::Warning, &format!("cannot announce: {fault}")).await;
        sleep(REOPEN).await;
    }
}
