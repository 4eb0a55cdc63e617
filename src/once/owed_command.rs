//! Which command of the site's own a VIP needs, and what that finds in its environment.

use super::Entry;
use crate::config::{SiteCommand, Target};
use crate::engine::Task;
use crate::evidence::Word;
use crate::kernel::{Netlink, Snapshot};
use crate::outcome::{Did, Outcome};
use crate::site_command::job::Job;
use crate::site_command::memory;
use crate::site_command::owed::{Asked, Circumstances, Now, Told, is_owed};
use crate::verdict::Verdict;

impl Entry<'_> {
    /// Returns the command that a VIP needs now, if any.
    pub async fn owed<'b>(
        &self,
        task: &Task<'_>,
        target: &Target<'b>,
        outcome: &Outcome,
        did: &Did,
    ) -> Option<(&'b SiteCommand, Job)> {
        let (here, interface) = match did {
            Did::TookOver { interface, .. } => (true, interface.clone()),
            Did::Released(released) => (false, released.interfaces.join(" ")),
            Did::Nothing(_) if matches!(task.verdict, Some(Verdict::Elsewhere(_))) => {
                (false, String::new())
            }
            Did::Nothing(_) | Did::Announced { .. } => return None,
        };
        let command = match here {
            true => target.master.on_take_over.as_ref()?,
            false => target.master.on_release.as_ref()?,
        };
        let told = memory::recall(target).map_err(|_| ());
        let told = match &told {
            Ok(told) => Ok(told.as_ref()),
            Err(()) => Err(()),
        };
        let known = told.unwrap_or_default();
        let circumstances = self.circumstances(task, here, interface, known);
        let now = match did {
            Did::TookOver { .. } => Now::Here {
                is_news: outcome.so_far.is_news(),
            },
            Did::Released(_) => Now::Released,
            _ => Now::Gone {
                was_master: self.has_left_this_host(task).await,
            },
        };
        let asked = self.asked();
        if !is_owed(now, asked, &circumstances, told) {
            return None;
        }
        let mut job = Job::new(target, here, circumstances);
        job.again = asked == Asked::ByOrder;
        job.is_routine = asked == Asked::ByRoutine;
        Some((command, job))
    }

    fn asked(&self) -> Asked {
        match self {
            Entry::Hook(_) => Asked::ByCall,
            Entry::Operator(_) => Asked::ByOrder,
            Entry::Sync => Asked::ByRoutine,
        }
    }

    /// Returns whether Sentinel's call says that the master was on this host and is not any more.
    async fn has_left_this_host(&self, task: &Task<'_>) -> bool {
        if !matches!(self, Entry::Hook(_)) {
            return false;
        }
        let Ok(netlink) = Netlink::open() else {
            return false;
        };
        let carriers = Snapshot::new(&netlink).carriers(&task.peers).await;
        carriers
            .is_ok_and(|from| !from.is_empty() && from.iter().all(|(_, carrier)| carrier.is_some()))
    }

    /// Returns what a command finds in its environment beside the VIP. TO is where the master is by
    /// Sentinel's word of now. A command that is pending finds what it found first, as far as this run knows
    /// no better.
    fn circumstances(
        &self,
        task: &Task<'_>,
        here: bool,
        interface: String,
        told: Option<&Told>,
    ) -> Circumstances {
        let mut circumstances = match told {
            Some(told) if told.here == here && !told.done => told.circumstances.clone(),
            // Where it was, if somebody else has removed it.
            Some(told) if !here => told.circumstances.only_interface(),
            _ => Circumstances::default(),
        };
        if !interface.is_empty() {
            circumstances.interface = interface;
        }
        if let Entry::Hook(failover) = self {
            let from = failover.from.as_ref().map(|from| from.host.to_string());
            let word = task
                .evidence
                .as_ref()
                .and_then(|evidence| evidence.word.as_ref());
            circumstances.from = from.unwrap_or_default();
            circumstances.to = match word {
                Some(Word::Says(site)) => site.endpoint.host.to_string(),
                _ => failover.to.host.to_string(),
            };
        }
        circumstances
    }
}
