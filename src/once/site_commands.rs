//! The site's own commands of a run: each VIP's as soon as this VIP is settled. No VIP waits for a command,
//! and no slot of Sentinel's: the hook leaves behind what takes longer than a moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::{Entry, Shared};
use crate::config::{SiteCommand, Target};
use crate::engine::Task;
use crate::evidence::Word;
use crate::exit::Fault;
use crate::gather::Poll;
use crate::kernel::{Netlink, Snapshot};
use crate::outcome::{Did, Outcome};
use crate::site_command::job::Job;
use crate::site_command::memory;
use crate::site_command::owed::{Asked, Circumstances, Now, Told, is_owed};
use crate::verdict::Verdict;

/// When `sync` or an operator's command no longer waits for the site's own, since the start:
/// vipswitch-sync.service may take 55 s.
const COMMANDS_UNTIL: Duration = Duration::from_secs(50);

/// How long the hook waits for `required` commands once all VIPs are settled. Sentinel runs 16 hooks at the
/// same time: the VIPs of 60 masters must not wait for the commands of the first 16. A command that takes
/// longer goes on, and Sentinel's next try, or `sync`, finds out what came of it.
const MOMENT: Duration = Duration::from_secs(1);

/// A command that is to run.
struct Due {
    place: usize,
    required: bool,
    job: Job,
}

/// Where a task puts the commands that are to run, each VIP's once.
pub(super) struct Queue {
    to: UnboundedSender<Due>,
    looked_at: BTreeSet<usize>,
}

/// How commands ended, by the VIP's place in the task.
type Results = RefCell<BTreeMap<usize, Command>>;

/// A command that was begun, or waits for its turn.
struct Command {
    required: bool,
    has_ended: bool,
    result: Result<(), Fault>,
}

impl Shared<'_> {
    /// Settles a task, runs the commands of each VIP as soon as this one is settled, and fills in what came of
    /// all.
    pub(super) async fn settle_and_tell(
        &self,
        task: &mut Task<'_>,
        poll: Option<Result<Poll, Fault>>,
        waiting: &impl AsyncFn(&Fault),
    ) {
        let results = Results::default();
        let (to, queue) = unbounded_channel();
        let commands = Queue {
            to,
            looked_at: BTreeSet::new(),
        };
        {
            let all = pin!(self.run_commands(queue, &results));
            let settle = pin!(self.retry(task, poll, waiting, commands));
            match select(settle, all).await {
                // What has not ended by then is left behind.
                Either::Left(((), all)) => drop(timeout(self.patience(&results), all).await),
                Either::Right(((), settle)) => settle.await,
            }
        }
        let results = results.into_inner();
        if !results.is_empty() && results.values().all(|command| command.has_ended) {
            task.phases.commands = Some(self.started.elapsed());
        }
        let is_hook = matches!(self.entry, Entry::Hook(_));
        for (place, command) in results {
            // The hook did not wait for it, which is no news.
            if command.has_ended || command.required || !is_hook {
                let failed = command.result.err();
                task.outcomes[place].command_failed = failed.map(|fault| (fault, command.required));
            }
        }
    }

    /// Returns how long commands are waited for once all VIPs are settled.
    fn patience(&self, results: &Results) -> Duration {
        let is_hook = matches!(self.entry, Entry::Hook(_));
        let is_required = results.borrow().values().any(|command| command.required);
        match is_hook {
            true if is_required => MOMENT,
            true => Duration::ZERO,
            false => COMMANDS_UNTIL.saturating_sub(self.started.elapsed()),
        }
    }

    async fn run_commands(&self, mut queue: UnboundedReceiver<Due>, results: &Results) {
        let each = stream::poll_fn(|context| queue.poll_recv(context));
        each.for_each_concurrent(None, async |due| {
            let program = due.job.program();
            let text = format!(
                "the command {program} has not ended yet: it goes on, and until it has succeeded it is run again by `vipswitch sync`"
            );
            let mut command = Command {
                required: due.required,
                has_ended: false,
                result: Err(Fault::passing(text)),
            };
            results.borrow_mut().insert(due.place, command);
            let result = self.run_one(&due).await;
            command = Command {
                required: due.required,
                has_ended: true,
                result,
            };
            results.borrow_mut().insert(due.place, command);
        })
        .await;
    }

    async fn run_one(&self, due: &Due) -> Result<(), Fault> {
        // A hook is about one master, and ends before a turn could come.
        let _turn = match self.entry {
            Entry::Hook(_) => None,
            // It is never closed, so that this does not fail.
            _ => self.commands.acquire().await.ok(),
        };
        due.job.start()?.await
    }

    /// Queues what the configuration wants run for the VIPs that have been settled since the last time.
    pub(super) async fn queue_commands(&self, task: &Task<'_>, commands: &mut Queue) {
        if self.dry_run {
            return;
        }
        for (place, (target, outcome)) in task.targets.iter().zip(&task.outcomes).enumerate() {
            let Some(did) = outcome.did() else { continue };
            if !commands.looked_at.insert(place) {
                continue;
            }
            if let Some((command, job)) = self.owed(task, target, outcome, did).await {
                let required = command.required;
                // The other end is there as long as the task is worked at.
                let _ = commands.to.send(Due {
                    place,
                    required,
                    job,
                });
            }
        }
        // So that they are begun before a pause, or the end.
        yield_now().await;
    }

    /// Returns the command that a VIP needs now, if any.
    async fn owed<'b>(
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
        let mut job = Job::new(target, command, here, circumstances);
        job.again = asked == Asked::ByOrder;
        Some((command, job))
    }

    fn asked(&self) -> Asked {
        match self.entry {
            Entry::Hook(_) => Asked::ByCall,
            Entry::Operator(_) => Asked::ByOrder,
            Entry::Sync => Asked::ByRoutine,
        }
    }

    /// Returns whether Sentinel's call says that the master was on this host and is not any more.
    async fn has_left_this_host(&self, task: &Task<'_>) -> bool {
        if !matches!(self.entry, Entry::Hook(_)) {
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
        let told = told.filter(|told| told.here == here && !told.done);
        let first = told.map(|told| told.circumstances.clone());
        let mut circumstances = first.unwrap_or_default();
        if !interface.is_empty() {
            circumstances.interface = interface;
        }
        if let Entry::Hook(failover) = self.entry {
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
