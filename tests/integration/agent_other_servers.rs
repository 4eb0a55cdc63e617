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

/// A site whose programs are this one, from the folder that the variable names.
fn site(program: &str, names: &[&str]) -> Site {
    let folder = std::env::var_os("VIPSWITCH_TEST_SERVERS");
    let folder = folder.expect("VIPSWITCH_TEST_SERVERS: run tests/other-servers.sh");
    let program = PathBuf::from(folder).join(program);
    assert!(program.is_file(), "no {}", program.display());
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
        site.timeline("server1")["ended"] == "released"
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
    // Before a majority knew of it.
    assert!(
        seen["released"].as_f64().unwrap() < seen["confirmed"].as_f64().unwrap(),
        "{seen}"
    );
    site.lab().logged(&["could not be paused", "6.2"]);
}
