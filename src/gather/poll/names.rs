//! The names of Redis, looked up before the lock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::future::join_all;

use super::NAMES;
use super::count::Poll;
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::few;
use crate::hosts::{self, Kept, Unresolved};

/// Looks the names of all Redis up, each once and all at the same time: a name server may be out of reach just
/// when a master dies. A master is waited for as long as its name needs, unless it is known where that led last; a
/// replica for a second.
pub(super) async fn look_up<'a>(polls: impl Iterator<Item = &'a mut Poll>, names: &Kept) {
    let mut polls: Vec<&mut Poll> = polls.collect();
    let mut wanted: BTreeMap<String, (Host, bool)> = BTreeMap::new();
    for poll in &polls {
        let masters: Vec<&Endpoint> = poll
            .votes
            .iter()
            .filter_map(|vote| vote.says.as_ref().ok())
            .collect();
        for endpoint in poll.redis() {
            let is_master = masters.contains(&endpoint);
            let name = wanted.entry(endpoint.host.to_string());
            name.or_insert((endpoint.host.clone(), false)).1 |= is_master;
        }
    }
    let each = wanted.into_iter().map(async |(text, (host, is_master))| {
        let within = match is_master && !names.has(&host) {
            true => hosts::TIMEOUT,
            false => NAMES,
        };
        let found = names.look_up(&host, within).await;
        let found = found.map_err(Unresolved::fault);
        (text, found)
    });
    let found: BTreeMap<String, Result<Vec<IpAddr>, Fault>> = few::map(join_all(each).await);
    for poll in &mut polls {
        let of_it = poll.redis().map(|endpoint| endpoint.host.to_string());
        poll.addresses = of_it
            .filter_map(|host| Some((host.clone(), found.get(&host)?.clone())))
            .collect();
    }
}
