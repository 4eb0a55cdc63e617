//! The further announcements of a run, and its VIPs' clients that are still to be told: each is left to one
//! process of its own, which is started as soon as no attempt is going on, or a moment after the first VIP
//! needs it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::deeds::announcer::{self, Job};
use crate::deeds::tickle;
use crate::exit::Fault;

/// How long the jobs of one task wait for those of others. The announcer's first round is due 100 ms after the
/// take-over.
const MOMENT: Duration = Duration::from_millis(50);

/// What is still to be handed to an announcer.
#[derive(Default)]
pub(super) struct Announcements {
    /// The file with the configuration, in which the announcer finds whom to ask what is true.
    configuration: PathBuf,
    jobs: RefCell<Vec<Job>>,
    left_behind: RefCell<Vec<tickle::Job>>,
    /// How many attempts are going on.
    attempts: Cell<usize>,
    came: Notify,
    /// Why an announcer could not be started while no attempt had ended.
    pub failed: RefCell<Option<Fault>>,
    /// The VIPs whose announcers ask neighbours, with their interfaces' numbers.
    pub asking: RefCell<Vec<(IpAddr, u32)>>,
}

impl Announcements {
    /// Returns that nothing is to be handed on. The announcers find in `configuration` whom to ask what is true.
    pub fn new(configuration: &Path) -> Announcements {
        Announcements {
            configuration: configuration.to_owned(),
            ..Announcements::default()
        }
    }

    /// Notes that an attempt begins.
    pub fn begin(&self) {
        self.attempts.set(self.attempts.get() + 1);
    }

    /// Takes the jobs of an attempt that has ended.
    ///
    /// # Errors
    ///
    /// A process that cannot be started.
    pub fn end(&self, jobs: Vec<Job>, left_behind: Vec<tickle::Job>) -> Result<(), Fault> {
        self.attempts.set(self.attempts.get().saturating_sub(1));
        self.jobs.borrow_mut().extend(jobs);
        self.left_behind.borrow_mut().extend(left_behind);
        match self.attempts.get() {
            0 => self.detach(),
            _ => {
                self.came.notify_one();
                Ok(())
            }
        }
    }

    /// Waits for the end of the work, and starts announcers meanwhile.
    pub async fn while_at_work(&self, work: impl Future<Output = ()>) {
        let collect = async {
            loop {
                self.came.notified().await;
                sleep(MOMENT).await;
                if let Err(fault) = self.detach() {
                    self.failed.replace(Some(fault));
                }
            }
        };
        match select(pin!(work), pin!(collect)).await {
            Either::Left(((), _)) => {}
            Either::Right((never, _)) => never,
        }
    }

    fn detach(&self) -> Result<(), Fault> {
        let left_behind = tickle::detach(&self.left_behind.take());
        let jobs = self.jobs.take();
        if jobs.is_empty() {
            return left_behind;
        }
        announcer::detach(&jobs, &self.configuration)?;
        let asking = jobs.iter().filter(|job| !job.peers.is_empty());
        let asking = asking.map(|job| (job.vip.address, job.ifindex));
        self.asking.borrow_mut().extend(asking);
        left_behind
    }
}
