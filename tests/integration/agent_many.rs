//! What an agent costs its Sentinels where it has many masters.

use std::fmt::Write as _;

use crate::common::redis::{MASTER_8000, SENTINEL_PORT, Site, address};
use crate::common::{PATIENCE, eventually, wait_for};

const MASTERS: usize = 20;

/// A site whose Sentinels know the same three Redis by many names. It has one agent, on the first server.
fn known_by(names: usize) -> Site {
    let mut site = Site::unstarted();
    let mut monitored = String::new();
    let mut config = format!("[masters.master8000]\nvip = \"{}/24\"\n", MASTER_8000.vip);
    for number in 0..names - 1 {
        let _ = write!(
            monitored,
            "sentinel monitor also{number} {} 8000 2\n\
             sentinel down-after-milliseconds also{number} 60000\n",
            address("server1")
        );
        let (third, fourth) = (57 + number / 250, 1 + number % 250);
        let _ = write!(
            config,
            "[masters.also{number}]\nvip = \"192.168.{third}.{fourth}/32\"\ninterface = \"eth1\"\n"
        );
    }
    site.add_conf("", &monitored);
    site.configure(&config);
    site.start();
    site.start_agent("server1");
    eventually("every VIP is here", || {
        let known = site.agent("server1").unwrap();
        let masters = known["masters"].as_array().unwrap();
        masters.iter().all(|one| one["vips"][0]["here"] == true)
    });
    site
}

/// How many connections a Sentinel has accepted.
fn connections(site: &Site, server: &str) -> usize {
    let port = SENTINEL_PORT.to_string();
    let words = ["-p", &port, "info", "stats"];
    let info = site.host(server).run("redis-cli", words);
    let mut lines = info.lines();
    let number = lines.find_map(|line| line.strip_prefix("total_connections_received:"));
    number.unwrap().trim().parse().unwrap()
}

#[test]
fn all_masters_are_asked_about_on_the_same_connections() {
    let site = known_by(MASTERS);
    let all = || ["server1", "server2", "server3"].map(|server| connections(&site, server));
    let mut counts = Vec::new();
    // On a busy machine Sentinels lose each other, and connect anew; an agent that did so for each master would always.
    let are_the_same = wait_for(PATIENCE, || {
        let before = all();
        site.seconds_pass("server1", 5.0);
        let pairs = before.into_iter().zip(all());
        counts.push(pairs.clone().collect::<Vec<_>>());
        // That of this question is one of them.
        let mut more = pairs.map(|(before, after)| after - before);
        more.all(|more| more < MASTERS / 2).then_some(())
    });
    assert!(are_the_same.is_some(), "{counts:?}");
}

#[test]
fn an_order_about_all_masters_is_done_where_a_sentinel_hangs() {
    let site = known_by(MASTERS);
    let pid = site.sentinel_pid("server3");
    site.signal(&pid, "STOP");
    let one = site.host("server1");
    one.ip("addr del 192.168.57.7/32 dev eth1");
    one.ok("sync");
    one.ok("announce");
    assert!(one.has("192.168.57.7/32@eth1"));
    site.go_on(&pid);
}
