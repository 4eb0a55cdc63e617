//! The hand-over: clients are reset before the VIP goes, one run at a time, and the newest truth
//! wins over what a call says.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::sniffer::{Frame, Sniffer};
use common::{
    Host, Lab, eventually, executable, false_sentinel, finish, finish_within, is_root,
    says_master_is, wait_for,
};

const V4: &str = "192.168.56.250";
const V4_BOUND: &str = "192.168.56.250/24@eth1";
const BOTH: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Two servers and a client.
fn lab(config: &str) -> Lab {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    lab.config(config);
    lab
}

/// Listens on a port of every address, IPv4 in IPv6 sockets if `mapped`, and keeps every connection
/// without a word, as Redis keeps a subscriber.
fn listen(host: &Host, port: u16, mapped: bool) {
    let script = r#"
use Socket qw(:all);
my ($port, $mapped) = @ARGV;
socket(my $server, AF_INET6, SOCK_STREAM, 0) or die;
setsockopt($server, IPPROTO_IPV6, IPV6_V6ONLY, pack("l", $mapped ? 0 : 1));
bind($server, pack_sockaddr_in6($port, inet_pton(AF_INET6, "::"))) or die $!;
listen($server, 99);
unless ($mapped) {
    socket(my $four, AF_INET, SOCK_STREAM, 0) or die;
    bind($four, pack_sockaddr_in($port, INADDR_ANY)) or die $!;
    listen($four, 99);
    if (fork) { $server = $four }
}
$| = 1; print "r";
my @kept;
while (accept(my $client, $server)) { push @kept, $client; syswrite $client, "+" }
"#;
    let mut command = host.command("perl");
    command.args([
        "-e",
        script,
        &port.to_string(),
        if mapped { "1" } else { "" },
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    // It ends with the lab, whose first process reaps it.
    std::mem::forget(child);
}

/// Connects, waits for the greeting, then for the end, and tells it with its time.
fn subscribe(host: &Host, address: &str, port: u16) -> Child {
    let script = r#"
use Socket qw(:all); use Time::HiRes qw(time);
my ($address, $port) = @ARGV;
my $six = $address =~ /:/;
socket(my $server, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die;
my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
connect($server, $to) or die $!;
$| = 1;
sysread $server, my $greeting, 1; print $greeting;
my $read = sysread $server, my $more, 1;
printf "%s %.6f\n", defined $read ? "end" : $!{ECONNRESET} ? "reset" : $!, time;
"#;
    let mut command = host.command("perl");
    command.args(["-e", script, address, &port.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut greeting).unwrap();
    assert_eq!(&greeting, b"+");
    child
}

/// Waits for the end of a subscription, and returns how it ended and when, since the epoch.
fn end_of(mut child: Child) -> (String, f64) {
    let ended = wait_for(Duration::from_secs(20), || child.try_wait().unwrap());
    if ended.is_none() {
        let _ = child.kill();
        panic!("a client is still blocked");
    }
    let mut said = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    let (how, when) = said.trim().split_once(' ').expect(&said);
    (how.to_owned(), when.parse().unwrap())
}

fn epoch() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[test]
fn a_blocked_client_is_reset_before_the_vip_goes() {
    let lab = lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, false);
    for (round, release) in [
        ["unbind"].as_slice(),
        &["m", "leader", "start", "", "1", "192.168.56.102", "1"],
    ]
    .into_iter()
    .enumerate()
    {
        server.ok("bind -q");
        let clients: Vec<Child> = [V4, "fd00::250", V4]
            .into_iter()
            .map(|address| subscribe(&client, address, 8000))
            .collect();
        let started = epoch();
        let released = server.vipswitch(release);
        released.success();
        for child in clients {
            let (how, when) = end_of(child);
            assert_eq!(how, "reset");
            // 50 ms on an idle machine; this one may not be.
            assert!(when - started < 1.0, "{}", when - started);
        }
        assert!(!server.has(V4_BOUND));
        let line = lab.log_of(2 * round + 3 - 1).pop().unwrap();
        assert!(
            line.contains("(2 connections reset)") && line.contains(" reset=3 "),
            "{line}"
        );
    }
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_reset_as_well() {
    let lab = lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, true);
    let child = subscribe(&client, V4, 8000);
    server.ok("unbind");
    assert_eq!(end_of(child).0, "reset");
}

#[test]
fn connections_of_other_addresses_and_servers_that_listen_go_on() {
    let lab = lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, false);
    let mut others: Vec<Child> = ["192.168.56.101", "fd00::101"]
        .into_iter()
        .map(|address| subscribe(&client, address, 8000))
        .collect();
    let through_the_vip = subscribe(&client, V4, 8000);
    server.ok("unbind");
    assert_eq!(end_of(through_the_vip).0, "reset");
    for other in &mut others {
        assert!(other.try_wait().unwrap().is_none());
    }
    // The same server takes clients again when the VIP is back.
    server.ok("bind");
    let again = subscribe(&client, V4, 8000);
    for mut child in others.into_iter().chain([again]) {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_kernel_that_cannot_reset_is_no_reason_to_keep_the_vip() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    for fault in [
        "socket:error=EPROTONOSUPPORT:when=2",
        "socket:error=EPROTONOSUPPORT:when=3",
    ] {
        server.ok("bind");
        let mut command = server.command("strace");
        command.args([
            "-f",
            "-b",
            "execve",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=socket",
            "-e",
            &format!("inject={fault}"),
        ]);
        command.arg(executable()).arg("unbind");
        let said = finish(command).success();
        assert!(
            said.contains("its connections could not be reset: Protocol not supported"),
            "{said}"
        );
        assert!(!server.has(V4_BOUND));
    }
}

/// Holds the lock of a host for as long as the child lives.
fn hold_lock(host: &Host, seconds: &str) -> Child {
    let mut command = host.command("flock");
    command.args([
        "/proc/sys/net/ipv4/tcp_fastopen_key",
        "sh",
        "-c",
        &format!("echo held; exec sleep {seconds}"),
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    child
}

#[test]
fn a_run_waits_for_another_one_and_no_longer_than_it_may() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let mut holder = hold_lock(&one, "600");
    let mut command = one.command(executable());
    command.args(["m", "leader", "start", "", "1", "192.168.56.101", "1"]);
    let mut waiting = command.spawn().unwrap();
    // On another host, which is another network namespace, nobody has to wait.
    let started = Instant::now();
    two.ok("bind");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(waiting.try_wait().unwrap().is_none() && !one.has(V4_BOUND));
    one.run("pkill", ["-x", "sleep"]);
    assert!(
        wait_for(Duration::from_secs(20), || waiting.try_wait().unwrap())
            .unwrap()
            .success()
    );
    assert!(one.has(V4_BOUND));
    holder.wait().unwrap();
    // One that is never given back is a passing fault, in time for Sentinel's patience.
    let mut holder = hold_lock(&one, "600");
    let mut command = one.command(executable());
    command.arg("unbind");
    finish_within(command, Duration::from_secs(50))
        .fails(1, &["another run of vipswitch has held the lock for 10 s"]);
    one.run("pkill", ["-x", "sleep"]);
    holder.wait().unwrap();
    one.ok("unbind");
}

#[test]
fn a_stranger_cannot_hold_the_lock() {
    let file = "/proc/sys/net/ipv4/tcp_fastopen_key";
    let lab = lab(BOTH);
    let mut stranger = if is_root() {
        let mut stranger = lab.host("server1").command("setpriv");
        stranger.args(["--reuid", "65534", "--clear-groups", "flock"]);
        stranger
    } else {
        // In the lab this user is root; in the namespace that the machine has for all it is not.
        Command::new("flock")
    };
    stranger.args(["-n", file, "true"]);
    finish(stranger).fails(66, &["Permission denied"]);
}

#[test]
fn sentinels_word_of_now_wins_over_the_call() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let with = |port: u16, script: &str| {
        lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&server, &port.to_string(), script);
    };
    let call = |from: &str, to: &str| {
        server.vipswitch(["m", "observer", "start", from, "8000", to, "8000"])
    };
    with(7001, &says_master_is("192.168.56.101"));
    // The call says elsewhere, or nothing.
    call("192.168.56.101", "192.168.56.102").success();
    assert!(server.has(V4_BOUND));
    lab.logged(&[
        "why=to_is_here",
        "sentinel=\"says 192.168.56.101\"",
        "took_over=",
    ]);
    server.ok("unbind");
    call("192.168.56.102", "192.168.56.102").success();
    assert!(server.has(V4_BOUND));
    call("192.168.56.102", "192.168.56.101").success();
    lab.logged(&["already_here=", "sentinel=agrees"]);
    // The call says here, and it is no longer so.
    with(7002, &says_master_is("192.168.56.102"));
    call("192.168.56.102", "192.168.56.101").success();
    assert!(!server.has(V4_BOUND));
    lab.logged(&[
        "why=to_is_elsewhere",
        "sentinel=\"says 192.168.56.102\"",
        "released=",
    ]);
    // Whoever answers that the VIP is the master is not believed.
    with(7003, &says_master_is(V4));
    call("192.168.56.102", "192.168.56.101").fails(2, &["is itself a configured VIP"]);
}

#[test]
fn a_sentinel_without_an_answer_leaves_the_decision_to_the_call() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    for (port, script, said) in [
        (
            7001,
            "sleep 60",
            "sentinel=\"is silent: Sentinel at 127.0.0.1:7001 did not answer: nothing within 300 ms\"",
        ),
        (
            7002,
            "sysread $client, my $q, 4096; print $client \"*-1\\r\\n\"; sleep 60",
            "sentinel=\"does not monitor it\"",
        ),
        (7003, "", "sentinel=\"is silent: "),
        (
            7004,
            "sysread $client, my $q, 4096; print $client \"*2\\r\\n\\$3\\r\\na b\\r\\n\\$1\\r\\n1\\r\\n\"; sleep 60",
            "it answers 'a b'",
        ),
    ] {
        lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&server, &port.to_string(), script);
        let finished = server.hook("m", "192.168.56.101");
        assert!(finished.took < Duration::from_secs(3), "{finished}");
        finished.success();
        assert!(server.has(V4_BOUND), "{script}");
        server.hook("m", "192.168.56.102").success();
        assert!(!server.has(V4_BOUND), "{script}");
        lab.logged(&[said]);
        // Without a call that tells anything, nothing is known.
        server
            .vipswitch([
                "m",
                "leader",
                "start",
                "192.168.56.101",
                "8000",
                "192.168.56.101",
                "8000",
            ])
            .success();
        assert!(!server.has(V4_BOUND), "{script}");
    }
}

#[test]
fn a_hundred_calls_at_once_end_as_sentinel_says() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    for (port, master, here) in [
        (7001, "192.168.56.101", true),
        (7002, "192.168.56.102", false),
    ] {
        lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&server, &port.to_string(), &says_master_is(master));
        let calls: Vec<Child> = (0..100)
            .map(|number| {
                // Every third says the other thing.
                let to = if number % 3 == 0 {
                    "192.168.56.102"
                } else {
                    "192.168.56.101"
                };
                let mut command = server.command(executable());
                command.args(["m", "observer", "start", "", "8000", to, "8000"]);
                command.stderr(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for mut child in calls {
            let status = wait_for(Duration::from_secs(50), || child.try_wait().unwrap());
            assert!(status.is_some_and(|status| status.success()), "{status:?}");
        }
        assert_eq!(server.has(V4_BOUND), here);
        assert_eq!(server.has("fd00::250/64@eth1"), here);
    }
}

/// The announcers' lines in syslog so far.
fn announcers(lab: &Lab) -> Vec<String> {
    lab.log()
        .into_iter()
        .filter(|line| line.contains("msg=\"announced "))
        .collect()
}

/// Whether an announcer is at work on a host.
fn at_work(host: &Host) -> bool {
    host.run(
        "sh",
        [
            "-c",
            "pgrep -f '[a]nnouncer --master' >/dev/null && echo yes || echo no",
        ],
    )
    .contains("yes")
}

#[test]
fn the_announcer_goes_on_until_neighbours_have_answered() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ip("route add default via 192.168.56.102");
    let sniffer = Sniffer::start(&lab.host("client"));
    let started = Instant::now();
    server.hook("m", "192.168.56.101").success();
    // At once: request, reply, and directed requests to the gateway, FROM and the peer.
    let first = sniffer.wait(V4, 5);
    let target = |frame: &Frame| frame.bytes[38..42].to_vec();
    assert_eq!(target(&first[0]), [192, 168, 56, 250]);
    for peer in [102, 109, 103] {
        assert!(
            first[2..5]
                .iter()
                .any(|frame| target(frame) == [192, 168, 56, peer]),
            "{peer}"
        );
    }
    // Then at 0.1, 1.2, 2.4, 5 and 10 s.
    let frames: Vec<Frame> = sniffer
        .wait(V4, 30)
        .into_iter()
        .filter(|frame| frame.bytes[21] == 2 && frame.bytes[6..12] == frame.bytes[22..28])
        .collect();
    let replies: Vec<Frame> = frames
        .into_iter()
        .filter(|frame| frame.bytes[28..32] == [192, 168, 56, 250])
        .collect();
    let times: Vec<f64> = replies
        .iter()
        .map(|frame| (frame.time - replies[0].time).as_secs_f64())
        .collect();
    for (time, expected) in times.iter().zip([0.0, 0.1, 1.2, 2.4, 5.0, 10.0]) {
        assert!(
            (expected - 0.05..expected + 1.0).contains(time),
            "{times:?}"
        );
    }
    let line = lab.logged(&["msg=\"announced 192.168.56.250/24 until its time was up"]);
    assert!(
        (14..30).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
    for peer in ["192.168.56.102 after ", "192.168.56.103 after "] {
        assert!(line.contains(peer), "{line}");
    }
    assert!(
        !line.contains("192.168.56.109") && line.contains("rivals=none"),
        "{line}"
    );
}

#[test]
fn the_announcer_ends_when_the_vip_goes_and_sends_nothing_more() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ok("bind");
    eventually("the announcers are at work", || at_work(&server));
    sniffer.wait(V4, 4);
    server.ip("addr del 192.168.56.250/24 dev eth1");
    server.ip("addr del fd00::250/64 dev eth1");
    eventually("both have ended", || announcers(&lab).len() == 2);
    for line in announcers(&lab) {
        assert!(line.contains("until the VIP is gone"), "{line}");
    }
    assert!(!at_work(&server));
    let before = sniffer.settled(&server, V4).len();
    assert_eq!(sniffer.settled(&server, V4).len(), before);
    // A release ends it as well.
    server.ok("bind");
    eventually("the announcers are at work", || at_work(&server));
    server.ok("unbind");
    eventually("both have ended", || announcers(&lab).len() == 4);
}

#[test]
fn the_announcer_keeps_nothing_of_its_caller() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    // As Redis before 6.2 and every Sentinel start it: with a descriptor of theirs, and with
    // signals ignored.
    let script = "exec 7</etc/passwd 9>/dev/null; trap '' HUP ALRM PIPE; cd /tmp; \"$1\" m leader start '' 1 192.168.56.101 1";
    let mut hook = server.command("bash");
    hook.args(["-c", script, "bash"])
        .arg(executable())
        .env("SECRET", "s");
    finish(hook).success();
    eventually("the announcer is at work", || at_work(&server));
    let look = r#"pid=$(pgrep -f '[a]nnouncer --master'); ls -l /proc/$pid/fd | grep -c -E 'passwd|pipe:' ; ps -o sid= -p $pid | tr -d ' '; echo $pid; readlink /proc/$pid/cwd; tr '\0' '\n' < /proc/$pid/environ | grep -c SECRET; grep SigIgn /proc/$pid/status; ls -l /proc/$pid/fd/0 /proc/$pid/fd/1 /proc/$pid/fd/2 | grep -c /dev/null"#;
    let seen = server.run("bash", ["-c", look]);
    let seen: Vec<&str> = seen.lines().collect();
    let [inherited, session, pid, folder, secrets, ignored, null] = seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (inherited, folder, secrets, null),
        ("0", "/", "0", "3"),
        "{seen:?}"
    );
    assert_eq!(session, pid, "it leads a session of its own");
    // HUP is 1, ALRM 14; PIPE, 13, is ignored by every Rust program, which sees the error.
    let ignored = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 | 1 << 13), 0, "{seen:?}");
    server.run("bash", ["-c", "pkill -HUP -f '[a]nnouncer --master'"]);
    lab.logged(&["until a signal ended it"]);
}

#[test]
fn a_rival_is_answered_at_once_and_named() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    one.ok("bind");
    eventually("the announcers are at work", || at_work(&one));
    let sniffer = Sniffer::start(&lab.host("client"));
    // The other host claims it, by the old script's means.
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ip("addr add fd00::250/64 dev eth1 nodad");
    two.ok("announce");
    let (ours, theirs) = (one.mac("eth1"), two.mac("eth1"));
    let by = |mac: &str| {
        let octets: Vec<u8> = mac
            .split(':')
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect();
        move |frame: &Frame| frame.bytes[6..12] == octets
    };
    eventually("the rival is answered", || {
        let frames = sniffer.about(V4);
        let claim = frames.iter().position(by(&theirs));
        claim.is_some_and(|claim| frames[claim..].iter().any(by(&ours)))
    });
    let frames = sniffer.about(V4);
    let claim = frames.iter().find(|frame| by(&theirs)(frame)).unwrap().time;
    let answer = frames
        .iter()
        .find(|frame| frame.time >= claim && by(&ours)(frame))
        .unwrap()
        .time;
    assert!(
        answer - claim < Duration::from_millis(500),
        "{:?}",
        answer - claim
    );
    two.ip("addr del 192.168.56.250/24 dev eth1");
    two.ip("addr del fd00::250/64 dev eth1");
    one.ok("unbind");
    lab.logged(&["vip=192.168.56.250/24", &format!("rivals={theirs}")]);
    lab.logged(&["vip=fd00::250/64", &format!("rivals={theirs}")]);
}

#[test]
fn a_link_that_comes_up_later_is_announced_on() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    lab.run("ip", ["link", "set", "server1-eth1", "down"]);
    eventually("the carrier is gone", || {
        server.json("link show eth1")[0]["operstate"] != "UP"
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    assert!(server.ok("bind").contains("no carrier"));
    assert!(sniffer.about(V4).is_empty());
    eventually("the announcer is at work", || at_work(&server));
    lab.run("ip", ["link", "set", "server1-eth1", "up"]);
    sniffer.wait(V4, 2);
}

#[test]
fn announce_for_a_while_tells_who_answered() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let said = server.ok("announce --for 3s");
    assert!(
        said.contains("announced 192.168.56.250/24 until its time was up"),
        "{said}"
    );
    assert!(
        said.contains("confirmed by 192.168.56.103 after "),
        "{said}"
    );
    assert!(sniffer.about(V4).len() >= 6);
    server
        .vipswitch(["announce", "--for", "1h"])
        .fails(2, &["give it as 10s or 2m"]);
}

#[test]
fn an_ipv6_take_over_asks_its_neighbours_as_well() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\nannounce_to = [\"fd00::103\"]\n");
    let server = lab.host("server1");
    server.ok("bind");
    eventually("the announcer is at work", || at_work(&server));
    // The answer goes to the VIP; the peer's table has it now.
    eventually("the client knows it", || {
        lab.host("client").neighbour("fd00::250") == Some(server.mac("eth1"))
    });
    eventually("its answer is noted", || {
        let record = server.run("sh", ["-c", "cat /run/vipswitch/*fd00::250.json"]);
        record.contains("fd00::103")
    });
    server.ok("unbind");
    lab.logged(&["confirmed by fd00::103 after "]);
}

#[test]
fn a_repeated_call_does_not_add_announcers() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    for _ in 0..5 {
        server.hook("m", "192.168.56.101").success();
    }
    eventually("one is left", || {
        server
            .run("sh", ["-c", "pgrep -c -f '[a]nnouncer --master' || true"])
            .trim()
            == "1"
    });
    server.ok("unbind");
    eventually("it has ended", || !at_work(&server));
    assert_eq!(announcers(&lab).len(), 1);
}

#[test]
fn status_shows_the_announcer_at_work_and_its_last_result() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ok("bind");
    let status = || server.ok("status");
    eventually("it is confirmed", || {
        status().contains("it is being announced, confirmed by 192.168.56.103 after ")
    });
    let object =
        || -> serde_json::Value { serde_json::from_str(&server.ok("status --json")).unwrap() };
    assert_eq!(object()["announcer"]["at_work"], true);
    server.run("sh", ["-c", "pkill -TERM -f '[a]nnouncer --master'"]);
    eventually("its result is left", || {
        status().contains("it was announced, confirmed by 192.168.56.103 after ")
    });
    let object = object();
    assert_eq!(object["announcer"]["ended"], "a signal ended it");
    assert_eq!(object["announcer"]["rivals"], serde_json::json!([]));
}

#[test]
fn status_names_what_would_keep_this_host_from_taking_over() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth7\"\n");
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    assert!(server.ok("status").contains(
        "PROBLEM: cannot bind 192.168.56.250/24 to eth7: this host has no interface of that name"
    ));
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    assert!(
        server
            .ok("status")
            .contains("PROBLEM: 192.168.56.250/24 does not belong on eth2")
    );
    server.ok("unbind");
    lab.run("ip", ["link", "set", "server1-eth1", "down"]);
    eventually("the carrier is gone", || {
        server.json("link show eth1")[0]["operstate"] != "UP"
    });
    let said = server.ok("status");
    assert!(
        said.contains("the network was not asked: eth1 has no carrier")
            && !said.contains("PROBLEM"),
        "{said}"
    );
}

/// A configuration whose commands write what they find to a file each.
fn with_commands(lab: &Lab, more: &str) {
    let script = lab.file(
        "tell",
        "#!/bin/sh\nenv | grep VIPSWITCH_ | sort > \"$1\"; echo \"args=$*\" >> \"$1\"\n",
    );
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let command = |name: &str| {
        format!(
            "{{ command = [\"{}\", \"{}\", \"; rm -rf $HOME\"]{more} }}",
            script.display(),
            lab.dir().join(name).display()
        )
    };
    lab.config(&format!(
        "[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {}\non_release = {}\n",
        command("taken"),
        command("released")
    ));
}

#[test]
fn the_sites_own_commands_run_after_the_frames_with_what_happened() {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    with_commands(&lab, "");
    let server = lab.host("server1");
    server.ok("bind --dry-run");
    let read = |name: &str| std::fs::read_to_string(lab.dir().join(name)).ok();
    assert_eq!((read("taken"), read("released")), (None, None));
    server.hook("m", "192.168.56.101").success();
    let taken = read("taken").unwrap();
    for line in [
        "VIPSWITCH_MASTER=m",
        "VIPSWITCH_VIP=192.168.56.250",
        "VIPSWITCH_PREFIX=24",
        "VIPSWITCH_INTERFACE=eth1",
        "VIPSWITCH_FROM=192.168.56.109",
        "VIPSWITCH_TO=192.168.56.101",
    ] {
        assert!(taken.lines().any(|one| one == line), "{line} in {taken}");
    }
    // No shell has seen the arguments.
    assert!(taken.ends_with("; rm -rf $HOME\n"), "{taken}");
    assert_eq!(read("released"), None);
    server.hook("m", "192.168.56.102").success();
    assert!(
        read("released")
            .unwrap()
            .contains("VIPSWITCH_TO=192.168.56.102")
    );
}

#[test]
fn a_site_command_that_fails_is_logged_and_is_the_runs_failure_if_required() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    for (command, said) in [
        (
            "[\"/bin/false\"]",
            "the command /bin/false failed: exit status: 1",
        ),
        ("[\"/absent\"]", "the command /absent failed: No such file"),
        (
            "[\"/bin/sleep\", \"60\"], timeout_seconds = 1",
            "the command /bin/sleep failed: it took longer than 1 s and was killed",
        ),
    ] {
        for (required, code) in [("false", 0), ("true", 1)] {
            lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = {command}, required = {required} }}\n"));
            let run = server.hook("m", "192.168.56.101");
            assert_eq!(run.code(), code, "{run}");
            assert!(run.took < Duration::from_secs(15), "{run}");
            // It is the command that failed, not the take-over.
            assert!(server.has(V4_BOUND));
            lab.logged(&[&format!("site_command=\"{said}"), &format!("exit={code}")]);
            server.ok("unbind");
        }
    }
}

#[test]
fn a_required_command_of_a_release_is_run_again_by_the_retry() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\non_release = { command = [\"/bin/false\"], required = true }\n");
    server.ok("bind");
    for action in ["released=", "nothing="] {
        assert_eq!(server.hook("m", "192.168.56.102").code(), 1);
        lab.logged(&[action, "site_command=", "exit=1"]);
    }
    assert!(server.vipswitch(["bind"]).code() == 0);
    server
        .vipswitch(["unbind"])
        .fails(1, &["the command /bin/false failed"]);
}
