//! What a run did, in words: one line per VIP for an operator, one JSON object per VIP for a
//! machine, and in `line` one for the log; in `finding` what `check` has found.

pub mod finding;
mod line;

use std::time::Duration;

use serde::Serialize;

use crate::outcome::{Did, Outcome, Released, Reset, State};
use crate::vip::Vip;

pub use line::{fault_line, log_line, pair, quote};

impl Did {
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
        let did = match &self.state {
            State::Pending(fault) | State::Failed(fault) => {
                return format!("failed on {vip}: {fault}");
            }
            State::Done(did) if dry_run => return would(did, vip),
            State::Done(did) => did,
        };
        match did {
            Did::TookOver {
                interface,
                already: Some(prefix),
                sent,
                moved_from,
                mended,
                ..
            } => {
                let mended: String = mended.iter().map(|how| format!(", {how}")).collect();
                format!(
                    "{vip} was already on {interface}{}{mended}, announced it again ({sent}){}",
                    bound_as(*prefix, vip),
                    moved(moved_from)
                )
            }
            Did::TookOver {
                interface,
                chosen,
                sent,
                moved_from,
                ..
            } => {
                format!(
                    "took {vip} over on {interface}: {chosen} ({sent}){}",
                    moved(moved_from)
                )
            }
            Did::Announced { interfaces, sent } => {
                let each = interfaces
                    .iter()
                    .zip(sent)
                    .map(|(on, sent)| format!("on {on} ({sent})"));
                format!("announced {vip} {}", each.collect::<Vec<_>>().join(", "))
            }
            Did::Released(Released {
                interfaces,
                reset,
                routes,
                ..
            }) => {
                let routes: String = routes.iter().map(|route| format!("; {route}")).collect();
                format!(
                    "released {vip} from {} ({}){routes}",
                    interfaces.join(", "),
                    resets(reset)
                )
            }
            Did::Nothing(why) => format!("left {vip} as it is: {why}"),
        }
    }

    /// Returns the JSON object for one VIP, as docs/json.md documents it.
    pub fn json(&self, dry_run: bool, took: Duration) -> String {
        let did = self.did();
        to_json(&Json {
            master: &self.master,
            vip: self.vip.address.to_string(),
            prefix: self.vip.prefix,
            action: did.map_or("failed", Did::name),
            interfaces: did.map(Did::interfaces).unwrap_or_default(),
            why: did.and_then(Did::why),
            frames: did.map_or(0, Did::frames),
            connections_reset: did.and_then(Did::connections_reset),
            error: self.fault().map(ToString::to_string),
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
            mended,
            ..
        } => {
            let mended: String = mended
                .iter()
                .map(|how| format!(", would be {how}"))
                .collect();
            format!(
                "{vip} is already on {interface}{}{mended}, would announce it again{}",
                bound_as(*prefix, vip),
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

/// Returns how it is bound, where that is otherwise than as configured.
fn bound_as(prefix: u8, vip: &Vip) -> String {
    match prefix == vip.prefix {
        true => String::new(),
        false => format!(" as /{prefix}"),
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
