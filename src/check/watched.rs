//! What this host's Sentinel says of the masters that it watches, and what is wrong with that.
//! Nothing that it answers is trusted: it is escaped here.

use std::time::Duration;

use redis::Value;

use super::finding::Findings;
use crate::config::Sentinel;
use crate::exit::Fault;
use crate::sentinel::ask::NoAnswer;
use crate::sentinel::{ask_all, unanswered};
use crate::text::escape;

/// How long Sentinel may take to answer all of one round of questions.
const ANSWERS: Duration = Duration::from_millis(1500);

/// How many runs Sentinel has at once (SENTINEL_SCRIPT_MAX_RUNNING in sentinel.c); more queue up.
const AT_ONCE: usize = 16;

/// The checks that need Sentinel's answers.
pub const CHECKS: [&str; 15] = [
    "monitored",
    "unconfigured",
    "client-reconfig-script",
    "deny-scripts-reconfig",
    "executable",
    "file-capabilities",
    "noexec",
    "pending-scripts",
    "quorum",
    "replication",
    "announced-address",
    "redis-reachable",
    "redis-role",
    "sentinel-reachable",
    "min-replicas",
];

/// The fields of one master, replica, Sentinel or run, by their names.
#[derive(Clone, Debug, Default)]
pub struct Row(Vec<(String, String)>);

impl Row {
    /// Returns a field as Sentinel sent it, empty if it did not.
    pub fn get(&self, key: &str) -> &str {
        let mut fields = self.0.iter().filter(|(name, _)| name == key);
        fields.next().map_or("", |(_, value)| value)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.get(key).parse().ok()
    }

    /// Returns where it listens.
    pub fn endpoint(&self) -> Option<(String, u16)> {
        let port = self.get("port").parse().ok()?;
        Some((self.get("ip").to_owned(), port))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

fn row(value: &Value) -> Row {
    let pair = |key: &Value, value: &Value| (text(key), text(value));
    Row(match value {
        Value::Array(all) => all
            .chunks_exact(2)
            .map(|two| pair(&two[0], &two[1]))
            .collect(),
        Value::Map(all) => all.iter().map(|(key, value)| pair(key, value)).collect(),
        _ => Vec::new(),
    })
}

fn rows(answer: Option<Result<Value, NoAnswer>>) -> Option<Vec<Row>> {
    match answer {
        Some(Ok(Value::Array(all))) => Some(all.iter().map(row).collect()),
        _ => None,
    }
}

/// One master as Sentinel knows it. What it did not tell is `None`.
#[derive(Debug, Default)]
pub struct Watched {
    /// Its master-name, as configured.
    pub name: String,
    /// What `SENTINEL MASTER` says.
    pub master: Row,
    /// Its replicas.
    pub replicas: Option<Vec<Row>>,
    /// The other Sentinels.
    pub sentinels: Option<Vec<Row>>,
    quorum: Option<Result<(), String>>,
}

/// All that this host's Sentinel says.
#[derive(Debug, Default)]
pub struct Answers {
    /// The number of its process, where that is.
    pub pid: Option<u32>,
    config_file: String,
    masters: Vec<Row>,
    pending: Option<Vec<Row>>,
    /// Each configured master that it monitors.
    pub watched: Vec<Watched>,
}

impl Answers {
    /// Asks for everything, about these masters.
    ///
    /// # Errors
    ///
    /// A Sentinel that does not answer, or not as one.
    pub fn ask(sentinel: &Sentinel, names: &[&str]) -> Result<Answers, Fault> {
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
        let general = vec![
            words(&["SENTINEL", "MASTERS"]),
            words(&["SENTINEL", "PENDING-SCRIPTS"]),
            words(&["INFO", "server"]),
        ];
        let mut general = ask_all(sentinel, general, ANSWERS)?.into_iter();
        let masters = match general.next() {
            Some(Err(no)) => {
                let fault = unanswered(sentinel, &no.why, no.code.as_deref());
                return Err(match no.code.as_deref() {
                    Some("NOPERM") => fault.remedy("The user under [sentinel] in the configuration needs +sentinel and +info for this check."),
                    _ => fault,
                });
            }
            masters => rows(masters).unwrap_or_default(),
        };
        let mut answers = Answers {
            masters,
            pending: rows(general.next()),
            ..Answers::default()
        };
        let info = general.next().and_then(Result::ok);
        let info = info.as_ref().map(text).unwrap_or_default();
        answers.pid = info_field(&info, "process_id").parse().ok();
        answers.config_file = info_field(&info, "config_file").to_owned();
        let known = |name: &&&str| answers.masters.iter().any(|row| row.get("name") == **name);
        let names: Vec<&str> = names.iter().filter(known).copied().collect();
        let about = |name: &&str| {
            ["SLAVES", "SENTINELS", "CKQUORUM"]
                .map(|question| words(&["SENTINEL", question, *name]))
        };
        let questions = names.iter().flat_map(about).collect();
        let mut each = ask_all(sentinel, questions, ANSWERS)?.into_iter();
        for name in names {
            let master = answers.masters.iter().find(|row| row.get("name") == name);
            answers.watched.push(Watched {
                name: name.to_owned(),
                master: master.cloned().unwrap_or_default(),
                replicas: rows(each.next()),
                sentinels: rows(each.next()),
                quorum: each
                    .next()
                    .map(|answer| answer.map(drop).map_err(|no| no.why)),
            });
        }
        Ok(answers)
    }

    /// Returns the file of the Sentinel's configuration, where it told.
    pub fn config_file(&self) -> &str {
        &self.config_file
    }

    /// Judges what it says of its masters and of its runs of the hook. `names` are the configured
    /// masters.
    pub fn judge(&self, names: &[&str], findings: &mut Findings) {
        for name in names {
            let shown = escape(name);
            if self.watched.iter().any(|one| one.name == *name) {
                findings.ok("monitored", &shown, "Sentinel monitors it");
            } else {
                findings.error(
                    "monitored",
                    &shown,
                    "this host's Sentinel does not monitor a master of this name",
                    "Make the names in sentinel.conf (`sentinel monitor`) and vipswitch.toml the same.",
                );
            }
        }
        for row in &self.masters {
            let name = row.get("name");
            if !names.contains(&name) {
                findings.warn(
                    "unconfigured",
                    &escape(name),
                    "Sentinel monitors it and the configuration does not have it, so that no VIP follows it",
                    "Add it under [masters] if a VIP belongs to it.",
                );
            }
        }
        match &self.pending {
            None => findings.unknown(&["pending-scripts"], "", "Sentinel did not tell"),
            Some(runs) => judge_pending(runs, findings),
        }
        for one in &self.watched {
            one.judge_quorum(findings);
            one.judge_replication(findings);
        }
    }
}

fn info_field<'a>(info: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    info.lines().find_map(value).unwrap_or_default().trim()
}

fn judge_pending(runs: &[Row], findings: &mut Findings) {
    let waiting =
        |run: &&Row| run.get("flags").contains("scheduled") && run.number("retry-num") > Some(0);
    let failed = runs.iter().filter(waiting).count();
    if failed > 0 {
        let text = format!("{failed} runs have failed and wait to be tried again");
        let remedy = "Look why: journalctl -t vipswitch (exit=1), and SENTINEL PENDING-SCRIPTS.";
        findings.warn("pending-scripts", "", text, remedy);
    } else if runs.len() > AT_ONCE {
        let text = format!(
            "{} runs are queued, of which {AT_ONCE} run at once",
            runs.len()
        );
        let remedy = "Look which script is slow: SENTINEL PENDING-SCRIPTS.";
        findings.warn("pending-scripts", "", text, remedy);
    } else {
        findings.ok("pending-scripts", "", "no run has failed and waits");
    }
}

impl Watched {
    /// Returns where every Redis of it listens, the master first.
    pub fn redises(&self) -> Vec<(String, u16)> {
        let rows = std::iter::once(&self.master).chain(self.replicas.iter().flatten());
        rows.filter_map(Row::endpoint).collect()
    }

    /// Returns where the other Sentinels listen.
    pub fn others(&self) -> Vec<(String, u16)> {
        self.sentinels
            .iter()
            .flatten()
            .filter_map(Row::endpoint)
            .collect()
    }

    fn judge_quorum(&self, findings: &mut Findings) {
        let name = escape(&self.name);
        let sentinels = self.sentinels.as_ref().map(|others| others.len() + 1);
        let quorum = self.master.number("quorum");
        match (&self.quorum, sentinels) {
            (Some(Err(why)), _) if why.contains("NOQUORUM") => findings.error(
                "quorum",
                &name,
                format!("the Sentinels that answer cannot decide a failover: {}", escape(why)),
                "Start the missing Sentinels and let them reach each other, or correct the quorum in `sentinel monitor`.",
            ),
            (_, Some(known @ 0..3)) => findings.warn(
                "quorum",
                &name,
                format!("only {known} Sentinels are known: with one gone nobody can decide"),
                "Run three, each on a host of its own, and let them reach the same master.",
            ),
            (_, Some(_)) if quorum == Some(1) => findings.warn(
                "quorum",
                &name,
                "the quorum is 1: a single Sentinel that sees the master as down starts a failover",
                "Set it to 2 in `sentinel monitor` of every server.",
            ),
            (Some(Ok(())), Some(known)) => {
                findings.ok("quorum", &name, format!("{known} Sentinels, enough of them answer"));
            }
            _ => findings.unknown(&["quorum"], &name, "Sentinel did not tell"),
        }
    }

    fn judge_replication(&self, findings: &mut Findings) {
        let name = escape(&self.name);
        let Some(replicas) = &self.replicas else {
            return findings.unknown(&["replication"], &name, "Sentinel did not tell");
        };
        let down = |row: &&Row| {
            row.get("master-link-status") != "ok" && !row.get("flags").contains("s_down")
        };
        let broken: Vec<String> = replicas
            .iter()
            .filter(down)
            .map(|row| escape(row.get("name")))
            .collect();
        let promotable = |row: &Row| row.get("slave-priority") != "0";
        if replicas.is_empty() {
            findings.warn(
                "replication",
                &name,
                "Sentinel knows no replica: there is nothing to fail over to",
                "Set `replicaof` on the other servers.",
            );
        } else if !broken.is_empty() {
            findings.warn(
                "replication",
                &name,
                format!("no link to the master: {}", broken.join(", ")),
                "Look into the replica's log; masterauth, requirepass and the firewall are the usual causes.",
            );
        } else if !replicas.iter().any(promotable) {
            findings.warn(
                "replication",
                &name,
                "every replica has priority 0, so that none is ever promoted",
                "Set `replica-priority 100` on those that may become master.",
            );
        } else {
            findings.ok("replication", &name, format!("{} replicas", replicas.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Error, Unknown, Warning};
    use super::*;

    fn a_row(text: &str) -> Row {
        let pair = |pair: &str| {
            pair.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Row(text.split(' ').filter_map(pair).collect())
    }

    fn watched(
        quorum: &str,
        sentinels: usize,
        replicas: &[&str],
        answer: Result<(), String>,
    ) -> Watched {
        Watched {
            name: "m".into(),
            master: a_row(&format!("name=m ip=10.0.0.1 port=6379 quorum={quorum}")),
            replicas: Some(replicas.iter().map(|text| a_row(text)).collect()),
            sentinels: Some(vec![Row::default(); sentinels]),
            quorum: Some(answer),
        }
    }

    #[test]
    fn quorum_and_replication_are_told_from_each_other() {
        let good = "name=10.0.0.2:6379 master-link-status=ok slave-priority=100 flags=slave";
        let never = "name=10.0.0.2:6379 master-link-status=ok slave-priority=0 flags=slave";
        let broken = "name=10.0.0.2:6379 master-link-status=err slave-priority=1 flags=slave";
        let dead = "name=10.0.0.2:6379 master-link-status=err slave-priority=1 flags=s_down,slave";
        let no = || Err("NOQUORUM: 1 usable Sentinels".to_owned());
        for (watched, wrong) in [
            (watched("2", 2, &[good, never], Ok(())), vec![]),
            (watched("2", 2, &[good], no()), vec![("quorum", Error)]),
            (watched("2", 1, &[good], Ok(())), vec![("quorum", Warning)]),
            (watched("1", 2, &[good], Ok(())), vec![("quorum", Warning)]),
            (
                watched("2", 2, &[good], Err("NOPERM".into())),
                vec![("quorum", Unknown)],
            ),
            (watched("2", 2, &[], Ok(())), vec![("replication", Warning)]),
            (
                watched("2", 2, &[never], Ok(())),
                vec![("replication", Warning)],
            ),
            (
                watched("2", 2, &[good, broken], Ok(())),
                vec![("replication", Warning)],
            ),
            // It is out of reach, which is another check's.
            (watched("2", 2, &[good, dead], Ok(())), vec![]),
        ] {
            let answers = Answers {
                masters: vec![watched.master.clone()],
                pending: Some(vec![]),
                watched: vec![watched],
                ..Answers::default()
            };
            let mut findings = Findings::default();
            answers.judge(&["m"], &mut findings);
            assert_eq!(findings.wrong(), wrong, "{answers:?}");
        }
    }

    #[test]
    fn failed_and_too_many_runs_are_told() {
        let failed = a_row("flags=scheduled retry-num=1");
        let queued = a_row("flags=scheduled retry-num=0");
        let running = a_row("flags=running retry-num=1");
        for (runs, wrong) in [
            (vec![], vec![]),
            (vec![running; 16], vec![]),
            (vec![failed], vec![("pending-scripts", Warning)]),
            (vec![queued; 17], vec![("pending-scripts", Warning)]),
        ] {
            let mut findings = Findings::default();
            judge_pending(&runs, &mut findings);
            assert_eq!(findings.wrong(), wrong);
        }
    }

    #[test]
    fn names_in_one_place_only_are_told() {
        let answers = Answers {
            masters: vec![a_row("name=other")],
            pending: None,
            ..Answers::default()
        };
        let mut findings = Findings::default();
        answers.judge(&["m"], &mut findings);
        let wrong = [
            ("monitored", Error),
            ("unconfigured", Warning),
            ("pending-scripts", Unknown),
        ];
        assert_eq!(findings.wrong(), wrong);
    }

    #[test]
    fn whatever_shape_an_answer_has_is_read() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let flat = Value::Array(vec![
            bulk("ip"),
            bulk("10.0.0.1"),
            bulk("port"),
            Value::Int(1),
            bulk("odd"),
        ]);
        let map = Value::Map(vec![
            (bulk("ip"), bulk("10.0.0.1")),
            (bulk("port"), bulk("1")),
        ]);
        for value in [flat, map] {
            assert_eq!(row(&value).endpoint(), Some(("10.0.0.1".into(), 1)));
        }
        assert!(row(&Value::Nil).endpoint().is_none());
        assert!(rows(Some(Ok(Value::Nil))).is_none() && rows(None).is_none());
        assert_eq!(info_field("a:1\r\nprocess_id:42\r\n", "process_id"), "42");
    }
}
