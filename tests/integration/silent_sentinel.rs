//! `vipswitch sync` on a host whose own Sentinel is stopped or frozen: the Sentinels that it listed last and
//! the `peers` of the configuration are asked in its place, and this host's Redis.

use std::fs;
use std::time::Duration;

use crate::common::redis::{MASTER_8000, Master, SERVERS, Site, address};
use crate::common::{Finished, Host, PATIENCE, eventually, executable, finish, wait_for};

const M: Master = MASTER_8000;
const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n";
const FOLDER: &str = "/var/lib/vipswitch";

/// How long a run may take that finds the local Sentinel frozen: the time-outs have to leave most of the 20 s
/// of retries. In a quiet minute it is 2 s.
const SOON: Duration = Duration::from_secs(15);

/// Signals the Sentinel on a host.
fn signal(host: &Host, signal: &str) {
    let script = "kill -$0 $(ss -Hltnp 'sport = :6800' | sed 's/.*pid=\\([0-9]*\\).*/\\1/;q')";
    host.run("sh", ["-ec", script, signal]);
}

fn stop(host: &Host) {
    signal(host, "KILL");
    eventually("the Sentinel is gone", || {
        host.run("ss", ["-Hltn", "sport = :6800"]).is_empty()
    });
}

/// Moves the master to server2 while server1's Sentinel takes no part.
fn fail_over_without_server1(site: &Site) {
    site.begin_fail_over(&M, "server2");
    eventually("the others name server2", || {
        ["server2", "server3"]
            .iter()
            .all(|one| site.named_by(one, &M) == Some("server2"))
    });
}

/// Runs `sync` until `look` is true after a run, and returns that run.
#[track_caller]
fn sync_until(host: &Host, what: &str, mut look: impl FnMut(&Finished) -> bool) -> Finished {
    let mut last = None;
    let done = wait_for(PATIENCE, || {
        let run = host.vipswitch(["sync"]);
        let done = look(&run);
        last = Some(run);
        done.then_some(())
    });
    let last = last.unwrap();
    assert!(done.is_some(), "not: {what}: {last}");
    last
}

/// Starts `sync` and ends it when it has said that it tries again, and returns what it said.
fn tries_again(host: &Host) -> String {
    let mut sync = host.command("timeout");
    sync.arg("8").arg(executable()).arg("sync");
    let run = finish(sync);
    assert_eq!(run.code(), 124, "{run}");
    assert!(run.stderr.contains("Trying again"), "{run}");
    run.stderr
}

/// The file of what a host remembers.
fn remembered(host: &Host) -> String {
    let script = format!(
        "cat {FOLDER}/$(readlink /proc/self/ns/net | tr -cd 0-9)-sentinels.json 2>/dev/null || true"
    );
    host.run("sh", ["-c", &script])
}

/// Nobody has run `sync` there: what a hook or `bind` has heard is remembered, too.
#[test]
fn a_sentinel_that_freezes_before_the_first_sync_does_not_keep_the_vip() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    one.ok("bind");
    signal(&one, "STOP");
    fail_over_without_server1(&site);
    assert!(one.has(M.bound), "its own hook has not run");
    let status = one.vipswitch(["status", "--json", "--exit-code"]);
    assert_eq!(status.code(), 2, "two hosts have the VIP: {status}");
    for part in [
        "\"redis_master\":\"192.168.56.102:8000\"",
        "\"redis_master_is_here\":false",
        "did not answer",
    ] {
        assert!(status.stdout.contains(part), "{status}");
    }
    sync_until(&one, "released", |_| !one.has(M.bound));
}

#[test]
fn a_frozen_sentinel_does_not_keep_the_vip_where_the_others_name_another_master() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    one.ok("sync");
    eventually("the others are remembered", || {
        one.ok("sync");
        let text = remembered(&one);
        ["server2", "server3"]
            .iter()
            .all(|server| text.contains(&address(server)))
    });
    signal(&one, "STOP");
    fail_over_without_server1(&site);
    assert!(one.has(M.bound), "its own hook has not run");
    let run = sync_until(&one, "released", |_| !one.has(M.bound));
    assert!(run.took < SOON, "{run}");
    site.lab()
        .logged(&["sentinels=\"2 of 3 say 192.168.56.102:8000\"", "released="]);
    // One of three is no majority, and nor is it with the word of a Sentinel that is frozen.
    one.ip("addr add 192.168.56.250/32 dev eth1");
    one.ip("route add blackhole 192.168.56.103/32");
    // Until the Redis of this host follows the new master.
    eventually("the Redis of server1 is a replica", || {
        // It may close the connection just then.
        let role = site.ask("server1", M.port, &["role"]);
        role.is_some_and(|role| role[0] == "slave")
    });
    let run = sync_until(&one, "released", |_| !one.has(M.bound));
    assert!(run.took < SOON, "{run}");
    site.lab().logged(&["why=redis_is_replica", "released="]);
    // Without that Redis, too, nobody knows.
    one.ip("addr add 192.168.56.250/32 dev eth1");
    one.run("sh", ["-c", "redis-cli -p 8000 shutdown nosave || true"]);
    let said = tries_again(&one);
    for part in [
        "no majority of the Sentinels names a master, so that nothing is changed",
        "127.0.0.1:6800 does not answer",
        "192.168.56.102:6800 says 192.168.56.102:8000",
        "2 must agree",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(one.has(M.bound), "it stays");
    site.thaw();
    one.ip("route del blackhole 192.168.56.103/32");
    sync_until(&one, "released", |_| !one.has(M.bound));
}

#[test]
fn the_others_and_the_redis_of_this_host_bring_the_vip_without_its_sentinel() {
    let site = Site::new(&[M]);
    let [one, two, _] = SERVERS.map(|server| site.host(server));
    let peers = "[\"redis1:6800\", \"192.168.56.102:6800\", \"[::ffff:192.168.56.103]:6800\"]";
    site.configure(CONFIG);
    let text = fs::read_to_string(site.dir().join("vipswitch.toml")).unwrap();
    site.lab().config(&format!("{text}peers = {peers}\n"));
    site.lab()
        .file("hosts", "127.0.0.1 localhost\n192.168.56.101 redis1\n");
    // Nothing is remembered: the peers are enough.
    assert_eq!(remembered(&two), "");
    stop(&two);
    site.begin_fail_over(&M, "server1");
    eventually("the others name server2", || {
        ["server1", "server3"]
            .iter()
            .all(|one| site.named_by(one, &M) == Some("server2"))
    });
    eventually("the hook of server1 has released it", || !one.has(M.bound));
    assert!(!two.has(M.bound), "its own hook has not run");
    sync_until(&two, "taken over", |_| two.has(M.bound));
    site.lab()
        .logged(&["sentinels=\"2 of 3 say 192.168.56.102:8000\"", "took_over="]);
    site.check_held_by(&M, Some("server2"));
    // A poll without its own Sentinel teaches nothing of servers.
    let known = remembered(&two);
    assert!(
        known.is_empty() || known.contains("\"masters\":{}"),
        "{known}"
    );
    // One that nobody else answers for is not enough.
    two.ip("addr flush dev eth1 to 192.168.56.250");
    stop(&one);
    let said = tries_again(&two);
    assert!(said.contains("2 must agree"), "{said}");
    assert!(!two.has(M.bound));
}

#[test]
fn what_is_remembered_is_written_whole_or_not_at_all_and_believed_of_root_alone() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    let written = || {
        eventually("it is written", || {
            one.ok("sync");
            remembered(&one).contains(&address("server3"))
        });
    };
    written();
    let file = format!("{FOLDER}/$(readlink /proc/self/ns/net | tr -cd 0-9)-sentinels.json");
    let sh = |script: &str| one.run("sh", ["-ec", &script.replace("FILE", &file)]);
    // Not again while nothing has changed.
    sh("touch -d @1 FILE");
    one.ok("sync");
    assert_eq!(sh("stat -c %Y FILE"), "1\n");
    // What is no memory, and what a killed run has left, is put right.
    for broken in [
        "printf x >FILE",
        "printf '{\"masters\":' >FILE",
        ": >FILE",
        "rm FILE",
    ] {
        sh(broken);
        written();
    }
    sh("cp FILE /run/good; rm FILE; n=FILE; touch -d @1 ${n%.json}.new");
    written();
    assert_eq!(sh("ls /var/lib/vipswitch").lines().count(), 1);
    assert_eq!(sh("cmp FILE /run/good"), "");
    // Nobody else's word is taken.
    let unbelieved = |made: &str| {
        sh(made);
        signal(&one, "STOP");
        let said = tries_again(&one);
        assert!(
            said.contains("Sentinel at 127.0.0.1:6800 did not answer"),
            "{said}"
        );
        site.thaw();
    };
    unbelieved("chmod 666 FILE");
    sh("chmod 644 FILE");
    unbelieved("chmod 777 /var/lib/vipswitch");
    sh("chmod 755 /var/lib/vipswitch");
    // Where nothing can be written nothing is lost but this, and `check` says so.
    sh("rm -r /var/lib/vipswitch; touch /var/lib/vipswitch");
    one.ok("sync");
    let check = one.vipswitch(["check"]);
    assert!(
        check
            .stdout
            .contains("memory: cannot remember anything in /var/lib/vipswitch"),
        "{check}"
    );
    sh("rm /var/lib/vipswitch");
    one.ok("sync --dry-run");
    assert_eq!(remembered(&one), "");
    written();
}
