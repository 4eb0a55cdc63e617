//! Two Redis of one master on one host: a failover from one to the other leaves the VIP where it is, and loses nothing.

use std::collections::BTreeSet;

use crate::common::eventually;
use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};
use crate::failover_verb::fail_over;

const M: Master = MASTER_8000;
const V6: Master = Master {
    vip: "fd00::250",
    bound: "fd00::250/64@eth1",
    ..MASTER_8000
};

/// Where a second Redis is.
type At = (&'static str, u16);

const OTHER_PORT: At = ("192.168.56.101", 8001);
const OTHER_ADDRESS: At = ("192.168.56.201", 8000);
const OTHER_PORT_IN_IPV6: At = ("fd00::101", 8001);

/// How often it is tried where the machine is so busy that the promotion is faster than the pause.
const TRIES: usize = 5;

fn on_two_ports() -> Site {
    let site = Site::with_agents(&[M]);
    site.start_second(&M, OTHER_PORT, "0.0.0.0");
    site
}

/// The first one listens at the VIP, too, wherever that is.
fn on_two_addresses() -> Site {
    let mut site = Site::unstarted();
    for server in SERVERS {
        let host = site.host(server);
        host.run("sysctl", ["-qw", "net.ipv4.ip_nonlocal_bind=1"]);
    }
    site.host("server1")
        .ip("addr add 192.168.56.201/24 dev eth1");
    site.add_conf("bind 127.0.0.1 {host} 192.168.56.250", "");
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site.start_second(&M, OTHER_ADDRESS, "192.168.56.201");
    site
}

fn in_ipv6() -> Site {
    let mut site = Site::unstarted_of(V6);
    site.know_as(["fd00::101", "fd00::102", "fd00::103"]);
    site.add_conf("bind 0.0.0.0 ::", "bind 0.0.0.0 ::");
    site.configure("[masters.master8000]\nvip = \"fd00::250/64\"\n");
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site.start_second(&V6, OTHER_PORT_IN_IPV6, "0.0.0.0 ::");
    site
}

fn asked(site: &Site, (host, port): At, words: &[&str]) -> String {
    let port = port.to_string();
    let words = [&["-h", host, "-p", &port][..], words].concat();
    site.host("server1").run("redis-cli", words)
}

/// One failover from the first to the second under load. Returns whether the machine was quick enough for it.
fn loses_nothing(site: &Site, master: &Master, second: At) -> bool {
    let watch = site.watch("server1");
    let waiting =
        ["BLPOP none 0", "SUBSCRIBE channel"].map(|command| site.blocked(master, command));
    let writers = site.writers(master, 2);
    writers.wait_for(500);
    site.begin_fail_over(master, "server2");
    site.wait_until_named_at(master, second);
    eventually("the old master follows", || {
        site.role(master, "server1").as_deref() == Some("slave")
    });
    // Sentinel tells it that 10 s later.
    let told = SERVERS.map(|server| site.sentinel_log(server).contains("+convert-to-slave"));
    assert_eq!(told, [false; 3]);
    for client in waiting {
        assert_eq!(client.end(), "Connection reset by peer");
    }
    let acknowledged = writers.stop();
    eventually("writes are allowed again", || {
        site.timeline("server1")["unpaused"].is_number()
    });
    let seen = site.timeline("server1");
    assert!(seen["paused"].is_number(), "{seen}");
    // Nobody tells the old one to lead again, and nobody moves the VIP.
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(master.vip).is_empty(), "{:#?}", site.log());
    assert_eq!(site.role(master, "server1").as_deref(), Some("slave"));
    assert_eq!(site.verdict("server1").as_deref(), Some("here"));
    if seen["bytes_behind"] != 0 {
        return false;
    }
    let kept = asked(site, second, &["keys", "w*"]);
    let kept: BTreeSet<&str> = kept.lines().collect();
    let mut keys = acknowledged.iter().map(|(key, _)| key.as_str());
    assert!(keys.all(|key| kept.contains(key)), "{seen}");
    true
}

#[test]
fn a_failover_to_another_port_of_the_host_leaves_the_vip_and_loses_nothing() {
    assert!((0..TRIES).any(|_| loses_nothing(&on_two_ports(), &M, OTHER_PORT)));
}

#[test]
fn a_failover_to_another_address_of_the_host_leaves_the_vip_and_loses_nothing() {
    assert!((0..TRIES).any(|_| loses_nothing(&on_two_addresses(), &M, OTHER_ADDRESS)));
}

#[test]
fn a_failover_to_another_port_leaves_an_ipv6_vip_and_loses_nothing() {
    assert!((0..TRIES).any(|_| loses_nothing(&in_ipv6(), &V6, OTHER_PORT_IN_IPV6)));
}

#[test]
fn a_failover_that_an_operator_wants_goes_to_another_redis_of_the_host() {
    let loses_nothing = |_| {
        let site = on_two_ports();
        let told = fail_over(&site, "server1", "--now");
        assert!(told["bytes_behind"].is_number(), "{told:#}");
        site.wait_until_named_at(&M, OTHER_PORT);
        assert_eq!(site.holders(M.vip), ["server1"]);
        told["bytes_behind"] == 0
    };
    assert!((0..TRIES).any(loses_nothing));
}

#[test]
fn a_dead_redis_is_followed_by_another_of_its_host_and_the_vip_comes_back() {
    let site = on_two_ports();
    site.down_after(NEVER);
    site.seconds_pass("server1", 2.0);
    site.kill_redis(&M, "server1");
    site.wait_until_named_at(&M, OTHER_PORT);
    eventually("the VIP is back", || site.holders(M.vip) == ["server1"]);
    assert_eq!((site.promotions(), site.asked()), (1, 1));
    let port = OTHER_PORT.1.to_string();
    let set = ["-h", M.vip, "-p", &port, "set", "key", "value"];
    eventually("a client writes", || {
        let mut client = site.host("client").command("redis-cli");
        client.args(set);
        crate::common::finish(client).stdout == "OK\n"
    });
    // It is a replica when it is back, and the VIP stays.
    let watch = site.watch("server1");
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", "server1");
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
}
