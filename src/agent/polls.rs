//! A round of questions to all Sentinels about all masters, as `sync` asks them, on connections that stay open.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use super::core::{Event, Facts};
use super::following::{Watched, follow_all};
use super::world::World;
use crate::exit::{Fault, Kind};
use crate::gather::remembered::Memory;
use crate::gather::{self, Patience, Poll};
use crate::kernel::Snapshot;

/// For how long all are waited for after a round that was not of one mind.
const FULL: Duration = Duration::from_secs(30);

impl World {
    /// Asks about `some` masters, or all, and tells the core what each master's Sentinels say. A round about all
    /// follows whom they name, and looks whether the VIPs are in place.
    pub(super) async fn poll(self: Rc<Self>, some: Option<Vec<String>>) {
        let config = Rc::clone(&self.config);
        let names: Vec<&str> = match &some {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => config.masters.keys().map(String::as_str).collect(),
        };
        let memory = self.memory.borrow().clone();
        let asked = gather::poll(&config, &names, &memory, self.patience(), &self.lines).await;
        let polls = match asked {
            Ok(polls) => polls,
            Err(fault) => vec![Err(fault); names.len()],
        };
        let snapshot = Snapshot::new(&self.netlink);
        let each = names
            .iter()
            .zip(&polls)
            .map(|(name, poll)| self.poll_one(name, poll, (&memory, &snapshot)));
        join_all(each).await;
        if some.is_none() {
            self.after_all(&names, &polls).await;
        }
    }

    async fn after_all(self: &Rc<Self>, names: &[&str], polls: &[Result<Poll, Fault>]) {
        self.follow(polls);
        for (name, poll) in names.iter().zip(polls) {
            if let Some(known) = poll.as_ref().ok().and_then(Poll::known) {
                self.memory.borrow_mut().learn(name, known, &self.config);
            }
        }
        {
            let mut memory = self.memory.borrow_mut();
            memory.read_named();
            // `check` says where this cannot be.
            let _ = memory.write(&self.config);
        }
        self.look_for_drift().await;
    }

    /// Where the last round was of one mind nobody has to be waited for; and where a quick one was not, all are for a
    /// while, so that what is known does not come and go.
    fn patience(&self) -> Patience {
        if self.now() < self.full_until.get() {
            return Patience::Full;
        }
        let core = self.core.borrow();
        let is_clear = |facts: &Facts| {
            let ballot = facts.evidence.ballot.as_ref();
            ballot.is_some_and(|ballot| ballot.winner().is_some())
        };
        match core
            .masters()
            .all(|master| master.facts().is_some_and(is_clear))
        {
            true => Patience::Quick,
            false => {
                self.full_until.set(self.now() + FULL);
                Patience::Full
            }
        }
    }

    async fn poll_one(
        self: &Rc<Self>,
        name: &str,
        poll: &Result<Poll, Fault>,
        (memory, snapshot): (&Memory, &Snapshot<'_>),
    ) {
        let event = match self.facts(name, poll, (memory, snapshot)).await {
            Ok(facts) => {
                self.watch(name, &facts);
                if let Ok(poll) = poll {
                    let ways = poll.ways().to_vec();
                    self.ways.borrow_mut().insert(name.to_owned(), ways);
                }
                Event::Polled(name.to_owned(), Box::new(facts))
            }
            Err(fault) => Event::NotPolled(name.to_owned(), fault),
        };
        self.tell(event).await;
    }

    async fn facts(
        &self,
        name: &str,
        poll: &Result<Poll, Fault>,
        (memory, snapshot): (&Memory, &Snapshot<'_>),
    ) -> Result<Facts, Fault> {
        let poll = poll.as_ref().map_err(Clone::clone)?;
        let evidence = gather::of_poll(
            &self.config,
            name,
            poll,
            Duration::ZERO,
            memory,
            (&self.lines, snapshot),
        )
        .await?;
        let ballot = evidence.ballot.as_ref();
        Ok(Facts {
            could_elect_without: ballot.is_some_and(|ballot| ballot.could_elect_without()),
            down_after: poll.down_after(),
            failover_timeout: poll.failover_timeout(),
            has_replicas: poll.has_replicas(),
            fails_over: poll.fails_over(),
            evidence,
        })
    }

    /// Watches every Redis of this host that belongs to this master, and no other.
    fn watch(self: &Rc<Self>, name: &str, facts: &Facts) {
        let mut watched = self.watched.borrow_mut();
        let own: BTreeSet<_> = facts.evidence.own_redis.iter().map(|own| own.at).collect();
        watched.retain(|(master, at), watched| {
            master != name || own.contains(at) && !watched.is_to_be_renewed()
        });
        for at in own {
            let key = (name.to_owned(), at);
            if !watched.contains_key(&key)
                && let Some(new) =
                    Watched::begin(&self.config, self.to.clone(), &self.lines, (name, at))
            {
                watched.insert(key, new);
            }
        }
    }

    /// Follows the events of every Sentinel of these masters, and of no other: unless there is one that nobody could be
    /// asked about now.
    fn follow(&self, polls: &[Result<Poll, Fault>]) {
        let is_unknown = |poll: &Result<Poll, Fault>| {
            let fault = poll.as_ref().err();
            fault.is_some_and(|fault| fault.kind == Kind::Passing)
        };
        let are_all = polls.iter().any(Result::is_ok) && !polls.iter().any(is_unknown);
        let members = polls.iter().flatten().flat_map(Poll::members);
        let mut followed = self.followed.borrow_mut();
        follow_all(&mut followed, members, are_all, &self.to);
    }

    /// Looks whether the VIPs are where they were settled: an event of the kernel may have been lost.
    async fn look_for_drift(&self) {
        let vips: Vec<_> = self.config.vips().map(|vip| vip.address).collect();
        // What was looked up for the questions may have changed since.
        let snapshot = Snapshot::new(&self.netlink);
        let Ok(carriers) = snapshot.carriers(&vips).await else {
            return;
        };
        for (vip, carrier) in carriers {
            let event = match carrier {
                Some(_) => Event::AddressNew(vip),
                None => Event::AddressGone(vip),
            };
            self.tell(event).await;
        }
    }
}
