//! `vipswitch status`: the host, its rivals and its Sentinel.

use crate::common::sniffer::{Frame, Sniffer, arp};
use crate::common::{
    BOTH, Finished, Host, ONLY_V4, PATIENCE, V4, eventually, false_sentinel, finish, guides_lab,
    wait_for,
};
use crate::rivals::sentinel;
use serde_json::{Value, json};

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
    [masters.bind]\nvip = \"192.168.56.251/24\"\n";

#[test]
fn status_tells_who_has_the_vip_and_who_else_claims_it() {
    let lab = guides_lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    for object in one.status() {
        assert_eq!(
            (&object["bound"], &object["interface"], &object["probed"]),
            (&json!(false), &json!("eth1"), &json!(true))
        );
        assert_eq!(
            (&object["claimed_by"], &object["bindings"]),
            (&json!([]), &json!([])),
            "{object}"
        );
    }
    two.ok("bind --all");
    let sniffer = Sniffer::start(&lab.host("client"));
    let seen = one.status();
    assert_eq!(seen.len(), 2);
    for object in seen {
        assert_eq!(
            (&object["bound"], &object["claimed_by"]),
            (&json!(false), &json!([two.mac("eth1")])),
            "{object}"
        );
    }
    // The question is a probe of RFC 5227: its sender address is zero.
    let mac = one.mac("eth1");
    let probe = || {
        let frames = sniffer.about(V4).into_iter();
        let mut all = frames.filter(Frame::is_arp).map(|frame| arp(&frame));
        all.find(|(_, sender, _)| sender[0] == mac)
    };
    assert_eq!(
        wait_for(PATIENCE, probe).expect("a probe"),
        (
            1,
            [one.mac("eth1"), "0.0.0.0".into()],
            ["00:00:00:00:00:00".into(), V4.into()]
        )
    );
    let seen = two.status();
    for (object, prefix) in seen.iter().zip([32, 64]) {
        assert_eq!(
            object["bindings"],
            json!([{ "interface": "eth1", "prefix": prefix, "usable": true }])
        );
        assert_eq!(object["claimed_by"], json!([]));
    }
    one.ok("bind --all");
    let text = two.ok("status");
    assert!(
        text.contains("; master is unknown: Sentinel at 127.0.0.1:26379 did not answer"),
        "{text}"
    );
    assert!(
        text.contains(&format!("ALSO CLAIMED by {}", one.mac("eth1"))),
        "{text}"
    );
}

#[test]
fn status_tells_every_binding_also_on_an_interface_that_is_down() {
    let lab = guides_lab(BOTH);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    server.ip("link set eth2 down");
    server.ip("addr add fd00::250/64 dev eth2");
    let seen = server.status();
    let on = |object: &Value| {
        object["bindings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| format!("{}/{}", one["interface"].as_str().unwrap(), one["prefix"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(on(&seen[0]), ["eth1/32", "eth2/24"]);
    assert_eq!(on(&seen[1]), ["eth2/64"]);
    assert!(
        server
            .ok("status")
            .contains("192.168.56.250 is here, on eth1 as /32 and on eth2 as /24")
    );
}

#[test]
fn this_hosts_own_second_interface_is_no_rival() {
    let lab = guides_lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.201/24 dev eth2");
    server.ok("bind --all");
    // Linux answers on eth2 for the address on eth1.
    assert_eq!(server.status()[0]["claimed_by"], json!([]));
}

#[test]
fn status_survives_an_interface_that_is_down_or_absent() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    assert!(
        server
            .ok("status")
            .contains("the network was not asked: eth1 has no carrier")
    );
    lab.config("[masters.m]\nvip = \"10.9.9.9\"\n");
    assert!(server.ok("status").contains("10.9.9.9 is not here"));
}

#[test]
fn status_names_what_would_keep_this_host_from_taking_over() {
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth7\"\n");
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
            .contains("PROBLEM: the VIP does not belong on eth2")
    );
    server.ok("unbind --all");
    lab.run("ip", ["link", "set", "server1-eth1", "down"]);
    eventually("the carrier is gone", || {
        server.json("link show eth1")[0]["operstate"] != "UP"
    });
    let said = server.ok("status");
    assert!(
        said.contains("the network was not asked: eth1 has no carrier")
            && said.contains("; master is unknown; ")
            && said.contains("PROBLEM: Sentinel at 127.0.0.1:26379 did not answer"),
        "{said}"
    );
}

#[test]
fn a_quiet_status_shows_what_is_wrong_and_nothing_else() {
    let lab = guides_lab(CONFIG);
    let host = lab.host("server1");
    lab.file("says", "192.168.56.101 1");
    sentinel(&lab, "server1", "6800", "says", None);
    redis(&host);
    lab.config(&format!("{CONFIG}{SENTINEL}"));
    // Sentinel may be late on a busy machine.
    eventually("the problem is shown", || {
        host.ok("status -q")
            .contains("PROBLEM: the master is here and the VIP is not")
    });
    host.ok("bind --all");
    eventually("nothing is shown", || host.ok("status -q").is_empty());
}

#[test]
fn a_sentinel_that_does_not_answer_properly_is_part_of_the_status() {
    let lab = guides_lab(CONFIG);
    let host = lab.host("server1");
    let cases = [
        ("sleep 600", "nothing within 300 ms"),
        (
            "while (1) { print $client '$'; select undef, undef, undef, 0.05 }",
            "did not answer",
        ),
        (
            "for my $byte (split //, \"*2\\r\\n\\$9\\r\\n10.0.0.1\") { print $client $byte; select undef, undef, undef, 0.05 }",
            "nothing within 300 ms",
        ),
        (
            "print $client \"HTTP/1.1 200 OK\\r\\n\\r\\n\"",
            "did not answer",
        ),
        ("", "did not answer"),
        (
            "print $client \"-NOAUTH Authentication required.\\r\\n\"; sleep 600",
            "Set username and password_file",
        ),
        (
            "print $client \"*2\\r\\n\\$8\\r\\n10.0.0.1\\r\\n\\$5\\r\\n99999\\r\\n\"; sleep 600",
            "did not answer",
        ),
        (
            "print $client \"*-1\\r\\n\"; sleep 600",
            "Sentinel does not monitor a master named",
        ),
    ];
    for (port, (script, said)) in (20_000..).zip(cases) {
        let port = port.to_string();
        lab.config(&format!(
            "{CONFIG}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&host, &port, script);
        // That it ends at all shows that it does not wait for Sentinel.
        let says = || {
            let told = host.ok("status");
            // The last line is about the agent.
            assert_eq!(told.lines().count(), 3, "{script}: {told}");
            told.contains(said)
        };
        eventually(&format!("{script}: {said}"), says);
    }
}

const SENTINEL: &str = "[sentinel]\naddress = \"127.0.0.1:6800\"\n";

/// Starts a Redis that is a master, on the port that the false Sentinel names.
fn redis(host: &Host) {
    let server = "redis-server --port 8000 --bind 0.0.0.0 --protected-mode no --save '' --dir / --daemonize yes";
    host.run("sh", ["-c", server]);
    eventually("the Redis answers", || {
        let mut ping = host.command("redis-cli");
        ping.args(["-p", "8000", "ping"]);
        finish(ping).stdout == "PONG\n"
    });
}

/// Waits until `status --json --exit-code` exits so and tells this problem of the only VIP. A Sentinel may be
/// late on a busy machine.
#[track_caller]
fn exits(host: &Host, code: i32, problem: &str) {
    let mut last: Option<Finished> = None;
    let found = wait_for(PATIENCE, || {
        let run = last.insert(host.vipswitch(["status", "--json", "--exit-code"]));
        let object: Value = serde_json::from_str(run.stdout.lines().next()?).ok()?;
        let is_told = match &object["problem"] {
            Value::Null => problem.is_empty(),
            told => !problem.is_empty() && told.as_str()?.contains(problem),
        };
        (run.code() == code && is_told).then_some(())
    });
    assert!(found.is_some(), "no {problem:?}: {}", last.unwrap());
    // Without the option it never fails.
    host.ok("status");
}

#[test]
fn what_keeps_sync_from_deciding_is_a_problem_and_the_exit_code_tells_how_grave_it_is() {
    let lab = guides_lab(&format!("{ONLY_V4}{SENTINEL}"));
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    exits(&one, 1, "Sentinel at 127.0.0.1:6800 did not answer");
    lab.file("says", "192.168.56.101 1");
    sentinel(&lab, "server1", "6800", "says", None);
    exits(&one, 1, "Redis");
    redis(&one);
    exits(&one, 1, "the master is here and the VIP is not");
    one.ok("bind");
    exits(&one, 0, "");
    lab.file("says", "192.168.56.102 2");
    exits(&one, 1, "the VIP is here and the master is on another host");
    two.ip("addr add 192.168.56.250/24 dev eth1");
    exits(&one, 2, "another machine answers for the VIP, too");
    two.ip("addr del 192.168.56.250/24 dev eth1");
    one.ok("unbind");
    exits(&one, 1, "no host has the VIP");
    // The VIP is the address of a server.
    lab.file("says", "192.168.56.250 1");
    exits(
        &one,
        2,
        "is a VIP in the configuration and the address of a Redis or a Sentinel",
    );
    let unknown = ONLY_V4.replace("[masters.m]", "[masters.unknown]");
    lab.config(&format!("{unknown}{SENTINEL}"));
    exits(&one, 2, "does not monitor a master named");
    // Two Sentinels, of which one is silent.
    lab.config(&format!("{ONLY_V4}{SENTINEL}").replace("6800", "6801"));
    lab.file("alone", "192.168.56.101 1");
    sentinel(
        &lab,
        "server1",
        "6801",
        "alone",
        Some("192.168.56.102:7000"),
    );
    exits(&one, 1, "no majority of the Sentinels names a master");
}

#[test]
fn the_fault_of_one_master_silences_no_other() {
    let lab = guides_lab(&format!(
        "[masters.a]\nvip = \"192.168.56.251/24\"\n[masters.unknown]\nvip = \"192.168.56.252/24\"\n{ONLY_V4}{SENTINEL}"
    ));
    let one = lab.host("server1");
    lab.file("says", "192.168.56.102 1");
    sentinel(&lab, "server1", "6800", "says", None);
    eventually("two masters are known, one is not", || {
        let seen = one.status();
        let named = |object: &&Value| object["redis_master"] == "192.168.56.102:8000";
        let problem = seen[2]["problem"].as_str().unwrap_or_default();
        // `a`, `m`, `unknown`.
        seen.iter().filter(named).count() == 2
            && seen[2]["redis_master"].is_null()
            && problem.contains("does not monitor a master named")
            && seen[0]["problem"]
                == "no host has the VIP. If the master's host is gone, Sentinel decides after down-after-milliseconds. Else run `vipswitch sync` on that host."
    });
}

#[test]
fn a_replicas_status_says_whether_the_masters_host_holds_the_vip() {
    let lab = guides_lab(&format!("{BOTH}{SENTINEL}"));
    let (one, two, client) = (lab.host("server1"), lab.host("server2"), lab.host("client"));
    lab.file("says", "192.168.56.102 1");
    sentinel(&lab, "server1", "6800", "says", None);
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ip("addr add fd00::250/64 dev eth1 nodad");
    let held = format!("; held by the master's host ({})", two.mac("eth1"));
    eventually("both are held by the master's host", || {
        let said = one.ok("status");
        said.matches(&held).count() == 2 && !said.contains("PROBLEM") && !said.contains("laimed")
    });
    assert_eq!(one.status()[0]["held_by_masters_host"], true);
    two.ip("addr del 192.168.56.250/24 dev eth1");
    client.ip("addr add 192.168.56.250/24 dev eth1");
    let held = format!(
        "; held by {}, not by the hardware address",
        client.mac("eth1")
    );
    eventually("another host has it", || one.ok("status").contains(&held));
    assert_eq!(one.status()[0]["held_by_masters_host"], false);
    two.ip("addr add 192.168.56.250/24 dev eth1");
    eventually("several claim it", || {
        let said = one.ok("status");
        said.contains("; CLAIMED BY SEVERAL: ") && said.contains("PROBLEM: several machines answer")
    });
}

#[test]
fn a_confirmation_is_told_only_where_somebody_was_asked() {
    let lab = guides_lab(ONLY_V4);
    let one = lab.host("server1");
    one.ok("bind");
    eventually("it is announced", || {
        one.ok("status").contains("; it is being announced; ")
    });
    assert!(!one.ok("status").contains("confirmed"));
}

#[test]
fn an_announcer_that_is_stopped_is_named_and_hides_no_other() {
    let lab = guides_lab(BOTH);
    let one = lab.host("server1");
    one.ok("bind");
    eventually("both are announced", || {
        one.ok("status").matches("it is being announced").count() == 2
    });
    let process = one
        .run("pgrep", ["-f", "[a]nnouncer --job"])
        .trim()
        .to_owned();
    one.run("kill", ["-STOP", &process]);
    let stopped =
        format!("its announcer, process {process}, does not answer: it is stopped, or hangs");
    let said = one.ok("status");
    assert_eq!(said.matches(&stopped).count(), 2, "{said}");
    assert_eq!(
        one.status()[0]["announcer"]["silent_process"].to_string(),
        process
    );
    one.ok("bind");
    eventually("the new one is seen", || {
        one.ok("status").matches("it is being announced").count() == 2
    });
    // A release reaches both.
    one.ok("unbind");
    one.run("kill", ["-CONT", &process]);
    eventually("none is left", || {
        one.run("sh", ["-c", "pgrep -f '[a]nnouncer --job' || true"])
            .is_empty()
    });
}
