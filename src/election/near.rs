//! Which of the replicas that the Sentinels list are those that a master has told of: one may name a host by its name
//! (`replica-announce-ip`, `announce-hostnames`) and the other by its address.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, timeout_at};

use super::look::Look;
use crate::failover::Endpoint;
use crate::gather::sites::endpoint;
use crate::hosts;

/// Returns the replicas that a master has told of, as the Sentinels list them. Names have so long to resolve; nothing is
/// looked up where both name all of them alike. One that no Sentinel lists is left out.
pub async fn as_listed(told: &[String], looks: &[Option<Look>], within: Duration) -> Vec<String> {
    let looks = looks.iter().flatten();
    let mut listed: Vec<String> = looks
        .flat_map(|look| look.replicas.iter().map(|one| one.at.clone()))
        .collect();
    listed.sort();
    listed.dedup();
    if told.iter().all(|one| listed.contains(one)) {
        return told.to_vec();
    }
    let until = Instant::now() + within;
    let (told, found) = join(look_up(told, until), look_up(&listed, until)).await;
    let both = listed.into_iter().zip(found);
    let is_told = both.filter(|(_, one)| {
        one.iter()
            .any(|one| told.iter().flatten().any(|it| one.is_same(it)))
    });
    is_told.map(|(at, _)| at).collect()
}

/// A replica, and the addresses of its host as far as they are known.
struct Replica {
    endpoint: Endpoint,
    addresses: Vec<IpAddr>,
}

impl Replica {
    fn is_same(&self, other: &Replica) -> bool {
        let mut addresses = self.addresses.iter();
        self.endpoint == other.endpoint
            || self.endpoint.port == other.endpoint.port
                && addresses.any(|address| other.addresses.contains(address))
    }
}

async fn look_up(all: &[String], until: Instant) -> Vec<Option<Replica>> {
    let each = all.iter().map(async |at| {
        let endpoint = read(at)?;
        let found = timeout_at(until, hosts::addresses(&endpoint.host)).await;
        Some(Replica {
            addresses: found.ok().and_then(Result::ok).unwrap_or_default(),
            endpoint,
        })
    });
    join_all(each).await
}

/// Reads an endpoint as it is shown: `ADDRESS:PORT`, with brackets around an IPv6 address.
pub fn read(at: &str) -> Option<Endpoint> {
    let (host, port) = at.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    endpoint(host, port.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_shown() {
        for at in ["10.0.0.2:6379", "[fd00::2]:6379", "redis-2.example:6379"] {
            assert_eq!(read(at).unwrap().to_string(), at);
        }
        assert_eq!(read("10.0.0.2"), None);
    }
}
