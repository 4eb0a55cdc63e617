//! The connection to the kernel that all voices of a process ask through.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::time::Duration;

use pnet_base::MacAddr;
use tokio::time::timeout;

use super::Job;
use crate::exit::Fault;
use crate::kernel::{Netlink, Route, Snapshot};

/// How long the kernel may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The connection, and its answers about the whole host.
pub struct Kernel {
    netlink: RefCell<Rc<Netlink>>,
    own_macs: RefCell<Vec<MacAddr>>,
}

impl Kernel {
    /// Opens the connection.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn open() -> Result<Kernel, Fault> {
        let netlink = Netlink::open()?;
        let own_macs = own_macs(&netlink).await?;
        Ok(Kernel {
            netlink: RefCell::new(Rc::new(netlink)),
            own_macs: RefCell::new(own_macs),
        })
    }

    /// Returns the connection.
    pub fn netlink(&self) -> Rc<Netlink> {
        Rc::clone(&self.netlink.borrow())
    }

    /// Returns the hardware addresses of this host: Linux answers for its addresses on every
    /// interface (arp_ignore 0), which is not a rival's claim.
    pub fn own_macs(&self) -> Ref<'_, Vec<MacAddr>> {
        self.own_macs.borrow()
    }

    /// Lists the hardware addresses of this host anew. If that fails the old list stays.
    pub async fn refresh_own_macs(&self) {
        if let Ok(macs) = in_time(own_macs(&self.netlink())).await {
            self.own_macs.replace(macs);
        }
    }

    /// Returns whether the job's VIP is still on its interface. A connection that broke is opened
    /// anew.
    ///
    /// # Errors
    ///
    /// A netlink fault.
    pub async fn has(&self, job: &Job) -> Result<bool, Fault> {
        let netlink = self.netlink();
        let seen = in_time(has(&netlink, job)).await;
        if seen.is_ok() {
            return seen;
        }
        self.replace(&netlink)?;
        in_time(has(&self.netlink(), job)).await
    }

    /// Opens another connection in place of a broken one, unless another voice has done so.
    fn replace(&self, broken: &Rc<Netlink>) -> Result<(), Fault> {
        if Rc::ptr_eq(broken, &self.netlink()) {
            self.netlink.replace(Rc::new(Netlink::open()?));
        }
        Ok(())
    }
}

/// Waits for an answer of the kernel, a second at most.
///
/// # Errors
///
/// A netlink fault, or no answer.
pub async fn in_time<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let nothing = || Err(Fault::passing("the kernel does not answer"));
    timeout(ANSWER, answer).await.unwrap_or_else(|_| nothing())
}

async fn has(netlink: &Netlink, job: &Job) -> Result<bool, Fault> {
    let vip = job.vip.address;
    if netlink.route(vip).await? == Route::Local(job.ifindex) {
        return Ok(true);
    }
    let bindings = Snapshot::new(netlink).bindings(vip).await?;
    Ok(bindings
        .iter()
        .any(|binding| binding.ifindex == job.ifindex))
}

async fn own_macs(netlink: &Netlink) -> Result<Vec<MacAddr>, Fault> {
    let links = netlink.links().await?;
    Ok(links.iter().filter_map(|link| link.mac).collect())
}
