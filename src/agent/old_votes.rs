//! The votes that the Sentinels have given about the masters of this host. One of which no failover came keeps the
//! agent's own elections away, as it may belong to one that goes on; so it is seen early that such a vote is old.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::core::Event;
use super::world::World;
use crate::election::look::Vote;
use crate::election::votes_given;
use crate::evidence::{Ballot, Site};
use crate::redis::Server;

/// How often they are asked for: often enough for the shortest `failover-timeout` that is of use.
const EVERY: Duration = Duration::from_secs(10);

/// How long each Sentinel may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The masters that a Sentinel is asked about, and where it is asked.
type Questions = BTreeMap<String, (Server, Vec<(String, Site)>)>;

/// Asks for them, for ever.
pub(super) async fn watch(world: Rc<World>) {
    loop {
        sleep(EVERY).await;
        let questions = world.about_own_masters().into_values();
        let each = questions.map(async |(server, masters)| {
            let sites: Vec<&Site> = masters.iter().map(|(_, site)| site).collect();
            let votes = votes_given(&server, &sites, &world.lines, PATIENCE).await;
            let names = masters.into_iter().map(|(name, _)| name);
            names.zip(votes).collect::<Vec<_>>()
        });
        let mut given: BTreeMap<String, Vec<Vote>> = BTreeMap::new();
        for (name, vote) in join_all(each).await.into_iter().flatten() {
            given.entry(name).or_default().extend(vote);
        }
        for (name, votes) in given {
            world.tell(Event::Votes(name, votes)).await;
        }
    }
}

impl World {
    fn about_own_masters(&self) -> Questions {
        let mut all = Questions::new();
        let (core, ways) = (self.core.borrow(), self.ways.borrow());
        for (name, ways) in ways.iter() {
            let known = core.evidence(name, self.now());
            let winner = known.ballot.as_ref().and_then(Ballot::winner);
            let Some(master) = winner.filter(|site| site.is_here()) else {
                continue;
            };
            for server in ways {
                let at = server.endpoint.to_string();
                let (_, masters) = all
                    .entry(at)
                    .or_insert_with(|| (server.clone(), Vec::new()));
                masters.push((name.clone(), master.clone()));
            }
        }
        all
    }
}
