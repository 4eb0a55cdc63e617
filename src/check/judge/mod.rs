//! Facts in, findings out, subject by subject. Pure: no judgement asks the world or reads another's
//! text. What only follows from another error is left out, so that one broken thing is named once.

#[cfg(test)]
mod healthy;
mod hook;
mod host;
mod network;
mod peers;
mod sandbox;
mod sentinel;
mod servers;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::facts::{Facts, Own};
use super::finding::{Findings, Verdict, error, fault, unknown, warning};
use crate::exit::Fault;

/// Why a fact that needs a privilege of this process's own is missing.
const NOT_ROOT: &str = "this process may not try it: run it as root";

/// Why a fact about Sentinel's process is missing.
const NOT_SEEN: &str = "Sentinel's process may not be looked at: run this as root";

/// Judges this process and the configuration, without which there are no further facts.
pub fn beginning(path: &Path, own: &Own, config: Option<&Fault>, findings: &mut Findings) {
    let why = "facts about Sentinel's process, and trials that need privileges, may be missing: run it as root";
    let root = if own.is_root { None } else { unknown(why) };
    findings.add("root", "", root);
    findings.add("config", path.display(), config.and_then(fault));
}

/// Judges all facts.
pub fn all(facts: &Facts, findings: &mut Findings) {
    sandbox::judge(facts, findings);
    hook::judge(facts, findings);
    sentinel::judge(facts, findings);
    servers::judge(facts, findings);
    peers::judge(facts, findings);
    network::judge(facts, findings);
    host::judge(facts, findings);
}

fn error_if(is_wrong: bool, text: &str, remedy: &str) -> Verdict {
    if is_wrong { error(text, remedy) } else { None }
}

fn warning_if(is_wrong: bool, text: &str, remedy: &str) -> Verdict {
    if is_wrong {
        warning(text, remedy)
    } else {
        None
    }
}

/// What Sentinel's unit keeps from the hook, and the line that gives it.
fn unit_error(text: impl Into<String>, line: &str) -> Verdict {
    error(text, format!("Give the Sentinel unit {line}"))
}
