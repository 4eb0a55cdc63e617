//! A master without a replica to fail over to, on real Redis and Sentinels.

use crate::common::redis::{MASTER_8000, SOON_DOWN, Site};
use crate::common::{Finished, Host, PATIENCE, wait_for};
use serde_json::{Value, json};

const SAID: &str =
    "replicas: PROBLEM: no replica of master8000 is connected: there is nothing to fail over to.";

/// Waits until `status --exit-code` exits so and says it so often. Returns what was said last.
#[track_caller]
fn says(host: &Host, code: i32, times: usize) -> Finished {
    let mut last: Option<Finished> = None;
    let found = wait_for(PATIENCE, || {
        let run = last.insert(host.vipswitch(["status", "--exit-code"]));
        let told = run.stdout.matches(SAID).count();
        (run.code() == code && told == times).then_some(())
    });
    let last = last.unwrap();
    assert!(found.is_some(), "{last}");
    last
}

#[test]
fn a_master_without_a_connected_replica_is_told_once_in_each_view() {
    let site = Site::with_redis_on(&["server1", "server2"], &[MASTER_8000]);
    site.count_as_down_after(&MASTER_8000, SOON_DOWN);
    let one = site.host("server1");
    // The line is about the master, however many VIPs it has.
    site.configure("[masters.master8000]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\n");
    one.ok("bind");
    says(&one, 0, 0);
    let stop = "redis-cli -p 8000 shutdown nosave || true";
    site.host("server2").run("sh", ["-c", stop]);
    says(&one, 1, 1);
    // Whoever asks for what is wrong alone, or on another server, is told the same.
    let quiet = one.ok("status --quiet");
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    says(&site.host("server3"), 1, 1);
    let text = one.ok("status --json");
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let rows: Vec<Value> = rows
        .filter(|row: &Value| row["without_replica"].is_array())
        .collect();
    let [row] = &rows[..] else { panic!("{text}") };
    assert_eq!(row["without_replica"], json!(["master8000"]));
    assert!(
        row["problem"]
            .as_str()
            .unwrap()
            .contains("`vipswitch check`")
    );
    let check = one.vipswitch(["check"]);
    let said =
        "replication: master8000: Sentinel reaches no replica: there is nothing to fail over to";
    assert!(check.stdout.contains(said), "{check}");
    site.restart(&MASTER_8000, "server2");
    says(&one, 0, 0);
}
