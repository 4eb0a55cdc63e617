//! An agent whose Redis has died has a Sentinel elected and asked.

use std::time::Duration;

use vipswitch::agent::core::Event as Tells;
use vipswitch::election::Terms;
use vipswitch::election::look::Vote;
use vipswitch::evidence::Ballot;

use super::{Agents, Doing, Flaw, NAME, VOTES};
use crate::audit::Audit;
use crate::cluster::{Cluster, HOSTS, Host, ms};
use crate::driver::address;
use crate::requests::{Election, Later, Step};

/// How long every Sentinel must have until it decides itself, as `agent::deaths` has it.
const AHEAD: Duration = ms(500);

impl Agents {
    pub(super) fn elect(
        &mut self,
        host: Host,
        (dead, near, (over, stood)): (Host, Vec<String>, (Vec<Vote>, Vec<Vote>)),
        cluster: &mut Cluster,
    ) {
        let Some(agent) = &self.agents[host] else {
            return;
        };
        let known = agent.core.evidence(NAME, cluster.now - agent.started);
        let Some(needed) = known.ballot.as_ref().map(Ballot::needed) else {
            let why = "the Sentinels could not be asked meanwhile".to_owned();
            let event = Tells::Elected(NAME.into(), Err((why, false)), Vec::new());
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
            stood,
            taken: 0,
        };
        let (mut election, later) = Election::new(host, dead, terms, cluster);
        election.asks_without_votes = self.flaw == Flaw::AsksWithoutVotes;
        if let Some(agent) = &mut self.agents[host] {
            agent.election = Some(election);
        }
        self.elects_later(host, later, cluster);
    }

    /// It sees how old the votes are about the master that is its own.
    pub(super) fn look_at_votes(&mut self, host: Host, cluster: &mut Cluster, audit: &mut Audit) {
        self.later(host, VOTES, Doing::LooksAtVotes, cluster);
        let Some(agent) = &self.agents[host] else {
            return;
        };
        let known = agent.core.evidence(NAME, cluster.now - agent.started);
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        if !winner.is_some_and(|winner| winner.is_here()) {
            return;
        }
        let reached = (0..HOSTS).filter(|it| cluster.ask(host, *it).is_ok());
        let votes = reached.map(|it| cluster.look_at(it, host).vote).collect();
        self.tell(host, Tells::Votes(NAME.into(), votes), cluster, audit);
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
            Err((asked, votes)) => {
                agent.election = None;
                if asked.is_ok() {
                    audit.of_agents.has_begun();
                }
                audit.note(cluster.now, || {
                    format!("the election of host {host}'s agent: {asked:?}, {votes:?}")
                });
                self.hears(
                    host,
                    ms(1),
                    Tells::Elected(NAME.into(), asked, votes),
                    cluster,
                );
            }
        }
    }
}
