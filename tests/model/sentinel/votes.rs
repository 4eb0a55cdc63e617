//! What the model's Sentinel answers to an agent that holds an election, as `election::look` reads it from real ones.

use std::time::Duration;

use vipswitch::election::look::{Candidate, Listed, Look, Vote, Voted};
use vipswitch::redis::MasterAddress;

use super::{DOWN_AFTER, Sentinel};
use crate::cluster::{Cluster, HOSTS, Host};
use crate::driver::{address, endpoint};

/// Older than anything may be.
const NEVER: Duration = Duration::from_secs(86_400);

/// Returns a Sentinel's run id.
pub fn id(of: Host) -> String {
    format!("s{of}")
}

/// Returns where a Sentinel is.
pub fn place(of: Host) -> String {
    format!("{}:26379", address(of))
}

impl Sentinel {
    fn shown_flags(&self) -> Vec<String> {
        let (s_down, o_down, in_progress) = self.flags();
        let flags = [
            (true, "master"),
            (s_down, "s_down"),
            (o_down, "o_down"),
            (in_progress, "failover_in_progress"),
        ];
        let flags = flags.iter().filter(|(is, _)| *is);
        flags.map(|(_, flag)| (*flag).to_owned()).collect()
    }

    /// SENTINEL IS-MASTER-DOWN-BY-ADDR with epoch 0: only the last vote, about a master that it knows by this address.
    fn last_vote(&self, about: Host) -> Vote {
        if self.saved.master != about {
            return Vote::default();
        }
        let leader = self.saved.leader.map(id).unwrap_or_default();
        Vote::new(&leader, self.saved.leader_epoch)
    }
}

impl Cluster {
    /// Returns what a Sentinel says of a master that has died.
    pub fn look_at(&self, sentinel: Host, dead: Host) -> Look {
        let (now, mind) = (self.now, &self.machines[sentinel].sentinel);
        let master = mind.names();
        let since = |at: Option<Duration>| at.map_or(NEVER, |at| now.saturating_sub(at));
        let replicas = (0..HOSTS).filter(|host| *host != mind.saved.master);
        let replicas = replicas.map(|host| {
            let seen = &mind.seen[host];
            let flags = [(true, "slave"), (seen.is_down, "s_down")];
            Candidate {
                at: endpoint(host).to_string(),
                run_id: format!("r{host}"),
                flags: flags
                    .iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, flag)| (*flag).to_owned())
                    .collect(),
                link_is_up: !seen.is_master,
                priority: u64::from(self.machines[host].priority),
                offset: u64::try_from(seen.offset.as_millis()).unwrap_or_default(),
                follows: true,
                answered: now.saturating_sub(seen.ok_at),
                told: since(seen.info_at),
            }
        });
        let others = (0..HOSTS).filter(|host| *host != sentinel);
        Look {
            who: place(sentinel),
            address: Some(address(sentinel)),
            run_id: Some(id(sentinel)),
            names_it: master == dead,
            master: MasterAddress {
                host: address(master).to_string(),
                port: 6379,
            },
            flags: mind.shown_flags(),
            config_epoch: mind.saved.config_epoch,
            highest_epoch: mind.saved.config_epoch,
            vote: mind.last_vote(dead),
            tilt: Some(mind.is_tilted(now)),
            replicas: replicas.collect(),
            sentinels: others
                .map(|host| Listed {
                    at: place(host),
                    run_id: Some(id(host)),
                })
                .collect(),
            down_after: DOWN_AFTER,
            silent: now.saturating_sub(mind.seen[mind.saved.master].ok_at),
        }
    }

    /// A Sentinel is asked for its vote about a master: its last one, then a new one in this epoch, if any is wanted.
    pub fn ask_for_vote(
        &mut self,
        sentinel: Host,
        master: Host,
        wanted: Option<(u64, Host)>,
    ) -> Voted {
        let (now, desync) = (self.now, self.random(1_000));
        let mind = self.mind(sentinel);
        let before = mind.last_vote(master);
        if let Some((epoch, candidate)) = wanted
            && mind.saved.master == master
        {
            mind.vote(epoch, candidate, now, desync);
        }
        self.flush(sentinel);
        let mind = &self.machines[sentinel].sentinel;
        Voted {
            who: place(sentinel),
            before,
            now: mind.last_vote(master),
            flags: mind.shown_flags(),
            config_epoch: mind.saved.config_epoch,
        }
    }
}
