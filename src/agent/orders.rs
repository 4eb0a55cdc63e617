//! An operator's orders against the truth outlive the agent: an upgrade must not end them. One file for each master, in
//! /run/vipswitch; no order outlives a reboot.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::core::Core;
use crate::evidence::Order;
use crate::few;
use crate::runtime_folder::{self, About};

/// An order, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Whether the VIP is to be here.
    bind: bool,
    /// The newest failover when it was given.
    epoch: u64,
}

/// The orders that are kept, by master-name.
#[derive(Default)]
pub(super) struct Orders {
    kept: RefCell<BTreeMap<String, Kept>>,
    /// Why the newest could not be kept, by master-name.
    unkept: RefCell<BTreeMap<String, String>>,
}

impl Orders {
    /// Reads the order about this master that an earlier agent of this host has kept, and has the core go on with it.
    pub(super) fn recall(&self, name: &str, core: &mut Core) {
        let Some((kept, _)) = runtime_folder::read::<Kept>(About::Order, name) else {
            return;
        };
        let order = if kept.bind {
            Order::Bind
        } else {
            Order::Unbind
        };
        core.go_on_with(name, order, kept.epoch);
        self.kept.borrow_mut().insert(name.to_owned(), kept);
    }

    /// Keeps the orders that hold now, and no other.
    pub(super) fn keep(&self, core: &Core) {
        let now = core.masters().filter_map(|master| {
            let (order, epoch) = master.forced()?;
            let bind = order == Order::Bind;
            Some((master.name.clone(), Kept { bind, epoch }))
        });
        let now: BTreeMap<String, Kept> = few::map(now);
        let mut before = self.kept.borrow_mut();
        if *before == now {
            return;
        }
        for master in core.masters() {
            let name = &master.name;
            match (before.get(name), now.get(name)) {
                (Some(_), None) => {
                    self.unkept.borrow_mut().remove(name);
                    runtime_folder::remove(About::Order, name.as_str());
                }
                (old, Some(new)) if old != Some(new) => {
                    // Where it cannot be kept it ends with this agent, and the asker is told so.
                    let written = runtime_folder::write(About::Order, name.as_str(), new);
                    let mut unkept = self.unkept.borrow_mut();
                    unkept.remove(name);
                    unkept.extend(written.err().map(|error| (name.clone(), error.to_string())));
                }
                _ => {}
            }
        }
        *before = now;
    }
}

impl Orders {
    /// Keeps the orders that hold now where those that were kept are gone.
    pub(super) fn keep_anew(&self, core: &Core) {
        self.kept.take();
        self.keep(core);
    }

    /// Returns why the order about this master ends with this agent, if it does.
    pub(super) fn why_unkept(&self, name: &str) -> Option<String> {
        self.unkept.borrow().get(name).cloned()
    }
}
