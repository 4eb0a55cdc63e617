//! The agent: whether it answers and all is well with it, and whether Sentinel's user reaches it. Where there is
//! none, whether the hook has the privileges to work without it.

use std::slice;

use super::Known;
use super::hook::{NOT_SEEN, scripts};
use crate::agent::absence::{MEANWHILE, REMEDY, is_meant};
use crate::agent::client::Unserved;
use crate::agent::snapshot::Master;
use crate::agent::socket_path::socket_path;
use crate::judgement::RELOAD;
use crate::report::finding::{Findings, Verdict, error, unknown, warning, warning_if};
use crate::text::escape;
use crate::trusted_file::access::{User, Want, identity, obstacle};

pub fn judge(known: &Known, findings: &mut Findings) {
    let snapshot = match &known.agent {
        Ok(snapshot) => snapshot,
        Err(why) => return without(why, known, findings),
    };
    let own = env!("CARGO_PKG_VERSION");
    let version = warning_if(
        snapshot.version != own,
        &format!(
            "the agent is version {}, this executable {own}",
            escape(&snapshot.version)
        ),
        "systemctl restart vipswitch-agent: it leaves the VIPs where they are.",
    );
    findings.add("agent", "", version);
    findings.add("agent-socket", "", socket(known));
    for name in known.config.masters.keys() {
        let mut masters = snapshot.masters.iter();
        let master = masters.find(|one| one.name == *name);
        let maintenance = warning_if(
            master.is_some_and(|master| master.maintenance.is_some()),
            "in maintenance: a Redis that dies here is left to Sentinel, and a shutdown hands nothing over",
            &format!(
                "Once it is over: vipswitch maintenance {} off",
                escape(name)
            ),
        );
        findings.add("agent-maintenance", escape(name), maintenance);
        let verdict = master.and_then(verdict);
        let lags = snapshot.lags_behind(&known.config, slice::from_ref(name));
        let verdict = lags.and_then(|lags| warning(lags, RELOAD)).or(verdict);
        findings.add("agent-verdict", escape(name), verdict);
    }
    // Who is out of reach is another check's matter.
    for sentinel in snapshot.sentinels.iter().filter(|one| one.in_reach) {
        let events = warning_if(
            !sentinel.events,
            "this Sentinel answers the agent, and its events do not arrive: a failover that it leads is noticed late",
            "An ACL user needs &* or the channels of Sentinel's events, and +subscribe +psubscribe; else look into the agent's log.",
        );
        findings.add("agent-events", escape(&sentinel.at), events);
    }
    let commands = warning_if(
        snapshot.pending_commands > 0,
        &format!(
            "commands of the site that have not succeeded: {}",
            snapshot.pending_commands
        ),
        "Look why: journalctl -t vipswitch. They are run again until they succeed.",
    );
    findings.add("agent-commands", "", commands);
}

fn verdict(master: &Master) -> Verdict {
    let why = escape(&master.why);
    let looks = "vipswitch status tells who says what.";
    match (master.verdict.as_str(), &master.forced) {
        ("fault", _) => error(format!("the agent cannot do what it should: {why}"), looks),
        (_, Some(order)) => warning(
            format!("an order holds against the truth: {}", escape(order)),
            "It ends with the next failover, or with the opposite command: `vipswitch unbind` where the VIP was bound, `bind` where it was released.",
        ),
        _ if master.cut_off.is_some() => warning("this host is cut off from its peers", looks),
        ("stays", _) => warning(format!("the agent leaves the VIP as it is: {why}"), looks),
        _ => None,
    }
}

/// Judges whether Sentinel's user can hand its call over. Also a hardened unit leaves Unix sockets and a mount
/// that is read-only to it.
fn socket(known: &Known) -> Verdict {
    let Some(process) = &known.process else {
        return unknown(NOT_SEEN).filter(|_| known.sentinel.is_ok());
    };
    let why = obstacle(&User::from(process), &socket_path().ok()?, Want::Connect)?;
    warning(
        format!("the hook cannot reach the agent, which learns of a failover without it: {why}"),
        format!(
            "Under [agent] in the configuration set socket_group to the group with the number {}, then: systemctl restart vipswitch-agent",
            process.gids.first()?
        ),
    )
}

/// Judges the way without an agent.
fn without(why: &Unserved, known: &Known, findings: &mut Findings) {
    if !matches!(why, Unserved::NoAgent) {
        let remedy = match why {
            Unserved::Refused(_) => "Check with the agent's configuration: --config FILE.",
            _ => why
                .remedy()
                .unwrap_or("Look into its log: journalctl -u vipswitch-agent"),
        };
        // Others than root may not be allowed to ask.
        let verdict = error(why.to_string(), remedy).filter(|_| known.is_root);
        return findings.add("agent", "", verdict.or_else(|| unknown(why.to_string())));
    }
    let process = known.process.as_ref();
    let Some(lacks) = process.and_then(|process| process.lacks()) else {
        let sign = is_meant(known.units.as_ref());
        let text = sign.map(|sign| format!("no agent answers, although {sign}: {MEANWHILE}"));
        findings.add("agent", "", text.and_then(|text| warning(text, REMEDY)));
        // A Sentinel that does not run starts no hook.
        let is_hidden = process.is_none() && known.sentinel.is_ok();
        let not_seen = unknown(NOT_SEEN).filter(|_| is_hidden);
        return findings.add("privileges", "", not_seen);
    };
    let (own, scripts) = (identity(&known.program), scripts(known));
    if !scripts.is_empty() && scripts.iter().all(|script| identity(script) != own) {
        let why = "no agent answers, and the hook is a program of yours: whether it gives vipswitch the privileges, as sudo can, only a failover shows";
        return findings.add("privileges", "", unknown(why));
    }
    let text = format!("no agent answers, and the hook would run without {lacks}");
    let verdict = error(text, "systemctl enable --now vipswitch-agent");
    findings.add("agent", "", verdict);
}
