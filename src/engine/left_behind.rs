//! Whether VIPs that are not here have left connections behind: sockets of a run that was killed between the
//! removal and its end. The kernel looks through all sockets of the host for each question, so it is asked once
//! about all VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::OnceCell;

use crate::kernel::connections;

/// The VIPs that may have, and which have.
pub struct LeftBehind {
    vips: Vec<IpAddr>,
    found: OnceCell<BTreeSet<IpAddr>>,
}

impl LeftBehind {
    /// Returns these VIPs, about which nothing was asked yet.
    pub fn by(vips: Vec<IpAddr>) -> LeftBehind {
        LeftBehind {
            vips,
            found: OnceCell::new(),
        }
    }

    /// Returns whether a VIP has. What was found at first counts, unless it is to be asked `anew`.
    pub async fn has(&self, vip: IpAddr, anew: bool) -> bool {
        if anew || !self.vips.contains(&vip) {
            return find(&[vip]).await.contains(&vip);
        }
        let found = self.found.get_or_init(|| find(&self.vips)).await;
        found.contains(&vip)
    }
}

/// A list that cannot be had is empty: the next run asks again.
async fn find(vips: &[IpAddr]) -> BTreeSet<IpAddr> {
    let all = connections(vips).await.unwrap_or_default();
    all.iter().map(|connection| connection.local.ip()).collect()
}
