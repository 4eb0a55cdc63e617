//! The names of Redis, looked up before the lock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::NAMES;
use super::count::Poll;
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::hosts;

/// Looks the names of all Redis up, each once and all at the same time: a name server may be out of reach just
/// when a master dies. A master is waited for as long as its name needs, a replica for a second.
pub(super) async fn look_up(polls: impl Iterator<Item = &mut Poll>) {
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
        let of_it = poll.redis().map(|endpoint| endpoint.host.to_string());
        poll.addresses = of_it
            .filter_map(|host| Some((host.clone(), found.get(&host)?.clone())))
            .collect();
    }
}
