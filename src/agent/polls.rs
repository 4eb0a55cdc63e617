//! A round of questions to all Sentinels about all masters, as `sync` asks them, on connections that stay open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::core::{Event, Facts, Master, Stands};
use super::following::follow_all;
use super::watched::Watched;
use super::world::World;
use crate::config::Config;
use crate::exit::{Fault, Kind};
use crate::failover::Endpoint;
use crate::few;
use crate::gather::remembered::Memory;
use crate::gather::{self, Patience, Poll};
use crate::kernel::Snapshot;
use crate::redis::Lines;
use crate::vip::Vip;

/// For how long all are waited for after a round that was not of one mind.
const FULL: Duration = Duration::from_secs(30);

/// What this host's Sentinel says once all others have answered: it may have changed its mind while they were waited
/// for. It is asked about all masters at once, as soon as the first wants to know.
struct SaidNow<'a> {
    /// The masters of which it said something, and their places among the answers.
    places: BTreeMap<&'a str, usize>,
    answers: OnceCell<Vec<Result<Option<Endpoint>, Fault>>>,
}

impl<'a> SaidNow<'a> {
    fn new(names: &[&'a str], polls: &[Result<Poll, Fault>]) -> SaidNow<'a> {
        let said = |poll: &Result<Poll, Fault>| {
            let poll = poll.as_ref().ok();
            poll.is_some_and(|poll| !poll.is_without_local())
        };
        let asked = names.iter().zip(polls).filter(|(_, poll)| said(poll));
        let asked: BTreeSet<&str> = few::set(asked.map(|(name, _)| *name));
        SaidNow {
            places: asked.into_iter().zip(0..).collect(),
            answers: OnceCell::new(),
        }
    }

    /// Returns where it says that a master is. Where it was silent a moment ago it is not waited for again.
    async fn of_master(
        &self,
        name: &str,
        (config, lines): (&Config, &Lines),
    ) -> Result<Option<Endpoint>, Fault> {
        let Some(place) = self.places.get(name) else {
            return Ok(None);
        };
        let ask = async || {
            let names: Vec<&str> = self.places.keys().copied().collect();
            gather::masters_of(config, lines, &names).await
        };
        let answers = self.answers.get_or_init(ask).await;
        let none = || Err(Fault::passing("it was not asked"));
        answers.get(*place).cloned().unwrap_or_else(none)
    }
}

impl World {
    /// Asks about `some` masters, or all, and tells the core what each master's Sentinels say. A round about all
    /// follows whom they name, and looks whether the VIPs are in place.
    pub(super) async fn poll(self: Rc<Self>, some: Option<Vec<String>>) {
        let (config, reloads) = (self.config(), self.reloads.get());
        let names: Vec<&str> = match &some {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => config.masters.keys().map(String::as_str).collect(),
        };
        let memory = Rc::clone(&self.memory.borrow());
        let asked = gather::poll(&config, &names, &memory, self.patience(), &self.lines).await;
        let mut polls = match asked {
            Ok(polls) => polls,
            Err(fault) => vec![Err(fault); names.len()],
        };
        for (name, poll) in names.iter().zip(&mut polls) {
            if let Ok(poll) = poll {
                let mut all = self.run_ids.borrow_mut();
                let known = all.entry((*name).to_owned()).or_default();
                poll.recall_run_ids(known, memory.of(name));
            }
        }
        let snapshot = Snapshot::new(&self.netlink);
        let now = SaidNow::new(&names, &polls);
        let each = names
            .iter()
            .zip(&polls)
            .map(|(name, poll)| self.poll_one((&config, name), poll, (&now, &snapshot)));
        join_all(each).await;
        if some.is_none() {
            self.follow(&polls, reloads);
            self.after_all(&names, &polls).await;
        }
    }

    async fn after_all(&self, names: &[&str], polls: &[Result<Poll, Fault>]) {
        let config = self.config();
        let found = names.iter().zip(polls);
        let found = found.filter_map(|(name, poll)| {
            let known = poll.as_ref().ok().and_then(Poll::known)?;
            Some((*name, known))
        });
        let mut memory = Memory::clone(&self.memory.borrow());
        memory.learn(found, &config);
        memory.note_owner(&self.lines.owner);
        memory.forget(&config);
        if memory != **self.memory.borrow() {
            self.memory.replace(Rc::new(memory));
        }
        self.remembering.keep(Rc::clone(&self.memory.borrow()));
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
        &self,
        (config, name): (&Config, &str),
        poll: &Result<Poll, Fault>,
        (now, snapshot): (&SaidNow<'_>, &Snapshot<'_>),
    ) {
        let told = self.facts((config, name), poll, (now, snapshot)).await;
        // It may not be the configuration's any more. Where it has other VIPs there the core waits for the next round.
        if self.core.borrow().master(name).is_none() {
            return;
        }
        let event = match told {
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
        (config, name): (&Config, &str),
        poll: &Result<Poll, Fault>,
        (now, snapshot): (&SaidNow<'_>, &Snapshot<'_>),
    ) -> Result<Facts, Fault> {
        let poll = poll.as_ref().map_err(Clone::clone)?;
        let evidence = gather::of_poll(
            config,
            name,
            poll,
            Duration::ZERO,
            now.of_master(name, (config, &self.lines)),
            (&self.lines, snapshot),
        )
        .await?;
        let ballot = evidence.ballot.as_ref();
        Ok(Facts {
            could_elect_without: ballot.is_some_and(|ballot| ballot.could_elect_without()),
            down_after: poll.down_after(),
            soonest_down: poll.soonest_down(),
            failover_timeout: poll.failover_timeout(),
            has_replicas: poll.has_replicas(),
            fails_over: poll.fails_over(),
            promoting: poll.promoting().cloned(),
            evidence,
        })
    }

    /// Watches every Redis of this host that belongs to this master, and no other.
    fn watch(&self, name: &str, facts: &Facts) {
        let (config, reloads) = (self.config(), self.reloads.get());
        let mut watched = self.watched.borrow_mut();
        let master = config.masters.get(name);
        let is_open = master.is_none_or(|master| !config.has_secrets_of(master));
        let own = facts.evidence.own_redis.iter().filter(|own| {
            let before = watched.get(&(name.to_owned(), own.at));
            if let Some(before) = before.filter(|_| own.is_vouched_for) {
                before.vouch();
            }
            // A watch sends the credentials. The Sentinel that has vouched for it may be stopped now.
            is_open || own.is_vouched_for || before.is_some_and(Watched::was_vouched_for)
        });
        let own: BTreeSet<_> = few::set(own.map(|own| own.at));
        let first = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let of_it = watched.range((name.to_owned(), first)..);
        let over: Vec<_> = of_it
            .take_while(|((master, _), _)| master == name)
            .filter(|((_, at), _)| !own.contains(at))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            watched.remove(&key);
        }
        for at in own {
            let key = (name.to_owned(), at);
            let before = watched.get(&key);
            if before.is_none_or(|before| !before.is_current(reloads)) {
                let before = watched.remove(&key);
                let to = (&self.to, &self.lines);
                let new = Watched::begin((&config, reloads), to, (name, at), before);
                watched.extend(new.map(|new| (key, new)));
            }
        }
    }

    /// Follows the events of every Sentinel of these masters, and of no other: unless there is one that nobody could be
    /// asked about now.
    fn follow(&self, polls: &[Result<Poll, Fault>], reloads: u64) {
        let is_unknown = |poll: &Result<Poll, Fault>| {
            let fault = poll.as_ref().err();
            fault.is_some_and(|fault| fault.kind == Kind::Passing)
        };
        let are_all = polls.iter().any(Result::is_ok) && !polls.iter().any(is_unknown);
        let members = polls.iter().flatten().flat_map(Poll::members);
        let mut followed = self.followed.borrow_mut();
        follow_all(&mut followed, members, (are_all, reloads), &self.to);
    }

    /// Looks whether the VIPs are where they were settled: an event of the kernel may have been lost.
    async fn look_for_drift(&self) {
        let mut here = BTreeSet::new();
        let config = self.config();
        for family in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
            let is_used = |vip: &Vip| vip.address.is_ipv4() == family.is_ipv4();
            if !config.vips().any(is_used) {
                continue;
            }
            let Ok(addresses) = self.netlink.addresses(family).await else {
                return;
            };
            here.extend(addresses.into_iter().map(|one| one.local));
        }
        let events = self.drifts(&here);
        for event in events {
            self.tell(event).await;
        }
    }

    /// Returns the VIPs that are not where they were settled: what is as it was is no event.
    fn drifts(&self, here: &BTreeSet<IpAddr>) -> Vec<Event> {
        let (config, core) = (self.config(), self.core.borrow());
        let mut events = Vec::new();
        for (name, master) in &config.masters {
            let stands = core.master(name).and_then(Master::stands);
            for vip in &master.vips {
                events.extend(match (stands, here.contains(&vip.address)) {
                    (Some(Stands::Here), false) => Some(Event::AddressGone(vip.address)),
                    (Some(Stands::Elsewhere), true) => Some(Event::AddressNew(vip.address)),
                    _ => None,
                });
            }
        }
        events
    }
}
