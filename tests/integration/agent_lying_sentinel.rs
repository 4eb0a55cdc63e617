//! A Sentinel that says of a former master, which is a master still, that it promotes it: an agent that has just started
//! knows nothing of what was before, and does not believe one Sentinel alone.

use crate::common::false_sentinel;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, Site, address};

const M: Master = MASTER_8000;

const LIES: &str = r#"
sub bulk { join "", map { "\$" . length($_) . "\r\n$_\r\n" } @_ }
sub list { "*" . @_ . "\r\n" . bulk(@_) }
sub rows { "*" . @_ . "\r\n" . join "", map { list(@$_) } @_ }
sub row { ("ip", $_[0], "port", $_[1], "runid", $_[2], "flags", $_[3]) }
my @m = ("name", "master8000", row("MASTER", 8000, "m", "master,failover_in_progress"),
    "config-epoch", 1, "quorum", 2, "failover-timeout", 180000);
while (my $question = question($client)) {
    my (undef, $command, $what) = map { lc } split /\r\n(?:\$\d+\r\n)?/, $question;
    print $client $what =~ /^get-master/ ? list("MASTER", 8000)
        : $what eq "master" ? list(@m)
        : $what eq "masters" ? rows(\@m)
        : $what eq "sentinels" ? rows()
        : $what =~ /^(slaves|replicas)$/ ? rows([row("CHOSEN", 8000, "c", "slave,promoted")])
        : "-ERR unknown command '$command'\r\n";
}
"#;

/// Server2 is the master by a failover. The Redis of server1 is one, too, until somebody tells it otherwise, and has no
/// VIP and no agent; the Sentinel of server3 says that it promotes that one.
fn beside_a_liar() -> Site {
    let site = Site::with_agents(&[M]);
    site.end_agent("server1", "KILL");
    // Sentinel would tell it 10 s later.
    let deny = "-p 8000 acl setuser default -slaveof -replicaof";
    site.host("server1").run("redis-cli", deny.split(' '));
    site.fail_over(&M, "server3", "server2");
    site.host("server1")
        .ip("addr del 192.168.56.250/32 dev eth1");
    site.settles(&M, "server2");
    site.end_service("server3", "sentinel", "KILL");
    let lies = LIES.replace("MASTER", &address("server2"));
    let lies = lies.replace("CHOSEN", &address("server1"));
    let at = format!("{}:{SENTINEL_PORT}", address("server3"));
    false_sentinel(&site.host("server3"), &at, &lies);
    site
}

/// Some rounds of questions later nothing has moved.
#[track_caller]
fn nothing_moves(site: &Site, server: &str) {
    let watch = site.watch(server);
    site.start_agent(server);
    site.seconds_pass(server, 4.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    assert_eq!(site.masters(&M), ["server1", "server2"]);
    assert_eq!(site.holders(M.vip), ["server2"]);
}

#[test]
fn an_agent_that_starts_beside_a_former_master_does_not_bind_its_vip() {
    let site = beside_a_liar();
    nothing_moves(&site, "server1");
}

#[test]
fn an_agent_that_starts_beside_the_master_does_not_hand_it_over_to_a_former_one() {
    let site = beside_a_liar();
    site.end_agent("server2", "KILL");
    nothing_moves(&site, "server2");
}
