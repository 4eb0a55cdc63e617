//! What the Sentinels say of the masters of a `sync`: all that wait at the same time are asked about in one round. A
//! round for each, with connections of its own to every Sentinel, makes all of them late on a busy machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use tokio::sync::Mutex;

use super::Shared;
use crate::dated::dated;
use crate::engine::Task;
use crate::exit::Fault;
use crate::gather::{self, Patience, Poll};
use crate::outcome::Outcome;
use crate::redis::Lines;

/// What was told of a master, and when: it may have changed since.
pub(super) type Told = (Instant, Result<Poll, Fault>);

/// The rounds of later tries: one at a time.
#[derive(Default)]
pub(super) struct Rounds {
    /// The masters that wait for the next one, and how long each waits for an answer.
    waiting: RefCell<BTreeMap<String, Patience>>,
    /// What was told that nobody has taken yet, and when that round was begun.
    told: Mutex<BTreeMap<String, (Instant, Told)>>,
}

impl Rounds {
    /// Returns what a round tells of a master that begins after this is called: one of another's who waits for the same,
    /// or one of its own, by `ask`.
    async fn tell(
        &self,
        name: &str,
        patience: Patience,
        ask: impl AsyncFnOnce(&[&str], Patience) -> Vec<Told>,
    ) -> Told {
        let since = Instant::now();
        let Rounds { waiting, told } = self;
        waiting.borrow_mut().insert(name.to_owned(), patience);
        let mut told = told.lock().await;
        let answer = told.remove(name).filter(|(began, _)| *began >= since);
        if let Some((_, answer)) = answer {
            return answer;
        }
        // The round that had taken it may have been given up in its midst, with the attempt that held it.
        waiting.borrow_mut().insert(name.to_owned(), patience);
        let wanted = mem::take(&mut *waiting.borrow_mut());
        let longest = wanted.values().copied().fold(patience, Patience::longest);
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        let began = Instant::now();
        let answers = ask(&names, longest).await;
        let answers = answers.into_iter().map(|answer| (began, answer));
        told.extend(wanted.keys().cloned().zip(answers));
        let own = told.remove(name).map(|(_, answer)| answer);
        own.unwrap_or_else(|| nothing("the Sentinels were not asked"))
    }
}

fn nothing(why: &str) -> Told {
    (Instant::now(), Err(Fault::passing(why)))
}

impl Shared<'_> {
    /// Asks the Sentinels about every master that is still to be tried. Not under the lock: a hook must not
    /// have to wait until a Sentinel that is out of reach is given up.
    pub(super) async fn poll(&self, tasks: &[Task<'_>]) -> Vec<Option<Told>> {
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
    pub(super) async fn poll_again(&self, task: &Task<'_>, patience: Patience) -> Told {
        let Some(name) = task.pending().map(|outcome: &Outcome| &outcome.master) else {
            return nothing("nothing of it is to be done");
        };
        let ask = async |names: &[&str], patience| self.ask(names, patience).await;
        self.rounds.tell(name, patience, ask).await
    }

    async fn ask(&self, names: &[&str], patience: Patience) -> Vec<Told> {
        let memory = self.memory.borrow().clone();
        let lines = Lines::default();
        let poll = gather::poll(self.config, names, &memory, patience, &lines);
        let (polls, at) = dated(poll).await;
        let polls = polls.unwrap_or_else(|fault| vec![Err(fault); names.len()]);
        let known = |poll: &Result<Poll, Fault>| poll.as_ref().ok().and_then(Poll::known);
        let found = names.iter().zip(&polls);
        let found = found.filter_map(|(name, poll)| Some((*name, known(poll)?)));
        let mut all = self.memory.borrow_mut();
        all.learn(found, self.config);
        all.note_owner(&lines.owner);
        polls.into_iter().map(|poll| (at, poll)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use futures_util::future::poll_immediate;

    use super::*;

    /// Who asks writes down for whom, and tells this; or never ends.
    struct Asking<'a> {
        asked: &'a RefCell<Vec<String>>,
        told: Option<&'static str>,
    }

    impl Asking<'_> {
        async fn ask(self, names: &[&str], _: Patience) -> Vec<Told> {
            self.asked.borrow_mut().push(names.join(" "));
            match self.told {
                Some(told) => names.iter().map(|_| nothing(told)).collect(),
                None => pending().await,
            }
        }
    }

    /// Returns what a request for a master comes to, once it is polled: by a round of its own that tells this, or hangs.
    async fn tell(
        rounds: &Rounds,
        name: &str,
        asked: &RefCell<Vec<String>>,
        told: Option<&'static str>,
    ) -> String {
        let asking = Asking { asked, told };
        let ask = async move |names: &[&str], patience| asking.ask(names, patience).await;
        let (_, told) = rounds.tell(name, Patience::Full, ask).await;
        told.unwrap_err().to_string()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_that_wait_for_the_same_are_asked_about_in_one_round() {
        let (rounds, asked) = (Rounds::default(), RefCell::default());
        let mut first = Box::pin(tell(&rounds, "x", &asked, None));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut a = pin!(tell(&rounds, "a", &asked, Some("of a")));
        let mut b = pin!(tell(&rounds, "b", &asked, Some("of b")));
        assert_eq!(poll_immediate(&mut a).await, None);
        assert_eq!(poll_immediate(&mut b).await, None);
        drop(first);
        assert_eq!(a.await, "of a");
        assert_eq!(b.await, "of a");
        assert_eq!(*asked.borrow(), ["x", "a b"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_round_that_is_given_up_in_its_midst_leaves_nobody_unasked() {
        let (rounds, asked) = (Rounds::default(), RefCell::default());
        let mut first = Box::pin(tell(&rounds, "x", &asked, None));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut a = Box::pin(tell(&rounds, "a", &asked, None));
        let mut b = pin!(tell(&rounds, "b", &asked, Some("of b")));
        assert_eq!(poll_immediate(&mut a).await, None);
        assert_eq!(poll_immediate(&mut b).await, None);
        drop(first);
        // Its round is about both, and never ends.
        assert_eq!(poll_immediate(&mut a).await, None);
        assert_eq!(poll_immediate(&mut b).await, None);
        drop(a);
        assert_eq!(b.await, "of b");
        assert_eq!(*asked.borrow(), ["x", "a b", "b"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_told_before_a_request_is_no_answer_to_it() {
        let (rounds, asked) = (Rounds::default(), RefCell::default());
        let mut first = Box::pin(tell(&rounds, "x", &asked, None));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut a = pin!(tell(&rounds, "a", &asked, Some("before")));
        let mut b = Box::pin(tell(&rounds, "b", &asked, None));
        assert_eq!(poll_immediate(&mut a).await, None);
        assert_eq!(poll_immediate(&mut b).await, None);
        drop(first);
        // That of the one is told of both, and the other's attempt was given up before it took that.
        assert_eq!(a.await, "before");
        drop(b);
        assert_eq!(tell(&rounds, "b", &asked, Some("after")).await, "after");
        assert_eq!(*asked.borrow(), ["x", "a b", "b"]);
    }
}
