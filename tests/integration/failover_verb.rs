//! `vipswitch failover` beside real Sentinels: from every server, with agents and with hooks only, under load; and what
//! it refuses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::common::redis::{
    CLIENT, MASTER_8000, MASTER_8001, Master, SENTINEL_PORT, SERVERS, Site, address,
};
use crate::common::{Finished, Lab, eventually, executable, finish_within};

const M: Master = MASTER_8000;

/// How many failovers in a row.
const IN_A_ROW: usize = 20;

/// How many writes are acknowledged before and after each.
const BETWEEN: usize = 300;

/// Longer than all that it waits for.
const LONGEST: Duration = Duration::from_secs(90);

/// Runs `vipswitch` with these words on a server.
pub fn run(site: &Site, server: &str, words: &str) -> Finished {
    let mut command = site.host(server).command(executable());
    command.args(words.split_whitespace());
    finish_within(command, LONGEST)
}

/// Fails over from a server, once it may, and returns what it printed as JSON.
#[track_caller]
pub fn fail_over(site: &Site, server: &str, words: &str) -> Value {
    let mut told = Value::Null;
    eventually("the failover is asked for", || {
        let done = run(site, server, &format!("failover --json {words}"));
        told = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
        // The last one is not quite over.
        let may_be_asked = told["asked"] == true;
        assert!(!may_be_asked || done.status.success(), "{done}");
        may_be_asked
    });
    told
}

/// Returns when a step happened.
#[track_caller]
fn at(told: &Value, step: &str) -> f64 {
    let time = told["timeline"][step].as_f64();
    time.unwrap_or_else(|| panic!("no {step} in {told:#}"))
}

#[track_caller]
pub fn is_in_order(told: &Value, steps: &[&str]) {
    let times: Vec<f64> = steps.iter().map(|step| at(told, step)).collect();
    assert!(times.is_sorted(), "{steps:?} in {told:#}");
}

#[test]
fn it_works_from_each_server_and_tells_what_is_known_there() {
    let site = Site::with_agents(&[M]);
    let (mut master, mut heir) = ("server1", "server2");
    for (from, has_it) in [("server1", true), ("server1", false), ("server3", false)] {
        site.wait_until_well(&M, master);
        let told = fail_over(&site, from, "");
        assert_eq!(
            (&told["done"], &told["error"]),
            (&true.into(), &Value::Null)
        );
        for (key, server) in [("from", master), ("to", heir)] {
            let named = address(server);
            assert_eq!(told[key], format!("{named}:8000"), "{told:#}");
        }
        is_in_order(&told, &["voted", "asked", "chosen"]);
        for step in ["master", "followed", "agreed"] {
            is_in_order(&told, &["asked", step]);
        }
        match (from == master, from == heir) {
            (true, _) => {
                is_in_order(&told, &["asked", "paused", "released", "unpaused"]);
                assert!(has_it && told["bytes_behind"].is_number(), "{told:#}");
            }
            (_, true) => {
                is_in_order(&told, &["asked", "first_frame"]);
                assert!(told["timeline"]["released"].is_null(), "{told:#}");
            }
            _ => {
                for step in ["paused", "bound", "first_frame", "released", "unpaused"] {
                    assert!(told["timeline"][step].is_null(), "{step}: {told:#}");
                }
            }
        }
        assert_eq!(told["notes"], serde_json::json!([]), "{told:#}");
        site.settles(&M, heir);
        for server in SERVERS {
            let known = site
                .ask(server, SENTINEL_PORT, &["sentinel", "master", M.name])
                .unwrap();
            assert_eq!(known["config-epoch"], told["epoch"].to_string(), "{told:#}");
        }
        (master, heir) = (heir, master);
    }
}

#[test]
fn twenty_in_a_row_under_load_lose_no_acknowledged_write() {
    let site = Site::with_agents(&[M]);
    let writers = site.writers(&M, 2);
    let (mut master, mut late) = ("server1", Vec::new());
    for _ in 0..IN_A_ROW {
        let heir = if master == "server1" {
            "server2"
        } else {
            "server1"
        };
        site.wait_until_well(&M, master);
        writers.wait_for(BETWEEN);
        // Whether all were there in time only the old master's agent knows.
        let began = now();
        let told = fail_over(&site, master, "");
        let behind = told["bytes_behind"].as_u64();
        let behind = behind.unwrap_or_else(|| panic!("nobody knows what is lost: {told:#}"));
        late.extend((behind > 0).then(|| began..=now()));
        master = heir;
    }
    writers.wait_for(BETWEEN);
    let acknowledged = writers.stop();
    site.settles(&M, master);
    let kept = site.written(&M, master);
    let lost = acknowledged.iter().filter(|(key, _)| !kept.contains(key));
    // Where the machine is so busy that the promotion is faster than the pause, it is told of that failover.
    let was_told = |at: &f64| late.iter().any(|failover| failover.contains(at));
    let untold: Vec<_> = lost.filter(|(_, at)| !was_told(at)).collect();
    assert!(untold.is_empty(), "{untold:?}, {late:?}");
    assert!(late.len() < IN_A_ROW / 2, "{late:?}");
}

/// The writers' clock, in seconds.
fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs_f64()
}

#[test]
fn with_hooks_only_it_says_what_is_lost_and_the_vip_moves_all_the_same() {
    let site = Site::new(&[M]);
    for (asking, heir) in [("server1", "server2"), ("server3", "server1")] {
        let told = fail_over(&site, asking, "--now");
        let note = told["notes"][0].as_str().unwrap();
        assert!(note.contains("1 s, is lost"), "{note}");
        assert_eq!(told["done"], true, "{told:#}");
        if asking == "server1" {
            is_in_order(&told, &["asked", "released"]);
        }
        site.settles(&M, heir);
        site.wait_until_well(&M, heir);
    }
}

/// Takes a right from everybody at a Redis, or gives it.
fn change_rights(site: &Site, server: &str, rule: &str) {
    let words = ["acl", "setuser", "default", rule];
    assert_eq!(site.ask(server, M.port, &words).unwrap(), "OK");
}

/// Returns what is to be known of a failover from a server.
#[track_caller]
fn notes(site: &Site, server: &str) -> Vec<String> {
    notes_of(site, server, "failover --dry-run --json")
}

#[track_caller]
fn notes_of(site: &Site, server: &str, words: &str) -> Vec<String> {
    let done = run(site, server, words).success();
    let told: Value = serde_json::from_str(&done).unwrap();
    serde_json::from_value(told["notes"].clone()).unwrap()
}

#[test]
fn where_writes_may_not_be_paused_it_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    change_rights(&site, "server1", "-client|pause");
    for server in ["server1", "server3"] {
        let refused = run(&site, server, "failover");
        refused.fails(2, &["may not pause writes", "+client|pause", "--force"]);
    }
    // Nobody is there who could force it.
    let left = run(&site, "server1", "failover --from-this-host").success();
    assert!(left.contains("may not pause writes"), "{left}");
    assert_eq!(site.role(&M, "server1").as_deref(), Some("master"));
    change_rights(&site, "server1", "+client|pause");
    let told = fail_over(&site, "server3", "--now");
    assert_eq!(told["notes"], serde_json::json!([]), "{told:#}");
}

#[test]
fn an_agent_on_the_masters_host_is_seen_from_a_server_that_has_none() {
    let site = Site::with_agents_on(&["server1"], std::path::Path::new("/bin/true"));
    // The replicas' hosts have none.
    let notes = || notes_of(&site, "server3", "failover --dry-run --json --force");
    eventually("its agent is seen", || notes().is_empty());
    // Nobody may look.
    change_rights(&site, "server1", "-pubsub");
    let notes = notes();
    assert!(
        notes[0].contains("not known whether the master's host has an agent"),
        "{notes:?}"
    );
}

#[test]
fn where_others_have_an_agent_and_the_masters_host_has_none_it_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    let sign = ["pubsub", "numsub", "vipswitch:agent"];
    eventually("all agents are seen", || {
        let mut seen = SERVERS.iter().filter_map(|on| site.ask(on, M.port, &sign));
        seen.all(|number| number[1] == 1)
    });
    let check = |server| run(&site, server, "check --quiet");
    let lacks = "agent-sign: 192.168.56.101:8000: ";
    assert!(!check("server3").stdout.contains("agent-sign"));
    site.end_agent("server1", "KILL");
    for (server, why) in [
        ("server1", "this host has no agent, and others have one"),
        (
            "server3",
            "no agent on the master's host is connected to it",
        ),
    ] {
        let parts = ["no agent on", "systemctl start vipswitch-agent", "--force"];
        is_refused(&site, server, "failover", &parts);
        let told = check(server);
        let warning = format!("warn  {lacks}{why}");
        assert!(told.stdout.contains(&warning) && told.code() != 0, "{told}");
    }
    // Of a replica's host the others say nothing.
    site.start_agent("server1");
    eventually("its agent is seen", || notes(&site, "server3").is_empty());
    site.end_agent("server2", "TERM");
    assert!(!check("server3").stdout.contains("agent-sign"));
    let told = check("server2").stdout;
    assert!(
        told.contains("agent-sign: 192.168.56.102:8000: this host has no agent"),
        "{told}"
    );
    site.start_agent("server2");
    site.end_agent("server1", "KILL");
    let told = fail_over(&site, "server3", "--now --force");
    let note = told["notes"][0].as_str().unwrap();
    assert!(
        note.contains("without an agent on the master's host"),
        "{note}"
    );
}

#[test]
fn an_agent_that_has_its_connection_and_does_not_answer_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    eventually("its agent answers", || notes(&site, "server3").is_empty());
    let pauses = "on the master's host does not answer, or does not hear its Redis or a Sentinel, so that it would not pause writes";
    let takes_over = "which may be promoted, does not answer";
    for (stopped, why) in [("server1", pauses), ("server2", takes_over)] {
        let pid = site.agent_pid(stopped);
        site.signal(&pid, "STOP");
        is_refused(
            &site,
            "server3",
            "failover",
            &[why, "systemctl status", "--force"],
        );
        site.go_on(&pid);
        assert_eq!(site.role(&M, "server1").as_deref(), Some("master"));
    }
    fail_over(&site, "server3", "--now");
}

/// Nobody would take the VIP over there.
#[test]
fn where_others_have_an_agent_and_the_replicas_host_has_none_it_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    eventually("the agents are seen", || notes(&site, "server3").is_empty());
    site.end_agent("server2", "TERM");
    let why = [
        "no agent beside 192.168.56.102:8000, which may be promoted",
        "systemctl start vipswitch-agent",
        "--force",
    ];
    for server in ["server1", "server3"] {
        is_refused(&site, server, "failover", &why);
    }
    let told = run(&site, "server3", "failover --now --force");
    let vip = format!("no client reaches it by its VIP ({}:8000: ", M.vip);
    told.fails(1, &["192.168.56.102:8000 is the master", &vip]);
    site.start_agent("server2");
    site.settles(&M, "server2");
}

#[test]
fn an_agent_whose_redis_tells_it_nothing_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    eventually("the agents are seen", || notes(&site, "server3").is_empty());
    change_rights(&site, "server2", "-role");
    change_rights(&site, "server2", "-info");
    eventually("its agent knows nothing of it", || {
        let known = site.agent("server2").expect("the agent answers");
        known["masters"][0]["redis"][0]["role"] != "replica"
    });
    let why = [
        "the agent beside 192.168.56.102:8000, which may be promoted, does not answer, or does not hear its Redis or a Sentinel",
        "vipswitch check",
        "--force",
    ];
    is_refused(&site, "server3", "failover", &why);
    change_rights(&site, "server2", "+role");
    change_rights(&site, "server2", "+info");
    fail_over(&site, "server3", "--now");
    site.settles(&M, "server2");
}

/// It would not know of the failover that this one leads, and not pause the writes.
#[test]
fn an_agent_that_a_sentinel_does_not_tell_its_events_has_to_be_forced() {
    let site = Site::with_agents(&[M]);
    eventually("the agents are seen", || notes(&site, "server3").is_empty());
    let change = |words: &[&str]| assert!(site.ask("server3", SENTINEL_PORT, words).is_some());
    change(&["acl", "setuser", "default", "-subscribe", "-psubscribe"]);
    change(&["client", "kill", "type", "pubsub"]);
    let unheard = || {
        let known = site.agent("server1").expect("the agent answers");
        let sentinels = known["sentinels"].as_array().unwrap();
        let is_it = |one: &&Value| one["in_reach"] == true && one["events"] == false;
        sentinels.iter().filter(is_it).count()
    };
    eventually("its events do not arrive", || unheard() == 1);
    let why = [
        "does not answer, or does not hear its Redis or a Sentinel, so that it would not pause",
        "vipswitch check",
        "--force",
    ];
    for server in ["server1", "server3"] {
        is_refused(&site, server, "failover", &why);
    }
    change(&["acl", "setuser", "default", "+subscribe", "+psubscribe"]);
    eventually("they arrive again", || unheard() == 0);
    fail_over(&site, "server3", "--now");
    site.settles(&M, "server2");
}

/// What a Sentinel has to say of elections: the newest failover, and its last vote.
fn elections(site: &Site) -> Vec<Value> {
    let of = |server: &&str| {
        let named = address("server1");
        let last = ["is-master-down-by-addr", &named, "8000", "0", "*"];
        let words: Vec<&str> = std::iter::once("sentinel").chain(last).collect();
        let vote = site.ask(server, SENTINEL_PORT, &words).unwrap();
        let master = site
            .ask(server, SENTINEL_PORT, &["sentinel", "master", M.name])
            .unwrap();
        serde_json::json!([vote, master["config-epoch"], master["flags"]])
    };
    SERVERS.iter().map(of).collect()
}

#[test]
fn a_dry_run_says_what_would_be_done_and_no_sentinel_votes() {
    let site = Site::new(&[M]);
    let before = elections(&site);
    for words in ["failover --dry-run", "failover master8000 --dry-run --now"] {
        let text = run(&site, "server3", words).success();
        for part in [
            "master8000: the master is 192.168.56.101:8000: 3 of 3 say",
            "master8000: NOTE: without an agent on the master's host",
            "would have the Sentinel at",
            "promote 192.168.56.102:8000, which lacks 0 bytes now",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
    let told: Value =
        serde_json::from_str(&run(&site, "server2", "failover --dry-run --json").success())
            .unwrap();
    assert_eq!(
        (&told["dry_run"], &told["asked"]),
        (&true.into(), &false.into())
    );
    assert_eq!(told["to"], "192.168.56.102:8000");
    assert_eq!(elections(&site), before);
    site.check_in_use(&M, "server1");
}

/// It is refused, and nothing was changed.
#[track_caller]
fn is_refused(site: &Site, server: &str, words: &str, parts: &[&str]) -> Finished {
    let told = run(site, server, words).fails(1, parts);
    assert_eq!(site.role(&M, "server1").as_deref(), Some("master"));
    told
}

#[test]
fn it_is_refused_while_another_failover_goes_on() {
    let site = Site::new(&[M]);
    let longest = ["sentinel", "set", M.name, "failover-timeout", "180000"];
    site.ask("server3", SENTINEL_PORT, &longest).unwrap();
    // It is chosen, and cannot be promoted.
    let deny = "-p 8000 acl setuser default -slaveof -replicaof";
    site.host("server2").run("redis-cli", deny.split(' '));
    site.begin_fail_over(&M, "server3");
    let words = "failover --force --now";
    let told = is_refused(
        &site,
        "server1",
        words,
        &["failover_in_progress", "Wait until"],
    );
    assert!(told.stdout.contains("waiting for its end"), "{told}");
}

#[test]
fn a_second_one_right_after_the_first_waits_for_its_end() {
    let site = Site::with_agents(&[M]);
    fail_over(&site, "server3", "--now");
    let told = run(&site, "server3", "failover --now");
    // On a busy machine that may take longer than it waits.
    let waits = told.stdout.contains("waiting for its end");
    assert!(told.status.success() || waits, "{told}");
}

/// One is done, and the other one says that this was why it is not.
#[test]
fn of_two_at_the_same_moment_one_is_done() {
    let site = Site::with_agents(&[M]);
    for _ in 0..5 {
        let master = site.settles_anywhere(&M);
        site.wait_until_well(&M, master);
        let both = ["server1", "server3"].map(|server| {
            let mut verb = site.host(server).command(executable());
            verb.args(["failover", "--now"]).stdout(Stdio::piped());
            verb.stderr(Stdio::piped()).spawn().unwrap()
        });
        let ended = both.map(|verb| verb.wait_with_output().unwrap());
        let (done, not): (Vec<Output>, Vec<Output>) =
            ended.into_iter().partition(|one| one.status.success());
        // The second may come late, and be done as well.
        assert!(!done.is_empty(), "{not:?}");
        for one in not {
            let said = String::from_utf8(one.stderr).unwrap();
            assert!(!said.contains("Wait until it has caught up"), "{said}");
        }
    }
}

#[test]
fn votes_of_which_nothing_comes_keep_it_away_for_a_while_only() {
    let site = Site::with_agents(&[M]);
    site.vote_for_nobody(&M, 7);
    let text = run(&site, "server2", "failover --now").success();
    let waits = "a Sentinel has voted in epoch 7, of which no failover has come yet: waiting";
    assert!(text.contains(waits), "{text}");
    site.settles(&M, "server2");
}

#[test]
fn it_is_refused_without_a_majority() {
    let site = Site::new(&[M]);
    site.end_service("server2", "sentinel", "KILL");
    site.end_service("server3", "sentinel", "KILL");
    let parts = [
        "no majority of the Sentinels names a master",
        "vipswitch status",
    ];
    is_refused(&site, "server1", "failover --force", &parts);
}

#[test]
fn it_works_with_one_sentinel_of_three_down() {
    let site = Site::with_agents(&[M]);
    site.end_service("server3", "sentinel", "KILL");
    eventually("the others know that it does not answer", || {
        let told = run(&site, "server1", "failover --dry-run");
        told.status.success()
    });
    let told = fail_over(&site, "server1", "--now");
    assert_eq!(told["done"], true, "{told:#}");
    eventually("the VIP has moved", || site.holders(M.vip) == ["server2"]);
}

#[test]
fn it_is_refused_without_a_replica_that_has_what_the_master_has() {
    let site = Site::new(&[M]);
    let replica = site.listener("server2", M.port);
    site.signal(&replica, "STOP");
    // It cannot have this.
    let write = "-p 8000 set key value";
    site.host("server1").run("redis-cli", write.split(' '));
    is_refused(&site, "server1", "failover", &["no failover was asked for"]);
    site.go_on(&replica);
    for server in ["server2", "server3"] {
        site.end_service(server, "8000", "KILL");
    }
    eventually("nobody is connected", || {
        let info = site
            .host("server1")
            .run("redis-cli", ["-p", "8000", "role"]);
        !info.contains("192.168.56.")
    });
    let parts = ["no replica is connected to the master", "--force"];
    is_refused(&site, "server3", "failover", &parts);
    // Nobody could be promoted.
    is_refused(
        &site,
        "server1",
        "failover --force",
        &["no Sentinel could promote a replica"],
    );
}

#[test]
fn a_sentinel_in_tilt_mode_begins_nothing() {
    let site = Site::new(&[M]);
    site.tune("server2", &["tilt-period", "600000"]);
    let sentinel = site.sentinel_pid("server2");
    site.signal(&sentinel, "STOP");
    let silent_for = || -> Option<u64> {
        let others = site.ask("server1", SENTINEL_PORT, &["sentinel", "sentinels", M.name])?;
        let named = address("server2");
        let mut others = others.as_array()?.iter();
        let it = others.find(|one| one["ip"] == named)?;
        it["last-ok-ping-reply"].as_str()?.parse().ok()
    };
    // It takes more than two seconds between two ticks of its timer for a sign that something is wrong.
    eventually("it was stopped for long", || {
        silent_for().is_some_and(|time| time > 3_500)
    });
    site.go_on(&sentinel);
    eventually("it is in TILT mode", || {
        let info = site
            .host("server2")
            .run("redis-cli", ["-p", "6800", "info", "sentinel"]);
        info.contains("sentinel_tilt:1")
    });
    is_refused(&site, "server1", "failover --now", &["tilt"]);
}

#[test]
fn a_master_that_does_not_tell_of_its_replicas_has_to_be_forced() {
    let site = Site::new(&[M]);
    for server in SERVERS {
        let user = "-p 8000 acl setuser teller on >word -@all +ping";
        site.host(server).run("redis-cli", user.split(' '));
    }
    let password = site.lab().file("tellers-password", "word\n");
    fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\nredis_username = \"teller\"\nredis_password_file = \"{}\"\n",
        password.display()
    ));
    let parts = [
        "nobody knows whether a replica has what the master has",
        "--force",
    ];
    is_refused(&site, "server1", "failover", &parts);
    let told = fail_over(&site, "server1", "--now --force");
    assert_eq!(told["done"], true, "{told:#}");
    site.wait_until_named(&M, "server2");
}

#[test]
fn the_master_has_to_be_named_where_there_are_several() {
    let site = Site::new(&[M, MASTER_8001]);
    let several = run(&site, "server1", "failover");
    several.fails(
        2,
        &["several masters are configured", "master8000, master8001"],
    );
    run(&site, "server1", "failover master8002").fails(2, &["no master", "master8000"]);
    let told = fail_over(&site, "server2", "master8001");
    assert_eq!(told["done"], true, "{told:#}");
    site.settles(&MASTER_8001, "server2");
    site.settles(&M, "server1");
}

/// Starts a Redis and a Sentinel on each server, all of which know one another by these hosts. The first is the master.
fn start_all(lab: &Lab, hosts: [&str; 3]) {
    for (server, own) in SERVERS.iter().zip(hosts) {
        let on = lab.host(server);
        let follows = match own == hosts[0] {
            true => String::new(),
            false => format!("replicaof {} 8000\n", hosts[0]),
        };
        let both = "bind 0.0.0.0 ::0\nprotected-mode no\ndaemonize yes\n";
        let redis = format!("port 8000\n{both}save \"\"\nreplica-announce-ip {own}\n{follows}");
        let sentinel = format!(
            "port {SENTINEL_PORT}\n{both}sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n\
             sentinel announce-ip {own}\nsentinel monitor m {} 8000 2\n\
             sentinel down-after-milliseconds m 60000\nsentinel deny-scripts-reconfig no\n\
             sentinel client-reconfig-script m {}\n",
            hosts[0],
            executable().display()
        );
        for (program, conf) in [("redis-server", redis), ("redis-sentinel", sentinel)] {
            let file = lab.file(&format!("{server}-{program}.conf"), conf);
            on.run(program, [file]);
        }
    }
}

fn of_sentinel(lab: &Lab, server: &str, what: &str) -> Value {
    let words = ["-p", "6800", "--json", "sentinel", what, "m"];
    let said = lab.host(server).run("redis-cli", words);
    serde_json::from_str(&said).unwrap_or_default()
}

/// Returns servers that are known by these hosts, each with a Redis and a Sentinel that know all, and a client. The
/// first one's Redis is the master and has the VIP.
pub fn known_by(hosts: [&str; 3], names: &str, vip: &str) -> Lab {
    let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
    let names = format!("127.0.0.1 localhost\n{names}");
    fs::write(lab.dir().join("hosts"), names).unwrap();
    lab.config(&format!(
        "[masters.m]\nvip = \"{vip}\"\n[sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\n"
    ));
    start_all(&lab, hosts);
    lab.host("server1").ok("bind m");
    all_know_all(&lab);
    lab
}

/// Waits until every Sentinel knows all others and that all replicas follow.
#[track_caller]
pub fn all_know_all(lab: &Lab) {
    eventually("every Sentinel knows all", || {
        SERVERS.iter().all(|server| {
            let number = |what| {
                of_sentinel(lab, server, what)
                    .as_array()
                    .map_or(0, Vec::len)
            };
            let replicas = of_sentinel(lab, server, "replicas");
            let mut replicas = replicas.as_array().into_iter().flatten();
            let all_linked = replicas.all(|one| one["master-link-status"] == "ok");
            number("sentinels") == 2 && number("replicas") == 2 && all_linked
        })
    });
}

fn moves_between(hosts: [&str; 3], names: &str, to: [&str; 2]) {
    let lab = known_by(hosts, names, &format!("{}/24", M.vip));
    let told = asked_for(&lab);
    assert!(to.iter().any(|to| told["to"] == *to), "{told:#}");
    is_in_order(&told, &["asked", "chosen", "agreed"]);
    let place = usize::from(told["to"] == to[1]);
    eventually("the VIP has moved", || {
        let holders = SERVERS.iter().filter(|one| lab.host(one).has(M.bound));
        holders.collect::<Vec<_>>() == [&SERVERS[1 + place]]
    });
}

/// Asks for a failover until it is begun and done, and returns what was told.
#[track_caller]
pub fn asked_for(lab: &Lab) -> Value {
    let mut told = Value::Null;
    eventually("the failover is asked for", || {
        let mut command = lab.host("server3").command(executable());
        command.args(["failover", "--json", "--now"]);
        let done = finish_within(command, LONGEST);
        told = serde_json::from_str(&done.stdout).unwrap();
        assert!(told["asked"] == false || done.status.success(), "{done}");
        done.status.success()
    });
    told
}

#[test]
fn it_works_where_the_servers_are_known_by_ipv6_addresses() {
    let hosts = ["fd00::101", "fd00::102", "fd00::103"];
    moves_between(hosts, "", ["[fd00::102]:8000", "[fd00::103]:8000"]);
}

#[test]
fn it_works_where_the_servers_are_known_by_names() {
    let names: String = (1..=3)
        .map(|number| format!("192.168.56.10{number} redis{number}\n"))
        .collect();
    let hosts = ["redis1", "redis2", "redis3"];
    moves_between(hosts, &names, ["redis2:8000", "redis3:8000"]);
}
