//! The addresses by which Sentinel knows every Redis and Sentinel: names resolved once, and those
//! refused that would be the same on every host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::finding::Findings;
use super::network::Redises;
use super::watched::Answers;
use crate::config::Config;
use crate::failover::Host;
use crate::hosts;
use crate::plan::refuse_to;
use crate::text::escape;

/// How long all names that Redis announces may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// Judges whether every Redis and Sentinel is known by an address that can be told from others.
pub fn judge(answers: &Answers, config: &Config, findings: &mut Findings) {
    for one in &answers.watched {
        let name = escape(&one.name);
        let endpoints = one.redises().into_iter().chain(one.others());
        let addresses = endpoints.filter_map(|(host, _)| host.parse::<IpAddr>().ok());
        let refused = addresses
            .filter_map(|address| Some((address, refuse_to(address, false, config.vips())?)));
        let mut fine = true;
        for (address, fault) in refused {
            fine = false;
            let vip = config.vips().find(|vip| vip.address == address);
            let about = vip.map_or_else(|| address.to_string(), ToString::to_string);
            if !findings.has_error("announced-address", &about) {
                findings.fault("announced-address", &about, &fault);
            }
        }
        if fine {
            findings.ok(
                "announced-address",
                &name,
                "every Redis and Sentinel has an address of its own",
            );
        }
    }
}

/// The addresses of each name or address that Sentinel told.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Names {
    /// Resolves all. A name that does not resolve in time has no address.
    pub async fn resolve(answers: &Answers) -> Names {
        let until = (Instant::now() + NAMES).into();
        let mut names = Names::default();
        for one in &answers.watched {
            for (host, _) in one.redises().into_iter().chain(one.others()) {
                if names.0.contains_key(&host) {
                    continue;
                }
                let addresses = match Host::read(&host) {
                    Some(host) => match timeout_at(until, hosts::addresses(&host)).await {
                        Ok(Ok(addresses)) => addresses,
                        _ => Vec::new(),
                    },
                    None => Vec::new(),
                };
                names.0.insert(host, addresses);
            }
        }
        names
    }

    /// Returns the addresses of one.
    pub fn get(&self, host: &str) -> &[IpAddr] {
        self.0.get(host).map_or(&[], Vec::as_slice)
    }

    /// Returns those of each master's Redis.
    pub fn redises<'a>(&self, answers: &'a Answers) -> BTreeMap<&'a str, Redises> {
        let known = answers.watched.iter().map(|one| {
            let all = one.redises();
            let of = |(host, _): &(String, u16)| self.get(host).to_vec();
            let at = |(host, port): &(String, u16)| {
                let first = self.get(host).first().copied();
                first.map(|address| SocketAddr::new(address, *port))
            };
            let redises = Redises {
                master: all.first().map(of).unwrap_or_default(),
                all: all.iter().flat_map(of).collect(),
                endpoints: all.iter().flat_map(at).collect(),
            };
            (one.name.as_str(), redises)
        });
        known.collect()
    }
}
