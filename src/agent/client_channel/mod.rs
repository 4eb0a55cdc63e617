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
use super::credentials::Shown;
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
pub(super) type Key = (String, SocketAddr);

/// The clients of each VIP, by the VIP.
type Clients = BTreeMap<IpAddr, Rc<Vec<Peer>>>;

/// A task about a Redis of this host, which ends when this is dropped.
pub(super) struct Running {
    task: JoinHandle<()>,
    shown: Shown,
    vips: Vec<IpAddr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Begins the `work` with a Redis, where the files can be used. What is wrong with them the round of questions tells.
    pub(super) fn begin<F: Future<Output = ()> + 'static>(
        (world, key): (&World, &Key),
        work: impl FnOnce(Server) -> F,
    ) -> Option<Running> {
        let server = server(world, key)?;
        Some(Running {
            shown: Shown::new(server.clone(), world.reloads.get()),
            vips: vips(world, &key.0),
            task: spawn_local(work(server)),
        })
    }

    /// Returns whether it goes on. One that was refused has ended, and begins anew with what the files say by then; and so
    /// does one about which the configuration, or a file of its, says something else since it was read again.
    pub(super) fn goes_on(&self, world: &World, key: &Key) -> bool {
        let reloads = world.reloads.get();
        let holds =
            |now: Server| self.shown.holds(&now, reloads) && self.vips == vips(world, &key.0);
        !self.task.is_finished()
            && (self.shown.is_current(reloads) || server(world, key).is_none_or(holds))
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
        let config = world.config();
        for key in world.watched.borrow().keys() {
            let master = config.masters.get(&key.0);
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
        let goes_on = |key: &Key, running: &Running| running.goes_on(world, key);
        (self.speakers).retain(|key, (_, running)| here.contains(key) && goes_on(key, running));
        (self.listeners).retain(|key, running| elsewhere.contains(key) && goes_on(key, running));
        for key in here {
            if !self.speakers.contains_key(&key) {
                // One second's clients at a time: while Redis does not answer, the next ones are not published.
                let (to, clients) = mpsc::channel(1);
                let work =
                    |server| speaker::publish(Rc::clone(world), server, key.clone(), clients);
                let running = Running::begin((world, &key), work);
                self.speakers.extend(running.map(|it| (key, (to, it))));
            }
        }
        for key in elsewhere {
            if !self.listeners.contains_key(&key) {
                let work = |server| listener::listen(Rc::clone(world), server, key.clone());
                let running = Running::begin((world, &key), work);
                self.listeners.extend(running.map(|it| (key, it)));
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
            let local = vips(world, name).into_iter();
            let local = local.map(|vip| (SocketAddr::new(vip, at.port()), Vec::new()));
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
            let _ = to.try_send(vips(world, name).into_iter().map(of).collect());
        }
    }
}

/// Returns the VIPs of a master.
fn vips(world: &World, name: &str) -> Vec<IpAddr> {
    let config = world.config();
    let master = config.masters.get(name);
    let vips = master.into_iter().flat_map(|master| &master.vips);
    vips.map(|vip| vip.address).collect()
}

/// Returns how a Redis of this host is asked, where the files can be used.
fn server(world: &World, (name, at): &Key) -> Option<Server> {
    let config = world.config();
    let master = config.masters.get(name)?;
    redis_server(&config, master, *at).ok()
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
