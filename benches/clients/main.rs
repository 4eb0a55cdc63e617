//! How soon the clients of a host that died learn of it: from the first frame of the VIP's next holder to the reset of
//! each, all of them in SUBSCRIBE. Real Redis, real Sentinels and agents, in network namespaces.
//!
//! `cargo bench --bench clients -- 1 1000 19900` says how many clients; a client and its server take a file each, so
//! that `ulimit -Hn` bounds it. VIPSWITCH_BENCH_ROUNDS changes how often. Nothing fails because of a time.

#![allow(clippy::print_stdout, reason = "a benchmark is there to print")]

#[path = "../../tests/integration/common/mod.rs"]
mod common;

use std::thread::sleep;
use std::time::Duration;

use common::eventually;
use common::redis::crowd::After;
use common::redis::{MASTER_8000, SERVERS, Site};

/// How long the agents are watched at their daily work.
const WATCHED: Duration = Duration::from_secs(10);

const M: common::redis::Master = MASTER_8000;

/// How many clients, and how often, unless the arguments say so. `cargo test --all-targets` runs this too, without
/// `--bench`.
const BENCH: (&[usize], usize) = (&[1, 1_000, 10_000], 5);
const TEST: (&[usize], usize) = (&[10], 1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (numbers, rounds) = match arguments.iter().any(|argument| argument == "--bench") {
        true => BENCH,
        false => TEST,
    };
    let wished: Vec<usize> = arguments
        .iter()
        .filter_map(|one| one.parse().ok())
        .collect();
    let numbers = if wished.is_empty() { numbers } else { &wished };
    let wished = std::env::var("VIPSWITCH_BENCH_ROUNDS").ok();
    let rounds = wished
        .and_then(|wished| wished.parse().ok())
        .unwrap_or(rounds);
    println!("From the first frame of the next holder to the reset of a client, in milliseconds");
    println!(
        "{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>12}{:>12}{:>12}{:>12}",
        "clients",
        "round",
        "median",
        "p90",
        "p99",
        "last",
        "not reset",
        "telling, s",
        "holder, %",
        "holder, MB",
        "other, MB"
    );
    for number in numbers {
        for round in 1..=rounds {
            measure(*number, round);
        }
    }
}

fn measure(number: usize, round: usize) {
    let site = Site::with_agents(&[M]);
    for server in SERVERS {
        let set = ["config", "set", "maxclients", "19960"];
        // Else it stays at 10,000.
        let _ = site.ask(server, M.port, &set);
    }
    let crowd = site.crowd((M.vip, M.port), number, After::Nothing);
    let known = || {
        site.agent("server2")
            .map(|agent| agent["masters"][0]["known_clients"].clone())
    };
    eventually("the next holder knows them", || {
        known().is_some_and(|known| known == number)
    });
    let before = cpu(&site, "server1");
    sleep(WATCHED);
    let share = (cpu(&site, "server1") - before) / WATCHED.as_secs_f64();
    let sizes = ["server1", "server2"].map(|server| resident(&site, server));
    site.down_after(2_000);
    let before = cpu(&site, "server2");
    site.kill_host("server1");
    let took_over = || {
        let seen = site.timeline("server2");
        Some(seen["began"].as_f64()? + seen["first_frame"].as_f64()? / 1e3)
    };
    let took_over = common::wait_for(common::PATIENCE, took_over).expect("a take-over");
    site.lab().logged(&["of the last holder of"]);
    let spent = cpu(&site, "server2") - before;
    let mut after: Vec<f64> = crowd
        .ended()
        .iter()
        .map(|end| (end.at - took_over) * 1e3)
        .collect();
    after.sort_by(f64::total_cmp);
    let part = |share: f64| match after.len() {
        0 => f64::NAN,
        length => after[((length as f64 * share).ceil() as usize).clamp(1, length) - 1],
    };
    println!(
        "{number:>8}{round:>8}{:>8.1}{:>8.1}{:>8.1}{:>8.1}{:>10}{spent:>12.2}{:>12.1}{:>12.1}{:>12.1}",
        part(0.5),
        part(0.9),
        part(0.99),
        part(1.0),
        number - after.len(),
        share * 100.0,
        sizes[0],
        sizes[1],
    );
}

/// Returns how long a server's agent has used a processor, in seconds.
fn cpu(site: &Site, server: &str) -> f64 {
    let stat = of_agent(site, server, "stat");
    // utime and stime, in hundredths of a second, behind the name in parentheses.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks = fields.skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

/// Returns how much memory a server's agent has needed at most, in MB.
fn resident(site: &Site, server: &str) -> f64 {
    let status = of_agent(site, server, "status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<f64>().unwrap() / 1e3
}

fn of_agent(site: &Site, server: &str, file: &str) -> String {
    let path = format!("/proc/{}/{file}", site.agent_pid(server));
    site.lab().run("cat", [path])
}
