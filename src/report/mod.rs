//! What a run did, in words: one line per VIP for an operator, one JSON object per VIP for a
//! machine, and in `line` one for the log.

mod line;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::deeds::release::Released;
use crate::exit::Fault;
use crate::kernel::Reset;
use crate::vip::{Chosen, Vip};

pub use line::{Phases, fault_line, log_line};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its master's name.
    pub master: String,
    /// The VIP as configured.
    pub vip: Vip,
    /// What was done about it, or why it could not be.
    pub result: Result<Did, Fault>,
    /// Why the site's own command failed, and whether it is required.
    pub command_failed: Option<(Fault, bool)>,
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
    fn name(&self) -> &'static str {
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

    fn interfaces(&self) -> Vec<&str> {
        match self {
            Did::TookOver { interface, .. } => vec![interface],
            Did::Announced { interfaces, .. } | Did::Released(Released { interfaces, .. }) => {
                interfaces.iter().map(String::as_str).collect()
            }
            Did::Nothing(_) => Vec::new(),
        }
    }

    fn frames(&self) -> usize {
        match self {
            Did::TookOver { sent, .. } => sent.frames(),
            Did::Announced { sent, .. } => sent.iter().map(|sent| sent.frames()).sum(),
            Did::Released(_) | Did::Nothing(_) => 0,
        }
    }

    fn connections_reset(&self) -> Option<usize> {
        match self {
            Did::Released(Released { reset, .. })
                if reset.number > 0 || reset.why_not_all.is_none() =>
            {
                Some(reset.number)
            }
            _ => None,
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Did::Released(Released { reset, .. }) if reset.why_not_all.is_some() => {
                Some(resets(reset))
            }
            Did::TookOver { chosen, .. } => Some(chosen.to_string()),
            Did::Nothing(why) => Some((*why).to_owned()),
            Did::Announced { .. } | Did::Released(_) => None,
        }
    }
}

impl Outcome {
    /// Returns a sentence without a full stop: what was done, to what, where.
    pub fn sentence(&self, dry_run: bool) -> String {
        let vip = &self.vip;
        match &self.result {
            Err(fault) => format!("failed on {vip}: {fault}"),
            Ok(did) if dry_run => would(did, vip),
            Ok(Did::TookOver {
                interface,
                already: Some(prefix),
                sent,
                moved_from,
                ..
            }) => {
                let there = Vip {
                    prefix: *prefix,
                    ..*vip
                };
                format!(
                    "{there} was already on {interface}, announced it again ({sent}){}",
                    moved(moved_from)
                )
            }
            Ok(Did::TookOver {
                interface,
                chosen,
                sent,
                moved_from,
                ..
            }) => {
                format!(
                    "took {vip} over on {interface}: {chosen} ({sent}){}",
                    moved(moved_from)
                )
            }
            Ok(Did::Announced { interfaces, sent }) => {
                let each = interfaces
                    .iter()
                    .zip(sent)
                    .map(|(on, sent)| format!("on {on} ({sent})"));
                format!("announced {vip} {}", each.collect::<Vec<_>>().join(", "))
            }
            Ok(Did::Released(Released { interfaces, reset })) => {
                format!(
                    "released {vip} from {} ({})",
                    interfaces.join(", "),
                    resets(reset)
                )
            }
            Ok(Did::Nothing(why)) => format!("left {vip} as it is: {why}"),
        }
    }

    /// Returns the JSON object for one VIP, as the README documents it.
    pub fn json(&self, dry_run: bool, took: Duration) -> String {
        let did = self.result.as_ref().ok();
        to_json(&Json {
            master: &self.master,
            vip: self.vip.address.to_string(),
            prefix: self.vip.prefix,
            action: did.map_or("failed", Did::name),
            interfaces: did.map(Did::interfaces).unwrap_or_default(),
            why: did.and_then(Did::why),
            frames: did.map_or(0, Did::frames),
            connections_reset: did.and_then(Did::connections_reset),
            error: self.result.as_ref().err().map(ToString::to_string),
            site_command_error: self
                .command_failed
                .as_ref()
                .map(|(fault, _)| fault.to_string()),
            dry_run,
            took_ms: milliseconds(took),
        })
    }
}

#[derive(Serialize)]
struct Json<'a> {
    master: &'a str,
    vip: String,
    prefix: u8,
    action: &'a str,
    interfaces: Vec<&'a str>,
    why: Option<String>,
    frames: usize,
    connections_reset: Option<usize>,
    error: Option<String>,
    site_command_error: Option<String>,
    dry_run: bool,
    took_ms: f64,
}

/// Returns `value` as one line of JSON.
pub fn to_json(value: &impl Serialize) -> String {
    // Only a map with keys that are no strings, or a failing Serialize, could make an error.
    serde_json::to_string(value).unwrap_or_default()
}

fn would(did: &Did, vip: &Vip) -> String {
    match did {
        Did::TookOver {
            interface,
            already: Some(prefix),
            moved_from,
            ..
        } => {
            let there = Vip {
                prefix: *prefix,
                ..*vip
            };
            format!(
                "{there} is already on {interface}, would announce it again{}",
                would_move(moved_from)
            )
        }
        Did::TookOver {
            interface,
            chosen,
            moved_from,
            ..
        } => {
            format!(
                "would take {vip} over on {interface}: {chosen}{}",
                would_move(moved_from)
            )
        }
        Did::Announced { interfaces, .. } => {
            format!("would announce {vip} on {}", interfaces.join(", "))
        }
        Did::Released(Released { interfaces, .. }) => {
            format!("would release {vip} from {}", interfaces.join(", "))
        }
        Did::Nothing(why) => format!("would leave {vip} as it is: {why}"),
    }
}

fn would_move(from: &[String]) -> String {
    if from.is_empty() {
        String::new()
    } else {
        format!(", and remove it from {}", from.join(", "))
    }
}

fn resets(reset: &Reset) -> String {
    let counted = match reset.number {
        1 => "1 connection reset".to_owned(),
        number => format!("{number} connections reset"),
    };
    match &reset.why_not_all {
        None => counted,
        Some(why) if reset.number == 0 => format!("its connections could not be reset: {why}"),
        Some(why) => format!("{counted}, others not: {why}"),
    }
}

fn moved(from: &[String]) -> String {
    if from.is_empty() {
        String::new()
    } else {
        format!(", and removed it from {}", from.join(", "))
    }
}

/// Returns a duration in milliseconds, to the microsecond.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
