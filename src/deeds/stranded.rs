//! This host's own connections to a VIP that was another host's until now. The RST of the last holder is dropped here, as
//! its source is an address of this host by then: a client that only listens would hang for ever.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::Semaphore;

use crate::kernel::reset_stranded;

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
            let _ = reset_stranded(&vips).await;
        }
    }
}
