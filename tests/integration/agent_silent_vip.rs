//! A VIP that is where it belongs, on a host that does not answer for it (cilium#48626): what counts is the effect.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

#[test]
fn a_holder_that_does_not_answer_is_told_by_the_others() {
    let site = Site::with_agents(&[M]);
    let ignore = |what: &str| {
        let path = "/proc/sys/net/ipv4/conf/eth1/arp_ignore";
        site.host("server1")
            .run("sh", ["-c", &format!("echo {what} >{path}")]);
    };
    // For no address (ip-sysctl.txt).
    ignore("8");
    let status = |server: &str| site.host(server).vipswitch(["status"]).stdout;
    let says = status("server2");
    assert!(says.contains("nobody answers for"), "{says}");
    // Once a minute the agents ask.
    let line = site.lab().logged(&["nobody answers for", M.vip]);
    assert!(line.contains("master8000"), "{line}");
    assert_eq!(site.holders(M.vip), ["server1"]);
    ignore("0");
    eventually("the holder answers again", || {
        !status("server2").contains("nobody answers for")
    });
    site.settles(&M, "server1");
}
