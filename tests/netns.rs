//! Moves real addresses between real network namespaces, and looks from outside: `ip -j` on the
//! host, a raw socket and the neighbour table on its peer.

mod common;

use std::thread;
use std::time::Duration;

use common::sniffer::{Frame, Sniffer};
use common::{
    Finished, Host, Lab, eventually, executable, finish, finish_within, is_root, wait_for,
};
use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};

const V4: &str = "192.168.56.250";
const V6: &str = "fd00::250";
const V4_BOUND: &str = "192.168.56.250/24@eth1";
const V6_BOUND: &str = "fd00::250/64@eth1";

const ONLY_V4: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
const BOTH: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Two servers and a peer that looks on.
fn lab(config: &str) -> Lab {
    let lab = Lab::with_hosts(["server1", "server2", "peer"]);
    lab.config(config);
    lab
}

/// What ARP says: operation, sender and target, as text.
fn arp(frame: &Frame) -> (u16, [String; 2], [String; 2]) {
    let Ok(SlicedPacket {
        net: Some(NetSlice::Arp(arp)),
        ..
    }) = SlicedPacket::from_ethernet(&frame.bytes)
    else {
        panic!("no ARP: {frame:02x?}");
    };
    let ip =
        |bytes: &[u8]| std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string();
    (
        arp.operation().0,
        [mac(arp.sender_hw_addr()), ip(arp.sender_protocol_addr())],
        [mac(arp.target_hw_addr()), ip(arp.target_protocol_addr())],
    )
}

fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[test]
fn bind_and_unbind_can_be_repeated() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let before = server.addresses();
    for _ in 0..2 {
        server.ok("bind");
        assert!(
            server.has(V4_BOUND) && server.has(V6_BOUND),
            "{:?}",
            server.addresses()
        );
        assert_eq!(server.addresses().len(), before.len() + 2);
    }
    for _ in 0..2 {
        server.ok("unbind");
        assert_eq!(server.addresses(), before);
    }
    let said: Vec<String> = lab.log();
    let actions = ["took_over=", "already_here=", "released=", "nothing="];
    for (line, action) in said.iter().zip(actions) {
        assert!(
            line.contains(action) && line.contains("exit=0"),
            "{action} in {line}"
        );
    }
}

#[test]
fn an_ipv4_take_over_sends_an_arp_request_and_an_arp_reply_first() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("peer"));
    server.hook("m", "192.168.56.101").success();
    let own = server.mac("eth1");
    let check = |frames: &[Frame]| {
        let [request, reply] = frames else {
            panic!("not two: {frames:02x?}")
        };
        assert_eq!(
            arp(request),
            (
                1,
                [own.clone(), V4.into()],
                ["00:00:00:00:00:00".into(), V4.into()]
            )
        );
        assert_eq!(
            arp(reply),
            (2, [own.clone(), V4.into()], [own.clone(), V4.into()])
        );
        for frame in [request, reply] {
            assert_eq!(mac(&frame.bytes[..6]), "ff:ff:ff:ff:ff:ff");
            assert_eq!(mac(&frame.bytes[6..12]), own);
        }
    };
    check(&sniffer.settled(&server, V4));
    // One that is there already is announced again, and so it is by hand.
    server.hook("m", "192.168.56.101").success();
    check(&sniffer.settled(&server, V4)[2..]);
    server.ok("announce");
    check(&sniffer.settled(&server, V4)[4..]);
}

#[test]
fn an_ipv6_take_over_sends_an_unsolicited_advertisement() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("peer"));
    server.hook("m", "fd00::101").success();
    let adverts = |frames: Vec<Frame>| {
        frames
            .into_iter()
            .filter(|frame| frame.is_icmpv6(136))
            .collect::<Vec<_>>()
    };
    let frames = adverts(sniffer.settled(&server, V6));
    let [frame] = frames.as_slice() else {
        panic!("not one: {frames:02x?}")
    };
    let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
        (packet.net, packet.transport)
    else {
        panic!("{frame:02x?}");
    };
    let ip = ip.header();
    assert_eq!(
        (
            ip.source_addr().to_string(),
            ip.destination_addr().to_string()
        ),
        (V6.into(), "ff02::1".into())
    );
    assert_eq!(ip.hop_limit(), 255);
    assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
    let Icmpv6Type::NeighborAdvertisement(header) = icmp.icmp_type() else {
        panic!("{:?}", icmp.icmp_type())
    };
    assert!(header.r#override && !header.solicited);
    // Target, then the option: target link-layer address, 8 bytes, the MAC.
    let target: std::net::Ipv6Addr = V6.parse().unwrap();
    assert_eq!(frame.bytes[62..78], target.octets());
    assert_eq!(frame.bytes[78..80], [2, 1]);
    assert_eq!(mac(&frame.bytes[80..86]), server.mac("eth1"));
}

#[test]
fn an_ipv6_vip_is_usable_at_once_and_never_a_source() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    server.ok("bind");
    let shown = server.json("addr show dev eth1");
    let address = shown[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["local"] == V6)
        .unwrap();
    assert_eq!(address["nodad"], true, "{address}");
    assert_eq!(address["deprecated"], true, "{address}");
    assert!(
        address["tentative"].is_null() && address["preferred_life_time"] == 0,
        "{address}"
    );
    let route = server.json("route get fd00::103");
    assert_eq!(route[0]["prefsrc"], "fd00::101", "{route}");
}

#[test]
fn the_address_carries_our_owner_tag() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    server.ok("bind");
    // iproute2 prints the tag since 6.3; strace shows it in the kernel's answer to any.
    let mut strace = server.command("strace");
    strace.args([
        "-e",
        "trace=recvmsg",
        "-s",
        "4000",
        "ip",
        "addr",
        "show",
        "dev",
        "eth1",
    ]);
    let answer = finish(strace).stderr;
    let tags = answer.split("nla_type=IFA_PROTO}, ").skip(1);
    let ours = |tag: &&str| {
        ["\"\\x76\"", "0x76", "118"]
            .iter()
            .any(|form| tag.starts_with(form))
    };
    // Once each for the two VIPs, in each of the two answers to ip's two questions or fewer.
    assert!(tags.filter(ours).count() >= 2, "{answer}");
}

#[test]
fn a_peers_neighbour_entry_moves_whether_fresh_or_old() {
    let lab = lab(BOTH);
    let (one, two, peer) = (lab.host("server1"), lab.host("server2"), lab.host("peer"));
    let ask = || {
        // A datagram makes the peer look for the VIP's hardware address.
        for vip in [V4, V6] {
            peer.run("bash", ["-c", &format!("echo > /dev/udp/{vip}/9")]);
        }
    };
    let knows = |mac: &str| {
        eventually("the peer's neighbour entries move", || {
            [V4, V6]
                .iter()
                .all(|vip| peer.neighbour(vip).as_deref() == Some(mac))
        });
    };
    one.ok("bind");
    ask();
    knows(&one.mac("eth1"));
    // The entry is younger than a second, within which Linux ignores some replies.
    one.ok("unbind");
    two.ok("bind");
    knows(&two.mac("eth1"));
    // Now it is older.
    peer.run(
        "ip",
        [
            "neigh",
            "replace",
            V4,
            "lladdr",
            &two.mac("eth1"),
            "nud",
            "stale",
            "dev",
            "eth1",
        ],
    );
    let fresh = || {
        peer.json("-s neigh show")
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["dst"] == V4 && entry["updated"].as_u64() < Some(2))
    };
    eventually("the entry is older than a second", || !fresh());
    two.ok("unbind");
    one.ok("bind");
    knows(&one.mac("eth1"));
}

#[test]
fn foreign_addresses_are_untouched() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    for address in [
        "192.168.56.25/24",
        "192.168.56.2/32",
        "10.0.0.250/24",
        "fd00::25/64",
        "fd00::2/128",
        "169.254.7.7/16",
    ] {
        server.ip(&format!("addr add {address} dev eth1"));
    }
    server
        .ip("addr add 192.168.56.251/24 dev eth1 label eth1:old valid_lft 9999 preferred_lft 999");
    let shown = |host: &Host| {
        let mut links = host.json("addr show");
        // The remaining lifetimes count down.
        for link in links.as_array_mut().unwrap() {
            for address in link["addr_info"].as_array_mut().unwrap() {
                for field in ["valid_life_time", "preferred_life_time"] {
                    let forever = address[field].as_u64() == Some(u32::MAX.into());
                    address[field] = forever.into();
                }
                // Duplicate address detection ends by itself.
                address.as_object_mut().unwrap().remove("tentative");
            }
        }
        links
    };
    let before = shown(&server);
    server.ok("bind");
    server.ok("unbind");
    assert_eq!(shown(&server), before);
}

#[test]
fn sentinels_call_binds_where_to_is_and_releases_elsewhere() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let both = |to: &str| [one.hook("m", to).success(), two.hook("m", to).success()];
    for (to, here, away) in [
        ("192.168.56.101", &one, &two),
        ("fd00::102", &two, &one),
        ("192.168.56.101", &one, &two),
    ] {
        both(to);
        assert!(here.has(V4_BOUND) && here.has(V6_BOUND));
        assert!(!away.has(V4_BOUND) && !away.has(V6_BOUND));
    }
    // The text of one address is the start of another's: 192.168.56.10 is on no host.
    both("192.168.56.10");
    assert!(!one.has(V4_BOUND) && !two.has(V4_BOUND));
}

#[test]
fn the_interface_is_the_configured_one_else_by_subnet_else_by_to() {
    let lab = lab(ONLY_V4);
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
    lab.logged(&["it carries TO-IP"]);
    // As configured, whatever the subnet says.
    lab.config("[masters.m]\nvip = \"192.168.56.251/24\"\ninterface = \"eth2\"\n");
    server.hook("m", "192.168.56.101").success();
    assert!(server.has("192.168.56.251/24@eth2"));
    lab.logged(&["took 192.168.56.251/24 over on eth2: configured"]);
}

#[test]
fn the_smallest_subnet_decides_and_a_default_route_is_none() {
    let lab = lab("[masters.m]\nvip = \"10.1.2.250\"\n");
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
fn a_vip_on_another_interface_is_moved() {
    let lab = lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth2");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let said = server.ok("bind");
    assert!(said.contains("removed it from eth2"), "{said}");
    assert!(server.has(V4_BOUND) && !server.has("192.168.56.250/32@eth2"));
    assert_eq!(arp(&sniffer.wait(V4, 2)[0]).1[0], server.mac("eth1"));
}

#[test]
fn a_release_removes_every_binding_of_the_vip() {
    let lab = lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    let before = server.addresses();
    server.ok("bind");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    server.hook("m", "192.168.56.102").success();
    assert_eq!(server.addresses(), before);
    assert!(lab.logged(&["released="]).contains("192.168.56.250/24@"));
}

#[test]
fn the_mac_is_the_one_of_the_interface_that_owns_the_address() {
    let lab = lab(ONLY_V4);
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
    let sniffer = Sniffer::start(&lab.host("peer"));
    server.ok("bind");
    assert!(server.has("192.168.56.250/24@br9"));
    let frames = sniffer.wait(V4, 2);
    assert_eq!(arp(&frames[0]).1[0], "02:00:00:00:99:99");
    assert_eq!(mac(&frames[0].bytes[6..12]), "02:00:00:00:99:99");
    server.ok("unbind");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"mv9\"\n");
    server.ok("bind");
    let frames = sniffer.wait(V4, 4);
    assert_eq!(arp(frames.last().unwrap()).1[0], "02:00:00:00:77:77");
}

#[test]
fn an_interface_without_neighbours_gets_the_vip_and_no_frames() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250\"\ninterface = \"lo\"\n");
    let server = lab.host("server1");
    let said = server.ok("bind");
    assert!(
        said.contains("no frames: this interface has no neighbours"),
        "{said}"
    );
    assert!(server.has("192.168.56.250/32@lo"));
}

#[test]
fn an_interface_that_is_not_there_is_permanent() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth7\"\n");
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
fn one_vip_that_cannot_be_bound_does_not_keep_the_other_away() {
    let lab = lab("[masters.m]\nvip = [\"10.9.9.9\", \"192.168.56.250/24\"]\n");
    let server = lab.host("server1");
    server
        .vipswitch(["bind"])
        .fails(2, &["found no interface for 10.9.9.9/32"]);
    assert!(server.has(V4_BOUND));
}

#[test]
fn an_interface_that_is_down_is_waited_for() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    let mut hook = server.command(executable());
    hook.args(["m", "leader", "start", "", "8000", "192.168.56.101", "8000"]);
    let mut child = hook.spawn().unwrap();
    // TO is on it, although the kernel has no route to it now; bound, but not yet announced.
    eventually("the VIP is bound", || server.has(V4_BOUND));
    assert!(child.try_wait().unwrap().is_none());
    let sniffer = Sniffer::start(&lab.host("peer"));
    server.ip("link set eth1 up");
    let status = wait_for(Duration::from_secs(20), || child.try_wait().unwrap());
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert_eq!(arp(&sniffer.wait(V4, 2)[0]).1[1], V4);
    let line = lab.logged(&["exit=0"]);
    assert!(!line.contains("tries=1 "), "{line}");
}

#[test]
fn an_interface_that_stays_down_is_a_passing_fault_in_the_end() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    let finished = server.hook("m", "192.168.56.101");
    assert_eq!(finished.code(), 1, "{finished}");
    assert!((19..26).contains(&finished.took.as_secs()), "{finished}");
    let line = lab.logged(&["exit=1", "Network is down", "ip link set"]);
    // Severity warning (4) of facility daemon (3).
    assert!(line.starts_with("<28>"), "{line}");
}

#[test]
fn an_interface_that_is_down_does_not_make_this_host_the_wrong_one() {
    let lab = lab(ONLY_V4);
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
    assert!(
        wait_for(Duration::from_secs(20), || child.try_wait().unwrap())
            .unwrap()
            .success()
    );
}

#[test]
fn an_interface_that_comes_and_goes_meanwhile_ends_in_a_clean_result() {
    let lab = lab("[masters.m]\nvip = \"10.7.7.250/24\"\n");
    let server = lab.host("server1");
    let (come_and_go, runs) = thread::scope(|scope| {
        let flapper = scope.spawn(|| {
            let script = "for i in $(seq 300); do ip link add p0 type veth peer name p1; ip addr add 10.7.7.1/24 dev p0; ip link set p0 up; ip link set p1 up; ip link del p0; done";
            let mut shell = server.command("bash");
            shell.args(["-c", script]);
            finish(shell)
        });
        let mut runs = Vec::new();
        while !flapper.is_finished() {
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
        (flapper.join().unwrap(), runs)
    });
    come_and_go.success();
    assert!(runs.len() > 4);
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

#[test]
fn an_interface_removed_with_the_vip_on_it_leaves_nothing_to_release() {
    let lab = lab("[masters.m]\nvip = \"10.7.7.250/24\"\n");
    let server = lab.host("server1");
    server.ip("link add p0 type veth peer name p1");
    server.ip("addr add 10.7.7.1/24 dev p0");
    server.ip("link set p0 up");
    server.ok("bind");
    assert!(server.has("10.7.7.250/24@p0"));
    server.ip("link del p0");
    server.hook("m", "192.168.56.102").success();
    server.vipswitch(["bind"]).fails(2, &["found no interface"]);
}

/// Runs the executable without some privilege, through util-linux's setpriv or unshare.
fn without(host: &Host, how: &[&str], arguments: &[&str]) -> Finished {
    let mut command = host.command(how[0]);
    command.args(&how[1..]).arg(executable()).args(arguments);
    finish(command)
}

#[test]
fn a_missing_privilege_is_permanent_and_named_and_changes_nothing() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let before = server.addresses();
    let drop = |capability: &'static str| {
        [
            "setpriv",
            "--bounding-set",
            capability,
            "--inh-caps",
            capability,
        ]
    };
    without(&server, &drop("-net_admin"), &["bind"]).fails(
        2,
        &[
            "cannot add 192.168.56.250/24 to eth1: not permitted: CAP_NET_ADMIN is missing",
            "AmbientCapabilities",
        ],
    );
    without(&server, &drop("-net_raw"), &["bind"]).fails(
        2,
        &[
            "cannot open a packet socket on eth1: not permitted: CAP_NET_RAW is missing",
            "AmbientCapabilities",
        ],
    );
    without(
        &server,
        &["unshare", "--user", "--map-root-user"],
        &["bind"],
    )
    .fails(2, &["within a user namespace", "PrivateUsers=no"]);
    assert_eq!(server.addresses(), before);
    server.ok("bind");
    without(&server, &drop("-net_admin"), &["unbind"])
        .fails(2, &["cannot remove", "CAP_NET_ADMIN is missing"]);
    assert!(server.has(V4_BOUND));
    // Sentinel's call says it to the log as well.
    without(
        &server,
        &drop("-net_admin"),
        &["m", "leader", "start", "", "1", "192.168.56.102", "1"],
    )
    .fails(2, &["CAP_NET_ADMIN is missing"]);
    lab.logged(&["CAP_NET_ADMIN is missing", "exit=2"]);
    // A release needs no frames.
    without(&server, &drop("-net_raw"), &["unbind"]).success();
    assert_eq!(server.addresses(), before);
}

/// Runs the executable with a system call that fails, through strace.
fn with_fault(host: &Host, fault: &str, arguments: &[&str]) -> Finished {
    let mut command = host.command("strace");
    command
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={fault}"),
        ])
        .arg(executable())
        .args(arguments);
    finish(command)
}

#[test]
fn a_blocked_address_family_is_permanent_and_named() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let call = ["m", "leader", "start", "", "1", "192.168.56.101", "1"];
    // The first socket is netlink's, the second the packet socket.
    for (nth, what) in [
        (1, "open a netlink socket"),
        (2, "open a packet socket on eth1"),
    ] {
        with_fault(
            &server,
            &format!("socket:error=EAFNOSUPPORT:when={nth}"),
            &call,
        )
        .fails(
            2,
            &[
                what,
                "address family is blocked",
                "RestrictAddressFamilies=",
            ],
        );
        assert!(!server.has(V4_BOUND));
    }
}

#[test]
fn passing_faults_of_the_kernel_are_retried_within_the_run() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    for fault in [
        "sendto:error=ENOBUFS:when=1",
        "sendto:error=EBUSY:when=2",
        "sendto:error=EINTR:when=3",
        "sendto:error=ENOMEM:when=4",
        "sendto:error=ENETDOWN:when=5",
        "sendto:error=ENOBUFS:when=6",
        "recvfrom:error=ENOBUFS:when=1",
        "recvfrom:error=EINTR:when=2",
        "recvfrom:error=ENOBUFS:when=5",
        "bind:error=ENOBUFS:when=1",
        "bind:error=ENETDOWN:when=2",
        "socket:error=ENOBUFS:when=1",
        "socket:error=EMFILE:when=2",
        "epoll_create1:error=ENOMEM:when=1",
    ] {
        let run = with_fault(
            &server,
            fault,
            &["m", "leader", "start", "", "1", "192.168.56.101", "1"],
        );
        assert!(matches!(run.code(), 0 | 1), "{fault}: {run}");
        if fault.starts_with("epoll") {
            continue; // Without an event loop there is nothing to wait with.
        }
        assert_eq!(run.code(), 0, "{fault}: {run}");
        assert!(server.has(V4_BOUND), "{fault}");
        server.ok("unbind");
    }
    let retried = lab
        .log()
        .iter()
        .filter(|line| line.contains("took_over=") && !line.contains("tries=1 "))
        .count();
    assert!(retried >= 8, "{:#?}", lab.log());
}

#[test]
fn a_lost_reply_is_a_passing_fault() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    // The request, of 36 bytes, is swallowed: the kernel will never answer it.
    let run = with_fault(
        &server,
        "sendto:retval=36:when=2",
        &["m", "leader", "start", "", "1", "192.168.56.101", "1"],
    );
    assert!(run.took >= Duration::from_secs(2), "{run}");
    run.success();
    assert!(server.has(V4_BOUND));
    lab.logged(&["took_over=", "tries=2"]);
}

#[test]
fn someone_who_removes_the_vip_at_once_is_a_passing_fault() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let mut monitor = server.command("bash");
    monitor.args(["-c", "stdbuf -oL ip monitor address | while read -r line; do case $line in *Deleted*) ;; *192.168.56.250*) ip addr del 192.168.56.250/24 dev eth1;; esac; done"]);
    let mut monitor = monitor
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let enemy = || {
        server.run(
            "bash",
            [
                "-c",
                "pgrep -f 'ip monitor address' >/dev/null && echo yes || true",
            ],
        )
    };
    eventually("the enemy is there", || enemy().contains("yes"));
    server.ip("addr add 192.168.56.250/24 dev eth1");
    eventually("the enemy is at work", || !server.has(V4_BOUND));
    // It may win the race against the verification or lose it; both are clean.
    let mut command = server.command(executable());
    command.arg("bind");
    let run = finish_within(command, Duration::from_secs(40));
    assert!(matches!(run.code(), 0 | 1), "{run}");
    let _ = monitor.kill();
    let _ = monitor.wait();
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let before = server.addresses();
    let said = server.ok("bind --dry-run");
    assert!(
        said.contains("m: would take 192.168.56.250/24 over on eth1 (its subnet holds the VIP)"),
        "{said}"
    );
    assert!(
        said.contains("m: would take fd00::250/64 over on eth1"),
        "{said}"
    );
    assert!(
        server
            .ok("unbind --dry-run")
            .contains("would leave 192.168.56.250/24 as it is: it is not on this host")
    );
    assert_eq!(server.addresses(), before);
    assert!(sniffer.settled(&server, V4).is_empty());
    assert!(lab.log().is_empty(), "{:?}", lab.log());
    server.ok("bind");
    assert!(
        server
            .ok("bind --dry-run")
            .contains("is already on eth1, would announce it again")
    );
    assert!(
        server
            .ok("announce --dry-run")
            .contains("would announce fd00::250/64 on eth1")
    );
    assert!(
        server
            .ok("unbind --dry-run")
            .contains("would release 192.168.56.250/24 from eth1")
    );
    let object: serde_json::Value =
        serde_json::from_str(server.ok("unbind --dry-run --json").lines().next().unwrap()).unwrap();
    assert_eq!(
        (&object["dry_run"], &object["action"]),
        (&true.into(), &"released".into())
    );
    assert!(server.has(V4_BOUND));
    assert_eq!(lab.log().len(), 1);
}

#[test]
fn announce_is_for_what_is_here() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("peer"));
    assert!(
        server
            .ok("announce")
            .contains("left 192.168.56.250/24 as it is: it is not on this host")
    );
    assert!(sniffer.settled(&server, V4).is_empty());
}

#[test]
fn status_tells_who_has_the_vip_and_who_else_claims_it() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let status = |host: &Host| -> Vec<serde_json::Value> {
        host.ok("status --json")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let none: [&str; 0] = [];
    for object in status(&one) {
        assert_eq!(
            (&object["bound"], &object["interface"], &object["probed"]),
            (&false.into(), &"eth1".into(), &true.into())
        );
        assert_eq!(object["claimed_by"], serde_json::json!(none), "{object}");
    }
    two.ok("bind");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let seen = status(&one);
    assert_eq!(seen.len(), 2);
    for object in seen {
        assert_eq!(object["bound"], false);
        assert_eq!(
            object["claimed_by"],
            serde_json::json!([two.mac("eth1")]),
            "{object}"
        );
    }
    // The question is a probe of RFC 5227: its sender address is zero.
    let probes: Vec<Frame> = sniffer
        .about(V4)
        .into_iter()
        .filter(Frame::is_arp)
        .collect();
    assert_eq!(
        arp(&probes[0]),
        (
            1,
            [one.mac("eth1"), "0.0.0.0".into()],
            ["00:00:00:00:00:00".into(), V4.into()]
        )
    );
    let seen = status(&two);
    assert_eq!(
        (
            &seen[0]["bound"],
            &seen[0]["bound_prefix"],
            &seen[1]["bound_prefix"]
        ),
        (&true.into(), &24.into(), &64.into())
    );
    assert_eq!(seen[0]["claimed_by"], serde_json::json!(none));
    one.ok("bind");
    let text = two.ok("status");
    assert!(text.contains("m: 192.168.56.250/24 is here, on eth1; master is unknown: Sentinel at 127.0.0.1:26379 did not answer"), "{text}");
    assert!(
        text.contains(&format!("ALSO CLAIMED by {}", one.mac("eth1"))),
        "{text}"
    );
}

#[test]
fn status_survives_an_interface_that_is_down_or_absent() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("link set eth1 down");
    assert!(
        server
            .ok("status")
            .contains("the network was not asked: cannot send a frame on eth1: Network is down")
    );
    lab.config("[masters.m]\nvip = \"10.9.9.9\"\n");
    assert!(server.ok("status").contains("10.9.9.9 is not here"));
}

#[test]
fn these_tests_run_where_they_should() {
    // As an ordinary user everything above happened in a user namespace, as root in none.
    let lab = Lab::new();
    let map = lab.run("cat", ["/proc/self/uid_map"]);
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(map == own, is_root(), "{map}");
}
