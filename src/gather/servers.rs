//! The addresses that servers have of their own, none of which can be a VIP. Pure but for /etc/hosts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::hosts;
use super::remembered::Memory;
use super::sites::{Named, at_hand, endpoint};
use crate::config::{Address, Config};
use crate::exit::Fault;
use crate::failover::Host;
use crate::few;
use crate::redis::{Instance, NoAnswer, Told};

/// The configuration's VIPs, and which of them is a server's own address: the same for all masters of a round of
/// questions.
#[derive(Clone, Debug, Default)]
pub struct Vips {
    all: BTreeSet<IpAddr>,
    of_a_server: Option<IpAddr>,
}

impl Vips {
    /// Returns them, beside the addresses that servers have of their own.
    pub fn among(config: &Config, servers: impl IntoIterator<Item = IpAddr>) -> Vips {
        let all = config.vips().map(|vip| vip.address).collect();
        let mut vips = Vips {
            all,
            of_a_server: None,
        };
        vips.of_a_server = vips.first_of(servers);
        vips
    }

    /// Returns the first of these addresses that is a VIP.
    fn first_of(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
        let mut addresses = addresses.into_iter();
        addresses.find(|address| self.all.contains(address))
    }

    /// Returns a VIP that is a server's address, these ones included.
    pub fn of_a_server(&self, further: &[IpAddr]) -> Option<IpAddr> {
        let further = || self.first_of(further.iter().copied());
        self.of_a_server.or_else(further)
    }
}

/// What this host's Sentinel told of one master, or why it did not.
pub type Answer = Result<Result<Told, NoAnswer>, Fault>;

fn instances(told: &Answer) -> &[Instance] {
    match told {
        Ok(Ok(told)) => &told.servers,
        _ => &[],
    }
}

/// Returns every Redis that Sentinel knows of a master.
pub fn known(told: &Answer) -> Vec<Named> {
    let named = |one: &Instance| {
        let endpoint = endpoint(&one.host, one.port).ok()?;
        Some(at_hand(&endpoint, one.run_id.clone()))
    };
    instances(told).iter().filter_map(named).collect()
}

/// Returns the addresses of the master that Sentinel names.
pub fn masters(told: &Result<Told, NoAnswer>) -> Vec<IpAddr> {
    let told = told.as_ref().ok();
    told.map(|told| addresses(&told.master.host))
        .unwrap_or_default()
}

/// Returns the addresses that are certainly a server's own, of those that Sentinel knows: see [`certain`].
pub fn own_addresses(told: &Answer) -> Vec<IpAddr> {
    match told {
        Ok(Ok(told)) => certain(&told.servers, &told.sentinels),
        _ => Vec::new(),
    }
}

/// Returns the addresses of replicas and other Sentinels that are certainly their own. A VIP that has become a
/// host's source address is known as theirs, too, and that is not a mistake in the configuration. Such a replica
/// does not answer there once the VIP has moved, or it is the Redis that has another address as well. Such a
/// Sentinel is missing at the address of its host's Redis: of all hosts with a Redis only the one that asks has a
/// Sentinel that is not listed.
pub fn certain(redis: &[Instance], sentinels: &[Instance]) -> Vec<IpAddr> {
    let is = |one: &Instance, flag: &str| one.flags.iter().any(|it| it == flag);
    let is_certain = |one: &&Instance| {
        let mut same = redis
            .iter()
            .filter(|other| other.run_id == one.run_id && other.host != one.host);
        is(one, "slave") && !is(one, "s_down") && one.run_id.is_some() && same.next().is_none()
    };
    let replicas = redis.iter().filter(is_certain);
    let without: BTreeSet<&str> = few::set(
        redis
            .iter()
            .map(|one| one.host.as_str())
            .filter(|host| !sentinels.iter().any(|sentinel| sentinel.host == *host)),
    );
    let alive = sentinels
        .iter()
        .filter(|one| without.len() < 2 && !is(one, "s_down"));
    replicas
        .chain(alive)
        .flat_map(|one| addresses(&one.host))
        .collect()
}

/// Returns the addresses of servers that Sentinel has named before: also of those that only have a Sentinel, and
/// where it may not be asked for its lists. No VIP gets there because it was a source address
/// (see [`Memory::learn`]).
pub fn remembered(memory: &Memory) -> Vec<IpAddr> {
    // Most masters are on the same few hosts.
    let hosts: BTreeSet<&str> = few::set(memory.hosts());
    hosts.into_iter().flat_map(addresses).collect()
}

/// Returns the addresses of servers that stand in the configuration.
pub fn configured(config: &Config) -> Vec<IpAddr> {
    let sentinel = match &config.sentinel.address {
        Address::Tcp(Host::Address(address), _) => Some(*address),
        _ => None,
    };
    let peers = config.sentinel.peers.iter().map(|peer| &peer.host);
    let named = config.hosts.values().flatten().chain(peers);
    let named = named.filter_map(|host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    });
    sentinel.into_iter().chain(named).collect()
}

fn addresses(host: &str) -> Vec<IpAddr> {
    let host = Host::read(host);
    host.map(|host| hosts::at_hand(&host)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_known_by_a_source_address_does_not_make_it_its_own() {
        let one = |host: &str, run_id: Option<&str>, flags: &str| Instance {
            host: host.into(),
            port: 6379,
            run_id: run_id.map(str::to_owned),
            flags: flags.split(',').map(str::to_owned).collect(),
        };
        let (master, c) = (
            one("10.0.0.1", Some("a"), "master"),
            one("10.0.0.3", Some("c"), "slave"),
        );
        let own = |vip: Instance| {
            let found = certain(&[master.clone(), c.clone(), vip], &[]);
            let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
            texts.join(" ")
        };
        let vip = "10.0.0.9";
        assert_eq!(own(one(vip, Some("d"), "slave")), "10.0.0.3 10.0.0.9");
        assert_eq!(
            own(one(vip, Some("d"), "s_down,slave,disconnected")),
            "10.0.0.3"
        );
        assert_eq!(own(one(vip, Some("a"), "slave")), "10.0.0.3");
        assert_eq!(own(one(vip, None, "slave")), "10.0.0.3");
        // Neither does it keep the other address from being its own.
        assert_eq!(own(one(vip, Some("c"), "s_down,slave")), "");
    }

    #[test]
    fn a_sentinel_known_by_a_source_address_is_missing_beside_its_redis() {
        let one = |host: &str, flags: &str| Instance {
            host: host.into(),
            port: 1,
            run_id: None,
            flags: flags.split(',').map(str::to_owned).collect(),
        };
        let own = |redis: &[&str], sentinels: &[(&str, &str)]| {
            let redis: Vec<Instance> = redis.iter().map(|host| one(host, "master")).collect();
            let sentinels: Vec<Instance> = sentinels
                .iter()
                .map(|(host, flags)| one(host, flags))
                .collect();
            let found = certain(&redis, &sentinels);
            found
                .iter()
                .any(|address| address.to_string() == "10.0.0.9")
        };
        let (a, b, vip) = ("10.0.0.1", "10.0.0.2", "10.0.0.9");
        let up = "sentinel";
        // Asked on a: the third host only has a Sentinel, or its Redis is down.
        assert!(own(&[a, b], &[(b, up), (vip, up)]));
        assert!(own(&[a, b, vip], &[(b, up), (vip, up)]));
        // Asked on a: b was known by the VIP for a while; and it is dead.
        assert!(!own(&[a, b, "10.0.0.3"], &[("10.0.0.3", up), (vip, up)]));
        assert!(!own(&[a, b], &[(b, up), (vip, "s_down,sentinel")]));
    }
}
