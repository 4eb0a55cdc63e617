//! What an agent costs its Sentinels and its host where it has many masters.

use std::fmt::Write as _;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, SENTINEL_PORT, SERVERS, Site, address};

/// A site whose Sentinels know the same three Redis by many names. It has one agent, on the first server.
fn known_by(names: usize) -> Site {
    let mut site = Site::unstarted();
    let mut monitored = String::new();
    let mut config = format!("[masters.master8000]\nvip = \"{}/24\"\n", MASTER_8000.vip);
    for number in 0..names.saturating_sub(1) {
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

fn connections(site: &Site, server: &str) -> u64 {
    let info = site.host(server).run(
        "redis-cli",
        ["-p", &SENTINEL_PORT.to_string(), "info", "stats"],
    );
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
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
        connections(&site, "server2"),
    );
    site.seconds_pass("server1", 20.0);
    let took = before.0.elapsed().as_secs_f64();
    let cpu = (ticks() - before.1) as f64 / 100.0;
    let rss = site
        .host("server1")
        .run("grep", ["VmRSS", &format!("/proc/{pid}/status")]);
    eprintln!(
        "COST {names} masters: {cpu:.2} s CPU in {took:.1} s = {:.2} %; {} connections to server2's Sentinel, {rss}",
        100.0 * cpu / took,
        connections(&site, "server2") - before.2
    );
    let _ = SERVERS;
}
