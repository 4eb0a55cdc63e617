//! An agent that starts while its host's Sentinel is down: it knows the others from /var/lib/vipswitch.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

/// Ends the agent and the Sentinel of server1.
fn stop_both(site: &Site) {
    site.end_agent("server1", "TERM");
    let sentinel = site.sentinel_pid("server1");
    site.signal(&sentinel, "TERM");
    site.forget("server1-sentinel");
}

/// Has the Sentinels of the other servers fail over to this one.
fn fail_over(site: &Site, heir: &str) {
    site.begin_fail_over(&M, "server3");
    eventually("the others name it", || {
        ["server2", "server3"]
            .iter()
            .all(|one| site.named_by(one, &M) == Some(heir))
    });
}

#[test]
fn an_agent_without_its_sentinel_follows_the_majority_of_the_others() {
    let site = Site::with_agents(&[M]);
    stop_both(&site);
    fail_over(&site, "server2");
    eventually("both have the VIP", || {
        site.holders(M.vip) == ["server1", "server2"]
    });
    site.launch_agent("server1");
    eventually("server1 has let go", || site.holders(M.vip) == ["server2"]);
    site.wait_for_agent("server1");
    site.seconds_pass("server1", 2.0);
    assert_eq!(site.holders(M.vip), ["server2"]);
    let known = site.agent("server1").unwrap();
    let votes = known["masters"][0]["votes"].as_array().unwrap();
    assert!(votes[0]["says"].is_null(), "{known}");
    assert_eq!(votes.len(), 3, "{known}");
}

#[test]
fn an_agent_without_its_sentinel_binds_where_the_others_name_its_redis() {
    let site = Site::with_agents(&[M]);
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
    stop_both(&site);
    fail_over(&site, "server1");
    eventually("nobody has the VIP", || site.holders(M.vip).is_empty());
    site.launch_agent("server1");
    eventually("server1 has it", || site.holders(M.vip) == ["server1"]);
    site.wait_for_agent("server1");
    site.seconds_pass("server1", 2.0);
    assert_eq!(site.holders(M.vip), ["server1"]);
}
