//! Sentinel's call: the newest truth wins over what the call says, and a run ends in time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    BOTH, Host, NameHolder, SENTINELS_PATIENCE, V4, V4_BOUND, end_of, eventually, executable,
    false_sentinel, finish, guides_lab, is_late, says_master_is, wait_for,
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
    for (from, to) in [
        ("192.168.56.101", "192.168.56.102"),
        ("192.168.56.102", "192.168.56.102"),
    ] {
        let line = lab.heard(|| {
            server.ok("unbind");
            call(from, to)
        });
        assert!(server.has(V4_BOUND), "{line}");
        for part in [
            "why=to_is_here",
            "sentinel=\"says 192.168.56.101\"",
            "took_over=",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
    let line = lab.heard(|| call("192.168.56.102", "192.168.56.101"));
    assert!(
        line.contains("already_here=") && line.contains("sentinel=agrees"),
        "{line}"
    );
    // The call says here, and it is no longer so.
    with(7002, &says_master_is("192.168.56.102"));
    let line = lab.heard(|| call("192.168.56.102", "192.168.56.101"));
    assert!(!server.has(V4_BOUND));
    for part in [
        "why=to_is_elsewhere",
        "sentinel=\"says 192.168.56.102\"",
        "released=",
    ] {
        assert!(line.contains(part), "{line}");
    }
    // Whoever answers that the VIP is the master is not believed.
    with(7003, &says_master_is(V4));
    eventually("it is refused", || {
        let run = call("192.168.56.102", "192.168.56.101");
        run.code() == 2 && run.stderr.contains("is a VIP in the configuration")
    });
}

#[test]
#[expect(
    clippy::zombie_processes,
    reason = "Sentinel ends with the lab, whose first process reaps it"
)]
fn a_sentinel_with_a_password_is_asked_with_it() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    // All that docs/configuration.md says the hook's user at Sentinel needs.
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
    for (credentials, said) in cases {
        let path = lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:7001\"\n{credentials}"
        ));
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        // Without Sentinel's word the call decides.
        let line = lab.heard(|| server.hook("m", "192.168.56.101"));
        assert_eq!(server.has(V4_BOUND), !said.starts_with("says"), "{said}");
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
            "sleep 600",
            "sentinel=\"is silent: Sentinel at 127.0.0.1:7001 did not answer: nothing within 300 ms\"",
        ),
        (
            7002,
            "sysread $client, my $q, 4096; print $client \"*-1\\r\\n\"; sleep 600",
            "sentinel=\"does not monitor it\"",
        ),
        (7003, "", "sentinel=\"is silent: "),
        (
            7004,
            "sysread $client, my $q, 4096; print $client \"*2\\r\\n\\$3\\r\\na b\\r\\n\\$1\\r\\n1\\r\\n\"; sleep 600",
            "it names 'a b', which is no host",
        ),
    ] {
        lab.config(&format!(
            "{BOTH}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&server, &port.to_string(), script);
        // It is asked once: a Sentinel that is silent is not waited for again.
        let mut told = false;
        eventually(said, || {
            for (to, here) in [("192.168.56.101", true), ("192.168.56.102", false)] {
                let before = lab.runs().len();
                server.hook("m", to).success();
                assert_eq!(server.has(V4_BOUND), here, "{script}");
                let line = lab.log_of(before + 1).swap_remove(before);
                assert!(line.contains(" tries=1 "), "{line}");
                told |= line.contains(said);
            }
            told
        });
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
        // A busy machine may be too slow for Sentinel to answer them all in time; a call that it does
        // not answer decides by itself.
        let mut number = 100;
        eventually("Sentinel answers them all", || {
            let before = lab.runs().len();
            call_at_once(&server, number);
            let late = lab.log_of(before + number)[before..]
                .iter()
                .filter(|line| is_late(line))
                .count();
            number = (number / 2).max(4);
            late == 0
        });
        assert_eq!(server.has(V4_BOUND), here);
        assert_eq!(server.has("fd00::250/64@eth1"), here);
    }
}

/// Makes so many calls at once, of which every third says something else than the others.
fn call_at_once(server: &Host, number: usize) {
    let calls: Vec<Child> = (0..number)
        .map(|number| {
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
        let status = end_of(&mut child);
        assert!(status.success(), "{status:?}");
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
    // The lock is given back before the run gives up on it, after 10 s.
    assert!(wait_for(Duration::from_secs(7), || run.try_wait().unwrap()).is_none());
    holder.release();
    assert_eq!(end_of(&mut run).code(), Some(1));
    assert!(
        started.elapsed() < SENTINELS_PATIENCE,
        "{:?}",
        started.elapsed()
    );
    println!("after {:?}", started.elapsed());
    lab.logged(&["cannot resolve the name redis-2.example", "exit=1"]);
    silent.kill().unwrap();
    silent.wait().unwrap();
}
