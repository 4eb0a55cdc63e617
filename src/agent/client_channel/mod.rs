//! The channel between the agents of a master's hosts on which the VIP's holder publishes who is connected to it.
//! Replication carries it: each agent talks to the Redis of its own host only. And what a new holder does with what
//! it has heard.

mod listener;
mod orphans;
mod speaker;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

pub(super) use self::listener::message;
use super::clients::{MOST, Peer, RIGHTS, WITHOUT_LIST};
use super::core::Stands;
use super::journal::say_of;
use super::world::World;
use crate::few;
use crate::kernel;
use crate::log::Level;
use crate::redis::{NoAnswer, Server, redis_server};

/// How often the holder looks who is connected.
const TICK: Duration = Duration::from_secs(1);

/// How many connections of a VIP are looked at: of twice as many as are published the same ones are published every
/// second.
const LOOKED_AT: usize = 2 * MOST;

/// A master's name, and where its Redis is on this host.
type Key = (String, SocketAddr);

/// The clients of each VIP, by the VIP.
type Clients = BTreeMap<IpAddr, Rc<Vec<Peer>>>;

/// A task that ends when this is dropped.
pub(super) struct Running(pub(super) JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who speaks on the channel, and who listens.
#[derive(Default)]
struct Staff {
    listeners: BTreeMap<Key, Running>,
    speakers: BTreeMap<Key, (mpsc::Sender<Clients>, Running)>,
}

/// Publishes the clients of the VIPs that are here, and listens to who has the others, for ever.
pub(super) async fn work(world: Rc<World>) {
    let masters = &world.config.masters;
    if !masters.values().any(|master| master.tell_clients) {
        return;
    }
    let mut staff = Staff::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        staff.adapt(&world);
        staff.speak(&world).await;
    }
}

impl Staff {
    /// Has a speaker for each Redis of this host whose VIPs are here, and a listener for each other one.
    fn adapt(&mut self, world: &Rc<World>) {
        let (mut here, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
        for key in world.watched.borrow().keys() {
            let master = world.config.masters.get(&key.0);
            if !master.is_some_and(|master| master.tell_clients) {
                continue;
            }
            let core = world.core.borrow();
            let stands = core.master(&key.0).and_then(|master| master.stands());
            match stands {
                Some(Stands::Here) => here.insert(key.clone()),
                Some(Stands::Elsewhere) | None => elsewhere.insert(key.clone()),
            };
        }
        // One that was refused has ended, and begins anew with what the files say by then.
        let goes_on = |running: &Running| !running.0.is_finished();
        (self.speakers).retain(|key, (_, running)| here.contains(key) && goes_on(running));
        (self.listeners).retain(|key, running| elsewhere.contains(key) && goes_on(running));
        for key in here {
            if !self.speakers.contains_key(&key)
                && let Some(server) = server(world, &key)
            {
                // One second's clients at a time: while Redis does not answer, the next ones are not published.
                let (to, clients) = mpsc::channel(1);
                let work = speaker::publish(Rc::clone(world), server, key.clone(), clients);
                self.speakers.insert(key, (to, Running(spawn_local(work))));
            }
        }
        for key in elsewhere {
            if !self.listeners.contains_key(&key)
                && let Some(server) = server(world, &key)
            {
                let work = listener::listen(Rc::clone(world), server, key.clone());
                self.listeners.insert(key, Running(spawn_local(work)));
            }
        }
    }

    /// Looks who is connected, once for all masters, and hands it to those who publish it.
    async fn speak(&self, world: &World) {
        if self.speakers.is_empty() {
            return;
        }
        let mut clients: BTreeMap<SocketAddr, Vec<Peer>> = BTreeMap::new();
        for (name, at) in self.speakers.keys() {
            let local = vips(world, name).map(|vip| (SocketAddr::new(vip, at.port()), Vec::new()));
            clients.extend(local);
        }
        let ends: Vec<SocketAddr> = clients.keys().copied().collect();
        let listed = kernel::peers(&ends, |local, peer| {
            if let Some(of) = clients.get_mut(&local).filter(|of| of.len() < LOOKED_AT) {
                of.push(Peer::new(peer));
            }
        });
        // What cannot be listed now is not gone by that.
        if listed.await.is_err() {
            return;
        }
        let clients = clients.into_iter().map(|(local, of)| (local, Rc::new(of)));
        let clients: BTreeMap<SocketAddr, Rc<Vec<Peer>>> = few::map(clients);
        for ((name, at), (to, _)) in &self.speakers {
            let of = |vip: IpAddr| {
                let local = SocketAddr::new(vip, at.port());
                (vip, clients.get(&local).map(Rc::clone).unwrap_or_default())
            };
            // Where there is no room Redis does not answer.
            let _ = to.try_send(vips(world, name).map(of).collect());
        }
    }
}

/// Returns the VIPs of a master.
fn vips(world: &World, name: &str) -> impl Iterator<Item = IpAddr> {
    let master = world.config.masters.get(name);
    let vips = master.into_iter().flat_map(|master| &master.vips);
    vips.map(|vip| vip.address)
}

/// Returns how a Redis of this host is asked. What is wrong with the files the round of questions tells.
fn server(world: &World, (name, at): &Key) -> Option<Server> {
    let master = world.config.masters.get(name)?;
    redis_server(&world.config, master, *at).ok()
}

/// Writes to the log, once for each master, that its Redis does not let the agent use the channel. What is wrong with
/// the Redis itself its watch tells.
async fn complain(world: &World, (name, _): &Key, no: &NoAnswer) {
    let Some(remedy) = remedy(no) else { return };
    if !world.without_channel.borrow_mut().insert(name.clone()) {
        return;
    }
    let sentence =
        format!("{WITHOUT_LIST}: {no}. {remedy}, or `tell_clients = false` set for this master.");
    say_of(name, Level::Warning, &sentence).await;
}

/// Returns what is to be done about a refusal, after which another try is of no use for a while.
fn remedy(no: &NoAnswer) -> Option<String> {
    match no {
        NoAnswer::NotAllowed(_) => Some(format!("The redis_username needs {RIGHTS} there")),
        NoAnswer::UnknownCommand(_) => {
            Some("PUBLISH and SUBSCRIBE must have their own names there (rename-command)".into())
        }
        _ => None,
    }
}
