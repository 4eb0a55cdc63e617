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

use super::polls::Told;
use super::{Entry, Shared};
use crate::config::SiteCommand;
use crate::engine::Task;
use crate::exit::Fault;
use crate::site_command::job::Job;

/// When `sync` or an operator's command no longer waits for the site's own, since the start:
/// vipswitch-sync.service may take 55 s.
pub(crate) const COMMANDS_UNTIL: Duration = Duration::from_secs(50);

/// How long the hook waits for `required` commands once all VIPs are settled. Sentinel runs 16 hooks at the
/// same time: the VIPs of 60 masters must not wait for the commands of the first 16. A command that takes
/// longer goes on, and Sentinel's next try, or `sync`, finds out what came of it.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);

/// A command that is to run.
struct Due<'a> {
    place: usize,
    command: &'a SiteCommand,
    job: Job,
}

/// Where a task puts the commands that are to run, each VIP's once.
pub(super) struct Queue<'a> {
    to: UnboundedSender<Due<'a>>,
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
    pub(super) async fn settle_and_tell<'b>(
        &self,
        task: &mut Task<'b>,
        poll: Option<Told>,
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

    async fn run_commands(&self, mut queue: UnboundedReceiver<Due<'_>>, results: &Results) {
        let each = stream::poll_fn(|context| queue.poll_recv(context));
        each.for_each_concurrent(None, async |due| {
            let program = due.command.program();
            let text = format!(
                "the command {program} has not ended yet: it goes on, and until it has succeeded it is run again by `vipswitch sync`"
            );
            let required = due.command.required;
            let mut command = Command {
                required,
                has_ended: false,
                result: Err(Fault::passing(text)),
            };
            results.borrow_mut().insert(due.place, command);
            let result = self.run_one(&due).await;
            command = Command {
                required,
                has_ended: true,
                result,
            };
            results.borrow_mut().insert(due.place, command);
        })
        .await;
    }

    async fn run_one(&self, due: &Due<'_>) -> Result<(), Fault> {
        // A hook is about one master, and ends before a turn could come.
        let _turn = match self.entry {
            Entry::Hook(_) => None,
            // It is never closed, so that this does not fail.
            _ => self.commands.acquire().await.ok(),
        };
        due.job.start(due.command, &self.config.path)?.await
    }

    /// Queues what the configuration wants run for the VIPs that have been settled since the last time.
    pub(super) async fn queue_commands<'b>(&self, task: &Task<'b>, commands: &mut Queue<'b>) {
        if self.dry_run {
            return;
        }
        for (place, (target, outcome)) in task.targets.iter().zip(&task.outcomes).enumerate() {
            let Some(did) = outcome.did() else { continue };
            if !commands.looked_at.insert(place) {
                continue;
            }
            if let Some((command, job)) = self.entry.owed(task, target, outcome, did).await {
                // The other end is there as long as the task is worked at.
                let _ = commands.to.send(Due {
                    place,
                    command,
                    job,
                });
            }
        }
        // So that they are begun before a pause, or the end.
        yield_now().await;
    }
}
