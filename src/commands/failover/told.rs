//! What an operator is told of a failover: each step as it happens, or one JSON object at the end.

use std::time::Duration;

use serde::Serialize;

use super::course::{Course, Times};
use crate::cli::Options;
use crate::commands::{level, print};
use crate::exit::{self, Exit};
use crate::log;
use crate::report::{milliseconds, pair, to_json};
use crate::text::printable;

/// All that is told, and the JSON object, as docs/json.md documents it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    /// The master-name.
    pub(super) master: String,
    /// The master when it began.
    pub(super) from: Option<String>,
    /// The new master, or which replica would be, where only one can.
    pub(super) to: Option<String>,
    /// The replicas of which one is promoted.
    pub(super) candidates: Vec<String>,
    /// The Sentinel that was asked, or would be.
    pub(super) sentinel: Option<String>,
    /// The epoch in which it was elected.
    pub(super) epoch: Option<u64>,
    /// Whether the failover was asked for.
    pub(super) asked: bool,
    /// Whether it has come to its end.
    pub(super) done: bool,
    /// What an operator is to know.
    pub(super) notes: Vec<String>,
    /// What is not right, and what to do.
    pub(super) error: Option<String>,
    /// How long the moment was waited for.
    pub(super) waited_ms: Option<f64>,
    /// When what happened.
    pub(super) timeline: Times,
    /// What the new master lacked.
    pub(super) bytes_behind: Option<u64>,
    dry_run: bool,
    /// The steps that are not told yet, with their times.
    #[serde(skip)]
    pub(super) steps: Vec<(f64, String)>,
    #[serde(skip)]
    is_shown: bool,
    #[serde(skip)]
    is_json: bool,
    /// Why nothing is told any more.
    #[serde(skip)]
    untold: Option<anyhow::Error>,
}

impl Told {
    /// Returns what is told of nothing yet.
    pub(super) fn new(master: &str, options: &Options) -> Told {
        Told {
            master: master.to_owned(),
            dry_run: options.dry_run,
            is_json: options.json,
            is_shown: !options.json && !options.quiet,
            ..Told::default()
        }
    }

    /// Tells a sentence. What cannot be told (a full disk, a reader that has stopped reading) ends no failover, and holds
    /// it up no more than once.
    pub(super) async fn say(&mut self, text: &str) {
        if self.is_shown && self.untold.is_none() {
            let line = printable(&format!("{}: {text}", self.master)) + "\n";
            self.untold = print(&line).await.err();
        }
    }

    /// Tells what an operator is to know.
    pub(super) async fn note(&mut self, note: String) {
        self.say(&format!("NOTE: {note}")).await;
        self.notes.push(note);
    }

    /// Tells the steps that happened until then, in their order.
    pub(super) async fn tell_steps(&mut self, until: f64) {
        self.steps
            .sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let due = self.steps.partition_point(|(at, _)| *at <= until);
        for (at, text) in self.steps.drain(..due).collect::<Vec<_>>() {
            self.say(&format!("+{at:.1} ms  {text}")).await;
        }
    }

    /// Notes of which replicas one is to be promoted.
    pub(super) fn note_candidates(&mut self, replicas: Vec<(String, Option<u64>)>) {
        self.candidates = replicas.into_iter().map(|(replica, _)| replica).collect();
        self.to = match self.candidates.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
    }

    /// Takes over what was seen.
    pub(super) fn take(&mut self, course: &Course) {
        self.timeline = course.times.clone();
        self.bytes_behind = course.bytes_behind;
        if let Some(to) = &course.to {
            self.to = Some(to.to_string());
        }
    }

    /// Tells the end, and writes it to the log where something was asked for.
    ///
    /// # Errors
    ///
    /// That of the failover; else what could not be told.
    pub(super) async fn end(
        &mut self,
        ended: anyhow::Result<()>,
        (options, took): (&Options, Duration),
    ) -> anyhow::Result<Exit> {
        let exit = ended.as_ref().map_or_else(exit::of, |()| Exit::Done);
        self.error = ended.as_ref().err().map(|error| format!("{error:#}"));
        if self.asked {
            let line = self.line(took, exit);
            let logged = log::line(level(exit), &line).await;
            if options.verbose && logged {
                log::stderr(&line).await;
            }
        }
        if self.is_json {
            self.untold = print(&(to_json(self) + "\n")).await.err();
        }
        match (ended, self.untold.take()) {
            (Ok(()), Some(untold)) => Err(untold),
            (ended, _) => ended.map(|()| exit),
        }
    }

    fn line(&self, took: Duration, exit: Exit) -> String {
        let mut line = String::from("failover=asked");
        pair(&mut line, "master", &self.master);
        let known = [
            ("from", &self.from),
            ("to", &self.to),
            ("sentinel", &self.sentinel),
            ("error", &self.error),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                pair(&mut line, key, value);
            }
        }
        line + &format!(
            " by=operator took_ms={:.1} exit={}",
            milliseconds(took),
            exit.code()
        )
    }
}
