//! What an agent must not do, checked against what the model knows.

use std::time::Duration;

use vipswitch::verdict::{Verdict, Why};

use crate::cluster::{Cluster, Decision, HOSTS, Host, Link, Process, Role, link, ms};
use crate::driver::Named;
use crate::sentinel::{DOWN_AFTER, FAILOVER_TIMEOUT};

/// How late an agent may know the role of its own Redis: a reset that it missed, and the next look.
const LATE: Duration = ms(3_000);

/// When an agent that was stopped has heard all that waited for it.
const AWAKE: Duration = ms(1_500);

/// By when agents on all hosts have the VIP on the master that a majority names. A minority with a later epoch is
/// waited for for 6 s.
pub const CONVERGES: Duration = ms(12_000);

/// How long all must have been well before a planned failover: what pauses have cost that nobody confirmed is forgotten
/// bit by bit, and what a fault left behind is over.
const CALM: Duration = ms(25_000);

/// How long the VIP of a Redis that was started again may lead to it: a reset that the agent missed, and the next look.
const REBORN: Duration = ms(1_500);

/// How long after a failover no agent asks for another.
const APART: Duration = ms(60_000);

/// In so long at most an agent asks everybody once: every second, and a silent Sentinel takes 0.8 s.
const ROUND: Duration = ms(2_000);

/// How many actions an agent may want in a second.
const ACTIONS: usize = 150;

/// What was seen of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    stopped: Option<Duration>,
    slept: Duration,
    continued: Option<Duration>,
    /// A pause goes on whose chosen replica has said master.
    must_release: bool,
    is_paused: bool,
    /// Which replica it has last heard to be chosen.
    chosen: Option<Host>,
    paused_since: Option<Duration>,
    actions: (u64, usize),
    replica_since: Option<Duration>,
    replica_at: Option<Duration>,
    master_at: Option<Duration>,
    promoted_at: Option<Duration>,
    /// When another host last was in reach over a good link, and the agent knew it: it asked then, or the host was there
    /// for so long that a question was due.
    contact: Duration,
    /// Since when one has been.
    near_since: Option<Duration>,
    /// Which start of its Redis has died when its failover was asked for last, and when that was.
    died: Option<(u32, Duration)>,
    /// Since when that Redis, started anew, has been reached through the VIP while its failover goes on.
    reborn_since: Option<Duration>,
    /// When one was in reach again, after a time that was long enough to be cut off.
    back: Option<Duration>,
}

impl Seen {
    /// Another host was in reach.
    fn meets(&mut self, now: Duration) {
        if now - self.contact >= DOWN_AFTER {
            self.back = Some(now);
        }
        self.contact = now;
    }
}

/// Returns whether another host is in reach over a good link: a refused connection is a host that is there.
fn is_near(host: Host, cluster: &Cluster) -> bool {
    let mut others = (0..HOSTS).filter(|other| *other != host);
    others.any(|other| {
        cluster.reaches(host, other)
            && cluster.links[link(host, other)] == Link::Good
            && cluster.machines[other].process != Process::Frozen
    })
}

/// Returns what is wrong about the failovers that agents have asked for: another master of the same epoch, or one soon
/// after the other.
fn of_requests(cluster: &Cluster) -> Option<String> {
    let all = &cluster.decisions;
    for (place, one) in all.iter().enumerate() {
        let Some(by) = one.for_agent else { continue };
        // An operator who asks without votes, and a Sentinel that has forgotten its vote, can split any epoch.
        let is_ours = |other: &&Decision| {
            other.epoch == one.epoch && other.master != one.master && other.is_voted_for()
        };
        if !cluster.has_old_file
            && let Some(other) = all.iter().find(is_ours)
        {
            return Some(format!(
                "two masters of one epoch because of an agent: {one:?}, {other:?}"
            ));
        }
        let before = all[..place].iter().rfind(|other| other.for_agent.is_some());
        // What an agent knew of the last failover goes with the power of its host.
        let knows = |before: &Decision| cluster.machines[by].booted <= before.at;
        if let Some(before) = before.filter(|before| one.at - before.at < APART && knows(before)) {
            return Some(format!(
                "agents ask for a failover so soon after the last: {before:?}, {one:?}"
            ));
        }
    }
    None
}

/// Watches the agents of a case.
#[derive(Default)]
pub struct OfAgents {
    seen: [Seen; HOSTS],
    healthy_since: Option<Duration>,
    /// Since when the VIP is not where a majority has named a master.
    astray: Option<(Host, Duration)>,
    /// A planned failover, from where to where.
    planned: Option<(Host, Host)>,
    pub planned_failovers: u64,
    pub pauses: u64,
    /// How often a Redis died and agents held an election, and had a Sentinel asked.
    pub elections: u64,
    pub requests: u64,
    /// How often an old master that had been told to follow was made a master again.
    pub leads: u64,
}

impl OfAgents {
    /// Returns what is wrong about a move of the VIP.
    pub fn moved(
        &mut self,
        host: Host,
        is_bound: bool,
        (verdict, named): (&Verdict, Named),
        now: Duration,
    ) -> Option<String> {
        let seen = self.seen[host];
        if !is_bound {
            self.seen[host].must_release = false;
        }
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let was_stopped = since(seen.continued).is_some_and(|ago| ago < FAILOVER_TIMEOUT * 2);
        let names = |of: Host| named.iter().flatten().filter(|it| **it == of).count();
        let is_long_replica = since(seen.replica_since).is_some_and(|ago| ago > LATE);
        let just_awake = since(seen.continued).is_some_and(|ago| ago < AWAKE);
        if is_bound && is_long_replica && !just_awake {
            return Some(format!("the agent of host {host} bound beside a replica"));
        }
        let recently = |at: Option<Duration>, limit: Duration| {
            was_stopped || since(at).is_some_and(|ago| ago <= limit)
        };
        let open = FAILOVER_TIMEOUT + ms(5_000);
        let others = || (0..HOSTS).filter(|other| *other != host);
        let may = match (verdict, is_bound) {
            (Verdict::Here(_, Why::Majority), true) => names(host) * 2 > HOSTS,
            (Verdict::Here(_, Why::Promoted), true) => recently(seen.promoted_at, open),
            (Verdict::Here(..), true) => true,
            (Verdict::Elsewhere(Why::Majority), false) => {
                others().any(|other| names(other) * 2 > HOSTS)
            }
            (Verdict::Elsewhere(Why::Replica), false) => recently(seen.replica_at, LATE),
            (Verdict::Elsewhere(Why::Promoted), false) => others().any(|other| {
                let other = self.seen[other];
                recently(other.promoted_at, open) && other.master_at >= other.promoted_at
            }),
            (Verdict::Elsewhere(Why::CutOff), false) => {
                let awake = seen.continued.filter(|_| seen.slept > ms(2_000));
                let slept = since(awake).is_some_and(|ago| ago < DOWN_AFTER);
                if slept {
                    return Some(format!(
                        "the agent of host {host} was stopped, and takes what it did not hear for silence"
                    ));
                }
                let is_out = now - seen.contact >= DOWN_AFTER;
                is_out || since(seen.back).is_some_and(|ago| ago < LATE)
            }
            (Verdict::Elsewhere(_), false) => true,
            _ => false,
        };
        (!may).then(|| {
            format!(
                "the agent of host {host} moved the VIP without ground, bound {is_bound}: {verdict:?}, {named:?}, {seen:?}"
            )
        })
    }

    /// An agent was told something, and wants so many things done.
    pub fn did(&mut self, host: Host, actions: usize, now: Duration) -> Option<String> {
        let (second, number) = &mut self.seen[host].actions;
        if *second != now.as_secs() {
            (*second, *number) = (now.as_secs(), 0);
        }
        *number += actions;
        (*number > ACTIONS).then(|| format!("the agent of host {host} is busy for nothing"))
    }

    /// An agent asks all Sentinels.
    pub fn asks(&mut self, host: Host, cluster: &Cluster) {
        if is_near(host, cluster) {
            self.seen[host].meets(cluster.now);
        }
    }

    pub fn stopped(&mut self, host: Host, now: Duration) {
        self.seen[host].stopped = Some(now);
    }

    pub fn continued(&mut self, host: Host, now: Duration) {
        let seen = &mut self.seen[host];
        if let Some(stopped) = seen.stopped.take() {
            seen.slept = now - stopped;
            seen.continued = Some(now);
        }
    }

    pub fn pauses(&mut self, host: Host, longest: Duration) -> Option<String> {
        self.pauses += 1;
        self.seen[host].must_release = false;
        (longest > DOWN_AFTER / 2).then(|| format!("host {host} pauses writes for {longest:?}"))
    }

    /// An agent has an election held, as its Redis has died.
    pub fn elects(&mut self, host: Host, cluster: &Cluster) {
        let machine = &cluster.machines[host];
        let was_missed = u32::from(machine.redis.is_some());
        let life = machine.redis_life.saturating_sub(was_missed);
        self.seen[host].died = Some((life, cluster.now));
        self.elections += 1;
    }

    /// A Sentinel was elected and has begun.
    pub fn has_begun(&mut self) {
        self.requests += 1;
    }

    /// An old master is made a master again.
    pub fn leads(&mut self) {
        self.leads += 1;
    }

    pub fn paused(&mut self, host: Host) {
        self.seen[host].is_paused = true;
    }

    /// A failover was given up: nothing has to be released.
    pub fn heard_abort(&mut self, host: Host) {
        self.seen[host].must_release = false;
        self.planned = None;
    }

    /// A leader has chosen a replica: if it is another one than before, nothing has to be released.
    pub fn heard_choice(&mut self, host: Host, to: Host) {
        let seen = &mut self.seen[host];
        if seen.chosen.replace(to) != Some(to) {
            seen.must_release = false;
        }
    }

    pub fn heard_chosen(&mut self, host: Host) {
        let seen = &mut self.seen[host];
        seen.must_release = seen.is_paused;
    }

    /// The chosen one counts as no master any more: nothing has to be released.
    pub fn lost_chosen(&mut self, host: Host) {
        self.seen[host].must_release = false;
    }

    /// An agent asks for the end of a pause: what it knows then counts.
    pub fn unpauses(&mut self, host: Host, cluster: &Cluster) -> Option<String> {
        let machine = &cluster.machines[host];
        let seen = &mut self.seen[host];
        let is_paused = std::mem::take(&mut seen.is_paused) && machine.paused_until > cluster.now;
        let is_wrong = seen.must_release && is_paused && !machine.bound.is_empty();
        is_wrong.then(|| {
            format!("host {host} allowed writes before it released the VIP, although the chosen one is master")
        })
    }

    /// A Sentinel has published an event.
    pub fn published(&mut self, event: &str, of: Host, cluster: &Cluster) {
        let now = cluster.now;
        match event {
            "+selected-slave"
            | "+failover-state-send-slaveof-noone"
            | "+failover-state-wait-promotion" => {
                self.seen[of].promoted_at = Some(now);
                let is_calm = self.healthy_since.is_some_and(|since| now - since > CALM);
                let holders = cluster.holders();
                if let ([from], "+selected-slave", true) = (holders.as_slice(), event, is_calm)
                    && cluster.machines[*from].redis == Some(Role::Master)
                    // An old master that nobody has demoted yet is none of this master's replicas: no write of it
                    // gets there, whatever an agent does.
                    && matches!(cluster.machines[of].redis, Some(Role::Replica(_)))
                    && (0..HOSTS).all(|host| cluster.machines[host].sentinel.saved.master == *from)
                {
                    self.planned = Some((*from, of));
                    self.planned_failovers += 1;
                }
            }
            _ if event.starts_with("-failover-abort-") => self.planned = None,
            _ => {}
        }
    }

    /// Time has passed, or something has changed. Returns what is wrong.
    pub fn look(&mut self, cluster: &Cluster, master: Option<Host>) -> Option<String> {
        let now = cluster.now;
        for host in 0..HOSTS {
            if let Some(wrong) = self.look_at(host, cluster) {
                return Some(wrong);
            }
        }
        let has_agents = cluster
            .machines
            .iter()
            .all(|machine| machine.agent.is_some());
        let is_well = has_agents && cluster.is_healthy();
        self.healthy_since = is_well.then(|| self.healthy_since.unwrap_or(now));
        if let Some(wrong) = self.loses_writes(cluster).or_else(|| of_requests(cluster)) {
            return Some(wrong);
        }
        let holders = cluster.holders();
        let astray = master.filter(|master| is_well && holders != [*master]);
        self.astray = astray.map(|master| match self.astray {
            Some((before, since)) if before == master => (master, since),
            _ => (master, now),
        });
        let (master, since) = self.astray?;
        (now - since > CONVERGES).then(|| {
            format!("all is well, the master has been {master} for long, the VIP is on {holders:?}")
        })
    }

    fn look_at(&mut self, host: Host, cluster: &Cluster) -> Option<String> {
        let now = cluster.now;
        let machine = &cluster.machines[host];
        let seen = &mut self.seen[host];
        let is_replica = matches!(machine.redis, Some(Role::Replica(_)));
        seen.replica_since = is_replica.then(|| seen.replica_since.unwrap_or(now));
        seen.replica_at = if is_replica {
            Some(now)
        } else {
            seen.replica_at
        };
        if machine.redis == Some(Role::Master) {
            seen.master_at = Some(now);
        }
        // What comes and goes between two rounds of questions nobody knows.
        seen.near_since = is_near(host, cluster).then(|| seen.near_since.unwrap_or(now));
        if seen.near_since.is_some_and(|since| now - since >= ROUND) {
            seen.meets(now);
        }
        // Whose failover an agent asked for it knows as long as it can ask the Sentinel that goes on with it.
        let is_asked = (0..HOSTS).any(|other| {
            let mind = cluster.ask(host, other);
            let is_good = other == host || cluster.links[link(host, other)] == Link::Good;
            is_good && mind.is_ok_and(|mind| mind.fails_over_for() == Some(host))
        });
        let is_reborn = is_asked
            && machine.redis == Some(Role::Master)
            && seen.died.is_some_and(|(life, at)| {
                // A leader that was stopped goes on after the time that it has for it.
                life < machine.redis_life && now - at < FAILOVER_TIMEOUT
            })
            && !machine.bound.is_empty()
            && !machine.is_broken
            && machine.agent == Some(Process::Running)
            && seen.continued.is_none_or(|at| now - at > AWAKE);
        seen.reborn_since = is_reborn.then(|| seen.reborn_since.unwrap_or(now));
        if seen.reborn_since.is_some_and(|since| now - since > REBORN) {
            return Some(format!(
                "clients reach the reborn Redis of host {host}, whose failover was asked for"
            ));
        }
        let is_paused = machine.paused_until > now;
        seen.paused_since = is_paused.then(|| seen.paused_since.unwrap_or(now));
        let is_long = seen
            .paused_since
            .is_some_and(|since| now - since > ms(1_500));
        is_long.then(|| format!("writes of host {host} have been paused for too long"))
    }

    /// Returns the host whose master acknowledges writes through the VIP although a planned failover has made
    /// another one master.
    fn loses_writes(&mut self, cluster: &Cluster) -> Option<String> {
        let (from, to) = self.planned?;
        let old = &cluster.machines[from];
        if !cluster.is_healthy() || old.bound.is_empty() || old.redis != Some(Role::Master) {
            self.planned = None;
            return None;
        }
        let is_promoted = cluster.machines[to].redis == Some(Role::Master);
        let takes_writes = old.paused_until <= cluster.now;
        (is_promoted && takes_writes).then(|| {
            format!("host {from} acknowledges writes through the VIP, and {to} was promoted as planned: they are lost")
        })
    }
}
