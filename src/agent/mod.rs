//! The agent: stays resident on every server, and makes this host agree with what is true as soon as that
//! changes. One loop owns the state ([`core`], pure): everything else sends it events and carries out its actions.
//! What moves a VIP is the same engine that the hook and `sync` use.

pub mod absence;
mod announcing;
mod asking_chosen;
pub mod backoff;
pub mod chosen;
pub mod client;
mod client_channel;
pub mod clients;
mod commands_of;
pub mod core;
mod credentials;
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
mod outdated;
mod polls;
mod probes;
mod progress;
pub mod redis;
mod redis_connection;
mod redis_process;
mod reload;
mod remembering;
mod removed_files;
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
mod watched;
mod world;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::select;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::sleep;

use self::journal::say;
use self::progress::Progress;
use self::socket::{Asked, Server};
use self::world::{QUEUE, World};
use crate::config;
use crate::exit::{Exit, Fault};
use crate::log::Level;
use crate::once::PATIENCE;
use crate::once::left_over::release_left_over;
use crate::outcome::State;
use crate::runtime_folder;

/// It is about every master of the configuration.
const NO_MASTERS: [&str; 0] = [];

/// The pause before another try to serve metrics.
const METRICS_PAUSE: Duration = Duration::from_secs(5);

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_secs(1);

/// The pause before what could not be released is tried again: short at first, then doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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

async fn stay(path: &Path, started: Instant) -> Result<(), Fault> {
    service::missing()?;
    for surplus in service::privileges() {
        say(Level::Warning, &surplus).await;
    }
    let hangups = service::hangups()?;
    let config = Rc::new(config::load(path, &NO_MASTERS, started + PATIENCE).await?);
    let ends = service::ends()?;
    // Systemd has made it; the lock's error says where it cannot be.
    let _ = runtime_folder::get_ready();
    let server = Server::open(&config)?;
    if let Some(warning) = &server.warning {
        say(Level::Warning, &warning.to_string()).await;
    }
    let files = server.files();
    let progress = Rc::new(Progress::new(Instant::now()));
    let (to, mut events) = mpsc::channel(QUEUE);
    let world = World::new(config, (started, Rc::clone(&progress)), to)?;
    let world = Rc::new(world);
    let (to, requests) = mpsc::channel(REQUESTS);
    let is_over = Rc::new(Cell::new(false));
    let asked = (Rc::clone(&world), Rc::clone(&is_over));
    let beside = [
        spawn_local(server.serve(to)),
        spawn_local(answer(requests, asked)),
        spawn_local(stay_alive(progress)),
        spawn_local(reload::work(Rc::clone(&world), path.to_owned(), hangups)),
        spawn_local(end_when_asked(Rc::clone(&world), ends)),
        spawn_local(announce(Rc::clone(&world))),
        spawn_local(kernel_events::pass_on(Rc::clone(&world))),
        spawn_local(probes::ask_every_minute(Rc::clone(&world))),
        spawn_local(let_go(Rc::clone(&world))),
        spawn_local(client_channel::work(Rc::clone(&world))),
        spawn_local(sign::work(Rc::clone(&world))),
        spawn_local(old_votes::watch(Rc::clone(&world))),
        spawn_local(tell_systemd(Rc::clone(&world))),
        spawn_local(serve_metrics(Rc::clone(&world))),
    ];
    let another = spawn_local(end_beside_another(Rc::clone(&world), files));
    world.work(&mut events).await;
    is_over.set(true);
    world.end().await;
    another.abort();
    let replaced = another.await.ok();
    if replaced.is_none() && world.config().agent.release_on_stop {
        world.release_all().await;
    }
    service::stopping();
    beside.iter().for_each(JoinHandle::abort);
    replaced.map_or(Ok(()), Err)
}

/// Serves metrics, where the configuration wants it. Their address may be another program's, or not be there yet.
async fn serve_metrics(world: Rc<World>) {
    loop {
        let at = world.config().agent.metrics;
        let has_changed = async {
            while world.config().agent.metrics == at {
                world.reloaded.notified().await;
            }
        };
        let served = async {
            match at {
                Some(at) => serve_metrics_at(at, Rc::clone(&world)).await,
                None => pending().await,
            }
        };
        select(pin!(has_changed), pin!(served)).await;
    }
}

async fn serve_metrics_at(at: SocketAddr, world: Rc<World>) -> Infallible {
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

/// Ends the agent once that is asked for.
async fn end_when_asked(world: Rc<World>, mut asked: impl Stream<Item = ()> + Unpin) {
    asked.next().await;
    world.is_to_end.set(true);
    world.tell(core::Event::Woke).await;
}

/// Ends the agent once another one has begun in its place. Returns why.
async fn end_beside_another(world: Rc<World>, files: Rc<socket::Files>) -> Fault {
    let fault = removed_files::watch(&world, &files).await;
    world.is_to_end.set(true);
    world.tell(core::Event::Woke).await;
    fault
}

/// Has every request answered until it is over.
async fn answer(
    mut requests: mpsc::Receiver<Asked>,
    (world, is_over): (Rc<World>, Rc<Cell<bool>>),
) {
    while let Some(asked) = requests.recv().await {
        match is_over.get() {
            false => drop(spawn_local(Rc::clone(&world).answer(asked))),
            // The asker learns it by the end of the connection, and does its own work.
            true => drop(asked),
        }
    }
}

/// Releases what an earlier configuration has left, now and whenever it has changed, until it is released.
async fn let_go(world: Rc<World>) {
    let (mut pause, mut told) = (FIRST_PAUSE, Vec::new());
    loop {
        let changed = world.reloaded.notified();
        let mut failed = Vec::new();
        match release_left_over(&world.config(), false).await {
            Err(fault) => failed.push(format!(
                "what an earlier configuration has left is not found out: {fault}"
            )),
            Ok(outcomes) => {
                for outcome in outcomes {
                    let sentence = outcome.sentence(false);
                    match outcome.state {
                        State::Done(_) => say(Level::Notice, &sentence).await,
                        State::Pending(_) | State::Failed(_) => failed.push(sentence),
                    }
                }
            }
        }
        for sentence in failed.iter().filter(|one| !told.contains(*one)) {
            say(Level::Warning, sentence).await;
        }
        told = failed;
        if told.is_empty() {
            pause = FIRST_PAUSE;
            changed.await;
        } else {
            select(pin!(changed), pin!(sleep(pause))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
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
    progress.feed(every, service::alive).await;
}

/// Announces, for ever.
async fn announce(world: Rc<World>) {
    loop {
        let Err(fault) = world.announcers.run().await;
        say(Level::Warning, &format!("cannot announce: {fault}")).await;
        sleep(REOPEN).await;
    }
}
