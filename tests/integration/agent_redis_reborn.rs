//! A master's Redis that dies and is started again at once, with old data or none, as systemd does: nobody reaches it
//! through the VIP, and nothing is lost that a replica had.

use std::time::Duration;

use crate::common::eventually;
use crate::common::redis::deaths::{KEYS, Keeps, NEVER};
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};

const M: Master = MASTER_8000;

/// How many writes are acknowledged before and after.
const BETWEEN: usize = 300;

/// How often a death is tried that a busy machine leaves to Sentinel.
const TRIES: usize = 5;

/// A master that is back so long after its death.
fn reborn(keeps: Keeps, after: u64) {
    let is_shown = (0..TRIES).any(|_| is_reborn(keeps, after));
    assert!(is_shown, "no Sentinel was asked in {TRIES} sites");
}

/// Returns false where Sentinel was left to decide.
fn is_reborn(keeps: Keeps, after: u64) -> bool {
    let site = Site::with_agents(&[M]);
    site.send_late(&M, "server1");
    site.fill(&M, "server1", keeps);
    let ids = ["server1", "server2"].map(|server| site.run_id(&M, server).unwrap());
    let writers = site.writers(&M, 2);
    writers.wait_for(BETWEEN);
    site.kill_and_restart(&M, "server1", Duration::from_millis(after));
    if !site.was_asked() {
        return false;
    }
    site.settles(&M, "server2");
    writers.wait_for(BETWEEN);
    // Sentinel makes it a replica.
    site.wait_until_follows(&M, "server1", "server2");
    site.wait_until_follows(&M, "server3", "server2");
    let writes = writers.finish();
    site.settles(&M, "server2");
    let late = site.after_the_release("server1", &ids, &writes);
    assert!(late.is_empty(), "{} by the reborn", late.len());
    let kept = site.written(&M, "server2");
    let base = kept.iter().filter(|key| key.starts_with("wbase")).count();
    assert_eq!(base, KEYS, "keys that all replicas had");
    let by_heir = writes.iter().filter(|write| write.by == ids[1]);
    let lost: Vec<_> = by_heir.filter(|write| !kept.contains(&write.key)).collect();
    assert!(lost.is_empty(), "{} writes of the new master", lost.len());
    assert_eq!(site.promotions(), 1);
    for replica in ["server1", "server3"] {
        eventually("all have the same keys", || {
            site.written(&M, replica) == site.written(&M, "server2")
        });
    }
    true
}

#[test]
fn a_master_that_is_back_after_50_ms_without_data_empties_nobody() {
    reborn(Keeps::Nothing, 50);
}

#[test]
fn a_master_that_is_back_after_100_ms_with_a_snapshot_takes_nobody_back() {
    reborn(Keeps::Snapshot, 100);
}

#[test]
fn a_master_that_is_back_after_300_ms_with_its_log_is_a_replica() {
    reborn(Keeps::Log, 300);
}

/// The VIP goes before all else, so that neither a Sentinel was asked nor the Redis is back by then. Each try is a death that
/// a busy machine may spoil, where the agent gets its turn too late.
#[test]
fn no_write_reaches_a_master_that_is_back_after_10_ms() {
    let mut tries = Vec::new();
    while !tries.contains(&Some(Reborn {
        released_first: true,
        writes: 0,
    })) {
        assert!(tries.len() < TRIES, "{tries:?}");
        tries.push(back_at_once());
    }
}

/// What came of a death.
#[derive(Debug, PartialEq)]
struct Reborn {
    /// Whether the VIP was released before a Sentinel was asked.
    released_first: bool,
    /// Writes that the Redis acknowledged that had come back.
    writes: usize,
}

/// Returns `None` where Sentinel was left to decide.
fn back_at_once() -> Option<Reborn> {
    let site = Site::with_agents(&[M]);
    site.send_late(&M, "server1");
    let ids = ["server1", "server2"].map(|server| site.run_id(&M, server).unwrap());
    let writers = site.writers(&M, 2);
    writers.wait_for(BETWEEN);
    site.kill_and_restart(&M, "server1", Duration::from_millis(10));
    if !site.was_asked() {
        return None;
    }
    site.settles(&M, "server2");
    writers.wait_for(BETWEEN);
    let seen = site.timeline("server1");
    let [released, asked] = ["released", "asked"].map(|step| seen[step].as_f64());
    let writes = writers.finish();
    let by_reborn = writes.iter().filter(|write| !ids.contains(&write.by));
    let steps = released.zip(asked);
    Some(Reborn {
        released_first: steps.is_some_and(|(released, asked)| released <= asked),
        writes: by_reborn.count(),
    })
}

#[test]
fn where_no_replica_may_be_promoted_a_master_that_is_back_gets_its_vip_again() {
    let site = Site::with_agents(&[M]);
    site.down_after(30_000);
    for server in ["server2", "server3"] {
        let words = ["config", "set", "replica-priority", "0"];
        assert_eq!(site.ask(server, M.port, &words).unwrap(), "OK");
    }
    site.wait_until_none_may_be_promoted(&M);
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    site.kill_and_restart(&M, "server1", Duration::from_millis(100));
    assert!(!site.was_asked());
    writers.wait_for(BETWEEN);
    site.settles(&M, "server1");
    assert_eq!((site.promotions(), site.asked()), (0, 0));
}

/// Sentinel would select it: it answers, and nothing tells Sentinel that it has nothing yet.
#[test]
fn a_replica_that_waits_for_its_data_is_not_promoted() {
    let site = Site::with_agents(&[M]);
    site.down_after(NEVER);
    site.fill(&M, "server1", Keeps::Snapshot);
    assert_eq!(site.ask("server1", M.port, &["save"]).unwrap(), "OK");
    let late = ["config", "set", "repl-diskless-sync-delay", "600"];
    assert_eq!(site.ask("server1", M.port, &late).unwrap(), "OK");
    site.end_service("server2", "8000", "KILL");
    // Else it goes on where it was.
    std::fs::remove_file(site.dir().join("server2-8000/dump.rdb")).unwrap();
    site.restart(&M, "server2");
    eventually("it waits for its data", || {
        let says = ["-p", "8000", "info", "replication"];
        let says = site.host("server1").run("redis-cli", says);
        says.contains("state=wait_bgsave")
    });
    eventually("the Sentinels see it", || {
        SERVERS.iter().all(|sentinel| {
            let words = ["sentinel", "replicas", M.name];
            let replicas = site.ask(sentinel, SENTINEL_PORT, &words).unwrap();
            let mut replicas = replicas.as_array().unwrap().iter();
            replicas.all(|one| one["flags"] == "slave")
        })
    });
    site.seconds_pass("server1", 2.0);
    assert_eq!(site.ask("server2", M.port, &["dbsize"]).unwrap(), 0);
    site.kill_and_restart(&M, "server1", Duration::from_millis(300));
    assert!(!site.was_asked());
    site.settles(&M, "server1");
    assert_eq!((site.promotions(), site.asked()), (0, 0));
    let kept = site.written(&M, "server1");
    let base = kept.iter().filter(|key| key.starts_with("wbase")).count();
    assert_eq!(base, KEYS);
}

#[test]
fn a_master_that_is_back_before_its_agent_looks_is_not_taken_for_the_same() {
    let is_shown = (0..TRIES).any(|_| is_noticed());
    assert!(is_shown, "no Sentinel was asked in {TRIES} sites");
}

/// Returns false where Sentinel was left to decide.
fn is_noticed() -> bool {
    let site = Site::with_agents(&[M]);
    site.send_late(&M, "server1");
    site.fill(&M, "server1", Keeps::Nothing);
    let before = site.run_id(&M, "server1");
    let agent = site.agent_pid("server1");
    site.signal(&agent, "STOP");
    site.kill_and_restart(&M, "server1", Duration::ZERO);
    eventually("it is back", || {
        let now = site.run_id(&M, "server1");
        now.is_some() && now != before
    });
    site.go_on(&agent);
    if !site.was_asked() {
        return false;
    }
    site.settles(&M, "server2");
    site.wait_until_follows(&M, "server1", "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    true
}
