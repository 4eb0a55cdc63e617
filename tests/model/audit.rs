//! The invariants, checked against what the model knows: not against what vipswitch was told of it.

use std::time::Duration;

use vipswitch::verdict::Verdict;

use crate::agent_audit::OfAgents;
use crate::cluster::{Cluster, HOSTS, Host, Process, Role, ms};
use crate::driver::{Named, SYNC};

/// What a deed rests on, as the model knows it.
#[derive(Clone, Debug)]
pub enum Cause {
    /// The call's TO and epoch, what the local Sentinel said then, if it ever answered this run, and what the
    /// local Redis said.
    Hook {
        to: Host,
        epoch: u64,
        said: Option<Host>,
        role: Option<Role>,
    },
    /// Whom the Sentinels named, whom the local one named at the end, and what the local Redis said.
    Sync {
        named: Named,
        now: Option<Host>,
        role: Option<Role>,
    },
    /// What followed from all that the agent knew, and whom the Sentinels named when it asked them last.
    Agent { verdict: Verdict, named: Named },
}

/// How long a run of `sync` takes where the local Sentinel answers: a round for the silent ones, the lock, a
/// second try where Sentinel has changed its mind, and the timer's accuracy.
pub const RUN: Duration = ms(5_000);

/// Watches a case.
#[derive(Default)]
pub struct Audit {
    /// The first thing that was wrong.
    pub wrong: Option<String>,
    /// What happened, for the report.
    pub log: Vec<String>,
    pub keeps_log: bool,
    pub moves: u64,
    /// Since when each host has held the VIP beside a replica, in a state in which it must hear of it.
    beside: [Option<Duration>; HOSTS],
    pub of_agents: OfAgents,
}

impl Audit {
    /// Notes what was found, if anything was.
    pub fn find(&mut self, wrong: Option<String>) {
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub fn note(&mut self, now: Duration, text: impl FnOnce() -> String) {
        if self.keeps_log {
            self.log
                .push(format!("{:9.3} s  {}", now.as_secs_f64(), text()));
        }
    }

    /// A run has done what followed from its evidence, or found that the kernel refuses.
    pub fn acted(&mut self, host: Host, cause: &Cause, cluster: &Cluster) {
        let machine = &cluster.machines[host];
        let heard_replica = matches!(
            cause,
            Cause::Sync {
                role: Some(Role::Replica(_)),
                ..
            }
        );
        if heard_replica && !machine.is_broken && !machine.bound.is_empty() {
            self.wrong(format!(
                "host {host} holds the VIP although its Redis has just said replica"
            ));
        }
    }

    /// A host has bound or released the VIP.
    pub fn moved(&mut self, host: Host, is_bound: bool, cause: &Cause, cluster: &Cluster) {
        let now = cluster.now;
        self.moves += 1;
        self.note(now, || {
            let verb = if is_bound { "binds" } else { "releases" };
            format!("host {host} {verb} the VIP: {cause:?}")
        });
        let wanted = |named: Host| (named == host) == is_bound;
        match *cause {
            Cause::Agent { ref verdict, named } => {
                let wrong = self.of_agents.moved(host, is_bound, (verdict, named), now);
                self.find(wrong);
            }
            Cause::Sync { named, now, role } => {
                let votes = named
                    .iter()
                    .flatten()
                    .filter(|named| wanted(**named))
                    .count();
                // For a release, two that name two different other hosts are no majority.
                let is_majority = (0..HOSTS).any(|of| {
                    wanted(of)
                        && named.iter().flatten().filter(|named| **named == of).count() * 2 > HOSTS
                });
                let is_replica = matches!(role, Some(Role::Replica(_)));
                let may = match is_bound {
                    true => is_majority && role == Some(Role::Master),
                    false => is_majority || is_replica,
                };
                let of_host = named[host];
                if now != of_host {
                    self.wrong(format!(
                        "a poll that was over moved the VIP: host {host}, bound {is_bound}, its Sentinel named {of_host:?}, then {now:?}"
                    ));
                }
                if !may {
                    self.wrong(format!(
                        "a minority moved the VIP: host {host}, bound {is_bound}, {votes} for it of {named:?}, own Redis {role:?}"
                    ));
                }
            }
            Cause::Hook {
                to,
                epoch,
                said,
                role,
            } => {
                let is_replica = matches!(role, Some(Role::Replica(_)));
                if !wanted(said.unwrap_or(to)) && !is_replica {
                    self.wrong(format!(
                        "a stale call moved the VIP: host {host}, bound {is_bound}, to {to}, the local Sentinel says {said:?}"
                    ));
                }
                if is_bound && is_replica {
                    self.wrong(format!("host {host} took the VIP over beside a replica"));
                }
                let decided = |decision: &&crate::cluster::Decision| {
                    decision.epoch == epoch && decision.master == to
                };
                let may = cluster.decisions.iter().find(decided);
                if !may.is_some_and(|decision| decision.is_forced || decision.votes * 2 > HOSTS) {
                    self.wrong(format!("a minority moved the VIP by a call: host {host}, to {to}, epoch {epoch}: {may:?}"));
                }
            }
        }
    }

    /// Time has passed, or something has changed.
    pub fn look(&mut self, cluster: &Cluster) {
        let now = cluster.now;
        for host in 0..HOSTS {
            let machine = &cluster.machines[host];
            let is_beside = !machine.bound.is_empty()
                && !machine.is_broken
                && matches!(machine.redis, Some(Role::Replica(_)));
            let since = |since: Option<Duration>, is: bool| is.then(|| since.unwrap_or(now));
            // An agent that was killed or stopped hears nothing.
            let agent = machine.agent.is_none_or(|is| is == Process::Running);
            let hears = cluster.ask(host, host).is_ok() && agent;
            self.beside[host] = since(self.beside[host], is_beside && hears);
            if self.beside[host].is_some_and(|since| now - since > SYNC + RUN) {
                self.wrong(format!(
                    "host {host} has held the VIP beside a replica for a tick and a run"
                ));
            }
        }
        let master = master(cluster).filter(|_| !is_split(cluster));
        let wrong = self.of_agents.look(cluster, master);
        self.find(wrong);
    }

    /// Everything is up and connected, and nothing has changed for a tick and a run.
    pub fn soon(&mut self, cluster: &Cluster) {
        let holders = cluster.holders();
        if let Some(master) = master(cluster)
            && holders != [master]
        {
            self.wrong(format!(
                "after a tick the master is {master}, the VIP on {holders:?}"
            ));
        }
    }

    /// Everything is up and connected, and nothing has changed for long.
    pub fn at_rest(&mut self, cluster: &Cluster) {
        let names: Named =
            std::array::from_fn(|host| Some(cluster.machines[host].sentinel.names()));
        let roles: Vec<Option<Role>> = cluster
            .machines
            .iter()
            .map(|machine| machine.redis)
            .collect();
        let holders = cluster.holders();
        let is_split = is_split(cluster);
        let winner = winner(cluster);
        let master = master(cluster);
        let epochs: [u64; HOSTS] =
            std::array::from_fn(|host| cluster.machines[host].sentinel.saved.config_epoch);
        let text = || {
            format!(
                "the Sentinels name {names:?} (epochs {epochs:?}), the Redis are {roles:?}, the VIP is on {holders:?}"
            )
        };
        let agree = names.iter().all(|named| *named == names[0]);
        match (winner, master) {
            (_, Some(master)) if (agree || is_split) && holders == [master] => {}
            (Some(_), None) if is_split && holders.is_empty() => {}
            // Three Sentinels, three masters: nobody moves anything.
            (None, _) if is_split => {}
            _ => self.wrong(format!("at rest: {}", text())),
        }
    }
}

/// Returns the host that more than half of the Sentinels name.
fn winner(cluster: &Cluster) -> Option<Host> {
    let names = cluster
        .machines
        .iter()
        .map(|machine| machine.sentinel.names());
    let number = |of: &Host| names.clone().filter(|named| named == of).count();
    (0..HOSTS).find(|of| number(of) * 2 > HOSTS)
}

/// Returns that host if its Redis is master.
pub fn master(cluster: &Cluster) -> Option<Host> {
    winner(cluster).filter(|winner| cluster.machines[*winner].redis == Some(Role::Master))
}

/// Returns whether Sentinel itself has split an epoch, so that it promises nothing: two decisions have the same
/// number, or two Sentinels know different masters by it.
pub fn is_split(cluster: &Cluster) -> bool {
    let decided = cluster
        .decisions
        .iter()
        .map(|decision| (decision.epoch, decision.master));
    let known = cluster.machines.iter().map(|machine| {
        let sentinel = &machine.sentinel;
        (sentinel.saved.config_epoch, sentinel.names())
    });
    let all: Vec<(u64, Host)> = decided.chain(known).collect();
    let differ = |one: &(u64, Host), other: &(u64, Host)| one.0 == other.0 && one.1 != other.1;
    all.iter()
        .any(|one| all.iter().any(|other| differ(one, other)))
}
