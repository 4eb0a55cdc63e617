//! Names to addresses, for Redis that announces host names: /etc/hosts first, then the name
//! servers of /etc/resolv.conf. Not through the C library, whose static form loads shared
//! objects of the very version that it was built with.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use crate::exit::Fault;
use crate::failover::Host;

/// How long the name servers may take in all, however many are asked.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the addresses of a host, IPv4-mapped ones unmapped. A name in /etc/hosts is asked
/// of nobody else: name servers may be out of reach just when a master dies.
///
/// # Errors
///
/// A name without an address, now, is a passing fault.
pub async fn addresses(host: &Host) -> Result<Vec<IpAddr>, Fault> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    let unresolved = |why: String| {
        Fault::passing(format!("cannot resolve the name {name}: {why}")).remedy(
            "Every host must know every name that Redis announces; /etc/hosts is the safest place.",
        )
    };
    let found = match in_hosts(name) {
        Ok(found) if !found.is_empty() => found,
        // Without a readable /etc/hosts there are still the name servers.
        _ => tokio::time::timeout(TIMEOUT, ask(name))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
            .map_err(&unresolved)?,
    };
    if found.is_empty() {
        return Err(unresolved("it has no address".into()));
    }
    Ok(found
        .into_iter()
        .map(|address| address.to_canonical())
        .collect())
}

fn in_hosts(name: &str) -> io::Result<Vec<IpAddr>> {
    let hosts = Hosts::from_system()?;
    let name = Name::from_utf8(name).map_err(io::Error::other)?;
    let lookups = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    Ok(lookups
        .flat_map(|lookup| {
            lookup
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect::<Vec<_>>()
        })
        .collect())
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let found = resolver
        .lookup_ip(name)
        .await
        .map_err(|error| error.to_string())?;
    Ok(found.iter().collect())
}
