//! The old master's host asks a chosen replica on another host whether it is the master, and whether it still is, as long as
//! its promotion is not over.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::select;
use tokio::time::{Instant, sleep};

use super::chosen::{Asking, SILENT, address_may_be_asked, says, word};
use super::core::{Event, Master};
use super::world::World;
use crate::election::look::Candidate;
use crate::election::names::{self, Addresses};
use crate::election::{self, PATIENT, Request, Terms};
use crate::evidence::{Ballot, Role};
use crate::exit::{Fault, Kind};
use crate::failover::Endpoint;
use crate::redis::{Connection, Server, State, redis_server};

/// How long a chosen replica is asked every few milliseconds: the leader promotes it within a second.
const CLOSELY: Duration = Duration::from_secs(15);

/// How long a replica that may not be asked counts as promoted after it has left: a majority names it within a
/// second or two.
const UNASKED: Duration = Duration::from_secs(3);

/// How long a name server may take to tell where a replica is, and this host's Redis to tell of itself.
const LOOK_UP: Duration = Duration::from_secs(1);

/// How long ago a Sentinel may have heard of it that hears of it still: each asks every second
/// (`SENTINEL_PING_PERIOD` in sentinel.c), and it is taken for silent after 2 s.
const SEEN: Duration = Duration::from_millis(1900);

/// How often it is looked whether its promotion is over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often it is looked whether it still follows.
const LOOK: Duration = Duration::from_millis(10);

/// How often a file is looked for with what it is shown.
const LOOKS: usize = 5;

impl World {
    /// Asks a chosen replica until it says that it is the master, and then whether it still does, until its promotion is
    /// over.
    pub(super) async fn follow_chosen(&self, name: String, to: Endpoint, left: Duration) {
        let until = Instant::now() + left;
        let over = async {
            while self.core.borrow().is_promoting(&name, &to) {
                sleep(LOOK_AGAIN).await;
            }
        };
        select(pin!(self.ask_chosen_until(&name, &to, until)), pin!(over)).await;
    }

    async fn ask_chosen_until(&self, name: &str, to: &Endpoint, until: Instant) {
        let began = Instant::now();
        let mut looks = 0;
        let server = loop {
            looks += 1;
            // Its name may not be known at first.
            match self.chosen(name, to).await {
                // It may be in the midst of being replaced.
                Some(Err(_)) if looks < LOOKS => sleep(LOOK).await,
                Some(server) => break Some(server),
                None if began.elapsed() >= CLOSELY => break None,
                None => sleep(LOOK_AGAIN).await,
            }
        };
        let mut is_first = true;
        while Instant::now() < until {
            let (why, is_certain) = match &server {
                None => ("nobody knows where it is".to_owned(), false),
                Some(server) => {
                    let server = server.as_ref();
                    match self.until_silent(name, to, server, (until, is_first)).await {
                        Ok(role) => (format!("it says that it is a {}", word(&role)), true),
                        Err(why) => (why, false),
                    }
                }
            };
            is_first = false;
            // What this host alone does not see may be well, have the VIP, and be named by a majority in a moment.
            if is_certain || !self.is_seen_by_others(name, to, began).await {
                if Instant::now() < until {
                    let lost = Event::ChosenLost(name.to_owned(), to.clone(), why);
                    self.tell(lost).await;
                }
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until a chosen replica says that it is the master, and then until it does not say so any more. Returns what it
    /// says then.
    ///
    /// # Errors
    ///
    /// It says nothing, or not to this host, and why.
    async fn until_silent(
        &self,
        name: &str,
        to: &Endpoint,
        server: Result<&Server, &Fault>,
        (until, is_first): (Instant, bool),
    ) -> Result<Role, String> {
        let said = |role, had| Event::Chosen(name.to_owned(), to.clone(), role, had);
        let closely = if is_first { CLOSELY } else { Duration::ZERO };
        let said_first = match server {
            Ok(server) => {
                let said = says(server, asking(until, closely), is_master).await;
                said.map(|promotion| (server, promotion))
                    .map_err(|no| (no.to_string(), no.kind() == Kind::Permanent))
            }
            Err(why) => Err((why.to_string(), true)),
        };
        let (server, promotion) = match said_first {
            Ok(said) => said,
            Err((why, may_not_be_asked)) => {
                if may_not_be_asked && is_first {
                    // The dead master tells of no replica.
                    let longest = if self.has_died(name) { SILENT } else { CLOSELY };
                    let longest = until.min(Instant::now() + longest);
                    if self.has_left(name, to, longest).await {
                        // It has followed this host's Redis, which may call it by another name than the Sentinels.
                        self.tell(said(Role::Replica, None)).await;
                        self.tell(said(Role::Master, None)).await;
                        // It may have died as well.
                        sleep(UNASKED).await;
                    }
                }
                return Err(why);
            }
        };
        if promotion.was_replica || self.was_own_replica(name, &promotion.state).await {
            self.tell(said(Role::Replica, None)).await;
        }
        self.tell(said(Role::Master, promotion.promoted_at)).await;
        let fallen = says(server, asking(until, Duration::ZERO), |it| !is_master(it));
        let fallen = fallen.await.map_err(|no| no.to_string())?;
        Ok(fallen.state.role)
    }

    /// Returns whether a Sentinel still hears of a chosen replica, and has not heard since this moment that it follows.
    async fn is_seen_by_others(&self, name: &str, to: &Endpoint, since: Instant) -> bool {
        let ways = self.ways.borrow().get(name).cloned().unwrap_or_default();
        let known = self.core.borrow().evidence(name, self.now());
        let Some(master) = known.ballot.as_ref().and_then(Ballot::winner) else {
            return false;
        };
        let request = Request {
            name,
            master,
            ways: &ways,
            terms: Terms::default(),
            step: PATIENT,
        };
        let looked = election::look(&request, &self.lines).await;
        let looks = || looked.looks.iter().flatten();
        let at = to.to_string();
        let all: Vec<&Candidate> = looks().flat_map(|look| &look.replicas).collect();
        let named = all.iter().map(|it| &it.at).chain([&at]);
        let addresses = Addresses::of(named, (&self.lines.names, LOOK_UP)).await;
        let it = || all.iter().filter(|one| addresses.are_same(&one.at, &at));
        let follows = it().any(|one| one.follows && one.told < since.elapsed());
        let answers = it().any(|one| one.answered < SEEN) || looks().any(|look| !look.names_it);
        answers && !follows
    }

    /// Returns whether the master of this host has died, as far as is known.
    fn has_died(&self, name: &str) -> bool {
        let core = self.core.borrow();
        core.master(name).is_some_and(Master::has_to_let_go)
    }

    /// Returns whether a Redis that says master was the replica of one of this host until then: an agent that is started
    /// in the midst of a failover sees it only when it is the master already.
    async fn was_own_replica(&self, name: &str, state: &State) -> bool {
        let config = self.config();
        let Some(master) = config.masters.get(name) else {
            return false;
        };
        let own: Vec<SocketAddr> = {
            let watched = self.watched.borrow();
            let own = watched.keys().filter(|(of, _)| of == name);
            own.map(|(_, at)| *at).collect()
        };
        let until = Instant::now() + LOOK_UP;
        for at in own {
            if let Ok(server) = redis_server(&config, master, at)
                && let Ok(mut connection) = Connection::open(&server, until).await
                && let Ok(own) = State::ask(&mut connection, None, until).await
                && state.was_replica_of(&own)
            {
                return true;
            }
        }
        false
    }

    /// Waits until a replica that may not be asked follows this host's master no more: its promotion ends that. It may
    /// have died as well; then the VIP comes back as soon as a majority says so. Returns whether it came to that.
    async fn has_left(&self, name: &str, to: &Endpoint, until: Instant) -> bool {
        let at = to.to_string();
        let by = (&self.lines.names, LOOK_UP);
        // The Redis of this host may know it by another name than the Sentinels.
        let mut addresses = Addresses::of(std::iter::once(&at), by).await;
        let mut followed = false;
        while Instant::now() < until {
            for (key, watched) in self.watched.borrow().iter() {
                if key.0 == name {
                    watched.expect();
                }
            }
            let replicas: Vec<String> = {
                let core = self.core.borrow();
                let master = core.master(name).into_iter();
                let own = master.flat_map(|master| master.own.values());
                let replicas = own.flat_map(|own| &own.replicas);
                replicas.map(|replica| replica.at.clone()).collect()
            };
            let named = replicas.iter().filter_map(|at| names::read(at));
            addresses.learn(named, by).await;
            let follows = replicas.iter().any(|one| addresses.are_same(one, &at));
            if followed && !follows {
                return true;
            }
            followed |= follows;
            sleep(LOOK).await;
        }
        false
    }

    /// Returns how a chosen replica is asked: with the credentials only where it is watched on this host, or where the
    /// configuration vouches for its address. `Err` where what it would be shown cannot be read: the file of the password was
    /// removed since the agent connected to this host's Redis.
    async fn chosen(&self, name: &str, to: &Endpoint) -> Option<Result<Server, Fault>> {
        let config = self.config();
        let master = config.masters.get(name)?;
        let known = self.core.borrow().evidence(name, self.now());
        let chosen = known
            .promotion
            .as_ref()
            .filter(|promotion| promotion.to.endpoint == *to);
        if let Some(chosen) = chosen
            && let Some(own) = known.own(&chosen.to)
        {
            return Some(redis_server(&config, master, own.at));
        }
        let names = &self.lines.names;
        let addresses: Vec<IpAddr> = names.look_up(&to.host, LOOK_UP).await.ok()?;
        let servers = addresses.into_iter().map(|address| {
            let server = redis_server(&config, master, SocketAddr::new(address, to.port))?;
            Ok(match address_may_be_asked(&config, master, address) {
                true => server,
                false => server.without_credentials(),
            })
        });
        let servers: Result<Vec<Server>, Fault> = servers.collect();
        let mut servers = match servers {
            Ok(servers) => servers,
            Err(why) => return Some(Err(why)),
        };
        // Redis may listen on the addresses of one family only. Where there is one there is nothing to find out.
        if servers.len() > 1 {
            for place in 0..servers.len() {
                let until = Instant::now() + LOOK_AGAIN;
                if Connection::open(&servers[place], until).await.is_ok() {
                    return Some(Ok(servers.swap_remove(place)));
                }
            }
        }
        servers.into_iter().next().map(Ok)
    }
}

fn is_master(role: &Role) -> bool {
    *role == Role::Master
}

/// Returns how a chosen replica is asked, at first so long closely.
fn asking(until: Instant, closely: Duration) -> Asking {
    Asking {
        until,
        closely,
        gives_up: true,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;

    use super::*;
    use crate::agent::core::Own;
    use crate::agent::progress::Progress;
    use crate::agent::snapshot::Replica;
    use crate::config;
    use crate::failover::Host;

    /// Much longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    const M: &str = "m";

    /// What the Redis of this host says, which these follow.
    fn followed_by(replicas: &[String]) -> Event {
        let replicas = replicas.iter().map(|at| Replica {
            at: at.clone(),
            lag: Some(0),
            behind: 0,
            online: true,
        });
        let own = Own {
            role: Ok(Role::Master),
            offset: None,
            acknowledged: None,
            replicas: replicas.collect(),
            run_id: None,
            is_gone: false,
        };
        Event::OwnRedis(M.into(), ([192, 0, 2, 1], 6379).into(), own)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_may_not_be_asked_and_has_left_was_a_replica_by_whatever_name() {
        let looked = async {
            let chosen = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = chosen.local_addr().unwrap().port();
            spawn_local(async move {
                while let Ok((mut stream, _)) = chosen.accept().await {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream
                        .write_all(b"-NOAUTH x\r\n-NOAUTH x\r\n-NOAUTH x\r\n")
                        .await;
                }
            });
            let text = format!("[masters.{M}]\nvip = '192.0.2.250/24'\n");
            let config = Rc::new(config::parse(&text, Path::new("/x")).unwrap());
            let began = std::time::Instant::now();
            let progress = Rc::new(Progress::new(began));
            let (to, mut events) = mpsc::channel(16);
            let world = Rc::new(World::new(config, (began, progress), to).unwrap());
            // As the Sentinels name it, and as its master does.
            let to = Endpoint {
                host: Host::Address([127, 0, 0, 1].into()),
                port,
            };
            world.take(Event::Promotes(M.into(), to.clone(), "a leader".into()));
            let asks = Rc::clone(&world);
            spawn_local(async move { asks.follow_chosen(M.into(), to, PATIENCE).await });
            let mut said = Vec::new();
            // On a busy machine it may not have been looked at while it was there.
            while said.last() != Some(&Role::Master) {
                world.take(followed_by(&[format!("localhost:{port}")]));
                sleep(LOOK * 50).await;
                world.take(followed_by(&[]));
                while let Ok(Some(event)) = timeout(LOOK * 50, events.recv()).await {
                    if let Event::Chosen(_, _, role, None) = event {
                        said.push(role);
                    }
                }
            }
            said
        };
        let looked = timeout(PATIENCE, looked);
        let said = LocalSet::new().run_until(looked).await.unwrap();
        assert_eq!(said, [Role::Replica, Role::Master]);
    }
}
