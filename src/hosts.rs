//! Names to addresses, for Redis that announces host names: /etc/hosts first, then the name
//! servers of /etc/resolv.conf. Not through the C library, whose static form loads shared
//! objects of the very version that it was built with.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RecordType};

use crate::exit::Fault;
use crate::failover::Host;

/// How long the name servers may take in all, however many are asked.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the question about the other address family is waited for.
const MOMENT: Duration = Duration::from_millis(200);

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

/// Returns the name of this host, empty if it has none.
pub fn own_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Where names are that need no name server.
const HOSTS: &str = "/etc/hosts";

/// Returns the addresses of a name in /etc/hosts.
///
/// # Errors
///
/// A file that cannot be read.
pub fn in_hosts(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok(find(&fs::read(HOSTS)?, name))
}

/// Returns the addresses of a name in the text of a hosts(5) file: an address and its names on
/// each line, names without regard to case, comments from `#` on. Read byte by byte, as one
/// comment that is not UTF-8 must not hide the rest.
pub fn find(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let hosts = String::from_utf8_lossy(hosts);
    let name = name.trim_end_matches('.');
    let line_has = |line: &str| -> Option<IpAddr> {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name))
            .then_some(address)
    };
    hosts.lines().filter_map(line_has).collect()
}

/// Returns the addresses of a host as far as they are known here without asking a name server.
pub fn at_hand(host: &Host) -> Vec<IpAddr> {
    match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => in_hosts(name).unwrap_or_default(),
    }
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, String> {
    // Relaxed: the field uses underscores.
    let name = Name::from_str_relaxed(name).map_err(|error| error.to_string())?;
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let v4 = async { addresses_in(resolver.lookup(name.clone(), RecordType::A).await) };
    let v6 = async { addresses_in(resolver.lookup(name.clone(), RecordType::AAAA).await) };
    both(v4, v6).await
}

fn addresses_in(answer: Result<Lookup, NetError>) -> Result<Vec<IpAddr>, String> {
    let records = answer.map_err(|error| error.to_string())?;
    Ok(records
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect())
}

/// Returns what either question found. Some name servers never answer about IPv6: once one
/// question has found something, the other has only a moment left.
async fn both(
    v4: impl Future<Output = Result<Vec<IpAddr>, String>>,
    v6: impl Future<Output = Result<Vec<IpAddr>, String>>,
) -> Result<Vec<IpAddr>, String> {
    let (v4, v6) = (pin!(v4), pin!(v6));
    let (first, second) = match select(v4, v6).await {
        Either::Left((first, other)) => (first, Either::Left(other)),
        Either::Right((first, other)) => (first, Either::Right(other)),
    };
    let mut found = match first {
        Err(_) => return second.await,
        Ok(found) if found.is_empty() => return second.await,
        Ok(found) => found,
    };
    if let Ok(Ok(more)) = tokio::time::timeout(MOMENT, second).await {
        found.extend(more);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_that_is_silent_about_one_family_does_not_hide_the_other() {
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let silent = std::future::pending::<Result<Vec<IpAddr>, String>>;
        let says = |found: &[IpAddr]| std::future::ready(Ok(found.to_vec()));
        let refuses = || std::future::ready(Err("no".to_owned()));
        runtime.block_on(async {
            assert_eq!(both(says(&[address]), silent()).await, Ok(vec![address]));
            assert_eq!(both(silent(), says(&[address])).await, Ok(vec![address]));
            assert_eq!(both(refuses(), says(&[address])).await, Ok(vec![address]));
            assert_eq!(both(says(&[address]), refuses()).await, Ok(vec![address]));
            assert_eq!(both(says(&[]), says(&[address])).await, Ok(vec![address]));
            assert_eq!(both(says(&[]), refuses()).await, Err("no".into()));
        });
    }

    #[test]
    fn a_hosts_file_is_read_as_the_c_library_reads_it() {
        let hosts = b"# caf\xe9\n127.0.0.1\tlocalhost\n10.0.0.2 redis-2.example.com redis_2 # old: redis-9\n\
            nonsense redis_2\n  fd00::2  Redis_2\n10.0.0.3\n";
        let found = |name| {
            find(hosts, name)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(found("redis_2"), ["10.0.0.2", "fd00::2"]);
        assert_eq!(found("REDIS-2.example.com."), ["10.0.0.2"]);
        for absent in ["redis-9", "redis", "10.0.0.3", "", "caf"] {
            assert!(found(absent).is_empty(), "{absent}");
        }
    }
}
