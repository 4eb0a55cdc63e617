//! When the last failover of each master was outlives the agent: a master that is killed again and again, and its
//! agent restarted, must not be failed over each time. One file for each master, in /run/vipswitch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::core::{APART, Core, Time};
use crate::config::Config;
use crate::runtime_folder::{self, About};

/// The newest failover, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Its number.
    epoch: u64,
    /// Until when no other is asked for, in milliseconds since the machine's start: a clock that nobody sets.
    quiet_until: u64,
}

/// What is kept, by master-name.
pub(super) struct LastFailovers {
    kept: RefCell<BTreeMap<String, (u64, Time)>>,
}

impl LastFailovers {
    /// Reads what an earlier agent of this host has kept, and has the core go on with it. `now` is the time in the
    /// core.
    pub(super) fn recall(config: &Config, core: &mut Core, now: Time) -> LastFailovers {
        let since_boot = since_boot();
        for name in config.masters.keys() {
            let file = runtime_folder::read::<Kept>(About::Failover, name.as_str());
            if let Some((kept, _)) = file {
                let left = Duration::from_millis(kept.quiet_until).saturating_sub(since_boot);
                let left = left.min(APART);
                core.go_on_after(name, kept.epoch, now + left);
            }
        }
        LastFailovers {
            kept: RefCell::default(),
        }
    }

    /// Keeps what is known now, where that has changed.
    pub(super) fn keep(&self, core: &Core, now: Time) {
        let mut kept = self.kept.borrow_mut();
        for master in core.masters() {
            let last = master.last_failover();
            if last.0 == 0 || kept.get(&master.name) == Some(&last) {
                continue;
            }
            let left = last.1.saturating_sub(now);
            let quiet_until = (since_boot() + left).as_millis();
            let new = Kept {
                epoch: last.0,
                quiet_until: u64::try_from(quiet_until).unwrap_or(u64::MAX),
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
