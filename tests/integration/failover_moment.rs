//! The moment in which Sentinel decides fastest: `vipswitch failover` waits for it, and with `--now` does not.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::common::redis::{MASTER_8000, Master, Site};
use crate::common::{eventually, executable, finish_within};

const M: Master = MASTER_8000;

/// Longer than all that it waits for.
const LONGEST: Duration = Duration::from_secs(90);

/// Fails over from a server that has no part in it, once it may. Returns what was told, and what was sent to whom.
#[track_caller]
fn fail_over(site: &Site, words: &[&str]) -> (Value, Vec<String>) {
    let trace = site.lab().unique("trace");
    let mut told = Value::Null;
    eventually("the failover is asked for", || {
        let mut command = site.host("server3").command("strace");
        command.args(["-f", "-qq", "-s", "4096", "-o"]).arg(&trace);
        command.args(["-e", "trace=write,writev,sendto,sendmsg"]);
        command.arg(executable()).args(["failover", "--json"]);
        command.args(words);
        let done = finish_within(command, LONGEST);
        told = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
        told["asked"] == true
    });
    let sent = fs::read_to_string(&trace).unwrap();
    (told, sent.lines().map(str::to_owned).collect())
}

/// How often a Sentinel was asked of its replicas after the first votes and before the failover was asked for: how old its
/// INFO of them is tells whether it is the moment.
#[track_caller]
fn looks_after_the_votes(sent: &[String]) -> usize {
    let is_look = |line: &&String| line.contains("SLAVES");
    let is_vote = |line: &String| line.contains("IS-MASTER-DOWN-BY-ADDR") && !is_look(&line);
    let voted = sent.iter().position(is_vote).expect("a vote");
    let asked = |line: &String| line.contains("FAILOVER");
    let asked = sent.iter().position(asked).expect("a request");
    sent[voted..asked].iter().filter(is_look).count()
}

#[test]
fn with_now_no_moment_is_waited_for() {
    let site = Site::with_agents(&[M]);
    let (told, sent) = fail_over(&site, &["--now"]);
    assert!(told["waited_ms"].is_null(), "{told:#}");
    assert_eq!(looks_after_the_votes(&sent), 0);
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
    let (told, sent) = fail_over(&site, &[]);
    assert!(told["waited_ms"].is_number(), "{told:#}");
    assert!(looks_after_the_votes(&sent) > 0);
    site.settles(&M, "server1");
}
