//! `--dry-run`: what it says, and that it does nothing.

use crate::common::sniffer::Sniffer;
use crate::common::{BOTH, V4, V4_BOUND, guides_lab};

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
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
