//! The site's own commands of each master: whether they run, how many have not succeeded, and which of these is required.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::exit::Fault;

/// Those of every master, by master-name.
#[derive(Default)]
pub(super) struct CommandsOf {
    all: Rc<RefCell<BTreeMap<String, Commands>>>,
}

/// Those of one master.
#[derive(Default)]
struct Commands {
    /// How many attempts are at it.
    running: usize,
    /// How many have not succeeded.
    pending: usize,
    /// Why a required one has not.
    required: Option<Fault>,
}

/// An attempt that runs commands, until it is dropped.
pub(super) struct Running {
    all: Rc<RefCell<BTreeMap<String, Commands>>>,
    name: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(one) = self.all.borrow_mut().get_mut(&self.name) {
            one.running = one.running.saturating_sub(1);
        }
    }
}

impl CommandsOf {
    /// Notes that an attempt is about to run those of a master.
    pub(super) fn begin(&self, name: &str) -> Running {
        let mut all = self.all.borrow_mut();
        all.entry(name.to_owned()).or_default().running += 1;
        Running {
            all: Rc::clone(&self.all),
            name: name.to_owned(),
        }
    }

    /// Notes how those of a master ended: how many have failed, and why a required one has.
    pub(super) fn ended(&self, name: &str, pending: usize, required: Option<Fault>) {
        let mut all = self.all.borrow_mut();
        let one = all.entry(name.to_owned()).or_default();
        (one.pending, one.required) = (pending, required);
    }

    /// Forgets a master.
    pub(super) fn forget(&self, name: &str) {
        self.all.borrow_mut().remove(name);
    }

    /// Returns how many have not succeeded.
    pub(super) fn pending(&self) -> usize {
        self.all.borrow().values().map(|one| one.pending).sum()
    }

    /// Returns whether an attempt is at those of a master.
    pub(super) fn are_running(&self, name: &str) -> bool {
        let all = self.all.borrow();
        all.get(name).is_some_and(|one| one.running > 0)
    }

    /// Returns why a required one of a master has not succeeded, if there is one.
    pub(super) fn required(&self, name: &str) -> Option<Fault> {
        self.all.borrow().get(name)?.required.clone()
    }
}
