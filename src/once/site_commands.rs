//! The site's own commands after a run: each VIP's when the network knows of it. No VIP's command waits for
//! another's.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Entry, Shared, is_bound};
use crate::config::{SiteCommand, Target};
use crate::engine::Task;
use crate::evidence::Word;
use crate::exit::Fault;
use crate::kernel::{Netlink, Snapshot};
use crate::lock;
use crate::outcome::{Did, Outcome};
use crate::site_command;
use crate::verdict::Verdict;

/// When the last of the site's own commands has to have ended, since the start: Sentinel kills the
/// run after 60 s.
const COMMANDS_UNTIL: Duration = Duration::from_secs(50);

/// A command that is to run.
struct Due<'a> {
    place: usize,
    command: &'a SiteCommand,
    /// Whether it is for a VIP that is here.
    here: bool,
    variables: [(&'static str, String); 6],
    address: IpAddr,
}

impl Shared<'_> {
    /// Runs what the configuration wants run after each VIP that was taken over or released; after a release
    /// also where FROM is this host and an earlier run has released it, as its command may have failed.
    pub(super) async fn run_site_commands(&self, task: &mut Task<'_>) {
        if self.dry_run {
            return;
        }
        let owes_release = self.has_left_this_host(task).await;
        let each = task.targets.iter().zip(&task.outcomes).enumerate();
        let due = each.filter_map(|(place, (target, outcome))| {
            let (command, here, interface) = command(task, target, outcome, owes_release)?;
            let variables = self.variables(task, target, interface);
            let address = target.vip.address;
            Some(Due {
                place,
                command,
                here,
                variables,
                address,
            })
        });
        let due: Vec<Due> = due.collect();
        if due.is_empty() {
            return;
        }
        let until = self.started + COMMANDS_UNTIL;
        let results = join_all(due.iter().map(|due| self.run_one(due, until))).await;
        task.phases.commands = Some(self.started.elapsed());
        let failed = |(due, result): (&Due, Result<(), Fault>)| {
            let failed = result.err().map(|fault| (fault, due.command.required));
            (due.place, failed)
        };
        let failed: Vec<_> = due.iter().zip(results).map(failed).collect();
        for (place, failed) in failed {
            task.outcomes[place].command_failed = failed;
        }
    }

    /// Runs a command, unless another run has moved the VIP on meanwhile: then it is that run's to call one.
    /// One at a time for each VIP, so that what a router is told last is what is true.
    async fn run_one(&self, due: &Due<'_>, until: Instant) -> Result<(), Fault> {
        let left = || until.saturating_duration_since(Instant::now());
        let _alone = lock::command(due.address, left()).await?;
        // It is never closed, so that this does not fail.
        let _turn = self.commands.acquire().await;
        if is_bound(due.address)
            .await
            .is_ok_and(|bound| bound != due.here)
        {
            return Ok(());
        }
        site_command::run(due.command, &due.variables, left()).await
    }

    /// Returns whether Sentinel's call says that the master was on this host and is not any more.
    async fn has_left_this_host(&self, task: &Task<'_>) -> bool {
        let is_hook = matches!(self.entry, Entry::Hook(_));
        if !is_hook || !matches!(task.verdict, Some(Verdict::Elsewhere(_))) {
            return false;
        }
        let Ok(netlink) = Netlink::open() else {
            return false;
        };
        let carriers = Snapshot::new(&netlink).carriers(&task.peers).await;
        carriers
            .is_ok_and(|from| !from.is_empty() && from.iter().all(|(_, carrier)| carrier.is_some()))
    }

    /// Returns what a site's own command finds in its environment. TO is where the master is by Sentinel's
    /// word of now.
    fn variables(
        &self,
        task: &Task<'_>,
        target: &Target<'_>,
        interface: String,
    ) -> [(&'static str, String); 6] {
        let (from, to) = match self.entry {
            Entry::Hook(failover) => {
                let from = failover.from.as_ref().map(|from| from.host.to_string());
                let word = task
                    .evidence
                    .as_ref()
                    .and_then(|evidence| evidence.word.as_ref());
                let to = match word {
                    Some(Word::Says(site)) => site.endpoint.host.to_string(),
                    _ => failover.to.host.to_string(),
                };
                (from.unwrap_or_default(), to)
            }
            Entry::Operator(_) | Entry::Sync => (String::new(), String::new()),
        };
        [
            ("VIPSWITCH_MASTER", target.name.to_owned()),
            ("VIPSWITCH_VIP", target.vip.address.to_string()),
            ("VIPSWITCH_PREFIX", target.vip.prefix.to_string()),
            ("VIPSWITCH_INTERFACE", interface),
            ("VIPSWITCH_FROM", from),
            ("VIPSWITCH_TO", to),
        ]
    }
}

/// Returns which command a VIP needs now, whether it is one for a VIP that is here, and where the VIP is or
/// was.
fn command<'a>(
    task: &Task<'_>,
    target: &Target<'a>,
    outcome: &Outcome,
    owes_release: bool,
) -> Option<(&'a SiteCommand, bool, String)> {
    let master = target.master;
    let (command, here, interface) = match outcome.did()? {
        // `sync` runs every half minute; the command ran when the VIP was bound.
        Did::TookOver { .. } if task.is_routine && !outcome.so_far.is_news() => return None,
        Did::TookOver { interface, .. } => (&master.on_take_over, true, interface.clone()),
        Did::Released(released) => (&master.on_release, false, released.interfaces.join(" ")),
        Did::Nothing(_) if owes_release => (&master.on_release, false, String::new()),
        Did::Nothing(_) | Did::Announced { .. } => return None,
    };
    Some((command.as_ref()?, here, interface))
}
