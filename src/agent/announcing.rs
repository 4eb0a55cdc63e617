//! Announces the VIPs that are here, as long as they are.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::journal::say;
use crate::deeds::announcer::resident::{Announcers, Holder, Noticed};
use crate::log::Level;
use crate::verdict::verdict;

/// Returns the announcers, which contest a claim while the core knows that the VIP belongs here.
pub(super) fn announcers(
    core: &Rc<RefCell<Core>>,
    started: Instant,
    every: Duration,
) -> Announcers {
    let core = Rc::clone(core);
    let truth = move |master: &str| {
        let known = core.borrow().evidence(master, started.elapsed());
        Holder::from(verdict(&known))
    };
    Announcers::new(truth, every, note)
}

/// Writes to the log that another host claims a VIP, once for each.
fn note(noticed: Noticed) {
    if let Noticed::Rival(vip, mac) = noticed {
        let sentence = format!("{mac} claims {vip}, too");
        tokio::task::spawn_local(async move { say(Level::Warning, &sentence).await });
    }
}
