//! What a run may do: its capabilities and its user namespace.

use crate::agent_announcements::Agent;
use crate::common::{BOTH, Finished, Host, Lab, V4_BOUND, executable, finish, guides_lab, is_root};

/// Runs the executable without some privilege, through util-linux's setpriv or unshare.
fn without(host: &Host, how: &[&str], arguments: &[&str]) -> Finished {
    let mut command = host.command(how[0]);
    command.args(&how[1..]).arg(executable()).args(arguments);
    finish(command)
}

#[test]
fn a_missing_privilege_is_permanent_and_named_and_changes_nothing() {
    let lab = guides_lab(BOTH);
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
            "cannot add 192.168.56.250/32 to eth1: not permitted: CAP_NET_ADMIN is missing",
            "Run it as root.",
        ],
    );
    without(&server, &drop("-net_raw"), &["bind"]).fails(
        2,
        &[
            "cannot open a packet socket on eth1: not permitted: CAP_NET_RAW is missing",
            "Run it as root.",
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
    .fails(2, &["CAP_NET_ADMIN is missing", "AmbientCapabilities"]);
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

#[test]
fn these_tests_run_where_they_should() {
    // As an ordinary user everything above happened in a user namespace, as root in none.
    let lab = Lab::new();
    let map = lab.run("cat", ["/proc/self/uid_map"]);
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(map == own, is_root(), "{map}");
}

/// As root of this lab, with all capabilities.
#[test]
fn an_agent_that_may_do_more_than_it_needs_says_so() {
    let lab = guides_lab(BOTH);
    let _agent = Agent::start(&lab.host("server1"));
    for surplus in [
        "the agent runs as root, and needs a user of its own only",
        "capabilities more than CAP_NET_ADMIN and CAP_NET_RAW",
    ] {
        let line = lab.logged(&[surplus]);
        assert!(line.contains("vipswitch-agent.service"), "{line}");
    }
}
