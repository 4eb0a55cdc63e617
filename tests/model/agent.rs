//! The agent on the hosts: the shipped core, fed with what the model's Sentinels, Redis and kernel say, late, twice or
//! not at all. Its actions are carried out here as `agent::world` does.

mod electing;
mod hearing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use vipswitch::agent::core::{
    Action, Core, Event as Tells, Facts, LastFailover, Own, Settings, Settled,
};
use vipswitch::agent::snapshot::Replica;
use vipswitch::config::{OnIsolation, OnRedisDeath};
use vipswitch::evidence::Role as Says;
use vipswitch::exit::Fault;
use vipswitch::gather::Poll;
use vipswitch::plan::{Action as Deed, plan};
use vipswitch::verdict::Verdict;
use vipswitch::vip::{Candidates, Vip};

use crate::audit::{Audit, Cause};
use crate::cluster::ms;
use crate::cluster::{Cluster, Event, HOSTS, Host, Process, Role, Signal, binding};
use crate::driver::{Driver, Named, OneShot, Policy, address, endpoint, number, site};
use crate::requests::{Election, Step};

/// The master-name.
const NAME: &str = "m";

/// How long the systemd unit takes to start after a boot.
const BOOT: Duration = ms(1_000);

/// How often an agent asks for votes, as `agent::old_votes` has it.
const VOTES: Duration = ms(10_000);

/// How many times in a row a core may want to be woken at once.
const AT_ONCE: u32 = 50;

/// What is wrong with an agent, so that the audit can be seen to catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing is.
    None,
    /// It allows writes before the VIP is released.
    UnpausesFirst,
    /// It takes a refused connection for silence.
    RefusedIsSilence,
    /// It does not hear that the VIP was removed.
    BlindToRemovals,
    /// It leaves the VIP to a Redis that has died, and may be back with old data.
    KeepsTheReborn,
    /// It asks a Sentinel to fail over that the others have not voted for.
    AsksWithoutVotes,
}

/// What an agent is about to do, or to hear.
enum Doing {
    Wake,
    Hear(Tells),
    /// It looks at its own Redis; whether it goes on with that every second.
    Look(bool),
    /// It asks for the Sentinels' last votes.
    LooksAtVotes,
    Answers(Box<Result<(Poll, Named), Fault>>),
    Settle,
    Act(Result<Deed, Fault>, Verdict, Named),
    Pause(Duration),
    /// Its Redis is to follow this one first.
    Unpause(Option<Host>),
    Lead,
    Elects(u32, Step),
    Ask(Ask),
}

/// A chosen replica is asked whether it is the master, as `agent::chosen` has it.
#[derive(Clone, Copy)]
struct Ask {
    of: Host,
    until: Duration,
    /// Which question of this agent it is.
    token: u64,
    /// Whether it has said that it is a replica.
    was_replica: bool,
    /// Whether it was the master when it was told of last.
    is_master: bool,
    /// Since when it has said nothing.
    silent: Option<Duration>,
}

fn replica(host: Host) -> Replica {
    Replica {
        at: endpoint(host).to_string(),
        lag: Some(0),
        behind: 0,
        online: true,
    }
}

struct Agent {
    core: Core,
    started: Duration,
    life: u64,
    /// What waits for it while it is stopped.
    held: Vec<Doing>,
    /// Whom each Sentinel named in the last round.
    named: Named,
    /// Until when a promotion of its own Redis is looked for.
    expects: Duration,
    /// Which chosen replica is asked.
    asks: u64,
    /// When it is to be woken, by the newest token.
    wakes: u64,
    at_once: u32,
    calls: u32,
    election: Option<Election>,
}

/// The agents of all hosts that have one.
pub struct Agents {
    policy: Policy,
    flaw: Flaw,
    vip: Vip,
    agents: [Option<Agent>; HOSTS],
    doing: BTreeMap<u64, (u64, Doing)>,
    on_redis_death: OnRedisDeath,
    /// The newest failover, and until when no other is asked for: in /run, until the host dies.
    remembered: [Option<LastFailover>; HOSTS],
}

impl Agents {
    /// Returns the driver; agents start where the cluster's machines have one.
    pub fn new(policy: Policy, flaw: Flaw, cluster: &mut Cluster) -> Agents {
        let mut agents = Agents {
            policy,
            flaw,
            vip: Vip {
                address: binding().peer,
                prefix: 24,
            },
            agents: [None, None, None],
            doing: BTreeMap::new(),
            on_redis_death: match cluster.once_in(4) {
                true => OnRedisDeath::Wait,
                false => OnRedisDeath::Failover,
            },
            remembered: [None; HOSTS],
        };
        for host in 0..HOSTS {
            let first = cluster.random(300);
            agents.start(host, first, cluster);
        }
        agents
    }

    fn start(&mut self, host: Host, after: Duration, cluster: &mut Cluster) {
        if cluster.machines[host].agent != Some(Process::Running) {
            return;
        }
        let master = Settings {
            name: NAME.to_owned(),
            vips: vec![self.vip.address],
            on_isolation: OnIsolation::Release,
            on_redis_death: self.on_redis_death,
        };
        let life = cluster.token();
        self.agents[host] = Some(Agent {
            core: Core::new(std::iter::once(master)),
            started: cluster.now,
            life,
            held: Vec::new(),
            named: [None; HOSTS],
            expects: Duration::ZERO,
            asks: 0,
            wakes: 0,
            at_once: 0,
            calls: 0,
            election: None,
        });
        if let (Some(last), Some(agent)) = (self.remembered[host], &mut self.agents[host]) {
            let quiet_until = last.quiet_until.saturating_sub(cluster.now);
            let last = LastFailover {
                quiet_until,
                ..last
            };
            agent.core.go_on_after(NAME, last, Duration::ZERO);
        }
        self.later(host, after, Doing::Wake, cluster);
        self.later(host, after + ms(5), Doing::Look(true), cluster);
        self.later(host, VOTES, Doing::LooksAtVotes, cluster);
    }

    /// Has an agent do something after a while. Returns its token.
    fn later(&mut self, host: Host, after: Duration, doing: Doing, cluster: &mut Cluster) -> u64 {
        let token = cluster.token();
        if let Some(agent) = &self.agents[host] {
            self.doing.insert(token, (agent.life, doing));
            cluster.at(after, Event::Wake(host, token));
        }
        token
    }

    fn hears(&mut self, host: Host, after: Duration, event: Tells, cluster: &mut Cluster) {
        self.later(host, after, Doing::Hear(event), cluster);
    }

    /// Tells the core something, and begins what it wants done.
    fn tell(&mut self, host: Host, event: Tells, cluster: &mut Cluster, audit: &mut Audit) {
        let is_deaf = match &event {
            Tells::AddressGone(_) => self.flaw == Flaw::BlindToRemovals,
            _ => false,
        };
        let Some(agent) = self.agents[host].as_mut().filter(|_| !is_deaf) else {
            return;
        };
        let now = cluster.now - agent.started;
        let actions = agent.core.on(event, now);
        self.remembered[host] = agent.core.master(NAME).map(|master| {
            let last = master.last_failover();
            LastFailover {
                quiet_until: last.quiet_until + agent.started,
                ..last
            }
        });
        let busy = audit.of_agents.did(host, actions.len(), cluster.now);
        audit.find(busy);
        for action in actions {
            self.begin(host, action, cluster, audit);
        }
        self.wake_later(host, cluster, audit);
    }

    fn wake_later(&mut self, host: Host, cluster: &mut Cluster, audit: &mut Audit) {
        let Some(agent) = &mut self.agents[host] else {
            return;
        };
        let now = cluster.now - agent.started;
        let pause = agent.core.wake(now).saturating_sub(now);
        agent.at_once = if pause.is_zero() {
            agent.at_once + 1
        } else {
            0
        };
        if agent.at_once > AT_ONCE {
            audit.find(Some(format!("the agent of host {host} turns without end")));
        }
        let token = self.later(host, pause.max(ms(1)), Doing::Wake, cluster);
        if let Some(agent) = &mut self.agents[host] {
            let before = std::mem::replace(&mut agent.wakes, token);
            self.doing.remove(&before);
        }
    }

    fn begin(&mut self, host: Host, action: Action, cluster: &mut Cluster, audit: &mut Audit) {
        let moment = ms(1) + cluster.random(3);
        match action {
            Action::Poll | Action::PollSome(_) => {
                audit.of_agents.asks(host, cluster);
                let (asked, took) = match OneShot::poll(host, cluster) {
                    Ok((poll, named, took)) => (Ok((poll, named)), took),
                    Err(fault) => (Err(fault), ms(1)),
                };
                self.later(
                    host,
                    took + moment,
                    Doing::Answers(Box::new(asked)),
                    cluster,
                );
            }
            Action::Settle(_) => {
                if self.flaw == Flaw::UnpausesFirst {
                    let wrong = audit.of_agents.unpauses(host, cluster);
                    audit.find(wrong);
                    self.unpause(host, cluster, audit);
                }
                self.later(host, moment, Doing::Settle, cluster);
            }
            Action::Expect(..) => {
                if let Some(agent) = &mut self.agents[host] {
                    agent.expects = cluster.now + ms(5_000);
                }
                self.later(host, moment, Doing::Look(false), cluster);
            }
            Action::AskChosen(_, to, left) => {
                let token = cluster.token();
                if let Some(agent) = &mut self.agents[host] {
                    agent.asks = token;
                }
                let ask = Ask {
                    of: number(&to),
                    until: cluster.now + left,
                    token,
                    was_replica: false,
                    is_master: false,
                    silent: None,
                };
                self.later(host, moment, Doing::Ask(ask), cluster);
            }
            Action::Pause(_, _, longest) => {
                let wrong = audit.of_agents.pauses(host, longest);
                audit.find(wrong);
                self.later(host, moment, Doing::Pause(longest), cluster);
            }
            Action::Unpause(_, _, heir) => {
                let wrong = audit.of_agents.unpauses(host, cluster);
                audit.find(wrong);
                let heir = heir.as_ref().map(number);
                self.later(host, moment, Doing::Unpause(heir), cluster);
            }
            Action::Lead(..) => {
                self.later(host, moment, Doing::Lead, cluster);
            }
            Action::Elect(_, dead, near, votes) => {
                audit.of_agents.elects(host, cluster);
                self.elect(host, (number(&dead.endpoint), near, votes), cluster);
            }
            // There are no clients.
            Action::Refuse(..) => {}
            Action::Log(_, _, text) => {
                audit.note(cluster.now, || format!("the agent of host {host}: {text}"));
            }
        }
    }

    fn unpause(&mut self, host: Host, cluster: &mut Cluster, audit: &mut Audit) {
        cluster.machines[host].paused_until = Duration::ZERO;
        audit.note(cluster.now, || {
            format!("the agent of host {host} allows writes")
        });
    }

    fn go_on(&mut self, host: Host, doing: Doing, cluster: &mut Cluster, audit: &mut Audit) {
        match doing {
            Doing::Wake => self.tell(host, Tells::Woke, cluster, audit),
            Doing::Hear(event) => {
                match &event {
                    Tells::Aborted(..) => audit.of_agents.heard_abort(host),
                    Tells::Promotes(_, to, _) => audit.of_agents.heard_choice(host, number(to)),
                    _ => {}
                }
                self.tell(host, event, cluster, audit);
            }
            Doing::Look(is_routine) => self.look(host, is_routine, cluster, audit),
            Doing::LooksAtVotes => self.look_at_votes(host, cluster, audit),
            Doing::Answers(asked) => self.answers(host, *asked, cluster, audit),
            Doing::Settle => self.settle(host, cluster),
            Doing::Act(deed, verdict, named) => {
                let settled = self.act(host, (deed, verdict, named), cluster, audit);
                self.hears(host, ms(1), settled, cluster);
            }
            Doing::Pause(longest) => {
                audit.note(cluster.now, || {
                    format!("the agent of host {host} pauses writes")
                });
                let paused = match cluster.machines[host].redis {
                    Some(_) => {
                        cluster.machines[host].paused_until = cluster.now + longest;
                        audit.of_agents.paused(host);
                        Ok(())
                    }
                    None => Err("refused".to_owned()),
                };
                self.hears(host, ms(1), Tells::Paused(NAME.into(), paused), cluster);
                self.later(host, ms(1), Doing::Look(false), cluster);
            }
            Doing::Lead => {
                audit.of_agents.leads();
                cluster.slave_of(host, Role::Master);
            }
            Doing::Elects(round, step) => self.go_on_electing(host, (round, step), cluster, audit),
            Doing::Unpause(heir) => {
                if let Some(heir) = heir {
                    audit.note(cluster.now, || {
                        format!("the agent of host {host} has its Redis follow host {heir}")
                    });
                    cluster.slave_of(host, Role::Replica(heir));
                }
                self.unpause(host, cluster, audit);
                self.hears(host, ms(1), Tells::Unpaused(NAME.into()), cluster);
            }
            Doing::Ask(ask) => {
                let is_wanted = self.agents[host].as_ref().is_some_and(|it| {
                    it.asks == ask.token && it.core.is_promoting(NAME, &endpoint(ask.of))
                });
                if is_wanted && cluster.now <= ask.until {
                    self.ask(host, ask, cluster, audit);
                }
            }
        }
    }

    /// Asks the chosen replica until it is the master; that it was none is told then. And then whether it still is.
    fn ask(&mut self, host: Host, mut ask: Ask, cluster: &mut Cluster, audit: &mut Audit) {
        let role = cluster.role(host, ask.of);
        let said = |role| Tells::Chosen(NAME.into(), endpoint(ask.of), role, Some(0));
        let lost = |why: &str| Tells::ChosenLost(NAME.into(), endpoint(ask.of), why.into());
        match (role, ask.is_master) {
            (Some(Role::Master), true) => ask.silent = None,
            (Some(Role::Master), false) => {
                (ask.silent, ask.is_master) = (None, true);
                audit.of_agents.heard_chosen(host);
                if ask.was_replica {
                    self.tell(host, said(Says::Replica), cluster, audit);
                }
                self.tell(host, said(Says::Master), cluster, audit);
            }
            (Some(Role::Replica(_)), false) => (ask.silent, ask.was_replica) = (None, true),
            (Some(Role::Replica(_)), true) => {
                (ask.silent, ask.is_master) = (None, false);
                audit.of_agents.lost_chosen(host);
                self.tell(host, lost("it follows"), cluster, audit);
            }
            (None, _) => {
                let is_there = cluster.reaches(host, ask.of);
                let patience = if is_there { ms(2_000) } else { ms(5_000) };
                if cluster.now - *ask.silent.get_or_insert(cluster.now) >= patience {
                    (ask.silent, ask.is_master) = (Some(cluster.now), false);
                    audit.of_agents.lost_chosen(host);
                    self.tell(host, lost("it is silent"), cluster, audit);
                }
            }
        }
        let every = if ask.is_master { ms(50) } else { ms(10) };
        self.later(host, every, Doing::Ask(ask), cluster);
    }

    /// What its Redis says.
    fn look(&mut self, host: Host, is_routine: bool, cluster: &mut Cluster, audit: &mut Audit) {
        let role = match cluster.role(host, host) {
            Some(Role::Master) => Ok(Says::Master),
            Some(Role::Replica(_)) => Ok(Says::Replica),
            None => Err(Fault::passing("refused")),
        };
        let others = (0..HOSTS).filter(|other| *other != host);
        let follow = others.filter(|it| cluster.role(host, *it) == Some(Role::Replica(host)));
        let replicas: Vec<Replica> = follow.map(replica).collect();
        let is_master = role == Ok(Says::Master);
        let own = Own {
            role,
            offset: Some(0),
            acknowledged: (is_master && !replicas.is_empty()).then_some(Duration::ZERO),
            replicas: match is_master {
                true => replicas,
                false => Vec::new(),
            },
            run_id: Some(format!("r{host}.{}", cluster.machines[host].redis_life)),
            is_gone: cluster.machines[host].redis.is_none(),
        };
        let at = SocketAddr::new(address(host), 6379);
        self.tell(host, Tells::OwnRedis(NAME.into(), at, own), cluster, audit);
        let expects = self.agents[host].as_ref().map(|agent| agent.expects);
        let is_expected = !is_master && expects.is_some_and(|until| cluster.now < until);
        if is_routine {
            let pause = ms(1_000) + cluster.random(100);
            self.later(host, pause, Doing::Look(true), cluster);
        } else if is_expected {
            self.later(host, ms(20), Doing::Look(false), cluster);
        }
    }

    /// A round of questions has ended.
    fn answers(
        &mut self,
        host: Host,
        asked: Result<(Poll, Named), Fault>,
        cluster: &mut Cluster,
        audit: &mut Audit,
    ) {
        let facts = asked.and_then(|(poll, named)| {
            let mut evidence = OneShot::of_poll(&poll, Duration::ZERO, host, cluster)?;
            let known = poll.redis().map(|redis| site(number(redis), host));
            evidence.known_redis = known.collect();
            if let Some(agent) = &mut self.agents[host] {
                agent.named = named;
            }
            let ballot = evidence.ballot.as_ref();
            Ok(Facts {
                could_elect_without: ballot.is_some_and(|ballot| ballot.could_elect_without()),
                down_after: poll.down_after(),
                soonest_down: poll.soonest_down(),
                failover_timeout: poll.failover_timeout(),
                has_replicas: poll.has_replicas(),
                fails_over: poll.fails_over(),
                promoting: poll.promoting().cloned(),
                evidence,
            })
        });
        let event = match facts {
            Ok(facts) => Tells::Polled(NAME.into(), Box::new(self.flawed(facts))),
            Err(fault) => Tells::NotPolled(NAME.into(), fault),
        };
        self.tell(host, event, cluster, audit);
        let drift = match cluster.machines[host].bound.is_empty() {
            true => Tells::AddressGone(self.vip.address),
            false => Tells::AddressNew(self.vip.address),
        };
        self.tell(host, drift, cluster, audit);
        self.tell(host, Tells::PollEnded, cluster, audit);
    }

    fn flawed(&self, mut facts: Facts) -> Facts {
        if self.flaw == Flaw::RefusedIsSilence
            && let Some(ballot) = &mut facts.evidence.ballot
        {
            for vote in &mut ballot.votes {
                vote.out_of_reach |= vote.says.is_err();
            }
            facts.could_elect_without = ballot.could_elect_without();
        }
        facts
    }

    /// The verdict and the plan, under the lock; the deed a moment later.
    fn settle(&mut self, host: Host, cluster: &mut Cluster) {
        if cluster.now < cluster.locked[host] {
            let after = cluster.locked[host] - cluster.now;
            self.later(host, after, Doing::Settle, cluster);
            return;
        }
        let Some(agent) = &self.agents[host] else {
            return;
        };
        let mut evidence = agent.core.evidence(NAME, cluster.now - agent.started);
        evidence.has_died &= self.flaw != Flaw::KeepsTheReborn;
        let verdict = (self.policy)(&evidence);
        let named = agent.named;
        let seen = Candidates {
            configured: None,
            subnets: vec![2],
            bound: cluster.machines[host].bound.clone(),
        };
        let deed = plan(&verdict, &self.vip, &seen);
        let moment = cluster.random(5);
        cluster.locked[host] = cluster.now + moment + ms(1);
        self.later(host, moment, Doing::Act(deed, verdict, named), cluster);
    }

    fn act(
        &mut self,
        host: Host,
        (deed, verdict, named): (Result<Deed, Fault>, Verdict, Named),
        cluster: &mut Cluster,
        audit: &mut Audit,
    ) -> Tells {
        let was = !cluster.machines[host].bound.is_empty();
        let cause = Cause::Agent {
            verdict: verdict.clone(),
            named,
        };
        let failed = match deed {
            Ok(deed) => OneShot::act(deed, host, &cause, cluster, audit),
            Err(fault) => Some(fault),
        };
        let is = !cluster.machines[host].bound.is_empty();
        let settled = Settled {
            verdict: Some(verdict),
            failed,
            took_over: is && !was,
            released: was && !is,
            bound: None,
            first_frame: None,
        };
        Tells::Settled(NAME.into(), Box::new(settled))
    }
}

impl Driver for Agents {
    fn notice(&mut self, signal: &Signal, cluster: &mut Cluster, audit: &mut Audit) {
        match signal {
            Signal::Called(host, call) if cluster.is_agent_at_work(*host) => {
                self.called(*host, call, cluster);
            }
            Signal::Called(..) => {}
            Signal::Booted(host) => self.start(*host, BOOT, cluster),
            Signal::Died(host) => {
                self.agents[*host] = None;
                self.remembered[*host] = None;
            }
            Signal::Turned(host, _) | Signal::Fell(host) => {
                // Its connection is reset by the promotion; seldom it was just being made.
                if !cluster.once_in(10) {
                    let moment = ms(1) + cluster.random(5);
                    self.later(*host, moment, Doing::Look(false), cluster);
                }
            }
            Signal::Published(by, event, of) => self.published(*by, event, *of, cluster),
            Signal::Agent(host) => self.turned(*host, cluster, audit),
            Signal::Address(host, is_bound) => {
                let vip = self.vip.address;
                let event = match is_bound {
                    true => Tells::AddressNew(vip),
                    false => Tells::AddressGone(vip),
                };
                self.hears(*host, ms(1), event, cluster);
            }
        }
    }

    fn wake(&mut self, host: Host, token: u64, cluster: &mut Cluster, audit: &mut Audit) {
        let Some((life, doing)) = self.doing.remove(&token) else {
            return;
        };
        let Some(agent) = self.agents[host].as_mut().filter(|it| it.life == life) else {
            return;
        };
        // What the kernel was asked for is done, whoever asked.
        if cluster.machines[host].agent == Some(Process::Frozen) && !matches!(doing, Doing::Act(..))
        {
            agent.held.push(doing);
            return;
        }
        self.go_on(host, doing, cluster, audit);
    }
}
