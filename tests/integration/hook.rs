//! Sentinel's call: the newest truth wins over what the call says, and a run ends in time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    BOTH, NameHolder, V4, V4_BOUND, eventually, executable, false_sentinel, finish, guides_lab,
    says_master_is, wait_for,
};
use crate::lock::LOCK;

#[test]
fn sentinels_word_of_now_wins_over_the_call() {
    let lab = guides_lab(BOTH);
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
    let lab = guides_lab(BOTH);
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
    let lab = guides_lab(BOTH);
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
    let lab = guides_lab(BOTH);
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

/// Everything that a run waits for is silent: it ends before Sentinel kills it.
#[test]
fn a_run_ends_in_time_whatever_hangs() {
    let lab = guides_lab(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:6800\"\n",
    );
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
