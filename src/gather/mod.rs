//! Gathers evidence: asks the Sentinels, Redis, name servers and the kernel what is true about a master.
//! Says nothing about what follows from it.

mod newest;
mod patience;
mod poll;
pub mod remembered;
mod servers;
pub mod sites;
pub mod told;
pub mod vips;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use tokio::time::{Instant, timeout, timeout_at};

use self::remembered::{Known, Listed, Memory};
use self::servers::Vips;
use self::sites::{Finder, Named, at_hand, endpoint, named};
use crate::config::{Config, SENTINEL_TIMEOUT};
use crate::evidence::{Call, Evidence, Order, Site, Word};
use crate::exit::Fault;
use crate::failover::{Endpoint, Failover};
use crate::few;
use crate::hosts::{self, Kept};
use crate::kernel::Snapshot;
use crate::place::Place;
use crate::redis::{self, Lines, MasterAddress, NoAnswer, Told, sentinel_fault, sentinel_server};

pub use newest::newest;
pub use patience::Patience;
pub use poll::{Asked, Member, NotAsked, Poll, Silence, Tried, count, poll, try_others};

/// How long the hook waits for the Redis of this host, which can only object.
const OWN_REDIS: Duration = Duration::from_millis(150);

/// How long an order waits for name servers, in which nobody else can do anything about the VIP.
const NAMES: Duration = Duration::from_millis(500);

/// Returns what this host's Sentinel says of a master, within this time.
///
/// # Errors
///
/// A Sentinel that cannot be asked is passing; files that cannot be used, and a refused password, are
/// permanent. A master that it does not monitor is `None`.
pub async fn master_of(
    config: &Config,
    lines: &Lines,
    name: &str,
    within: Duration,
) -> Result<Option<Endpoint>, Fault> {
    let until = Instant::now() + within;
    let by = (&lines.names, Some(&lines.owner));
    let server = sentinel_server(config, by, until).await?;
    let left = until.saturating_duration_since(Instant::now());
    named_by(
        config,
        redis::master_address(&server, lines, name, left).await,
    )
}

/// Returns the same for several masters: all are asked about at once, on one connection.
///
/// # Errors
///
/// As [`master_of`], for each master.
pub async fn masters_of(
    config: &Config,
    lines: &Lines,
    names: &[&str],
) -> Vec<Result<Option<Endpoint>, Fault>> {
    let until = Instant::now() + SENTINEL_TIMEOUT;
    let by = (&lines.names, Some(&lines.owner));
    let server = match sentinel_server(config, by, until).await {
        Ok(server) => server,
        Err(fault) => return vec![Err(fault); names.len()],
    };
    let left = until.saturating_duration_since(Instant::now());
    let all = redis::master_addresses(&server, lines, names, left).await;
    all.into_iter().map(|said| named_by(config, said)).collect()
}

fn named_by(
    config: &Config,
    said: Result<MasterAddress, NoAnswer>,
) -> Result<Option<Endpoint>, Fault> {
    match said {
        Ok(said) => endpoint(&said.host, said.port).map(Some).map_err(|why| {
            let no = NoAnswer::Unexpected(why);
            sentinel_fault(&no, &config.sentinel.address)
        }),
        Err(NoAnswer::NoSuchMaster) => Ok(None),
        Err(no) => Err(sentinel_fault(&no, &config.sentinel.address)),
    }
}

/// Returns what this host's Sentinel says of these masters, as far as it may be asked: where it has to be that of before,
/// by what is remembered.
async fn told(
    config: &Config,
    names: &[&str],
    memory: Option<&Memory>,
) -> Result<Vec<Result<Told, NoAnswer>>, Fault> {
    let until = Instant::now() + SENTINEL_TIMEOUT;
    let owner = match memory {
        Some(memory) => Some(memory.owner(config)),
        None => Memory::default().owner(config).if_known(),
    };
    let by = (&Kept::default(), owner.as_ref());
    let server = sentinel_server(config, by, until).await?;
    let left = until.saturating_duration_since(Instant::now());
    let told = redis::told(&server, names, left).await;
    told.map_err(|no| sentinel_fault(&no, &config.sentinel.address))
}

/// Returns where the master is that this host's Sentinel names, by everything that tells which host that is.
///
/// # Errors
///
/// Those of [`master_of`]. A master that Sentinel does not monitor is `None`.
pub async fn master_site(
    config: &Config,
    name: &str,
    snapshot: &Snapshot<'_>,
) -> Result<Option<Site>, Fault> {
    let master = config.master(name)?;
    let answer = told(config, &[name], Some(&Memory::read()))
        .await
        .map(|mut of_each| of_each.remove(0));
    let mut known = servers::known(&answer);
    let said = match answer? {
        Ok(told) => endpoint(&told.master.host, told.master.port),
        Err(NoAnswer::NoSuchMaster) => return Ok(None),
        Err(no) => return Err(sentinel_fault(&no, &config.sentinel.address)),
    };
    let said =
        said.map_err(|why| sentinel_fault(&NoAnswer::Unexpected(why), &config.sentinel.address))?;
    let run_id = run_id(&known, &said);
    known.push(named(&said, run_id).await);
    let finder = Finder::new(config, name, master, snapshot, SENTINEL_TIMEOUT);
    let last = known.len() - 1;
    let (mut sites, _) = finder.find(&known, |place| place == last).await;
    Ok(Some(sites.remove(last)))
}

/// Returns where each Redis of the master `name` is, as Sentinel lists it: by its run id, too. Names have until
/// then to resolve.
///
/// # Errors
///
/// A master that is not configured is permanent.
pub async fn sites(
    config: &Config,
    name: &str,
    snapshot: &Snapshot<'_>,
    listed: Vec<(Endpoint, Option<String>)>,
    until: Instant,
) -> Result<Vec<Site>, Fault> {
    let late = || Err(Fault::passing("its name was not resolved in time"));
    let each = listed.into_iter().map(async |(endpoint, run_id)| Named {
        addresses: timeout_at(until, hosts::addresses(&endpoint.host))
            .await
            .unwrap_or_else(|_| late()),
        endpoint,
        run_id,
        is_vouched_for: true,
    });
    let named = join_all(each).await;
    let master = config.master(name)?;
    let finder = Finder::new(config, name, master, snapshot, SENTINEL_TIMEOUT);
    Ok(finder.find(&named, |_| true).await.0)
}

/// Returns where a Redis or a Sentinel is, by its address or its name alone.
pub async fn site(config: &Config, snapshot: &Snapshot<'_>, endpoint: &Endpoint) -> Site {
    sites::by_address(config, snapshot, named(endpoint, None).await).await
}

fn run_id(known: &[Named], of: &Endpoint) -> Option<String> {
    let mut same = known.iter().filter(|one| one.endpoint == *of);
    same.find_map(|one| one.run_id.clone())
}

/// Returns what is known about Sentinel's call. `before` is what this host's Sentinel said in an earlier
/// attempt: its word of a moment ago is better than none. `memory` is what is remembered, where the caller has that
/// at hand.
///
/// # Errors
///
/// A master that is not configured is permanent.
pub async fn of_call(
    config: &Config,
    failover: &Failover,
    (before, memory): (Option<Word>, Option<&Memory>),
    snapshot: &Snapshot<'_>,
) -> Result<Evidence, Fault> {
    let (to, name) = (&failover.to, failover.master.as_str());
    let master = config.master(name)?;
    let finder = Finder::new(config, name, master, snapshot, OWN_REDIS);
    let names = [name];
    // Read while Sentinel's answer is on its way.
    let remembered = async {
        match memory {
            Some(memory) => servers::remembered(memory),
            None => servers::remembered(&Memory::read()),
        }
    };
    let (asked, (), remembered) = join3(
        told(config, &names, memory),
        finder.ask_early(to),
        remembered,
    )
    .await;
    let told = asked.map(|mut of_each| of_each.remove(0));
    let mut known = servers::known(&told);
    let from = failover.from.as_ref();
    known.extend(from.map(|from| at_hand(from, run_id(&known, from))));
    let said = match &told {
        Ok(Ok(told)) => endpoint(&told.master.host, told.master.port).map(Some),
        Ok(Err(NoAnswer::NoSuchMaster)) => Ok(None),
        Ok(Err(no)) => Err(sentinel_fault(no, &config.sentinel.address)
            .cause()
            .to_owned()),
        // Also a password file that cannot be used: the VIP is not to stay behind for that.
        Err(fault) => Err(fault.cause().to_owned()),
    };
    // The Redis that decides is the last; a name is looked up only once it is known that it matters.
    let is_other = matches!(&said, Ok(Some(said)) if said.host != to.host);
    let decides = match &said {
        Ok(Some(said)) if is_other => named(said, run_id(&known, said)).await,
        _ => Named {
            // The call alone may be anybody's.
            is_vouched_for: matches!(said, Ok(Some(_))),
            ..named(to, run_id(&known, to)).await
        },
    };
    known.push(decides);
    let last = known.len() - 1;
    let (mut sites, own_redis) = finder.find(&known, |place| place == last).await;
    let site = sites.remove(last);
    let addresses = site.addresses.clone();
    let unknown = |endpoint: &Endpoint| Site {
        endpoint: endpoint.clone(),
        addresses: hosts::at_hand(&endpoint.host),
        run_id: None,
        place: Err(Fault::passing("its name was not looked up")),
    };
    let (to_site, word) = match said {
        Ok(Some(_)) if is_other => (unknown(to), Word::Says(site)),
        Ok(Some(_)) => (site, Word::Agrees),
        Ok(None) => (site, Word::Unmonitored),
        Err(why) => (site, Word::Silent(why)),
    };
    let word = match (before, word) {
        (Some(known @ (Word::Says(_) | Word::Agrees)), Word::Silent(_)) => known,
        (_, word) => word,
    };
    let mut servers = servers::configured(config);
    servers.extend(servers::own_addresses(&told));
    servers.extend(remembered);
    servers.extend(from.iter().flat_map(|from| hosts::at_hand(&from.host)));
    servers.extend(&to_site.addresses);
    servers.extend(addresses);
    Ok(Evidence {
        vip_of_a_server: Vips::among(config, servers).of_a_server(&[]),
        call: Some(Call {
            to: to_site,
            carries_information: failover.carries_information(),
        }),
        word: Some(word),
        own_redis,
        ..Evidence::default()
    })
}

/// Returns what is known where an operator gives an order: what keeps a mistake from being obeyed, and where each Redis
/// is, by its address. A Sentinel that does not answer is passed over.
pub async fn of_order(
    config: &Config,
    order: Order,
    names: &[&str],
    snapshot: &Snapshot<'_>,
) -> Evidence {
    let told = told(config, names, Some(&Memory::read())).await;
    let told = told.unwrap_or_default();
    let instances = told.iter().flatten().flat_map(|told| &told.servers);
    let endpoints = instances.filter_map(|one| endpoint(&one.host, one.port).ok());
    // Where Redis is tells only where a VIP goes that no subnet holds.
    let endpoints: Vec<Endpoint> = endpoints.filter(|_| order == Order::Bind).collect();
    let sites = endpoints
        .iter()
        .map(|at| timeout(NAMES, site(config, snapshot, at)));
    let sites = join_all(sites).await;
    Evidence {
        order: Some(order),
        known_redis: sites.into_iter().flatten().collect(),
        vip_of_a_server: Vips::among(config, servers_by(config, told)).of_a_server(&[]),
        ..Evidence::default()
    }
}

/// Returns the addresses that servers have of their own, none of which can be a VIP. A Sentinel that does not answer
/// is passed over.
pub async fn servers_of(config: &Config, names: &[&str]) -> BTreeSet<IpAddr> {
    let told = told(config, names, Some(&Memory::read())).await;
    servers_by(config, told.unwrap_or_default())
}

fn servers_by(config: &Config, told: Vec<Result<Told, NoAnswer>>) -> BTreeSet<IpAddr> {
    let mut servers: BTreeSet<IpAddr> = few::set(servers::configured(config));
    servers.extend(servers::remembered(&Memory::read()));
    for told in told {
        servers.extend(servers::masters(&told));
        servers.extend(servers::own_addresses(&Ok(told)));
    }
    servers
}

/// Remembers what this host's Sentinel says of masters that nothing is remembered of: `sync` may find it silent
/// before it was ever asked. What cannot be written is not remembered.
pub async fn remember_new(config: &Config, names: &[&str]) {
    let mut memory = Memory::read();
    let new: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| memory.of(name).is_none())
        .collect();
    memory.note_vips(config, |_| true);
    let told = match new.is_empty() {
        true => Vec::new(),
        false => told(config, &new, Some(&memory)).await.unwrap_or_default(),
    };
    let mut found = Vec::new();
    for (name, told) in new.iter().zip(told) {
        let Ok(told) = told else { continue };
        let listed = |all: &[redis::Instance]| all.iter().map(Listed::from).collect();
        let known = Known {
            sentinels: listed(&told.sentinels),
            quorum: told.quorum,
            redis: listed(&told.servers),
        };
        if !known.redis.is_empty() {
            found.push((*name, known));
        }
    }
    memory.learn(found, config);
    let _ = memory.write(config);
}

/// Returns what is known about a master by the word of all Sentinels, and of its Redis on this host.
/// `waited` is for how long the Sentinels have not been of one mind; `said` is what this host's Sentinel says now
/// (see [`master_of`]). Each answer may take as long as in the poll.
///
/// # Errors
///
/// This host's Sentinel now says another master than in the poll, or answered then and does not now: a hook
/// may have come first, while this run waited for the lock. Passing.
pub async fn of_poll(
    config: &Config,
    name: &str,
    poll: &Poll,
    waited: Duration,
    said: impl Future<Output = Result<Option<Endpoint>, Fault>>,
    (lines, snapshot): (&Lines, &Snapshot<'_>),
) -> Result<Evidence, Fault> {
    let (patience, master) = (poll.patience(), config.master(name)?);
    let finder = Finder::new(config, name, master, snapshot, patience.round()).on(lines);
    let named = poll.named();
    let find = finder.find(&named, |_| true);
    let (said, (sites, own_redis)) = join(said, find).await;
    let at = &config.sentinel.address;
    // Where it was silent in the poll, it may be so still.
    let said = match said {
        Err(_) if poll.is_without_local() => None,
        said => said?,
    };
    let mut evidence = poll.evidence(&sites, said.as_ref(), &at.to_string(), waited)?;
    evidence.own_redis = own_redis;
    // What a forged Sentinel alone names is no Redis of this master.
    let vouched = sites
        .into_iter()
        .zip(&named)
        .filter(|(_, one)| one.is_vouched_for);
    evidence.known_redis = vouched.map(|(site, _)| site).collect();
    Ok(evidence)
}

/// Returns whether a site is on this host, if that can be told.
pub fn is_here(site: &Site) -> Option<bool> {
    match site.place {
        Ok(Place::Here(_)) => Some(true),
        Ok(Place::Elsewhere) => Some(false),
        Err(_) => None,
    }
}
