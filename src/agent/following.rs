//! What the agent listens to: the events of every Sentinel, this host's Redis, and a replica that is being promoted.
//! Each is a task of its own that tells the core what it hears.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::Instant;

use super::chosen::{may_be_asked, turned_master};
use super::core::{Event, Own};
use super::own_redis::{Seen, Watch};
use super::sentinels::{Heard, follow};
use super::snapshot::Replica;
use super::world::World;
use crate::evidence::Role;
use crate::failover::{Endpoint, Host};
use crate::hosts;
use crate::log::{self, Level};
use crate::redis::events::{self, What};
use crate::redis::{MasterAddress, Server, redis_fault, redis_server};
use crate::report::{pair, quote};

/// How much may wait that a Sentinel, or a Redis, has said.
const QUEUE: usize = 256;

/// A Sentinel whose events are followed as long as this is kept.
pub(super) struct Followed {
    task: AbortHandle,
    is_up: Rc<Cell<bool>>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// Follows a Sentinel.
    pub(super) fn begin(world: &Rc<World>, server: Server) -> Followed {
        let is_up = Rc::new(Cell::new(false));
        let (to, mut heard) = mpsc::channel(QUEUE);
        let (world, up) = (Rc::clone(world), Rc::clone(&is_up));
        let task = spawn_local(async move {
            let pass_on = async {
                while let Some(heard) = heard.recv().await {
                    up.set(!matches!(heard, Heard::Down(_)));
                    world.tell(event(heard)).await;
                }
            };
            join(follow(server, to), pass_on).await;
        });
        Followed {
            task: task.abort_handle(),
            is_up,
        }
    }

    /// Returns whether its events arrive.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.get()
    }
}

/// Whatever may have been missed is found by asking.
fn event(heard: Heard) -> Event {
    let Heard::Event(events::Event { master, what }) = heard else {
        return Event::Changed;
    };
    match what {
        What::Promotes(to) => match endpoint(&to) {
            Some(to) => Event::Promotes(master, to),
            None => Event::Changed,
        },
        What::Aborted => Event::Aborted(master),
        What::Promoted(_) | What::Switched(_) | What::Changed => Event::Changed,
    }
}

fn endpoint(at: &MasterAddress) -> Option<Endpoint> {
    Some(Endpoint {
        host: Host::read(&at.host)?,
        port: at.port,
    })
}

/// A Redis of this host that is watched as long as this is kept.
pub(super) struct Watched {
    watch: Rc<Watch>,
    is_paused: Cell<bool>,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    /// Watches the Redis of a master at this address of this host.
    pub(super) fn begin(world: &Rc<World>, name: &str, at: SocketAddr) -> Option<Watched> {
        let master = world.config.masters.get(name)?;
        // The round of questions tells what is wrong with the files.
        let server = redis_server(&world.config, master, at).ok()?;
        let (to, mut seen) = mpsc::channel(QUEUE);
        let watch = Rc::new(Watch::begin(server, to));
        let (world, name) = (Rc::clone(world), name.to_owned());
        let task = spawn_local(async move {
            while let Some(seen) = seen.recv().await {
                let own = own(seen, at, &name);
                world.tell(Event::OwnRedis(name.clone(), at, own)).await;
            }
        });
        Some(Watched {
            watch,
            is_paused: Cell::new(false),
            task: task.abort_handle(),
        })
    }

    /// Ends a pause, if there is one, because nobody will after this.
    pub(super) async fn end_pause(&self) {
        if self.is_paused.get() {
            let _ = self.watch.unpause().await;
        }
    }

    /// Looks closely: it is being promoted.
    pub(super) fn expect(&self) {
        self.watch.expect(CLOSELY);
    }
}

/// How long a promotion is looked for closely: the leader sends it within a tick or two of its timer.
const CLOSELY: Duration = Duration::from_secs(5);

fn own(seen: Seen, at: SocketAddr, name: &str) -> Own {
    match seen.state {
        Ok(state) => {
            let online = state.replicas.iter().filter(|replica| replica.is_online);
            let lags = online.filter_map(|replica| replica.lag);
            let replicas = state.replicas.iter().map(|replica| Replica {
                at: format!("{}:{}", replica.host, replica.port),
                lag: replica.lag.map(|lag| lag.as_secs()),
                behind: state.offset.saturating_sub(replica.offset),
            });
            Own {
                acknowledged: lags.min(),
                replicas: replicas.collect(),
                offset: Some(state.offset),
                run_id: state.run_id,
                role: Ok(state.role),
            }
        }
        Err(no) => Own {
            role: Err(redis_fault(&no, at, name)),
            offset: None,
            acknowledged: None,
            replicas: Vec::new(),
            run_id: None,
        },
    }
}

impl World {
    fn watch_of(&self, name: &str, at: SocketAddr, is_paused: bool) -> Option<Rc<Watch>> {
        let watched = self.watched.borrow();
        let watched = watched.get(&(name.to_owned(), at))?;
        watched.is_paused.set(is_paused);
        Some(Rc::clone(&watched.watch))
    }

    /// Pauses writes, and tells the core whether they are.
    pub(super) async fn pause(&self, name: String, at: SocketAddr, longest: Duration) {
        let paused = match self.watch_of(&name, at, true) {
            Some(watch) => {
                let paused = watch.pause(longest).await.map_err(|no| no.to_string());
                // How many bytes it has sent by now, and no more come.
                watch.ask_now();
                paused
            }
            None => Err("its Redis is not watched".to_owned()),
        };
        if let Err(why) = &paused {
            let text = format!("writes could not be paused, so that some may be lost: {why}");
            let mut line = format!("msg={}", quote(&text));
            pair(&mut line, "master", &crate::text::escape(&name));
            log::line(Level::Warning, &line).await;
        }
        self.tell(Event::Paused(name, paused)).await;
    }

    /// Allows writes again. A pause whose end cannot be asked for ends by itself.
    pub(super) async fn unpause(&self, name: String, at: SocketAddr) {
        if let Some(watch) = self.watch_of(&name, at, false) {
            let _ = watch.unpause().await;
        }
        self.tell(Event::Unpaused(name)).await;
    }

    /// Asks a chosen replica, on another host, until it says that it is the master.
    pub(super) async fn follow_chosen(&self, name: String, to: Endpoint, left: Duration) {
        let until = Instant::now() + left;
        let Some(server) = self.chosen(&name, &to).await else {
            return;
        };
        if let Ok(promoted) = turned_master(server, until).await {
            let said = Event::Chosen(name, Role::Master, promoted.offset);
            self.tell(said).await;
        }
    }

    /// Returns how a chosen replica is asked: with the credentials only where the configuration vouches for its
    /// address.
    async fn chosen(&self, name: &str, to: &Endpoint) -> Option<Server> {
        let master = self.config.masters.get(name)?;
        let addresses: Vec<IpAddr> = hosts::addresses(&to.host).await.ok()?;
        let at = SocketAddr::new(*addresses.first()?, to.port);
        let server = redis_server(&self.config, master, at).ok()?;
        Some(match may_be_asked(&self.config, at.ip()) {
            true => server,
            false => server.without_credentials(),
        })
    }
}
