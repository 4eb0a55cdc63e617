//! The Sentinels' votes: the local Sentinel and every Sentinel that it lists are asked about every master.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::ROUND;
use crate::config::Config;
use crate::evidence::{Ballot, Evidence, Site, Vote};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::hosts;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{
    self, Instance, MasterAddress, NoAnswer, Server, View, not_monitored, sentinel_fault,
    sentinel_server,
};
use crate::text::escape;

/// How long the names of all servers may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// How many Sentinels are asked at the same time.
const AT_ONCE: usize = 8;

/// Another Sentinel, and what it says of one master.
#[derive(Clone, Debug)]
pub struct Asked {
    /// As it is listed.
    pub at: Instance,
    /// Where it was asked, or why it could not be.
    pub asked: Result<String, String>,
    /// What it says.
    pub view: Result<View, NoAnswer>,
}

/// What the Sentinels say of one master, before it is known which of the hosts is this one.
#[derive(Clone, Debug)]
pub struct Poll {
    votes: Vec<Polled>,
    quorum: usize,
    /// Every Redis of the master that is known.
    redis: Vec<Endpoint>,
    /// The addresses of every Redis and Sentinel that the local Sentinel knows.
    servers: Vec<IpAddr>,
    /// What was looked up, by the host of a Redis.
    addresses: BTreeMap<String, Result<Vec<IpAddr>, Fault>>,
}

#[derive(Clone, Debug)]
struct Polled {
    who: String,
    says: Result<Endpoint, String>,
    epoch: u64,
    known_to: usize,
    listed_here: bool,
}

/// Another Sentinel, and what it says.
struct Other {
    at: Instance,
    /// Where it is asked, or why it cannot be.
    server: Result<Server, String>,
    /// By master-name; `None` where it is still to be asked.
    views: BTreeMap<String, Option<Result<View, NoAnswer>>>,
}

/// Asks the local Sentinel and every Sentinel that it lists about these masters: one conversation with each,
/// all masters on it; then those that only the others list. Takes less than four seconds, and five more where
/// a master's name is looked up in vain.
///
/// # Errors
///
/// A local Sentinel that cannot be asked is passing; a refused password, and files that cannot be used, are
/// permanent. So is, for one master, that it is not monitored, or that the other Sentinels may not be listed.
pub async fn poll(config: &Config, names: &[&str]) -> Result<Vec<Result<Poll, Fault>>, Fault> {
    let at = &config.sentinel.address;
    let server = sentinel_server(config, Instant::now() + NAMES).await?;
    let own = redis::views(&server, names, ROUND)
        .await
        .map_err(|no| sentinel_fault(&no, at))?;
    let checked = |(name, view): (&&str, Result<View, NoAnswer>)| match view {
        Err(NoAnswer::NoSuchMaster) => Err(not_monitored(at, name)),
        Err(no) => Err(sentinel_fault(&no, at)),
        Ok(View {
            withheld: Some(no), ..
        }) => Err(sentinel_fault(&no, at)),
        Ok(view) => Ok(view),
    };
    let mut own: Vec<Result<View, Fault>> = names.iter().zip(own).map(checked).collect();
    forget_local(own.iter_mut().flatten(), &server).await;
    let mut others: Vec<Other> = Vec::new();
    let listed = names.iter().zip(&own);
    let listed =
        listed.flat_map(|(name, view)| view.iter().map(|view| (*name, &view.sentinels[..])));
    add(&mut others, listed.collect(), &server).await;
    ask(&mut others).await;
    let further = further(&others, &server).await;
    if !further.is_empty() {
        let listed = further
            .iter()
            .map(|(name, at)| (name.as_str(), std::slice::from_ref(at)));
        add(&mut others, listed.collect(), &server).await;
        ask(&mut others).await;
    }
    let own_name = server.endpoint.to_string();
    let count = |(name, view): (&&str, Result<View, Fault>)| {
        Ok(count(view?, &own_name, &of_one(&others, name)))
    };
    let mut polls: Vec<Result<Poll, Fault>> = names.iter().zip(own).map(count).collect();
    look_up(polls.iter_mut().flatten()).await;
    Ok(polls)
}

/// Returns what was said of one master.
fn of_one(others: &[Other], name: &str) -> Vec<Asked> {
    let asked = |other: &Other| {
        Some(Asked {
            at: other.at.clone(),
            asked: match &other.server {
                Ok(server) => Ok(server.endpoint.to_string()),
                Err(why) => Err(why.clone()),
            },
            view: other.views.get(name)?.clone()?,
        })
    };
    others.iter().filter_map(asked).collect()
}

/// Adds the Sentinels of these lists, each once however often and by whatever name it is listed.
async fn add(others: &mut Vec<Other>, lists: Vec<(&str, &[Instance])>, own: &Server) {
    let until = Instant::now() + NAMES;
    let mut new: Vec<&Instance> = Vec::new();
    for at in lists.iter().flat_map(|(_, list)| *list) {
        let known = others
            .iter()
            .map(|other| &other.at)
            .chain(new.iter().copied());
        if !known.into_iter().any(|known| is_same(known, at)) {
            new.push(at);
        }
    }
    let found = new.iter().map(|at| find(at, own, until));
    for (at, server) in new.iter().zip(join_all(found).await) {
        if server
            .as_ref()
            .is_ok_and(|server| server.endpoint == own.endpoint)
        {
            continue;
        }
        let at = Instance::clone(at);
        others.push(Other {
            at,
            server,
            views: BTreeMap::new(),
        });
    }
    for (name, at) in lists
        .iter()
        .flat_map(|(name, list)| list.iter().map(move |at| (*name, at)))
    {
        let Some(listed) = others.iter().position(|other| is_same(&other.at, at)) else {
            continue;
        };
        // Listed by another run id or name before: one address has one vote.
        let endpoint = |other: &Other| {
            other
                .server
                .as_ref()
                .ok()
                .map(|server| server.endpoint.clone())
        };
        let here = endpoint(&others[listed]);
        let first = others
            .iter()
            .position(|other| here.is_some() && endpoint(other) == here);
        let other = &mut others[first.unwrap_or(listed)];
        other.views.entry(name.to_owned()).or_insert(None);
    }
}

/// Returns where a Sentinel is asked, or why it cannot be.
async fn find(at: &Instance, own: &Server, until: Instant) -> Result<Server, String> {
    let host = Host::read(&at.host).ok_or("its address is neither an address nor a name")?;
    let addresses = match timeout_at(until, hosts::addresses(&host)).await {
        Ok(Ok(addresses)) => addresses,
        _ => return Err("its name does not resolve here".into()),
    };
    let address = addresses.first().ok_or("its name has no address")?;
    Ok(Server {
        endpoint: redis::Endpoint::Tcp(SocketAddr::new(*address, at.port)),
        further: Vec::new(),
        ..own.clone()
    })
}

/// Asks every Sentinel about the masters for which it was not asked yet, some at a time: each answer takes
/// memory.
async fn ask(others: &mut [Other]) {
    let each = stream::iter(others.iter_mut());
    each.for_each_concurrent(AT_ONCE, async |other| {
        let names = other.views.iter().filter(|(_, view)| view.is_none());
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        let views = match &other.server {
            Ok(server) if !names.is_empty() => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let asked = redis::views(server, &names, ROUND).await;
                asked.unwrap_or_else(|no| vec![Err(no); names.len()])
            }
            // Why it was not asked is told in place of this.
            _ => vec![Err(NoAnswer::NoSuchMaster); names.len()],
        };
        other
            .views
            .extend(names.into_iter().zip(views.into_iter().map(Some)));
    })
    .await;
}

/// Returns the Sentinels that only others list, with the master's name: the local Sentinel was just started,
/// or has forgotten them. It stands in the others' lists itself, and must not be asked twice: a list in which
/// it is not recognized (behind NAT) is passed over.
async fn further(others: &[Other], own: &Server) -> Vec<(String, Instance)> {
    let Ok(netlink) = Netlink::open() else {
        return Vec::new();
    };
    let snapshot = Snapshot::new(&netlink);
    let mut further = Vec::new();
    for other in others {
        for (name, view) in &other.views {
            let Some(Ok(view)) = view else { continue };
            let listed_here = |at: &&Instance| !others.iter().any(|other| is_same(&other.at, at));
            let mut unlisted: Vec<&Instance> = view.sentinels.iter().filter(listed_here).collect();
            let mut is_own = None;
            for (place, at) in unlisted.iter().enumerate() {
                if is_local(&snapshot, own, at).await {
                    is_own = Some(place);
                }
            }
            if let Some(place) = is_own {
                unlisted.remove(place);
                further.extend(unlisted.into_iter().map(|at| (name.clone(), at.clone())));
            }
        }
    }
    further
}

/// Takes the local Sentinel out of its own lists, by whatever address it stands there (a forged hello, or an
/// address that every host has): it has one vote.
async fn forget_local(views: impl Iterator<Item = &mut View>, own: &Server) {
    let Ok(netlink) = Netlink::open() else { return };
    let snapshot = Snapshot::new(&netlink);
    for view in views {
        let mut others = Vec::new();
        for at in std::mem::take(&mut view.sentinels) {
            if !is_local(&snapshot, own, &at).await {
                others.push(at);
            }
        }
        view.sentinels = others;
    }
}

/// Returns whether a description is of the local Sentinel: an address of this host, and its port.
async fn is_local(snapshot: &Snapshot<'_>, own: &Server, at: &Instance) -> bool {
    let redis::Endpoint::Tcp(endpoint) = own.endpoint else {
        return false;
    };
    let addresses = Host::read(&at.host)
        .map(|host| hosts::at_hand(&host))
        .unwrap_or_default();
    let carriers = snapshot.carriers(&addresses).await.unwrap_or_default();
    at.port == endpoint.port() && carriers.iter().any(|(_, carrier)| carrier.is_some())
}

/// Looks the names of all Redis up, each once and all at the same time: a name server may be out of reach just
/// when a master dies. A master is waited for as long as its name needs, a replica for a second.
async fn look_up(polls: impl Iterator<Item = &mut Poll>) {
    let mut polls: Vec<&mut Poll> = polls.collect();
    let mut wanted: BTreeMap<String, (Host, bool)> = BTreeMap::new();
    for poll in &polls {
        let masters: Vec<&Endpoint> = poll
            .votes
            .iter()
            .filter_map(|vote| vote.says.as_ref().ok())
            .collect();
        for endpoint in &poll.redis {
            let is_master = masters.contains(&endpoint);
            let name = wanted.entry(endpoint.host.to_string());
            name.or_insert((endpoint.host.clone(), false)).1 |= is_master;
        }
    }
    let each = wanted.into_iter().map(async |(text, (host, is_master))| {
        let late = || {
            Err(Fault::passing(format!(
                "cannot resolve the name {host}: no answer within 1 s"
            )))
        };
        let found = match is_master {
            true => hosts::addresses(&host).await,
            false => timeout(NAMES, hosts::addresses(&host))
                .await
                .unwrap_or_else(|_| late()),
        };
        (text, found)
    });
    let found: BTreeMap<String, Result<Vec<IpAddr>, Fault>> =
        join_all(each).await.into_iter().collect();
    for poll in &mut polls {
        let of_it = poll.redis.iter().map(|endpoint| endpoint.host.to_string());
        poll.addresses = of_it
            .filter_map(|host| Some((host.clone(), found.get(&host)?.clone())))
            .collect();
    }
}

/// Whether two descriptions are of one Sentinel: by run id where both have it, else by address.
fn is_same(one: &Instance, other: &Instance) -> bool {
    match (&one.run_id, &other.run_id) {
        (Some(one), Some(other)) => one == other,
        _ => one.host == other.host && one.port == other.port,
    }
}

/// Puts together what was said of one master: by this host's Sentinel, which was asked at `own_name`, and by
/// the others. Pure.
pub fn count(own: View, own_name: &str, others: &[Asked]) -> Poll {
    let answering: Vec<&View> = std::iter::once(&own)
        .chain(others.iter().filter_map(|other| other.view.as_ref().ok()))
        .collect();
    let known_to = |at: &Instance| {
        let knows = |view: &&&View| {
            view.withheld.is_some() || view.sentinels.iter().any(|known| is_same(known, at))
        };
        answering.iter().filter(knows).count()
    };
    let mut votes = vec![Polled {
        who: own_name.to_owned(),
        says: named(&own.master),
        epoch: own.config_epoch,
        known_to: answering.len(),
        listed_here: true,
    }];
    for Asked { at, asked, view } in others {
        let (who, says) = match (asked, view) {
            (Ok(shown), Ok(view)) => (shown.clone(), named(&view.master)),
            (Ok(shown), Err(no)) => (shown.clone(), Err(no.to_string())),
            (Err(why), _) => (escape(&at.host), Err(why.clone())),
        };
        let epoch = view.as_ref().map_or(0, |view| view.config_epoch);
        votes.push(Polled {
            who,
            says,
            epoch,
            known_to: known_to(at),
            listed_here: own.sentinels.iter().any(|known| is_same(known, at)),
        });
    }
    let instances = own.replicas.iter().chain(&own.sentinels);
    let hosts = instances
        .map(|one| one.host.as_str())
        .chain([own.master.host.as_str()]);
    let servers = hosts.filter_map(|host| host.parse::<IpAddr>().ok());
    let mut redis: Vec<Endpoint> = votes
        .iter()
        .filter_map(|vote| vote.says.clone().ok())
        .collect();
    redis.extend(
        own.replicas
            .iter()
            .filter_map(|one| endpoint(&one.host, one.port).ok()),
    );
    Poll {
        quorum: own.quorum,
        servers: servers.map(|address| address.to_canonical()).collect(),
        redis,
        votes,
        addresses: BTreeMap::new(),
    }
}

fn named(said: &MasterAddress) -> Result<Endpoint, String> {
    endpoint(&said.host, said.port)
}

/// Reads where a server is, as a Sentinel names it.
///
/// # Errors
///
/// Says, as the end of a sentence, why that is nowhere.
pub(super) fn endpoint(host: &str, port: u16) -> Result<Endpoint, String> {
    match Host::read(host) {
        Some(host) => Ok(Endpoint { host, port }),
        None => Err(format!("it names \"{}\", which is no host", escape(host))),
    }
}

impl Poll {
    /// Returns every Redis of the master that is known.
    pub fn redis(&self) -> &[Endpoint] {
        &self.redis
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

    /// Returns the addresses of a Redis that the poll has named.
    ///
    /// # Errors
    ///
    /// Those of [`hosts::addresses`].
    pub fn addresses(&self, of: &Endpoint) -> Result<Vec<IpAddr>, Fault> {
        let unknown = || {
            Err(Fault::passing(format!(
                "the name {} was not looked up",
                of.host
            )))
        };
        self.addresses
            .get(&of.host.to_string())
            .cloned()
            .unwrap_or_else(unknown)
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
        };
        let ballot = Ballot {
            votes: self.votes.iter().map(vote).collect(),
            quorum: self.quorum,
            waited,
        };
        let mut servers = self.servers.clone();
        servers.extend(ballot.winner().iter().flat_map(|site| &site.addresses));
        Ok(Evidence {
            servers,
            ballot: Some(ballot),
            ..Evidence::default()
        })
    }
}
