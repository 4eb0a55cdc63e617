//! Agents that read their configuration again, over and over, whatever goes on: what that does not change is not touched.

use serde_json::Value;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

/// Of no concern to the master: another one, which no Sentinel knows.
const MORE: &str = "[masters.other]\nvip = \"192.168.56.253/24\"\n[agent]\nannounce_every = 30\n";

/// How many planned failovers, and how many writes are acknowledged before and after each.
const IN_A_ROW: usize = 4;
const BETWEEN: usize = 1_000;

/// Where the machine is so busy that the promotion is faster than the pause writes are lost: then the agent says so.
#[test]
fn no_acknowledged_write_is_lost_in_planned_failovers_while_all_agents_are_reloaded() {
    let site = Site::with_agents(&[M]);
    let pids = SERVERS.map(|server| site.agent_pid(server));
    let reloads = site.reload_again_and_again(MORE);
    let writers = site.writers(&M, 4);
    let (mut master, mut all) = ("server1", Vec::new());
    for _ in 0..IN_A_ROW {
        let heir = match master {
            "server1" => "server2",
            _ => "server1",
        };
        writers.wait_for(BETWEEN);
        site.wait_until_well(&M, master);
        eventually("the replica is close", || {
            site.behind(&M, master).is_some_and(|bytes| bytes < 20_000)
        });
        site.fail_over(&M, heir, heir);
        eventually("the VIP has moved", || site.holders(M.vip) == [heir]);
        // The old master's agent knows of it to its end, and tells it at any time.
        eventually("writes are allowed again", || {
            site.timeline(master)["unpaused"].is_number()
        });
        let seen = site.timeline(master);
        assert!(seen["paused"].is_number(), "{seen}");
        all.push(seen);
        master = heir;
    }
    writers.wait_for(BETWEEN);
    let acknowledged = writers.stop();
    site.settles(&M, master);
    drop(reloads);
    let kept = site.written(&M, master);
    assert!(acknowledged.len() >= BETWEEN * IN_A_ROW);
    // Each is lost with the first failover whose release comes after it.
    let was_told = |at: f64| {
        let end = |seen: &Value| {
            seen["began"].as_f64().unwrap() + seen["released"].as_f64().unwrap() / 1e3
        };
        let with = all.iter().find(|seen| at <= end(seen));
        with.is_some_and(|seen| seen["bytes_behind"] != 0)
    };
    let lost = acknowledged.iter().filter(|(key, _)| !kept.contains(key));
    let untold = lost.filter(|(_, at)| !was_told(*at)).count();
    assert_eq!(untold, 0, "{all:#?}");
    assert!(all.iter().any(|seen| seen["bytes_behind"] == 0), "{all:#?}");
    let read_again = |line: &&String| line.contains("the configuration was read again");
    assert!(site.log().iter().filter(read_again).count() > SERVERS.len());
    assert_eq!(SERVERS.map(|server| site.agent_pid(server)), pids);
}

#[test]
fn a_redis_that_dies_is_failed_over_at_once_while_all_agents_are_reloaded() {
    let site = Site::with_agents(&[M]);
    let reloads = site.reload_again_and_again(MORE);
    site.is_failed_over_at_once(&M);
    drop(reloads);
    site.settles(&M, "server2");
}

/// A reload does not begin the time anew in which it is cut off.
#[test]
fn a_master_that_is_cut_off_lets_go_while_all_agents_are_reloaded() {
    let site = Site::with_agents(&[M]);
    let reloads = site.reload_again_and_again(MORE);
    site.down_after(2_000);
    site.isolate("server1");
    eventually("only server2 has the VIP", || {
        site.holders(M.vip) == ["server2"]
    });
    site.lab().logged(&["cut off from its peers"]);
    site.rejoin("server1");
    site.settles(&M, "server2");
    drop(reloads);
}

/// Nobody who asks an agent finds it between two configurations, nor that it has forgotten what it was told.
#[test]
fn an_agent_that_is_reloaded_answers_at_any_time_and_holds_to_what_it_was_told() {
    let site = Site::with_agents(&[M]);
    let host = site.host("server1");
    host.ok("maintenance master8000 on");
    host.ok("unbind master8000 --force");
    eventually("it is released", || site.holders(M.vip).is_empty());
    let reloads = site.reload_again_and_again(MORE);
    let uptime = |site: &Site| {
        let known = site.agent("server1").expect("the agent answers");
        let master = known["masters"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == M.name)
            .expect("it knows the master")
            .clone();
        assert_eq!(master["forced"], "unbind", "{master:#}");
        assert!(master["maintenance"].is_object(), "{master:#}");
        assert_eq!(master["votes"].as_array().unwrap().len(), 3, "{master:#}");
        known["uptime"].as_f64().unwrap()
    };
    let end = uptime(&site) + 6.0;
    while uptime(&site) < end {}
    assert!(site.holders(M.vip).is_empty());
    drop(reloads);
    // An order to an agent that has not read its file yet says so, and is a failure.
    let is_read = || host.vipswitch(["status"]).code() == 0;
    eventually("the last one was read", is_read);
    host.ok("bind master8000");
    host.ok("maintenance master8000 off");
    site.settles(&M, "server1");
}

#[test]
fn a_file_that_cannot_be_used_hides_nothing_that_the_agent_knows() {
    let site = Site::with_agents(&[M]);
    site.lab().config("[masters");
    for (words, known) in [
        (&["status"][..], "master8000: here (to_is_here)"),
        (&["status", "--json"], "\"verdict\":\"here\""),
    ] {
        let told = site
            .host("server1")
            .vipswitch(words)
            .fails(2, &["vipswitch.toml:1:"]);
        assert!(told.stdout.contains(known), "{told}");
    }
    site.settles(&M, "server1");
}

#[test]
fn a_file_that_was_changed_in_anything_and_not_read_again_is_told() {
    let site = Site::with_agents(&[M]);
    let host = site.host("server1");
    let told = "the agent has an older configuration: its file has changed since";
    let says = |words: &str| {
        let run = host.vipswitch(words.split(' '));
        format!("{}{}", run.stdout, run.stderr).contains(told)
    };
    let questions = ["status", "check", "bind master8000", "sync"];
    assert!(questions.iter().all(|words| !says(words)));
    site.configure("[masters.master8000]\nvip = \"192.168.56.250/24\"\non_isolation = \"keep\"\n");
    for words in questions {
        assert!(says(words), "{words}");
    }
    host.vipswitch(["sync"])
        .fails(1, &["systemctl reload vipswitch-agent"]);
    site.signal(&site.agent_pid("server1"), "HUP");
    for words in questions {
        eventually("it was read again", || !says(words));
    }
}

#[test]
fn a_dry_run_beside_an_agent_that_does_not_answer_is_refused_as_the_order_is() {
    let site = Site::with_agents(&[M]);
    let host = site.host("server1");
    let pid = site.agent_pid("server1");
    site.signal(&pid, "STOP");
    for words in ["unbind master8000", "bind master8000"] {
        let why = "nobody tells whether";
        host.vipswitch(words.split(' ')).fails(1, &[why, "--force"]);
        let words = format!("{words} --dry-run");
        host.vipswitch(words.split(' '))
            .fails(1, &["would be refused", why, "--force"]);
    }
    site.go_on(&pid);
}
