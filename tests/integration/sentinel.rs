//! Real failovers: three Redis and three Sentinels that call the executable, one configuration
//! for all, and a client that writes through the VIP.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::Read as _;
use std::process::{Child, Stdio};

use crate::common::redis::{MASTER_8000, MASTER_8001, Master, SERVERS, Site, address};
use crate::common::{self, Host, Lab, NameHolder, eventually, executable, is_late};

#[test]
fn the_vip_follows_when_the_master_is_killed() {
    let site = Site::new(&[MASTER_8000]);
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");
}

#[test]
fn the_vip_follows_a_planned_failover_and_the_failover_back() {
    let site = Site::new(&[MASTER_8000]);
    site.fail_over(&MASTER_8000, "server3", "server2");
    site.check_settled(&MASTER_8000, "server2");

    site.wait_until_well(&MASTER_8000, "server2");
    // This time the leader is on the host that the VIP leaves.
    site.fail_over(&MASTER_8000, "server2", "server1");
    site.check_settled(&MASTER_8000, "server1");
}

#[test]
fn a_client_on_the_next_holders_own_host_is_reset_as_others_are() {
    let site = Site::new(&[MASTER_8000]);
    let clients = SERVERS.map(|server| site.blocked_on(server, &MASTER_8000, "SUBSCRIBE none"));
    site.fail_over(&MASTER_8000, "server3", "server2");
    for client in clients {
        let how = client.end();
        let is_reset = how.contains("reset by peer") || how.contains("caused connection abort");
        assert!(is_reset, "{how}");
    }
    site.check_settled(&MASTER_8000, "server2");
}

#[test]
fn the_vip_stays_when_the_old_master_returns() {
    let site = Site::new(&[MASTER_8000]);
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");

    let watches = SERVERS.map(|server| site.watch(server));
    // It comes back as a master, and knows nothing of the other one yet.
    site.restart(&MASTER_8000, "server1");
    site.wait_until_follows(&MASTER_8000, "server1", "server2");
    site.wait_until_well(&MASTER_8000, "server2");
    site.check_settled(&MASTER_8000, "server2");
    for watch in watches {
        let events = watch.events(MASTER_8000.vip);
        assert!(events.is_empty(), "{events:#?}");
    }
}

#[test]
fn a_host_without_redis_never_has_the_vip_and_its_hook_succeeds() {
    let site = Site::with_redis_on(&["server1", "server2"], &[MASTER_8000]);
    let watch = site.watch("server3");
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");

    let events = watch.events(MASTER_8000.vip);
    assert!(events.is_empty(), "{events:#?}");
    let runs = site.runs(&MASTER_8000, "server2", 0);
    for done in [" took_over=", " released=", " nothing="] {
        let number = runs.iter().filter(|run| run.contains(done)).count();
        assert_eq!(number, 1, "{done} in {runs:#?}");
    }
}

#[test]
fn of_two_masters_on_the_same_servers_one_vip_moves_and_the_other_stays() {
    let site = Site::new(&[MASTER_8000, MASTER_8001]);
    let watches = SERVERS.map(|server| site.watch(server));
    site.fail_over(&MASTER_8000, "server3", "server2");
    site.check_settled(&MASTER_8000, "server2");
    site.check_in_use(&MASTER_8001, "server1");
    for watch in &watches {
        let events = watch.events(MASTER_8001.vip);
        assert!(events.is_empty(), "{events:#?}");
    }

    // Now each has a master of its own; the other way round they swap them.
    site.wait_until_well(&MASTER_8000, "server2");
    site.fail_over(&MASTER_8001, "server1", "server2");
    site.check_settled(&MASTER_8001, "server2");
    site.fail_over(&MASTER_8000, "server1", "server1");
    site.check_settled(&MASTER_8000, "server1");
    site.check_in_use(&MASTER_8001, "server2");
}

#[test]
fn exit_1_is_retried_until_the_fault_has_passed() {
    const FRONT: Master = Master {
        vip: "192.168.57.250",
        bound: "192.168.57.250/32@eth2",
        ..MASTER_8000
    };
    let site = site_with_a_front_network(FRONT);
    site.tune("server2", &["script-retry-delay", "1000"]);

    site.host("server2").ip("link set eth2 down");
    site.fail_over(&FRONT, "server3", "server2");
    let failed = site.wait_for_runs(&FRONT, "server2", 1, 1);
    assert!(failed[0].contains("eth2"), "{failed:#?}");
    eventually("Sentinel keeps the failed run", || {
        let pending = site.pending("server2");
        pending.len() == 1 && pending[0]["retry-num"] == "1"
    });

    site.host("server2").ip("link set eth2 up");
    // The other two had nothing to do with eth2 and succeeded at once.
    site.check_settled(&FRONT, "server2");
    eventually("Sentinel is done with it", || {
        site.pending("server2").is_empty()
    });
    let argument = |run: &str, key: &str| {
        let mut words = run.split(' ').map(str::to_owned);
        words.find(|word| word.starts_with(key)).unwrap()
    };
    let retried = site.runs(&FRONT, "server2", 0);
    assert_eq!(retried.len(), SERVERS.len(), "{retried:#?}");
    let retried = retried.iter().find(|run| run.contains("@eth2"));
    for key in ["master=", "role=", "state=", "from=", "to="] {
        assert_eq!(
            argument(&failed[0], key),
            argument(retried.unwrap(), key),
            "{failed:#?} {retried:#?}"
        );
    }
    let errors = SERVERS.map(|server| site.sentinel_log(server).contains("-script-error"));
    assert_eq!(errors, [false; 3]);
}

#[test]
fn exit_2_is_not_retried_where_the_interface_does_not_exist() {
    let site = Site::new(&[MASTER_8000]);
    let eth9 = "[masters.master8000]\nvip = \"192.168.56.250/24\"\ninterface = \"eth9\"\n";
    site.configure(eth9);
    make_retries_quick(&site);

    site.fail_over(&MASTER_8000, "server3", "server2");
    check_that_it_was_dropped(&site, "server2");
    // The others only had to let go of the VIP, wherever it was.
    site.wait_for_runs(&MASTER_8000, "server2", 0, 2);
    site.check_held_by(&MASTER_8000, None);
    let failed = site.runs(&MASTER_8000, "server2", 2);
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0].contains("eth9"), "{failed:#?}");

    site.configure(&eth9.replace("eth9", "eth1"));
    site.host("server2").ok("bind master8000");
    site.check_in_use(&MASTER_8000, "server2");
}

#[test]
fn exit_2_is_not_retried_where_the_configuration_lacks_the_master() {
    let site = Site::new(&[MASTER_8000]);
    let other = "[masters.master800]\nvip = \"192.168.56.250/24\"\n";
    site.configure(other);
    make_retries_quick(&site);

    site.fail_over(&MASTER_8000, "server3", "server2");
    for server in SERVERS {
        check_that_it_was_dropped(&site, server);
    }
    let failed = site.runs(&MASTER_8000, "server2", 2);
    assert_eq!(failed.len(), 3, "{failed:#?}");
    for run in failed {
        assert!(run.contains("no master 'master8000'"), "{run}");
    }
    site.check_held_by(&MASTER_8000, Some("server1"));

    site.configure(&other.replace("800", "8000"));
    site.host("server1").ok("unbind master8000");
    site.host("server2").ok("bind master8000");
    site.check_in_use(&MASTER_8000, "server2");
}

#[test]
fn a_retried_call_of_an_earlier_failover_does_not_bring_the_vip_back() {
    eventually("Sentinel answers each run in time", retried_after_another);
}

/// Returns whether Sentinel has answered each run in time. Where it has not, the retried call decided
/// by itself, and nothing is to be learned.
fn retried_after_another() -> bool {
    let site = Site::in_chain(MASTER_8000);
    for server in SERVERS {
        site.tune(server, &["script-retry-delay", "4000"]);
    }
    let watches = ["server2", "server3"].map(|server| site.watch(server));

    // The call that names server2 fails where it matters: there and on server3.
    let locks = ["server2", "server3"]
        .map(|server| NameHolder::start(&site.host(server), "vip/192.168.56.250"));
    site.fail_over(&MASTER_8000, "server1", "server2");
    site.wait_for_runs(&MASTER_8000, "server2", 0, 1);
    site.wait_until_well(&MASTER_8000, "server2");
    site.fail_over(&MASTER_8000, "server1", "server3");
    let failed = site.wait_for_runs(&MASTER_8000, "server2", 1, 2);
    site.check_held_by(&MASTER_8000, None);
    for lock in locks {
        lock.release();
    }

    // Now it runs again, while all Sentinels name server3.
    let after = site.wait_for_runs(&MASTER_8000, "server2", 0, 3);
    site.wait_until_no_run_is_left();
    if site.log().iter().any(|line| is_late(line)) {
        return false;
    }
    let says = format!(" sentinel=\"says {}\" ", address("server3"));
    let stale = Vec::from_iter(after.iter().filter(|run| run.contains(&says)));
    assert_eq!(stale.len(), 2, "{after:#?}");
    for run in failed.iter().chain(stale) {
        assert!(
            run.contains(" from=192.168.56.101:8000 to=192.168.56.102:8000 "),
            "{run}"
        );
    }
    site.check_settled(&MASTER_8000, "server3");
    let [on_server2, on_server3] = watches.map(|watch| watch.events(MASTER_8000.vip));
    assert!(on_server2.is_empty(), "{on_server2:#?}");
    assert!(
        on_server3.len() == 1 && !on_server3[0].contains("Deleted"),
        "{on_server3:#?}"
    );
    true
}

#[test]
fn two_failovers_right_after_each_other_end_right() {
    let site = Site::in_chain(MASTER_8000);
    site.begin_fail_over(&MASTER_8000, "server1");
    // The first leader goes on with the first one for some time; another Sentinel need not wait.
    let last = site.fail_over_from(&MASTER_8000, "server3", "server2");
    site.wait_for_runs(&MASTER_8000, last, 0, SERVERS.len());
    site.wait_until_no_run_is_left();
    site.check_settled(&MASTER_8000, last);
}

#[test]
fn a_hundred_calls_at_once_end_as_the_sentinels_say() {
    let site = Site::in_chain(MASTER_8000);
    // A Sentinel that is late on a busy machine leaves the decision to the call: so many at once as
    // it can answer.
    let all_answered = || {
        let mut number = 100;
        eventually("Sentinel answers them all", || {
            let unanswered = call_at_random(&site, number);
            number = (number / 2).max(6);
            unanswered == 0
        })
    };
    all_answered();
    site.check_in_use(&MASTER_8000, "server1");

    // And the same while the truth changes.
    site.begin_fail_over(&MASTER_8000, "server1");
    let unanswered = call_at_random(&site, 100);
    site.wait_until_named(&MASTER_8000, "server2");
    site.wait_until_no_run_is_left();
    if unanswered > 0 {
        all_answered();
    }
    site.check_in_use(&MASTER_8000, "server2");
}

#[test]
fn blocked_clients_of_the_vip_learn_of_a_planned_failover() {
    let site = Site::new(&[MASTER_8000]);
    let client = site.host("client");
    let clients = ["SUBSCRIBE channel", "BLPOP list 0"].map(|words| block(&client, words));
    eventually("both clients are blocked", || {
        let info = ["-p", "8000", "info", "clients"];
        let info = site.host("server1").run("redis-cli", info);
        let list = ["-p", "8000", "pubsub", "channels"];
        let channels = site.host("server1").run("redis-cli", list);
        info.contains("blocked_clients:1\r") && channels.lines().any(|one| one == "channel")
    });
    site.fail_over(&MASTER_8000, "server3", "server2");
    assert_eq!(clients.map(end_of), ["reset", "reset"]);
    site.check_settled(&MASTER_8000, "server2");
    let runs = site.runs(&MASTER_8000, "server2", 0);
    let released = runs.iter().find(|run| run.contains(" released="));
    assert!(
        released.is_some_and(|run| run.contains(" reset=2 ")),
        "{runs:#?}"
    );
}

/// Three servers with Redis on eth1 as ever, and with the VIP in another network, on eth2.
fn site_with_a_front_network(master: Master) -> Site {
    let lab = Lab::with_hosts(["server1", "server2", "server3", "client"]);
    for (server, number) in SERVERS.into_iter().zip(101..) {
        lab.wire(server, "eth2");
        let host = lab.host(server);
        host.ip(&format!("addr add 192.168.57.{number}/24 dev eth2"));
        // Both networks are on one bridge: eth1 must not answer for eth2.
        let quiet = "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore";
        host.run("sh", ["-c", quiet]);
    }
    lab.host("client").ip("addr add 192.168.57.104/24 dev eth1");
    let site = Site::in_lab(lab, &SERVERS, &[master]);
    site.configure(&format!(
        "[masters.{}]\nvip = \"{}/24\"\ninterface = \"eth2\"\n",
        master.name, master.vip
    ));
    site.start();
    site
}

fn make_retries_quick(site: &Site) {
    for server in SERVERS {
        site.tune(server, &["script-retry-delay", "1"]);
    }
}

/// Waits until a Sentinel has said that its hook failed. Then it has forgotten the call, so that
/// it can never run again.
#[track_caller]
fn check_that_it_was_dropped(site: &Site, server: &str) {
    let error = format!("-script-error {} 0 2", executable().display());
    eventually("Sentinel reports the failed hook", || {
        site.sentinel_log(server).contains(&error)
    });
    let errors = site.sentinel_log(server).matches("-script-error").count();
    assert_eq!((errors, site.pending(server)), (1, Vec::new()));
}

/// Makes so many calls at once on all servers, in random order, half of them for the server
/// where they are made, and waits for their end, which must be success. Returns how many of them
/// have had no answer from Sentinel.
#[track_caller]
fn call_at_random(site: &Site, number: usize) -> usize {
    let lines_with = |part: &str| site.log().iter().filter(|line| line.contains(part)).count();
    let before = (lines_with(" exit="), lines_with("is silent"));
    let call = |number: usize| {
        let (here, for_here) = (number % SERVERS.len(), number.is_multiple_of(2));
        let to = if for_here {
            here
        } else {
            (here + 1) % SERVERS.len()
        };
        (SERVERS[here], SERVERS[to])
    };
    let mut calls: Vec<_> = (0..number).map(call).collect();
    let random = RandomState::new();
    calls.sort_by_cached_key(|call| random.hash_one((call, RandomState::new().hash_one(0))));
    let running: Vec<Child> = calls
        .iter()
        .map(|(here, to)| {
            let mut command = site.host(here).command(executable());
            command.args([MASTER_8000.name, "observer", "start", "", "8000"]);
            command.args([&address(to), "8000"]);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for (mut child, call) in running.into_iter().zip(&calls) {
        let ended = common::end_of(&mut child);
        assert!(ended.success(), "(here, to) {call:?}: {ended:?}");
    }
    eventually("all have logged", || {
        lines_with(" exit=") >= before.0 + number
    });
    let unanswered = lines_with("is silent") - before.1;
    println!("{unanswered} of {number} calls without an answer of Sentinel");
    unanswered
}

/// Connects to the VIP, says this, then waits for the end of the connection and tells how that came.
fn block(client: &Host, words: &str) -> Child {
    let script = r#"
use IO::Socket::INET;
my ($vip, $words) = @ARGV;
my $server = IO::Socket::INET->new(PeerAddr => $vip, PeerPort => 8000, Timeout => 60) or die $!;
syswrite $server, "$words\r\n";
$| = 1; print "+";
my $read;
while ($read = sysread $server, my $answer, 4096) { }
print defined $read ? "end" : $!{ECONNRESET} ? "reset" : $!;
"#;
    let mut command = client.command("perl");
    command.args(["-e", script, MASTER_8000.vip, words]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    child
}

/// Waits for the end of a blocked client, and returns how it ended.
fn end_of(mut child: Child) -> String {
    common::end_of(&mut child);
    let mut said = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    said
}
