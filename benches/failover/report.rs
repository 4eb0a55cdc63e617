//! The tables: a median and the range of all rounds, beside the figures of the script that the
//! project's field notes have from another machine.

use std::time::Duration;

use crate::Contender;
use crate::site::DOWN_AFTER;

/// What came of one failover, in milliseconds.
pub struct Times {
    /// The longest time between two answered writes.
    pub outage: f64,
    /// From Sentinel's decision to the first frame about the VIP.
    pub first_frame: f64,
    /// From there to the first answered write after the outage.
    pub first_write: f64,
    /// From there to the end of a blocked client's connection.
    pub learned: Option<f64>,
    /// From there until the Sentinel on the new host knew.
    pub known: f64,
    /// What vipswitch says that it took from its start until the frames were out.
    pub own: Vec<f64>,
}

/// What came of the death of a host with many masters.
pub struct Many {
    /// From the decision about each VIP to its first frame, in milliseconds.
    pub first_frames: Vec<f64>,
    /// From the first decision to the last, in milliseconds.
    pub decided_within: f64,
    /// How many VIPs did not move.
    pub missing: usize,
    /// From each decision until the Sentinel on the new host knew, in milliseconds.
    pub known: Vec<f64>,
    /// What vipswitch says that each take-over took until the frames were out.
    pub own: Vec<f64>,
}

/// Prints what came of killed masters.
pub fn killed(results: &[(Contender, Times)]) {
    let title = format!("The master is killed, down-after-milliseconds {DOWN_AFTER}");
    heading(&title, results.len() / 2);
    row(
        "outage of a writer",
        results,
        "2200 to 2390 at 1000",
        |one| Some(one.outage),
    );
    row("decision to first frame", results, "-", |one| {
        Some(one.first_frame)
    });
    row("decision to first write", results, "68 to 166", |one| {
        Some(one.first_write)
    });
    row("decision known on the new host", results, "-", |one| {
        Some(one.known)
    });
    own(results, |one| &one.own);
}

/// Prints what came of planned failovers.
pub fn planned(results: &[(Contender, Times)], watched: Duration) {
    heading("A planned failover", results.len() / 2);
    row("outage of a writer", results, "-", |one| Some(one.outage));
    row("decision to first frame", results, "-", |one| {
        Some(one.first_frame)
    });
    row("decision to first write", results, "-", |one| {
        Some(one.first_write)
    });
    let learned = "decision to blocked client's end";
    row(learned, results, "never, 20 s watched", |one| one.learned);
    println!("A blocked client was watched for {watched:?}.");
}

/// Prints what came of hosts that died.
pub fn many(results: &[(Contender, Many)], masters: u16) {
    let title = format!("A host with {masters} masters dies: each VIP, from its own decision");
    heading(&title, results.len() / 2);
    row("median VIP to first frame", results, "380", |one| {
        median(&one.first_frames)
    });
    row("slowest VIP to first frame", results, "6070", |one| {
        one.first_frames.iter().copied().max_by(f64::total_cmp)
    });
    row("first decision to last", results, "-", |one| {
        Some(one.decided_within)
    });
    row("known on the new host, median", results, "-", |one| {
        median(&one.known)
    });
    row("known on the new host, slowest", results, "-", |one| {
        one.known.iter().copied().max_by(f64::total_cmp)
    });
    own(results, |one| &one.own);
    for (contender, one) in results.iter().filter(|(_, one)| one.missing > 0) {
        println!("{contender:?}: {} VIPs did not move.", one.missing);
    }
    let ours = results
        .iter()
        .filter(|(who, _)| *who == Contender::Vipswitch);
    let all = ours.flat_map(|(_, one)| one.first_frames.iter().copied());
    if let Some(slowest) = all.max_by(f64::total_cmp) {
        let kept = if slowest <= 500.0 { "yes" } else { "NO" };
        println!("vipswitch: slowest VIP {slowest:.0} ms, budget 500 ms: {kept}");
    }
}

fn heading(title: &str, rounds: usize) {
    println!("\n{title}; {rounds} rounds each: median (from - to), in ms");
    cells([
        "",
        "vipswitch",
        "the guide's script",
        "field notes: the script",
    ]);
}

fn row<T>(what: &str, results: &[(Contender, T)], notes: &str, value: impl Fn(&T) -> Option<f64>) {
    let of = |contender| {
        let mine = results.iter().filter(|(who, _)| *who == contender);
        spread(&mine.map(|(_, one)| value(one)).collect::<Vec<_>>())
    };
    let (vipswitch, script) = (of(Contender::Vipswitch), of(Contender::Script));
    cells([what, &vipswitch, &script, notes]);
}

fn cells([what, vipswitch, script, notes]: [&str; 4]) {
    println!("{what:34}{vipswitch:>26}{script:>26}{notes:>26}");
}

/// Returns the median and the range; what never came is said.
fn spread(values: &[Option<f64>]) -> String {
    let came: Vec<f64> = values.iter().flatten().copied().collect();
    let Some(middle) = median(&came) else {
        return "never".to_owned();
    };
    let least = came.iter().copied().fold(f64::INFINITY, f64::min);
    let most = came.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let never = match values.len() - came.len() {
        0 => String::new(),
        number => format!(", {number} never"),
    };
    // Below 10 ms a digit more.
    let digits = usize::from(middle < 10.0);
    format!("{middle:.digits$} ({least:.digits$} - {most:.digits$}{never})")
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Prints how much of the time was spent in vipswitch, as its log has it.
fn own<T>(results: &[(Contender, T)], times: impl Fn(&T) -> &Vec<f64>) {
    let all: Vec<Option<f64>> = results
        .iter()
        .flat_map(|(_, one)| times(one).iter().copied().map(Some))
        .collect();
    cells(["vipswitch's start to frames sent", &spread(&all), "-", "-"]);
}
