//! When the last failover of each master was outlives the agent: a master that is killed again and again, and its
//! agent restarted, must not be failed over each time. One file for each master, in /run/vipswitch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::core::{APART, Core, LastFailover, Time};
use crate::runtime_folder::{self, About};

/// The newest failover, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Its number.
    epoch: u64,
    /// Until when no other is asked for, in milliseconds since the machine's start: a clock that nobody sets.
    quiet_until: u64,
    /// The Redis of this host that was told to follow the promoted one, while no majority has named that.
    #[serde(default)]
    follower: Option<SocketAddr>,
}

/// What is kept, by master-name.
#[derive(Default)]
pub(super) struct LastFailovers {
    kept: RefCell<BTreeMap<String, LastFailover>>,
}

/// Reads what an earlier agent of this host has kept of this master, and has the core go on with it. `now` is the time in
/// the core.
pub(super) fn recall(name: &str, core: &mut Core, now: Time) {
    let file = runtime_folder::read::<Kept>(About::Failover, name);
    if let Some((kept, _)) = file {
        let left = Duration::from_millis(kept.quiet_until).saturating_sub(since_boot());
        let last = LastFailover {
            epoch: kept.epoch,
            quiet_until: now + left.min(APART),
            // Later somebody else may have told it to follow.
            follower: kept.follower.filter(|_| !left.is_zero()),
        };
        core.go_on_after(name, last, now);
    }
}

impl LastFailovers {
    /// Keeps what is known now where what was kept is gone.
    pub(super) fn keep_anew(&self, core: &Core, now: Time) {
        self.kept.take();
        self.keep(core, now);
    }

    /// Keeps what is known now, where that has changed.
    pub(super) fn keep(&self, core: &Core, now: Time) {
        let mut kept = self.kept.borrow_mut();
        for master in core.masters() {
            let last = master.last_failover();
            let is_known = kept.get(&master.name) == Some(&last);
            if is_known || last.epoch == 0 && last.follower.is_none() {
                continue;
            }
            let left = last.quiet_until.saturating_sub(now);
            let quiet_until = (since_boot() + left).as_millis();
            let new = Kept {
                epoch: last.epoch,
                quiet_until: u64::try_from(quiet_until).unwrap_or(u64::MAX),
                follower: last.follower,
            };
            // Where it cannot be kept it ends with this agent.
            let _ = runtime_folder::write(About::Failover, master.name.as_str(), &new);
            kept.insert(master.name.clone(), last);
        }
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}
