//! What an agent hears of: its own start and end, what Sentinels publish, and their calls of the hook.

use vipswitch::agent::core::Event as Tells;
use vipswitch::evidence::{Call as Told, Word};

use super::{Agents, NAME};
use crate::audit::Audit;
use crate::cluster::{Call, Cluster, HOSTS, Host, Link, Process, link, ms};
use crate::driver::{endpoint, sentinel_at, site};

impl Agents {
    /// Somebody has started, stopped, continued or killed the agent of a host.
    pub(super) fn turned(&mut self, host: Host, cluster: &mut Cluster, audit: &mut Audit) {
        match cluster.machines[host].agent {
            None => {}
            Some(Process::Down) => {
                self.agents[host] = None;
                cluster.locked[host] = cluster.now;
            }
            Some(Process::Frozen) => audit.of_agents.stopped(host, cluster.now),
            Some(Process::Running) => match &mut self.agents[host] {
                None => self.start(host, ms(100), cluster),
                Some(agent) => {
                    audit.of_agents.continued(host, cluster.now);
                    let held = std::mem::take(&mut agent.held);
                    for doing in held {
                        self.later(host, ms(1), doing, cluster);
                    }
                }
            },
        }
    }

    /// A Sentinel has published an event: everybody who is connected to it hears of it.
    pub(super) fn published(&mut self, by: Host, event: &str, of: Host, cluster: &mut Cluster) {
        let name = || NAME.to_owned();
        let at = || sentinel_at(by);
        let tells = match event {
            "+selected-slave"
            | "+failover-state-send-slaveof-noone"
            | "+failover-state-wait-promotion" => Tells::Promotes(name(), endpoint(of), at()),
            _ if event.starts_with("-failover-abort-") => Tells::Aborted(name(), at()),
            _ => Tells::Changed,
        };
        for host in 0..HOSTS {
            if !cluster.reaches(by, host) || cluster.machines[host].loses_events {
                continue;
            }
            let kind = if by == host {
                Link::Good
            } else {
                cluster.links[link(by, host)]
            };
            let takes = match kind {
                Link::Good | Link::Cut => ms(1) + cluster.random(5),
                Link::Late => cluster.random(3_000),
                Link::Lossy if cluster.once_in(2) => continue,
                Link::Lossy => ms(1) + cluster.random(300),
            };
            self.hears(host, takes, tells.clone(), cluster);
            if cluster.once_in(10) {
                let again = takes + cluster.random(50);
                self.hears(host, again, tells.clone(), cluster);
            }
        }
    }

    pub(super) fn called(&mut self, host: Host, call: &Call, cluster: &mut Cluster) {
        let word = match cluster.ask(host, host).map(|own| own.names()) {
            Ok(said) if said == call.to => Word::Agrees,
            Ok(said) => Word::Says(site(said, host)),
            Err(process) => Word::Silent(format!("{process:?}")),
        };
        let told = Told {
            to: site(call.to, host),
            carries_information: call.from != call.to,
        };
        if let Some(agent) = &mut self.agents[host] {
            agent.calls += 1;
            let until = cluster.now - agent.started + ms(20_000);
            let event = Tells::Called(NAME.into(), Box::new((told, word)), until);
            self.hears(host, ms(5), event, cluster);
        }
        cluster.script_ended(host, call.clone(), 0);
    }
}
