//! What Sentinel's process, and its unit, give to the hook and keep from it.

use super::{NOT_SEEN, unit_error};
use crate::check::facts::Facts;
use crate::check::facts::files::File;
use crate::check::facts::process::Process;
use crate::check::finding::{Findings, Verdict, error, unknown};
use crate::privilege::{Capability, has};

/// What a take-over needs that a unit may forbid: the address families, and the system calls that a
/// filter most likely forbids.
const FILTERS: [(&str, &str, &str); 2] = [
    (
        "address-families",
        "RestrictAddressFamilies",
        "AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET",
    ),
    (
        "seccomp",
        "SystemCallFilter",
        "socket bind connect listen accept4 sendto sendmsg recvfrom recvmsg getsockopt setsockopt \
         flock execve clone3 setsid setpgid",
    ),
];

const GIVE_BOTH: &str = "Under systemd give the Sentinel unit CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW and AmbientCapabilities= with the same; otherwise run Sentinel as root.";

pub fn judge(facts: &Facts, findings: &mut Findings) {
    if let Some(process) = &facts.process {
        capabilities(process, facts, findings);
        findings.add("user-namespace", "", user_namespace(process));
        for (check, key, needed) in FILTERS {
            findings.add(check, "", filter(process, facts, key, needed));
        }
    } else if facts.sentinel.is_ok() {
        // A Sentinel that does not run hands nothing on.
        for check in [
            "capabilities",
            "user-namespace",
            "config-readable",
            "executable",
        ] {
            findings.add(check, "", unknown(NOT_SEEN));
        }
    }
}

/// Root's programs keep what root has itself, another user's the ambient ones alone
/// (capabilities(7)). The bounding set has to allow them first.
fn capabilities(process: &Process, facts: &Facts, findings: &mut Findings) {
    if let Some(missing) = missing(process, &["CapBnd"]) {
        let text = format!("no program that Sentinel starts can have {missing}");
        return findings.add("bounding-set", "", error(text, GIVE_BOTH));
    }
    findings.add("bounding-set", "", None);
    let sets = if process.uid == 0 {
        &["CapAmb", "CapPrm"][..]
    } else {
        &["CapAmb"]
    };
    let missing = missing(process, sets);
    let text = missing.map(|missing| format!("the hook would run without {missing}"));
    let verdict = match text {
        Some(_) if may_gain(process, facts) => unknown(
            "the hook is a program of yours: whether it gives vipswitch the capabilities, as sudo can, only a failover shows",
        ),
        text => text.and_then(|text| error(text, GIVE_BOTH)),
    };
    findings.add("capabilities", "", verdict);
}

/// Whether every hook is something else than this executable, a script that calls it by sudo for example, and
/// may have more rights than Sentinel. To call it with invented arguments would not be harmless.
fn may_gain(process: &Process, facts: &Facts) -> bool {
    let is_own = |file: &File| file.identity == facts.own.identity;
    !facts.hooks.is_empty() && !facts.hooks.iter().any(is_own) && !process.has_no_new_privileges()
}

/// Returns which of the needed capabilities are in none of these sets, if any.
fn missing(process: &Process, sets: &[&str]) -> Option<String> {
    let is_in = |it: Capability| sets.iter().any(|set| has(it, set, &process.status));
    let needed = [Capability::NetAdmin, Capability::NetRaw].into_iter();
    let missing = needed.filter(|capability| !is_in(*capability));
    let missing: Vec<String> = missing.map(|capability| capability.to_string()).collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

fn user_namespace(process: &Process) -> Verdict {
    match process.is_in_our_user_namespace {
        Some(true) => None,
        Some(false) => unit_error(
            "Sentinel has a user namespace of its own, in which no capability counts on this host's network",
            "PrivateUsers=no",
        ),
        None => unknown(NOT_SEEN),
    }
}

/// /proc tells whether there is a filter, and the unit what it forbids.
fn filter(process: &Process, facts: &Facts, key: &str, needed: &str) -> Verdict {
    if !process.is_filtered() {
        return None;
    }
    let unit = process.unit.as_deref();
    let Some(unit) = unit.and_then(|id| facts.units.as_ref()?.loaded(id)) else {
        return unknown(
            "Sentinel has a system call filter, and systemd does not tell what it forbids",
        );
    };
    let forbidden = unit.forbidden(key, needed);
    if forbidden.is_empty() {
        return None;
    }
    let text = format!("{key}= of Sentinel's unit forbids {forbidden}");
    unit_error(text, &format!("{key}={forbidden}"))
}
