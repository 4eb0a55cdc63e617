//! What something else changes is mended at once.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, Site};

const M: Master = MASTER_8000;

#[test]
fn a_vip_that_is_removed_comes_back() {
    let site = Site::with_agents(&[M]);
    let one = site.host("server1");
    one.ip("addr del 192.168.56.250/32 dev eth1");
    site.settles(&M, "server1");
    one.ip("addr flush dev eth1");
    one.ip("addr add 192.168.56.101/24 dev eth1");
    site.settles(&M, "server1");
    one.ip("link set eth1 down");
    one.ip("link set eth1 up");
    site.settles(&M, "server1");
    site.unplug("server1");
    site.plug("server1");
    site.settles(&M, "server1");
    let repaired = site.agent("server1").unwrap()["drift_repaired"]
        .as_u64()
        .unwrap();
    assert!(repaired >= 2, "{repaired}");
}

#[test]
fn a_vip_that_is_bound_by_hand_on_another_host_is_removed() {
    let site = Site::with_agents(&[M]);
    site.host("server2")
        .ip("addr add 192.168.56.250/32 dev eth1");
    site.settles(&M, "server1");
    site.host("server3")
        .ip("addr add 192.168.56.250/24 dev eth1");
    site.settles(&M, "server1");
}

#[test]
fn an_interface_that_is_made_anew_has_the_vip_again() {
    let site = Site::with_agents(&[M]);
    site.lab().run("ip", ["link", "del", "server1-eth1"]);
    eventually("the VIP is gone", || site.holders(M.vip).is_empty());
    site.lab().wire("server1", "eth1");
    site.host("server1")
        .ip("addr add 192.168.56.101/24 dev eth1");
    site.settles(&M, "server1");
}

#[test]
fn a_bind_against_the_truth_is_refused_and_a_forced_one_lasts_until_the_next_failover() {
    let site = Site::with_agents(&[M]);
    let two = site.host("server2");
    two.vipswitch(["bind", "master8000"])
        .fails(2, &["against the truth"]);
    site.settles(&M, "server1");
    two.ok("bind --force master8000");
    site.seconds_pass("server2", 3.0);
    assert_eq!(site.holders(M.vip), ["server1", "server2"]);
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
    site.fail_over(&M, "server3", "server1");
    site.settles(&M, "server1");
    // It ends by an `unbind`, too, which is what is true.
    two.ok("bind --force master8000");
    two.ok("unbind master8000");
    site.settles(&M, "server1");
    site.seconds_pass("server2", 3.0);
    assert_eq!(site.holders(M.vip), ["server1"]);
}

#[test]
fn a_fault_that_lasts_is_logged_once_and_once_when_it_is_over() {
    const TIMES: usize = 3;
    let site = Site::with_agents(&[M]);
    let one = site.host("server1");
    let lines = |text: &str| site.log().iter().filter(|it| it.contains(text)).count();
    for _ in 0..TIMES {
        one.ip("addr flush dev eth1");
        site.seconds_pass("server1", 2.0);
        one.ip("addr add 192.168.56.101/24 dev eth1");
        site.settles(&M, "server1");
    }
    let faults = || lines("has lost its own address");
    let ends = || lines("that failed");
    eventually("the end is logged as often as the fault", || {
        ends() == faults()
    });
    assert!((1..=TIMES).contains(&faults()), "{:#?}", site.log());
}

#[test]
fn the_log_of_a_command_that_fails_names_its_master() {
    let site = Site::with_agents_and(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\non_take_over = { command = [\"/bin/false\"] }\n",
    );
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    eventually("the failure is logged", || {
        let log = site.log();
        // The command's own process says so, too.
        let line = log
            .iter()
            .find(|it| it.contains("/bin/false") && it.contains("by=agent"));
        line.is_some_and(|it| it.contains("master=master8000"))
    });
}
