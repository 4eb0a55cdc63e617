//! What a check has found, and its remedy. Every text from outside is escaped by whoever puts it
//! into a finding.

use serde::Serialize;

use crate::exit::Fault;
use crate::report::to_json;
use crate::text::{Ink, printable};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

/// What one check has found, under the field names that the README documents.
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

impl Finding {
    fn is_unknown_like(&self, other: &Finding) -> bool {
        let both = self.level == Level::Unknown && other.level == Level::Unknown;
        both && self.about == other.about && self.text == other.text
    }

    /// Returns a line for people, the remedy on a second one.
    fn lines(&self, names: &str, colours: bool) -> String {
        let level = match self.level {
            Level::Ok => Ink::Green.paint("ok   ", colours),
            Level::Unknown => "?    ".to_owned(),
            Level::Warning => Ink::Yellow.paint("warn ", colours),
            Level::Error => Ink::Red.paint("ERROR", colours),
        };
        let mut lines = format!("{level} {names}: ");
        if let Some(about) = &self.about {
            lines += &printable(about);
            lines += ": ";
        }
        lines += &printable(&self.text);
        if let Some(remedy) = &self.remedy {
            lines += "\n      ";
            lines += &printable(remedy);
        }
        lines + "\n"
    }
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Empty texts are none. Not generic and not inlined: it has a hundred callers.
    #[inline(never)]
    fn push(&mut self, check: &'static str, level: Level, about: &str, text: &str, remedy: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.0.push(Finding {
            check,
            level,
            about: some(about),
            text: text.to_owned(),
            remedy: some(remedy),
        });
    }

    /// Notes that a check found nothing wrong. `about` may be empty, here and below.
    pub fn ok(&mut self, check: &'static str, about: &str, text: impl AsRef<str>) {
        self.push(check, Level::Ok, about, text.as_ref(), "");
    }

    /// Notes that checks could not be made, and why.
    pub fn unknown(&mut self, checks: &[&'static str], about: &str, why: &str) {
        for check in checks {
            self.push(check, Level::Unknown, about, why, "");
        }
    }

    /// Notes what may surprise somebody, and what to do.
    pub fn warn(
        &mut self,
        check: &'static str,
        about: &str,
        text: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        self.push(check, Level::Warning, about, text.as_ref(), remedy.as_ref());
    }

    /// Notes what keeps the hook from working, and what to do.
    pub fn error(
        &mut self,
        check: &'static str,
        about: &str,
        text: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        self.push(check, Level::Error, about, text.as_ref(), remedy.as_ref());
    }

    /// Notes a fault that keeps the hook from working.
    pub fn fault(&mut self, check: &'static str, about: &str, fault: &Fault) {
        let remedy = fault.what_to_do().unwrap_or_default();
        self.push(check, Level::Error, about, fault.cause(), remedy);
    }

    /// Notes that Sentinel does not answer. Where its unit forbids the hook it cannot even start,
    /// and that has been told already.
    pub fn why_silent(&mut self, about: &str, fault: &Fault) {
        match self
            .0
            .iter()
            .any(|one| one.check == "exec-paths" && one.level == Level::Error)
        {
            true => self.unknown(
                &["sentinel"],
                about,
                "it does not answer: exec-paths tells why it does not start",
            ),
            false => self.fault("sentinel", about, fault),
        }
    }

    /// Returns whether a check has been made.
    pub fn has_any(&self, check: &str) -> bool {
        self.0.iter().any(|one| one.check == check)
    }

    /// Returns whether a check has found an error about this.
    pub fn has_error(&self, check: &str, about: &str) -> bool {
        self.0.iter().any(|one| {
            one.check == check
                && one.level == Level::Error
                && one.about.as_deref().unwrap_or_default() == about
        })
    }

    /// Returns the gravest level.
    pub fn worst(&self) -> Level {
        if self.count(Level::Error) > 0 {
            Level::Error
        } else if self.count(Level::Warning) > 0 {
            Level::Warning
        } else {
            Level::Ok
        }
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|one| one.level == level).count()
    }

    /// Returns the lines for people and their summary; only what is wrong if `quiet`.
    pub fn text(&self, quiet: bool, colours: bool) -> String {
        let grave = |one: &&Finding| matches!(one.level, Level::Warning | Level::Error);
        let shown: Vec<&Finding> = self.0.iter().filter(|one| !quiet || grave(one)).collect();
        let mut text = String::new();
        // What several checks could not tell for one reason is one line.
        for group in shown.chunk_by(|one, next| one.is_unknown_like(next)) {
            let names: Vec<&str> = group.iter().map(|one| one.check).collect();
            text += &group[0].lines(&names.join(", "), colours);
        }
        if !quiet {
            text += &format!(
                "{} ok, {} warnings, {} errors, {} could not be told\n",
                self.count(Level::Ok),
                self.count(Level::Warning),
                self.count(Level::Error),
                self.count(Level::Unknown)
            );
        }
        text
    }

    /// Returns one JSON object per finding and line; only what is wrong if `quiet`.
    pub fn json(&self, quiet: bool) -> String {
        let grave = |one: &&Finding| matches!(one.level, Level::Warning | Level::Error);
        let shown = self.0.iter().filter(|one| !quiet || grave(one));
        shown.map(|one| to_json(one) + "\n").collect()
    }

    /// Returns the names and levels of what is not as it should be, for tests.
    #[cfg(test)]
    pub fn wrong(&self) -> Vec<(&'static str, Level)> {
        let wrong = |one: &&Finding| one.level != Level::Ok;
        let named = |one: &Finding| (one.check, one.level);
        self.0.iter().filter(wrong).map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_told_counts_for_nothing_and_quiet_shows_what_is_wrong() {
        let mut findings = Findings::default();
        findings.ok("config", "", "good");
        findings.unknown(&["quorum", "replication"], "m", "Sentinel did not answer");
        assert_eq!(findings.worst(), Level::Ok);
        assert_eq!(findings.text(true, false), "");
        findings.warn("cloud", "", "a cloud\u{1b}[31m", "Do this.");
        assert_eq!(findings.worst(), Level::Warning);
        findings.error("carrier", "eth1", "none", "Plug it in.");
        assert_eq!(findings.worst(), Level::Error);
        let quiet = "warn  cloud: a cloud\\u{1b}[31m\n      Do this.\nERROR carrier: eth1: none\n      Plug it in.\n";
        assert_eq!(findings.text(true, false), quiet);
        let coloured = findings.text(true, true);
        assert!(coloured.starts_with("\x1b[33mwarn \x1b[m cloud: a cloud\\u{1b}[31m\n"));
        assert!(
            findings
                .text(false, false)
                .ends_with("1 ok, 1 warnings, 1 errors, 2 could not be told\n")
        );
        assert_eq!(findings.json(false).lines().count(), 5);
        assert!(findings.has_error("carrier", "eth1") && !findings.has_error("cloud", ""));
    }
}
