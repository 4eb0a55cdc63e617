//! The other Sentinels as `sync` asks them: whether they answer without the password, and whether `sync` can
//! remember them for the time when this host's Sentinel is down.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::NOT_ROOT;
use crate::check::facts::Facts;
use crate::check::facts::sentinel::{Watched, at};
use crate::check::finding::{Findings, Verdict, unknown, warning};
use crate::evidence::Site;
use crate::gather::Tried;
use crate::redis::NoAnswer;

pub fn judge(facts: &Facts, findings: &mut Findings) {
    for other in &facts.others {
        findings.add("peers", other.at, answer(other, facts));
    }
    let memory = match &facts.memory {
        Ok(()) => None,
        Err(_) if !facts.own.is_root => unknown(NOT_ROOT),
        Err(fault) => warning(
            format!(
                "{}: while this host's Sentinel is down, `sync` knows no other one to ask",
                fault.cause()
            ),
            fault.what_to_do().unwrap_or_default(),
        ),
    };
    findings.add("memory", "", memory);
}

/// One that cannot be reached is another check's matter.
fn answer(other: &Tried, facts: &Facts) -> Verdict {
    let no = other.said.as_ref().err()?;
    match (no, other.is_peer) {
        (NoAnswer::AuthMissing(_) | NoAnswer::NotAllowed(_), false) => warning(
            "this Sentinel wants a password, which `sync` sends to this host's Sentinel and to `peers` only: its vote is missing",
            peers_to_add(facts),
        ),
        (NoAnswer::Certificate(_), false) if has_certificate(facts) => warning(
            format!("{no}; `sync` shows cert_file to this host's Sentinel and to `peers` only"),
            peers_to_add(facts),
        ),
        (NoAnswer::AuthMissing(_), true) => warning(
            "this Sentinel wants a password, and the configuration has none",
            "Set password_file under [sentinel].",
        ),
        (NoAnswer::AuthRefused(_), _) => warning(
            format!("this Sentinel refuses the password of the configuration: {no}"),
            "Give every Sentinel the same user and password; one that needs none must not be in `peers` under [sentinel].",
        ),
        (NoAnswer::NotAllowed(_), true) => warning(
            format!("the user of the configuration may not ask this Sentinel: {no}"),
            "It needs +sentinel|get-master-addr-by-name +sentinel|master +sentinel|sentinels there, too.",
        ),
        _ => None,
    }
}

fn is_wanting(other: &Tried) -> bool {
    use NoAnswer::{AuthMissing, Certificate, NotAllowed};
    matches!(
        other.said,
        Err(AuthMissing(_) | NotAllowed(_) | Certificate(_))
    )
}

fn has_certificate(facts: &Facts) -> bool {
    let tls = facts.config.tls.as_ref();
    tls.is_some_and(|tls| tls.client.is_some())
}

/// Returns the line with every Sentinel that wants a password, this host's among them: the configuration is
/// the same on every server.
fn peers_to_add(facts: &Facts) -> String {
    let wanting = |site: &&Site| {
        let mut others = facts.others.iter();
        others.any(|other| is_wanting(other) && Some(other.at) == at(site))
    };
    let told = facts.sentinel.iter().flat_map(|told| &told.watched);
    let others = told.flat_map(|one| one.sentinels.iter().filter(wanting));
    let others = others.map(|site| site.endpoint.to_string());
    let peers = facts.config.sentinel.peers.iter().map(ToString::to_string);
    let all: BTreeSet<String> = own(facts).into_iter().chain(others).chain(peers).collect();
    let password = match (&facts.config.sentinel.password, has_certificate(facts)) {
        (None, false) => {
            "Set password_file under [sentinel] in the configuration, and write there, the same"
        }
        _ => "Write under [sentinel] in the configuration, the same",
    };
    let all: Vec<String> = all.iter().map(|peer| format!("{peer:?}")).collect();
    format!(
        "{password} on every server: peers = [{}]. Leave out what is no Sentinel of yours: anybody who may publish on a Redis can have forged it.",
        all.join(", ")
    )
}

/// Returns where the other servers ask this host's Sentinel: on the address of its Redis.
fn own(facts: &Facts) -> Option<String> {
    let port = facts.config.sentinel.address.port()?;
    let mut told = facts.sentinel.iter().flat_map(|told| &told.watched);
    let here = |one: &Watched| {
        let mut redises = one.redises.iter();
        at(redises.find(|site| site.is_here())?)
    };
    let at = told.find_map(here)?;
    Some(SocketAddr::new(at.ip(), port).to_string())
}
