//! Announces the VIPs that are here, as long as they are.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::core::Core;
use super::say;
use super::world::World;
use crate::deeds::announcer::resident::{Announcers, Holder, Noticed};
use crate::log::Level;
use crate::verdict::verdict;

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_secs(1);

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

/// Announces, for ever.
pub(super) async fn run(world: Rc<World>) {
    loop {
        let Err(fault) = world.announcers.run().await;
        say(Level::Warning, &format!("cannot announce: {fault}")).await;
        sleep(REOPEN).await;
    }
}

/// Writes to the log that another host claims a VIP, once for each.
fn note(noticed: Noticed) {
    if let Noticed::Rival(vip, mac) = noticed {
        let sentence = format!("{mac} claims {vip}, too");
        tokio::task::spawn_local(async move { say(Level::Warning, &sentence).await });
    }
}
