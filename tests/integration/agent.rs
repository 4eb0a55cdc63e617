//! The agent on real Redis and Sentinels, without any hook: whatever dies, in the end one host holds the VIP, the one
//! that the Sentinels name.

use crate::common::redis::{MASTER_8000, SERVERS, Site};
use crate::common::{PATIENCE, eventually, wait_for};

const M: crate::common::redis::Master = MASTER_8000;

/// A number from the machine's source of chance.
fn chance(below: usize) -> usize {
    use std::hash::BuildHasher as _;
    let number = std::hash::RandomState::new().hash_one(());
    usize::try_from(number % below as u64).unwrap()
}

#[test]
fn the_vip_follows_a_planned_failover_and_the_failover_back() {
    let site = Site::with_agents(&[M]);
    site.fail_over(&M, "server1", "server2");
    site.settles(&M, "server2");
    // The agent of the new master saw the leader's event, and did not wait for the majority.
    eventually("the failover is confirmed", || {
        site.timeline("server2")["ended"] == "taken_over"
    });
    let seen = site.timeline("server2");
    assert!(
        seen["event"].is_number() && seen["role_changed"].is_number(),
        "{seen}"
    );
    assert!(
        seen["first_frame"].as_f64().unwrap() < seen["confirmed"].as_f64().unwrap(),
        "{seen}"
    );
    site.wait_until_well(&M, "server2");
    site.fail_over(&M, "server2", "server1");
    site.settles(&M, "server1");
}

#[test]
fn the_vip_follows_when_the_masters_process_is_killed() {
    let site = Site::with_agents(&[M]);
    site.kill(&M, "server1", "server2");
    site.settles(&M, "server2");
    // It comes back as a master, and knows nothing of the other one yet.
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", "server2");
    site.settles(&M, "server2");
}

#[test]
fn the_vip_follows_when_the_masters_host_dies_and_stays_when_it_is_back() {
    let site = Site::with_agents(&[M]);
    site.down_after(2_000);
    site.kill_host("server1");
    let moved = || (site.holders(M.vip).contains(&"server2")).then_some(());
    assert!(wait_for(PATIENCE, moved).is_some(), "{:#?}", site.log());
    eventually("the others name server2", || {
        ["server2", "server3"]
            .iter()
            .all(|one| site.named_by(one, &M) == Some("server2"))
    });
    site.never_down_of(&["server2", "server3"]);
    site.power_on("server1");
    site.start_redis("server1");
    site.start_sentinel("server1");
    site.launch_agent("server1");
    site.settles(&M, "server2");
    site.wait_for_agent("server1");
}

#[test]
fn all_hosts_may_boot_in_any_order() {
    let site = Site::with_agents(&[M]);
    for server in SERVERS {
        site.kill_host(server);
    }
    let mut left = SERVERS.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        let server = left.remove(chance(left.len()));
        order.push(server);
        site.power_on(server);
        // Any of its three services may be the first one.
        let first = chance(3);
        for service in (first..first + 3).map(|service| service % 3) {
            match service {
                0 => site.start_redis(server),
                1 => site.start_sentinel(server),
                _ => site.launch_agent(server),
            }
        }
    }
    let holder = site.settles_anywhere(&M);
    assert_eq!(
        holder, "server1",
        "nothing has failed over: booted {order:?}"
    );
}

#[test]
fn a_second_failover_may_come_before_the_first_is_known_everywhere() {
    let site = Site::with_agents(&[M]);
    site.down_after(2_000);
    site.begin_fail_over(&M, "server3");
    eventually("server2 is promoted", || {
        site.role(&M, "server2").as_deref() == Some("master")
    });
    // It dies at once: the other one that may be master is the old one.
    let pid = site.listener("server2", M.port);
    site.signal(&pid, "KILL");
    site.forget("server2-8000");
    site.settles(&M, "server1");
    site.restart(&M, "server2");
    site.wait_until_follows(&M, "server2", "server1");
    site.settles(&M, "server1");
}

#[test]
fn a_leader_may_die_between_the_promotion_and_its_word() {
    let site = Site::with_agents(&[M]);
    let leader = site.sentinel_pid("server3");
    site.begin_fail_over(&M, "server3");
    eventually("server2 is promoted", || {
        site.role(&M, "server2").as_deref() == Some("master")
    });
    site.signal(&leader, "KILL");
    site.forget("server3-sentinel");
    // Nobody may ever be told of the promotion; then the others make its Redis a replica again.
    site.start_sentinel("server3");
    site.settles_anywhere(&M);
}

#[test]
fn one_sentinel_that_lies_moves_nothing() {
    let site = Site::with_agents(&[M]);
    let watches = SERVERS.map(|server| site.watch(server));
    // The local one of the host of the master is believed no more than the others.
    site.monitor_anew("server1", &M, "server3");
    eventually("it lies", || {
        site.named_by("server1", &M) == Some("server3")
    });
    SERVERS
        .iter()
        .for_each(|server| site.seconds_pass(server, 3.0));
    for watch in watches {
        let events = watch.events(M.vip);
        assert!(events.is_empty(), "{events:#?}");
    }
}
