//! What `status` tells of the agent: what it knows of each master, that it does not answer, or what it means that none runs.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::announcing::ago_in_words;
use crate::agent::absence::{MEANWHILE, REMEDY, is_meant};
use crate::agent::client::{self, Unserved};
use crate::agent::snapshot::{Maintenance, Master, Redis, Replica, Snapshot, Timeline, Vote};
use crate::cli::Options;
use crate::commands::config_path;
use crate::config::Config;
use crate::judgement::RELOAD;
use crate::report::to_json;
use crate::text::{Ink, printable};
use crate::units::Units;

/// How long an agent may take to tell: a living one does within milliseconds, and nobody waits for a hanging one.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how many seconds after a failover has begun the Sentinels may know no replica of the new master yet.
const JUST: f64 = 12.0;

/// What is known of this host's agent.
#[derive(Default)]
pub(super) struct Agent {
    /// What it knows, if it tells.
    snapshot: Option<Snapshot>,
    /// Why it tells nothing, where that is as it should be.
    note: Option<String>,
    /// What is wrong with it.
    problem: Option<String>,
}

/// The JSON object of the agent, as docs/json.md documents it.
#[derive(Serialize)]
struct Row<'a> {
    agent: Option<&'a Snapshot>,
    note: Option<&'a str>,
    problem: Option<&'a str>,
}

impl Agent {
    /// Asks it about these masters, about every one if none is named.
    pub(super) async fn ask(masters: &[String], options: &Options) -> Agent {
        let until = Instant::now() + PATIENCE;
        match client::snapshot(masters, &config_path(options), until).await {
            Ok(mut snapshot) => {
                let is_meant = |master: &Master| masters.contains(&master.name);
                snapshot
                    .masters
                    .retain(|master| masters.is_empty() || is_meant(master));
                Agent {
                    snapshot: Some(snapshot),
                    ..Agent::default()
                }
            }
            Err(Unserved::NoAgent) => Agent::none(is_meant(Units::ask().await.as_ref())),
            // Whose agent it is, or who may ask it, is no fault of the VIPs.
            Err(unserved @ (Unserved::NotAllowed | Unserved::Refused(_))) => Agent {
                note: Some(unserved.to_string()),
                ..Agent::default()
            },
            Err(unserved) => Agent {
                problem: Some(match unserved.remedy() {
                    Some(remedy) => format!("{unserved}. {remedy}"),
                    None => unserved.to_string(),
                }),
                ..Agent::default()
            },
        }
    }

    /// Adds that its configuration is older than the file's, or what it lacks that no VIP here shows. About these masters,
    /// about every one if none is named.
    pub(super) fn judge(mut self, config: &Config, masters: &[String]) -> Agent {
        let lags = self.snapshot.as_ref();
        let lags = lags.and_then(|snapshot| snapshot.lags_behind(config, masters));
        let lags = lags.map(|lags| format!("{lags}. {RELOAD}"));
        self.problem = self.problem.take().or(lags).or_else(|| self.lacks());
        self
    }

    /// Returns what keeps it from doing its part in a failover.
    fn lacks(&self) -> Option<String> {
        let mut masters = self.snapshot.iter().flat_map(|it| &it.masters);
        masters.find_map(|master| {
            let name = &master.name;
            if let Some(redis) = master.redis.iter().find(|redis| redis.refuses) {
                let (at, why) = (&redis.at, redis.role.trim_end_matches('.'));
                return Some(format!(
                    "the Redis of {name} at {at} does not tell it its role: {why}. `vipswitch check` tells what to do"
                ));
            }
            let is_silent = master.master.is_none() && master.verdict == "elsewhere";
            is_silent.then(|| {
                format!("no majority of the Sentinels names a master of {name}: start those that do not answer, or nobody fails over")
            })
        })
    }

    /// Returns whether a failover of this master was so short a time ago that the Sentinels do not know its replicas yet:
    /// they ask each every 10 s (`SENTINEL_INFO_PERIOD` in sentinel.c).
    pub(super) fn has_just_failed_over(&self, master: &str) -> bool {
        let mut masters = self.snapshot.iter().flat_map(|it| &it.masters);
        let last = masters.find(|one| one.name == master);
        let began = last.and_then(|one| Some(one.last_failover.as_ref()?.began));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        began.is_some_and(|began| now.is_ok_and(|now| now.as_secs_f64() - began < JUST))
    }

    /// Returns what it knows, if it tells.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Returns what is told where none runs; `sign` shows that one is meant to.
    fn none(sign: Option<&str>) -> Agent {
        match sign {
            None => Agent {
                note: Some(format!("none runs on this host: {MEANWHILE}")),
                ..Agent::default()
            },
            Some(sign) => Agent {
                problem: Some(format!(
                    "none runs on this host, although {sign}: until one does, {MEANWHILE}. {REMEDY}"
                )),
                ..Agent::default()
            },
        }
    }

    /// Returns where it knows better than a majority of the Sentinels, which tells of a failover about a second later: whether
    /// the VIP of this master belongs here.
    pub(super) fn goes_before(&self, master: &str) -> Option<bool> {
        let mut masters = self.snapshot.as_ref()?.masters.iter();
        match masters.find(|one| one.name == master)?.reason.as_str() {
            "promoted_here" => Some(true),
            "promoted_elsewhere" | "redis_has_died" => Some(false),
            _ => None,
        }
    }

    /// Returns whether it is not as it should be.
    pub(super) fn is_wrong(&self) -> bool {
        self.problem.is_some()
    }

    /// Returns its JSON object.
    pub(super) fn json(&self) -> String {
        to_json(&Row {
            agent: self.snapshot.as_ref(),
            note: self.note.as_deref(),
            problem: self.problem.as_deref(),
        })
    }

    /// Returns its lines for a person.
    pub(super) fn text(&self, colours: bool) -> String {
        let mut lines = Vec::new();
        if let Some(problem) = &self.problem {
            let problem = printable(&format!("PROBLEM: {problem}"));
            lines.push(format!("agent: {}", Ink::Red.paint(&problem, colours)));
        }
        if let Some(note) = &self.note {
            lines.push(printable(&format!("agent: {note}")));
        }
        if let Some(snapshot) = &self.snapshot {
            lines.push(printable(&about_itself(snapshot)));
            for master in &snapshot.masters {
                let said = about_master(master);
                lines.extend(said.iter().map(|line| format!("  {}", printable(line))));
            }
        }
        lines.join("\n")
    }
}

fn about_itself(snapshot: &Snapshot) -> String {
    let all = snapshot.sentinels.len();
    let count = |what: fn(&crate::agent::snapshot::Sentinel) -> bool| {
        snapshot.sentinels.iter().filter(|one| what(one)).count()
    };
    let mut text = format!(
        "agent {} (pid {}), started {}: {} of {all} Sentinels in reach, events from {}",
        snapshot.version,
        snapshot.pid,
        ago_in_words(snapshot.uptime.max(0.0) as u64),
        count(|one| one.in_reach),
        count(|one| one.events),
    );
    if snapshot.drift_repaired > 0 {
        text += &match snapshot.drift_repaired {
            1 => ", drift mended once".to_owned(),
            times => format!(", drift mended {times} times"),
        };
    }
    if snapshot.pending_commands > 0 {
        text += &format!(", site commands PENDING: {}", snapshot.pending_commands);
    }
    text
}

fn about_master(master: &Master) -> Vec<String> {
    let named = match &master.master {
        Some(at) => format!("a majority names {at}"),
        None => "no majority names a master".to_owned(),
    };
    let mut lines = vec![format!(
        "{}: {} ({}): {}; {named}",
        master.name, master.verdict, master.reason, master.why
    )];
    let mut list = |what: &str, of: Vec<String>| {
        if !of.is_empty() {
            lines.push(format!("  {what}: {}", of.join("; ")));
        }
    };
    list("Sentinels", master.votes.iter().map(vote).collect());
    list("Redis here", master.redis.iter().map(redis).collect());
    list("replicas", master.replicas.iter().map(replica).collect());
    let known = Some(master.known_clients).filter(|known| *known > 0);
    list(
        "clients of the holder",
        known
            .iter()
            .map(|known| format!("{known} known here"))
            .collect(),
    );
    let answered = master.vips.iter().filter_map(|vip| {
        let by = match vip.answered_by.as_deref()? {
            "nobody" if vip.here => "this host alone",
            by => by,
        };
        Some(format!("{} by {by}", vip.address))
    });
    list(
        "answered for, at the last probe (one a minute)",
        answered.collect(),
    );
    let forced = |order| format!("{order}, until the next failover or the opposite order");
    list("forced", master.forced.iter().map(forced).collect());
    list(
        "in MAINTENANCE",
        master.maintenance.iter().map(maintenance).collect(),
    );
    list("DEATH", master.death.iter().cloned().collect());
    let cut_off = |for_long: &f64| format!("from its peers for {for_long:.1} s");
    list("CUT OFF", master.cut_off.iter().map(cut_off).collect());
    let timeline = master.last_failover.iter().map(timeline);
    list("last failover", timeline.collect());
    lines
}

fn vote(vote: &Vote) -> String {
    let epoch = vote.epoch;
    match (&vote.says, &vote.silent) {
        (Some(master), _) => format!("{} says {master} (epoch {epoch})", vote.who),
        (None, Some(why)) => format!("{} is silent: {why}", vote.who),
        (None, None) => format!("{} names no master", vote.who),
    }
}

fn redis(redis: &Redis) -> String {
    let run_id = redis.run_id.as_ref().map(|id| format!(", run id {id}"));
    match redis.role.as_str() {
        "master" | "replica" => {
            let run_id = run_id.unwrap_or_default();
            format!("{} is {}{run_id}", redis.at, redis.role)
        }
        // Another role, or why it tells none.
        other => format!("{}: {other}", redis.at),
    }
}

fn replica(replica: &Replica) -> String {
    let lag = match replica.lag {
        _ if !replica.online => "has not all of the master's data".to_owned(),
        Some(seconds) => format!("acknowledged {}", ago_in_words(seconds)),
        None => "has not acknowledged yet".to_owned(),
    };
    format!("{} {lag}, {} bytes behind", replica.at, replica.behind)
}

fn maintenance(of: &Maintenance) -> String {
    let until = match of.left {
        Some(left) => format!("for another {} s", left.ceil() as u64),
        None => "until it is ended".to_owned(),
    };
    format!("{until}: a Redis that stops is not failed over at once")
}

/// In the order in which it happened.
fn timeline(of: &Timeline) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ago = now.map_or(0.0, |now| now.as_secs_f64() - of.began).max(0.0);
    let ended = match of.ended.as_str() {
        "" => "still going on".to_owned(),
        ended => ended.replace('_', " "),
    };
    let mut steps: Vec<(f64, &str)> = [
        (of.died, "Redis died"),
        (of.asked, "asked for"),
        (of.event, "event seen"),
        (of.paused, "writes paused"),
        (of.role_changed, "role changed"),
        (of.bound, "bound"),
        (of.first_frame, "first frame"),
        (of.confirmed, "confirmed"),
        (of.released, "released"),
        (of.unpaused, "writes allowed"),
    ]
    .into_iter()
    .filter_map(|(at, what)| Some((at?, what)))
    .collect();
    steps.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let steps: Vec<String> = steps
        .iter()
        .map(|(at, what)| format!("{what} +{at:.1}"))
        .collect();
    let mut text = format!(
        "{} to {}, {ended}; ms: {}",
        ago_in_words(ago as u64),
        of.to,
        steps.join(", ")
    );
    if let Some(paused) = of.writes_paused_for {
        text += &format!("; writes paused for {paused:.1} ms");
    }
    if let Some(bytes) = of.bytes_behind {
        text += &format!("; {bytes} bytes behind when promoted");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_is_not_told_and_the_rest_comes_in_its_order() {
        let mut master = Master {
            name: "m".into(),
            verdict: "here".into(),
            why: "two of three name this host".into(),
            reason: "majority_here".into(),
            master: Some("10.0.0.1:6379".into()),
            ..Master::default()
        };
        assert_eq!(
            about_master(&master),
            [
                "m: here (majority_here): two of three name this host; a majority names 10.0.0.1:6379"
            ]
        );
        master.last_failover = Some(Timeline {
            to: "10.0.0.1:6379".into(),
            ended: "taken_over".into(),
            bound: Some(53.04),
            event: Some(0.0),
            role_changed: Some(52.0),
            bytes_behind: Some(0),
            ..Timeline::default()
        });
        let told = about_master(&master).remove(1);
        assert!(
            told.ends_with(
                " h ago to 10.0.0.1:6379, taken over; ms: event seen +0.0, role changed +52.0, bound +53.0; 0 bytes behind when promoted"
            ),
            "{told}"
        );
    }

    #[test]
    fn that_none_runs_is_a_problem_only_where_one_is_meant_to() {
        let none = Agent::none(None);
        assert!(!none.is_wrong());
        assert!(
            none.text(false)
                .starts_with("agent: none runs on this host: ")
        );
        let killed = Agent::none(Some("its unit is enabled"));
        assert!(killed.is_wrong());
        let text = killed.text(false);
        assert!(text.starts_with("agent: PROBLEM: none runs on this host, although its unit is"));
    }

    #[test]
    fn nothing_that_it_tells_reaches_the_terminal_unescaped() {
        let name = "m\u{1b}[31m".to_owned();
        let masters = vec![Master {
            name,
            ..Master::default()
        }];
        let snapshot = Some(Snapshot {
            masters,
            ..Snapshot::default()
        });
        let text = Agent {
            snapshot,
            ..Agent::default()
        }
        .text(false);
        assert!(
            !text.contains('\u{1b}') && text.contains("\\u{1b}"),
            "{text}"
        );
    }
}
