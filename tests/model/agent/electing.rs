//! An agent whose Redis has died has a Sentinel elected and asked.

use std::time::Duration;

use vipswitch::agent::core::Event as Tells;
use vipswitch::election::Terms;
use vipswitch::evidence::Ballot;

use super::{Agents, Doing, Flaw, NAME};
use crate::audit::Audit;
use crate::cluster::{Cluster, Host, ms};
use crate::driver::address;
use crate::requests::{Election, Later, Step};

/// How long every Sentinel must have until it decides itself, as `agent::deaths` has it.
const AHEAD: Duration = ms(500);

impl Agents {
    pub(super) fn elect(
        &mut self,
        host: Host,
        (dead, near, over): (Host, Vec<String>, u64),
        cluster: &mut Cluster,
    ) {
        let Some(agent) = &self.agents[host] else {
            return;
        };
        let known = agent.core.evidence(NAME, cluster.now - agent.started);
        let Some(needed) = known.ballot.as_ref().map(Ballot::needed) else {
            let why = "the Sentinels could not be asked meanwhile".to_owned();
            let event = Tells::Elected(NAME.into(), Err((why, false)), 0);
            self.hears(host, ms(1), event, cluster);
            return;
        };
        let terms = Terms {
            needed,
            leaving: vec![address(dead)],
            is_here: true,
            near: Some(near),
            ahead: Some(AHEAD),
            over,
            taken: 0,
        };
        let (mut election, later) = Election::new(host, dead, terms, cluster);
        election.asks_without_votes = self.flaw == Flaw::AsksWithoutVotes;
        if let Some(agent) = &mut self.agents[host] {
            agent.election = Some(election);
        }
        self.elects_later(host, later, cluster);
    }

    fn elects_later(&mut self, host: Host, later: Vec<Later>, cluster: &mut Cluster) {
        for (after, round, step) in later {
            self.later(host, after, Doing::Elects(round, step), cluster);
        }
    }

    pub(super) fn go_on_electing(
        &mut self,
        host: Host,
        step: (u32, Step),
        cluster: &mut Cluster,
        audit: &mut Audit,
    ) {
        let Some(agent) = &mut self.agents[host] else {
            return;
        };
        let Some(election) = &mut agent.election else {
            return;
        };
        match election.go_on(step, cluster) {
            Ok(later) => self.elects_later(host, later, cluster),
            Err((asked, epoch)) => {
                agent.election = None;
                if asked.is_ok() {
                    audit.of_agents.has_begun();
                }
                audit.note(cluster.now, || {
                    format!("the election of host {host}'s agent: {asked:?}, epoch {epoch}")
                });
                self.hears(
                    host,
                    ms(1),
                    Tells::Elected(NAME.into(), asked, epoch),
                    cluster,
                );
            }
        }
    }
}
