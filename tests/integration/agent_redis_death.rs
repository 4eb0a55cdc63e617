//! The master's Redis dies, and the agent of its host has the failover begun at once.

use std::time::{Duration, Instant};

use crate::common::redis::deaths::NEVER;
use crate::common::redis::{CLIENT, MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site, address};
use crate::common::{end_of, eventually};

const M: Master = MASTER_8000;

/// Long enough that a failover within the patience of a test was asked for.
fn with_slow_sentinels() -> Site {
    slow(Site::with_agents(&[M]))
}

fn slow(site: Site) -> Site {
    site.down_after(NEVER);
    eventually("the agents know that", || site.agent("server1").is_some());
    site
}

#[test]
fn a_redis_without_memory_refuses_writes_and_is_left_alone_until_the_kernel_kills_it() {
    let site = with_slow_sentinels();
    site.wait_until_well(&M, "server1");
    let says = |words: &str| {
        let words = format!("-p {} {words}", M.port);
        site.host("server1").run("redis-cli", words.split(' '))
    };
    assert_eq!(says("config set maxmemory 1").trim(), "OK");
    assert!(says("set key value").contains("OOM"));
    // It is the master nevertheless.
    site.wait_until_well(&M, "server1");
    assert_eq!(site.holders(M.vip), ["server1"]);
    assert_eq!((site.promotions(), site.asked()), (0, 0));
    // As the kernel does at last.
    site.kill_redis(&M, "server1");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}

#[test]
fn a_sentinel_fails_over_long_before_it_would_by_itself() {
    let site = with_slow_sentinels();
    let writers = site.writers(&M, 2);
    writers.wait_for(100);
    site.kill_redis(&M, "server1");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    writers.wait_for(100);
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    // It is a replica when it is back.
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", heir);
    site.settles(&M, heir);
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}

#[test]
fn a_redis_that_is_killed_while_a_child_of_it_saves_is_failed_over_and_its_clients_are_reset() {
    let site = with_slow_sentinels();
    let blocked = site.blocked(&M, "BLPOP nothing 0");
    let slowly = ["config", "set", "rdb-key-save-delay", "100000000"];
    for words in [&slowly[..], &["set", "key", "value"], &["bgsave"]] {
        site.ask("server1", M.port, words).unwrap();
    }
    // The child keeps all connections open, and ends with the lab.
    site.kill_redis(&M, "server1");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!(blocked.end(), "Connection reset by peer");
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}

#[test]
fn replicas_without_data_are_not_promoted_in_its_place() {
    let site = with_slow_sentinels();
    // It sends them nothing for as long as this lasts.
    let slowly = ["config", "set", "rdb-key-save-delay", "100000000"];
    let to_disk = ["config", "set", "repl-diskless-sync", "no"];
    for words in [&slowly[..], &to_disk, &["set", "key", "value"]] {
        site.ask("server1", M.port, words).unwrap();
    }
    for server in ["server2", "server3"] {
        site.kill_redis(&M, server);
        // With what it got at first it would need the rest only.
        std::fs::remove_file(site.dir().join(format!("{server}-8000/dump.rdb"))).unwrap();
        site.restart(&M, server);
    }
    let waits = |server: &str| {
        let info = ["-p", "8000", "info", "replication"];
        let said = site.host("server1").run("redis-cli", info);
        let listed = format!("ip={},port=8000,state=wait_bgsave", address(server));
        said.contains(&listed)
    };
    eventually("both wait for their data", || {
        let known = site.agent("server1").unwrap();
        let replicas = known["masters"][0]["replicas"].as_array().unwrap();
        let mut replicas = replicas.iter();
        waits("server2") && waits("server3") && replicas.all(|one| one["online"] == false)
    });
    site.kill_redis(&M, "server1");
    site.sentinel_decides("no replica was connected that had nearly all");
    assert_eq!((site.promotions(), site.asked()), (0, 0));
}

#[test]
fn a_redis_that_is_stopped_has_not_died() {
    let site = with_slow_sentinels();
    let redis = site.listener("server1", M.port);
    site.signal(&redis, "STOP");
    // It is silent for longer than it is waited for.
    site.seconds_pass("server1", 3.0);
    assert_eq!(site.holders(M.vip), ["server1"]);
    site.go_on(&redis);
    site.settles(&M, "server1");
    assert_eq!((site.promotions(), site.asked()), (0, 0));
}

#[test]
fn a_new_master_that_dies_at_once_is_left_to_sentinel() {
    let site = slow(Site::of_equals(M));
    site.kill_redis(&M, "server1");
    let second = site.heir(&M, &[]);
    site.kill_redis(&M, second);
    // As the last failover was less than 60 s ago, or as the Sentinels do not name it yet.
    site.sentinel_decides("");
    assert_eq!(site.asked(), 1);
    site.down_after(5_000);
    let third = site.heir(&M, &[]);
    site.settles(&M, third);
    assert_eq!(site.asked(), 1);
}

/// How long after a failover no agent asks for another.
const APART: Duration = Duration::from_secs(60);

/// How often it is tried where a busy machine takes longer than that, or leaves the first failover to Sentinel.
const TRIES: usize = 5;

#[test]
fn an_agent_that_was_killed_after_a_failover_asks_for_no_other_soon() {
    let is_shown = (0..TRIES).any(|_| leaves_the_next_to_sentinel());
    assert!(is_shown, "the machine is too busy");
}

/// Returns false where the machine is too busy.
fn leaves_the_next_to_sentinel() -> bool {
    let site = slow(Site::of_equals(M));
    let began = Instant::now();
    site.kill_redis(&M, "server1");
    if !site.was_asked() {
        return false;
    }
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    site.restart(&M, "server1");
    site.wait_until_well(&M, heir);
    site.end_agent(heir, "KILL");
    site.start_agent(heir);
    site.wait_until_replicas_have_data(heir, 2);
    site.kill_redis(&M, heir);
    let is_left = || {
        let log = site.log();
        log.iter().any(|line| line.contains("Sentinel decides: "))
    };
    eventually("the death is noticed", || site.asked() > 1 || is_left());
    if began.elapsed() >= APART {
        return false;
    }
    assert_eq!(site.asked(), 1);
    site.sentinel_decides("the last failover was less than 60 s ago");
    true
}

/// A client that sends, again and again, a command that kills whatever executes it.
#[test]
fn a_command_that_kills_every_master_does_not_kill_all_of_them() {
    let site = slow(Site::of_equals(M));
    let script = "until false; do timeout 1 redis-cli -h \"$0\" -p 8000 shutdown nosave now force; sleep 0.005; done";
    let mut client = site.host("client").command("sh");
    client.args(["-c", script, M.vip]);
    client.stdout(std::process::Stdio::null());
    client.stderr(std::process::Stdio::null());
    // It ends with the lab, whose first process reaps it.
    std::mem::forget(client.spawn().unwrap());
    // As the last failover was less than 60 s ago, or as the Sentinels do not name it yet.
    site.sentinel_decides("");
    let dead = || {
        let all = crate::common::redis::SERVERS.into_iter();
        all.filter(|server| !site.listens(&M, server)).count()
    };
    assert_eq!(dead(), 2);
    site.seconds_pass("server1", 5.0);
    assert_eq!((dead(), site.asked()), (2, 1));
}

#[test]
fn an_agent_that_is_stopped_asks_for_nothing_when_it_goes_on_too_late() {
    let site = Site::with_agents(&[M]);
    site.down_after(2_000);
    let pid = site.agent_pid("server1");
    site.signal(&pid, "STOP");
    site.kill_redis(&M, "server1");
    let heir = site.heir(&M, &[]);
    site.go_on(&pid);
    site.settles(&M, heir);
    assert_eq!((site.promotions(), site.asked()), (1, 0));
}

/// All agents get a third of the time, in turns of 10 ms: what they do comes late, and in the same order.
#[test]
fn agents_that_are_slow_leave_one_master() {
    let site = with_slow_sentinels();
    site.wait_until_well(&M, "server1");
    let pids: Vec<String> = SERVERS.iter().map(|on| site.agent_pid(on)).collect();
    let script = "my $stop = shift;\n\
                  until (-e $stop) { kill STOP => @ARGV; select undef, undef, undef, 0.02;\n\
                  kill CONT => @ARGV; select undef, undef, undef, 0.01 }";
    let stop = site.lab().unique("stop");
    let mut slows = site.host(CLIENT).command("perl");
    slows.args(["-e", script]).arg(&stop).args(&pids);
    let mut slows = slows.spawn().unwrap();
    let writers = site.writers(&M, 1);
    writers.wait_for(100);
    site.kill_redis(&M, "server1");
    // They may be too slow for an election.
    if site.was_asked() {
        let heir = site.heir(&M, &[]);
        site.settles(&M, heir);
        writers.wait_for(100);
        assert_eq!((site.promotions(), site.asked()), (1, 1));
    }
    std::fs::write(stop, "").unwrap();
    end_of(&mut slows);
    site.thaw();
}

#[test]
fn an_agent_that_is_killed_just_after_its_redis_leaves_one_master() {
    for after in [0, 3, 10, 30, 100] {
        let site = Site::with_agents(&[M]);
        site.down_after(5_000);
        let (agent, redis) = (site.agent_pid("server1"), site.listener("server1", M.port));
        let script = "kill -KILL \"$0\"; sleep \"$2\"; kill -KILL \"$1\"";
        let after = format!("0.{after:03}");
        site.lab().run("sh", ["-c", script, &redis, &agent, &after]);
        site.forget("server1-agent");
        site.forget("server1-8000");
        let heir = site.heir(&M, &[]);
        site.start_agent("server1");
        site.settles(&M, heir);
        assert_eq!(site.promotions(), 1, "{after}");
    }
}

#[test]
fn a_second_failover_that_is_asked_for_by_hand_at_the_same_moment_leaves_one_master() {
    let site = with_slow_sentinels();
    let redis = site.listener("server1", M.port);
    let script = "kill -KILL \"$0\"; redis-cli -h \"$1\" -p 6800 sentinel failover master8000";
    let by_hand = crate::common::redis::address("server3");
    site.host("server3")
        .run("sh", ["-c", script, &redis, &by_hand]);
    site.forget("server1-8000");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", heir);
    site.settles(&M, heir);
    assert_eq!(site.masters(&M), [heir]);
}

#[test]
fn where_the_configuration_says_so_sentinel_decides_alone() {
    let site = Site::with_agents_and(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\non_redis_death = \"wait\"\n",
    );
    site.kill_redis(&M, "server1");
    site.sentinel_decides("on_redis_death is 'wait'");
    site.down_after(2_000);
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!((site.promotions(), site.asked()), (1, 0));
}

#[test]
fn with_a_short_down_after_sentinel_decides_alone() {
    let site = Site::with_agents(&[M]);
    site.down_after(1_000);
    // The agent asks anew each second.
    site.seconds_pass("server1", 3.0);
    site.kill_redis(&M, "server1");
    site.sentinel_decides("down-after-milliseconds is less than 2000");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!(site.asked(), 0);
}

#[test]
fn a_redis_that_ends_because_it_is_told_to_is_failed_over_too() {
    let site = with_slow_sentinels();
    site.end_service("server1", "8000", "TERM");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!((site.promotions(), site.asked()), (1, 1));
}

#[test]
fn in_maintenance_a_redis_may_stop_and_start_and_keeps_its_vip() {
    let site = with_slow_sentinels();
    let server = site.host("server1");
    server.ok("maintenance master8000 on");
    site.end_service("server1", "8000", "TERM");
    site.sentinel_decides("it is under maintenance");
    site.restart(&M, "server1");
    site.settles(&M, "server1");
    site.wait_until_follows(&M, "server2", "server1");
    assert_eq!((site.promotions(), site.asked()), (0, 0));
    server.ok("maintenance master8000 off");
    site.wait_until_well(&M, "server1");
    site.wait_until_replicas_have_data("server1", 2);
    site.kill_redis(&M, "server1");
    let heir = site.heir(&M, &[]);
    site.settles(&M, heir);
    assert_eq!(site.promotions(), 1);
}

/// Twice `failover-timeout`, which is 4 s here, and twice as long as an agent waits between two looks at the votes.
const UNTIL_A_VOTE_IS_OLD: f64 = 8.0 + 2.0 * 10.0;

#[test]
fn an_election_that_came_to_nothing_keeps_none_away_for_ever() {
    let site = Site::with_agents(&[M]);
    site.vote_for_nobody(&M, 7);
    site.seconds_pass("server1", UNTIL_A_VOTE_IS_OLD);
    site.is_failed_over_at_once(&M);
    assert!(site.asked_in().iter().all(|epoch| *epoch > 7));
}

/// As long as an agent takes for two looks at the votes, and half as long as one: by then it has seen them for 5 s.
const UNTIL_VOTES_HAVE_STOOD: f64 = 2.5 * 10.0;

#[test]
fn an_election_that_was_given_up_after_its_votes_keeps_none_away_for_minutes() {
    let site = Site::with_agents(&[M]);
    let patient = ["sentinel", "set", M.name, "failover-timeout", "180000"];
    for server in ["server1", "server2", "server3"] {
        assert_eq!(site.ask(server, SENTINEL_PORT, &patient).unwrap(), "OK");
    }
    site.vote_for_sentinel(&M, 7, "server2");
    site.seconds_pass("server1", UNTIL_VOTES_HAVE_STOOD);
    site.is_failed_over_at_once(&M);
    assert!(site.asked_in().iter().all(|epoch| *epoch > 7));
}
