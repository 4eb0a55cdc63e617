//! `vipswitch status`: the host, its rivals and its Sentinel.

use crate::common::sniffer::{Frame, Sniffer, arp};
use crate::common::{
    BOTH, ONLY_V4, PATIENCE, V4, eventually, false_sentinel, guides_lab, says_master_is, wait_for,
};
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
    for (object, prefix) in seen.iter().zip([24, 64]) {
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
            && !said.contains("PROBLEM"),
        "{said}"
    );
}

#[test]
fn a_quiet_status_shows_what_is_wrong_and_nothing_else() {
    let lab = guides_lab(CONFIG);
    let host = lab.host("server1");
    false_sentinel(&host, "6800", &says_master_is("192.168.56.101"));
    let more = "[sentinel]\naddress = \"127.0.0.1:6800\"\n";
    lab.config(&format!("{CONFIG}{more}"));
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
            assert_eq!(told.lines().count(), 2, "{script}: {told}");
            told.contains(said)
        };
        eventually(&format!("{script}: {said}"), says);
    }
}
