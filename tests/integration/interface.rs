//! The interface of a VIP: which interface is taken, and what its state does to a run.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::sniffer::{Sniffer, arp, mac};
use crate::common::{
    BOTH, ONLY_V4, PATIENCE, SENTINELS_PATIENCE, V4, V4_BOUND, end_of, eventually, executable,
    finish_within, guides_lab, wait_for,
};

#[test]
fn the_interface_is_the_configured_one_else_by_subnet_else_by_to() {
    let lab = guides_lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 10.0.0.1/24 dev eth2");
    // By subnet, although TO is on the other.
    server.hook("m", "10.0.0.1").success();
    assert!(server.has(V4_BOUND));
    lab.logged(&["its subnet holds the VIP"]);
    // No subnet holds it: the one that carries TO.
    lab.config("[masters.m]\nvip = \"172.16.0.250/24\"\n");
    server.hook("m", "10.0.0.1").success();
    assert!(server.has("172.16.0.250/24@eth2"));
    lab.logged(&["it carries the address of this host's Redis"]);
    // As configured, whatever the subnet says.
    lab.config("[masters.m]\nvip = \"192.168.56.251/24\"\ninterface = \"eth2\"\n");
    server.hook("m", "192.168.56.101").success();
    assert!(server.has("192.168.56.251/24@eth2"));
    lab.logged(&["took 192.168.56.251/24 over on eth2: configured"]);
}

#[test]
fn the_smallest_subnet_decides_and_a_default_route_is_none() {
    let lab = guides_lab("[masters.m]\nvip = \"10.1.2.250\"\n");
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("route add default dev eth1");
    server.vipswitch(["bind"]).fails(
        2,
        &[
            "found no interface for 10.1.2.250/32",
            "Name one with `interface",
        ],
    );
    server.ip("addr add 10.0.0.1/8 dev eth1");
    server.ip("addr add 10.1.2.1/24 dev eth2");
    server.ok("bind");
    assert!(server.has("10.1.2.250/32@eth2"), "{:?}", server.addresses());
}

#[test]
fn a_call_that_is_repeated_moves_nothing_between_two_interfaces_of_one_subnet() {
    let lab = guides_lab(BOTH);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.201/24 dev eth2");
    server.ip("addr add fd00::201/64 dev eth2 nodad");
    for first in ["eth1", "eth2"] {
        server.ok("unbind");
        server.ip(&format!("addr add 192.168.56.250/24 dev {first}"));
        server.ip(&format!("addr add fd00::250/64 dev {first} nodad"));
        // At once: the kernel makes the route to an IPv6 address some time after the address.
        for _ in 0..3 {
            server.hook("m", "192.168.56.101").success();
            let vips: Vec<String> = server
                .addresses()
                .into_iter()
                .filter(|one| one.contains("250/"))
                .collect();
            assert_eq!(
                vips,
                [
                    format!("192.168.56.250/32@{first}"),
                    format!("fd00::250/64@{first}")
                ]
            );
        }
    }
    server.ok("unbind");
    server.ok("bind");
    let before = server.addresses();
    server.ok("bind");
    assert_eq!(server.addresses(), before);
}

#[test]
fn only_a_subnet_of_an_address_decides_no_other_route() {
    let lab = guides_lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("route add 192.168.56.128/25 dev eth2");
    server.ok("bind");
    assert!(server.has(V4_BOUND), "{:?}", server.addresses());
    // Of a whole range that is routed to the loopback no address is one of this host.
    server.ip("route add local 192.168.56.64/27 dev lo");
    server.hook("m", "192.168.56.77").success();
    assert!(!server.has(V4_BOUND));
}

#[test]
fn an_interface_without_carrier_gets_the_vip_and_the_truth() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    lab.run("ip", ["link", "set", "server1-eth1", "down"]);
    eventually("the carrier is gone", || {
        server.json("link show eth1")[0]["operstate"] != "UP"
    });
    let said = server.ok("bind");
    assert!(
        said.contains("nobody was told: this interface has no carrier"),
        "{said}"
    );
    assert!(server.has(V4_BOUND));
}

#[test]
fn the_mac_is_the_one_of_the_interface_that_owns_the_address() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // A bridge with eth1 as its port owns the host's address.
    for words in [
        "addr del 192.168.56.101/24 dev eth1",
        "link add br9 address 02:00:00:00:99:99 type bridge",
        "link set eth1 master br9",
        "link set br9 up",
        "addr add 192.168.56.101/24 dev br9",
        "link add mv9 link br9 address 02:00:00:00:77:77 type macvlan",
        "link set mv9 up",
    ] {
        server.ip(words);
    }
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ok("bind");
    assert!(server.has("192.168.56.250/32@br9"));
    let frames = sniffer.wait(V4, 2);
    assert_eq!(arp(&frames[0]).1[0], "02:00:00:00:99:99");
    assert_eq!(mac(&frames[0].bytes[6..12]), "02:00:00:00:99:99");
    server.ok("unbind");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"mv9\"\n");
    server.ok("bind");
    eventually("the other one announces it", || {
        let frames = sniffer.about(V4);
        frames
            .iter()
            .any(|frame| arp(frame).1[0] == "02:00:00:00:77:77")
    });
}

#[test]
fn an_interface_without_neighbours_gets_the_vip_and_no_frames() {
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250\"\ninterface = \"lo\"\n");
    let server = lab.host("server1");
    let said = server.ok("bind");
    assert!(
        said.contains("nobody was told: this interface has no neighbours"),
        "{said}"
    );
    assert!(server.has("192.168.56.250/32@lo"));
}

#[test]
fn an_interface_that_is_not_there_is_permanent() {
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth7\"\n");
    let server = lab.host("server1");
    let said = ["cannot bind 192.168.56.250/24 to eth7: this host has no interface of that name"];
    server.vipswitch(["bind"]).fails(2, &said);
    server.hook("m", "192.168.56.101").fails(2, &said);
    // It is no reason not to release.
    server.ip("addr add 192.168.56.250/24 dev eth1");
    server.hook("m", "192.168.56.102").success();
    assert!(!server.has(V4_BOUND));
}

#[test]
fn an_interface_that_is_down_is_waited_for() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    let trace = lab.unique("trace");
    let mut hook = server.command("strace");
    hook.args(["-f", "-b", "execve", "-qq", "-e", "trace=%network", "-o"]);
    hook.arg(&trace).arg(executable());
    hook.args(["m", "leader", "start", "", "8000", "192.168.56.101", "8000"]);
    let mut child = hook.spawn().unwrap();
    // TO is on it, although the kernel has no route to it now; bound, but not yet announced.
    eventually("it was tried once", || {
        std::fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("ENETDOWN"))
    });
    assert!(server.has(V4_BOUND) && child.try_wait().unwrap().is_none());
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ip("link set eth1 up");
    let status = end_of(&mut child);
    assert!(status.success(), "{status:?}");
    assert_eq!(arp(&sniffer.wait(V4, 2)[0]).1[1], V4);
    let line = lab.logged(&["exit=0"]);
    assert!(!line.contains("tries=1 "), "{line}");
}

#[test]
fn an_interface_that_stays_down_is_a_passing_fault_in_the_end() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    let finished = server.hook("m", "192.168.56.101");
    assert_eq!(finished.code(), 1, "{finished}");
    assert!(finished.took >= Duration::from_secs(18), "{finished}");
    assert!(finished.took < SENTINELS_PATIENCE, "{finished}");
    let line = lab.logged(&["exit=1", "Network is down", "ip link set"]);
    // Severity warning (4) of facility daemon (3).
    assert!(line.starts_with("<28>"), "{line}");
}

#[test]
fn an_interface_that_is_down_does_not_make_this_host_the_wrong_one() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind");
    server.ip("link set eth1 down");
    let plan = server.ok("unbind --dry-run");
    assert!(
        plan.contains("would release 192.168.56.250/24 from eth1"),
        "{plan}"
    );
    // TO is still an address of this host, so nothing is released.
    let mut hook = server.command(executable());
    hook.args(["m", "leader", "start", "", "8000", "192.168.56.101", "8000"]);
    let mut child = hook.spawn().unwrap();
    assert!(wait_for(Duration::from_millis(500), || child.try_wait().unwrap()).is_none());
    assert!(server.has(V4_BOUND));
    server.ip("link set eth1 up");
    assert!(end_of(&mut child).success());
}

#[test]
fn an_interface_that_comes_and_goes_meanwhile_ends_in_a_clean_result() {
    let lab = guides_lab("[masters.m]\nvip = \"10.7.7.250/24\"\n");
    let server = lab.host("server1");
    let enough = lab.unique("enough");
    let (come_and_go, runs) = thread::scope(|scope| {
        let flapper = scope.spawn(|| {
            let script = "until [[ -e $0 ]]; do ip link add p0 type veth peer name p1; ip addr add 10.7.7.1/24 dev p0; ip link set p0 up; ip link set p1 up; ip link del p0; done";
            let mut shell = server.command("bash");
            shell.args(["-c", script]).arg(&enough);
            finish_within(shell, 4 * PATIENCE)
        });
        let mut runs = Vec::new();
        let started = Instant::now();
        while runs.len() < 6 || started.elapsed() < Duration::from_secs(5) {
            runs.push(server.vipswitch([
                "m",
                "leader",
                "start",
                "",
                "8000",
                "192.168.56.101",
                "8000",
            ]));
            runs.push(server.vipswitch(["unbind"]));
        }
        std::fs::write(&enough, "").unwrap();
        (flapper.join().unwrap(), runs)
    });
    come_and_go.success();
    for run in runs {
        assert!(matches!(run.code(), 0..=2), "{run}");
    }
    server.ok("unbind");
    assert!(
        !server
            .addresses()
            .iter()
            .any(|address| address.starts_with("10.7.7.250"))
    );
}
