//! Which host is meant where somebody names a Redis: this one or another. Pure. An address proves much on a
//! plain network and little behind NAT, in containers and with names, so a run id goes before it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::exit::Fault;
use crate::failover::Host;
use crate::link::LOOPBACK;

/// How long the run id that Sentinel has may be that of an earlier process: it asks for INFO every 10 s
/// (`SENTINEL_INFO_PERIOD` in sentinel.c), and once more when its connection was lost.
pub const RUN_ID_AGE: Duration = Duration::from_secs(30);

/// Where a host is, seen from this one. Never judged by role or by comparing text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is this host. The interface that carries its address, unless that is the loopback.
    Here(Option<u32>),
    /// It is another host.
    Elsewhere,
}

/// What a Redis that answers on this host says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Its run id, where it may be asked for that.
    pub run_id: Option<String>,
    /// How long it has been running, where it may be asked for that.
    pub uptime: Option<Duration>,
    /// Whether it says that it is a master.
    pub is_master: bool,
    /// Whether it is certainly another one of those that were named: it has the run id that Sentinel knows for that.
    pub is_another: bool,
}

/// All that tells which host is meant.
#[derive(Clone, Debug)]
pub struct Clues<'a> {
    /// The host, as it was named.
    pub host: &'a Host,
    /// Its addresses, each with the interface of this host that has it.
    pub carriers: &'a [(IpAddr, Option<u32>)],
    /// Why its name has no addresses.
    pub unresolved: Option<&'a Fault>,
    /// Whether it was named by this host's own name.
    pub is_own_name: bool,
    /// Whether the configuration's `[hosts]` gives what it was named to this host, or to another (false).
    pub in_hosts: Option<bool>,
    /// The run id of the Redis that was named, where Sentinel knows it.
    pub run_id: Option<&'a str>,
    /// Every Redis that may be that one and answers on this host.
    pub residents: &'a [Resident],
    /// Whether no Redis that Sentinel knows of this master has an address of this host's interfaces, and this one
    /// none in their subnets. With a Redis on this host that is a sign of NAT: then addresses prove nothing.
    pub may_be_nat: bool,
}

impl Clues<'_> {
    /// Returns whether the Redis that was named is one of this host's; `None` where that cannot be told.
    pub fn is_resident(&self) -> Option<bool> {
        let wanted = self.run_id?;
        let other = |one: &Resident| {
            let is_old = one.uptime.is_some_and(|uptime| uptime > RUN_ID_AGE);
            one.is_another || one.run_id.is_some() && is_old
        };
        let is_it = |one: &Resident| one.run_id.as_deref() == Some(wanted);
        if self.residents.iter().any(is_it) {
            return Some(true);
        }
        // A Redis that was just started has a new run id, and Sentinel still remembers the old one.
        let none_is = !self.residents.is_empty() && self.residents.iter().all(other);
        none_is.then_some(false)
    }
}

/// Returns where a host is. The first of these that applies decides:
///
/// | clue | place |
/// |---|---|
/// | `[hosts]` says whose it is | as it says |
/// | a Redis here has the run id | here |
/// | its name does not resolve | the fault of that |
/// | an address that no single host can have, or a loopback address that was named as such | permanent fault |
/// | a name with loopback addresses alone, and it is this host's own | here |
/// | … and a Redis answers there | here; elsewhere where its run id is another |
/// | … and none answers | permanent fault |
/// | addresses of this host and of others | passing fault |
/// | an address of this host | here |
/// | no address of this host, but a master here of which Sentinel knows no address | passing fault: NAT |
/// | no address of this host | elsewhere |
///
/// # Errors
///
/// See the table. A passing fault passes once Sentinel knows the run id, or the names are mended.
pub fn place(clues: &Clues<'_>) -> Result<Place, Fault> {
    let real = |(address, _): &&(IpAddr, Option<u32>)| !address.is_loopback();
    let carrier = clues.carriers.iter().filter(real).find_map(|(_, it)| *it);
    let here = Place::Here(carrier.filter(|ifindex| *ifindex != LOOPBACK));
    if let Some(is_here) = clues.in_hosts {
        return Ok(if is_here { here } else { Place::Elsewhere });
    }
    let is_resident = clues.is_resident();
    if is_resident == Some(true) {
        return Ok(here);
    }
    if let Some(fault) = clues.unresolved.cloned().or_else(|| nowhere(clues)) {
        return Err(fault);
    }
    // Debian's installer writes `127.0.1.1 OWN-NAME` into /etc/hosts, often beside the real address.
    let (mut mine, mut others) = (None, None);
    for (address, carrier) in clues.carriers.iter().filter(real) {
        *(if carrier.is_some() {
            &mut mine
        } else {
            &mut others
        }) = Some(address);
    }
    match (mine, others) {
        (Some(mine), Some(other)) => Err(Fault::passing(format!(
            "{} is {mine}, which is this host's, and {other}, which is not",
            clues.host
        ))
        .remedy("Give the name addresses of one host only, or let Redis announce addresses.")),
        (Some(_), None) => Ok(here),
        (None, None) if !clues.carriers.is_empty() => by_own_name(clues, is_resident),
        (None, _) if clues.may_be_nat && is_resident.is_none() && has_a_master(clues) => {
            Err(behind_nat(clues))
        }
        (None, _) => Ok(Place::Elsewhere),
    }
}

/// Returns why there is no such host: an address that every host has, or none.
fn nowhere(clues: &Clues<'_>) -> Option<Fault> {
    let was_named = match clues.host {
        Host::Address(_) => true,
        Host::Name(name) => is_localhost(name),
    };
    let is_everywhere = |address: &IpAddr| {
        address.is_loopback() && was_named
            || address.is_unspecified()
            || address.is_multicast()
            || *address == IpAddr::V4(Ipv4Addr::BROADCAST)
    };
    let mut addresses = clues.carriers.iter().map(|(address, _)| address);
    let address = addresses.find(|address| is_everywhere(address))?;
    let text = format!(
        "TO-IP {address} is the same on every host, so that each would think the master is here, or none"
    );
    let remedy = "Monitor the master in sentinel.conf by an address that the other hosts reach.";
    Some(Fault::permanent(text).remedy(remedy))
}

/// A name that stands for loopback addresses alone, on this host.
fn by_own_name(clues: &Clues<'_>, is_resident: Option<bool>) -> Result<Place, Fault> {
    if clues.is_own_name {
        return Ok(Place::Here(None));
    }
    match (is_resident, clues.residents) {
        (Some(false), _) => Ok(Place::Elsewhere),
        (_, []) => Err(Fault::permanent(format!(
            "{} is a loopback address here, which may be the same on every host, and no Redis here says whether it is meant",
            clues.host
        ))
        .remedy(
            "Start the Redis of this host if it is meant, or write the real address beside that name into /etc/hosts of every host.",
        )),
        _ => Ok(Place::Here(None)),
    }
}

fn has_a_master(clues: &Clues<'_>) -> bool {
    clues.residents.iter().any(|resident| resident.is_master)
}

fn behind_nat(clues: &Clues<'_>) -> Fault {
    let host = clues.host;
    Fault::passing(format!(
        "cannot tell whether {host} is this host: no interface has that address, and a Redis that is master here may be the one that is meant (NAT, or a container)"
    ))
    .remedy(format!(
        "It passes where Sentinel learns the run id. Otherwise name what Sentinel calls each host, in the same file on every server: [hosts] NAME = [\"{host}\"]."
    ))
}

/// Every host is that to itself (RFC 6761 section 6.3), also as Debian's /etc/hosts has it for IPv6.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    last == "localhost"
        || ["localhost.localdomain", "ip6-localhost", "ip6-loopback"].contains(&name.as_str())
}

/// Returns whether a name is this host's own, `own`: both may be with or without their domain.
pub fn is_own_name(name: &str, own: &str) -> bool {
    let short = |name: &str| {
        name.split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let (name, own) = (name.trim_end_matches('.'), own.trim_end_matches('.'));
    let both_full = name.contains('.') && own.contains('.');
    let same = if both_full {
        name.eq_ignore_ascii_case(own)
    } else {
        short(name) == short(own)
    };
    same && !own.is_empty() && short(own) != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    const OLD: Duration = Duration::from_secs(3600);
    const NEW: Duration = Duration::from_secs(3);

    /// Addresses with the interface that has them; 0 is none.
    fn carriers(list: &[(&str, u32)]) -> Vec<(IpAddr, Option<u32>)> {
        let one = |(address, ifindex): &(&str, u32)| {
            (
                address.parse().unwrap(),
                Some(*ifindex).filter(|it| *it > 0),
            )
        };
        list.iter().map(one).collect()
    }

    fn resident(run_id: &str, uptime: Duration, is_master: bool) -> Resident {
        Resident {
            run_id: Some(run_id.into()),
            uptime: Some(uptime),
            is_master,
            is_another: false,
        }
    }

    fn by_address(host: &str, ifindex: u32) -> Result<Place, Kind> {
        place(&Clues {
            host: &Host::read(host).unwrap(),
            carriers: &carriers(&[(host, ifindex)]),
            unresolved: None,
            is_own_name: false,
            in_hosts: None,
            run_id: None,
            residents: &[],
            may_be_nat: false,
        })
        .map_err(|fault| fault.kind)
    }

    #[test]
    fn an_address_is_where_its_interface_is() {
        assert_eq!(by_address("10.0.0.1", 2), Ok(Place::Here(Some(2))));
        assert_eq!(by_address("fd00::1", 2), Ok(Place::Here(Some(2))));
        assert_eq!(by_address("10.0.0.1", LOOPBACK), Ok(Place::Here(None)));
        assert_eq!(by_address("10.0.0.2", 0), Ok(Place::Elsewhere));
        for everywhere in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert_eq!(
                by_address(everywhere, 1),
                Err(Kind::Permanent),
                "{everywhere}"
            );
        }
    }

    #[test]
    fn a_name_that_is_a_loopback_address_here_is_asked_for() {
        let name = Host::read("redis2").unwrap();
        let (real, away) = (("10.0.0.2", 2), ("10.0.0.1", 0));
        let (debian, v6) = (("127.0.1.1", 1), ("::1", 1));
        let here = [resident("it", OLD, true)];
        let other = [resident("another", OLD, true)];
        let restarted = [resident("another", NEW, true)];
        let none = &[][..];
        let at = |list: &[(&str, u32)], is_own_name, run_id, residents| {
            let clues = Clues {
                host: &name,
                carriers: &carriers(list),
                unresolved: None,
                is_own_name,
                in_hosts: None,
                run_id,
                residents,
                may_be_nat: true,
            };
            place(&clues).map_err(|fault| fault.kind)
        };
        let it = Some("it");
        let nowhere = Place::Here(None);
        // Its real address beside it decides.
        assert_eq!(
            at(&[debian, real], false, None, none),
            Ok(Place::Here(Some(2)))
        );
        assert_eq!(at(&[debian, away], false, None, none), Ok(Place::Elsewhere));
        // Alone it is this host's: its kernel's name, or a Redis that answers there.
        for alone in [&[debian][..], &[v6], &[debian, v6]] {
            assert_eq!(at(alone, true, None, none), Ok(nowhere));
            assert_eq!(at(alone, true, it, &other), Ok(nowhere));
            assert_eq!(at(alone, false, it, &here), Ok(nowhere));
            assert_eq!(at(alone, false, None, &here), Ok(nowhere));
            assert_eq!(at(alone, false, it, &restarted), Ok(nowhere));
            assert_eq!(at(alone, false, it, &other), Ok(Place::Elsewhere));
            assert_eq!(at(alone, false, it, none), Err(Kind::Permanent));
        }
        // Two hosts.
        assert_eq!(at(&[real, away], false, None, none), Err(Kind::Passing));
        assert_eq!(
            at(&[real, away], false, it, &here),
            Ok(Place::Here(Some(2)))
        );
    }

    #[test]
    fn every_host_is_localhost_to_itself() {
        for name in ["localhost", "LOCALHOST.", "db.localhost", "ip6-localhost"] {
            let clues = Clues {
                host: &Host::read(name).unwrap(),
                carriers: &carriers(&[("127.0.0.1", 1)]),
                unresolved: None,
                is_own_name: false,
                in_hosts: None,
                run_id: None,
                residents: &[resident("it", OLD, true)],
                may_be_nat: false,
            };
            let fault = place(&clues).unwrap_err();
            assert_eq!(fault.kind, Kind::Permanent, "{name}");
        }
        assert!(!is_localhost("localhost-db") && !is_localhost("redis"));
    }

    #[test]
    fn behind_nat_the_run_id_tells_or_the_configuration() {
        let host = Host::read("203.0.113.101").unwrap();
        let carriers = carriers(&[("203.0.113.101", 0)]);
        let at = |in_hosts, run_id, residents: &[Resident], may_be_nat| {
            let clues = Clues {
                host: &host,
                carriers: &carriers,
                unresolved: None,
                is_own_name: false,
                in_hosts,
                run_id,
                residents,
                may_be_nat,
            };
            place(&clues).map_err(|fault| fault.kind)
        };
        let it = [resident("it", OLD, true)];
        let restarted = [resident("another", NEW, true)];
        let stranger = [resident("another", OLD, true)];
        let replica = [resident("another", NEW, false)];
        let secretive = [Resident {
            run_id: None,
            uptime: None,
            is_master: true,
            is_another: false,
        }];
        let other = [Resident {
            is_another: true,
            ..resident("another", NEW, true)
        }];
        let known = Some("it");
        let (here, elsewhere) = (Ok(Place::Here(None)), Ok(Place::Elsewhere));
        assert_eq!(at(None, known, &it, true), here);
        assert_eq!(at(Some(true), None, &[], true), here);
        assert_eq!(at(Some(false), known, &it, true), elsewhere);
        assert_eq!(at(None, known, &stranger, true), elsewhere);
        assert_eq!(at(None, known, &other, true), elsewhere);
        assert_eq!(at(None, None, &other, true), Err(Kind::Passing));
        assert_eq!(at(None, None, &[], true), elsewhere);
        assert_eq!(at(None, None, &replica, true), elsewhere);
        // What cannot be known is not "no".
        assert_eq!(at(None, known, &restarted, true), Err(Kind::Passing));
        assert_eq!(at(None, None, &stranger, true), Err(Kind::Passing));
        assert_eq!(at(None, known, &secretive, true), Err(Kind::Passing));
        // Sentinel knows a Redis of this host by an address of its interfaces: addresses prove something.
        assert_eq!(at(None, None, &stranger, false), elsewhere);
    }

    #[test]
    fn a_name_is_this_hosts_own_with_and_without_its_domain() {
        for (name, own, same) in [
            ("server1", "server1", true),
            ("SERVER1.example.com.", "server1", true),
            ("server1", "server1.example.com", true),
            ("server1.example.com", "Server1.Example.Com", true),
            ("server1.example.org", "server1.example.com", false),
            ("server2", "server1", false),
            ("server", "server1", false),
            ("localhost", "localhost", false),
            ("LOCALHOST", "server1", false),
            ("ip6-localhost", "server1", false),
            ("", "", false),
        ] {
            assert_eq!(is_own_name(name, own), same, "{name} {own}");
        }
    }
}
