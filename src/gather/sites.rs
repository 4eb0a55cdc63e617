//! Which host each Redis of a master is on, and what the Redis of this host says. Addresses are asked first;
//! where they prove nothing, the Redis that listens here is asked for its run id.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::remembered::Memory;
use crate::config::{Config, Master};
use crate::evidence::{OwnRedis, Role, Site};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::few;
use crate::hosts;
use crate::kernel::{Snapshot, listeners};
use crate::place::{Clues, Place, Resident, is_own_name};
use crate::redis::{Identity, Lines, NoAnswer, identity, is_trusted, redis_fault, redis_server};
use crate::text::escape;

/// How many Redis of this host are asked for one master.
const MOST_REDIS: usize = 8;

/// A Redis as somebody names it, before it is known which host that is.
#[derive(Clone, Debug)]
pub struct Named {
    /// As it was named.
    pub endpoint: Endpoint,
    /// The addresses of its host, or why they are not known.
    pub addresses: Result<Vec<IpAddr>, Fault>,
    /// Its run id, where Sentinel knows it.
    pub run_id: Option<String>,
    /// Whether this host's Sentinel names it, now or before. Only then it is sent a password: another Sentinel may
    /// be anybody's, and name a port of this host on which anybody listens.
    pub is_vouched_for: bool,
}

impl Named {
    /// Returns a Redis whose host was not looked up.
    pub fn unresolved(endpoint: Endpoint) -> Named {
        let fault = Fault::passing(format!("the name {} was not looked up", endpoint.host));
        Named {
            endpoint,
            addresses: Err(fault),
            run_id: None,
            is_vouched_for: false,
        }
    }
}

/// Reads where a server is, as a Sentinel names it.
///
/// # Errors
///
/// Says, as the end of a sentence, why that is nowhere.
pub fn endpoint(host: &str, port: u16) -> Result<Endpoint, String> {
    match Host::read(host) {
        Some(host) => Ok(Endpoint { host, port }),
        None => Err(format!("it names \"{}\", which is no host", escape(host))),
    }
}

/// Looks the addresses of a Redis up, which this host's Sentinel names.
pub async fn named(endpoint: &Endpoint, run_id: Option<String>) -> Named {
    Named {
        endpoint: endpoint.clone(),
        addresses: hosts::addresses(&endpoint.host).await,
        run_id,
        is_vouched_for: true,
    }
}

/// Returns a Redis that this host's Sentinel names, with the addresses that are known without asking a name
/// server.
pub fn at_hand(endpoint: &Endpoint, run_id: Option<String>) -> Named {
    let unresolved = Named::unresolved(endpoint.clone());
    let found = Some(hosts::at_hand(&endpoint.host)).filter(|found| !found.is_empty());
    Named {
        addresses: found.map_or(unresolved.addresses, Ok),
        endpoint: endpoint.clone(),
        run_id,
        is_vouched_for: true,
    }
}

/// The interface of this host that has each address of a Redis.
type Carriers = Result<Vec<(IpAddr, Option<u32>)>, Fault>;

/// What each address answered.
/// The key tells whether the password was sent.
type Asked = RefCell<BTreeMap<(SocketAddr, bool), Rc<OnceCell<Result<Identity, Fault>>>>>;

/// Finds the hosts of one master's Redis.
pub struct Finder<'a> {
    config: &'a Config,
    name: &'a str,
    master: &'a Master,
    snapshot: &'a Snapshot<'a>,
    own_name: String,
    /// How long a Redis may take to answer.
    within: Duration,
    lines: Option<&'a Lines>,
    asked: Asked,
}

/// A Redis of this host that was asked.
struct Answer {
    /// Which of the named ones it was asked as; `None` where it was found because it listens here.
    named: Option<usize>,
    at: SocketAddr,
    /// Whether the credentials may be sent there.
    is_vouched_for: bool,
    said: Result<Identity, Fault>,
}

impl<'a> Finder<'a> {
    /// Returns a finder for the Redis of the master `name`. Each Redis has the time `within` for its answer.
    pub fn new(
        config: &'a Config,
        name: &'a str,
        master: &'a Master,
        snapshot: &'a Snapshot<'a>,
        within: Duration,
    ) -> Finder<'a> {
        Finder {
            config,
            name,
            master,
            snapshot,
            own_name: hosts::own_name(),
            within,
            lines: None,
            asked: Asked::default(),
        }
    }

    /// Returns it with connections that are kept.
    pub fn on(self, lines: &'a Lines) -> Finder<'a> {
        Finder {
            lines: Some(lines),
            ..self
        }
    }

    /// Asks the Redis at this address who it is, once; with the credentials if it is known to be a Redis.
    async fn ask(&self, at: SocketAddr, is_vouched_for: bool) -> Result<Identity, Fault> {
        let is_vouched_for = is_vouched_for || !self.config.has_secrets_of(self.master);
        let key = (at, is_vouched_for);
        let cell = Rc::clone(self.asked.borrow_mut().entry(key).or_default());
        let said = cell.get_or_init(async || {
            if let Some(known) = self.lines.and_then(|lines| lines.watched(at)) {
                return Ok(known);
            }
            let mut server = redis_server(self.config, self.master, at)?;
            if !is_vouched_for {
                server = server.without_credentials();
            }
            let none = Lines::default();
            let lines = self.lines.unwrap_or(&none);
            let said = identity(&server, lines, self.within).await;
            if let Ok(known) = &said {
                lines.learn(at, known);
            }
            said.map_err(|no| match no {
                NoAnswer::AuthMissing(_) if !is_vouched_for => Fault::permanent(format!(
                    "the Redis at {at} wants a password, and is sent none: this host's Sentinel does not name it, and it is not known to be of Sentinel's user or of one of the system"
                ))
                .remedy(
                    "Is this host's Sentinel running, and does it monitor this master? Behind NAT, or with [hosts], let Redis run as Sentinel's user or as a user of the system (a number below 1000).",
                ),
                no => redis_fault(&no, at, self.name),
            })
        });
        said.await.clone()
    }

    /// Asks a Redis that is likely to be wanted, if its address is this host's, and if it takes no password: that
    /// is sent only once Sentinel has named it.
    pub async fn ask_early(&self, endpoint: &Endpoint) {
        let Host::Address(address) = endpoint.host else {
            return;
        };
        if self.config.has_secrets_of(self.master) {
            return;
        }
        let carriers = self.snapshot.carriers(&[address]).await;
        if matches!(carriers.as_deref(), Ok([(_, Some(_))])) && !address.is_loopback() {
            // The answer is kept.
            let _ = self
                .ask(SocketAddr::new(address, endpoint.port), true)
                .await;
        }
    }

    /// Returns where each named Redis is, in their order, and every Redis of this host that may be one of them.
    /// Of the named ones on this host those are asked for which `is_wanted` says so; where the others are is found
    /// out only as far as that matters for these.
    pub async fn find(
        &self,
        named: &[Named],
        is_wanted: impl Fn(usize) -> bool,
    ) -> (Vec<Site>, Vec<OwnRedis>) {
        let mut carriers: Vec<Carriers> = vec![Ok(Vec::new()); named.len()];
        let mut is_known_here = false;
        for place in (0..named.len()).filter(|place| is_wanted(*place)) {
            carriers[place] = self.carriers(&named[place]).await;
            is_known_here |= is_on_an_interface(&carriers[place]);
        }
        // For an address that is not this host's the kernel has to list all.
        if !is_known_here {
            for place in (0..named.len()).filter(|place| !is_wanted(*place)) {
                carriers[place] = self.carriers(&named[place]).await;
            }
        }
        let in_hosts: Vec<Option<bool>> = named
            .iter()
            .map(|one| in_hosts(self.config, one, &self.own_name))
            .collect();
        let is_here =
            |place: usize| in_hosts[place].unwrap_or_else(|| is_on_an_interface(&carriers[place]));
        let is_unknown_here = !(0..named.len()).any(is_here);
        let mut answers = self.ask_named(named, &carriers, &is_wanted).await;
        let mut on_link = vec![true; named.len()];
        if is_unknown_here {
            for (place, one) in named.iter().enumerate() {
                let addresses = one.addresses.as_deref().unwrap_or_default();
                on_link[place] = self.snapshot.are_on_link(addresses).await;
            }
        }
        // NAT, or [hosts]. On a plain network what listens here is no Redis of this master.
        let is_given = in_hosts.contains(&Some(true));
        if is_given || on_link.contains(&false) {
            answers.extend(self.ask_listeners(named).await);
        }
        let sites = (0..named.len()).map(|place| {
            let residents = residents(&answers, place, named);
            let clues = Clues {
                host: &named[place].endpoint.host,
                carriers: carriers[place].as_deref().unwrap_or_default(),
                unresolved: carriers[place].as_ref().err(),
                is_own_name: has_own_name(&named[place].endpoint.host, &self.own_name),
                in_hosts: in_hosts[place],
                run_id: named[place].run_id.as_deref(),
                residents: &residents,
                may_be_nat: is_unknown_here && !on_link[place],
            };
            Site {
                endpoint: named[place].endpoint.clone(),
                addresses: named[place].addresses.clone().unwrap_or_default(),
                run_id: named[place].run_id.clone(),
                place: crate::place::place(&clues),
            }
        });
        let sites: Vec<Site> = sites.collect();
        let own = answers.into_iter().map(|answer| own(&sites, answer));
        let own = own.collect();
        (sites, own)
    }

    async fn carriers(&self, named: &Named) -> Carriers {
        match &named.addresses {
            Ok(addresses) => self.snapshot.carriers(addresses).await,
            Err(fault) => Err(fault.clone()),
        }
    }

    /// Asks the named Redis whose addresses are this host's. A name may have addresses on which it does not
    /// listen, such as 127.0.1.1: one answer is enough.
    async fn ask_named(
        &self,
        named: &[Named],
        carriers: &[Carriers],
        is_wanted: impl Fn(usize) -> bool,
    ) -> Vec<Answer> {
        let here = (0..named.len()).filter(|place| is_wanted(*place));
        let here = here.filter_map(|place| {
            let endpoint = &named[place].endpoint;
            let is_name = matches!(endpoint.host, Host::Name(_));
            let carriers = carriers[place].as_ref().ok()?.iter();
            let own = carriers.filter(|(address, carrier)| {
                carrier.is_some() && (is_name || !address.is_loopback())
            });
            let own: Vec<SocketAddr> = own
                .map(|(address, _)| SocketAddr::new(*address, endpoint.port))
                .collect();
            Some((place, *own.first()?, own))
        });
        let each = here.take(MOST_REDIS).map(async |(place, at, all)| {
            let is_vouched_for = named[place].is_vouched_for;
            let asked = all.into_iter().map(|at| self.ask(at, is_vouched_for));
            let said = join_all(asked).await;
            let said = said.into_iter().reduce(|one, next| one.or(next));
            let none = || Err(Fault::passing("it has no address"));
            Answer {
                named: Some(place),
                at,
                is_vouched_for,
                said: said.unwrap_or_else(none),
            }
        });
        join_all(each).await
    }

    /// Asks every Redis that listens on this host where one of the named ones does. One that `[hosts]` gives to
    /// this host is meant by its port. Anybody may listen on a free port, and on one that Redis has, at another address:
    /// those of root, of users of the system, of Sentinel's user and of this run's are trusted. Only they are sent a
    /// password. The others do not count while Sentinel's user is known, or where `[hosts]` means a trusted one.
    async fn ask_listeners(&self, named: &[Named]) -> Vec<Answer> {
        let ports: BTreeSet<u16> = few::set(named.iter().map(|one| one.endpoint.port));
        let ports: Vec<u16> = ports.into_iter().collect();
        // Where the kernel does not tell, addresses have to do.
        let found = listeners(&ports).await.unwrap_or_default();
        let owner = match self.lines {
            Some(lines) if lines.owner.is_known() => lines.owner.clone(),
            _ => Memory::read().owner(self.config),
        };
        let of_trusted = found
            .iter()
            .filter(|(_, user)| is_trusted(*user) || owner.is(*user));
        let of_trusted: BTreeSet<SocketAddr> = few::set(of_trusted.map(|(at, _)| reachable(*at)));
        let meant = |at: &SocketAddr| {
            named.iter().position(|one| {
                one.endpoint.port == at.port()
                    && in_hosts(self.config, one, &self.own_name) == Some(true)
            })
        };
        let counts = |at: &SocketAddr| {
            let is_rival = match meant(at) {
                Some(_) => of_trusted.iter().any(|other| other.port() == at.port()),
                None => owner.is_known(),
            };
            of_trusted.contains(at) || !is_rival
        };
        let at: BTreeSet<SocketAddr> = few::set(found.iter().map(|(at, _)| reachable(*at)));
        let each = at.into_iter().filter(counts).take(MOST_REDIS);
        let each = each.map(async |at| {
            let is_vouched_for = of_trusted.contains(&at);
            Answer {
                named: meant(&at),
                at,
                is_vouched_for,
                said: self.ask(at, is_vouched_for).await,
            }
        });
        join_all(each).await
    }
}

fn is_on_an_interface(carriers: &Carriers) -> bool {
    let known = carriers.as_deref().unwrap_or_default();
    let mut real = known.iter().filter(|(address, _)| !address.is_loopback());
    real.any(|(_, carrier)| carrier.is_some())
}

/// Returns where a server is, by its addresses alone.
pub async fn by_address(config: &Config, snapshot: &Snapshot<'_>, named: Named) -> Site {
    let own_name = hosts::own_name();
    let carriers = match &named.addresses {
        Ok(addresses) => snapshot.carriers(addresses).await,
        Err(fault) => Err(fault.clone()),
    };
    let host = &named.endpoint.host;
    let clues = Clues {
        host,
        carriers: carriers.as_deref().unwrap_or_default(),
        unresolved: carriers.as_ref().err(),
        is_own_name: has_own_name(host, &own_name),
        in_hosts: in_hosts(config, &named, &own_name),
        run_id: None,
        residents: &[],
        may_be_nat: false,
    };
    Site {
        place: crate::place::place(&clues),
        addresses: named.addresses.clone().unwrap_or_default(),
        endpoint: named.endpoint,
        run_id: None,
    }
}

fn in_hosts(config: &Config, one: &Named, own_name: &str) -> Option<bool> {
    let addresses = one.addresses.iter().flatten();
    let mut called: Vec<Host> = addresses.map(|address| Host::Address(*address)).collect();
    called.push(one.endpoint.host.clone());
    config.is_own(&called, own_name)
}

fn has_own_name(host: &Host, own_name: &str) -> bool {
    match host {
        Host::Name(name) => is_own_name(name, own_name),
        Host::Address(_) => false,
    }
}

/// Returns where a server that listens there is reached from this host.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let address = match listener.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address.to_canonical(),
    };
    SocketAddr::new(address, listener.port())
}

/// Returns the Redis that answered and may be the named Redis.
fn residents(answers: &[Answer], place: usize, named: &[Named]) -> Vec<Resident> {
    let may_be = |answer: &&Answer| answer.named.is_none_or(|named| named == place);
    let said = answers.iter().filter(may_be);
    let said = said.filter_map(|answer| answer.said.as_ref().ok());
    said.map(|identity| Resident {
        run_id: identity.run_id.clone(),
        uptime: identity.uptime,
        is_master: identity.role == Role::Master,
        is_another: identity.run_id.is_some()
            && named[place].run_id != identity.run_id
            && named.iter().any(|one| one.run_id == identity.run_id),
    })
    .collect()
}

/// Returns a Redis of this host by the name that Sentinel has for it: the one that has its run id, else the one
/// as which it was asked.
fn own(sites: &[Site], answer: Answer) -> OwnRedis {
    let run_id = answer.said.as_ref().ok().and_then(|it| it.run_id.clone());
    let is_it = |site: &&Site| run_id.is_some() && site.run_id == run_id;
    let by_name = answer.named.map(|place| &sites[place]);
    let known = sites.iter().find(is_it).or(by_name);
    let listener = || Site {
        endpoint: Endpoint {
            host: Host::Address(answer.at.ip()),
            port: answer.at.port(),
        },
        addresses: vec![answer.at.ip()],
        run_id: run_id.clone(),
        place: Ok(Place::Here(None)),
    };
    OwnRedis {
        site: known.cloned().unwrap_or_else(listener),
        at: answer.at,
        is_vouched_for: answer.is_vouched_for,
        role: answer.said.map(|identity| identity.role),
        run_id,
    }
}
