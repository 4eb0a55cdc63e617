//! What is printed at the end: a row for each kind of scenario.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::history::Judged;
use crate::kinds::Kind;
use crate::writer::Written;

/// One scenario that is over.
#[derive(Clone, Debug)]
pub struct Row {
    /// What happened.
    pub kind: Kind,
    /// What the servers did.
    pub judged: Judged,
    /// What became of the writes.
    pub written: Written,
    /// Whether a Redis was taken for down.
    pub is_down: bool,
    /// How much of it must not be.
    pub violations: usize,
}

/// All that are over.
#[derive(Default)]
pub struct Table(BTreeMap<Kind, Vec<Row>>);

impl Table {
    /// Adds a scenario.
    pub fn add(&mut self, row: Row) {
        self.0.entry(row.kind).or_default().push(row);
    }

    /// Returns it as text.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "| scenario | number | settled after, ms, median / max | outage, ms, median / max | writes acknowledged \
             | lost | two holders, ms, max | writes held, ms, max | Redis taken for down | violations |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (kind, rows) in &self.0 {
            line(&mut text, kind.name(), rows);
        }
        let all: Vec<Row> = self.0.values().flatten().cloned().collect();
        line(&mut text, "all", &all);
        text
    }
}

fn line(text: &mut String, name: &str, rows: &[Row]) {
    let most = |time: fn(&Row) -> Duration| {
        let times = rows.iter().map(time);
        times.max().unwrap_or_default().as_millis()
    };
    let sum = |number: fn(&Row) -> u64| rows.iter().map(number).sum::<u64>();
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        rows.len(),
        spread(rows, |row| row.judged.unsettled),
        spread(rows, |row| row.written.outage),
        sum(|row| row.written.acked),
        sum(|row| row.written.lost),
        most(|row| row.judged.two_holders),
        most(|row| row.judged.held),
        sum(|row| u64::from(row.is_down)),
        sum(|row| row.violations as u64),
    );
}

fn spread(rows: &[Row], time: fn(&Row) -> Duration) -> String {
    let mut times: Vec<u128> = rows.iter().map(|row| time(row).as_millis()).collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("{median} / {}", times.last().copied().unwrap_or_default())
}
