//! A configuration that is read again. What it does not change is not touched, whatever goes on: connections, pauses,
//! elections, and what is known. What it changes is replaced so that no event is lost between the two.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use tokio::time::sleep;

use super::NO_MASTERS;
use super::core::Event;
use super::journal::say;
use super::world::{LAST_DUTY, World, settings};
use crate::config::{self, Config};
use crate::log::Level;
use crate::redis::redis_server;
use crate::vip::Vip;

/// The pause after each time: of all that ask for it meanwhile the last one counts.
const APART: Duration = Duration::from_secs(1);

/// Reads the configuration again whenever that is `asked` for. A broken one changes nothing.
pub(super) async fn work(
    world: Rc<World>,
    path: PathBuf,
    mut asked: impl Stream<Item = ()> + Unpin,
) {
    while asked.next().await.is_some() {
        world.read_again(&path).await;
        sleep(APART).await;
    }
}

/// Returns all that an announcement of each VIP is about.
fn announced(
    config: &Config,
) -> impl Iterator<Item = (&String, Vip, &Option<String>, &Vec<IpAddr>)> {
    config.masters.iter().flat_map(|(name, master)| {
        let vips = master.vips.iter();
        vips.map(move |vip| (name, *vip, &master.interface, &master.announce_to))
    })
}

/// Returns why files that a configuration names cannot be used, each once.
fn unusable(config: &Config) -> BTreeSet<String> {
    let nowhere = SocketAddr::from(([0; 4], 0));
    let of_redis = config.masters.values();
    let of_redis = of_redis.filter_map(|master| redis_server(config, master, nowhere).err());
    let of_sentinel = config.sentinel.password.as_ref();
    let of_sentinel = of_sentinel.and_then(|password| password.read().err());
    let all = of_redis.chain(of_sentinel);
    all.map(|fault| fault.to_string()).collect()
}

impl World {
    async fn read_again(&self, path: &Path) {
        match config::load(path, &NO_MASTERS, Instant::now()).await {
            Ok(config) => {
                say(Level::Notice, "the configuration was read again").await;
                for fault in unusable(&config) {
                    let text = format!("what was read before goes on in its place: {fault}");
                    say(Level::Warning, &text).await;
                }
                let since = self.wanted.take().map(|(_, until)| until);
                let until = since.unwrap_or(self.now() + LAST_DUTY);
                self.wanted.replace(Some((Rc::new(config), until)));
                self.tell(Event::Woke).await;
            }
            Err(fault) => {
                let text = format!("the configuration stays as it was: {fault}");
                say(Level::Error, &text).await;
            }
        }
    }

    /// Uses a configuration that was read again, once no failover goes on of a master that it does not have, or has with
    /// other VIPs: writes that are paused for that would reach the old master again, and be lost.
    pub(super) fn use_wanted(self: &Rc<Self>) {
        let may_be = |(config, until): &mut (Rc<Config>, _)| {
            let now = self.config();
            let vips = |of: &Config, name: &str| of.masters.get(name).map(|it| it.vips.clone());
            let keeps = |name: &str| vips(config, name) == vips(&now, name);
            self.now() >= *until || !self.core.borrow().is_busy_beside(keeps)
        };
        let wanted = self.wanted.borrow_mut().take_if(may_be);
        if let Some((config, _)) = wanted {
            // Passwords and certificates may be others in the same files.
            self.reloads.set(self.reloads.get() + 1);
            let before = self.configured.replace(Rc::clone(&config));
            if before != config {
                self.adapt(&before, &config);
            }
            let is_other = |name: &&String| before.masters.get(*name) != config.masters.get(*name);
            let has_failed = |name: &&String| {
                let core = self.core.borrow();
                let master = core.master(name);
                master.is_some_and(|master| master.failed().is_some())
            };
            // What has failed is tried again at once: it may be what was mended.
            let names = config.masters.keys();
            let names = names.filter(|name| is_other(name) || has_failed(name));
            self.take(Event::Look(names.cloned().collect()));
        }
    }

    fn adapt(&self, before: &Config, now: &Config) {
        let is_new = |name: &&String| !before.masters.contains_key(*name);
        self.core.borrow_mut().configure(settings(now).collect());
        self.recall(now.masters.keys().filter(is_new));
        let gone = before.masters.keys();
        gone.filter(|name| !now.masters.contains_key(*name))
            .for_each(|name| self.forget(name));
        self.engine.know(now.vips().map(|vip| vip.address));
        for one in announced(before).filter(|one| !announced(now).any(|other| other == *one)) {
            self.announcers.stop(one.1.address);
        }
        let is_used = |vip: &IpAddr| now.vips().any(|used| used.address == *vip);
        self.answers.borrow_mut().retain(|vip, _| is_used(vip));
        let over = before.vips().map(|vip| vip.address);
        over.filter(|vip| !is_used(vip)).for_each(|vip| {
            self.clients.borrow_mut().take(vip);
        });
        self.announcers.announce_every(now.agent.announce_every);
        self.reloaded.notify_waiters();
    }

    /// Goes on with what an earlier agent of this host has kept of these masters.
    pub(super) fn recall<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let mut core = self.core.borrow_mut();
        for name in names {
            self.orders.recall(name, &mut core);
            super::last_failovers::recall(name, &mut core, self.now());
            self.maintenance.recall(name, &mut core, self.now());
        }
    }

    /// Ends all that goes on about a master that the configuration does not have any more. What was kept of it for the
    /// next agent stays.
    fn forget(&self, name: &str) {
        let asks = self.asks.borrow_mut().remove(name);
        let refusing = self.refusing.borrow_mut().remove(name);
        let tasks = asks.into_iter().chain(refusing);
        tasks.for_each(|task| task.abort());
        self.ways.borrow_mut().remove(name);
        self.commands_of.forget(name);
        self.run_ids.borrow_mut().remove(name);
        self.without_channel.borrow_mut().remove(name);
        let mut watched = self.watched.borrow_mut();
        let over = watched.keys().filter(|(of, _)| of == name);
        let over: Vec<_> = over.cloned().collect();
        for watched in over.iter().filter_map(|key| watched.remove(key)) {
            tokio::task::spawn_local(async move { watched.end_pause().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::agent::core::Time;
    use crate::agent::progress::Progress;
    use crate::failover::{Endpoint, Host};

    fn config(name: &str, vip: &str) -> Rc<Config> {
        let text = format!("[masters.{name}]\nvip = '{vip}'\n");
        Rc::new(config::parse(&text, Path::new("/x")).unwrap())
    }

    fn names(world: &World) -> Vec<String> {
        let core = world.core.borrow();
        core.masters().map(|master| master.name.clone()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_failover_outlives_each_reload_that_has_its_master_and_vips_and_holds_up_any_other() {
        let looked = async {
            let began = Instant::now();
            let progress = Rc::new(Progress::new(began));
            let (to, _events) = mpsc::channel(64);
            let (vip, other) = ("192.0.2.250/24", "192.0.2.251/24");
            let world = World::new(config("m", vip), (began, progress), to);
            let world = Rc::new(world.unwrap());
            let to = Endpoint {
                host: Host::Address("192.0.2.2".parse().unwrap()),
                port: 6379,
            };
            world.take(Event::Promotes("m".into(), to, "192.0.2.3:26379".into()));
            let reload = |config: Rc<Config>, until: Time| {
                world.wanted.replace(Some((config, until)));
                world.use_wanted();
                (names(&world), world.core.borrow().is_busy())
            };
            let kept = (vec!["m".to_owned()], true);
            assert_eq!(reload(config("m", vip), Time::MAX), kept);
            for later in [config("n", vip), config("m", other)] {
                assert_eq!(reload(later, Time::MAX), kept);
                assert_eq!(world.config(), config("m", vip));
                assert_eq!(world.reloads.get(), 1);
            }
            // It is waited for as long as that may take.
            let gone = (vec!["n".to_owned()], false);
            assert_eq!(reload(config("n", vip), Time::ZERO), gone);
            assert_eq!(world.config(), config("n", vip));
            assert_eq!(world.reloads.get(), 2);
        };
        LocalSet::new().run_until(looked).await;
    }
}
