//! What was done, as data: the report puts it into words.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::exit::{Fault, Kind};
use crate::vip::{Chosen, Vip};

/// What was sent to announce a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many frames.
    Frames(usize),
    /// Nothing that anyone could receive: the interface has no carrier.
    NoCarrier,
    /// Nothing: the interface has no neighbours (loopback, point-to-point).
    NoNeighbours,
}

impl Sent {
    /// Returns how many frames went out.
    pub fn frames(self) -> usize {
        match self {
            Sent::Frames(number) => number,
            Sent::NoCarrier | Sent::NoNeighbours => 0,
        }
    }
}

impl Sent {
    /// Returns this with further frames.
    pub fn and(self, further: usize) -> Sent {
        match self {
            Sent::Frames(number) => Sent::Frames(number + further),
            silent => silent,
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sent::Frames(1) => f.write_str("1 frame"),
            Sent::Frames(number) => write!(f, "{number} frames"),
            Sent::NoCarrier => f.write_str("nobody was told: this interface has no carrier"),
            Sent::NoNeighbours => f.write_str("nobody was told: this interface has no neighbours"),
        }
    }
}

/// What came of one VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its master's name.
    pub master: String,
    /// The VIP as configured.
    pub vip: Vip,
    /// How far it has come.
    pub state: State,
    /// What all attempts together have changed: an attempt that finishes what an earlier one began must
    /// not say that it found it so.
    pub so_far: Changes,
    /// Why the site's own command failed, and whether it is required.
    pub command_failed: Option<(Fault, bool)>,
}

/// What is mended about a VIP that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mended {
    /// It was to expire, or could be chosen as a source.
    Lifetime,
    /// It had a subnet of this prefix length and could become the source address of that.
    Subnet(u8),
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mended::Lifetime => f.write_str("with no lifetime now"),
            Mended::Subnet(prefix) => {
                write!(f, "no longer as /{prefix}, so that it is no source address")
            }
        }
    }
}

/// How far a VIP has come.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Still to be tried, and why it is not done.
    Pending(Fault),
    /// Not to be done as it stands, and why.
    Failed(Fault),
    /// Done.
    Done(Did),
}

impl From<Fault> for State {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Passing => State::Pending(fault),
            Kind::Permanent => State::Failed(fault),
        }
    }
}

/// What has changed for one VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether it was bound.
    pub added: bool,
    /// The interfaces that it was removed from, as it did not belong there.
    pub moved_from: Vec<String>,
    /// What was mended where it was.
    pub mended: BTreeSet<Mended>,
    /// Whether its release was begun.
    pub released_here: bool,
    /// What its release has done.
    pub released: Released,
}

impl Changes {
    /// Returns whether the VIP was not here before, or in another place.
    pub fn is_news(&self) -> bool {
        self.added || !self.moved_from.is_empty()
    }
}

impl Outcome {
    /// Returns the outcome of a VIP that nothing was tried for yet.
    pub fn new(master: &str, vip: Vip) -> Outcome {
        Outcome {
            master: master.to_owned(),
            vip,
            state: State::Pending(Fault::passing("not tried yet")),
            so_far: Changes::default(),
            command_failed: None,
        }
    }

    /// Returns whether there is still something to try.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending(_))
    }

    /// Returns why it is not done, if it is not.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.state {
            State::Pending(fault) | State::Failed(fault) => Some(fault),
            State::Done(_) => None,
        }
    }

    /// Returns what was done, if it is.
    pub fn did(&self) -> Option<&Did> {
        match &self.state {
            State::Done(did) => Some(did),
            State::Pending(_) | State::Failed(_) => None,
        }
    }

    /// Returns whether it was found as it should be, and left so.
    pub fn found_well(&self) -> bool {
        self.did().is_some()
            && self.command_failed.is_none()
            && !self.so_far.is_news()
            && self.so_far.mended.is_empty()
            && !self.so_far.released_here
    }
}

/// What was done about a VIP; under `--dry-run` what would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Bound and announced.
    TookOver {
        /// The interface that has it now.
        interface: String,
        /// Why that one.
        chosen: Chosen,
        /// The prefix length, if it was there before and was only announced again.
        already: Option<u8>,
        /// Interfaces that it was removed from.
        moved_from: Vec<String>,
        /// What was mended where it was.
        mended: BTreeSet<Mended>,
        /// What was sent.
        sent: Sent,
    },
    /// Announced where it was.
    Announced {
        /// The interfaces that have it.
        interfaces: Vec<String>,
        /// What was sent, on each.
        sent: Vec<Sent>,
    },
    /// Its connections reset, and removed.
    Released(Released),
    /// Left as it is, and why.
    Nothing(&'static str),
}

impl Did {
    /// Returns the stable name of the action, for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Did::TookOver {
                already: Some(_), ..
            } => "already_here",
            Did::TookOver { .. } => "took_over",
            Did::Announced { .. } => "announced",
            Did::Released(_) => "released",
            Did::Nothing(_) => "nothing",
        }
    }

    /// Returns the interfaces that it was done on.
    pub fn interfaces(&self) -> Vec<&str> {
        match self {
            Did::TookOver { interface, .. } => vec![interface],
            Did::Announced { interfaces, .. } | Did::Released(Released { interfaces, .. }) => {
                interfaces.iter().map(String::as_str).collect()
            }
            Did::Nothing(_) => Vec::new(),
        }
    }

    /// Returns how many frames went out.
    pub fn frames(&self) -> usize {
        match self {
            Did::TookOver { sent, .. } => sent.frames(),
            Did::Announced { sent, .. } => sent.iter().map(|sent| sent.frames()).sum(),
            Did::Released(_) | Did::Nothing(_) => 0,
        }
    }

    /// Returns how many connections were reset, if any could be.
    pub fn connections_reset(&self) -> Option<usize> {
        match self {
            Did::Released(Released { reset, .. })
                if reset.number > 0 || reset.why_not_all.is_none() =>
            {
                Some(reset.number)
            }
            _ => None,
        }
    }
}

/// What a release has changed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The interfaces that the VIP was removed from.
    pub interfaces: Vec<String>,
    /// What came of resetting its connections.
    pub reset: Reset,
    /// Routes that had it as their source, and what came of each.
    pub routes: Vec<String>,
    /// Whether connections may have come in between the reset and the removal, whose clients are to be told.
    pub left_behind: bool,
}

/// What came of resetting the connections of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// So many were reset.
    pub number: usize,
    /// Why others, or all, could not be reset. The address goes all the same.
    pub why_not_all: Option<String>,
}

impl Reset {
    /// Returns both together: what was counted, and the first reason.
    pub fn and(self, other: Reset) -> Reset {
        Reset {
            number: self.number + other.number,
            why_not_all: self.why_not_all.or(other.why_not_all),
        }
    }
}

/// How long each phase of a run took. Times are since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The configuration was read.
    pub loaded: Duration,
    /// The first VIP was bound.
    pub bound: Option<Duration>,
    /// The first VIP's frames were out.
    pub announced: Option<Duration>,
    /// All was done and verified.
    pub done: Duration,
    /// The last of the site's own commands had ended, if there was one.
    pub commands: Option<Duration>,
    /// How often it was tried.
    pub tries: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_is_kept_beside_what_was_counted() {
        let reset = |number, why: Option<&str>| Reset {
            number,
            why_not_all: why.map(str::to_owned),
        };
        let both = reset(2, None)
            .and(reset(3, Some("a")))
            .and(reset(1, Some("b")));
        assert_eq!(both, reset(6, Some("a")));
    }
}
