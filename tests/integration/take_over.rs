//! A take-over on real addresses between real network namespaces, looked at from outside: `ip -j`
//! on the host, a raw socket and the neighbour table on its peer.

use crate::common::sniffer::{Frame, Sniffer, arp, mac};
use crate::common::{
    BOTH, Host, ONLY_V4, V4, V4_BOUND, V6, V6_BOUND, eventually, executable, finish, guides_lab,
};
use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
use serde_json::json;

#[test]
fn bind_and_unbind_can_be_repeated() {
    let lab = guides_lab(BOTH);
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
    let lab = guides_lab(ONLY_V4);
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
    // Some versions of strace leave files open, which are then listed and closed.
    let lines = trace.lines().filter(|line| !line.contains("/proc/self/fd"));
    // The folders on the way to the configuration, each opened to be judged.
    let lines = lines.filter(|line| !line.contains("O_PATH"));
    let calls: Vec<&str> = lines.filter_map(known_in).take(16).collect();
    let expected = [
        "openat(",        // the runtime's look at /proc/self/maps
        "socket(AF_UNIX", // the agent, if there is one
        "connect(",
        "openat(",        // the configuration
        "openat(",        // what stands in for the lock, shared
        "socket(AF_UNIX", // the lock
        "socket(AF_NETLINK",
        "connect(",     // Sentinel, whose answer is awaited before RTM_NEWADDR
        "RTM_GETROUTE", // TO
        "connect(",     // its Redis here, whose answer is awaited, too
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
    let lab = guides_lab(ONLY_V4);
    let (server, peer) = (lab.host("server1"), lab.host("client"));
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
    let lab = guides_lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    server.hook("m", "fd00::101").success();
    let adverts = |frames: Vec<Frame>| {
        frames
            .into_iter()
            .filter(|frame| frame.is_icmpv6(136))
            .collect::<Vec<_>>()
    };
    let frames = adverts(sniffer.settled(&server, V6));
    // The announcer's may be there already.
    let frame = frames.first().expect("an advertisement");
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
    let lab = guides_lab("[masters.m]\nvip = \"fd00::250/64\"\n");
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
    let lab = guides_lab(BOTH);
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
    let lab = guides_lab(BOTH);
    let (one, two, peer) = (lab.host("server1"), lab.host("server2"), lab.host("client"));
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
    let lab = guides_lab(BOTH);
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
        // What else is told of a link changes by itself.
        let addresses = links.as_array().unwrap().iter();
        Vec::from_iter(addresses.map(|link| link["addr_info"].clone()))
    };
    let before = shown(&server);
    server.ok("bind");
    server.ok("unbind");
    assert_eq!(shown(&server), before);
}

#[test]
fn sentinels_call_binds_where_to_is_and_releases_elsewhere() {
    let lab = guides_lab(BOTH);
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
fn a_vip_with_another_prefix_length_is_adopted_as_it_is() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    server.ip("addr add fd00::250/128 dev eth1 nodad preferred_lft 0");
    let said = server.ok("bind");
    for (vip, there) in [("192.168.56.250/24", "/32"), ("fd00::250/64", "/128")] {
        let found = format!("{vip} was already on eth1 as {there}, announced it again (");
        assert!(said.contains(&found), "{said}");
    }
    assert!(server.has(V4_BOUND) && server.has("fd00::250/128@eth1") && !server.has(V6_BOUND));
    server.ok("unbind");
    assert!(!server.has(V4_BOUND) && !server.has("fd00::250/128@eth1"));
}

#[test]
fn an_ipv6_vip_that_failed_duplicate_address_detection_is_made_usable() {
    let lab = guides_lab("[masters.m]\nvip = \"fd00::250/64\"\n");
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
    assert_eq!(one.status()[0]["bindings"][0]["usable"], false);
    assert!(
        one.ok("status")
            .contains("unusable (duplicate address detection)")
    );
    two.ok("unbind");
    one.ok("bind");
    assert!(!failed() && one.has(V6_BOUND), "{:?}", one.addresses());
    assert_eq!(
        one.status()[0]["bindings"],
        json!([{ "interface": "eth1", "prefix": 64, "usable": true }])
    );
    lab.logged(&["took_over=fd00::250/64@eth1"]);
}

#[test]
fn a_stray_vip_on_an_interface_that_is_down_goes_as_well() {
    let lab = guides_lab(BOTH);
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
fn a_vip_on_another_interface_is_moved() {
    let lab = guides_lab(ONLY_V4);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/32 dev eth2");
    let sniffer = Sniffer::start(&lab.host("client"));
    let said = server.ok("bind");
    assert!(said.contains("removed it from eth2"), "{said}");
    assert!(server.has(V4_BOUND) && !server.has("192.168.56.250/32@eth2"));
    assert_eq!(arp(&sniffer.wait(V4, 2)[0]).1[0], server.mac("eth1"));
}

#[test]
fn a_vip_that_is_moved_is_announced_before_it_is_removed_elsewhere() {
    let lab = guides_lab(ONLY_V4);
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
fn one_vip_that_cannot_be_bound_does_not_keep_the_other_away() {
    let lab = guides_lab("[masters.m]\nvip = [\"10.9.9.9\", \"192.168.56.250/24\"]\n");
    let server = lab.host("server1");
    server
        .vipswitch(["bind"])
        .fails(2, &["found no interface for 10.9.9.9/32"]);
    assert!(server.has(V4_BOUND));
}
