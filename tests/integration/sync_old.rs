//! A `sync` that has to wait when the Sentinels were asked: what they have said by then may not be true any more.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{
    Lab, NameHolder, V4_BOUND, end_of, eventually, executable, false_sentinel, wait_for,
};
use crate::lock::LOCK;
use crate::redis_client::Process;

/// For so long another run has the lock: longer than what was said counts, and not for as long as a lock is waited for.
const HELD: Duration = Duration::from_secs(5);

/// For so long it has time to read answers. Where that is too short it has none in time, and asks again.
const READ: Duration = Duration::from_millis(200);

/// Those of server2 and server3. With server1's they are five.
const SENTINELS: [&str; 4] = [
    "192.168.56.102:6800",
    "192.168.56.103:6800",
    "192.168.56.102:6801",
    "192.168.56.103:6801",
];

/// What a Sentinel has to do that names one server until there is a file, and then another. It writes down that it has
/// answered.
fn says(lab: &Lab, before: &str, after: &str) -> String {
    format!(
        r#"
sub bulk {{ map {{ sprintf "\$%d\r\n%s\r\n", length, $_ }} @_ }}
sub list {{ "*" . @_ . "\r\n" . join "", bulk(@_) }}
my ($dir, $own) = ("{}", $client->sockhost . ":" . $client->sockport);
my @others = grep {{ $_ ne $own }} qw({} 192.168.56.101:6800);
while (my $question = question($client)) {{
    my ($master, $epoch) = -e "$dir/after" ? ("{after}", 2) : ("{before}", 1);
    print $client list("name", "m", "ip", $master, "port", 8000, "quorum", 2, "config-epoch", $epoch)
        if $question =~ /\r\nmaster\r\n/i;
    print $client "*" . @others . "\r\n", map {{ /:/; list("ip", $`, "port", $') }} @others
        if $question =~ /\r\nsentinels\r\n/i;
    print $client "*0\r\n" if $question =~ /\r\nslaves\r\n/i;
    print $client list($master, 8000) if $question =~ /get-master/;
    open my $file, ">", "$dir/told-$own";
}}"#,
        lab.dir().display(),
        SENTINELS.join(" "),
    )
}

/// Returns a lab whose server1 has a Redis that is a master, and no Sentinel that answers. Those of the others name
/// `before` until there is a file `after`, but for the last where it is `silent`.
fn lab(before: &str, after: &str, was_bound: bool, silent: bool) -> (Lab, Process) {
    let lab = Lab::with_hosts(["server1", "server2", "server3"]);
    lab.config(&format!(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:7000\"\npeers = {SENTINELS:?}\n"
    ));
    let one = lab.host("server1");
    for (place, at) in SENTINELS.into_iter().enumerate() {
        let server = if place % 2 == 0 { "server2" } else { "server3" };
        let script = match silent && place == SENTINELS.len() - 1 {
            true => "sleep 600".to_owned(),
            false => says(&lab, before, after),
        };
        false_sentinel(&lab.host(server), at, &script);
    }
    let mut redis = one.command("redis-server");
    redis.args(["--port", "8000", "--protected-mode", "no", "--save", ""]);
    let redis = Process(redis.stdout(Stdio::null()).spawn().unwrap());
    eventually("Redis answers", || {
        let ping = ["-c", "redis-cli -p 8000 ping || true"];
        one.run("sh", ping).contains("PONG")
    });
    if was_bound {
        one.ip("addr add 192.168.56.250/32 dev eth1");
    }
    (lab, redis)
}

/// Starts a `sync`. A shell waits for it: an nsenter would stop with its child. Its number is in the file `pid`.
fn sync(lab: &Lab) -> Child {
    let script = "cd \"$1\"; \"$0\" sync -q & echo $! >pid; wait $!";
    let mut sync = lab.host("server1").command("sh");
    sync.args(["-c", script]).arg(executable()).arg(lab.dir());
    sync.spawn().unwrap()
}

/// Waits for its end. It has done what was said last, and nothing before.
fn agrees(lab: &Lab, sync: &mut Child, after: &str) {
    assert!(end_of(sync).success());
    let is_here = after == "192.168.56.101";
    let one = lab.host("server1");
    assert_eq!(one.has(V4_BOUND), is_here, "{:#?}", lab.log());
    let moved = |line: &String| line.contains("took_over=") || line.contains("released=");
    assert!(!lab.log().iter().any(moved), "{:#?}", lab.log());
}

/// The Sentinels change their mind while a `sync` waits for its turn.
fn waits(before: &str, after: &str, was_bound: bool) {
    let (lab, _redis) = lab(before, after, was_bound, false);
    let one = lab.host("server1");
    let holder = NameHolder::start(&one, LOCK);
    let mut sync = sync(&lab);
    eventually("it waits for the lock", || {
        let names = one.run("cat", ["/proc/net/unix"]);
        names.matches(&format!("@vipswitch/{LOCK}")).count() > 1
    });
    fs::write(lab.dir().join("after"), "").unwrap();
    assert!(wait_for(HELD, || sync.try_wait().unwrap()).is_none());
    holder.release();
    agrees(&lab, &mut sync, after);
}

/// They do so while it is stopped, in the midst of its questions: it still waits for the silent one.
fn is_stopped(before: &str, after: &str, was_bound: bool) {
    let (lab, _redis) = lab(before, after, was_bound, true);
    let one = lab.host("server1");
    let file = |name: &str| lab.dir().join(name);
    // Where the machine is so busy that all its questions were answered before it is stopped it waits for that.
    let holder = NameHolder::start(&one, LOCK);
    let mut sync = sync(&lab);
    eventually("three have answered", || {
        let mut three = SENTINELS[..3].iter();
        three.all(|at| file(&format!("told-{at}")).exists())
    });
    std::thread::sleep(READ);
    let signal = |signal: &str| {
        let script = format!("kill -{signal} $(cat {})", file("pid").display());
        one.run("sh", ["-c", &script]);
    };
    signal("STOP");
    fs::write(file("after"), "").unwrap();
    assert!(wait_for(HELD, || sync.try_wait().unwrap()).is_none());
    holder.release();
    signal("CONT");
    agrees(&lab, &mut sync, after);
}

#[test]
fn an_old_master_does_not_take_the_vip_by_what_was_said_before_it_was_stopped() {
    is_stopped("192.168.56.101", "192.168.56.102", false);
}

#[test]
fn a_new_master_does_not_lose_the_vip_by_what_was_said_before_it_was_stopped() {
    is_stopped("192.168.56.102", "192.168.56.101", true);
}

#[test]
fn an_old_master_does_not_take_the_vip_by_what_was_said_before_it_had_to_wait() {
    waits("192.168.56.101", "192.168.56.102", false);
}

#[test]
fn a_new_master_does_not_lose_the_vip_by_what_was_said_before_it_had_to_wait() {
    waits("192.168.56.102", "192.168.56.101", true);
}
