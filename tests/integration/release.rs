//! A release: which addresses go, and which stay.

use crate::common::{BOTH, ONLY_V4, eventually, guides_lab};

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
    lab.host("client").run("bash", ["-c", "ip neigh flush all; exec 3<>/dev/udp/192.168.56.101/9 && echo > /dev/udp/192.168.56.101/9"]);
    eventually("the peer finds it", || {
        lab.host("client").neighbour("192.168.56.101") == Some(server.mac("eth1"))
    });
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
