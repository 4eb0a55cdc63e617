//! Moves real addresses between real network namespaces, and looks from outside: `ip -j` on the
//! host, a raw socket and the neighbour table on its peer.

mod common;

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use common::sniffer::{Frame, Sniffer};
use common::{Finished, Host, Lab, eventually, executable, finish, is_root, wait_for};
use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use serde_json::{Value, json};

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
    let said = lab.log_of(4);
    for (line, action) in said
        .iter()
        .zip(["took_over=", "already_here=", "released=", "nothing="])
    {
        assert!(
            line.contains(action) && line.contains("exit=0"),
            "{action} in {line}"
        );
    }
}

#[test]
fn nothing_that_can_wait_happens_before_the_first_frame() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let mut strace = server.command("strace");
    strace
        .args([
            "-f",
            "-b",
            "execve",
            "-e",
            "trace=openat,socket,sendto,connect,write",
        ])
        .arg(executable());
    strace.args(["m", "leader", "start", "", "8000", "192.168.56.101", "8000"]);
    let trace = finish(strace).stderr;
    let frame = "\\377\\377\\377\\377\\377\\377";
    // Some versions of strace do not know RTM_GETROUTE by name.
    let trace = trace.replace("0x1a /* NLMSG_??? */", "RTM_GETROUTE");
    let known = [
        "openat(",
        "socket(AF_UNIX",
        "socket(AF_NETLINK",
        "connect(",
        "RTM_GETROUTE",
        "RTM_GETLINK",
        "RTM_GETADDR",
        "RTM_NEWADDR",
        "socket(AF_PACKET",
        frame,
    ];
    let known_in = |line: &str| known.into_iter().find(|word| line.contains(word));
    let calls: Vec<&str> = trace.lines().filter_map(known_in).take(13).collect();
    let expected = [
        "openat(",        // the runtime's look at /proc/self/maps
        "openat(",        // the configuration
        "socket(AF_UNIX", // the lock
        "openat(",        // what stands in for it, shared
        "socket(AF_NETLINK",
        "connect(",     // Sentinel
        "RTM_GETROUTE", // TO
        "RTM_GETROUTE", // the VIP
        "RTM_GETLINK",
        "socket(AF_PACKET",
        "RTM_NEWADDR",
        frame,
        frame,
    ];
    assert_eq!(calls, expected, "{trace}");
}

#[test]
fn an_ipv4_take_over_sends_an_arp_request_and_an_arp_reply_first() {
    let lab = lab(ONLY_V4);
    let (server, peer) = (lab.host("server1"), lab.host("peer"));
    let own = server.mac("eth1");
    let check = |frames: &[Frame]| {
        let [request, reply, ..] = frames else {
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
    // By hand, one round and no more.
    server.ip("addr add 192.168.56.250/24 dev eth1");
    let sniffer = Sniffer::start(&peer);
    server.ok("announce");
    let frames = sniffer.settled(&server, V4);
    assert_eq!(frames.len(), 2);
    check(&frames);
    // One that is there already is announced again.
    let sniffer = Sniffer::start(&peer);
    server.hook("m", "192.168.56.101").success();
    check(&sniffer.settled(&server, V4));
    server.ok("unbind");
    lab.logged(&["msg=\"announced ", " until "]);
    let sniffer = Sniffer::start(&peer);
    server.hook("m", "192.168.56.101").success();
    check(&sniffer.settled(&server, V4));
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
fn a_call_that_is_repeated_moves_nothing_between_two_interfaces_of_one_subnet() {
    let lab = lab(BOTH);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.201/24 dev eth2");
    server.ip("addr add fd00::201/64 dev eth2 nodad");
    for first in ["eth1", "eth2"] {
        server.ok("unbind");
        server.ip(&format!("addr add 192.168.56.250/24 dev {first}"));
        server.ip(&format!("addr add fd00::250/64 dev {first} nodad"));
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
                    format!("192.168.56.250/24@{first}"),
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
    let lab = lab(ONLY_V4);
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
fn a_vip_with_another_prefix_length_is_adopted_as_it_is() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    let said = server.ok("bind");
    assert!(
        said.contains("192.168.56.250/32 was already on eth1, announced it again (2 frames)"),
        "{said}"
    );
    assert!(server.has("192.168.56.250/32@eth1") && !server.has(V4_BOUND));
    server.ok("unbind");
    assert!(!server.has("192.168.56.250/32@eth1"));
}

#[test]
fn an_ipv6_vip_that_failed_duplicate_address_detection_is_made_usable() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    two.ok("bind");
    one.ip("addr add fd00::250/128 dev eth1");
    let failed = || {
        one.json("addr show dev eth1")[0]["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .any(|address| address["local"] == V6 && address["dadfailed"] == true)
    };
    eventually("detection finds the duplicate", failed);
    assert_eq!(status(&one)[0]["bindings"][0]["usable"], false);
    assert!(
        one.ok("status")
            .contains("unusable (duplicate address detection)")
    );
    two.ok("unbind");
    one.ok("bind");
    assert!(!failed() && one.has(V6_BOUND), "{:?}", one.addresses());
    assert_eq!(
        status(&one)[0]["bindings"],
        json!([{ "interface": "eth1", "prefix": 64, "usable": true }])
    );
    lab.logged(&["took_over=fd00::250/64@eth1"]);
}

#[test]
fn a_stray_vip_on_an_interface_that_is_down_goes_as_well() {
    let lab = lab(BOTH);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("link set eth2 down");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    server.ip("addr add fd00::250/64 dev eth2");
    let said = server.ok("bind");
    assert_eq!(said.matches("removed it from eth2").count(), 2, "{said}");
    server.ip("link set eth2 up");
    assert!(server.has(V4_BOUND) && server.has(V6_BOUND));
    assert!(!server.has("192.168.56.250/24@eth2") && !server.has("fd00::250/64@eth2"));
}

#[test]
fn the_hosts_own_address_survives_a_vip_that_was_there_before_it() {
    let lab = lab("[masters.m]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\n");
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
    server.ip("addr add 192.168.56.251/24 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth1");
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
    lab.host("peer").run("bash", ["-c", "ip neigh flush all; exec 3<>/dev/udp/192.168.56.101/9 && echo > /dev/udp/192.168.56.101/9"]);
    eventually("the peer finds it", || {
        lab.host("peer").neighbour("192.168.56.101") == Some(server.mac("eth1"))
    });
}

#[test]
fn an_interface_without_carrier_gets_the_vip_and_the_truth() {
    let lab = lab(ONLY_V4);
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
fn a_vip_that_is_moved_is_announced_before_it_is_removed_elsewhere() {
    let lab = lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth2");
    let mut strace = server.command("strace");
    strace.args(["-f", "-b", "execve", "-e", "trace=sendto"]);
    strace.arg(executable()).arg("bind");
    let trace = finish(strace).stderr;
    let known = [
        "RTM_NEWADDR",
        "\\377\\377\\377\\377\\377\\377",
        "RTM_DELADDR",
    ];
    let known_in = |line: &str| known.iter().position(|word| line.contains(word));
    let mut calls: Vec<usize> = trace.lines().filter_map(known_in).collect();
    calls.dedup();
    assert!(calls.starts_with(&[0, 1, 2]), "{trace}");
    assert!(server.has(V4_BOUND) && !server.has("192.168.56.250/32@eth2"));
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
        said.contains("nobody was told: this interface has no neighbours"),
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
    lab.logged(&[
        "CAP_NET_ADMIN is missing",
        "role=leader",
        "why=to_is_elsewhere",
        "exit=2",
    ]);
    // A release needs no frames.
    without(&server, &drop("-net_raw"), &["unbind"]).success();
    assert_eq!(server.addresses(), before);
}

/// Runs the executable with a system call that fails, through strace, whose trace of that call is
/// on stderr.
fn with_fault(host: &Host, fault: &str, arguments: &[&str]) -> Finished {
    let call = fault.split(':').next().unwrap();
    let mut command = host.command("strace");
    command.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={fault}"),
    ]);
    command.arg(executable()).args(arguments);
    finish(command)
}

#[test]
fn a_blocked_or_forbidden_socket_is_permanent_and_named() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    for (errno, said) in [
        ("EAFNOSUPPORT", "RestrictAddressFamilies="),
        ("EACCES", "SELinux"),
    ] {
        let runs: Vec<Finished> = (1..=5)
            .map(|nth| with_fault(&server, &format!("socket:error={errno}:when={nth}"), &CALL))
            // Without the first, which is the lock's, it goes on.
            .filter(|run| run.code() != 0)
            .map(|run| run.fails(2, &[said]))
            .collect();
        for what in ["open a netlink socket", "open a packet socket on eth1"] {
            assert!(runs.iter().any(|run| run.stderr.contains(what)), "{what}");
        }
    }
}

const CALL: [&str; 7] = ["m", "leader", "start", "", "1", "192.168.56.101", "1"];
const AWAY: [&str; 7] = ["m", "leader", "start", "", "1", "192.168.56.102", "1"];

/// Fails each system call of a run in turn, and lets an undisturbed run follow. Whatever the
/// disturbed run says of itself must be true.
fn no_fault_is_taken_for_an_answer(config: &str, prepare: &str, arguments: &[&str], bound: bool) {
    let lab = lab(config);
    let server = lab.host("server1");
    for call in ["sendto", "recvfrom"] {
        for nth in 1.. {
            server.ok(&format!("{prepare} -q"));
            let run = with_fault(
                &server,
                &format!("{call}:error=ENOBUFS:when={nth}"),
                arguments,
            );
            let injected = run.stderr.contains("(INJECTED)");
            if run.stderr.contains("the CLOEXEC pipe failed") {
                break; // The standard library's own pipe, to the announcer that it starts.
            }
            assert!(matches!(run.code(), 0 | 1), "{call} {nth}: {run}");
            assert_eq!(server.has(V4_BOUND), bound, "{call} {nth}: {run}");
            assert!(run.code() == 0, "{call} {nth}: {run}");
            if !injected {
                assert!(nth > 4, "{call}: {run}");
                break;
            }
        }
    }
}

#[test]
fn no_fault_of_a_take_over_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "unbind", &CALL, true);
}

#[test]
fn no_fault_of_a_repeated_take_over_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &CALL, true);
}

#[test]
fn no_fault_with_a_configured_interface_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(
        "[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth1\"\n",
        "unbind",
        &["bind"],
        true,
    );
}

#[test]
fn no_fault_of_a_release_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &AWAY, false);
}

#[test]
fn no_fault_of_unbind_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &["unbind"], false);
}

#[test]
fn passing_faults_of_the_kernel_are_retried_within_the_run() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    let faults = [
        "sendto:error=EBUSY:when=2",
        "sendto:error=EINTR:when=3",
        "sendto:error=ENOMEM:when=4",
        "sendto:error=ENETDOWN:when=5",
        "recvfrom:error=EINTR:when=2",
        "bind:error=ENOBUFS:when=2",
        "socket:error=ENOBUFS:when=2",
        "socket:error=EMFILE:when=3",
        "epoll_create1:error=ENOMEM:when=1",
    ];
    for fault in faults {
        let run = with_fault(&server, fault, &CALL);
        assert!(run.stderr.contains("(INJECTED)"), "{fault}: {run}");
        assert_eq!(run.code(), 0, "{fault}: {run}");
        assert!(server.has(V4_BOUND), "{fault}");
        server.ok("unbind");
    }
    // A later try does not say that it found what an earlier one did.
    let lines = lab.log_of(2 * faults.len());
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(" took_over="))
            .count(),
        faults.len(),
        "{lines:#?}"
    );
    let retried = lines
        .iter()
        .filter(|line| line.contains(" took_over=") && !line.contains("tries=1 "))
        .count();
    assert!(retried >= faults.len() - 2, "{lines:#?}");
}

#[test]
fn a_list_that_changed_while_it_was_read_is_read_again() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    // The header of a list's first message (76 bytes, RTM_NEWADDR) with NLM_F_MULTI and
    // NLM_F_DUMP_INTR, put over each answer in turn; over another one it makes no sense.
    for nth in 1..=6 {
        server.ok("bind -q");
        let run = with_fault(
            &server,
            &format!("recvfrom:poke_exit=@arg2=4c00000014001200:when={nth}"),
            &AWAY,
        );
        assert!(run.stderr.contains("(INJECTED"), "{nth}: {run}");
        assert_eq!(run.code(), 0, "{nth}: {run}");
        assert!(!server.has(V4_BOUND), "{nth}: {run}");
    }
    let released = lab.log_of(12);
    assert!(
        released
            .iter()
            .any(|line| line.contains("released=") && line.contains("tries=2")),
        "{released:#?}"
    );
}

#[test]
fn a_vip_with_a_peer_address_is_released() {
    let lab = lab(ONLY_V4);
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
fn a_lost_reply_is_a_passing_fault() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    // The request, of 36 bytes, is swallowed: the kernel will never answer it.
    let run = with_fault(&server, "sendto:retval=36:when=2", &CALL);
    assert!(run.took >= Duration::from_secs(2), "{run}");
    run.success();
    assert!(server.has(V4_BOUND));
    lab.logged(&["took_over=", "tries=2"]);
}

/// Starts a run whose nth request to the kernel is late by a second, and returns it once the
/// VIP is bound, or not, as it was to make it.
fn delayed(host: &Host, nth: usize, arguments: &[&str], bound: bool) -> Child {
    let mut command = host.command("strace");
    let delay = format!("inject=sendto:delay_enter=1000000:when={nth}");
    command.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=sendto",
        "-e",
        &delay,
    ]);
    command.arg(executable()).args(arguments);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    eventually("it has done its part", || host.has(V4_BOUND) == bound);
    child
}

#[test]
fn a_vip_that_somebody_removes_at_once_is_bound_again() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    // The seventh request is the one that verifies: two routes, link, address, two frames.
    let mut run = delayed(&server, 7, &CALL, true);
    server.ip("addr del 192.168.56.250/24 dev eth1");
    let status = wait_for(Duration::from_secs(20), || run.try_wait().unwrap());
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(server.has(V4_BOUND));
    assert!(lab.logged(&["took_over=", "exit=0"]).contains("tries=2"));
}

#[test]
fn a_vip_that_somebody_adds_again_is_released_again() {
    let lab = lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind");
    let before = lab.log_of(1).len();
    // Where TO is (a route, the list), the list again, link, list of dependents, delete: then it
    // verifies by the list.
    for nth in 5..16 {
        server.ok("bind");
        let mut run = delayed(&server, nth, &AWAY, false);
        server.ip("addr add 192.168.56.250/24 dev eth1");
        let status = wait_for(Duration::from_secs(20), || run.try_wait().unwrap());
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
        let lines = lab.log_of(before + 2 * (nth - 4));
        if lines.last().unwrap().contains("tries=2") {
            assert!(
                lines
                    .last()
                    .unwrap()
                    .contains("released=192.168.56.250/24@eth1")
            );
            assert!(!server.has(V4_BOUND));
            return;
        }
        server.ok("unbind");
        lab.log_of(before + 2 * (nth - 4) + 1);
    }
    panic!(
        "no run verified while the VIP was there again: {:#?}",
        lab.log()
    );
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let before = server.addresses();
    let said = server.ok("bind --dry-run");
    assert!(
        said.contains("m: would take 192.168.56.250/24 over on eth1: its subnet holds the VIP"),
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
    assert_eq!(lab.log_of(1).len(), 1);
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

/// The objects of `status --json`.
fn status(host: &Host) -> Vec<Value> {
    let text = host.ok("status --json");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn status_tells_who_has_the_vip_and_who_else_claims_it() {
    let lab = lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    for object in status(&one) {
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
    two.ok("bind");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let seen = status(&one);
    assert_eq!(seen.len(), 2);
    for object in seen {
        assert_eq!(
            (&object["bound"], &object["claimed_by"]),
            (&json!(false), &json!([two.mac("eth1")])),
            "{object}"
        );
    }
    // The question is a probe of RFC 5227: its sender address is zero.
    let ours = |frame: &Frame| frame.is_arp() && arp(frame).1[0] == one.mac("eth1");
    let probes: Vec<Frame> = sniffer.wait(V4, 1).into_iter().filter(ours).collect();
    assert_eq!(
        arp(&probes[0]),
        (
            1,
            [one.mac("eth1"), "0.0.0.0".into()],
            ["00:00:00:00:00:00".into(), V4.into()]
        )
    );
    let seen = status(&two);
    for (object, prefix) in seen.iter().zip([24, 64]) {
        assert_eq!(
            object["bindings"],
            json!([{ "interface": "eth1", "prefix": prefix, "usable": true }])
        );
        assert_eq!(object["claimed_by"], json!([]));
    }
    one.ok("bind");
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
    let lab = lab(BOTH);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    server.ip("addr add 192.168.56.250/24 dev eth2");
    server.ip("link set eth2 down");
    server.ip("addr add fd00::250/64 dev eth2");
    let seen = status(&server);
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
    let lab = lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.201/24 dev eth2");
    server.ok("bind");
    // Linux answers on eth2 for the address on eth1.
    assert_eq!(status(&server)[0]["claimed_by"], json!([]));
}

#[test]
fn status_survives_an_interface_that_is_down_or_absent() {
    let lab = lab(ONLY_V4);
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
fn these_tests_run_where_they_should() {
    // As an ordinary user everything above happened in a user namespace, as root in none.
    let lab = Lab::new();
    let map = lab.run("cat", ["/proc/self/uid_map"]);
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(map == own, is_root(), "{map}");
}
