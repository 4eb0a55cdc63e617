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
    /// Sentinel's event was seen.
    pub event: Option<Time>,
    /// Writes were paused.
    pub paused: Option<Time>,
    /// The chosen Redis said that it is the master.
    pub role_changed: Option<Time>,
    /// The VIP was bound here and its first frame went out.
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
    /// Returns a timeline that begins now.
    pub(super) fn new(to: String, now: Time) -> Timeline {
        Timeline {
            began: now,
            to,
            ..Timeline::default()
        }
    }
}
