//! Planned failovers beside agents, under load: no acknowledged write is lost.

use std::collections::BTreeSet;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

/// How many failovers in a row. The soak has the rest.
const IN_A_ROW: usize = 6;

/// How many writes are acknowledged before and after each.
const BETWEEN: usize = 1_000;

#[test]
fn no_acknowledged_write_is_lost_in_planned_failovers_under_load() {
    let site = Site::with_agents(&[M]);
    let writers = site.writers(&M, 4);
    let (mut master, mut behind) = ("server1", Vec::new());
    for _ in 0..IN_A_ROW {
        let heir = if master == "server1" {
            "server2"
        } else {
            "server1"
        };
        writers.wait_for(BETWEEN);
        site.wait_until_well(&M, master);
        site.fail_over(&M, heir, heir);
        eventually("the VIP has moved", || site.holders(M.vip) == [heir]);
        eventually("the old master has let go", || {
            let seen = site.timeline(master);
            seen["ended"] == "released" && seen["unpaused"].is_number()
        });
        let old = site.timeline(master);
        assert!(old["paused"].is_number(), "{old}");
        behind.push(old);
        master = heir;
    }
    writers.wait_for(BETWEEN);
    let acknowledged = writers.stop();
    site.settles(&M, master);
    let kept = site.written(&M, master);
    let keys: BTreeSet<String> = acknowledged.iter().map(|(key, _)| key.clone()).collect();
    let lost: Vec<&String> = keys.difference(&kept).collect();
    assert!(keys.len() >= BETWEEN * IN_A_ROW, "{}", keys.len());
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        keys.len()
    );
    tell(&acknowledged);
    for old in behind {
        assert_eq!(old["bytes_behind"], 0, "{old}");
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a figure that no test can hold on a busy machine"
)]
fn tell(acknowledged: &[(String, f64)]) {
    let mut times: Vec<f64> = acknowledged.iter().map(|(_, at)| *at).collect();
    times.sort_by(f64::total_cmp);
    let gap = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    let took = times[times.len() - 1] - times[0];
    let rate = times.len() as f64 / took;
    eprintln!(
        "{} writes, {rate:.0}/s, none lost, longest gap {:.0} ms",
        times.len(),
        gap * 1e3
    );
}

#[test]
fn clients_that_wait_in_a_command_are_reset_in_a_planned_failover() {
    let site = Site::with_agents(&[M]);
    let subscriber = site.blocked(&M, "SUBSCRIBE channel");
    let worker = site.blocked(&M, "BLPOP queue 0");
    let is_listed = |name: &str| {
        site.host("server1")
            .run("redis-cli", ["-p", "8000", "client", "list"])
            .contains(&format!("cmd={name}"))
    };
    eventually("both wait", || is_listed("subscribe") && is_listed("blpop"));
    assert_eq!((subscriber.ended(), worker.ended()), (None, None));
    site.fail_over(&M, "server2", "server2");
    for client in [subscriber, worker] {
        assert_eq!(client.end(), "Connection reset by peer");
    }
    site.settles(&M, "server2");
}

#[test]
fn writes_go_on_when_a_failover_comes_to_nothing() {
    let site = Site::with_agents(&[M]);
    // Sentinel asks it to be the master, and it never is.
    let chosen = site.listener("server2", M.port);
    site.host("server2").run(
        "redis-cli",
        [
            "-p",
            "8000",
            "acl",
            "setuser",
            "default",
            "-slaveof",
            "-replicaof",
        ],
    );
    let writers = site.writers(&M, 2);
    writers.wait_for(100);
    site.begin_fail_over(&M, "server3");
    eventually("the leader gives up", || {
        site.sentinel_log("server3")
            .contains("-failover-abort-slave-timeout")
    });
    writers.wait_for(100);
    let seen = site.timeline("server1");
    assert_eq!(seen["ended"], "aborted", "{seen}");
    assert!(
        seen["paused"].is_number() && seen["released"].is_null(),
        "{seen}"
    );
    assert_eq!(chosen, site.listener("server2", M.port));
    let acknowledged = writers.stop();
    site.settles(&M, "server1");
    let kept = site.written(&M, "server1");
    assert!(acknowledged.iter().all(|(key, _)| kept.contains(key)));
}
