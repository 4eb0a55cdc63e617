//! Announces the VIPs that are here, as long as they are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_local};

use crate::config::Config;
use crate::deeds::announcer::schedule::Schedule;
use crate::deeds::announcer::{self, Job, LIFE};

/// What an announcer has done.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Frames sent.
    pub frames: usize,
    /// Others that claim the VIP.
    pub rivals: Vec<String>,
    /// How often.
    pub claims: u64,
}

/// The announcers of this agent.
pub struct Announcers {
    config: Rc<Config>,
    tasks: RefCell<BTreeMap<IpAddr, AbortHandle>>,
}

impl Announcers {
    /// Returns none yet.
    pub fn new(config: Rc<Config>, _every: Duration) -> Announcers {
        Announcers {
            config,
            tasks: RefCell::default(),
        }
    }

    /// Returns whether a VIP has one.
    pub fn has(&self, vip: IpAddr) -> bool {
        self.tasks.borrow().contains_key(&vip)
    }

    /// Announces from now on.
    pub fn announce(&self, job: Job) {
        let config = Rc::clone(&self.config);
        let vip = job.vip.address;
        let task = spawn_local(async move {
            announcer::work(&[job], &Schedule::new(LIFE), Some(&config), async |_, _| {}).await
        });
        self.tasks.borrow_mut().insert(vip, task.abort_handle());
    }

    /// Is silent from now on.
    pub fn stop(&self, vip: IpAddr) {
        if let Some(task) = self.tasks.borrow_mut().remove(&vip) {
            task.abort();
        }
    }

    /// Announces once more.
    pub fn again(&self, _vip: IpAddr) {}

    /// Returns what was done.
    pub fn summary(&self, _vip: IpAddr) -> Option<Heard> {
        None
    }
}
