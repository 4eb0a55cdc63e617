//! A release: which addresses go, and which stay.

use std::process::Stdio;

use crate::common::{
    ADD_MARKED, BOTH, Host, NameHolder, ONLY_V4, V4, V6, eventually, executable, finish, guides_lab,
};

#[test]
fn a_release_removes_every_binding_of_the_vip() {
    let lab = guides_lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    let before = server.addresses();
    server.ok("bind");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    server.hook("m", "192.168.56.102").success();
    assert_eq!(server.addresses(), before);
    assert!(lab.logged(&["released="]).contains("192.168.56.250/24@"));
}

#[test]
fn the_hosts_own_address_survives_a_vip_that_was_there_before_it() {
    let lab = guides_lab("[masters.m]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\n");
    let server = lab.host("server1");
    let flags = || server.json("addr show dev eth1")[0]["addr_info"].clone();
    let knob = || {
        server
            .run("cat", ["/proc/sys/net/ipv4/conf/eth1/promote_secondaries"])
            .trim()
            .to_owned()
    };
    server.run("sh", ["-c", "echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries; echo 0 > /proc/sys/net/ipv4/conf/eth1/promote_secondaries"]);
    server.ip("addr del 192.168.56.101/24 dev eth1");
    // With the mark, as vipswitch binds them where there is no other address: without it nothing would tell them
    // from the host's own, and they stay.
    for vip in ["192.168.56.251", "192.168.56.250"] {
        server.run("perl", ["-e", ADD_MARKED, vip, "24", "eth1"]);
    }
    server
        .ip("addr add 192.168.56.101/24 dev eth1 label eth1:own valid_lft 9999 preferred_lft 9999");
    server.ip("addr add 192.168.56.25/24 dev eth1");
    server.ok("unbind");
    let left: Vec<String> = server
        .addresses()
        .into_iter()
        .filter(|one| one.starts_with("192"))
        .collect();
    assert_eq!(left, ["192.168.56.101/24@eth1", "192.168.56.25/24@eth1"]);
    let own = flags()
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["local"] == "192.168.56.101")
        .unwrap()
        .clone();
    assert_eq!(own["label"], "eth1:own");
    assert!(
        own["valid_life_time"].as_u64() <= Some(9999) && own["secondary"].is_null(),
        "{own}"
    );
    assert_eq!(knob(), "0");
    // It is reached as before.
    lab.host("client").run("bash", ["-c", "ip neigh flush all; exec 3<>/dev/udp/192.168.56.101/9 && echo > /dev/udp/192.168.56.101/9"]);
    eventually("the peer finds it", || {
        lab.host("client").neighbour("192.168.56.101") == Some(server.mac("eth1"))
    });
}

/// Its own clients would send to that one, which takes nothing by then, and only try again after a second.
#[test]
fn a_host_that_lets_go_has_forgotten_who_had_the_vip_before_it() {
    let lab = guides_lab(BOTH);
    let (server, former) = (lab.host("server1"), lab.host("server2"));
    let mac = former.mac("eth1");
    for vip in [V4, V6] {
        server.ip(&format!(
            "neigh replace {vip} lladdr {mac} nud stale dev eth1"
        ));
        assert_eq!(server.neighbour(vip).as_deref(), Some(mac.as_str()));
    }
    server.ok("bind");
    server.ok("unbind");
    for vip in [V4, V6] {
        assert_eq!(server.neighbour(vip), None);
    }
}

#[test]
fn a_vip_with_a_peer_address_is_released() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250 peer 10.9.9.9/32 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    server.hook("m", "192.168.56.102").success();
    assert!(
        !server
            .addresses()
            .iter()
            .any(|one| one.starts_with("192.168.56.250"))
    );
}

#[test]
fn an_interface_removed_with_the_vip_on_it_leaves_nothing_to_release() {
    let lab = guides_lab("[masters.m]\nvip = \"10.7.7.250/24\"\n");
    let server = lab.host("server1");
    server.ip("link add p0 type veth peer name p1");
    server.ip("addr add 10.7.7.1/24 dev p0");
    server.ip("link set p0 up");
    server.ok("bind");
    assert!(server.has("10.7.7.250/32@p0"));
    server.ip("link del p0");
    server.hook("m", "192.168.56.102").success();
    server.vipswitch(["bind"]).fails(2, &["found no interface"]);
}

#[test]
fn what_a_killed_release_has_borrowed_is_given_back_by_the_next_run() {
    let lab = guides_lab(BOTH);
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
fn routes_with_the_vip_as_their_source_outlive_it() {
    for call in ["unbind", "hook"] {
        let lab = guides_lab(BOTH);
        lab.wire("server1", "eth2");
        let server = lab.host("server1");
        server.ok("bind");
        server.ip("addr add 10.9.0.1/24 dev eth2");
        for route in [
            "default via 192.168.56.103 src 192.168.56.250",
            "10.1.0.0/16 via 192.168.56.103 src 192.168.56.250 metric 7 mtu 1400",
            "10.2.0.0/16 via 192.168.56.103 src 192.168.56.250 table 100",
            "10.3.0.0/16 dev eth2 src 192.168.56.250 proto static",
            "10.4.0.0/16 src 192.168.56.250 nexthop via 192.168.56.103 weight 2 nexthop via 10.9.0.2",
            "10.5.0.0/16 via 192.168.56.102",
            "10.6.0.0/16 via 192.168.57.1 dev eth1 onlink src 192.168.56.250",
        ] {
            server.ip(&format!("route add {route}"));
        }
        server.ip("-6 route add fd01::/64 via fd00::103 src fd00::250");
        server.ip("-6 route add default via fd00::103 src fd00::250 table 100");
        let before = routes(&server, &["eth1", "eth2"]);
        let dry = server.ok("unbind --dry-run");
        assert!(dry.contains("would release"), "{dry}");
        assert_eq!(routes(&server, &["eth1", "eth2"]), before);
        match call {
            "unbind" => drop(server.ok("unbind")),
            _ => drop(server.hook("m", "192.168.56.102").success()),
        }
        let after = server.ip("route show table all") + &server.ip("-6 route show table all");
        assert!(
            !after.contains(".250") && !after.contains("::250"),
            "{after}"
        );
        for kept in [
            "default via 192.168.56.103 dev eth1",
            "10.1.0.0/16 via 192.168.56.103 dev eth1 metric 7 mtu 1400",
            "10.2.0.0/16 via 192.168.56.103 dev eth1 table 100",
            "10.3.0.0/16 dev eth2 proto static",
            "nexthop via 192.168.56.103 dev eth1 weight 2",
            "10.5.0.0/16 via 192.168.56.102 dev eth1",
            "10.6.0.0/16 via 192.168.57.1 dev eth1 onlink",
            "fd01::/64 via fd00::103 dev eth1",
            "default via fd00::103 dev eth1 table 100",
        ] {
            assert!(after.contains(kept), "{kept}: {after}");
        }
        let source = server.json("route get 10.1.0.1")[0]["prefsrc"].clone();
        assert_eq!(source, "192.168.56.101");
        let line =
            lab.logged(&["route default via 192.168.56.103 has lost its src 192.168.56.250"]);
        assert!(
            line.contains("10.2.0.0/16 via 192.168.56.103 of table 100"),
            "{line}"
        );
        assert!(!line.contains("10.5.0.0"), "{line}");
    }
}

#[test]
fn a_route_is_kept_beside_another_of_its_kind_and_by_a_next_hop_object() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind");
    server.ip("route add 10.1.0.0/16 via 192.168.56.103");
    server.ip("route append 10.1.0.0/16 via 192.168.56.103 src 192.168.56.250");
    server.ip("route append 10.2.0.0/16 via 192.168.56.102");
    server.ip("route append 10.2.0.0/16 via 192.168.56.103 src 192.168.56.250");
    server.ip("nexthop add id 5 via 192.168.56.103 dev eth1");
    server.ip("route add 10.3.0.0/16 nhid 5 src 192.168.56.250");
    server.ok("unbind");
    let after = server.ip("route show");
    assert!(!after.contains(".250"), "{after}");
    assert_eq!(
        after.matches("10.1.0.0/16 via 192.168.56.103").count(),
        1,
        "{after}"
    );
    assert_eq!(after.matches("10.2.0.0/16 via").count(), 2, "{after}");
    assert!(after.contains("10.3.0.0/16 nhid 5"), "{after}");
}

#[test]
fn an_interfaces_only_address_is_not_removed_unless_we_have_bound_it() {
    for (vip, own) in [
        ("192.168.56.250/24", "192.168.56.101/24"),
        ("fd00::250/64", "fd00::101/64"),
    ] {
        let lab = guides_lab(&format!(
            "[masters.m]\nvip = \"{vip}\"\ninterface = \"eth1\"\n"
        ));
        let server = lab.host("server1");
        server.ip(&format!("addr del {own} dev eth1"));
        server.ip(&format!("addr add {vip} dev eth1"));
        let before = server.addresses();
        let said = [
            "will not remove",
            "vipswitch has not bound it",
            "remove it by hand: ip addr del",
        ];
        server.vipswitch(["unbind"]).fails(2, &said);
        server.vipswitch(["unbind", "--dry-run"]).fails(2, &said);
        server.hook("m", "192.168.56.102").fails(2, &said);
        lab.logged(&["failed=", "exit=2", "will not remove"]);
        assert_eq!(server.addresses(), before);
        // Ours goes, and so does another's beside the host's own.
        server.ip(&format!("addr del {vip} dev eth1"));
        server.ok("bind");
        server.ok("unbind");
        assert!(!server.addresses().iter().any(|one| one.contains("250/")));
        server.ip(&format!("addr add {own} dev eth1"));
        server.ip(&format!("addr add {vip} dev eth1"));
        server.ok("unbind");
        assert!(!server.addresses().iter().any(|one| one.contains("250/")));
        assert!(server.has(&format!("{own}@eth1")));
    }
}

#[test]
fn a_primary_address_of_the_hosts_own_is_not_removed_unless_we_have_bound_it() {
    let other = "192.168.56.251";
    let lab = guides_lab(&format!(
        "[masters.m]\nvip = \"192.168.56.101/24\"\n[masters.n]\nvip = \"{other}/24\"\n"
    ));
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.30/24 dev eth1");
    let said = [
        "will not remove 192.168.56.101/24 from eth1",
        "it is the primary address there and 192.168.56.30 its secondary",
        "remove it by hand: ip addr del 192.168.56.101/24 dev eth1",
    ];
    let before = server.addresses();
    server.vipswitch(["unbind", "m"]).fails(2, &said);
    server
        .vipswitch(["unbind", "m", "--dry-run"])
        .fails(2, &said);
    server.hook("m", "192.168.56.102").fails(2, &said);
    assert_eq!(server.addresses(), before);
    // Another VIP keeps the host in no network: its only own address stays, too.
    server.ip("addr del 192.168.56.30/24 dev eth1");
    server.ip(&format!("addr add {other}/24 dev eth1"));
    let before = server.addresses();
    server
        .hook("m", "192.168.56.102")
        .fails(2, &["will not remove", "no other IPv4 address"]);
    assert_eq!(server.addresses(), before);
    // A secondary of the host's own goes, with and without the mark.
    server.hook("n", "192.168.56.102").success();
    server.run("perl", ["-e", ADD_MARKED, other, "24", "eth1"]);
    server.hook("n", "192.168.56.102").success();
    assert!(!server.has(&format!("{other}/24@eth1")));
    assert!(server.has("192.168.56.101/24@eth1"));
}

/// Returns the routes of all tables, once those are there that come of their own: to an interface's link-local address
/// there is none until the kernel has made sure that nobody else has it.
#[track_caller]
fn routes(host: &Host, interfaces: &[&str]) -> String {
    let has_its_own = |interface: &str| {
        let local = format!("-6 route show table local type local dev {interface}");
        host.ip(&local).contains("fe80::")
    };
    eventually("the interfaces have their link-local addresses", || {
        interfaces.iter().all(|interface| has_its_own(interface))
    });
    host.ip("route show table all")
}

#[test]
fn routes_stay_as_they_are_while_the_vip_cannot_be_removed() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind");
    for route in [
        "10.1.0.0/16 via 192.168.56.103 src 192.168.56.250",
        "10.2.0.0/16 via 192.168.56.103 src 192.168.56.250 table 100",
        "10.3.0.0/16 via 192.168.56.103",
    ] {
        server.ip(&format!("route add {route}"));
    }
    server.ip("route append 10.3.0.0/16 via 192.168.56.103 src 192.168.56.250");
    let before = routes(&server, &["eth1"]);
    // A run that has to wait for the interface before it removes the VIP.
    let ifindex = server.json("link show dev eth1")[0]["ifindex"].clone();
    let holder = NameHolder::start(&server, &format!("interface/{ifindex}"));
    let mut unbind = server.command("strace");
    let trace = lab.unique("trace");
    unbind
        .args(["-f", "-qq", "-e", "trace=connect", "-o"])
        .arg(&trace);
    unbind
        .arg(executable())
        .arg("unbind")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut unbind = unbind.spawn().unwrap();
    eventually("it waits for the interface", || {
        let calls = std::fs::read_to_string(&trace).unwrap_or_default();
        calls.contains("vipswitch/interface/")
    });
    assert!(server.has("192.168.56.250/32@eth1"));
    assert_eq!(routes(&server, &["eth1"]), before);
    unbind.kill().unwrap();
    unbind.wait().unwrap();
    holder.release();
    server.ok("unbind");
    let after = server.ip("route show table all");
    assert!(!after.contains(".250"), "{after}");
    assert_eq!(after.matches("10.3.0.0/16").count(), 1, "{after}");
}

#[test]
fn a_request_that_fails_leaves_neither_a_route_from_the_vip_nor_one_too_many() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    for nth in 1..=30 {
        server.ok("bind -q");
        server.ip("route replace 10.1.0.0/16 via 192.168.56.103 src 192.168.56.250");
        server.ip("route replace 10.2.0.0/16 via 192.168.56.103");
        server.ip("route append 10.2.0.0/16 via 192.168.56.103 src 192.168.56.250");
        let mut unbind = server.command("strace");
        let fault = format!("inject=sendto:error=ENOBUFS:when={nth}");
        unbind.args([
            "-f",
            "-b",
            "execve",
            "-qq",
            "-e",
            "trace=sendto",
            "-e",
            &fault,
        ]);
        unbind.arg(executable()).arg("unbind");
        let run = finish(unbind);
        let after = server.ip("route show table all");
        assert!(!after.contains(".250"), "{nth}: {run}{after}");
        for kept in ["10.1.0.0/16", "10.2.0.0/16"] {
            assert_eq!(after.matches(kept).count(), 1, "{nth}: {run}{after}");
        }
        if !run.stderr.contains("(INJECTED)") {
            assert!(nth > 8, "{run}");
            return;
        }
    }
}

#[test]
fn a_list_that_changes_while_it_is_read_is_read_again() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // More than the kernel tells in one piece.
    let many = (0..2000).map(|n| format!("addr add 10.7.{}.{}/32 dev eth1\n", n / 250, n % 250));
    let batch = lab.file("many", many.collect::<String>());
    server.run("ip", ["-batch".as_ref(), batch.as_os_str()]);
    let mut flapper = server.command("bash");
    flapper.args([
        "-c",
        "while :; do ip addr add 10.8.0.1/32 dev eth1; ip addr del 10.8.0.1/32 dev eth1; done",
    ]);
    let mut flapper = flapper.spawn().unwrap();
    for run in 1..=10 {
        server.ip("addr add 192.168.56.250/24 dev eth1");
        let done = server.vipswitch(["unbind"]);
        // Half of the lists are interrupted, and every run needs several. A run that is tried again has another
        // reason: a busy machine.
        let is_busy = |line: &str| {
            line.contains("did not answer within") || line.contains("the machine very busy")
        };
        assert!(done.stderr.lines().all(is_busy), "{}", done.stderr);
        let said = done.success();
        assert!(said.contains("released"), "{said}");
        lab.log_of(run);
    }
    flapper.kill().unwrap();
    flapper.wait().unwrap();
}
