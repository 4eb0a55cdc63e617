//! Maintenance outlives the agent: an upgrade must not end it. One file for each master, in /run/vipswitch; none
//! outlives a reboot. Its end is kept as a time of day, which is what an operator gave.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::core::{Core, Time};
use crate::few;
use crate::runtime_folder::{self, About};

/// Maintenance, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// When it ends, in milliseconds since 1970; `None` where only an operator ends it.
    until: Option<u64>,
}

/// What is kept, by master-name.
#[derive(Default)]
pub(super) struct Maintenance {
    /// Until when, as the core has it, which is what is compared.
    kept: RefCell<BTreeMap<String, Time>>,
    /// Why the newest could not be kept, by master-name.
    unkept: RefCell<BTreeMap<String, String>>,
}

impl Maintenance {
    /// Reads what an earlier agent of this host has kept of this master, and has the core go on with it.
    pub(super) fn recall(&self, name: &str, core: &mut Core, now: Time) {
        let Some((kept, _)) = runtime_folder::read::<Kept>(About::Maintenance, name) else {
            return;
        };
        // A maintenance that is over by now is ended, and its file removed, by the first look at it.
        let until = kept.until.map_or(Time::MAX, |until| now + left(until));
        core.go_on_maintaining(name, until);
        self.kept.borrow_mut().insert(name.to_owned(), until);
    }

    /// Keeps what holds now, and nothing else.
    pub(super) fn keep(&self, core: &Core, now: Time) {
        let masters = core.masters();
        let held = masters.filter_map(|one| Some((one.name.clone(), one.maintenance?)));
        let held: BTreeMap<String, Time> = few::map(held);
        let mut before = self.kept.borrow_mut();
        if *before == held {
            return;
        }
        for master in core.masters() {
            let name = &master.name;
            match (before.get(name), held.get(name)) {
                (Some(_), None) => {
                    self.unkept.borrow_mut().remove(name);
                    runtime_folder::remove(About::Maintenance, name.as_str());
                }
                (old, Some(until)) if old != Some(until) => {
                    let until = (*until < Time::MAX).then(|| end(until.saturating_sub(now)));
                    // Where it cannot be kept it ends with this agent, and the asker is told so.
                    let kept = Kept { until };
                    let written = runtime_folder::write(About::Maintenance, name.as_str(), &kept);
                    let mut unkept = self.unkept.borrow_mut();
                    unkept.remove(name);
                    unkept.extend(written.err().map(|error| (name.clone(), error.to_string())));
                }
                _ => {}
            }
        }
        *before = held;
    }
}

impl Maintenance {
    /// Keeps what holds now where what was kept is gone.
    pub(super) fn keep_anew(&self, core: &Core, now: Time) {
        self.kept.take();
        self.keep(core, now);
    }

    /// Returns why the maintenance of this master ends with this agent, if it does.
    pub(super) fn why_unkept(&self, name: &str) -> Option<String> {
        self.unkept.borrow().get(name).cloned()
    }
}

/// Returns how long it is until then, in milliseconds since 1970.
fn left(until: u64) -> Duration {
    let until = UNIX_EPOCH + Duration::from_millis(until);
    until.duration_since(SystemTime::now()).unwrap_or_default()
}

fn end(left: Duration) -> u64 {
    let end = (SystemTime::now() + left).duration_since(UNIX_EPOCH);
    u64::try_from(end.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
