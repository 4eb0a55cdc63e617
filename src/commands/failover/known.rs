//! What is looked at before a planned failover: the Sentinels, the master's Redis and its replicas, this host's agent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::rules;
use crate::agent::chosen::address_may_be_asked;
use crate::agent::sign::{self, Sign};
use crate::agent::snapshot;
use crate::cli::Options;
use crate::commands::with_agent;
use crate::config::Config;
use crate::election::look::Vote;
use crate::election::names;
use crate::election::{self, Looked, NOTHING_CAME, Request, Terms};
use crate::evidence::{Ballot, Evidence, Site};
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::gather::remembered::Memory;
use crate::gather::sites::endpoint;
use crate::gather::{self, Patience, Poll};
use crate::hosts;
use crate::hosts::Kept;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{
    self, Connection, Lines, May, Replica, Server, State, redis_fault, redis_server,
};

/// How long a Redis may take to tell of itself.
const REDIS: Duration = Duration::from_secs(1);

/// How long is waited until the replicas have acknowledged what the master had at first: they do so each second
/// (`replicationCron` in replication.c).
const CATCH_UP: Duration = Duration::from_millis(2500);

/// How long an agent may take until it is connected to a Redis that has ended its connections.
const CONNECTS: Duration = Duration::from_secs(2);

/// How long the end of another failover is waited for: its leader learns from INFO, once a second, that the replicas
/// follow (`sentinelFailoverReconfNextSlave` in sentinel.c). One of which nothing comes takes `failover-timeout`.
pub(super) const OTHER_ENDS: Duration = Duration::from_secs(10);

/// How often is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known before.
pub(super) struct Known {
    /// What the Sentinels said, and how each is asked.
    pub(super) poll: Poll,
    /// The master that a majority names.
    pub(super) master: Site,
    /// Who names it, in words.
    pub(super) ballot: String,
    /// How many Sentinels must agree.
    needed: usize,
    /// How the master's Redis is asked, where its address is known.
    pub(super) way: Option<Server>,
    /// Whether the configuration vouches for where that is.
    is_vouched_for: bool,
    /// What it says of itself, or why it says nothing.
    pub(super) state: Result<State, Fault>,
    /// Votes of which nothing has come.
    pub(super) over: Vec<Vote>,
    /// The replicas that have caught up, as the Sentinels name them.
    pub(super) near: Vec<String>,
    /// What each Sentinel says.
    pub(super) looked: Looked,
    /// The addresses of the master's host.
    leaving: Vec<IpAddr>,
    /// What this host's agent knows of this master.
    pub(super) agent: Option<snapshot::Master>,
    /// Whether it does not hear a Sentinel that answers it.
    is_deaf: bool,
    /// Whether the master's host has an agent.
    sign: Sign,
    /// Whether any host has.
    pub(super) has_agents: bool,
    /// Whether writes may be paused at the master.
    write_pause: May,
}

impl Known {
    /// Looks at all of it.
    ///
    /// # Errors
    ///
    /// No majority of the Sentinels, files that cannot be used.
    pub(super) async fn gather(
        (config, name): (&Config, &str),
        options: &Options,
        (lines, netlink): (&Lines, &Netlink),
    ) -> Result<Known, Fault> {
        let memory = Memory::read();
        let mut polls = gather::poll(config, &[name], &memory, Patience::Full, lines).await?;
        let poll = polls.remove(0)?;
        let snapshot = Snapshot::new(netlink);
        let on = (lines, &snapshot);
        let said = gather::master_of(config, lines, name, Patience::Full.one_answer());
        let evidence = gather::of_poll(config, name, &poll, Duration::ZERO, said, on).await?;
        let ballot = evidence.ballot.clone().unwrap_or_default();
        let master = winner(&ballot)?;
        let way = way(config, name, (&master, &evidence))?;
        let of = config.master(name)?;
        let mut addresses = master.addresses.iter();
        let may_be_asked = |address: &IpAddr| address_may_be_asked(config, of, *address);
        let is_vouched_for = evidence.own(&master).is_some() || addresses.any(may_be_asked);
        let told = with_agent::known(&[name.to_owned()], options).await;
        let mut known = Known {
            poll,
            ballot: ballot.to_string(),
            needed: ballot.needed(),
            way,
            is_vouched_for,
            state: Err(Fault::passing(format!(
                "the address of {} is not known",
                master.endpoint
            ))),
            over: Vec::new(),
            near: Vec::new(),
            looked: Looked::default(),
            leaving: Vec::new(),
            is_deaf: told
                .as_ref()
                .is_some_and(|it| it.unheard().next().is_some()),
            agent: told.and_then(|it| of_master(it, name)),
            sign: Sign::Untold("the master does not answer".into()),
            has_agents: false,
            write_pause: May::Untold,
            master,
        };
        let ways = known.poll.ways();
        known.leaving = election::leaving(&known.master, ways, config, netlink).await;
        known.looked = election::look(&known.request(name, None), lines).await;
        if let Some(way) = known.way.clone() {
            let (state, near) = known.caught_up(&way, name).await;
            (known.state, known.near) = (state, near);
        }
        known.look_for_agents((config, name)).await;
        Ok(known)
    }

    /// Returns the election that is to be held, with these replicas as the only ones that may be promoted.
    pub(super) fn request<'a>(&'a self, name: &'a str, near: Option<Vec<String>>) -> Request<'a> {
        Request {
            name,
            master: &self.master,
            ways: self.poll.ways(),
            terms: Terms {
                needed: self.needed,
                leaving: self.leaving.clone(),
                is_here: self.master.is_here(),
                near,
                ahead: None,
                over: self.over.clone(),
                stood: Vec::new(),
                taken: 0,
            },
            step: election::PATIENT,
        }
    }

    /// Waits whether a failover comes of votes in this epoch. Where none does they are over.
    pub(super) async fn outwait(&mut self, name: &str, epoch: u64, lines: &Lines) {
        let votes = self.looked.looks.iter().flatten();
        let votes: Vec<Vote> = votes.map(|look| look.vote.clone()).collect();
        let until = Instant::now() + NOTHING_CAME;
        while Instant::now() < until {
            sleep(PAUSE).await;
            self.looked = election::look(&self.request(name, None), lines).await;
            let looks = self.looked.looks.iter().flatten();
            let newest = looks
                .map(|look| look.vote.epoch.max(look.config_epoch))
                .max();
            if newest.is_some_and(|newest| newest > epoch) || self.has_begun() {
                return;
            }
        }
        self.over = votes;
    }

    /// Returns the epoch of the newest failover that a Sentinel knows.
    pub(super) async fn newest_epoch(&self, name: &str, lines: &Lines) -> Option<u64> {
        let looked = election::look(&self.request(name, None), lines).await;
        let looks = looked.looks.iter().flatten();
        looks.map(|look| look.config_epoch).max()
    }

    /// Waits for the end of the failover that goes on.
    pub(super) async fn outwait_other(&mut self, name: &str, most: Duration, lines: &Lines) {
        let until = Instant::now() + most;
        while self.has_begun() && Instant::now() < until {
            sleep(PAUSE).await;
            self.looked = election::look(&self.request(name, None), lines).await;
        }
    }

    /// Returns whether a Sentinel says that a failover goes on.
    pub(super) fn has_begun(&self) -> bool {
        goes_on(&self.looked)
    }

    /// Returns whether another failover has begun, or has ended, since the Sentinels were looked at.
    pub(super) async fn is_overtaken(&self, name: &str, lines: &Lines) -> bool {
        let now = election::look(&self.request(name, None), lines).await;
        goes_on(&now) || now.looks.iter().flatten().any(|look| !look.names_it)
    }

    /// Returns the same for the rules.
    pub(super) fn of_redis(&self, now: bool) -> rules::Known<'_> {
        rules::Known {
            state: self.state.as_ref(),
            near: &self.near,
            sign: &self.sign,
            has_agents: self.has_agents,
            write_pause: &self.write_pause,
            is_here: self.master.is_here(),
            is_vouched_for: self.is_vouched_for,
            now,
            down_after: self.poll.soonest_down(),
        }
    }

    /// Looks which hosts have an agent, and whether writes may be paused.
    async fn look_for_agents(&mut self, (config, name): (&Config, &str)) {
        if let Some(way) = &self.way {
            self.write_pause = redis::rights(way, &[], REDIS).await.pause;
            self.sign = sign::look(way, REDIS).await;
        }
        if let Some(agent) = self.agent.as_ref().filter(|_| self.master.is_here()) {
            // It may be too busy with clients to be asked, and what matters is what it hears.
            let hears = agent.redis.iter().any(|redis| redis.role == "master");
            self.sign = match hears && !self.is_deaf {
                true => Sign::There,
                false => Sign::Silent,
            };
        }
        let is_seen = matches!(self.sign, Sign::There | Sign::Silent);
        self.has_agents = self.agent.is_some() || is_seen;
        if !self.has_agents {
            let each = self.looked.replicas().into_iter().map(async |at| {
                let way = way_to(config, name, &names::read(&at)?).await?;
                Some(sign::look(&way, REDIS).await == Sign::There)
            });
            self.has_agents = join_all(each).await.contains(&Some(true));
        }
        if let Some(way) = &self.way
            && self.sign == Sign::Absent
        {
            self.sign = self.sign_of(way).await;
        }
    }

    /// Looks at a Redis whether its host has an agent. After a failover, or where it was just started, one needs a moment
    /// until it is connected.
    async fn sign_of(&self, way: &Server) -> Sign {
        let until = Instant::now() + CONNECTS;
        loop {
            let sign = sign::look(way, REDIS).await;
            if sign != Sign::Absent || !self.has_agents || Instant::now() >= until {
                return sign;
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks at a Redis on any host whether that has an agent.
    pub(super) async fn sign_at(&self, (config, name): (&Config, &str), at: &Endpoint) -> Sign {
        match way_to(config, name, at).await {
            Some(way) => self.sign_of(&way).await,
            None => Sign::Untold("its address is not known".into()),
        }
    }

    /// Asks the master until every replica has acknowledged what it had at first, or the time is over. Returns what it
    /// said last, and which replicas have.
    async fn caught_up(&self, way: &Server, name: &str) -> (Result<State, Fault>, Vec<String>) {
        let began = Instant::now();
        let mut first: Option<State> = None;
        loop {
            let until = Instant::now() + REDIS;
            let state = match tell(way, until).await {
                Ok(state) => state,
                Err(no) => {
                    let fault = redis_fault(&no, &self.master.endpoint, name);
                    return (Err(fault), Vec::new());
                }
            };
            let at_first = first.get_or_insert_with(|| state.clone()).offset;
            let has_it = |one: &&Replica| one.has_data() && one.offset >= at_first;
            let near: Vec<&Replica> = state.replicas.iter().filter(has_it).collect();
            let is_over = began.elapsed() >= CATCH_UP;
            if is_over || near.len() == state.replicas.len() && !near.is_empty() {
                let near = self.named(&near).await;
                return (Ok(state), near);
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns how the Sentinels name these replicas of the master.
    async fn named(&self, replicas: &[&Replica]) -> Vec<String> {
        let these = replicas.iter().filter_map(|one| {
            let at = endpoint(&one.host, one.port).ok()?;
            Some(at.to_string())
        });
        let these: Vec<String> = these.collect();
        names::as_named(&these, &self.looked.replicas(), (&Kept::default(), REDIS)).await
    }

    /// Returns how a replica stands, by the Sentinels' name for it.
    pub(super) async fn heir(&self, (config, name): (&Config, &str), replica: &str) -> rules::Heir {
        let until = Instant::now() + REDIS;
        let Some(way) = &self.way else {
            return rules::Heir::default();
        };
        let Ok(master) = tell(way, until).await else {
            return rules::Heir::default();
        };
        let connected: Vec<&Replica> = master.replicas.iter().filter(|it| it.has_data()).collect();
        let is_connected = self.named(&connected).await.iter().any(|it| it == replica);
        let lacks = async {
            let other = way_to(config, name, &names::read(replica)?).await?;
            let follows = tell(&other, until).await.ok()?.follows?;
            Some(master.offset.saturating_sub(follows.offset))
        };
        rules::Heir {
            is_connected: Some(is_connected),
            lacks: lacks.await,
        }
    }
}

fn goes_on(looked: &Looked) -> bool {
    let mut flags = looked.looks.iter().flatten().flat_map(|look| &look.flags);
    flags.any(|flag| flag == "failover_in_progress")
}

/// Returns the master that a majority names.
pub(super) fn winner(ballot: &Ballot) -> Result<Site, Fault> {
    ballot.winner().cloned().ok_or_else(|| {
        let text = format!("no majority of the Sentinels names a master: {ballot}");
        Fault::passing(text).remedy("Look at the Sentinels: vipswitch status")
    })
}

/// Returns how the master's Redis is asked: on this host where it listens, elsewhere with the credentials only where
/// the configuration vouches for its address.
fn way(
    config: &Config,
    name: &str,
    (master, known): (&Site, &Evidence),
) -> Result<Option<Server>, Fault> {
    let of = config.master(name)?;
    if let Some(own) = known.own(master) {
        return redis_server(config, of, own.at).map(Some);
    }
    let Some(address) = master.addresses.first() else {
        return Ok(None);
    };
    let server = redis_server(config, of, SocketAddr::new(*address, master.endpoint.port))?;
    Ok(Some(match address_may_be_asked(config, of, *address) {
        true => server,
        false => server.without_credentials(),
    }))
}

/// Returns how a replica on any host is asked.
pub(super) async fn way_to(config: &Config, name: &str, at: &Endpoint) -> Option<Server> {
    let of = config.master(name).ok()?;
    let addresses = hosts::addresses(&at.host).await.ok()?;
    let address = *addresses.first()?;
    let server = redis_server(config, of, SocketAddr::new(address, at.port)).ok()?;
    Some(match address_may_be_asked(config, of, address) {
        true => server,
        false => server.without_credentials(),
    })
}

/// Asks a Redis once.
pub(super) async fn tell(way: &Server, until: Instant) -> Result<State, crate::redis::NoAnswer> {
    let mut connection = Connection::open(way, until).await?;
    State::ask(&mut connection, None, until).await
}

/// Returns what this host's agent knows of a master, if an agent answers.
pub(super) async fn agent(name: &str, options: &Options) -> Option<snapshot::Master> {
    of_master(with_agent::known(&[name.to_owned()], options).await?, name)
}

fn of_master(told: snapshot::Snapshot, name: &str) -> Option<snapshot::Master> {
    told.masters.into_iter().find(|master| master.name == name)
}
