//! What Sentinel says of its masters and of its runs of the hook.

use super::{error_if, hook, warning_if};
use crate::check::facts::Facts;
use crate::check::facts::sentinel::{Watched, get, number};
use crate::check::facts::units::USUAL;
use crate::check::finding::{Findings, Verdict, error, fault, unknown, warning};
use crate::evidence::Site;
use crate::exit::Kind;
use crate::redis::Value;
use crate::text::escape;
use crate::vip::Vip;

/// The shortest `down-after-milliseconds` that never led to a second failover. Sentinel reconnects
/// to the new master a second after the failover at the earliest (SENTINEL_PING_PERIOD in
/// sentinel.c), and until then counts it as down.
const LEAST_DOWN_AFTER: usize = 1500;

const DID_NOT_TELL: &str = "Sentinel did not tell";

pub fn judge(facts: &Facts, findings: &mut Findings) {
    silence(facts, findings);
    let Ok(told) = &facts.sentinel else { return };
    for name in facts.config.masters.keys() {
        let verdict = error_if(
            !told.watched.iter().any(|one| one.name == *name),
            "this host's Sentinel does not monitor a master of this name",
            "Make the names in sentinel.conf (`sentinel monitor`) and vipswitch.toml the same.",
        );
        findings.add("monitored", escape(name), verdict);
    }
    for name in told.masters.iter().map(|row| get(row, "name")) {
        let verdict = warning_if(
            !facts.config.masters.contains_key(&name),
            "Sentinel monitors it and the configuration does not have it, so that no VIP follows it",
            "Add it under [masters] if a VIP belongs to it.",
        );
        findings.add("unconfigured", escape(&name), verdict);
    }
    findings.add("pending-scripts", "", pending(told.pending.as_deref()));
    for one in &told.watched {
        let name = escape(&one.name);
        findings.add("quorum", &name, quorum(one));
        findings.add("down-after", &name, down_after(one));
        announced(one, facts, findings);
    }
}

/// Judges whether Sentinel answers; where its unit forbids the hook it cannot even start.
fn silence(facts: &Facts, findings: &mut Findings) {
    let mut verdict = facts.sentinel.as_ref().err().and_then(fault);
    let program = &facts.own.program;
    let units = facts.units.iter();
    let mut usual = units.flat_map(|units| USUAL.iter().filter_map(|id| units.loaded(id)));
    if verdict.is_some() && usual.any(|unit| unit.forbids_to_run(program)) {
        let program = program.display().to_string();
        findings.add("exec-paths", &program, hook::exec_paths(&program));
        verdict = unknown("it does not answer: exec-paths tells why it does not start");
    }
    findings.add("sentinel", &facts.config.sentinel.address, verdict);
}

fn pending(runs: Option<&[Value]>) -> Verdict {
    let Some(runs) = runs else {
        return unknown(DID_NOT_TELL);
    };
    let has_failed = |run: &&Value| {
        get(run, "flags").contains("scheduled") && number(run, "retry-num") > Some(0)
    };
    let failed = runs.iter().filter(has_failed).count();
    warning_if(
        failed > 0,
        &format!("runs that have failed and wait for their next try: {failed}"),
        "Look why: journalctl -t vipswitch (exit=1), and SENTINEL PENDING-SCRIPTS.",
    )
}

fn quorum(one: &Watched) -> Verdict {
    let known = number(&one.master, "num-other-sentinels").map(|others| others + 1);
    match (&one.quorum, known) {
        (Some(Err(why)), _) if why.starts_with("NOQUORUM") => error(
            format!("the Sentinels that answer cannot decide a failover: {why}"),
            "Start the missing Sentinels and let them reach each other, or correct the quorum in `sentinel monitor`.",
        ),
        (_, Some(known @ 0..3)) => warning(
            format!("known Sentinels: {known}. When one is lost, no failover can be decided"),
            "Run three, each on a host of its own, and let them reach the same master.",
        ),
        (_, Some(_)) if number(&one.master, "quorum") == Some(1) => warning(
            "the quorum is 1: a single Sentinel that sees the master as down starts a failover",
            "Set it to 2 in `sentinel monitor` of every server.",
        ),
        (Some(Ok(())), Some(_)) => None,
        _ => unknown(DID_NOT_TELL),
    }
}

fn down_after(one: &Watched) -> Verdict {
    let Some(time) = number(&one.master, "down-after-milliseconds") else {
        return unknown(DID_NOT_TELL);
    };
    let name = escape(&one.name);
    warning_if(
        time < LEAST_DOWN_AFTER,
        &format!(
            "down-after-milliseconds is {time}: below {LEAST_DOWN_AFTER} Sentinel can take the fresh master for down a second after a failover, and fail over again"
        ),
        &format!(
            "On every Sentinel: sentinel set {name} down-after-milliseconds 2000. Set the same in sentinel.conf."
        ),
    )
}

/// Returns whether this VIP is certainly a server's own address.
pub fn is_a_servers(vip: &Vip, facts: &Facts) -> bool {
    let mut watched = facts.sentinel.iter().flat_map(|told| &told.watched);
    watched.any(|one| one.own.contains(&vip.address))
}

/// Returns whether Sentinel knows a Redis or a Sentinel by this VIP.
fn knows(one: &Watched, vip: &Vip) -> bool {
    let mut sites = one.sites();
    sites.any(|site| site.addresses.contains(&vip.address))
}

/// Judges whether every Redis and Sentinel has an address that tells it from others.
fn announced(one: &Watched, facts: &Facts, findings: &mut Findings) {
    const CHECK: &str = "announced-address";
    let vip = facts
        .config
        .vips()
        .find(|vip| one.own.contains(&vip.address));
    let source = facts.config.vips().find(|vip| knows(one, vip));
    // Any other fault of a place is passing.
    let is_everywhere = |site: &&Site| {
        site.place
            .as_ref()
            .is_err_and(|why| why.kind == Kind::Permanent)
    };
    let everywhere = one.sites().find(is_everywhere);
    if let Some(vip) = vip {
        let verdict = error(
            "Sentinel knows a Redis or a Sentinel by this address: as a VIP it would be taken from its server",
            "Correct `vip` in the configuration; or set replica-announce-ip and sentinel announce-ip to the host's own address, and monitor that address in sentinel.conf.",
        );
        findings.add(CHECK, vip, verdict);
    } else if let Some(vip) = source {
        let verdict = warning(
            "Sentinel knows a Sentinel or a replica by this VIP, which was the source address of its host for a while: that one has no vote",
            format!(
                "Bind the VIP as /32 (`vipswitch sync` does) and restart the Sentinel that is known so; what stays in the lists is forgotten by: sentinel reset {}",
                escape(&one.name)
            ),
        );
        findings.add(CHECK, vip, verdict);
    } else if let Some(site) = everywhere {
        let verdict = error(
            "Sentinel knows a Redis or a Sentinel by this address, which every host has",
            "Monitor the master in sentinel.conf by an address that the other hosts reach, and announce such addresses.",
        );
        findings.add(CHECK, &site.endpoint, verdict);
    } else {
        findings.add(CHECK, escape(&one.name), None);
    }
}
