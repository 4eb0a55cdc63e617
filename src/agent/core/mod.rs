//! The agent's state and what follows from each event: pure. It holds no clock: every event comes with the time
//! since the agent's start, and what is to happen later is an action or [`Core::wake`]. What belongs where is the
//! [`verdict`](crate::verdict)'s to say; this says when it is asked, and when it is carried out.

mod configured;
mod cut_off;
mod death;
mod former;
mod hand_over;
mod lifts;
mod master;
mod promotion;
mod terms;
mod timeline;
mod timetable;
mod unproven;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use crate::evidence::{Evidence, Order};
use crate::failover::Endpoint;

pub use death::APART;
pub use master::{Master, Stands, words};
pub use terms::{Action, Event, Facts, LastFailover, Own, Settings, Settled};
pub use timeline::Timeline;
use timetable::Timetable;

/// Since the agent's start.
pub type Time = Duration;

/// How often the Sentinels are asked while all is quiet.
const QUIET: Duration = Duration::from_secs(1);

/// How often they are asked while something goes on.
const RESTLESS: Duration = Duration::from_millis(100);

/// The pause between two rounds, whatever happens.
const BETWEEN: Duration = Duration::from_millis(20);

/// How late a timer may be until what was seen before counts for nothing: the agent, or the whole machine, was
/// stopped meanwhile.
const LATE: Duration = Duration::from_secs(1);

/// Why nothing is known then.
const STOPPED: &str = "this agent was stopped for a while, and has not asked since";

/// Why nothing is known of VIPs that are new.
const NOT_COMPARED: &str =
    "the Sentinels were not asked yet whether a server has the address of a VIP";

/// Which masters an event may have changed something for.
enum Touched {
    All,
    /// These, and those that something is due for.
    Some(Vec<String>),
}

/// A round of questions that goes on.
#[derive(Clone, Copy, Debug)]
enum Round {
    All,
    Some,
}

/// The whole state.
#[derive(Debug)]
pub struct Core {
    masters: BTreeMap<String, Master>,
    /// The masters that have each VIP.
    by_vip: BTreeMap<IpAddr, Vec<String>>,
    timetable: Timetable,
    polling: Option<Round>,
    /// Whether all masters are to be asked about at once.
    poll_again: bool,
    /// The masters that are to be asked about at once.
    wanted: BTreeSet<String>,
    /// When all are asked about next.
    poll_due: Time,
    /// When those are of which something goes on.
    restless_due: Time,
    /// When the next round may begin, whatever happens: events come without end where somebody forges them.
    may_poll: Time,
    /// When the next timer was to end.
    expected: Option<Time>,
    /// Whether the round of questions that goes on began before this agent was stopped: its answers may be as old.
    is_round_old: bool,
}

impl Core {
    /// Returns the state of an agent that knows nothing yet.
    pub fn new(masters: impl Iterator<Item = Settings>) -> Core {
        let mut core = Core {
            masters: BTreeMap::new(),
            by_vip: BTreeMap::new(),
            timetable: Timetable::default(),
            polling: None,
            poll_again: false,
            wanted: BTreeSet::new(),
            poll_due: Time::ZERO,
            restless_due: Time::ZERO,
            may_poll: Time::ZERO,
            expected: None,
            is_round_old: false,
        };
        core.configure(masters.collect());
        core
    }

    /// Takes an event, and returns what is to be done.
    pub fn on(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        let was_late = self.is_late(now);
        if was_late {
            self.each(|master| master.was_late(now));
            // Nothing that was known before is acted on.
            self.poll_again = true;
            self.is_round_old = self.polling.is_some();
        }
        let mut touched: BTreeSet<String> = match self.take(event, now, &mut actions) {
            Touched::Some(names) if !was_late => names.into_iter().collect(),
            Touched::All | Touched::Some(_) => self.masters.keys().cloned().collect(),
        };
        touched.extend(self.timetable.due(now).cloned());
        for name in touched {
            if let Some(master) = self.masters.get_mut(&name) {
                master.review(now, &mut actions);
                self.timetable.note(&name, master.due, master.is_restless);
            }
        }
        self.poll_if_due(now, &mut actions);
        self.expected = Some(self.wake(now));
        actions
    }

    /// Has the Sentinels asked: about all masters every second, and about those of which something goes on more often.
    fn poll_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.polling.is_some() || now < self.may_poll {
            return;
        }
        if self.poll_again || now >= self.poll_due {
            (self.polling, self.poll_again) = (Some(Round::All), false);
            self.wanted.clear();
            actions.push(Action::Poll);
            return;
        }
        let mut names = mem::take(&mut self.wanted);
        if now >= self.restless_due {
            names.extend(self.timetable.restless().iter().cloned());
        }
        if !names.is_empty() {
            self.polling = Some(Round::Some);
            actions.push(Action::PollSome(names.into_iter().collect()));
        }
    }

    fn take(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) -> Touched {
        match event {
            Event::PollEnded => {
                if let Some(Round::All) = self.polling.take() {
                    self.poll_due = now + QUIET;
                }
                self.restless_due = now + RESTLESS;
                self.may_poll = now + BETWEEN;
                self.is_round_old = false;
                self.each(Master::round_ended);
                return Touched::Some(Vec::new());
            }
            Event::Changed => {
                self.poll_again = true;
                return Touched::Some(Vec::new());
            }
            Event::Woke => return Touched::Some(Vec::new()),
            Event::AddressGone(vip) => return self.of_vip(vip, |master| master.lost(vip)),
            Event::AddressNew(vip) if self.by_vip.contains_key(&vip) => {
                return self.of_vip(vip, |master| master.gained(vip));
            }
            Event::AddressNew(address) => {
                // An address of this host's own may be what an attempt lacked, or a server's.
                self.poll_again = true;
                self.each(|master| master.gained_own(address, now));
            }
            Event::Lost => {
                self.poll_again = true;
                self.each(|master| master.missed(now));
            }
            Event::Look(names) => {
                for name in &names {
                    self.of(name, Master::look);
                }
                let known = names.iter().filter(|name| self.masters.contains_key(*name));
                self.wanted.extend(known.cloned());
                return Touched::Some(names);
            }
            Event::LinkChanged => self.each(|master| master.may_work_now(now)),
            event => return self.take_of_one(event, now, actions),
        }
        Touched::All
    }

    /// Takes an event that is about one master.
    fn take_of_one(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) -> Touched {
        let polling = self.polling.is_some();
        let (name, is_to_be_asked) = match event {
            Event::ChangedOf(name) => (name, true),
            Event::Promotes(name, to, by) => {
                self.of(&name, |master| master.promotes(to, by, now, actions));
                (name, true)
            }
            Event::Aborted(name, by) => {
                self.of(&name, |master| master.aborted(&by, now, actions));
                (name, true)
            }
            Event::OwnRedis(name, at, own) => {
                let mut is_news = false;
                self.of(&name, |master| {
                    is_news = master.heard_own(at, own, now, actions)
                });
                (name, is_news)
            }
            Event::Called(name, call, until) => {
                self.of(&name, |master| master.called(*call, until, polling));
                (name, true)
            }
            Event::Forced(name, order) => {
                self.of(&name, |master| master.force(order));
                (name, false)
            }
            Event::Maintenance(name, until) => {
                self.of(&name, |master| master.maintain(until, actions));
                (name, false)
            }
            Event::Polled(name, _) | Event::NotPolled(name, _) if self.is_answer_old(&name) => {
                (name, false)
            }
            Event::Polled(name, facts) => {
                self.of(&name, |master| master.polled(*facts, now, actions));
                (name, false)
            }
            Event::NotPolled(name, fault) => {
                self.of(&name, |master| master.not_polled(fault));
                (name, false)
            }
            Event::Chosen(name, who, role, had) => {
                self.of(&name, |master| master.chosen_said(&who, role, had, now));
                (name, false)
            }
            Event::ChosenLost(name, who, why) => {
                self.of(&name, |master| {
                    master.chosen_lost((&who, &why), polling, actions)
                });
                (name, true)
            }
            Event::Paused(name, paused) => {
                self.of(&name, |master| master.paused(paused, now));
                (name, false)
            }
            Event::Unpaused(name) => {
                self.of(&name, |master| master.unpaused(now));
                (name, false)
            }
            Event::Elected(name, asked, votes) => {
                self.of(&name, |master| master.elected((asked, votes), now, actions));
                (name, true)
            }
            Event::Votes(name, votes) => {
                self.of(&name, |master| master.votes_are(votes, now));
                (name, false)
            }
            Event::Settled(name, settled) => {
                self.of(&name, |master| master.settled(*settled, now, actions));
                (name, false)
            }
            Event::PollEnded
            | Event::Changed
            | Event::Woke
            | Event::Lost
            | Event::Look(_)
            | Event::AddressGone(_)
            | Event::AddressNew(_)
            | Event::LinkChanged => return Touched::All,
        };
        if is_to_be_asked && self.masters.contains_key(&name) {
            self.wanted.insert(name.clone());
        }
        Touched::Some(vec![name])
    }

    /// Returns whether an answer about a master may be older than a stop of this agent, or than its VIPs.
    fn is_answer_old(&self, name: &str) -> bool {
        let master = self.masters.get(name);
        self.is_round_old || master.is_some_and(Master::is_answer_old)
    }

    /// Has the masters take it that have this VIP.
    fn of_vip(&mut self, vip: IpAddr, with: impl Fn(&mut Master)) -> Touched {
        let names = self.by_vip.get(&vip).cloned().unwrap_or_default();
        for name in &names {
            self.of(name, &with);
        }
        Touched::Some(names)
    }

    fn each(&mut self, mut with: impl FnMut(&mut Master)) {
        self.masters.values_mut().for_each(&mut with);
    }

    fn of(&mut self, name: &str, with: impl FnOnce(&mut Master)) {
        if let Some(master) = self.masters.get_mut(name) {
            with(master);
        }
    }

    /// Returns when [`Event::Woke`] is due, whatever else happens until then.
    pub fn wake(&self, now: Time) -> Time {
        // A round of questions that never ends must not keep the clock from being looked at.
        let is_restless = !self.timetable.restless().is_empty();
        let poll = match (self.polling, is_restless) {
            (Some(_), _) => now + QUIET,
            (None, _) if self.poll_again || !self.wanted.is_empty() => self.may_poll,
            (None, true) => self.poll_due.min(self.restless_due),
            (None, false) => self.poll_due,
        };
        self.timetable
            .next()
            .map_or(poll, |due| due.min(poll))
            .max(now)
    }

    /// Returns whether this agent was stopped, and no event has told it yet.
    pub fn is_late(&self, now: Time) -> bool {
        self.expected.is_some_and(|at| now > at + LATE)
    }

    /// Returns what is known of a master now: nothing, where this agent was stopped and no event has told it yet.
    pub fn evidence(&self, name: &str, now: Time) -> Evidence {
        let master = self.masters.get(name).filter(|_| !self.is_late(now));
        master
            .map(|master| master.evidence(now))
            .unwrap_or_default()
    }

    /// Returns why an order that is not forced has to wait: this agent was stopped, and no round of questions has told of
    /// the master since, so that an order that has waited meanwhile is as old as the stop; or its VIPs are new.
    pub fn why_to_ask(&self, name: &str, now: Time) -> Option<&'static str> {
        match self.is_late(now) {
            true => Some(STOPPED),
            false => self.masters.get(name).and_then(Master::why_to_ask),
        }
    }

    /// Returns whether this agent was stopped, and has not learned since that a master's VIPs belong here: another host
    /// may have them by now, so that nothing is said in their name.
    pub fn has_to_learn(&self, name: &str, now: Time) -> bool {
        self.is_late(now) || self.masters.get(name).is_some_and(Master::has_to_learn)
    }

    /// Goes on with an order that an earlier agent of this host was given when this failover was the newest.
    pub fn go_on_with(&mut self, name: &str, order: Order, epoch: u64) {
        self.of(name, |master| master.go_on_with(order, epoch));
    }

    /// Goes on with what an earlier agent of this host knew of the newest failover.
    pub fn go_on_after(&mut self, name: &str, last: LastFailover, now: Time) {
        self.of(name, |master| master.go_on_after(last, now));
    }

    /// Goes on with a maintenance that an earlier agent of this host was told of.
    pub fn go_on_maintaining(&mut self, name: &str, until: Time) {
        self.of(name, |master| master.maintenance = Some(until));
        self.timetable.note(name, Some(until), false);
    }

    /// Returns the masters, by name.
    pub fn masters(&self) -> impl Iterator<Item = &Master> {
        self.masters.values()
    }

    /// Returns whether this replica is promoted, and no majority has confirmed it yet.
    pub fn is_promoting(&self, name: &str, to: &Endpoint) -> bool {
        let master = self.masters.get(name);
        master.is_some_and(|master| master.promotes_to(to))
    }

    /// Returns whether a failover goes on: writes are paused, no majority has confirmed it yet, or an old master may
    /// have to lead again.
    pub fn is_busy(&self) -> bool {
        self.is_busy_beside(|_| false)
    }

    /// Returns a master.
    pub fn master(&self, name: &str) -> Option<&Master> {
        self.masters.get(name)
    }
}

#[cfg(test)]
mod tests;
