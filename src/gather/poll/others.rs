//! The other Sentinels: who they are, where they are, and what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::NAMES;
use crate::failover::Host;
use crate::gather::ROUND;
use crate::hosts;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{self, Instance, NoAnswer, Server, View};

/// How many Sentinels are asked at the same time.
const AT_ONCE: usize = 8;

/// Another Sentinel, and what it says.
pub(super) struct Other {
    pub(super) at: Instance,
    /// Where it is asked, or why it cannot be.
    pub(super) server: Result<Server, String>,
    /// By master-name; `None` where it is still to be asked.
    pub(super) views: BTreeMap<String, Option<Result<View, NoAnswer>>>,
}

/// Adds the Sentinels of these lists, each once however often and by whatever name it is listed.
pub(super) async fn add(others: &mut Vec<Other>, lists: Vec<(&str, &[Instance])>, own: &Server) {
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
pub(super) async fn ask(others: &mut [Other]) {
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
pub(super) async fn further(others: &[Other], own: &Server) -> Vec<(String, Instance)> {
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
pub(super) async fn forget_local(views: impl Iterator<Item = &mut View>, own: &Server) {
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

/// Whether two descriptions are of one Sentinel: by run id where both have it, else by address.
pub(super) fn is_same(one: &Instance, other: &Instance) -> bool {
    match (&one.run_id, &other.run_id) {
        (Some(one), Some(other)) => one == other,
        _ => one.host == other.host && one.port == other.port,
    }
}
