//! What a failover costs a client, with real Redis and real Sentinels, for the agent, for the hook alone,
//! for the guide's script, and for keepalived and HAProxy where they are installed, in turn: the outage, how much of it comes after the promotion, and how
//! many acknowledged writes are lost.
//!
//! Each round has a lab of its own, in network namespaces, and is over with it; the contenders
//! take turns, as the machine is shared and its speed drifts. All times are of one clock: those
//! of frames by the kernel of the client's host, those of promotions and decisions by the logs of Redis
//! and Sentinel, to the millisecond. The parts can be had alone: `cargo bench --bench failover -- kill`,
//! `death`, `planned`, `verb`, `many`, `budgets`. VIPSWITCH_BENCH_ROUNDS and VIPSWITCH_BENCH_MASTERS change how
//! often and how many. Nothing fails because of a time.

#![allow(clippy::print_stdout, reason = "a benchmark is there to print")]

mod client;
#[path = "../../tests/integration/common/mod.rs"]
mod common;
mod report;
mod rivals;
mod site;

use std::thread;
use std::time::{Duration, Instant};

use client::{BLOCKED, Client, WRITER};
use common::sniffer;
use report::{Many, Times};
use site::{Site, until, within};

const SNIFFER: &str = "sniffer-child";

/// What moves the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    /// An agent on every server; Sentinel calls the hook, too.
    Agent,
    /// Sentinel calls vipswitch, and there is no agent.
    Hook,
    /// Sentinel calls the guide's script.
    Script,
    /// keepalived, whose check asks the host's own Redis for its role.
    Keepalived,
    /// HAProxy in front of all three, whose check asks each for its role.
    Haproxy,
}

impl Contender {
    /// Returns the contenders that Sentinel calls, or that ask it; the script where it can announce the VIP.
    fn of_sentinel() -> Vec<Contender> {
        let all = [Contender::Agent, Contender::Hook, Contender::Script];
        let can_run =
            |one: &Contender| *one != Contender::Script || rivals::is_there("arping", "-V");
        all.into_iter().filter(can_run).collect()
    }

    /// Returns all of this machine.
    fn all() -> Vec<Contender> {
        let mut all = Contender::of_sentinel();
        all.extend(rivals::installed());
        all
    }

    /// Returns whether the new master's host announces the VIP.
    fn moves_the_vip(self) -> bool {
        self != Contender::Haproxy
    }
}

/// How many writers write as quickly as they are answered.
const WRITERS: usize = 4;
/// How long a blocked client is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// When the last of many VIPs must have moved, counted from the death of their host. Sentinels
/// whose votes were split try again after 8 s.
const ALL_MOVED: Duration = Duration::from_secs(40);

/// How often each part is measured, for each contender.
struct Rounds {
    kill: usize,
    death: usize,
    planned: usize,
    many: usize,
    masters: u16,
    /// How many masters the agent has whose memory is measured.
    large: u16,
    /// For how long an agent at rest is watched.
    idle: Duration,
}

const BENCH: Rounds = Rounds {
    kill: 5,
    death: 5,
    planned: 5,
    many: 2,
    masters: 60,
    large: 100,
    idle: Duration::from_secs(60),
};
/// `cargo test --all-targets` runs this too, without `--bench`: all parts, once.
const TEST: Rounds = Rounds {
    kill: 1,
    death: 1,
    planned: 1,
    many: 1,
    masters: 3,
    large: 3,
    idle: Duration::from_secs(1),
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [SNIFFER] => return sniffer::serve(),
        [WRITER, server, key] => return client::write(server, key),
        [BLOCKED, server, _] => return client::block(server),
        _ => {}
    }
    let rounds = if arguments.contains(&"--bench") {
        as_wished(BENCH)
    } else {
        TEST
    };
    let parts = ["kill", "death", "planned", "verb", "many", "budgets"];
    let all = !arguments.iter().any(|argument| parts.contains(argument));
    let wanted = |part: &str| all || arguments.contains(&part);
    let started = Instant::now();
    println!("Three Redis, three Sentinels and a client; up to half an hour ...");
    if !Contender::of_sentinel().contains(&Contender::Script) {
        println!("The guide's script takes no part: it needs arping (Debian: iputils-arping).");
    }
    if wanted("kill") {
        let killed = |contender| lost(contender, Site::kill);
        let all = &Contender::all();
        report::lost("The master is killed", &in_turn(all, rounds.kill, killed));
    }
    if wanted("death") {
        let died = |contender| lost(contender, Site::unplug);
        let all = &Contender::all();
        report::lost(
            "The master's host is cut off",
            &in_turn(all, rounds.death, died),
        );
    }
    if wanted("planned") {
        let all = &Contender::all();
        let by_sentinel = in_turn(all, rounds.planned, |who| planned(who, Site::fail_over));
        report::planned("SENTINEL FAILOVER", &by_sentinel, WATCHED);
    }
    if wanted("verb") {
        let ours = &[Contender::Agent, Contender::Hook];
        let verb = |who| planned(who, Site::fail_over_by_verb);
        let by_verb = in_turn(ours, rounds.planned, verb);
        report::planned("vipswitch failover", &by_verb, WATCHED);
    }
    if wanted("many") {
        let many = |contender| many(contender, rounds.masters);
        let of_sentinel = &Contender::of_sentinel();
        report::many(&in_turn(of_sentinel, rounds.many, many), rounds.masters);
    }
    if wanted("budgets") {
        budgets(&rounds);
    }
    println!("\nIt took {} s.", started.elapsed().as_secs());
}

/// Changes the numbers that the environment names.
fn as_wished(rounds: Rounds) -> Rounds {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u16>().ok();
    let masters = number("VIPSWITCH_BENCH_MASTERS").unwrap_or(rounds.masters);
    let Some(each) = number("VIPSWITCH_BENCH_ROUNDS").map(usize::from) else {
        return Rounds { masters, ..rounds };
    };
    Rounds {
        kill: each,
        death: each,
        planned: each,
        masters,
        ..rounds
    }
}

/// Lets the contenders take turns, the other way round every second time.
fn in_turn<T>(
    contenders: &[Contender],
    number: usize,
    mut measure: impl FnMut(Contender) -> T,
) -> Vec<(Contender, T)> {
    let mut results = Vec::new();
    for round in 0..number {
        let mut order = contenders.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            results.push((contender, measure(contender)));
        }
    }
    results
}

/// The master is lost, in one way or another, while a client writes.
fn lost(contender: Contender, lose: fn(&Site)) -> Times {
    let site = Site::guides(contender);
    let writer = site.client(WRITER, "bench");
    site.arm();
    lose(&site);
    times((&site, contender), &[writer])
}

/// Somebody asks for a failover while clients write as much as they can and another is subscribed.
fn planned(contender: Contender, fail_over: fn(&Site)) -> Times {
    let site = Site::guides(contender);
    let keys: Vec<String> = (0..WRITERS).map(|place| format!("bench{place}")).collect();
    let writers: Vec<Client> = keys.iter().map(|key| site.client(WRITER, key)).collect();
    let blocked = site.client(BLOCKED, "bench");
    let began = Instant::now();
    thread::sleep(Duration::from_secs(1));
    fail_over(&site);
    let mut times = times((&site, contender), &writers);
    within(WATCHED, || !blocked.told().is_empty());
    let promoted = site.promotion(&site.masters[0]).unwrap();
    times.learned = blocked.told().first().map(|told| since(told[0], promoted));
    let took = began.elapsed();
    let counts = writers.into_iter().map(|writer| writer.count(&site.heir()));
    let counts: Vec<(u64, u64)> = counts.collect();
    let acknowledged: u64 = counts.iter().map(|(acknowledged, _)| acknowledged).sum();
    times.rate = acknowledged as f64 / took.as_secs_f64();
    times.behind = site.bytes_behind();
    times.lost = counts.iter().map(|(_, lost)| lost).sum::<u64>() as f64;
    times
}

/// Evaluates a failover: waits for the decision, and until all clients can write again.
fn times((site, contender): (&Site, Contender), writers: &[Client]) -> Times {
    let master = &site.masters[0];
    until("a promotion", || site.promotion(master).is_some());
    let promoted = site.promotion(master).unwrap();
    until("a decision", || site.decision(master).is_some());
    if contender.moves_the_vip() {
        until("a frame", || !site.first_frames().is_empty());
    }
    let writes_again = |writer: &Client| writer.told().iter().any(|gap| gap[1] > promoted);
    until("an answered write", || writers.iter().all(writes_again));
    // A stall of the machine may have been taken for the move: then that is still to come.
    thread::sleep(Duration::from_millis(500));
    let gaps = writers.iter().flat_map(Client::told);
    let gap = gaps.max_by_key(|gap| gap[1] - gap[0]).unwrap();
    Times {
        outage: (gap[1] - gap[0]).as_secs_f64() * 1e3,
        first_frame: site
            .first_frames()
            .first()
            .map(|time| time.as_secs_f64() * 1e3),
        first_write: since(gap[1], promoted),
        decided: since(site.decision(master).unwrap(), promoted),
        learned: None,
        rate: f64::NAN,
        lost: f64::NAN,
        behind: None,
    }
}

/// A host dies that has so many masters.
fn many(contender: Contender, masters: u16) -> Many {
    let site = Site::with_masters(contender, masters);
    site.arm();
    site.unplug();
    within(ALL_MOVED, || {
        site.first_frames().len() == usize::from(masters)
    });
    let first_frames = site.first_frames();
    let decisions = site.decisions();
    let (first, last) = (decisions.values().min(), decisions.values().max());
    Many {
        missing: usize::from(masters) - first_frames.len(),
        first_frames: first_frames
            .iter()
            .map(|time| time.as_secs_f64() * 1e3)
            .collect(),
        decided_within: since(
            *last.unwrap_or(&Duration::ZERO),
            *first.unwrap_or(&Duration::ZERO),
        ),
    }
}

/// What the agent needs at rest.
fn budgets(rounds: &Rounds) {
    let site = Site::with_masters(Contender::Agent, 3);
    // The first rounds of questions and announcements are over then.
    thread::sleep(rounds.idle / 3);
    // utime and stime, in hundredths of a second, behind the name in parentheses.
    let ticks = || {
        let stat = site.of_agent("stat");
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let times = fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().unwrap());
        times.sum::<f64>()
    };
    let (began, before) = (Instant::now(), ticks());
    thread::sleep(rounds.idle);
    let share = (ticks() - before) / began.elapsed().as_secs_f64();
    drop(site);
    let site = Site::with_masters(Contender::Agent, rounds.large);
    thread::sleep(rounds.idle / 3);
    let status = site.of_agent("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    report::budgets(share, rounds.large, resident.unwrap_or_default().trim());
}

/// Returns milliseconds, which are negative if `time` was before `start`.
fn since(time: Duration, start: Duration) -> f64 {
    (time.as_secs_f64() - start.as_secs_f64()) * 1e3
}
