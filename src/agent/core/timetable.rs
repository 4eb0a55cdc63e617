//! When each master is due, and of which something goes on: an event is to cost what it is about, not as much as there
//! are masters.

use std::collections::{BTreeMap, BTreeSet};

use super::Time;

/// What the masters wait for.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    by_time: BTreeSet<(Time, String)>,
    by_name: BTreeMap<String, Time>,
    restless: BTreeSet<String>,
}

impl Timetable {
    /// Notes when a master is due, if it is, and whether something goes on.
    pub(super) fn note(&mut self, name: &str, due: Option<Time>, is_restless: bool) {
        if let Some(before) = self.by_name.remove(name) {
            self.by_time.remove(&(before, name.to_owned()));
        }
        if let Some(due) = due {
            self.by_name.insert(name.to_owned(), due);
            self.by_time.insert((due, name.to_owned()));
        }
        if !is_restless {
            self.restless.remove(name);
        } else if !self.restless.contains(name) {
            self.restless.insert(name.to_owned());
        }
    }

    /// Returns the masters that are due.
    pub(super) fn due(&self, now: Time) -> impl Iterator<Item = &String> {
        let all = self.by_time.iter();
        all.take_while(move |(at, _)| *at <= now)
            .map(|(_, name)| name)
    }

    /// Returns when the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Returns the masters of which something goes on.
    pub(super) fn restless(&self) -> &BTreeSet<String> {
        &self.restless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_has_one_time_the_newest() {
        let mut table = Timetable::default();
        let at = Time::from_secs;
        table.note("a", Some(at(3)), true);
        table.note("b", Some(at(2)), false);
        table.note("a", Some(at(5)), false);
        assert_eq!(table.next(), Some(at(2)));
        assert_eq!(table.due(at(4)).collect::<Vec<_>>(), ["b"]);
        assert!(table.restless().is_empty());
        table.note("b", None, true);
        assert_eq!(table.next(), Some(at(5)));
        assert!(table.restless().contains("b"));
    }
}
