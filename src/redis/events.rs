//! What Sentinel publishes about its masters. `slave NAME IP PORT @ MASTER MASTER-IP MASTER-PORT`
//! (sentinelEvent in sentinel.c); a name with spaces cannot be monitored. Anybody who may publish on a Sentinel could
//! forge one: an event is a reason to look, and to be ready, never a proof.

use super::MasterAddress;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The master-name.
    pub master: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The leader has chosen this replica, and promotes it now: `+selected-slave`,
    /// `+failover-state-send-slaveof-noone`, `+failover-state-wait-promotion`.
    Promotes(MasterAddress),
    /// This replica was promoted: `+promoted-slave`.
    Promoted(MasterAddress),
    /// The master is here now: `+switch-master`.
    Switched(MasterAddress),
    /// The failover was given up: `-failover-abort-…`.
    Aborted,
    /// Something else that can change an answer: `+odown`, `+sentinel`, `+slave`, `+reset-master` and others.
    Changed,
}
