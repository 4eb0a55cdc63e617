//! Who acts on the hosts. `OneShot` is what there is today: the hook and `sync`, with the evidence that `once`
//! and `gather` have each of them gather. The agent will be another [`Driver`] beside or instead of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vipswitch::evidence::Role as Says;
use vipswitch::evidence::{Ballot, Call as Told, Evidence, OwnRedis, Site, Word};
use vipswitch::exit::Fault;
use vipswitch::failover::{Endpoint, Host as Name};
use vipswitch::gather::remembered::{Known, Listed};
use vipswitch::gather::{Asked, Poll, Silence, count};
use vipswitch::once::{FIRST_PAUSE, LONGEST_PAUSE, PATIENCE};
use vipswitch::place::Place;
use vipswitch::plan::{Action, plan};
use vipswitch::redis::{Instance, MasterAddress, NoAnswer, View};
use vipswitch::verdict::Verdict;
use vipswitch::vip::{Candidates, Vip};

use crate::audit::{Audit, Cause};
use crate::cluster::{Call, Cluster, Event, HOSTS, Host, Process, Role, Signal, binding, ms};
use crate::sentinel::{DOWN_AFTER, FAILOVER_TIMEOUT, QUORUM, Sentinel};

/// What is to follow from evidence: [`vipswitch::verdict::verdict`], or a broken one that is to be caught.
pub type Policy = fn(&Evidence) -> Verdict;

/// From the end of one `sync` to the start of the next (packaging/systemd/vipswitch-sync.timer).
pub const SYNC: Duration = ms(30_000);

/// How long a Sentinel that is silent holds up a question.
const ROUND: Duration = ms(800);

/// Acts on the hosts when something happens there.
pub trait Driver {
    /// Something has happened.
    fn notice(&mut self, signal: &Signal, cluster: &mut Cluster, audit: &mut Audit);
    /// A time has come for which it asked with [`Event::Wake`].
    fn wake(&mut self, host: Host, token: u64, cluster: &mut Cluster, audit: &mut Audit);
}

/// A run of the executable on a host.
struct Run {
    host: Host,
    kind: Kind,
    stage: Stage,
    started: Duration,
    pause: Duration,
}

enum Kind {
    /// Sentinel's call, and what the local Sentinel said in an earlier attempt.
    Hook(Call, Option<Word>),
    /// Since when the Sentinels have not been of one mind.
    Sync(Option<Duration>),
}

enum Stage {
    Gather,
    /// `sync` has asked the Sentinels and waits for the lock. What each named, as the model knows it.
    Polled(Box<Poll>, Named),
    /// The plan is made. Whether the VIP was here then.
    Act(Result<Action, Fault>, Cause, bool),
}

/// Whom each Sentinel named when it was asked, `None` where it gave no answer.
pub type Named = [Option<Host>; HOSTS];

/// The hook and `sync`.
pub struct OneShot {
    policy: Policy,
    vip: Vip,
    runs: BTreeMap<u64, Run>,
}

impl OneShot {
    /// Returns the driver; every host's timer is somewhere in its 30 s.
    pub fn new(policy: Policy, cluster: &mut Cluster) -> OneShot {
        let mut one_shot = OneShot {
            policy,
            vip: Vip {
                address: binding().peer,
                prefix: 24,
            },
            runs: BTreeMap::new(),
        };
        for host in 0..HOSTS {
            let first = cluster.random(30_000);
            one_shot.start_timer(host, first, cluster);
        }
        one_shot
    }

    /// The agent takes the timer's place.
    fn start_timer(&mut self, host: Host, after: Duration, cluster: &mut Cluster) {
        if cluster.machines[host].agent.is_none() {
            self.start(host, Kind::Sync(None), after, cluster);
        }
    }

    fn start(&mut self, host: Host, kind: Kind, after: Duration, cluster: &mut Cluster) {
        let token = cluster.token();
        let run = Run {
            host,
            kind,
            stage: Stage::Gather,
            started: cluster.now + after,
            pause: FIRST_PAUSE,
        };
        self.runs.insert(token, run);
        cluster.at(after, Event::Wake(host, token));
    }

    /// Ends an attempt: again after a pause where the fault may pass and there is time left.
    fn end(&mut self, token: u64, mut run: Run, fault: Option<Fault>, cluster: &mut Cluster) {
        let host = run.host;
        let is_over = cluster.now + run.pause > run.started + PATIENCE;
        if fault.is_some() && !is_over {
            cluster.at(run.pause, Event::Wake(host, token));
            run.pause = (run.pause * 2).min(LONGEST_PAUSE);
            run.stage = Stage::Gather;
            self.runs.insert(token, run);
            return;
        }
        match run.kind {
            Kind::Hook(call, _) => {
                let exit = fault.map_or(0, |fault| vipswitch::exit::Exit::from(fault.kind).code());
                cluster.script_ended(host, call, exit);
            }
            Kind::Sync(_) => {
                let late = cluster.random(1_000);
                self.start(host, Kind::Sync(None), SYNC + late, cluster);
            }
        }
    }

    /// The hook's evidence, as gather::of_call has it.
    fn of_call(
        call: &Call,
        before: Option<Word>,
        at: Host,
        cluster: &Cluster,
    ) -> (Evidence, Option<Host>) {
        let said = cluster.ask(at, at).map(Sentinel::names);
        let word = match said {
            Ok(said) if said == call.to => Word::Agrees,
            Ok(said) => Word::Says(site(said, at)),
            Err(process) => Word::Silent(format!("{process:?}")),
        };
        let word = match (before, word) {
            (Some(known @ (Word::Says(_) | Word::Agrees)), Word::Silent(_)) => known,
            (_, word) => word,
        };
        let to = site(call.to, at);
        let servers = match &word {
            Word::Says(site) => site.addresses.clone(),
            _ => to.addresses.clone(),
        };
        let decides = match &word {
            Word::Says(site) => site,
            _ => &to,
        };
        let own_redis = own_redis(std::slice::from_ref(decides), at, cluster);
        let evidence = Evidence {
            vip_of_a_server: servers.contains(&binding().peer).then(|| binding().peer),
            call: Some(Told {
                to,
                carries_information: call.from != call.to,
            }),
            word: Some(word),
            own_redis,
            ..Evidence::default()
        };
        (evidence, said.ok())
    }

    /// The first half of `sync`'s evidence: what the Sentinels say, counted by the real code.
    pub fn poll(at: Host, cluster: &mut Cluster) -> Result<(Poll, Named, Duration), Fault> {
        let mut named = [None; HOSTS];
        // Silent: what it said in the last poll is remembered, and all others are asked.
        let own = match cluster.ask(at, at) {
            Ok(own) => {
                named[at] = Some(own.names());
                Ok(view(own, at))
            }
            Err(process) => Err(Silence {
                why: format!("{process:?}"),
                known: remembered(),
            }),
        };
        let (mut asked, mut took) = (Vec::new(), ms(1));
        for other in (0..HOSTS).filter(|other| *other != at) {
            let is_lost = cluster.loses_answer(at, other);
            let view = match cluster.ask(at, other) {
                Ok(sentinel) if !is_lost => {
                    named[other] = Some(sentinel.names());
                    Ok(view(sentinel, other))
                }
                Err(Process::Down) if cluster.reaches(at, other) => {
                    Err(NoAnswer::Unreachable("refused".into()))
                }
                Ok(_) | Err(_) => {
                    took = ROUND;
                    Err(NoAnswer::Silent(ROUND))
                }
            };
            asked.push(Asked {
                listed_as: vec![sentinel(other)],
                asked: Ok(sentinel_at(other)),
                view,
            });
        }
        let poll = count(own, &sentinel_at(at), &asked);
        Ok((poll, named, took))
    }

    /// The second half, under the lock: gather::of_poll.
    pub fn of_poll(
        poll: &Poll,
        waited: Duration,
        at: Host,
        cluster: &Cluster,
    ) -> Result<Evidence, Fault> {
        let said = match cluster.ask(at, at) {
            Ok(said) => Some(endpoint(said.names())),
            Err(_) if poll.is_without_local() => None,
            Err(process) => return Err(Fault::passing(format!("{process:?}"))),
        };
        let mut sites: Vec<Site> = Vec::new();
        for redis in poll.redis() {
            if !sites.iter().any(|site| site.endpoint == *redis) {
                sites.push(site(number(redis), at));
            }
        }
        let mut evidence = poll.evidence(&sites, said.as_ref(), "the local Sentinel", waited)?;
        evidence.own_redis = own_redis(&sites, at, cluster);
        Ok(evidence)
    }

    /// Settles by this evidence: the verdict and the plan now, the deed a moment later.
    fn settle(
        &mut self,
        token: u64,
        mut run: Run,
        evidence: &Evidence,
        cause: Cause,
        cluster: &mut Cluster,
    ) {
        let host = run.host;
        let verdict = (self.policy)(evidence);
        let seen = Candidates {
            configured: None,
            subnets: vec![2],
            bound: cluster.machines[host].bound.clone(),
        };
        let action = plan(&verdict, &self.vip, &seen);
        let moment = cluster.random(20);
        cluster.locked[host] = cluster.now + moment + ms(1);
        run.stage = Stage::Act(action, cause, !seen.bound.is_empty());
        self.runs.insert(token, run);
        cluster.at(moment, Event::Wake(host, token));
    }

    pub fn act(
        action: Action,
        host: Host,
        cause: &Cause,
        cluster: &mut Cluster,
        audit: &mut Audit,
    ) -> Option<Fault> {
        let machine = &mut cluster.machines[host];
        let was = !machine.bound.is_empty();
        let wanted = match action {
            Action::TakeOver(_) => vec![binding()],
            Action::Release(_) => Vec::new(),
            Action::Announce(_) | Action::Nothing => return None,
        };
        if machine.is_broken {
            return Some(Fault::passing("the kernel refuses"));
        }
        machine.bound = wanted;
        let is = !machine.bound.is_empty();
        if was != is {
            audit.moved(host, is, cause, cluster);
        }
        None
    }
}

impl Driver for OneShot {
    fn notice(&mut self, signal: &Signal, cluster: &mut Cluster, _: &mut Audit) {
        match signal {
            // An agent at work takes the call.
            Signal::Called(host, _) if cluster.is_agent_at_work(*host) => {}
            Signal::Called(host, call) => {
                self.start(*host, Kind::Hook(call.clone(), None), ms(5), cluster);
            }
            Signal::Booted(host) => self.start_timer(*host, ms(1_000), cluster),
            Signal::Died(host) => {
                self.runs.retain(|_, run| run.host != *host);
                cluster.locked[*host] = Duration::ZERO;
            }
            Signal::Turned(..)
            | Signal::Fell(_)
            | Signal::Published(..)
            | Signal::Agent(_)
            | Signal::Address(..) => {}
        }
    }

    fn wake(&mut self, host: Host, token: u64, cluster: &mut Cluster, audit: &mut Audit) {
        let Some(mut run) = self.runs.remove(&token) else {
            return;
        };
        if !matches!(run.stage, Stage::Act(..)) && cluster.now < cluster.locked[host] {
            // Another run has the lock. `sync` polls without it; that it polls later changes little.
            let after = cluster.locked[host] - cluster.now;
            self.runs.insert(token, run);
            cluster.at(after, Event::Wake(host, token));
            return;
        }
        let stage = std::mem::replace(&mut run.stage, Stage::Gather);
        match (stage, &mut run.kind) {
            (Stage::Act(action, cause, was_here), _) => {
                let fault = match action {
                    Ok(action) => Self::act(action, host, &cause, cluster, audit),
                    Err(fault) => Some(fault),
                };
                if was_here {
                    // What somebody added by hand after the plan is for the next `sync`.
                    audit.acted(host, &cause, cluster);
                }
                self.end(token, run, fault, cluster);
            }
            (Stage::Gather, Kind::Hook(call, before)) => {
                let (evidence, said) = Self::of_call(call, before.take(), host, cluster);
                before.clone_from(&evidence.word);
                let remembered = match &evidence.word {
                    Some(Word::Says(site)) => Some(number(&site.endpoint)),
                    Some(Word::Agrees) => Some(call.to),
                    _ => None,
                };
                let cause = Cause::Hook {
                    to: call.to,
                    epoch: call.epoch,
                    said: said.or(remembered),
                    role: cluster.role(host, host),
                };
                self.settle(token, run, &evidence, cause, cluster);
            }
            (Stage::Gather, Kind::Sync(_)) => match Self::poll(host, cluster) {
                Err(fault) => self.end(token, run, Some(fault), cluster),
                Ok((poll, named, took)) => {
                    run.stage = Stage::Polled(Box::new(poll), named);
                    self.runs.insert(token, run);
                    cluster.at(took, Event::Wake(host, token));
                }
            },
            (Stage::Polled(poll, named), Kind::Sync(divided)) => {
                let now = cluster.now;
                let waited = divided.map(|since| now - since).unwrap_or_default();
                match Self::of_poll(&poll, waited, host, cluster) {
                    Err(fault) => self.end(token, run, Some(fault), cluster),
                    Ok(evidence) => {
                        // As once::settle has it.
                        let ballot = evidence.ballot.as_ref();
                        if ballot.is_some_and(Ballot::waits_for_a_minority) {
                            divided.get_or_insert(now);
                        }
                        // A leader that has promoted another lists the old master nowhere until all follow: it is not
                        // asked then.
                        let asked = evidence.own_redis.first();
                        let role = asked.and_then(|_| cluster.role(host, host));
                        let now = cluster.ask(host, host).map(Sentinel::names).ok();
                        let cause = Cause::Sync { named, now, role };
                        self.settle(token, run, &evidence, cause, cluster);
                    }
                }
            }
            (Stage::Polled(..), Kind::Hook(..)) => unreachable!("the hook does not poll"),
        }
    }
}

pub fn address(host: Host) -> IpAddr {
    let last = u8::try_from(host + 1).expect("three hosts");
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// Returns where a host's Sentinel is asked, and its events come from.
pub fn sentinel_at(host: Host) -> String {
    format!("{}:26379", address(host))
}

pub fn endpoint(host: Host) -> Endpoint {
    Endpoint {
        host: Name::Address(address(host)),
        port: 6379,
    }
}

pub fn number(endpoint: &Endpoint) -> Host {
    let is = |host: &Host| self::endpoint(*host) == *endpoint;
    (0..HOSTS).find(is).expect("a host of the model")
}

/// What the Redis of a host says of itself, where it is one of these.
fn own_redis(sites: &[Site], at: Host, cluster: &Cluster) -> Vec<OwnRedis> {
    let here = sites.iter().filter(|site| site.is_here());
    let own = here.map(|site| OwnRedis {
        site: site.clone(),
        at: SocketAddr::new(address(at), 6379),
        is_vouched_for: true,
        role: match cluster.role(at, at) {
            Some(Role::Master) => Ok(Says::Master),
            Some(Role::Replica(_)) => Ok(Says::Replica),
            None => Err(Fault::passing("refused")),
        },
        run_id: Some(format!("r{at}")),
    });
    own.collect()
}

/// Where a Redis is, seen from a host.
pub fn site(of: Host, from: Host) -> Site {
    Site {
        endpoint: endpoint(of),
        addresses: vec![address(of)],
        run_id: Some(format!("r{of}")),
        place: Ok(if of == from {
            Place::Here(Some(2))
        } else {
            Place::Elsewhere
        }),
    }
}

fn sentinel(host: Host) -> Instance {
    instance(host, 26_379, 's')
}

/// What every host remembers: all Sentinels and all Redis.
fn remembered() -> Known {
    let listed = |host: Host, port| Listed {
        host: address(host).to_string(),
        port,
        run_id: None,
    };
    Known {
        sentinels: (0..HOSTS).map(|host| listed(host, 26_379)).collect(),
        quorum: QUORUM,
        redis: (0..HOSTS).map(|host| listed(host, 6379)).collect(),
    }
}

fn instance(host: Host, port: u16, kind: char) -> Instance {
    Instance {
        host: address(host).to_string(),
        port,
        run_id: Some(format!("{kind}{host}")),
        flags: Vec::new(),
    }
}

/// What a Sentinel answers.
fn view(of: &Sentinel, on: Host) -> View {
    let others = |than: Host| (0..HOSTS).filter(move |host| *host != than);
    let (s_down, o_down, in_progress) = of.flags();
    let flags = [
        (true, "master"),
        (s_down, "s_down"),
        (o_down, "o_down"),
        (in_progress, "failover_in_progress"),
    ];
    View {
        master: MasterAddress {
            host: address(of.names()).to_string(),
            port: 6379,
        },
        config_epoch: of.saved.config_epoch,
        quorum: QUORUM,
        down_after: Some(DOWN_AFTER),
        failover_timeout: Some(FAILOVER_TIMEOUT),
        flags: flags
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| (*flag).to_owned())
            .collect(),
        sentinels: others(on).map(sentinel).collect(),
        // Of the address that its table has, which is the old master's while a failover goes on.
        replicas: others(of.saved.master)
            .map(|host| Instance {
                flags: Vec::from_iter((of.promoted == Some(host)).then(|| "promoted".to_owned())),
                ..instance(host, 6_379, 'r')
            })
            .collect(),
        standbys: None,
        withheld: None,
        run_id: None,
    }
}
