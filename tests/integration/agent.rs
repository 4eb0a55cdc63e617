//! The agent on real Redis and Sentinels: it takes over in the moment of the promotion, loses nothing when planned,
//! and converges whatever happens.

use crate::common::redis::{MASTER_8000, Site};

#[test]
fn the_vip_follows_a_planned_failover_without_any_hook() {
    let site = Site::with_agents(&[MASTER_8000]);
    site.fail_over(&MASTER_8000, "server3", "server2");
    site.check_in_use(&MASTER_8000, "server2");
    eprintln!("{:#?}\n{:#?}", site.agent("server1"), site.agent("server2"));
    eprintln!("{:#?}", site.log());
    panic!();
}

#[test]
fn the_vip_follows_when_the_master_is_killed_without_any_hook() {
    let site = Site::with_agents(&[MASTER_8000]);
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_in_use(&MASTER_8000, "server2");
    eprintln!("{:#?}", site.log());
    panic!();
}
