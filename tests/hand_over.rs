//! The hand-over: clients are reset before the VIP goes, one run at a time, and the newest truth
//! wins over what a call says.

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Host, Lab, NameHolder, eventually, executable, false_sentinel, finish, finish_within, is_root,
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
    // The sockets are the lock, the kernel's, the announcer's, the first sweep's, the interface's
    // lock, the second sweep's.
    for fault in [
        "socket:error=EPROTONOSUPPORT:when=4",
        "socket:error=EPROTONOSUPPORT:when=6",
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

const LOCK: &str = "vip/192.168.56.250";

#[test]
fn a_run_waits_for_another_one_about_the_same_vip_and_no_longer_than_it_may() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let holder = NameHolder::start(&one, LOCK);
    let mut command = one.command(executable());
    command.args(["m", "leader", "start", "", "1", "192.168.56.101", "1"]);
    let mut waiting = command.spawn().unwrap();
    // On another host, which is another network namespace, nobody has to wait.
    let started = Instant::now();
    two.ok("bind");
    // Nor for another VIP on the same one.
    let other = lab.file("other.toml", "[masters.o]\nvip = \"192.168.56.251/24\"\n");
    one.ok(&format!("bind --config {}", other.display()));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(waiting.try_wait().unwrap().is_none() && !one.has(V4_BOUND));
    // It goes on as soon as it may.
    holder.release();
    assert!(
        wait_for(Duration::from_secs(20), || waiting.try_wait().unwrap())
            .unwrap()
            .success()
    );
    assert!(one.has(V4_BOUND));
    // One that is never given back is a passing fault, in time for Sentinel's patience.
    let holder = NameHolder::start(&one, LOCK);
    let mut command = one.command(executable());
    command.arg("unbind");
    finish_within(command, Duration::from_secs(50)).fails(
        1,
        &["another run of vipswitch holds the lock of vip 192.168.56.250 and does not end"],
    );
    holder.release();
    one.ok("unbind");
}

#[test]
fn a_lock_goes_with_its_holder_however_that_died() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let holder = NameHolder::start(&server, LOCK);
    server.run("pkill", ["-KILL", "-x", "perl"]);
    assert!(server.ok("bind").contains("took"));
    drop(holder);
}

#[test]
fn a_stranger_cannot_hold_the_lock() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let stranger = if is_root() {
        let mut stranger = server.command("setpriv");
        stranger.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "perl",
        ]);
        stranger
    } else {
        // There is no other user in the lab: one of whom nothing can be known.
        let mut stranger = server.command("perl");
        stranger.env("SILENT", "1");
        stranger
    };
    let _holder = NameHolder::start_by(stranger, LOCK);
    let started = Instant::now();
    server.ok("bind");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(server.has(V4_BOUND));
    // There is another lock then, which no stranger can hold.
    let file = "/proc/sys/net/ipv4/tcp_fastopen_key";
    let mut stranger = if is_root() {
        let mut stranger = server.command("setpriv");
        stranger.args(["--reuid", "65534", "--clear-groups", "flock"]);
        stranger
    } else {
        // In the lab this user is root; in the namespace that the machine has for all it is not.
        Command::new("flock")
    };
    stranger.args(["-n", file, "true"]);
    finish(stranger).fails(66, &["Permission denied"]);
    let mut flock = server.command("flock");
    flock.args([file, "sh", "-c", "echo held; exec cat"]);
    flock.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut flock = flock.spawn().unwrap();
    std::io::Read::read_exact(flock.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    let mut waiting = server.command(executable()).arg("unbind").spawn().unwrap();
    server.ok("announce --dry-run");
    assert!(waiting.try_wait().unwrap().is_none() && server.has(V4_BOUND));
    drop(flock.stdin.take());
    flock.wait().unwrap();
    assert!(
        wait_for(Duration::from_secs(20), || waiting.try_wait().unwrap())
            .unwrap()
            .success()
    );
}

/// As user 65534: takes the name by a socket with no room for anybody, or hands it to a program that
/// runs with root's rights.
#[test]
fn a_stranger_cannot_hold_the_lock_by_tricks() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let program = lab.file("setuid", std::fs::read("/bin/sleep").unwrap());
    lab.run("chmod", ["4755", program.to_str().unwrap()]);
    lab.run("chmod", ["755", lab.dir().to_str().unwrap()]);
    let script = r#"
use Socket; $^F = 99;
socket(my $s, AF_UNIX, SOCK_STREAM, 0); my $name = pack_sockaddr_un("\0vipswitch/vip/192.168.56.250");
bind($s, $name) or die $!;
listen($s, $ARGV[0] eq "full" ? 0 : 9);
socket(my $c, AF_UNIX, SOCK_STREAM, 0); connect($c, $name) if $ARGV[0] eq "full";
$| = 1; print "r"; close STDOUT;
exec $ARGV[0] eq "full" ? "/bin/sleep" : $ARGV[1], "613";
"#;
    let tricks: &[&str] = if is_root() { &["full", "setuid"] } else { &[] };
    for trick in tricks {
        let mut stranger = server.command("setpriv");
        stranger.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "perl",
            "-e",
        ]);
        stranger.args([script, trick]).arg(&program);
        let mut stranger = stranger.stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(stranger.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
        if *trick == "setuid" {
            eventually("it has root's rights", || {
                let look = "grep ^Uid /proc/$(pgrep -f '[s]etuid 613')/status || true";
                server.run("sh", ["-c", look]).contains("\t0\t")
            });
        }
        let started = Instant::now();
        server.ok("bind");
        server.ok("unbind");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{trick}: {:?}",
            started.elapsed()
        );
        server.run("pkill", ["-KILL", "-f", "613"]);
        stranger.wait().unwrap();
    }
}

/// With a stranger on its name for a while, a run excludes those that have theirs.
#[test]
fn a_run_whose_name_is_denied_waits_for_those_that_have_theirs() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    // One that has its name and waits, with its lock, for the interface's.
    server.ok("bind");
    let interface = server.json("link show eth1")[0]["ifindex"].to_string();
    let holder = NameHolder::start(&server, &format!("interface/{interface}"));
    let mut first = server.command(executable()).arg("unbind").spawn().unwrap();
    eventually("it has its name", || {
        server
            .run("cat", ["/proc/net/unix"])
            .contains("@vipswitch/vip/192.168.56.250")
    });
    let other = lab.file("other.toml", "[masters.o]\nvip = \"192.168.56.251/24\"\n");
    let mut silent = server.command("perl");
    silent.env("SILENT", "1");
    let _stranger = NameHolder::start_by(silent, "vip/192.168.56.251");
    let mut second = server.command(executable());
    second.args(["bind", "--config"]).arg(&other);
    let mut second = second.spawn().unwrap();
    assert!(wait_for(Duration::from_secs(1), || second.try_wait().unwrap()).is_none());
    holder.release();
    for run in [&mut first, &mut second] {
        let ended = wait_for(Duration::from_secs(20), || run.try_wait().unwrap());
        assert!(ended.unwrap().success());
    }
    assert!(server.has("192.168.56.251/24@eth1") && !server.has(V4_BOUND));
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
#[expect(
    clippy::zombie_processes,
    reason = "Sentinel ends with the lab, whose first process reaps it"
)]
fn a_sentinel_with_a_password_is_asked_with_it() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    // All that README "Configure" says the hook's user at Sentinel needs.
    let conf = lab.file(
        "sentinel.conf",
        "port 7001\nrequirepass secret\nprotected-mode no\n\
         user vipswitch on >word +sentinel|get-master-addr-by-name\n\
         sentinel monitor m 192.168.56.102 8000 1\n",
    );
    std::fs::set_permissions(&conf, Permissions::from_mode(0o600)).unwrap();
    let mut sentinel = server.command("redis-sentinel");
    sentinel.arg(&conf).stdout(Stdio::null()).spawn().unwrap();
    eventually("Sentinel answers", || {
        let mut ping = server.command("redis-cli");
        ping.args(["-p", "7001", "--no-auth-warning", "-a", "secret", "ping"]);
        finish(ping).stdout == "PONG\n"
    });
    let password_file = lab.file("password", "word\n");
    std::fs::set_permissions(&password_file, Permissions::from_mode(0o600)).unwrap();
    let user = format!(
        "username = \"vipswitch\"\npassword_file = \"{}\"\n",
        password_file.display()
    );
    let cases = [
        ("", "NOAUTH"),
        ("password = \"wrong\"\n", "refused the password"),
        ("password = \"secret\"\n", "says 192.168.56.102"),
        (&user, "says 192.168.56.102"),
    ];
    for (round, (credentials, said)) in cases.into_iter().enumerate() {
        let path = lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:7001\"\n{credentials}"
        ));
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        // Without Sentinel's word the call decides.
        server.hook("m", "192.168.56.101").success();
        assert_eq!(server.has(V4_BOUND), !said.starts_with("says"), "{said}");
        // Each round has two: this one, and that of `unbind`.
        let line = &lab.log_of(2 * round + 1)[2 * round];
        assert!(line.contains(said), "{line}");
        assert!(
            !line.contains("wrong") && !line.contains("secret"),
            "{line}"
        );
        server.ok("unbind");
    }
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
fn a_bystander_runs_no_command() {
    let lab = Lab::with_hosts(["server1", "server2", "server3"]);
    with_commands(&lab, "");
    // From 192.168.56.109 to server2, and this is server3.
    lab.host("server3").hook("m", "192.168.56.102").success();
    lab.logged(&["nothing="]);
    assert!(!lab.dir().join("released").exists());
}

#[test]
fn a_required_command_of_a_release_is_run_again_by_the_retry() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\non_release = { command = [\"/bin/false\"], required = true }\n");
    server.ok("bind");
    for action in ["released=", "nothing="] {
        let call = [
            "m",
            "leader",
            "start",
            "192.168.56.101",
            "1",
            "192.168.56.102",
            "1",
        ];
        assert_eq!(server.vipswitch(call).code(), 1);
        lab.logged(&[action, "site_command=", "exit=1"]);
    }
    assert!(server.vipswitch(["bind"]).code() == 0);
    server
        .vipswitch(["unbind"])
        .fails(1, &["the command /bin/false failed"]);
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = { command = [\"/bin/sh\", \"-c\", \"sleep 611 & sleep 611\"], timeout_seconds = 1 }\n");
    assert_eq!(server.hook("m", "192.168.56.101").code(), 0);
    lab.logged(&["it took longer than 1 s and was killed"]);
    eventually("nothing is left", || {
        server
            .run("sh", ["-c", "pgrep -c -f '[s]leep 611' || true"])
            .trim()
            == "0"
    });
}

#[test]
fn a_command_has_nothing_of_sentinels() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let seen = lab.dir().join("seen");
    let look = format!(
        "{{ ls -l /proc/$$/fd | grep -c passwd; grep SigIgn /proc/$$/status; }} > {}",
        seen.display()
    );
    lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = [\"/bin/bash\", \"-c\", \"{look}\"] }}\n"));
    let script =
        "exec 7</etc/passwd; trap '' HUP ALRM; \"$1\" m leader start '' 1 192.168.56.101 1";
    let mut hook = server.command("bash");
    hook.args(["-c", script, "bash"]).arg(executable());
    finish(hook).success();
    let seen = std::fs::read_to_string(seen).unwrap();
    let (files, ignored) = seen.split_once('\n').unwrap();
    let ignored = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    // HUP is 1, ALRM 14.
    assert_eq!((files, ignored & (1 | 1 << 13)), ("0", 0), "{seen}");
}

#[test]
fn commands_of_one_vip_run_one_at_a_time_and_hold_no_vip_up() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let (order, gate) = (lab.dir().join("order"), lab.dir().join("gate"));
    lab.run("mkfifo", [gate.to_str().unwrap()]);
    let (order_name, gate_name) = (order.display(), gate.display());
    lab.config(&format!(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n\
         on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"cat {gate_name}; echo taken >> {order_name}\"], timeout_seconds = 20 }}\n\
         on_release = {{ command = [\"/bin/sh\", \"-c\", \"echo released >> {order_name}\"] }}\n"
    ));
    let mut bind = server.command(executable()).arg("bind").spawn().unwrap();
    eventually("the first command runs", || {
        server
            .run("sh", ["-c", "pgrep -c -f '[c]at .*gate' || true"])
            .trim()
            != "0"
    });
    // The VIP is released meanwhile; its command waits.
    let mut unbind = server.command(executable()).arg("unbind").spawn().unwrap();
    eventually("the VIP is released", || !server.has(V4_BOUND));
    assert!(!order.exists() && unbind.try_wait().unwrap().is_none());
    std::fs::write(&gate, "go\n").unwrap();
    for child in [&mut bind, &mut unbind] {
        let ended = wait_for(Duration::from_secs(20), || child.try_wait().unwrap());
        assert!(ended.unwrap().success());
    }
    let order_of_commands = std::fs::read_to_string(&order).unwrap();
    assert_eq!(order_of_commands, "taken\nreleased\n");
}

#[test]
fn a_command_whose_vip_has_moved_on_is_not_run() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    with_commands(&lab, "");
    let holder = NameHolder::start(&server, "command/192.168.56.250");
    let mut bind = server.command(executable()).arg("bind").spawn().unwrap();
    eventually("the VIP is here", || server.has(V4_BOUND));
    server.ip("addr del 192.168.56.250/24 dev eth1");
    holder.release();
    let ended = wait_for(Duration::from_secs(20), || bind.try_wait().unwrap());
    assert!(ended.unwrap().success());
    assert!(!lab.dir().join("taken").exists());
}

#[test]
fn a_command_is_told_where_the_master_is_by_sentinels_word() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    with_commands(&lab, "");
    let config = std::fs::read_to_string(lab.dir().join("vipswitch.toml")).unwrap();
    lab.config(&format!(
        "{config}[sentinel]\naddress = \"127.0.0.1:6800\"\n"
    ));
    false_sentinel(&server, "6800", &says_master_is("192.168.56.101"));
    server.hook("m", "192.168.56.102").success();
    let taken = std::fs::read_to_string(lab.dir().join("taken")).unwrap();
    assert!(taken.contains("VIPSWITCH_TO=192.168.56.101\n"), "{taken}");
}

#[test]
fn what_a_killed_release_has_borrowed_is_given_back_by_the_next_run() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let file = "/proc/sys/net/ipv4/conf/eth1/promote_secondaries";
    let set = |value: &str| server.run("sh", ["-c", &format!("echo {value} >{file}")]);
    let get = || server.run("cat", [file]);
    set("118");
    server.hook("m", "192.168.56.102").success();
    assert_eq!(get(), "0\n");
    // The administrator's own setting is not touched.
    set("1");
    server.hook("m", "192.168.56.102").success();
    assert_eq!(get(), "1\n");
}

#[test]
fn a_run_without_any_lock_says_so() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let mut nobody = server.command("perl");
    nobody.env("SILENT", "1");
    let _holder = NameHolder::start_by(nobody, LOCK);
    let mut hidden = server.command("unshare");
    let script = "mount -t tmpfs none /proc/sys/net/ipv4 && exec \"$1\" bind";
    hidden.args(["--mount", "sh", "-c", script, "sh"]);
    hidden.arg(executable());
    finish(hidden).success();
    lab.logged(&["took_over=", "lock=none"]);
}

/// Everything that a run waits for is silent: it ends before Sentinel kills it.
#[test]
fn a_run_ends_in_time_whatever_hangs() {
    let lab =
        lab("[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:6800\"\n");
    let server = lab.host("server1");
    // A name server, and a Sentinel, that accept and say nothing.
    std::fs::write(lab.dir().join("resolv.conf"), "nameserver 192.168.56.102\n").unwrap();
    let mut silent = lab.host("server2").command("perl");
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 53, Proto => 'udp') or die; $| = 1; print 'r'; recv $s, my $q, 999, 0 while 1";
    silent.args(["-e", script]);
    let mut silent = silent.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(silent.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    false_sentinel(&server, "6800", "sleep 600");
    let holder = NameHolder::start(&server, LOCK);
    let mut command = server.command(executable());
    command.args(["m", "leader", "start", "", "1", "redis-2.example", "1"]);
    let started = Instant::now();
    let mut run = command.spawn().unwrap();
    // The lock is given back just before the run gives up on it.
    assert!(wait_for(Duration::from_secs(9), || run.try_wait().unwrap()).is_none());
    holder.release();
    let ended = wait_for(Duration::from_secs(60), || run.try_wait().unwrap());
    assert_eq!(ended.and_then(|status| status.code()), Some(1));
    assert!(
        started.elapsed() < Duration::from_secs(50),
        "{:?}",
        started.elapsed()
    );
    lab.logged(&["cannot resolve the name redis-2.example", "exit=1"]);
    silent.kill().unwrap();
    silent.wait().unwrap();
}
