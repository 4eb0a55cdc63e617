//! Planned failovers beside agents, under load: no acknowledged write is lost.

use serde_json::Value;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

/// How many failovers in a row; with VIPSWITCH_SOAK in the environment so many.
const IN_A_ROW: usize = 6;
const OF_A_SOAK: usize = 20;

/// How many bytes a replica may lack when it is to be promoted: what a few hundred writes take.
const CLOSE: u64 = 20_000;

/// How many writes are acknowledged before and after each.
const BETWEEN: usize = 1_000;

/// One planned failover under load, and what the old master's agent shows of it.
fn hand_over(site: &Site, from: &str, to: &str) -> Value {
    site.wait_until_well(&M, from);
    // A replica that has just copied everything may still lack what was written meanwhile.
    eventually("the replica is close", || {
        site.behind(&M, from).is_some_and(|bytes| bytes < CLOSE)
    });
    site.fail_over(&M, to, to);
    eventually("the VIP has moved", || site.holders(M.vip) == [to]);
    eventually("the old master has let go", || {
        let seen = site.timeline(from);
        // On a busy machine a majority may name the new one first.
        seen["released"].is_number() && seen["unpaused"].is_number()
    });
    site.timeline(from)
}

/// Where the machine is so busy that the promotion is faster than the pause writes are lost: then the agent says so.
#[test]
fn no_acknowledged_write_is_lost_in_planned_failovers_under_load() {
    let site = Site::with_agents(&[M]);
    let writers = site.writers(&M, 4);
    let (mut master, mut late) = ("server1", Vec::new());
    let in_a_row = match std::env::var_os("VIPSWITCH_SOAK") {
        Some(_) => OF_A_SOAK,
        None => IN_A_ROW,
    };
    for _ in 0..in_a_row {
        let heir = if master == "server1" {
            "server2"
        } else {
            "server1"
        };
        writers.wait_for(BETWEEN);
        let seen = hand_over(&site, master, heir);
        assert!(seen["paused"].is_number(), "{seen}");
        let is_complete = seen["bytes_behind"] == 0;
        late.extend((!is_complete).then_some(seen));
        master = heir;
    }
    writers.wait_for(BETWEEN);
    let acknowledged = writers.stop();
    site.settles(&M, master);
    let kept = site.written(&M, master);
    assert!(acknowledged.len() >= BETWEEN * in_a_row);
    let lost = acknowledged.iter().filter(|(key, _)| !kept.contains(key));
    // Up to the moment when the old master's clients were reset.
    let was_told = |at: f64| {
        late.iter().any(|seen| {
            let began = seen["began"].as_f64().unwrap();
            let end = began + seen["released"].as_f64().unwrap() / 1e3;
            (began..=end).contains(&at)
        })
    };
    let untold: Vec<_> = lost.filter(|(_, at)| !was_told(*at)).collect();
    assert!(untold.is_empty(), "{untold:?}, {late:#?}");
    assert!(late.len() < in_a_row, "{late:#?}");
    tell(&acknowledged, in_a_row);
}

#[expect(
    clippy::print_stderr,
    reason = "a figure that no test can hold on a busy machine"
)]
fn tell(acknowledged: &[(String, f64)], failovers: usize) {
    let mut times: Vec<f64> = acknowledged.iter().map(|(_, at)| *at).collect();
    times.sort_by(f64::total_cmp);
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_by(|one, other| other.total_cmp(one));
    let gaps = gaps.iter().take(failovers);
    let gaps: Vec<String> = gaps.map(|gap| format!("{:.0}", gap * 1e3)).collect();
    let took = times[times.len() - 1] - times[0];
    let rate = times.len() as f64 / took;
    eprintln!(
        "{} writes, {rate:.0}/s, {failovers} failovers, none lost; the longest gaps, ms: {}",
        times.len(),
        gaps.join(" ")
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
fn clients_on_each_server_are_reset_in_a_planned_failover_and_new_ones_stay() {
    let site = Site::with_agents(&[M]);
    let command = "SUBSCRIBE channel";
    let clients = SERVERS.map(|server| site.blocked_on(server, &M, command));
    site.fail_over(&M, "server3", "server2");
    for client in clients {
        let how = client.end();
        assert!(is_reset(&how), "{how}");
    }
    site.settles(&M, "server2");
    // On the new holder itself, too.
    let clients = SERVERS.map(|server| site.blocked_on(server, &M, command));
    site.seconds_pass("server2", 2.0);
    assert!(clients.iter().all(|client| client.ended().is_none()));
}

/// By the other end, or by this host's kernel.
fn is_reset(how: &str) -> bool {
    [
        "Connection reset by peer",
        "Software caused connection abort",
    ]
    .contains(&how)
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

#[test]
fn the_old_master_follows_the_new_one_before_sentinel_tells_it_to() {
    let site = Site::with_agents(&[M]);
    site.fail_over(&M, "server2", "server2");
    eventually("the old master follows", || {
        site.role(&M, "server1").as_deref() == Some("slave")
    });
    // Ten seconds later it would have.
    let told = SERVERS.map(|server| site.sentinel_log(server).contains("+convert-to-slave"));
    assert_eq!(told, [false; 3]);
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
}

#[test]
fn an_old_master_that_may_not_be_told_to_follow_waits_for_sentinel() {
    let site = Site::with_agents(&[M]);
    let deny = "-p 8000 acl setuser default -replicaof";
    site.host("server1").run("redis-cli", deny.split(' '));
    site.fail_over(&M, "server2", "server2");
    site.lab()
        .logged(&["stays a master until Sentinel says otherwise", "NOPERM"]);
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
}
