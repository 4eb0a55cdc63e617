//! Moves real addresses between real network namespaces, and looks from outside: `ip -j` on the
//! host, tcpdump and the neighbour table on its peer.

mod common;

use common::Lab;
use common::sniffer::Sniffer;

#[test]
fn smoke() {
    let lab = Lab::with_hosts(["server1", "peer"]);
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let sniffer = Sniffer::start(&lab.host("peer"));
    let server = lab.host("server1");
    println!("{}", server.ok("bind"));
    assert!(
        server.has("192.168.56.250/24@eth1"),
        "{:?}",
        server.addresses()
    );
    let frames = sniffer.wait("192.168.56.250", 2);
    assert_eq!(frames.len(), 2);
    println!("{}", lab.logged(&["took_over="]));
}
