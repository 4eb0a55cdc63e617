//! The agent's metrics, scraped as Prometheus does, beside real Redis and Sentinels.

use std::process::Stdio;

use crate::common::redis::{MASTER_8000, Master, SERVERS, Site, address};
use crate::common::{Host, eventually, finish};
use crate::rivals::claim;

const M: Master = MASTER_8000;

const MASTERS: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n";

fn serving_at(port: u16) -> String {
    format!("{MASTERS}[agent]\nmetrics = \"127.0.0.1:{port}\"\n")
}

/// Returns what a scrape answers, if anybody listens.
fn scrape(host: &Host, port: u16) -> Option<String> {
    let script = r#"
use IO::Socket::INET;
my $agent = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or exit 1;
print $agent "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
print while <$agent>;
"#;
    let mut perl = host.command("perl");
    perl.args(["-e", script, &port.to_string()]);
    let told = finish(perl).stdout;
    told.starts_with("HTTP/1.1 200 ").then_some(told)
}

/// Returns the value of a sample of the only master, by its name and its other labels.
fn sample(text: &str, name: &str, labels: &str) -> Option<f64> {
    let of_master = [
        format!("vipswitch_{name}{{master=\"master8000\"{labels}}} "),
        format!("vipswitch_{name} "),
    ];
    let mut lines = text.lines();
    lines.find_map(|line| {
        let mut names = of_master.iter();
        names.find_map(|name| line.strip_prefix(name.as_str())?.parse().ok())
    })
}

/// How often it was taken over, how many failovers that were, and what was mended.
fn counted(host: &Host, port: u16) -> Option<[f64; 3]> {
    let text = scrape(host, port)?;
    Some([
        sample(&text, "take_over_seconds_count", "")?,
        sample(&text, "failovers_total", "")?,
        sample(&text, "drift_repaired_total", "")?,
    ])
}

#[test]
fn a_failover_and_a_drift_are_counted_apart() {
    let site = Site::with_agents_and(&serving_at(9641));
    let two = site.host("server2");
    // The agents have bound and left what was there: no failover.
    for server in SERVERS {
        assert_eq!(counted(&site.host(server), 9641), Some([0.0; 3]));
    }
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    eventually("the failover is counted", || {
        counted(&two, 9641) == Some([1.0, 1.0, 0.0])
    });
    two.ip("addr del 192.168.56.250/32 dev eth1");
    site.settles(&M, "server2");
    eventually("the drift is counted, and it alone", || {
        counted(&two, 9641) == Some([1.0, 1.0, 1.0])
    });
    eventually("all Sentinels answer", || {
        let text = scrape(&two, 9641).unwrap();
        sample(&text, "sentinels_in_reach", "") == Some(3.0)
    });
    let text = scrape(&two, 9641).unwrap();
    let vip = ",vip=\"192.168.56.250\"";
    assert_eq!(sample(&text, "holder", vip), Some(1.0), "{text}");
    let here = sample(&text, "verdict", ",verdict=\"here\"");
    assert_eq!(here, Some(1.0), "{text}");
    let one = scrape(&site.host("server1"), 9641).unwrap();
    assert_eq!(sample(&one, "holder", vip), Some(0.0), "{one}");
    assert_eq!(sample(&one, "failovers_total", ""), Some(0.0), "{one}");
    // The bind came before its announcement.
    let seen = site.timeline("server2");
    let at = |step: &str| seen[step].as_f64().unwrap_or_else(|| panic!("{seen}"));
    assert!(at("bound") < at("first_frame"), "{seen}");
}

/// Returns how many bytes and how many seconds a replica is behind, as its master's agent has it.
fn behind(host: &Host, replica: &str) -> Option<(f64, f64)> {
    let text = scrape(host, 9641)?;
    let label = format!(",replica=\"{}:{}\"", address(replica), M.port);
    let bytes = sample(&text, "replication_lag_bytes", &label)?;
    Some((bytes, sample(&text, "replication_lag_seconds", &label)?))
}

#[test]
fn a_replica_that_falls_behind_is_seen_at_its_masters_agent_alone() {
    let site = Site::with_agents_and(&serving_at(9641));
    let one = site.host("server1");
    eventually("both replicas are close", || {
        ["server2", "server3"].iter().all(|replica| {
            behind(&one, replica).is_some_and(|(bytes, seconds)| bytes < 1e5 && seconds < 5.0)
        })
    });
    let other = scrape(&site.host("server2"), 9641).unwrap();
    assert!(!other.contains("replication_lag_bytes{"), "{other}");
    let frozen = site.listener("server3", M.port);
    site.signal(&frozen, "STOP");
    let write = format!("printf %0200000d 1 | redis-cli -p {} -x set large", M.port);
    assert_eq!(one.run("sh", ["-c", &write]), "OK\n");
    eventually("one is behind, and the other is not", || {
        let far = behind(&one, "server3");
        let far = far.is_some_and(|(bytes, seconds)| bytes >= 2e5 && seconds >= 2.0);
        far && behind(&one, "server2").is_some_and(|(bytes, _)| bytes < 1e5)
    });
    site.go_on(&frozen);
    eventually("it is close again", || {
        behind(&one, "server3").is_some_and(|(bytes, _)| bytes < 1e5)
    });
}

#[test]
fn a_pause_of_writes_and_a_command_that_fails_are_counted_where_they_were() {
    let failing = "on_release = { command = [\"/bin/false\"] }\n[agent]";
    let site = Site::with_agents_and(&serving_at(9641).replace("[agent]", failing));
    site.wait_until_replicas_have_data("server1", 2);
    // How long writes were paused, and how many commands have not succeeded.
    let counted = |server: &str| {
        let text = scrape(&site.host(server), 9641).expect("a scrape is answered");
        let paused = sample(&text, "paused_seconds_total", "");
        let pending = sample(&text, "pending_commands", "");
        (paused.expect("it is there"), pending.expect("it is there"))
    };
    for server in SERVERS {
        assert_eq!(counted(server), (0.0, 0.0), "{server}");
    }
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    eventually("the pause is over", || {
        site.timeline("server1")["unpaused"].is_number()
    });
    let seen = site.timeline("server1");
    let (paused, _) = counted("server1");
    assert!(paused > 0.0, "{paused} {seen}");
    eventually("the command is pending", || counted("server1").1 == 1.0);
    for server in ["server2", "server3"] {
        assert_eq!(counted(server), (0.0, 0.0), "{server}");
    }
}

#[test]
fn each_claim_of_a_rival_is_counted_at_the_holder() {
    let site = Site::with_agents_and(&serving_at(9641));
    let rivals = |server: &str| {
        let text = scrape(&site.host(server), 9641).expect("a scrape is answered");
        let label = format!(",vip=\"{}\"", M.vip);
        sample(&text, "rivals_total", &label).expect("it is there")
    };
    assert_eq!(rivals("server1"), 0.0);
    let mut before = 0.0;
    for _ in 0..2 {
        claim(&site.host("server2"), 3);
        eventually("the claims are counted", || rivals("server1") > before);
        before = rivals("server1");
    }
    assert_eq!(rivals("server3"), 0.0);
    site.settles(&M, "server1");
}

/// Follows from answers: a Sentinel whose connection for events is up may answer nothing.
#[test]
fn a_sentinel_that_is_frozen_is_not_in_reach() {
    let site = Site::with_agents_and(&serving_at(9641));
    let frozen = site.sentinel_pid("server3");
    site.signal(&frozen, "STOP");
    let in_reach = || {
        let text = scrape(&site.host("server1"), 9641)?;
        Some((
            sample(&text, "sentinels", "")?,
            sample(&text, "sentinels_in_reach", "")?,
        ))
    };
    eventually("two of three answer", || in_reach() == Some((3.0, 2.0)));
    site.go_on(&frozen);
    eventually("all answer", || in_reach() == Some((3.0, 3.0)));
}

/// Whether this server's agent mends a VIP that is removed.
#[track_caller]
fn works(site: &Site) {
    site.host("server1")
        .ip("addr del 192.168.56.250/32 dev eth1");
    site.settles(&M, "server1");
}

#[test]
fn metrics_are_served_where_the_configuration_of_now_says_and_else_nowhere() {
    let site = Site::with_agents_on(&[], std::path::Path::new("/bin/true"));
    site.configure(MASTERS);
    site.start_agent("server1");
    let one = site.host("server1");
    let listening = || {
        let all = one.run("ss", ["-Hltnp"]);
        let own = all.lines().filter(|line| line.contains("vipswitch"));
        own.map(str::to_owned).collect::<Vec<String>>()
    };
    assert!(listening().is_empty(), "{:?}", listening());
    let pid = site.agent_pid("server1");
    let reload = |config: &str| {
        site.configure(config);
        site.signal(&pid, "HUP");
    };
    reload(&serving_at(9641));
    eventually("they are served", || scrape(&one, 9641).is_some());
    // The same address once more: it is not in its own way.
    reload(&serving_at(9641));
    eventually("they are served", || scrape(&one, 9641).is_some());
    reload(&serving_at(9642));
    eventually("they are served elsewhere", || {
        scrape(&one, 9642).is_some() && scrape(&one, 9641).is_none()
    });
    reload(MASTERS);
    eventually("nothing listens", || listening().is_empty());
    works(&site);
}

#[test]
fn an_address_that_is_taken_is_told_and_tried_again_and_the_agent_works_on() {
    let site = Site::with_agents_on(&[], std::path::Path::new("/bin/true"));
    let one = site.host("server1");
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:9641', Listen => 1) or die; $| = 1; print 'r'; <STDIN>";
    let mut taken = one.command("perl");
    taken.args(["-e", script]);
    taken.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut taken = taken.spawn().unwrap();
    let stdout = taken.stdout.as_mut().unwrap();
    std::io::Read::read_exact(stdout, &mut [0; 1]).unwrap();
    site.configure(&serving_at(9641));
    site.start_agent("server1");
    site.lab()
        .logged(&["cannot serve metrics at 127.0.0.1:9641"]);
    works(&site);
    drop(taken.stdin.take());
    crate::common::end_of(&mut taken);
    eventually("they are served", || scrape(&one, 9641).is_some());
}

#[test]
fn clients_that_are_slow_or_never_end_hold_nothing_up() {
    let site = Site::with_agents_and(&serving_at(9641));
    let one = site.host("server1");
    // More than are served at the same time, of two kinds, and each comes again when it is sent away.
    let script = r#"
use IO::Socket::INET;
$SIG{PIPE} = "IGNORE"; $| = 1;
for my $kind (0 .. 23) {
    next if fork;
    my $said = 0;
    for (;;) {
        my $agent = IO::Socket::INET->new(PeerAddr => "127.0.0.1:9641") or next;
        $said++ or print "r";
        if ($kind % 2) { sysread $agent, my $end, 1 }
        else { syswrite $agent, "GET /metrics HTTP/1.1\r\n" . "X: " . "x" x 999 and select undef, undef, undef, 0.1 while sysread($agent, my $end, 0) // 1; }
    }
}
<STDIN>; kill "KILL", -$$;
"#;
    let mut crowd = one.command("setsid");
    crowd.args(["perl", "-e", script]);
    crowd.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut crowd = crowd.spawn().unwrap();
    let stdout = crowd.stdout.as_mut().unwrap();
    std::io::Read::read_exact(stdout, &mut [0; 12]).unwrap();
    works(&site);
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    assert!(site.agent("server1").is_some());
    drop(crowd.stdin.take());
    crate::common::end_of(&mut crowd);
    eventually("a scrape is answered", || scrape(&one, 9641).is_some());
}
