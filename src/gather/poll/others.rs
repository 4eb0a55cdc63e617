//! The other Sentinels: where they are, how they are asked, and what they say.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join_all, pending, select};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::NAMES;
use super::count::NotAsked;
use crate::config::Config;
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::gather::patience::{ALL, Patience, ROUND};
use crate::gather::remembered::Memory;
use crate::hosts::{Kept, Unresolved};
use crate::redis::{self, Access, Instance, Lines, NoAnswer, Owner, Server, View};

/// How many Sentinels are asked at the same time.
const AT_ONCE: usize = 8;

/// How long the others are waited for once more than half of all have answered.
const MOMENT: Duration = Duration::from_millis(100);

/// Another Sentinel, and what it says.
pub(super) struct Other {
    /// Every way in which it is listed.
    pub(super) listed_as: Vec<Instance>,
    /// Where it is asked, or why it cannot be.
    pub(super) server: Result<Server, NotAsked>,
    /// Whether it is sent the credentials.
    pub(super) is_peer: bool,
    /// By master-name; `None` where it is still to be asked.
    pub(super) views: BTreeMap<String, Option<Result<View, NoAnswer>>>,
}

impl Other {
    pub(super) fn is_listed_as(&self, at: &Instance) -> bool {
        self.listed_as.iter().any(|known| is_same(known, at))
    }

    fn endpoint(&self) -> Option<&redis::Endpoint> {
        self.server.as_ref().ok().map(|server| &server.endpoint)
    }

    /// Returns whether it told what it was asked about a master; `None` where that was not waited for.
    pub(super) fn has_answered(&self, name: &str) -> Option<bool> {
        match self.views.get(name)?.as_ref()? {
            Err(NoAnswer::NotAwaited) => None,
            view => Some(view.is_ok()),
        }
    }

    /// Returns whether it is better asked late: it may send another in vain into its time-out.
    fn is_said_to_be_down(&self) -> bool {
        let is_down = |at: &Instance| at.flags.iter().any(|flag| flag == "s_down");
        !self.is_peer && self.listed_as.iter().all(is_down)
    }
}

/// How the other Sentinels are asked.
pub(super) struct Asking<'a> {
    /// Where names lead.
    pub(super) names: &'a Kept,
    /// Where the local Sentinel is asked, if that is known.
    pub(super) own: Option<redis::Endpoint>,
    /// For the `peers` of the configuration.
    pub(super) access: Access,
    /// Where these are.
    pub(super) peers: Vec<SocketAddr>,
    /// The configuration's VIPs.
    pub(super) vips: Vec<IpAddr>,
    /// Whether the local Sentinel has told anything.
    pub(super) local_answers: bool,
    /// Who a Sentinel of this host has to be of, and what says so.
    pub(super) owner: (&'a Owner, &'a Config),
}

impl Asking<'_> {
    /// Returns how a Sentinel is asked, and whether with the credentials: anybody who may publish on a
    /// monitored Redis can forge the address of a Sentinel, and would be sent the password.
    async fn find(&self, at: &Instance, until: Instant) -> (Result<Server, NotAsked>, bool) {
        let addresses = match addresses(at, self.names, until).await {
            Ok(addresses) => addresses,
            Err(why) => return (Err(why), false),
        };
        let peer = addresses.iter().find(|at| self.peers.contains(at));
        if addresses.iter().all(|at| self.vips.contains(&at.ip())) {
            // The VIP was its host's source address for a while; the host that has the VIP now would vote twice.
            let why = "it is known by a VIP, where another host may answer";
            return (Err(NotAsked::Nowhere(why.into())), false);
        }
        let (owner, config) = self.owner;
        let to = |access: &Access, at: SocketAddr| Ok(access.to(at).guarded_by(owner, config));
        match (peer, addresses.first()) {
            (Some(peer), _) => (to(&self.access, *peer), true),
            (None, Some(first)) => (to(&self.access.without_credentials(), *first), false),
            (None, None) => (
                Err(NotAsked::Nowhere("its name has no address".into())),
                false,
            ),
        }
    }
}

/// Returns every address of the peers, as far as their names resolve until then.
pub(super) async fn addresses_of(
    peers: &[Endpoint],
    names: &Kept,
    until: Instant,
) -> Vec<SocketAddr> {
    let each = peers.iter().map(async |peer| {
        let found = names.look_up(&peer.host, left(until)).await;
        let at = |address| SocketAddr::new(address, peer.port);
        let found = found.unwrap_or_default().into_iter().map(at);
        found.collect::<Vec<SocketAddr>>()
    });
    join_all(each).await.concat()
}

async fn addresses(
    at: &Instance,
    names: &Kept,
    until: Instant,
) -> Result<Vec<SocketAddr>, NotAsked> {
    let nowhere = |why: &str| NotAsked::Nowhere(why.into());
    let host = Host::read(&at.host)
        .ok_or_else(|| nowhere("its address is neither an address nor a name"))?;
    match names.look_up(&host, left(until)).await {
        Ok(addresses) => {
            let at = |address| SocketAddr::new(address, at.port);
            Ok(addresses.into_iter().map(at).collect())
        }
        Err(Unresolved::Unknown(_)) => Err(nowhere("its name does not resolve here")),
        Err(Unresolved::Unanswered(_)) => {
            let why = "its name does not resolve here: no name server answers";
            Err(NotAsked::Unresolved(why.into()))
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Adds the Sentinels of these lists, each once however often and by whatever name it is listed: one address
/// has one vote.
pub(super) async fn add(
    others: &mut Vec<Other>,
    lists: &[(&str, &[Instance])],
    asking: &Asking<'_>,
) {
    let until = Instant::now() + NAMES;
    let mut new: Vec<&Instance> = Vec::new();
    for at in lists.iter().flat_map(|(_, list)| *list) {
        let is_known = others.iter().any(|other| other.is_listed_as(at));
        if !is_known && !new.iter().any(|new| is_same(new, at)) {
            new.push(at);
        }
    }
    let found = join_all(new.iter().map(|at| asking.find(at, until))).await;
    for (at, (server, is_peer)) in new.into_iter().zip(found) {
        let endpoint = server.as_ref().ok().map(|server| &server.endpoint);
        if endpoint.is_some() && endpoint == asking.own.as_ref() {
            continue;
        }
        let mut known = others.iter_mut();
        match known.find(|other| endpoint.is_some() && other.endpoint() == endpoint) {
            Some(other) => other.listed_as.push(at.clone()),
            None => others.push(Other {
                listed_as: vec![at.clone()],
                server,
                is_peer,
                views: BTreeMap::new(),
            }),
        }
    }
    for (name, list) in lists {
        for at in *list {
            let mut known = others.iter_mut();
            if let Some(other) = known.find(|other| other.is_listed_as(at)) {
                other.views.entry((*name).to_owned()).or_insert(None);
            }
        }
    }
}

/// Asks every Sentinel about the masters for which it was not asked yet, some at a time: each answer takes
/// memory.
pub(super) async fn ask(
    others: &mut [Other],
    asking: &Asking<'_>,
    patience: Patience,
    lines: &Lines,
) {
    let began = Instant::now();
    // With the local Sentinel more than half of all.
    let most = others.len().div_ceil(2) + usize::from(!asking.local_answers);
    let has_answered = |other: &&Other| other.views.values().flatten().any(Result::is_ok);
    let before = others.iter().filter(has_answered).count();
    let (answered, came) = (Cell::new(before), Notify::new());
    let mut in_order: Vec<&mut Other> = others.iter_mut().collect();
    in_order.sort_by_key(|other| other.is_said_to_be_down());
    let each = stream::iter(in_order);
    let asked = each.for_each_concurrent(AT_ONCE, async |other| {
        let names = other.views.iter().filter(|(_, view)| view.is_none());
        let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        let views = match &other.server {
            Ok(server) if !names.is_empty() => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let asked = redis::views(server, lines, &names, patience.round()).await;
                asked.unwrap_or_else(|no| vec![Err(no); names.len()])
            }
            // Why it was not asked is told in place of this.
            _ => vec![Err(NoAnswer::NoSuchMaster); names.len()],
        };
        if views.iter().any(Result::is_ok) {
            answered.set(answered.get() + 1);
            came.notify_one();
        }
        let views = views.into_iter().map(Some);
        other.views.extend(names.into_iter().zip(views));
    });
    let enough = async {
        while answered.get() < most {
            came.notified().await;
        }
        match patience {
            // A local Sentinel that was not asked knows no better than the others.
            Patience::Quick if asking.local_answers => {
                sleep(MOMENT).await;
                NoAnswer::NotAwaited
            }
            Patience::Longer(_) => {
                sleep_until(began + ROUND).await;
                NoAnswer::Silent(ROUND)
            }
            Patience::Full | Patience::Quick => pending().await,
        }
    };
    let all = patience.all();
    let why = match timeout(all, select(pin!(asked), pin!(enough))).await {
        Ok(Either::Right((why, _))) => why,
        Ok(Either::Left(_)) | Err(_) => NoAnswer::Silent(all),
    };
    for view in others.iter_mut().flat_map(|other| other.views.values_mut()) {
        view.get_or_insert(Err(why.clone()));
    }
}

/// What another Sentinel answers when it is asked as a poll asks it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Where it was asked.
    pub at: SocketAddr,
    /// How it was asked, and is asked on.
    pub way: Server,
    /// The master that it was asked about.
    pub master: String,
    /// Whether it was sent the credentials.
    pub is_peer: bool,
    /// Whether it told where this master is.
    pub said: Result<(), NoAnswer>,
}

/// Asks Sentinels where a master is, each as a poll asks it, and for `check`.
///
/// # Errors
///
/// Files that cannot be used.
pub async fn try_others(
    config: &Config,
    others: &[(SocketAddr, &str)],
) -> Result<Vec<Tried>, Fault> {
    let until = Instant::now() + NAMES;
    let peers = addresses_of(&config.sentinel.peers, &Kept::default(), until).await;
    let access = Access::load(config)?;
    let without = access.without_credentials();
    let owner = Memory::read().owner(config);
    let each = others.iter().map(async |(at, master)| {
        let is_peer = peers.contains(at);
        let way = if is_peer { &access } else { &without }.to(*at);
        let way = way.guarded_by(&owner, config);
        let said = redis::master_address(&way, &Lines::default(), master, ROUND).await;
        Tried {
            at: *at,
            way,
            master: (*master).to_owned(),
            is_peer,
            said: said.map(drop),
        }
    });
    let tried = stream::iter(each).buffered(AT_ONCE);
    let tried = tried.take_until(sleep(ALL)).collect().await;
    Ok(tried)
}

/// Whether two descriptions are of one Sentinel: by run id where both have it, else by address.
pub(super) fn is_same(one: &Instance, other: &Instance) -> bool {
    match (&one.run_id, &other.run_id) {
        (Some(one), Some(other)) => one == other,
        _ => one.host == other.host && one.port == other.port,
    }
}
