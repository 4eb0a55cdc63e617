//! The tables: the median, the ninth of ten and the most of all rounds.

use std::borrow::Borrow;
use std::time::Duration;

use crate::site::DOWN_AFTER;
use crate::{CONTENDERS, Contender};

/// What came of one failover, in milliseconds.
pub struct Times {
    /// The longest time between two answered writes of a client.
    pub outage: f64,
    /// From the promotion to the first frame about the VIP.
    pub first_frame: f64,
    /// From there to the first answered write after the outage.
    pub first_write: f64,
    /// From there to Sentinel's publication.
    pub decided: f64,
    /// From there to the end of a blocked client's connection.
    pub learned: Option<f64>,
    /// Acknowledged writes a second.
    pub rate: f64,
    /// How many acknowledged writes the new master has not.
    pub lost: f64,
    /// How many bytes the new master lacked, by the word of the agent.
    pub behind: Option<f64>,
}

/// What came of the death of a host with many masters.
pub struct Many {
    /// From the promotion of each VIP's Redis to its first frame, in milliseconds.
    pub first_frames: Vec<f64>,
    /// From the first decision to the last, in milliseconds.
    pub decided_within: f64,
    /// How many VIPs did not move.
    pub missing: usize,
}

/// Prints what came of lost masters.
pub fn lost(what: &str, results: &[(Contender, Times)]) {
    let title = format!("{what}, down-after-milliseconds {DOWN_AFTER}");
    heading(&title, results.len() / CONTENDERS.len());
    row("outage of a writer", results, |one| Some(one.outage));
    since_promotion(results);
    row("promotion to first write", results, |one| {
        Some(one.first_write)
    });
}

/// Prints what came of planned failovers that were asked for in this way, where a contender has it.
pub fn planned(way: &str, results: &[(Contender, Option<Times>)], watched: Duration) {
    let title = format!("A planned failover, by {way}");
    heading(&title, results.len() / CONTENDERS.len());
    let results: Vec<(Contender, &Times)> = results
        .iter()
        .filter_map(|(who, times)| Some((*who, times.as_ref()?)))
        .collect();
    let results = &results[..];
    row("acknowledged writes lost", results, |one| Some(one.lost));
    row("bytes that it lacked, by the agent", results, |one| {
        one.behind
    });
    row("as long as so many take", results, |one| {
        Some(one.lost / one.rate * 1e3)
    });
    row("acknowledged writes a second", results, |one| {
        Some(one.rate)
    });
    row("longest gap of a writer", results, |one| Some(one.outage));
    row("promotion to blocked client's end", results, |one| {
        one.learned
    });
    since_promotion(results);
    println!("A blocked client was watched for {watched:?}.");
}

fn since_promotion<T: Borrow<Times>>(results: &[(Contender, T)]) {
    row("promotion to first frame", results, |one| {
        Some(one.borrow().first_frame)
    });
    row("promotion to Sentinel's word", results, |one| {
        Some(one.borrow().decided)
    });
}

/// Prints what came of hosts that died.
pub fn many(results: &[(Contender, Many)], masters: u16) {
    let title =
        format!("The host of {masters} masters is cut off: each VIP, from its own promotion");
    heading(&title, results.len() / CONTENDERS.len());
    row("median VIP to first frame", results, |one| {
        median(&one.first_frames)
    });
    row("slowest VIP to first frame", results, |one| {
        one.first_frames.iter().copied().max_by(f64::total_cmp)
    });
    row("first decision to last", results, |one| {
        Some(one.decided_within)
    });
    for (contender, one) in results.iter().filter(|(_, one)| one.missing > 0) {
        println!("{contender:?}: {} VIPs did not move.", one.missing);
    }
}

/// Prints what the agent needs at rest: the share of a core in percent with 3 masters, its memory with many.
pub fn budgets(share: f64, masters: u16, resident: &str) {
    println!("\nThe agent at rest: {share:.2} % of a core with 3 masters, budget 0.5 %");
    println!("Resident with {masters} masters: {resident}, budget 16 MB with 100");
}

fn heading(title: &str, rounds: usize) {
    println!("\n{title}; {rounds} rounds each: median / p90 / most, in ms");
    cells(["", "agent", "hook", "the guide's script"]);
}

fn row<T>(what: &str, results: &[(Contender, T)], value: impl Fn(&T) -> Option<f64>) {
    let of = |contender| {
        let mine = results.iter().filter(|(who, _)| *who == contender);
        spread(&mine.map(|(_, one)| value(one)).collect::<Vec<_>>())
    };
    let [agent, hook, script] = CONTENDERS.map(of);
    cells([what, &agent, &hook, &script]);
}

fn cells([what, agent, hook, script]: [&str; 4]) {
    println!("{what:34}{agent:>28}{hook:>28}{script:>28}");
}

/// Returns the median, the ninth of ten and the most; what never came is said.
fn spread(values: &[Option<f64>]) -> String {
    let mut came: Vec<f64> = values.iter().flatten().copied().collect();
    came.sort_by(f64::total_cmp);
    let Some(most) = came.last() else {
        return "-".to_owned();
    };
    let middle = came[came.len() / 2];
    let ninth = came[(came.len() * 9).div_ceil(10) - 1];
    let never = match values.len() - came.len() {
        0 => String::new(),
        number => format!(", {number} never"),
    };
    // Below 10 ms a digit more.
    let digits = usize::from(middle.abs() < 10.0);
    format!("{middle:.digits$} / {ninth:.digits$} / {most:.digits$}{never}")
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
