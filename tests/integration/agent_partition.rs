//! Hosts that are cut off, and Sentinels that are silent: what cannot be known is not "no".

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

/// So long that a busy machine is not taken for a partition, so short that a test can wait for it.
const SOON: u32 = 2_000;

fn all_name(site: &Site, sentinels: &[&str], server: &str) {
    eventually("these Sentinels name the new master", || {
        sentinels
            .iter()
            .all(|one| site.named_by(one, &M) == Some(server))
    });
}

/// Waits until the agent of server1 has had no majority for longer than it takes to be cut off.
fn no_majority_for_long(site: &Site) {
    eventually("there is no majority", || {
        site.verdict("server1").as_deref() == Some("fault")
    });
    site.seconds_pass("server1", 6.0);
    assert_eq!(site.verdict("server1").as_deref(), Some("fault"));
}

#[test]
fn an_old_master_that_is_cut_off_from_its_peers_lets_go_and_comes_back_as_a_replica() {
    let site = Site::with_agents(&[M]);
    site.down_after(SOON);
    site.isolate("server1");
    all_name(&site, &["server2", "server3"], "server2");
    eventually("only server2 has the VIP", || {
        site.holders(M.vip) == ["server2"]
    });
    site.lab().logged(&["cut off from its peers"]);
    site.rejoin("server1");
    site.settles(&M, "server2");
}

/// As after a failover: a replica that copies the data, or waits for its turn, has acknowledged nothing.
#[test]
fn a_master_whose_replicas_have_not_caught_up_lets_go_when_it_is_cut_off() {
    let site = Site::with_agents(&[M]);
    let redis = |server: &str, words: &str| {
        let words = format!("-p 8000 {words}");
        site.host(server).run("redis-cli", words.split(' '));
    };
    redis("server1", "config set repl-diskless-sync yes");
    redis("server1", "config set repl-diskless-sync-delay 600");
    for server in ["server2", "server3"] {
        redis(server, "replicaof no one");
        redis(server, "set a b");
        redis(server, "replicaof 192.168.56.101 8000");
    }
    eventually("the replicas wait for the data", || {
        let info = ["-p", "8000", "info", "replication"];
        let info = site.host("server1").run("redis-cli", info);
        info.matches("state=wait_bgsave").count() == 2
    });
    site.down_after(SOON);
    site.isolate("server1");
    eventually("the VIP is released", || {
        !site.holders(M.vip).contains(&"server1")
    });
    site.lab().logged(&["cut off from its peers"]);
    redis("server1", "config set repl-diskless-sync-delay 0");
    site.rejoin("server1");
    // The others may have promoted one that followed a moment ago.
    site.settles_anywhere(&M);
}

#[test]
fn a_host_that_is_cut_off_for_a_while_gets_its_vip_back_by_the_normal_rule() {
    let site = Site::with_agents(&[M]);
    site.down_after(SOON);
    // Nobody can be made the master in its place.
    for server in ["server2", "server3"] {
        site.host(server).run(
            "redis-cli",
            ["-p", "8000", "config", "set", "replica-priority", "0"],
        );
    }
    site.wait_until_none_may_be_promoted(&M);
    site.isolate("server1");
    eventually("the VIP is released", || site.holders(M.vip).is_empty());
    site.rejoin("server1");
    site.settles(&M, "server1");
}

#[test]
fn a_host_that_is_told_to_keeps_its_vip_while_it_is_cut_off() {
    let site = Site::with_agents_and(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\non_isolation = \"keep\"\n",
    );
    site.down_after(SOON);
    let watch = site.watch("server1");
    site.isolate("server1");
    all_name(&site, &["server2", "server3"], "server2");
    eventually("server2 has the VIP, too", || {
        site.holders(M.vip) == ["server1", "server2"]
    });
    assert!(watch.events(M.vip).is_empty());
    site.rejoin("server1");
    site.settles(&M, "server2");
}

#[test]
fn a_new_master_that_is_cut_off_gives_the_vip_back() {
    let site = Site::with_agents(&[M]);
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    site.wait_until_well(&M, "server2");
    site.down_after(SOON);
    site.isolate("server2");
    all_name(&site, &["server1", "server3"], "server1");
    eventually("only server1 has the VIP", || {
        site.holders(M.vip) == ["server1"]
    });
    site.rejoin("server2");
    site.settles(&M, "server1");
}

#[test]
fn a_host_without_the_master_and_clients_may_be_cut_off_and_nothing_moves() {
    let site = Site::with_agents(&[M]);
    site.down_after(SOON);
    let watches = SERVERS.map(|server| site.watch(server));
    for server in ["server2", "server3"] {
        site.isolate(server);
        let other = if server == "server2" {
            "server3"
        } else {
            "server2"
        };
        eventually("it is known to be down", || site.says_down(other, server));
        site.rejoin(server);
        eventually("it is known to be up", || !site.says_down(other, server));
        site.wait_until_well(&M, "server1");
    }
    site.cut("server1", "client");
    site.seconds_pass("server1", 3.0);
    site.mend("server1", "client");
    for watch in watches {
        let events = watch.events(M.vip);
        assert!(events.is_empty(), "{events:#?}");
    }
    site.settles(&M, "server1");
}

#[test]
fn two_sentinels_that_are_stopped_on_healthy_hosts_do_not_take_the_vip_away() {
    let site = Site::with_agents(&[M]);
    site.down_after(SOON);
    let watch = site.watch("server1");
    let pids = ["server2", "server3"].map(|server| site.sentinel_pid(server));
    // Frozen: they say nothing, and the replicas acknowledge on.
    for pid in &pids {
        site.signal(pid, "STOP");
    }
    no_majority_for_long(&site);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    for pid in &pids {
        site.go_on(pid);
    }
    site.settles(&M, "server1");
    // Stopped: their hosts refuse connections.
    for (pid, server) in pids.iter().zip(["server2", "server3"]) {
        site.signal(pid, "TERM");
        site.forget(&format!("{server}-sentinel"));
    }
    no_majority_for_long(&site);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    for server in ["server2", "server3"] {
        site.start_sentinel(server);
    }
    site.settles(&M, "server1");
}

#[test]
fn events_that_stop_arriving_while_the_connection_lives_do_not_keep_the_vip() {
    let site = Site::with_agents(&[M]);
    // Both agents of the failover follow it; it will not be the leader.
    let frozen = site.sentinel_pid("server1");
    site.signal(&frozen, "STOP");
    site.begin_fail_over(&M, "server2");
    all_name(&site, &["server2", "server3"], "server2");
    eventually("only server2 has the VIP", || {
        site.holders(M.vip) == ["server2"]
    });
    site.go_on(&frozen);
    site.settles(&M, "server2");
}
