//! What a VIP's last announcer has done: a small file that the announcer leaves for `status` where
//! it may write one.

use std::net::IpAddr;
use std::time::Duration;

use super::Summary;
use crate::runtime_folder::{self, About};

/// Writes down what an announcer has done. A failure to write is not reported: only `status` misses it.
pub fn write(vip: IpAddr, summary: &Summary) {
    let _ = runtime_folder::write(About::Announcer, vip, summary);
}

/// Takes back what is written down of a VIP.
pub fn remove(vip: IpAddr) {
    runtime_folder::remove(About::Announcer, vip);
}

/// Returns what a VIP's last announcer has done, and how long ago, if that is known.
pub fn read(vip: IpAddr) -> Option<(Summary, Duration)> {
    runtime_folder::read(About::Announcer, vip)
}
