//! A VIP that is where it belongs, on a host that does not answer for it (cilium#48626), or that another host answers
//! for as well: what counts is the effect.

use std::path::Path;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

#[test]
fn a_holder_that_does_not_answer_is_told_by_the_others() {
    let site = Site::with_agents(&[M]);
    let nft = |rules: &str| site.host("server1").run("nft", [rules]);
    // Whoever asks hears nothing; the address is there.
    nft("add table arp silent
        add chain arp silent in { type filter hook input priority 0; }
        add rule arp silent in arp daddr ip 192.168.56.250 drop");
    let status = |server: &str| site.host(server).vipswitch(["status"]).stdout;
    // An announcement counts as an answer while the announcers of the start are at work.
    eventually("status tells it", || {
        status("server2").contains("nobody claims it")
    });
    // Once a minute the agents ask.
    let line = site.lab().logged(&["nobody answers for", M.vip]);
    assert!(line.contains("master8000"), "{line}");
    assert_eq!(site.holders(M.vip), ["server1"]);
    nft("delete table arp silent");
    eventually("the holder answers again", || {
        status("server2").contains("held by the master's host")
    });
    site.settles(&M, "server1");
}

/// That one has no agent, and keeps the VIP.
#[test]
fn a_former_holder_that_goes_on_to_answer_is_told_by_the_new_one() {
    let site = Site::with_agents_on(&["server2"], Path::new("/bin/true"));
    let former = site.host("server1").mac("eth1");
    let answers = || {
        let known = site.agent("server2").expect("the agent answers");
        known["masters"][0]["vips"][0]["answered_by"] == former.as_str()
    };
    // While it was the holder nothing was wrong with that.
    eventually("the holder has answered", answers);
    site.fail_over(&M, "server3", "server2");
    eventually("both hold the VIP", || {
        site.holders(M.vip) == ["server1", "server2"]
    });
    let told = format!("{} is here, and answered for by {former}, too", M.vip);
    let line = site.lab().logged(&[&told]);
    assert!(line.contains("master8000"), "{line}");
    assert!(answers(), "status tells it");
}
