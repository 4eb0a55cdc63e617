//! Names to addresses, for Redis that announces host names: /etc/hosts first, then the name
//! servers of /etc/resolv.conf. Not through the C library, whose static form loads shared
//! objects of the very version that it was built with.

mod kept;

use std::fmt::Display;
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

pub use kept::Kept;

/// How long the name servers may take in all, however many are asked.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the question about the other address family is waited for.
const MOMENT: Duration = Duration::from_millis(200);

/// Why a name has no address.
#[derive(Clone, Debug)]
pub enum Unresolved {
    /// The name servers say that it has none.
    Unknown(Fault),
    /// No name server has answered, none could, or none is known: they may be out of reach.
    Unanswered(Fault),
}

impl Unresolved {
    /// Returns the fault that it is to a run: a passing one.
    pub fn fault(self) -> Fault {
        match self {
            Unresolved::Unknown(fault) | Unresolved::Unanswered(fault) => fault,
        }
    }
}

/// Returns the addresses of a host, IPv4-mapped ones unmapped. A name in /etc/hosts is asked
/// of nobody else: name servers may be out of reach just when a master dies.
///
/// # Errors
///
/// A name without an address, now, is a passing fault.
pub async fn addresses(host: &Host) -> Result<Vec<IpAddr>, Fault> {
    look_up(host, TIMEOUT).await.map_err(Unresolved::fault)
}

/// [`addresses`], within this time at most; tells whether the name servers have answered.
///
/// # Errors
///
/// A name without an address, now.
pub async fn look_up(host: &Host, within: Duration) -> Result<Vec<IpAddr>, Unresolved> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    let unresolved = |why: &dyn Display| {
        Fault::passing(format!("cannot resolve the name {name}: {why}")).remedy(
            "Every host must know every name that Redis announces; /etc/hosts is the safest place.",
        )
    };
    let found = match in_hosts(name) {
        Ok(found) if !found.is_empty() => found,
        // Without a readable /etc/hosts there are still the name servers.
        _ => match tokio::time::timeout(within.min(TIMEOUT), ask(name)).await {
            Ok(Ok(found)) => found,
            Ok(Err(No::Unknown(why))) => return Err(Unresolved::Unknown(unresolved(&why))),
            Ok(Err(No::Unanswered(why))) => return Err(Unresolved::Unanswered(unresolved(&why))),
            Err(_) => {
                let seconds = within.min(TIMEOUT).as_secs_f64();
                let why = format!("no answer within {seconds} s");
                return Err(Unresolved::Unanswered(unresolved(&why)));
            }
        },
    };
    if found.is_empty() {
        return Err(Unresolved::Unknown(unresolved(&"it has no address")));
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

/// Why the name servers have told no address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum No {
    /// They say that there is none.
    Unknown(String),
    /// They did not answer, could not, or are not known.
    Unanswered(String),
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, No> {
    // Relaxed: the field uses underscores.
    let name = Name::from_str_relaxed(name).map_err(|error| No::Unknown(error.to_string()))?;
    // Without a name server in /etc/resolv.conf it is not known whom to ask: where the link to it goes down, the network's
    // configuration may take it out of there.
    let mut builder =
        TokioResolver::builder_tokio().map_err(|error| No::Unanswered(error.to_string()))?;
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.use_hosts_file = ResolveHosts::Never;
    let resolver = builder
        .build()
        .map_err(|error| No::Unanswered(error.to_string()))?;
    let v4 = async { addresses_in(resolver.lookup(name.clone(), RecordType::A).await) };
    let v6 = async { addresses_in(resolver.lookup(name.clone(), RecordType::AAAA).await) };
    both(v4, v6).await
}

fn addresses_in(answer: Result<Lookup, NetError>) -> Result<Vec<IpAddr>, No> {
    let records = answer.map_err(|error| match error.is_no_records_found() {
        true => No::Unknown(error.to_string()),
        false => No::Unanswered(error.to_string()),
    })?;
    Ok(records
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect())
}

/// Returns what either question found. Some name servers never answer about IPv6: once one
/// question has found something, the other has only a moment left. A name of which one question
/// was not answered may have an address all the same.
async fn both(
    v4: impl Future<Output = Result<Vec<IpAddr>, No>>,
    v6: impl Future<Output = Result<Vec<IpAddr>, No>>,
) -> Result<Vec<IpAddr>, No> {
    let (v4, v6) = (pin!(v4), pin!(v6));
    let (first, second) = match select(v4, v6).await {
        Either::Left((first, other)) => (first, Either::Left(other)),
        Either::Right((first, other)) => (first, Either::Right(other)),
    };
    let mut found = match first {
        Err(unanswered @ No::Unanswered(_)) => {
            let found = second.await.ok().filter(|found| !found.is_empty());
            return found.ok_or(unanswered);
        }
        Err(No::Unknown(_)) => return second.await,
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
        let silent = std::future::pending::<Result<Vec<IpAddr>, No>>;
        let says = |found: &[IpAddr]| std::future::ready(Ok(found.to_vec()));
        let knows_none = || std::future::ready(Err(No::Unknown("no".into())));
        let unanswered = || No::Unanswered("down".into());
        let fails = || std::future::ready(Err(unanswered()));
        runtime.block_on(async {
            assert_eq!(both(says(&[address]), silent()).await, Ok(vec![address]));
            assert_eq!(both(silent(), says(&[address])).await, Ok(vec![address]));
            assert_eq!(
                both(knows_none(), says(&[address])).await,
                Ok(vec![address])
            );
            assert_eq!(both(says(&[address]), fails()).await, Ok(vec![address]));
            assert_eq!(both(says(&[]), says(&[address])).await, Ok(vec![address]));
            assert_eq!(both(fails(), says(&[address])).await, Ok(vec![address]));
            let none = Err(No::Unknown("no".into()));
            assert_eq!(both(says(&[]), knows_none()).await, none);
            // What was not answered may have an address.
            for (one, other) in [(knows_none(), fails()), (fails(), knows_none())] {
                assert_eq!(both(one, other).await, Err(unanswered()));
            }
            assert_eq!(both(fails(), says(&[])).await, Err(unanswered()));
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
