//! Gathers evidence: asks the Sentinels, Redis, name servers and the kernel what is true about a master.
//! Says nothing about what follows from it.

mod newest;
mod poll;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::Instant;

use self::poll::endpoint;
use crate::config::{Config, Master, SENTINEL_TIMEOUT};
use crate::evidence::{self, Call, Evidence, OwnRedis, Place, Role, Site, Word};
use crate::exit::Fault;
use crate::failover::{Endpoint, Failover, Host};
use crate::hosts;
use crate::kernel::Snapshot;
use crate::redis::{self, NoAnswer, redis_fault, redis_server, sentinel_fault, sentinel_server};

pub use newest::newest;
pub use poll::{Asked, Poll, count, poll};

/// How long each round of questions may take: to this host's Sentinel, then to all others at once, then to
/// this host's Redis.
const ROUND: Duration = Duration::from_millis(800);

/// How many Redis of this host are asked for their role.
const MOST_REDIS: usize = 8;

/// Returns what this host's Sentinel says of a master.
///
/// # Errors
///
/// A Sentinel that cannot be asked is passing; files that cannot be used, and a refused password, are
/// permanent. A master that it does not monitor is `None`.
pub async fn master_of(config: &Config, name: &str) -> Result<Option<Endpoint>, Fault> {
    let until = Instant::now() + SENTINEL_TIMEOUT;
    let server = sentinel_server(config, until).await?;
    let left = until.saturating_duration_since(Instant::now());
    match redis::master_address(&server, name, left).await {
        Ok(said) => endpoint(&said.host, said.port).map(Some).map_err(|why| {
            let no = NoAnswer::Unexpected(why);
            sentinel_fault(&no, &config.sentinel.address)
        }),
        Err(NoAnswer::NoSuchMaster) => Ok(None),
        Err(no) => Err(sentinel_fault(&no, &config.sentinel.address)),
    }
}

/// Returns the site of a Redis: its addresses, and whether they are this host's.
pub async fn site(snapshot: &Snapshot<'_>, endpoint: &Endpoint) -> Site {
    match hosts::addresses(&endpoint.host).await {
        Ok(addresses) => place(snapshot, endpoint, addresses).await,
        Err(fault) => unplaced(endpoint, fault),
    }
}

async fn place(snapshot: &Snapshot<'_>, endpoint: &Endpoint, addresses: Vec<IpAddr>) -> Site {
    let is_own_name = match &endpoint.host {
        Host::Name(name) => evidence::is_own_name(name, &hosts::own_name()),
        Host::Address(_) => false,
    };
    let carriers = snapshot.carriers(&addresses).await;
    Site {
        endpoint: endpoint.clone(),
        addresses,
        place: carriers.and_then(|carriers| evidence::place(&carriers, is_own_name)),
    }
}

fn unplaced(endpoint: &Endpoint, fault: Fault) -> Site {
    Site {
        endpoint: endpoint.clone(),
        addresses: Vec::new(),
        place: Err(fault),
    }
}

/// Returns what is known about Sentinel's call. `before` is what this host's Sentinel said in an earlier
/// attempt: its word of a moment ago is better than none.
pub async fn of_call(
    config: &Config,
    failover: &Failover,
    before: Option<Word>,
    snapshot: &Snapshot<'_>,
) -> Evidence {
    let to = &failover.to;
    // A name is looked up only once it is known that it matters.
    let at_hand = async {
        match to.host {
            Host::Address(address) => Some(place(snapshot, to, vec![address]).await),
            Host::Name(_) => None,
        }
    };
    let (said, at_hand) = join(master_of(config, &failover.master), at_hand).await;
    let word = match said {
        Ok(None) => Word::Unmonitored,
        Ok(Some(said)) if said.host == to.host => Word::Agrees,
        Ok(Some(said)) => Word::Says(site(snapshot, &said).await),
        // Also a password file that cannot be used: the VIP is not to stay behind for that.
        Err(fault) => Word::Silent(fault.cause().to_owned()),
    };
    let word = match (before, word) {
        (Some(known @ (Word::Says(_) | Word::Agrees)), Word::Silent(_)) => known,
        (_, word) => word,
    };
    let to = match (at_hand, &word) {
        (Some(site), _) => site,
        (None, Word::Says(_)) => unplaced(to, Fault::passing("its name was not looked up")),
        (None, _) => site(snapshot, to).await,
    };
    let mut servers = to.addresses.clone();
    if let Word::Says(site) = &word {
        // The call is stale: the address in it does not matter any more.
        servers.clone_from(&site.addresses);
    }
    Evidence {
        vips: config.vips().map(|vip| vip.address).collect(),
        servers,
        call: Some(Call {
            to,
            carries_information: failover.carries_information(),
        }),
        word: Some(word),
        ..Evidence::default()
    }
}

/// Returns what is known about a master by the word of all Sentinels, and of its Redis on this host.
/// `waited` is for how long the Sentinels have not been of one mind.
///
/// # Errors
///
/// This host's Sentinel now says another master than in the poll, or does not answer: a hook may have come
/// first, while this run waited for the lock. Passing.
pub async fn of_poll(
    config: &Config,
    name: &str,
    poll: &Poll,
    waited: Duration,
    snapshot: &Snapshot<'_>,
) -> Result<Evidence, Fault> {
    let master = config.master(name)?;
    let mut sites: Vec<Site> = Vec::new();
    for endpoint in poll.redis() {
        if !sites.iter().any(|site| site.endpoint == *endpoint) {
            sites.push(match poll.addresses(endpoint) {
                Ok(addresses) => place(snapshot, endpoint, addresses).await,
                Err(fault) => unplaced(endpoint, fault),
            });
        }
    }
    let own = sites.iter().filter(|site| site.is_here()).take(MOST_REDIS);
    let roles = join_all(own.map(|site| role(config, name, master, site)));
    let (said, own_redis) = join(master_of(config, name), roles).await;
    let at = &config.sentinel.address;
    let mut evidence = poll.evidence(&sites, said?.as_ref(), &at.to_string(), waited)?;
    evidence.vips = config.vips().map(|vip| vip.address).collect();
    evidence.own_redis = own_redis;
    Ok(evidence)
}

/// Asks a Redis of this host for its role. A name may have addresses on which it does not listen, such as
/// 127.0.1.1: one answer is enough.
async fn role(config: &Config, name: &str, master: &Master, site: &Site) -> OwnRedis {
    let ask = async |address: IpAddr| -> Result<Role, Fault> {
        let at = SocketAddr::new(address, site.endpoint.port);
        let server = redis_server(config, master, at)?;
        redis::role(&server, ROUND)
            .await
            .map_err(|no| redis_fault(&no, at, name))
    };
    let each = join_all(site.addresses.iter().map(|address| ask(*address))).await;
    let said = each.into_iter().reduce(|one, next| one.or(next));
    OwnRedis {
        site: site.clone(),
        role: said.unwrap_or_else(|| Err(Fault::passing("it has no address"))),
    }
}

/// Returns whether a site is on this host, if that can be told.
pub fn is_here(site: &Site) -> Option<bool> {
    match site.place {
        Ok(Place::Here(_)) => Some(true),
        Ok(Place::Elsewhere) => Some(false),
        Err(_) => None,
    }
}
