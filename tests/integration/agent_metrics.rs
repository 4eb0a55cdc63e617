//! The agent's metrics, scraped as Prometheus does, beside real Redis and Sentinels.

use std::process::Stdio;

use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};
use crate::common::{Host, eventually, finish};

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
