//! A `sync` that has to wait when the Sentinels were asked: what they have said by then may not be true any more.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{
    Lab, NameHolder, V4_BOUND, end_of, eventually, executable, false_sentinel, wait_for,
};
use crate::lock::LOCK;
use crate::redis_client::Process;

/// For so long another run has the lock: longer than what was said counts, and not for as long as a lock is waited for.
const HELD: Duration = Duration::from_secs(5);

const CONFIG: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:7000\"\n\
                      peers = [\"192.168.56.102:6800\", \"192.168.56.103:6800\"]\n";

/// What a Sentinel has to do that names one server until there is a file, and then another.
fn says(lab: &Lab, before: &str, after: &str, other: &str) -> String {
    format!(
        r#"
sub bulk {{ map {{ sprintf "\$%d\r\n%s\r\n", length, $_ }} @_ }}
sub list {{ "*" . @_ . "\r\n" . join "", bulk(@_) }}
while (my $question = question($client)) {{
    my ($master, $epoch) = -e "{}" ? ("{after}", 2) : ("{before}", 1);
    print $client list("name", "m", "ip", $master, "port", 8000, "quorum", 2, "config-epoch", $epoch)
        if $question =~ /\r\nmaster\r\n/i;
    print $client "*2\r\n", map {{ list("ip", $_, "port", 6800) }} "192.168.56.101", "{other}"
        if $question =~ /\r\nsentinels\r\n/i;
    print $client "*0\r\n" if $question =~ /\r\nslaves\r\n/i;
    print $client list($master, 8000) if $question =~ /get-master/;
}}"#,
        lab.dir().join("after").display()
    )
}

/// The server1 of a lab has a master and no Sentinel that answers. The others change their mind while its `sync` waits.
fn waits(before: &str, after: &str, was_bound: bool) {
    let lab = Lab::with_hosts(["server1", "server2", "server3"]);
    lab.config(CONFIG);
    let one = lab.host("server1");
    for (server, at, other) in [("server2", 102, 103), ("server3", 103, 102)] {
        let script = says(&lab, before, after, &format!("192.168.56.{other}"));
        false_sentinel(&lab.host(server), &format!("192.168.56.{at}:6800"), &script);
    }
    let mut redis = one.command("redis-server");
    redis.args(["--port", "8000", "--protected-mode", "no", "--save", ""]);
    let _redis = Process(redis.stdout(Stdio::null()).spawn().unwrap());
    eventually("Redis answers", || {
        let ping = ["-c", "redis-cli -p 8000 ping || true"];
        one.run("sh", ping).contains("PONG")
    });
    if was_bound {
        one.ip("addr add 192.168.56.250/32 dev eth1");
    }
    let holder = NameHolder::start(&one, LOCK);
    let mut sync = one.command(executable());
    let mut sync = sync.args(["sync", "-q"]).spawn().unwrap();
    eventually("it waits for the lock", || {
        let names = one.run("cat", ["/proc/net/unix"]);
        names.matches(&format!("@vipswitch/{LOCK}")).count() > 1
    });
    fs::write(lab.dir().join("after"), "").unwrap();
    assert!(wait_for(HELD, || sync.try_wait().unwrap()).is_none());
    holder.release();
    assert!(end_of(&mut sync).success());
    let is_here = after == "192.168.56.101";
    assert_eq!(one.has(V4_BOUND), is_here, "{:#?}", lab.log());
    let moved = |line: &String| line.contains("took_over=") || line.contains("released=");
    assert!(!lab.log().iter().any(moved), "{:#?}", lab.log());
}

#[test]
fn an_old_master_does_not_take_the_vip_by_what_was_said_before_it_had_to_wait() {
    waits("192.168.56.101", "192.168.56.102", false);
}

#[test]
fn a_new_master_does_not_lose_the_vip_by_what_was_said_before_it_had_to_wait() {
    waits("192.168.56.102", "192.168.56.101", true);
}
