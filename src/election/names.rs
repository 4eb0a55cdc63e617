//! Whether a Redis is the one that somebody else calls by another name. A master knows its replicas by their addresses,
//! or as they announce themselves (`replica-announce-ip`), Sentinel by what it was told (`announce-hostnames`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::failover::{Endpoint, Host};
use crate::few;
use crate::gather::sites::endpoint;
use crate::hosts::Kept;

/// Reads an endpoint as it is shown: `ADDRESS:PORT`, with brackets around an IPv6 address.
pub fn read(at: &str) -> Option<Endpoint> {
    let (host, port) = at.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    endpoint(host, port.parse().ok()?).ok()
}

/// Returns how the Sentinels call these Redis: all of `named` that are one of `these`, compared as addresses. A name
/// that no name server tells within this time is compared as text.
pub async fn as_named(
    these: &[String],
    named: &[String],
    (kept, within): (&Kept, Duration),
) -> Vec<String> {
    if named.iter().all(|one| these.contains(one)) {
        return named.to_vec();
    }
    let all = Addresses::of(these.iter().chain(named), (kept, within)).await;
    let is_one = |one: &&String| these.iter().any(|other| all.are_same(one, other));
    named.iter().filter(is_one).cloned().collect()
}

/// The addresses of hosts, each of which is looked up once.
#[derive(Debug, Default)]
pub struct Addresses(BTreeMap<String, Vec<IpAddr>>);

impl Addresses {
    /// Looks up the hosts of these endpoints, all at the same time, for so long.
    pub async fn of(all: impl Iterator<Item = &String>, by: (&Kept, Duration)) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.learn(all.filter_map(|at| read(at)), by).await;
        addresses
    }

    /// Looks up the hosts of these endpoints, as far as they are not known.
    pub async fn learn(
        &mut self,
        all: impl Iterator<Item = Endpoint>,
        (kept, within): (&Kept, Duration),
    ) {
        let unknown = all.map(|at| (at.host.to_string(), at.host));
        let unknown: BTreeMap<String, Host> =
            few::map(unknown.filter(|(name, _)| !self.0.contains_key(name)));
        let found = unknown.into_iter().map(async |(name, host)| {
            let found = kept.look_up(&host, within).await.unwrap_or_default();
            (name, found)
        });
        self.0.extend(join_all(found).await);
    }

    /// Returns whether both are the same Redis, as far as that is known.
    pub fn are_same(&self, one: &str, other: &str) -> bool {
        if one == other {
            return true;
        }
        let (Some(one), Some(other)) = (read(one), read(other)) else {
            return false;
        };
        let of = |host: &Host| self.0.get(&host.to_string()).map(Vec::as_slice);
        let of = |host: &Host| of(host).unwrap_or_default();
        let others = of(&other.host);
        one.port == other.port && of(&one.host).iter().any(|at| others.contains(at))
    }
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

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_and_its_address_are_the_same_redis() {
        let within = Duration::from_secs(5);
        let text = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        // /etc/hosts has this name.
        let (name, address) = (text(&["localhost:6379"]), text(&["127.0.0.1:6379"]));
        for (these, named) in [(&name, &address), (&address, &name), (&name, &name)] {
            assert_eq!(
                &as_named(these, named, (&Kept::default(), within)).await,
                named
            );
        }
        let others = text(&["127.0.0.1:6380", "10.0.0.2:6379"]);
        assert!(
            as_named(&name, &others, (&Kept::default(), within))
                .await
                .is_empty()
        );
    }
}
