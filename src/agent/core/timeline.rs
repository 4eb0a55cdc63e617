//! When what happened in the last failover that this agent saw.

use super::Time;

/// The times; what did not happen, or not here, is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// The first sign.
    pub began: Time,
    /// The chosen replica, or why there is none.
    pub to: String,
    /// How it ended here; empty while it goes on.
    pub ended: &'static str,
    /// The Redis of this host died.
    pub died: Option<Time>,
    /// A Sentinel was asked to fail over.
    pub asked: Option<Time>,
    /// Sentinel's event was seen.
    pub event: Option<Time>,
    /// Writes were paused.
    pub paused: Option<Time>,
    /// The chosen Redis said that it is the master.
    pub role_changed: Option<Time>,
    /// The VIP was bound here.
    pub bound: Option<Time>,
    /// Its first frame went out.
    pub first_frame: Option<Time>,
    /// All was done here.
    pub settled: Option<Time>,
    /// A majority named the new master.
    pub confirmed: Option<Time>,
    /// The VIP was released here.
    pub released: Option<Time>,
    /// Writes were allowed again.
    pub unpaused: Option<Time>,
    /// How many bytes of the old master's stream the chosen replica lacked when it was promoted.
    pub bytes_behind: Option<u64>,
}

impl Timeline {
    /// Returns it in words: what happened when, in milliseconds since its first sign.
    pub fn words(&self) -> String {
        let since = |at: Time| at.saturating_sub(self.began).as_secs_f64() * 1000.0;
        let steps = [
            ("asked for", self.asked),
            ("chosen", self.event.filter(|_| self.asked.is_some())),
            ("writes paused", self.paused),
            ("it said master", self.role_changed),
            ("first frame", self.first_frame),
            ("released", self.released),
            ("writes allowed", self.unpaused),
            ("a majority named it", self.confirmed),
        ];
        let steps = steps
            .into_iter()
            .filter_map(|(what, at)| Some(format!("{what} at {:.1} ms", since(at?))));
        let steps: Vec<String> = steps.collect();
        let behind = match self.bytes_behind {
            None => String::new(),
            Some(0) => "; it had every byte".to_owned(),
            Some(bytes) => format!("; it lacked {bytes} bytes, which are lost"),
        };
        format!("failover to {}: {}{behind}", self.to, steps.join(", "))
    }

    /// Returns whether nothing more of it is to come: a majority may confirm a failover to this host before its VIP
    /// could be bound.
    pub(super) fn is_over(&self) -> bool {
        let is_to_be_bound = self.ended == "taken_over" && self.first_frame.is_none();
        !self.ended.is_empty() && !is_to_be_bound
    }

    /// Returns a timeline that begins now.
    pub(super) fn new(to: String, now: Time) -> Timeline {
        Timeline {
            began: now,
            to,
            ..Timeline::default()
        }
    }
}
