//! This host's own connections to a VIP that was another host's until now. The RST of the last holder is dropped here, as
//! its source is an address of this host by then: a client that only listens would hang for ever.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::Semaphore;

use crate::few;
use crate::kernel::{Netlink, Snapshot, reset_these, stranded};

/// Those of all VIPs of an owner: what comes while some are reset is reset at once afterwards, as the kernel looks through
/// all sockets each time.
pub struct Stranded {
    vips: RefCell<BTreeSet<IpAddr>>,
    turn: Semaphore,
}

impl Default for Stranded {
    fn default() -> Stranded {
        Stranded {
            vips: RefCell::default(),
            turn: Semaphore::new(1),
        }
    }
}

impl Stranded {
    /// Resets those to VIPs that were bound now. What cannot be reset hangs as it would without this; `check` names a
    /// kernel that cannot.
    pub async fn reset(&self, vips: Vec<IpAddr>) {
        if vips.is_empty() {
            return;
        }
        self.vips.borrow_mut().extend(vips);
        // It is never closed, so that this does not fail.
        let _turn = self.turn.acquire().await;
        let vips: Vec<IpAddr> = self.vips.take().into_iter().collect();
        if !vips.is_empty() {
            let _ = reset(&vips).await;
        }
    }
}

/// Returns `None` where the kernel does not tell.
async fn reset(vips: &[IpAddr]) -> Option<()> {
    let mut found = stranded(vips).await.ok()?;
    if found.is_empty() {
        return Some(());
    }
    // Asked for later: a VIP that had gone again when they were found, as this waited for its turn or was stopped, is not
    // here, and they may be well with its next holder. What is found is reset and nothing else, however late.
    let netlink = Netlink::open().ok()?;
    let carriers = Snapshot::new(&netlink).carriers(vips).await.ok()?;
    let here = carriers
        .into_iter()
        .filter(|(_, carrier)| carrier.is_some());
    let here: BTreeSet<IpAddr> = few::set(here.map(|(vip, _)| vip));
    found.retain(|one| here.contains(&one.peer.ip()));
    reset_these(&found).await;
    Some(())
}
