//! What an attempt is about, and how far it has come.

use std::net::IpAddr;

use crate::config::Target;
use crate::deeds::announcer::Job;
use crate::deeds::tickle;
use crate::evidence::Evidence;
use crate::exit::{Exit, Fault};
use crate::outcome::{Outcome, Phases, State};
use crate::verdict::Verdict;

/// VIPs that share one verdict, and what came of them so far.
pub struct Task<'a> {
    /// The VIPs.
    pub targets: Vec<Target<'a>>,
    /// What came of each, in their order.
    pub outcomes: Vec<Outcome>,
    /// Where the master is expected before the evidence is there.
    pub expected: Expected,
    /// Neighbours that are known without asking the kernel, such as the old master's host.
    pub peers: Vec<IpAddr>,
    /// Whether it is done every half minute: then what was found well is not announced for longer.
    pub is_routine: bool,
    /// What the last attempt acted on.
    pub evidence: Option<Evidence>,
    /// What followed from it.
    pub verdict: Option<Verdict>,
    /// What was measured, since the start of the engine's owner.
    pub phases: Phases,
    /// Whether it went on although there was no lock to be had.
    pub unlocked: bool,
    /// What is to be announced further.
    pub jobs: Vec<Job>,
    /// Which VIPs have left connections behind.
    pub left_behind: Vec<tickle::Job>,
    /// Which VIPs may have clients on this host that are connected to the last holder.
    pub stranded: Vec<IpAddr>,
    /// Why further announcements could not be arranged.
    pub unannounced: Option<Fault>,
}

impl<'a> Task<'a> {
    /// Returns a task for which nothing was done yet.
    pub fn new(targets: Vec<Target<'a>>, expected: Expected) -> Task<'a> {
        let outcomes = targets
            .iter()
            .map(|target| Outcome::new(target.name, target.vip));
        Task {
            outcomes: outcomes.collect(),
            targets,
            expected,
            peers: Vec::new(),
            is_routine: false,
            evidence: None,
            verdict: None,
            phases: Phases::default(),
            unlocked: false,
            jobs: Vec::new(),
            left_behind: Vec::new(),
            stranded: Vec::new(),
            unannounced: None,
        }
    }

    /// Returns the first VIP that is still to be tried, if any is.
    pub fn pending(&self) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.is_pending())
    }

    /// Gives every VIP that is still to be tried this fault.
    pub fn fail_pending(&mut self, fault: &Fault) {
        for outcome in self
            .outcomes
            .iter_mut()
            .filter(|outcome| outcome.is_pending())
        {
            outcome.state = State::from(fault.clone());
        }
    }

    /// Returns how it ended, as far as it has come.
    pub fn exit(&self) -> Exit {
        let faults = self
            .outcomes
            .iter()
            .map(|outcome| outcome.fault().map(|fault| fault.kind));
        let commands = self
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.command_failed.as_ref());
        let required = commands.filter(|(_, required)| *required);
        Exit::of_all(faults.chain(required.map(|(fault, _)| Some(fault.kind))))
    }

    /// Returns the places in the lists of what is still to be tried.
    pub(super) fn places(&self) -> Vec<usize> {
        (0..self.targets.len())
            .filter(|place| self.outcomes[*place].is_pending())
            .collect()
    }
}

/// Where a master is expected: only there a take-over is prepared before the evidence is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody knows.
    Unknown,
    /// On this host.
    Here,
    /// On the host that has this address.
    At(IpAddr),
}
