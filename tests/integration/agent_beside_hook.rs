//! The agent beside the hook, and agents on some hosts only.

use crate::common::redis::{MASTER_8000, Master, Site};
use crate::common::{eventually, executable};

const M: Master = MASTER_8000;

/// A planned failover, the way back, and a kill.
fn follows(site: &Site) {
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
    site.fail_over(&M, "server2", "server1");
    site.settles(&M, "server1");
    site.wait_until_well(&M, "server1");
    site.kill(&M, "server1", "server2");
    site.settles(&M, "server2");
    site.wait_until_no_run_is_left();
}

#[test]
fn agents_and_hooks_on_all_hosts_move_the_vip_together() {
    let site = Site::with_agents_on(&["server1", "server2", "server3"], &executable());
    follows(&site);
    eventually("hooks were answered by agents", || {
        site.log().iter().any(|line| line.contains("by=agent"))
    });
}

#[test]
fn an_agent_on_the_first_host_and_hooks_on_the_others() {
    follows(&Site::with_agents_on(&["server1"], &executable()));
}

#[test]
fn an_agent_on_the_second_host_and_hooks_on_the_others() {
    follows(&Site::with_agents_on(&["server2"], &executable()));
}

#[test]
fn an_agent_that_hangs_does_not_keep_the_hook_from_its_work() {
    let site = Site::with_agents_on(&["server1", "server2", "server3"], &executable());
    let pids = ["server1", "server2"].map(|server| site.agent_pid(server));
    pids.iter().for_each(|pid| site.signal(pid, "STOP"));
    site.fail_over(&M, "server3", "server2");
    eventually("the hooks have moved the VIP", || {
        site.holders(M.vip) == ["server2"]
    });
    pids.iter().for_each(|pid| site.go_on(pid));
    site.settles(&M, "server2");
}
