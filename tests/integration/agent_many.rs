//! What an agent costs its Sentinels where it has many masters.

use std::fmt::Write as _;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, SENTINEL_PORT, Site, address};

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
    let before = all();
    site.seconds_pass("server1", 5.0);
    for (before, after) in before.into_iter().zip(all()) {
        // That of this question, and of other Sentinels that connect anew.
        assert!(after - before < MASTERS / 2, "{before}, {after}");
    }
}

#[test]
fn an_order_about_all_masters_is_done_where_a_sentinel_hangs() {
    let site = known_by(MASTERS);
    let pid = site.sentinel_pid("server3");
    site.signal(&pid, "STOP");
    let one = site.host("server1");
    one.ip("addr del 192.168.57.7/32 dev eth1");
    one.ok("sync");
    one.ok("announce --all");
    assert!(one.has("192.168.57.7/32@eth1"));
    site.go_on(&pid);
}

#[test]
fn cost() {
    let names = std::env::var("MANY").unwrap().parse().unwrap();
    let site = known_by(names);
    let pid = site.agent_pid("server1");
    let ticks = || -> u64 {
        let text = site
            .host("server1")
            .run("cat", [&format!("/proc/{pid}/stat")]);
        let rest: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        rest[11].parse::<u64>().unwrap() + rest[12].parse::<u64>().unwrap()
    };
    site.seconds_pass("server1", 5.0);
    let before = (
        std::time::Instant::now(),
        ticks(),
        connections(&site, "server1"),
    );
    site.seconds_pass("server1", 20.0);
    let took = before.0.elapsed().as_secs_f64();
    let cpu = (ticks() - before.1) as f64 / 100.0;
    let rss = site
        .host("server1")
        .run("grep", ["VmRSS", &format!("/proc/{pid}/status")]);
    eprintln!(
        "COST {names} masters: {cpu:.2} s CPU in {took:.1} s = {:.2} %; {} connections to server1's Sentinel, {rss}",
        100.0 * cpu / took,
        connections(&site, "server1") - before.2
    );
    let stopped = site.sentinel_pid("server3");
    site.signal(&stopped, "STOP");
    site.seconds_pass("server1", 3.0);
    let at = std::time::Instant::now();
    site.host("server1").ok("sync");
    eprintln!(
        "COST sync with a Sentinel that hangs: {:.2} s",
        at.elapsed().as_secs_f64()
    );
    site.go_on(&stopped);
}
