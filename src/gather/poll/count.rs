//! What was said of one master, put together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::others::is_same;
use crate::config::Config;
use crate::evidence::{Ballot, Evidence, Site, Standby, Vote};
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::few;
use crate::gather::patience::Patience;
use crate::gather::remembered::{Known, Listed, Memory};
use crate::gather::servers::{self, Vips};
use crate::gather::sites::{Named, endpoint};
use crate::redis::{Instance, MasterAddress, NoAnswer, Server, View};
use crate::text::escape;

/// Another Sentinel, and what it says of one master.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Every way in which it is listed, at least one.
    pub listed_as: Vec<Instance>,
    /// Where it was asked, or why it could not be.
    pub asked: Result<String, NotAsked>,
    /// What it says.
    pub view: Result<View, NoAnswer>,
}

/// A Sentinel of a poll.
#[derive(Clone, Debug)]
pub struct Member {
    /// Every way in which it is listed; none for the local one.
    pub listed_as: Vec<Instance>,
    /// How it is asked; `None` where it is not known now where it is.
    pub server: Option<Server>,
    /// Whether it told what it was asked; `None` where that was not waited for.
    pub has_answered: Option<bool>,
}

impl Member {
    /// Returns whether both are the same Sentinel, by the way in which they are listed.
    pub fn is_same(&self, listed_as: &[Instance]) -> bool {
        let mut own = self.listed_as.iter();
        match listed_as {
            [] => self.listed_as.is_empty(),
            others => own.any(|one| others.iter().any(|other| is_same(one, other))),
        }
    }
}

/// Why a Sentinel could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAsked {
    /// No name server answers, so that nobody tells where it is: name servers are cut off as other hosts are.
    Unresolved(String),
    /// It is nowhere, or where another one may answer.
    Nowhere(String),
}

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAsked::Unresolved(why) | NotAsked::Nowhere(why) => f.write_str(why),
        }
    }
}

/// What the Sentinels say of one master, before it is known which of the hosts is this one.
#[derive(Clone, Debug)]
pub struct Poll {
    pub(super) votes: Vec<Polled>,
    quorum: usize,
    /// Every Redis of the master that is known, each once, with its run id where that is known.
    pub(super) redis: Vec<(Endpoint, Option<String>)>,
    /// Which of them this host's Sentinel names, or has named.
    vouched_for: Vec<Endpoint>,
    /// The other Sentinels, in the order of their votes.
    sentinels: Vec<Instance>,
    /// The replicas, as far as they could be failed over to; `None` where that was not told.
    standbys: Option<Vec<Standby>>,
    down_after: Option<Duration>,
    soonest_down: Option<Duration>,
    failover_timeout: Option<Duration>,
    /// Whether a Sentinel fails over.
    fails_over: bool,
    /// Which replica it promotes, once that is chosen, and where it was asked.
    promoting: Option<(Endpoint, String)>,
    /// How each Sentinel is asked, the local one first.
    pub(super) ways: Vec<Server>,
    /// How long they were waited for.
    pub(super) patience: Patience,
    /// Every Sentinel, the local one first.
    pub(super) members: Vec<Member>,
    /// Whether the local Sentinel said nothing.
    is_without_local: bool,
    /// The addresses that this master's servers have of their own.
    pub(super) servers: Vec<IpAddr>,
    /// The VIPs, beside the servers of all masters of the poll.
    pub(super) vips: Rc<Vips>,
    /// What was looked up, by the host of a Redis.
    pub(super) addresses: BTreeMap<String, Result<Vec<IpAddr>, Fault>>,
}

#[derive(Clone, Debug)]
pub(super) struct Polled {
    who: String,
    pub(super) says: Result<Endpoint, String>,
    out_of_reach: bool,
    epoch: u64,
    known_to: usize,
    listed_here: bool,
}

/// Why this host's Sentinel says nothing of a master, and what it said last.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Why.
    pub why: String,
    /// What is remembered; nothing where it never was asked.
    pub known: Known,
}

/// Puts together what was said of one master: by this host's Sentinel, which was asked at `own_name`, and by
/// the others. Pure.
pub fn count(own: Result<View, Silence>, own_name: &str, others: &[Asked]) -> Poll {
    let answering: Vec<&View> = own
        .iter()
        .chain(others.iter().filter_map(|other| other.view.as_ref().ok()))
        .collect();
    let known_to = |listed_as: &[Instance]| {
        let lists = |view: &View| {
            let mut listed = view.sentinels.iter();
            listed.any(|at| listed_as.iter().any(|known| is_same(known, at)))
        };
        let knows = |view: &&&View| view.withheld.is_some() || lists(view);
        answering.iter().filter(knows).count()
    };
    let mut votes = vec![Polled {
        who: own_name.to_owned(),
        // It is on this host.
        out_of_reach: false,
        says: match &own {
            Ok(view) => named(&view.master),
            Err(silence) => Err(silence.why.clone()),
        },
        epoch: own.as_ref().map_or(0, |view| view.config_epoch),
        // Silent, too, it is one of them, whether or not they list it.
        known_to: answering.len(),
        listed_here: true,
    }];
    for other in others {
        // The silent local Sentinel has no say about whom it lists.
        let listed_here = own.as_ref().map_or(true, |own| {
            let mut listed = own.sentinels.iter();
            listed.any(|at| other.listed_as.iter().any(|known| is_same(known, at)))
        });
        votes.push(Polled {
            known_to: known_to(&other.listed_as),
            listed_here,
            ..vote(other)
        });
    }
    let named_by_votes = answering
        .iter()
        .filter_map(|view| Some((named(&view.master).ok()?, view.run_id.clone())));
    let vouched_for: Vec<Endpoint> = match &own {
        Ok(view) => {
            let own_replicas = replicas(&[view]).into_iter().map(|(endpoint, _)| endpoint);
            named(&view.master)
                .into_iter()
                .chain(own_replicas)
                .collect()
        }
        Err(silence) => {
            let remembered = silence.known.redis.iter();
            remembered
                .filter_map(|one| endpoint(&one.host, one.port).ok())
                .collect()
        }
    };
    let (quorum, servers, redis) = match &own {
        Ok(view) => (view.quorum, servers(&[view]), replicas(&[view])),
        Err(Silence { known, .. }) => {
            let highest = answering.iter().map(|view| view.quorum).max();
            let quorum = Some(known.quorum).filter(|quorum| *quorum > 0).or(highest);
            let remembered = known.redis.iter();
            let remembered = remembered
                .filter_map(|one| Some((endpoint(&one.host, one.port).ok()?, one.run_id.clone())));
            let redis = replicas(&answering).into_iter().chain(remembered).collect();
            (quorum.unwrap_or(1), servers(&answering), redis)
        }
    };
    let asked_at = others.iter().filter_map(|other| {
        let at = other.asked.as_ref().ok()?;
        Some((at.as_str(), other.view.as_ref().ok()?))
    });
    let mut by_place = own.iter().map(|view| (own_name, view)).chain(asked_at);
    let promoting = by_place.find_map(|(at, view)| Some((promoted(view)?, at.to_owned())));
    // This host's Sentinel decides for this host; in its place the most patient of the others.
    let told = match &own {
        Ok(view) => vec![view],
        Err(_) => answering.clone(),
    };
    Poll {
        sentinels: others
            .iter()
            .map(|other| other.listed_as[0].clone())
            .collect(),
        standbys: told.iter().find_map(|view| view.standbys.clone()),
        down_after: told.iter().filter_map(|view| view.down_after).max(),
        // Each decides by its own: `SENTINEL SET` changes one at a time.
        soonest_down: answering.iter().filter_map(|view| view.down_after).min(),
        // Any of them may be the leader, and holds its own failover back by its own.
        failover_timeout: answering
            .iter()
            .filter_map(|view| view.failover_timeout)
            .max(),
        fails_over: answering.iter().any(|view| fails_over(view)),
        promoting,
        is_without_local: own.is_err(),
        quorum,
        servers,
        redis: each_once(named_by_votes.chain(redis)),
        vouched_for,
        votes,
        vips: Rc::default(),
        ways: Vec::new(),
        patience: Patience::Full,
        members: Vec::new(),
        addresses: BTreeMap::new(),
    }
}

fn fails_over(view: &View) -> bool {
    view.flags.iter().any(|flag| flag == "failover_in_progress")
}

/// Returns which replica this Sentinel promotes, once it has chosen one (`SRI_PROMOTED` in sentinel.c).
fn promoted(view: &View) -> Option<Endpoint> {
    let is_chosen = |one: &&Instance| one.flags.iter().any(|flag| flag == "promoted");
    let mut replicas = view.replicas.iter().filter(|_| fails_over(view));
    let chosen = replicas.find(is_chosen)?;
    endpoint(&chosen.host, chosen.port).ok()
}

/// Returns what another Sentinel says.
fn vote(other: &Asked) -> Polled {
    let (who, says) = match (&other.asked, &other.view) {
        (Ok(shown), Ok(view)) => (shown.clone(), named(&view.master)),
        (Ok(shown), Err(no)) => (shown.clone(), Err(no.to_string())),
        (Err(why), _) => (escape(&other.listed_as[0].host), Err(why.to_string())),
    };
    let no = other.view.as_ref().err();
    let out_of_reach = match &other.asked {
        Ok(_) => no.is_some_and(NoAnswer::is_out_of_reach),
        Err(NotAsked::Unresolved(_)) => true,
        Err(NotAsked::Nowhere(_)) => false,
    };
    Polled {
        who,
        says,
        out_of_reach,
        epoch: other.view.as_ref().map_or(0, |view| view.config_epoch),
        known_to: 0,
        listed_here: false,
    }
}

/// Returns the addresses that servers certainly have of their own.
fn servers(views: &[&View]) -> Vec<IpAddr> {
    let of_one = |view: &&View| {
        let mut known = view.replicas.clone();
        known.push(Instance {
            host: view.master.host.clone(),
            port: view.master.port,
            run_id: view.run_id.clone(),
            flags: view.flags.clone(),
        });
        servers::certain(&known, &view.sentinels)
    };
    views.iter().flat_map(of_one).collect()
}

fn replicas(views: &[&View]) -> Vec<(Endpoint, Option<String>)> {
    let replicas = views.iter().flat_map(|view| &view.replicas);
    replicas
        .filter_map(|one| Some((endpoint(&one.host, one.port).ok()?, one.run_id.clone())))
        .collect()
}

/// Returns each Redis once, with its run id if anybody knows it.
fn each_once(
    all: impl Iterator<Item = (Endpoint, Option<String>)>,
) -> Vec<(Endpoint, Option<String>)> {
    let mut once: Vec<(Endpoint, Option<String>)> = Vec::new();
    for (endpoint, run_id) in all {
        match once.iter_mut().find(|(known, _)| *known == endpoint) {
            Some((_, known)) => *known = known.take().or(run_id),
            None => once.push((endpoint, run_id)),
        }
    }
    once
}

/// Compares the VIPs with the servers of all masters, once: a VIP of one may be another's server.
pub(super) fn share_vips(polls: &mut [Result<Poll, Fault>], config: &Config, memory: &Memory) {
    let told = polls.iter().flatten().flat_map(|poll| &poll.servers);
    let mut all: BTreeSet<IpAddr> = few::set(told.copied());
    all.extend(servers::configured(config));
    all.extend(servers::remembered(memory));
    let vips = Rc::new(Vips::among(config, all));
    for poll in polls.iter_mut().flatten() {
        poll.vips = Rc::clone(&vips);
    }
}

fn named(said: &MasterAddress) -> Result<Endpoint, String> {
    endpoint(&said.host, said.port)
}

impl Poll {
    /// Returns whether the local Sentinel said nothing.
    pub fn is_without_local(&self) -> bool {
        self.is_without_local
    }

    /// Returns what is worth remembering: the members, where the local Sentinel and so many others answered
    /// that they could decide. A Sentinel that was just started knows nobody yet.
    pub fn known(&self) -> Option<Known> {
        let answering = self.votes.iter().filter(|vote| vote.says.is_ok()).count();
        let is_member = |vote: &Polled| vote.says.is_ok() || 2 * vote.known_to > answering;
        let members = self.votes.iter().filter(|vote| is_member(vote)).count();
        if self.is_without_local || answering < (members / 2 + 1).max(self.quorum) {
            return None;
        }
        let others = self.sentinels.iter().zip(self.votes.iter().skip(1));
        let sentinels = others.filter(|(_, vote)| is_member(vote));
        let listed = |(at, _): (&Instance, &Polled)| Listed {
            host: at.host.clone(),
            port: at.port,
            run_id: at.run_id.clone(),
        };
        let redis = self.redis.iter().map(|(endpoint, run_id)| Listed {
            host: endpoint.host.to_string(),
            port: endpoint.port,
            run_id: run_id.clone(),
        });
        Some(Known {
            sentinels: sentinels.map(listed).collect(),
            quorum: self.quorum,
            redis: redis.collect(),
        })
    }

    /// Fills in the run ids that Sentinel has forgotten, by what an earlier poll of this process has found, and notes those
    /// that it knows: after a failover it knows none until it has asked for INFO, up to 10 s later (`sentinelResetMaster` in
    /// sentinel.c), and behind NAT nothing else tells which host the new master is on. What is `remembered` is older than what
    /// this process has found.
    pub fn recall_run_ids(
        &mut self,
        known: &mut Vec<(Endpoint, String)>,
        remembered: Option<&Known>,
    ) {
        let remembered = remembered.map_or(&[][..], |it| &it.redis);
        for (endpoint, run_id) in &mut self.redis {
            let before = known.iter().find(|(of, _)| of == endpoint);
            let before = before.map(|(_, run_id)| run_id.clone());
            let host = endpoint.host.to_string();
            let mut same = remembered.iter().filter(|one| one.port == endpoint.port);
            let written = same.find(|one| one.host == host);
            let written = written.and_then(|one| one.run_id.clone());
            let is_told = |it: &String| before.is_none() || written.as_ref() != Some(it);
            let told = run_id.take().filter(is_told);
            *run_id = told.or(before).or(written);
        }
        let now = self.redis.iter();
        *known = now
            .filter_map(|(endpoint, run_id)| Some((endpoint.clone(), run_id.clone()?)))
            .collect();
    }

    /// Returns how long a master must be silent until it counts as down.
    pub fn down_after(&self) -> Option<Duration> {
        self.down_after
    }

    /// Returns after how long the most impatient Sentinel takes a silent master for down.
    pub fn soonest_down(&self) -> Option<Duration> {
        self.soonest_down
    }

    /// Returns how long a leader tries.
    pub fn failover_timeout(&self) -> Option<Duration> {
        self.failover_timeout
    }

    /// Returns how each Sentinel is asked, the local one first.
    pub fn ways(&self) -> &[Server] {
        &self.ways
    }

    /// Returns every Sentinel that was to be asked, the local one first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the replicas, as far as they could be failed over to, if that was told.
    pub fn standbys(&self) -> Option<&[Standby]> {
        self.standbys.as_deref()
    }

    /// Returns how long the Sentinels were waited for.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Returns whether a Sentinel says that it fails over.
    pub fn fails_over(&self) -> bool {
        self.fails_over
    }

    /// Returns which replica a Sentinel promotes, and that Sentinel, by where it was asked.
    pub fn promoting(&self) -> Option<&(Endpoint, String)> {
        self.promoting.as_ref()
    }

    /// Returns whether there is a replica.
    pub fn has_replicas(&self) -> bool {
        self.redis.len() > 1
    }

    /// Returns every Redis of the master that is known.
    pub fn redis(&self) -> impl Iterator<Item = &Endpoint> {
        self.redis.iter().map(|(endpoint, _)| endpoint)
    }

    /// Returns the master that the Sentinel names that knows of the latest failover; the local Sentinel's
    /// where several know of it. The others may not have heard of that failover yet.
    pub fn newest(&self) -> Option<&Endpoint> {
        let told = self
            .votes
            .iter()
            .filter_map(|vote| Some((vote.says.as_ref().ok()?, vote.epoch)));
        // The first of several greatest ones.
        let newest = told.rev().max_by_key(|(_, epoch)| *epoch);
        newest.map(|(endpoint, _)| endpoint)
    }

    /// Returns the same with what was looked up.
    pub(in crate::gather) fn named(&self) -> Vec<Named> {
        let named = |(endpoint, run_id): &(Endpoint, Option<String>)| {
            let unresolved = Named::unresolved(endpoint.clone());
            let found = self.addresses.get(&endpoint.host.to_string());
            Named {
                addresses: found.cloned().unwrap_or(unresolved.addresses),
                endpoint: endpoint.clone(),
                run_id: run_id.clone(),
                is_vouched_for: self.vouched_for.contains(endpoint),
            }
        };
        self.redis.iter().map(named).collect()
    }

    /// Returns what follows from it now that it is known where each Redis is. `said` is the master that
    /// this host's Sentinel, which is at `at`, names now; `waited` as in [`Ballot`].
    ///
    /// # Errors
    ///
    /// It named another in the poll. Passing.
    pub fn evidence(
        &self,
        sites: &[Site],
        said: Option<&Endpoint>,
        at: &str,
        waited: Duration,
    ) -> Result<Evidence, Fault> {
        if said != self.votes.first().and_then(|own| own.says.as_ref().ok()) {
            return Err(Fault::passing(format!(
                "Sentinel at {at} has changed its mind meanwhile"
            )));
        }
        let find = |endpoint: &Endpoint| {
            sites
                .iter()
                .find(|site| site.endpoint == *endpoint)
                .cloned()
        };
        let vote = |polled: &Polled| Vote {
            who: polled.who.clone(),
            says: match &polled.says {
                Ok(endpoint) => find(endpoint).ok_or_else(|| "it was not looked up".into()),
                Err(why) => Err(why.clone()),
            },
            epoch: polled.epoch,
            known_to: polled.known_to,
            listed_here: polled.listed_here,
            out_of_reach: polled.out_of_reach,
        };
        let ballot = Ballot {
            votes: self.votes.iter().map(vote).collect(),
            quorum: self.quorum,
            waited,
        };
        let winner = ballot.winner();
        let its = winner.map(|site| site.addresses.as_slice());
        Ok(Evidence {
            vip_of_a_server: self.vips.of_a_server(its.unwrap_or_default()),
            ballot: Some(ballot),
            ..Evidence::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(name: &str, asked: Result<String, NotAsked>) -> Asked {
        let listed_as = Instance {
            host: name.into(),
            port: 26379,
            run_id: None,
            flags: Vec::new(),
        };
        Asked {
            listed_as: vec![listed_as],
            // Why it was not asked is told in place of this.
            view: Err(match &asked {
                Ok(_) => NoAnswer::Silent(Duration::from_millis(800)),
                Err(_) => NoAnswer::NoSuchMaster,
            }),
            asked,
        }
    }

    fn says(seconds: u64) -> View {
        View {
            master: MasterAddress {
                host: "10.0.0.1".into(),
                port: 6379,
            },
            config_epoch: 1,
            quorum: 2,
            down_after: None,
            failover_timeout: Some(Duration::from_secs(seconds)),
            flags: Vec::new(),
            sentinels: Vec::new(),
            replicas: Vec::new(),
            standbys: None,
            withheld: None,
            run_id: None,
        }
    }

    #[test]
    fn a_run_id_that_sentinel_has_forgotten_is_the_one_from_before() {
        let view = |run_id: Option<&str>| View {
            run_id: run_id.map(str::to_owned),
            ..says(60)
        };
        let remembered = Known {
            redis: vec![Listed {
                host: "10.0.0.1".into(),
                port: 6379,
                run_id: Some("a".into()),
            }],
            ..Known::default()
        };
        let mut known = Vec::new();
        let mut ids = |told: Option<&str>| {
            let mut poll = count(Ok(view(told)), "127.0.0.1:26379", &[]);
            poll.recall_run_ids(&mut known, Some(&remembered));
            poll.redis[0].1.clone()
        };
        // An agent that was just started.
        assert_eq!(ids(None).as_deref(), Some("a"));
        assert_eq!(ids(Some("a")).as_deref(), Some("a"));
        for _ in 0..2 {
            assert_eq!(ids(None).as_deref(), Some("a"));
        }
        assert_eq!(ids(Some("b")).as_deref(), Some("b"));
        assert_eq!(ids(None).as_deref(), Some("b"));
        // What was written down before.
        assert_eq!(ids(Some("a")).as_deref(), Some("b"));
        assert_eq!(ids(Some("c")).as_deref(), Some("c"));
    }

    #[test]
    fn a_leader_may_try_as_long_as_the_most_patient_sentinel_does() {
        let another = Asked {
            view: Ok(says(180)),
            ..other("b", Ok("b:26379".into()))
        };
        let poll = count(Ok(says(60)), "127.0.0.1:26379", &[another]);
        assert_eq!(poll.failover_timeout(), Some(Duration::from_secs(180)));
    }

    #[test]
    fn a_sentinel_whose_name_no_name_server_resolves_is_out_of_reach() {
        let at = |host: &str| Ok(format!("{host}:26379"));
        let unresolved = || Err(NotAsked::Unresolved("no name server answers".into()));
        let nowhere = || Err(NotAsked::Nowhere("its name does not resolve here".into()));
        for (asked, expected) in [(unresolved(), true), (at("b"), true), (nowhere(), false)] {
            let silence = Silence {
                why: "nothing".into(),
                known: Known::default(),
            };
            let others = [other("b", asked), other("c", unresolved())];
            let poll = count(Err(silence), "127.0.0.1:26379", &others);
            let ballot = poll.evidence(&[], None, "", Duration::ZERO).unwrap().ballot;
            let could = ballot.unwrap().could_elect_without();
            assert_eq!(could, expected, "{:?}", poll.votes);
        }
    }
}
