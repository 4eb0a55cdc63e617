//! What a check has found, what to do about it, and how that is shown. Text from outside is escaped
//! by the code that puts it into a finding.

use serde::Serialize;

use super::to_json;
use crate::exit::Fault;
use crate::text::{Ink, printable};

/// How a check came out, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be told, and why. It counts for nothing.
    Unknown,
    /// The hook works, but not in every case, or somebody will be surprised.
    Warning,
    /// The hook will not work.
    Error,
}

/// What one check has found, under the field names that docs/json.md documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable name of the check.
    pub check: &'static str,
    /// How it came out.
    pub level: Level,
    /// The master, VIP, interface, path or address that it is about; or null.
    pub about: Option<String>,
    /// What was found.
    pub text: String,
    /// What to do; or null.
    pub remedy: Option<String>,
}

/// What is wrong, or could not be told, and what to do; `None` is as it should be.
pub type Verdict = Option<(Level, String, String)>;

/// What may surprise somebody, and what to do.
pub fn warning(text: impl Into<String>, remedy: impl Into<String>) -> Verdict {
    Some((Level::Warning, text.into(), remedy.into()))
}

/// What keeps the hook from working, and what to do.
pub fn error(text: impl Into<String>, remedy: impl Into<String>) -> Verdict {
    Some((Level::Error, text.into(), remedy.into()))
}

/// What may surprise somebody, where something is so.
pub fn warning_if(is_wrong: bool, text: &str, remedy: &str) -> Verdict {
    is_wrong.then(|| warning(text, remedy)).flatten()
}

/// What keeps the hook from working, where something is so.
pub fn error_if(is_wrong: bool, text: &str, remedy: &str) -> Verdict {
    is_wrong.then(|| error(text, remedy)).flatten()
}

/// A fault that keeps the hook from working.
pub fn fault(fault: &Fault) -> Verdict {
    error(fault.cause(), fault.what_to_do().unwrap_or_default())
}

/// Why something could not be told.
pub fn unknown(why: impl Into<String>) -> Verdict {
    Some((Level::Unknown, why.into(), String::new()))
}

impl Finding {
    /// Returns whether both are unknown for the same reason, which is said once.
    fn is_unknown_like(&self, other: &Finding) -> bool {
        let key = |one: &Finding| (one.level, one.about.clone(), one.text.clone());
        self.level == Level::Unknown && key(self) == key(other)
    }

    /// Returns a line for people, the remedy on a second line.
    fn lines(&self, names: &str, colours: bool) -> String {
        let level = match self.level {
            Level::Ok => Ink::Green.paint("ok   ", colours),
            Level::Unknown => "?    ".to_owned(),
            Level::Warning => Ink::Yellow.paint("warn ", colours),
            Level::Error => Ink::Red.paint("ERROR", colours),
        };
        let about = self.about.as_ref().map(|about| printable(about) + ": ");
        let remedy = self.remedy.as_ref().map(|text| printable(text));
        let remedy = remedy.map(|text| format!("\n      {text}"));
        let (about, remedy) = (about.unwrap_or_default(), remedy.unwrap_or_default());
        let text = printable(&self.text);
        format!("{level} {names}: {about}{text}{remedy}\n")
    }
}

/// All that was found, in the order in which it was judged.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds what a check has found, once: VIPs share interfaces, and masters share Sentinels.
    pub fn add(&mut self, check: &'static str, about: impl ToString, verdict: Verdict) {
        let ok = || (Level::Ok, "as it should be".to_owned(), String::new());
        let (level, text, remedy) = verdict.unwrap_or_else(ok);
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let finding = Finding {
            check,
            level,
            about: some(about.to_string()),
            text,
            remedy: some(remedy),
        };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Returns the gravest level.
    pub fn worst(&self) -> Level {
        let levels = self.0.iter().map(|one| one.level);
        levels.max().unwrap_or(Level::Ok)
    }

    fn of(&self, least: Level) -> Vec<&Finding> {
        self.0.iter().filter(|one| one.level >= least).collect()
    }

    /// Returns the lines for people: findings of this level and above, and unless these are only
    /// what is wrong, the sums.
    pub fn text(&self, least: Level, colours: bool) -> String {
        let mut text = String::new();
        let shown = self.of(least);
        for group in shown.chunk_by(|one, next| one.is_unknown_like(next)) {
            let names: Vec<&str> = group.iter().map(|one| one.check).collect();
            text += &group[0].lines(&names.join(", "), colours);
        }
        match least {
            Level::Ok => text + &self.sums() + "\n",
            Level::Unknown => text + &self.sums() + "; --verbose shows all\n",
            Level::Warning | Level::Error => text,
        }
    }

    fn sums(&self) -> String {
        let count = |level| self.0.iter().filter(|one| one.level == level).count();
        let many = |level, word: &str| match count(level) {
            1 => format!("1 {word}"),
            number => format!("{number} {word}s"),
        };
        let unknown = match count(Level::Unknown) {
            0 => String::new(),
            number => format!(", {number} could not be told"),
        };
        let wrong = [(Level::Warning, "warning"), (Level::Error, "error")];
        let [warnings, errors] = wrong.map(|(level, word)| many(level, word));
        let ok = count(Level::Ok);
        format!("check: {ok} ok, {warnings}, {errors}{unknown}")
    }

    /// Returns one JSON object per line, of each finding of this level and above.
    pub fn json(&self, least: Level) -> String {
        let shown = self.of(least).into_iter();
        shown.map(|one| to_json(one) + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_depends_on_the_level() {
        let mut findings = Findings::default();
        findings.add("config", "", None);
        findings.add("quorum", "m", unknown("no answer"));
        findings.add("replication", "m", unknown("no answer"));
        assert_eq!(findings.text(Level::Warning, false), "");
        for _ in 0..2 {
            findings.add("log", "", warning("none\u{1b}[31m", "Do this."));
        }
        findings.add("carrier", "eth1", error("none", "Plug it in."));
        assert_eq!(findings.worst(), Level::Error);
        let ok = "ok    config: as it should be\n";
        let unknown = "?     quorum, replication: m: no answer\n";
        let wrong = "warn  log: none\\u{1b}[31m\n      Do this.\nERROR carrier: eth1: none\n      Plug it in.\n";
        let sums = "check: 1 ok, 1 warning, 1 error, 2 could not be told";
        let usual = format!("{unknown}{wrong}{sums}; --verbose shows all\n");
        let all = format!("{ok}{unknown}{wrong}{sums}\n");
        let shown = |least| findings.text(least, false);
        assert_eq!(shown(Level::Warning), wrong);
        assert_eq!((shown(Level::Unknown), shown(Level::Ok)), (usual, all));
        assert_eq!(findings.json(Level::Warning).lines().count(), 2);
        assert_eq!(findings.json(Level::Ok).lines().count(), 5);
        let coloured = findings.text(Level::Warning, true);
        assert!(coloured.starts_with("\x1b[33mwarn \x1b[m log: none\\u{1b}[31m\n"));
    }
}
