//! What was said of one master, put together. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::others::is_same;
use crate::evidence::{Ballot, Evidence, Site, Vote};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::redis::{Instance, MasterAddress, NoAnswer, View};
use crate::text::escape;

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
    pub(super) votes: Vec<Polled>,
    quorum: usize,
    /// Every Redis of the master that is known.
    pub(super) redis: Vec<Endpoint>,
    /// The addresses of every Redis and Sentinel that the local Sentinel knows.
    servers: Vec<IpAddr>,
    /// What was looked up, by the host of a Redis.
    pub(super) addresses: BTreeMap<String, Result<Vec<IpAddr>, Fault>>,
}

#[derive(Clone, Debug)]
pub(super) struct Polled {
    who: String,
    pub(super) says: Result<Endpoint, String>,
    epoch: u64,
    known_to: usize,
    listed_here: bool,
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
pub fn endpoint(host: &str, port: u16) -> Result<Endpoint, String> {
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
