//! The addresses of the host that the master is on, whose own Sentinel is asked last. A host may have several: its Redis
//! announces one, and its Sentinel another.

use std::net::IpAddr;

use crate::config::Config;
use crate::evidence::Site;
use crate::failover::Host;
use crate::hosts;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{Endpoint, Server};

/// Returns the addresses of the master's host, as far as they are known: those of its Redis, those that `[hosts]` gives
/// to the same host, and where it is this host, those of the Sentinels that are its own.
pub async fn leaving(
    master: &Site,
    ways: &[Server],
    config: &Config,
    netlink: &Netlink,
) -> Vec<IpAddr> {
    let mut leaving = with_same_host(&master.addresses, config.hosts.values());
    if master.is_here() {
        let at = ways.iter().filter_map(|way| match &way.endpoint {
            Endpoint::Tcp(at) => Some(at.ip().to_canonical()),
            Endpoint::Unix(_) => None,
        });
        let at: Vec<IpAddr> = at.collect();
        // What the kernel does not tell is another host's.
        let carriers = Snapshot::new(netlink).carriers(&at).await;
        let carriers = carriers.unwrap_or_default().into_iter();
        leaving.extend(carriers.filter_map(|(at, on)| on.map(|_| at)));
    }
    leaving
}

fn with_same_host<'a>(known: &[IpAddr], all: impl Iterator<Item = &'a Vec<Host>>) -> Vec<IpAddr> {
    let of = |host: &'a Vec<Host>| {
        host.iter()
            .flat_map(hosts::at_hand)
            .collect::<Vec<IpAddr>>()
    };
    let same = all
        .map(of)
        .filter(|of| of.iter().any(|at| known.contains(at)));
    known.iter().copied().chain(same.flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_configuration_has_all_its_addresses() {
        let host =
            |all: &[&str]| -> Vec<Host> { all.iter().map(|at| Host::read(at).unwrap()).collect() };
        let all = [
            host(&["10.1.0.1", "10.2.0.1"]),
            host(&["10.1.0.2", "10.2.0.2"]),
        ];
        let known: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap()];
        let found = with_same_host(&known, all.iter());
        assert!(found.contains(&"10.2.0.2".parse().unwrap()), "{found:?}");
        assert!(!found.contains(&"10.2.0.1".parse().unwrap()), "{found:?}");
    }
}
