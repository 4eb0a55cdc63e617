//! Names to addresses, for Redis that announces host names.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::exit::Fault;
use crate::failover::Host;

/// How long one name may take in all, however many servers are asked.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the addresses of a host: its own, or what /etc/hosts and the name servers of
/// /etc/resolv.conf say, IPv4-mapped ones unmapped.
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
        Fault::passing(format!("cannot resolve TO-IP {name}: {why}")).remedy(
            "Every host must know every name that Redis announces; /etc/hosts is the safest place.",
        )
    };
    let lookup = async {
        resolver()?
            .lookup_ip(name.as_str())
            .await
            .map_err(|error| error.to_string())
    };
    let found = tokio::time::timeout(TIMEOUT, lookup)
        .await
        .map_err(|_| unresolved(format!("no answer within {} s", TIMEOUT.as_secs())))?
        .map_err(&unresolved)?;
    let addresses: Vec<IpAddr> = found.iter().map(|address| address.to_canonical()).collect();
    if addresses.is_empty() {
        return Err(unresolved("it has no address".into()));
    }
    Ok(addresses)
}

fn resolver() -> Result<TokioResolver, String> {
    let mut builder = match TokioResolver::builder_tokio() {
        // A host without name servers still has /etc/hosts.
        Err(_) if missing("/etc/resolv.conf") => TokioResolver::builder_with_config(
            ResolverConfig::default(),
            TokioRuntimeProvider::default(),
        ),
        builder => builder.map_err(|error| error.to_string())?,
    };
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(|error| error.to_string())
}

fn missing(path: &str) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}
