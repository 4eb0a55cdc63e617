//! Real failovers: three Redis and three Sentinels that call the executable, one configuration
//! for all, and a client that writes through the VIP.

mod common;

use common::redis::{MASTER_8000, MASTER_8001, Master, SERVERS, Site};
use common::{Lab, eventually};

#[test]
fn the_vip_follows_when_the_master_is_killed() {
    let site = Site::new(&[MASTER_8000]);
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");
}

#[test]
fn the_vip_follows_a_planned_failover_and_the_failover_back() {
    let site = Site::new(&[MASTER_8000]);
    site.fail_over(&MASTER_8000, "server3", "server2");
    site.check_settled(&MASTER_8000, "server2");

    site.wait_until_well(&MASTER_8000, "server2");
    // This time the leader is on the host that the VIP leaves.
    site.fail_over(&MASTER_8000, "server2", "server1");
    site.check_settled(&MASTER_8000, "server1");
}

#[test]
fn the_vip_stays_when_the_old_master_returns() {
    let site = Site::new(&[MASTER_8000]);
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");

    let watches = SERVERS.map(|server| site.watch(server));
    // It comes back as a master, and knows nothing of the other one yet.
    site.restart(&MASTER_8000, "server1");
    site.wait_until_follows(&MASTER_8000, "server1", "server2");
    site.wait_until_well(&MASTER_8000, "server2");
    site.check_settled(&MASTER_8000, "server2");
    for watch in watches {
        let events = watch.events(MASTER_8000.vip);
        assert!(events.is_empty(), "{events:#?}");
    }
}

#[test]
fn a_host_without_redis_never_has_the_vip_and_its_hook_succeeds() {
    let site = Site::with_redis_on(&["server1", "server2"], &[MASTER_8000]);
    let watch = site.watch("server3");
    site.kill(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");

    let events = watch.events(MASTER_8000.vip);
    assert!(events.is_empty(), "{events:#?}");
    let runs = site.runs(&MASTER_8000, "server2", 0);
    for done in [" took_over=", " released=", " nothing="] {
        let number = runs.iter().filter(|run| run.contains(done)).count();
        assert_eq!(number, 1, "{done} in {runs:#?}");
    }
}

#[test]
fn of_two_masters_on_the_same_servers_one_vip_moves_and_the_other_stays() {
    let site = Site::new(&[MASTER_8000, MASTER_8001]);
    let watches = SERVERS.map(|server| site.watch(server));
    site.fail_over(&MASTER_8000, "server3", "server2");
    site.check_settled(&MASTER_8000, "server2");
    site.check_in_use(&MASTER_8001, "server1");
    for watch in &watches {
        let events = watch.events(MASTER_8001.vip);
        assert!(events.is_empty(), "{events:#?}");
    }

    // Now each has a master of its own; the other way round they swap them.
    site.wait_until_well(&MASTER_8000, "server2");
    site.fail_over(&MASTER_8001, "server1", "server2");
    site.check_settled(&MASTER_8001, "server2");
    site.fail_over(&MASTER_8000, "server1", "server1");
    site.check_settled(&MASTER_8000, "server1");
    site.check_in_use(&MASTER_8001, "server2");
}

#[test]
fn exit_1_is_retried_until_the_fault_has_passed() {
    const FRONT: Master = Master {
        vip: "192.168.57.250",
        bound: "192.168.57.250/24@eth2",
        ..MASTER_8000
    };
    let site = site_with_a_front_network(FRONT);
    site.tune("server2", &["script-retry-delay", "1000"]);

    site.host("server2").ip("link set eth2 down");
    site.fail_over(&FRONT, "server3", "server2");
    let failed = site.wait_for_runs(&FRONT, "server2", 1, 1);
    assert!(failed[0].contains("eth2"), "{failed:#?}");
    eventually("Sentinel keeps the failed run", || {
        let pending = site.pending("server2");
        pending.len() == 1 && pending[0]["retry-num"] == "1"
    });

    site.host("server2").ip("link set eth2 up");
    // The other two had nothing to do with eth2 and succeeded at once.
    site.check_settled(&FRONT, "server2");
    eventually("Sentinel is done with it", || {
        site.pending("server2").is_empty()
    });
    let argument = |run: &str, key: &str| {
        let mut words = run.split(' ').map(str::to_owned);
        words.find(|word| word.starts_with(key)).unwrap()
    };
    let retried = site.runs(&FRONT, "server2", 0);
    assert_eq!(retried.len(), SERVERS.len(), "{retried:#?}");
    let retried = retried.iter().find(|run| run.contains("@eth2"));
    for key in ["master=", "role=", "state=", "from=", "to="] {
        assert_eq!(
            argument(&failed[0], key),
            argument(retried.unwrap(), key),
            "{failed:#?} {retried:#?}"
        );
    }
    let errors = SERVERS.map(|server| site.sentinel_log(server).contains("-script-error"));
    assert_eq!(errors, [false; 3]);
}

#[test]
fn exit_2_is_not_retried_where_the_interface_does_not_exist() {
    let site = Site::new(&[MASTER_8000]);
    let eth9 = "[masters.master8000]\nvip = \"192.168.56.250/24\"\ninterface = \"eth9\"\n";
    site.configure(eth9);
    make_retries_quick(&site);

    site.fail_over(&MASTER_8000, "server3", "server2");
    check_that_it_was_dropped(&site, "server2");
    // The others only had to let go of the VIP, wherever it was.
    site.wait_for_runs(&MASTER_8000, "server2", 0, 2);
    site.check_held_by(&MASTER_8000, None);
    let failed = site.runs(&MASTER_8000, "server2", 2);
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0].contains("eth9"), "{failed:#?}");

    site.configure(&eth9.replace("eth9", "eth1"));
    site.host("server2").ok("bind master8000");
    site.check_in_use(&MASTER_8000, "server2");
}

#[test]
fn exit_2_is_not_retried_where_the_configuration_lacks_the_master() {
    let site = Site::new(&[MASTER_8000]);
    let other = "[masters.master800]\nvip = \"192.168.56.250/24\"\n";
    site.configure(other);
    make_retries_quick(&site);

    site.fail_over(&MASTER_8000, "server3", "server2");
    for server in SERVERS {
        check_that_it_was_dropped(&site, server);
    }
    let failed = site.runs(&MASTER_8000, "server2", 2);
    assert_eq!(failed.len(), 3, "{failed:#?}");
    for run in failed {
        assert!(run.contains("no master 'master8000'"), "{run}");
    }
    site.check_held_by(&MASTER_8000, Some("server1"));

    site.configure(&other.replace("800", "8000"));
    site.host("server1").ok("unbind master8000");
    site.host("server2").ok("bind master8000");
    site.check_in_use(&MASTER_8000, "server2");
}

/// Three servers with Redis on eth1 as ever, and with the VIP in another network, on eth2.
fn site_with_a_front_network(master: Master) -> Site {
    let lab = Lab::with_hosts(["server1", "server2", "server3", "client"]);
    for (server, number) in SERVERS.into_iter().zip(101..) {
        lab.wire(server, "eth2");
        let host = lab.host(server);
        host.ip(&format!("addr add 192.168.57.{number}/24 dev eth2"));
        // Both networks are on one bridge: eth1 must not answer for eth2.
        let quiet = "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore";
        host.run("sh", ["-c", quiet]);
    }
    lab.host("client").ip("addr add 192.168.57.104/24 dev eth1");
    let site = Site::in_lab(lab, &SERVERS, &[master]);
    site.configure(&format!(
        "[masters.{}]\nvip = \"{}/24\"\ninterface = \"eth2\"\n",
        master.name, master.vip
    ));
    site.start();
    site
}

fn make_retries_quick(site: &Site) {
    for server in SERVERS {
        site.tune(server, &["script-retry-delay", "1"]);
    }
}

/// Waits until a Sentinel has said that its hook failed. Then it has forgotten the call, so that
/// it can never run again.
#[track_caller]
fn check_that_it_was_dropped(site: &Site, server: &str) {
    let error = format!("-script-error {} 0 2", common::executable().display());
    eventually("Sentinel reports the failed hook", || {
        site.sentinel_log(server).contains(&error)
    });
    let errors = site.sentinel_log(server).matches("-script-error").count();
    assert_eq!((errors, site.pending(server)), (1, Vec::new()));
}
