//! The other Sentinels as `sync` asks them: whether they answer without the password, and whether `sync` can
//! remember them for the time when this host's Sentinel is down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Known, NOT_ROOT};
use crate::evidence::Site;
use crate::few;
use crate::gather::told::at;
use crate::gather::{Tried, remembered, try_others};
use crate::redis::{NoAnswer, SENTINEL_RIGHTS};
use crate::report::finding::{Findings, Verdict, unknown, warning};

/// Asks every other Sentinel as `sync` and the agent ask it, about the first master that it is listed for. Where
/// the files of the configuration cannot be used, another finding says so.
async fn ask(known: &Known) -> Vec<Tried> {
    let mut others: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for one in known.watched() {
        for at in one.sentinels.iter().filter_map(at) {
            others.entry(at).or_insert(&one.name);
        }
    }
    let others: Vec<(SocketAddr, &str)> = others.into_iter().collect();
    try_others(&known.config, &others).await.unwrap_or_default()
}

/// Judges the other Sentinels. Returns what they answered.
pub async fn judge(known: &Known, findings: &mut Findings) -> Vec<Tried> {
    let others = ask(known).await;
    for other in &others {
        findings.add("peers", other.at, answer(other, &others, known));
    }
    let memory = match remembered::check() {
        Ok(()) => None,
        Err(_) if !known.is_root => unknown(NOT_ROOT),
        Err(fault) => warning(
            format!(
                "{}: while this host's Sentinel is down, no other one is known",
                fault.cause()
            ),
            fault.what_to_do().unwrap_or_default(),
        ),
    };
    findings.add("memory", "", memory);
    others
}

/// One that cannot be reached is another check's matter.
fn answer(other: &Tried, others: &[Tried], known: &Known) -> Verdict {
    let no = other.said.as_ref().err()?;
    match (no, other.is_peer) {
        (NoAnswer::AuthMissing(_) | NoAnswer::NotAllowed(_), false) => warning(
            "this Sentinel wants a password, which `sync` sends to this host's Sentinel and to `peers` only: its vote is missing",
            peers_to_add(others, known),
        ),
        (NoAnswer::Certificate(_), false) if known.config.has_client_certificate() => warning(
            format!("{no}; `sync` shows cert_file to this host's Sentinel and to `peers` only"),
            peers_to_add(others, known),
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
            format!("It needs there, too: {SENTINEL_RIGHTS}"),
        ),
        _ => None,
    }
}

/// Returns the line with every Sentinel that wants a password, this host's among them: the configuration is
/// the same on every server.
fn peers_to_add(others: &[Tried], known: &Known) -> String {
    use NoAnswer::{AuthMissing, Certificate, NotAllowed};
    let wants = |other: &&Tried| {
        matches!(
            other.said,
            Err(AuthMissing(_) | NotAllowed(_) | Certificate(_))
        )
    };
    let wanting: Vec<SocketAddr> = others.iter().filter(wants).map(|other| other.at).collect();
    let wanting = |site: &&Site| at(site).is_some_and(|at| wanting.contains(&at));
    let listed = known.watched().iter().flat_map(|one| &one.sentinels);
    let listed = listed.filter(wanting).map(|site| site.endpoint.to_string());
    let peers = known.config.sentinel.peers.iter().map(ToString::to_string);
    let all: BTreeSet<String> = few::set(own(known).into_iter().chain(listed).chain(peers));
    let password = match &known.config.sentinel.password {
        None if !known.config.has_client_certificate() => {
            "Set password_file under [sentinel], and write there"
        }
        _ => "Write under [sentinel] in the configuration",
    };
    let all: Vec<String> = all.iter().map(|peer| format!("{peer:?}")).collect();
    format!(
        "{password}, the same on every server: peers = [{}]. Leave out what is no Sentinel of yours: anybody who may publish on a Redis can have forged it.",
        all.join(", ")
    )
}

/// Returns where the other servers ask this host's Sentinel: on the address of its Redis.
fn own(known: &Known) -> Option<String> {
    let port = known.config.sentinel.address.port()?;
    let redises = known.watched().iter().flat_map(|one| &one.redises);
    let at = redises.filter(|site| site.is_here()).find_map(at)?;
    Some(SocketAddr::new(at.ip(), port).to_string())
}
