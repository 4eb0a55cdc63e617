//! Connections of which nobody has said that they are over: the other end lost its power, or stands still.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

/// Whether an agent hears the events of this server's Sentinel.
fn hears(site: &Site, agent: &str, server: &str) -> bool {
    let at = crate::common::redis::address(server);
    let known = site.agent(agent).expect("the agent answers");
    let mut sentinels = known["sentinels"].as_array().unwrap().iter();
    sentinels.any(|one| one["at"].as_str().unwrap().contains(&at) && one["events"] == true)
}

#[test]
fn a_peer_that_lost_its_power_is_known_and_followed_again_when_it_is_back() {
    let site = Site::with_agents(&[M]);
    let watch = site.watch("server1");
    eventually("it is followed", || hears(&site, "server1", "server3"));
    // No packet leaves it any more, so that none says that a connection is over.
    site.kill_host("server3");
    eventually("it is known to be silent", || {
        !hears(&site, "server1", "server3")
    });
    site.power_on("server3");
    site.start_redis("server3");
    site.start_sentinel("server3");
    eventually("it is followed again", || {
        hears(&site, "server1", "server3")
    });
    site.start_agent("server3");
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    site.wait_until_well(&M, "server1");
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    let seen = site.timeline("server1");
    assert!(seen["paused"].is_number(), "{seen}");
}

#[test]
fn a_sentinel_that_stands_still_is_known_and_followed_again_when_it_goes_on() {
    let site = Site::with_agents(&[M]);
    eventually("it is followed", || hears(&site, "server1", "server3"));
    let pid = site.sentinel_pid("server3");
    site.signal(&pid, "STOP");
    eventually("it is known to be silent", || {
        !hears(&site, "server1", "server3")
    });
    site.go_on(&pid);
    eventually("it is followed again", || {
        hears(&site, "server1", "server3")
    });
    site.settles(&M, "server1");
}
