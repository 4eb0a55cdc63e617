//! The master's Redis dies, and the agent of its host has the failover begun at once.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

/// Long enough that a failover within the patience of a test was asked for.
fn with_slow_sentinels() -> Site {
    let site = Site::with_agents(&[M]);
    site.down_after(300_000);
    eventually("the agents know that", || site.agent("server1").is_some());
    site
}

#[test]
fn a_sentinel_fails_over_long_before_it_would_by_itself() {
    let site = with_slow_sentinels();
    let pid = site.listener("server1", M.port);
    site.signal(&pid, "KILL");
    let heir = || {
        let mut others = ["server2", "server3"].into_iter();
        others.find(|server| site.role(&M, server).as_deref() == Some("master"))
    };
    eventually("another Redis is the master", || heir().is_some());
    site.settles(&M, heir().unwrap());
}
