//! Agents beside other versions of Redis and Valkey than this machine's. `tests/other-servers.sh` fetches them and runs
//! these.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};

const M: Master = MASTER_8000;

/// A program from the folder that the variable names.
fn fetched(program: &str) -> PathBuf {
    let folder = std::env::var_os("VIPSWITCH_TEST_SERVERS");
    let folder = folder.expect("VIPSWITCH_TEST_SERVERS: run tests/other-servers.sh");
    let program = PathBuf::from(folder).join(program);
    assert!(program.is_file(), "no {}", program.display());
    program
}

/// A site whose programs are this one.
fn site(program: &str, names: &[&str]) -> Site {
    let program = fetched(program);
    let site = Site::unstarted();
    let bin = site.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in names {
        symlink(&program, bin.join(name)).unwrap();
    }
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site
}

/// Which acknowledged writes the new master does not have.
fn lost(acknowledged: &[(String, f64)], kept: &BTreeSet<String>) -> usize {
    acknowledged
        .iter()
        .filter(|(key, _)| !kept.contains(key))
        .count()
}

/// The old master's side of a failover under load, and how many writes were lost.
fn fail_over(site: &Site, begin: impl Fn() -> bool) -> (Value, usize) {
    let writers = site.writers(&M, 2);
    writers.wait_for(500);
    eventually("the failover is accepted", begin);
    site.wait_until_named(&M, "server2");
    site.settles(&M, "server2");
    eventually("the old master has let go", || {
        site.timeline("server1")["released"].is_number()
    });
    writers.wait_for(500);
    let acknowledged = writers.stop();
    let lost = lost(&acknowledged, &site.written(&M, "server2"));
    (site.timeline("server1"), lost)
}

#[test]
#[ignore = "needs Valkey 9: tests/other-servers.sh fetches it, and runs this"]
fn a_coordinated_failover_by_somebody_else_loses_nothing() {
    let site = site(
        "valkey-9/valkey-server",
        &["redis-server", "redis-sentinel"],
    );
    let words = ["sentinel", "failover", M.name, "coordinated"];
    let (seen, lost) = fail_over(&site, || {
        let answer = site.ask("server3", SENTINEL_PORT, &words);
        answer.is_some_and(|answer| answer == "OK")
    });
    assert_eq!(lost, 0, "{seen}");
}

#[test]
#[ignore = "needs Redis 6.0: tests/other-servers.sh fetches it, and runs this"]
fn before_6_2_the_vip_is_released_early_and_no_write_is_paused() {
    let site = site("redis-6.0/redis-server", &["redis-server"]);
    let words = ["sentinel", "failover", M.name];
    let (seen, _) = fail_over(&site, || {
        let answer = site.ask("server3", SENTINEL_PORT, &words);
        answer.is_some_and(|answer| answer == "OK")
    });
    assert!(seen["paused"].is_null(), "{seen}");
    // By the promotion itself, which comes before a majority's word.
    site.lab()
        .logged(&["why=promoted_elsewhere", "released=192.168.56.250"]);
    site.lab().logged(&["could not be paused", "6.2"]);
}

/// The guide's own version.
#[test]
#[ignore = "needs Redis 3.2: tests/other-servers.sh fetches it, and runs this"]
fn with_redis_3_2_the_vip_follows_a_planned_failover_and_a_kill() {
    let site = Site::unstarted();
    // It knows no replicas: the words of its configuration are others.
    let words = "s/^replicaof/slaveof/; s/^replica-priority/slave-priority/; s/^repl-ping-replica/repl-ping-slave/";
    let program = fetched("redis-3.2/redis-server");
    site.lab().program(
        "redis-server",
        &format!(
            "#!/bin/sh\n[ ! -f \"$1\" ] || sed -i '{words}' \"$1\"\nexec '{}' \"$@\"\n",
            program.display()
        ),
    );
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    let version = site
        .host("server1")
        .run("redis-cli", ["-p", "8000", "info", "server"]);
    assert!(version.contains("redis_version:3.2."), "{version}");
    let words = ["sentinel", "failover", M.name];
    let (seen, _) = fail_over(&site, || {
        let answer = site.ask("server3", SENTINEL_PORT, &words);
        answer.is_some_and(|answer| answer == "OK")
    });
    assert!(seen["paused"].is_null(), "{seen}");
    site.lab()
        .logged(&["why=promoted_elsewhere", "released=192.168.56.250"]);
    site.lab()
        .logged(&["why=promoted_here", "took_over=192.168.56.250"]);
    site.wait_until_well(&M, "server2");
    site.kill(&M, "server2", "server1");
    site.settles(&M, "server1");
    site.restart(&M, "server2");
    site.wait_until_follows(&M, "server2", "server1");
    site.settles(&M, "server1");
}
