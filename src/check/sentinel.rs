//! What Sentinel says of its masters and of its runs of the hook.

use super::Known;
use super::hook;
use crate::exit::{Fault, Kind};
use crate::gather::told::{Watched, get, number};
use crate::judgement::LEAST_DOWN_AFTER;
use crate::redis::{NoAnswer, Value};
use crate::report::finding::{
    Findings, Verdict, error, error_if, fault, unknown, warning, warning_if,
};
use crate::text::escape;

const DID_NOT_TELL: &str = "Sentinel did not tell";

pub fn judge(known: &Known, findings: &mut Findings) {
    silence(known, findings);
    let Ok(told) = &known.sentinel else { return };
    for name in known.config.masters.keys() {
        let verdict = error_if(
            !told.watched.iter().any(|one| one.name == *name),
            "this host's Sentinel does not monitor a master of this name",
            "Make the names in sentinel.conf (`sentinel monitor`) and vipswitch.toml the same.",
        );
        findings.add("monitored", escape(name), verdict);
    }
    for name in told.masters.iter().map(|row| get(row, "name")) {
        let verdict = warning_if(
            !known.config.masters.contains_key(&name),
            "Sentinel monitors it and the configuration does not have it, so that no VIP follows it",
            "Add it under [masters] if a VIP belongs to it.",
        );
        findings.add("unconfigured", escape(&name), verdict);
    }
    let pending = told.pending.as_deref();
    let pending = pending.map_or_else(|| unknown(DID_NOT_TELL), pending_runs);
    findings.add("pending-scripts", "", pending);
    for one in &told.watched {
        let name = escape(&one.name);
        findings.add("quorum", &name, quorum(one));
        findings.add("down-after", &name, down_after(one));
    }
    announced(known, findings);
}

/// Judges whether Sentinel answers; where its unit forbids the hook it cannot even start.
fn silence(known: &Known, findings: &mut Findings) {
    let mut verdict = known.sentinel.as_ref().err().and_then(fault);
    let (program, units) = (&known.program, known.units.as_ref());
    if verdict.is_some() && units.is_some_and(|units| units.forbid_to_run(program)) {
        let program = program.display().to_string();
        findings.add("exec-paths", &program, hook::exec_paths(&program));
        verdict = unknown("it does not answer: exec-paths tells why it does not start");
    }
    findings.add("sentinel", &known.config.sentinel.address, verdict);
}

fn pending_runs(runs: &[Value]) -> Verdict {
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
        (Some(Err(NoAnswer::Refused(why))), _) if why.starts_with("NOQUORUM") => error(
            format!("they cannot decide a failover: {}", escape(why)),
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
        (Some(Ok(_)), Some(_)) => None,
        _ => unknown(DID_NOT_TELL),
    }
}

fn down_after(one: &Watched) -> Verdict {
    let Some(time) = number(&one.master, "down-after-milliseconds") else {
        return unknown(DID_NOT_TELL);
    };
    let least = LEAST_DOWN_AFTER.as_millis();
    warning_if(
        (time as u128) < least,
        &format!(
            "down-after-milliseconds is {time}: below {least} Sentinel can take the fresh master for down a second after a failover, and fail over again"
        ),
        "On every Sentinel: sentinel set MASTER down-after-milliseconds 2000. Set the same in sentinel.conf.",
    )
}

/// Judges whether every Redis and Sentinel has an address that tells it from others.
fn announced(known: &Known, findings: &mut Findings) {
    const CHECK: &str = "announced-address";
    for vip in known.config.vips() {
        let mut sites = known.watched().iter().flat_map(Watched::sites);
        let verdict = if known.is_a_servers(vip) {
            error(
                "a Redis or a Sentinel is known by this address: as a VIP it would be taken from its server",
                "Correct `vip` in the configuration; or set replica-announce-ip and sentinel announce-ip to the host's own address, and monitor that address in sentinel.conf.",
            )
        } else {
            warning_if(
                sites.any(|site| site.addresses.contains(&vip.address)),
                "Sentinel knows a Sentinel or a replica by this VIP, which was the source address of its host for a while: that one has no vote",
                "Bind the VIP as /32 (`vipswitch sync` does) and restart the Sentinel that is known so; what stays in the lists is forgotten by: sentinel reset MASTER",
            )
        };
        findings.add(CHECK, vip, verdict);
    }
    for site in known.watched().iter().flat_map(Watched::sites) {
        // Any other fault of a place is passing.
        let is_everywhere = |why: &Fault| why.kind == Kind::Permanent;
        if site.place.as_ref().is_err_and(is_everywhere) {
            let verdict = error(
                "Sentinel knows a Redis or a Sentinel by this address, which every host has",
                "Monitor the master in sentinel.conf by an address that the other hosts reach, and announce such addresses.",
            );
            findings.add(CHECK, &site.endpoint, verdict);
        }
    }
}
