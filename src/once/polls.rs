//! What the Sentinels say of the masters of a `sync`: all that wait at the same time are asked about in one round. A
//! round for each, with connections of its own to every Sentinel, makes all of them late on a busy machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use tokio::sync::Mutex;

use super::Shared;
use crate::engine::Task;
use crate::exit::Fault;
use crate::gather::{self, Patience, Poll};
use crate::outcome::Outcome;
use crate::redis::Lines;

/// When a round was begun, and what it told of a master.
type Told = (Instant, Result<Poll, Fault>);

/// The rounds of later tries: one at a time.
#[derive(Default)]
pub(super) struct Rounds {
    /// The masters that wait for the next one, and how long each waits for an answer.
    waiting: RefCell<BTreeMap<String, Patience>>,
    /// What the last one told that nobody has taken yet.
    told: Mutex<BTreeMap<String, Told>>,
}

impl Shared<'_> {
    /// Asks the Sentinels about every master that is still to be tried. Not under the lock: a hook must not
    /// have to wait until a Sentinel that is out of reach is given up.
    pub(super) async fn poll(&self, tasks: &[Task<'_>]) -> Vec<Option<Result<Poll, Fault>>> {
        let names = tasks
            .iter()
            .map(|task| task.pending().map(|outcome| outcome.master.as_str()));
        let names: Vec<Option<&str>> = names.collect();
        let wanted: Vec<&str> = names.iter().flatten().copied().collect();
        let mut polls = self.ask(&wanted, Patience::Full).await.into_iter();
        names
            .iter()
            .map(|name| name.and_then(|_| polls.next()))
            .collect()
    }

    /// Asks the Sentinels about the master of a task once more, and about all others that wait for the same.
    pub(super) async fn poll_again(
        &self,
        task: &Task<'_>,
        patience: Patience,
    ) -> Result<Poll, Fault> {
        let Some(name) = task.pending().map(|outcome: &Outcome| &outcome.master) else {
            return Err(Fault::passing("nothing of it is to be done"));
        };
        let since = Instant::now();
        let Rounds { waiting, told } = &self.rounds;
        waiting.borrow_mut().insert(name.clone(), patience);
        let mut told = told.lock().await;
        let answer = told.remove(name).filter(|(began, _)| *began >= since);
        if let Some((_, poll)) = answer {
            return poll;
        }
        // The round that had taken it may have been given up in its midst, with the attempt that held it.
        waiting.borrow_mut().insert(name.clone(), patience);
        let wanted = mem::take(&mut *waiting.borrow_mut());
        let longest = wanted.values().copied().fold(patience, Patience::longest);
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        let began = Instant::now();
        let polls = self.ask(&names, longest).await;
        let polls = polls.into_iter().map(|poll| (began, poll));
        told.extend(wanted.keys().cloned().zip(polls));
        let own = told.remove(name).map(|(_, poll)| poll);
        own.unwrap_or_else(|| Err(Fault::passing("the Sentinels were not asked")))
    }

    async fn ask(&self, names: &[&str], patience: Patience) -> Vec<Result<Poll, Fault>> {
        let memory = self.memory.borrow().clone();
        let lines = Lines::default();
        let polls = gather::poll(self.config, names, &memory, patience, &lines).await;
        let polls = polls.unwrap_or_else(|fault| vec![Err(fault); names.len()]);
        let known = |poll: &Result<Poll, Fault>| poll.as_ref().ok().and_then(Poll::known);
        let found = names.iter().zip(&polls);
        let found = found.filter_map(|(name, poll)| Some((*name, known(poll)?)));
        self.memory.borrow_mut().learn(found, self.config);
        polls
    }
}
