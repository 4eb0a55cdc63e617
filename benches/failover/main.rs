//! What a failover costs a client, with real Redis and real Sentinels, for `vipswitch` and for
//! the guide's script in turn: the outage, and how much of it comes after Sentinel's decision.
//!
//! Each round has a lab of its own, in network namespaces, and is over with it; the contenders
//! take turns, as the machine is shared and its speed drifts. All times are of one clock: those
//! of frames by the kernel of the client's host, those of decisions by Sentinel's log, to the
//! millisecond. The parts can be had alone: `cargo bench --bench failover -- kill`, `planned`,
//! `many`. Nothing fails because of a time.

#![allow(clippy::print_stdout, reason = "a benchmark is there to print")]

mod client;
#[path = "../../tests/integration/common/mod.rs"]
mod common;
mod report;
mod site;

use std::thread;
use std::time::{Duration, Instant};

use client::{BLOCKED, Client, WRITER};
use common::sniffer;
use report::{Many, Times};
use site::{Site, until, within};

const SNIFFER: &str = "sniffer-child";

/// What Sentinel calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Vipswitch,
    Script,
}

const CONTENDERS: [Contender; 2] = [Contender::Vipswitch, Contender::Script];

/// How long a blocked client is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// When the last of many VIPs must have moved, counted from the death of their host. Sentinels
/// whose votes were split try again after 8 s.
const ALL_MOVED: Duration = Duration::from_secs(40);

/// How often each part is measured, for each contender.
struct Rounds {
    kill: usize,
    planned: usize,
    many: usize,
    masters: u16,
    contenders: &'static [Contender],
}

const BENCH: Rounds = Rounds {
    kill: 5,
    planned: 4,
    many: 2,
    masters: 60,
    contenders: &CONTENDERS,
};
/// `cargo test --all-targets` runs this too, without `--bench`: all parts, once.
const TEST: Rounds = Rounds {
    kill: 1,
    planned: 1,
    many: 1,
    masters: 3,
    contenders: &CONTENDERS,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [SNIFFER] => return sniffer::serve(),
        [WRITER, server] => return client::write(server),
        [BLOCKED, server] => return client::block(server),
        _ => {}
    }
    let rounds = if arguments.contains(&"--bench") {
        BENCH
    } else {
        TEST
    };
    let parts = ["kill", "planned", "many"];
    let all = !arguments.iter().any(|argument| parts.contains(argument));
    let wanted = |part: &str| all || arguments.contains(&part);
    let started = Instant::now();
    println!("Three Redis, three Sentinels and a client; up to six minutes ...");
    if wanted("kill") {
        report::killed(&in_turn(&rounds, rounds.kill, killed));
    }
    if wanted("planned") {
        report::planned(&in_turn(&rounds, rounds.planned, planned), WATCHED);
    }
    if wanted("many") {
        let many = |contender| many(contender, rounds.masters);
        report::many(&in_turn(&rounds, rounds.many, many), rounds.masters);
    }
    println!("\nIt took {} s.", started.elapsed().as_secs());
}

/// Lets the contenders take turns, the other way round every second time.
fn in_turn<T>(
    rounds: &Rounds,
    number: usize,
    mut measure: impl FnMut(Contender) -> T,
) -> Vec<(Contender, T)> {
    let mut results = Vec::new();
    for round in 0..number {
        let mut order = rounds.contenders.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            results.push((contender, measure(contender)));
        }
    }
    results
}

/// The master is killed while a client writes.
fn killed(contender: Contender) -> Times {
    let site = Site::guides(contender);
    let writer = site.client(WRITER);
    site.arm();
    site.kill();
    let mut times = times(&site, &writer);
    times.own = own(&site);
    times
}

/// Somebody asks for a failover while a client writes and another is subscribed.
fn planned(contender: Contender) -> Times {
    let site = Site::guides(contender);
    let writer = site.client(WRITER);
    let blocked = site.client(BLOCKED);
    site.fail_over();
    let mut times = times(&site, &writer);
    within(WATCHED, || !blocked.told().is_empty());
    let decided = site.decision(&site.masters[0]).unwrap();
    times.learned = blocked.told().first().map(|told| since(told[0], decided));
    times
}

/// Evaluates a failover: waits for the decision, and until the client can write again.
fn times(site: &Site, writer: &Client) -> Times {
    let master = &site.masters[0];
    until("a decision", || site.decision(master).is_some());
    until("a frame", || !site.first_frames().is_empty());
    until("an answered write", || !writer.told().is_empty());
    // A stall of the machine may have been taken for the move: then that is still to come.
    thread::sleep(Duration::from_millis(500));
    let decided = site.decision(master).unwrap();
    let gap = writer.told().into_iter().max_by_key(|gap| gap[1] - gap[0]);
    let gap = gap.unwrap();
    Times {
        outage: (gap[1] - gap[0]).as_secs_f64() * 1e3,
        first_frame: site.first_frames()[0].as_secs_f64() * 1e3,
        first_write: since(gap[1], decided),
        learned: None,
        own: Vec::new(),
        known: site
            .known_to_heir()
            .first()
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3),
    }
}

/// A host dies that has so many masters.
fn many(contender: Contender, masters: u16) -> Many {
    let site = Site::with_masters(contender, masters);
    site.arm();
    site.kill();
    let all_moved = || site.first_frames().len() == usize::from(masters);
    let moved = within(ALL_MOVED, all_moved);
    let decisions = site.decisions();
    let (first, last) = (decisions.values().min(), decisions.values().max());
    Many {
        first_frames: site
            .first_frames()
            .iter()
            .map(|time| time.as_secs_f64() * 1e3)
            .collect(),
        decided_within: since(
            *last.unwrap_or(&Duration::ZERO),
            *first.unwrap_or(&Duration::ZERO),
        ),
        missing: if moved {
            0
        } else {
            usize::from(masters) - site.first_frames().len()
        },
        own: own(&site),
        known: site
            .known_to_heir()
            .iter()
            .map(|time| time.as_secs_f64() * 1e3)
            .collect(),
    }
}

/// Returns milliseconds, which are negative if `time` was before `start`.
fn since(time: Duration, start: Duration) -> f64 {
    (time.as_secs_f64() - start.as_secs_f64()) * 1e3
}

/// Returns what the log of vipswitch says of the time that its take-overs took until the first
/// round of frames was out, in milliseconds. The script has no log.
fn own(site: &Site) -> Vec<f64> {
    let mut lines = site.log();
    lines.retain(|line| line.contains(" took_over="));
    let value = |line: &String| {
        let words = line.split_whitespace();
        let mut values = words.filter_map(|word| word.strip_prefix("announced_ms="));
        values.next()?.parse().ok()
    };
    lines.iter().filter_map(value).collect()
}
