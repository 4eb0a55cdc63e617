//! The table, and what it says about the budgets of the project.

use std::time::Duration;

/// What came of the runs of one contender.
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// How many take-overs were measured.
    pub runs: usize,
    /// The bytes of its executable, if it is one file.
    pub file_size: Option<u64>,
    /// The most memory that any run had, of its largest process.
    pub peak_kib: u64,
    /// From exec to the first frame about the VIP at the far end.
    pub first_frame: Spread,
    /// From exec to exit, of a take-over.
    pub take_over: Spread,
    /// From exec to exit, of a release.
    pub release: Option<Spread>,
}

/// The median and the 90th percentile of times.
pub struct Spread {
    /// The former.
    pub median: Duration,
    p90: Duration,
}

impl Spread {
    /// Returns that of `times`, of which there is at least one.
    pub fn of(times: impl Iterator<Item = Duration>) -> Spread {
        let mut times: Vec<Duration> = times.collect();
        times.sort();
        Spread {
            median: times[times.len() / 2],
            p90: times[times.len() * 9 / 10],
        }
    }
}

/// Prints the table: the minimal program, vipswitch, the script.
pub fn print(outcomes: &[Outcome; 3]) {
    let spread = "  median       p90";
    println!();
    print_cells(["", "", "take-over:", "take-over:", "release:", "", ""]);
    print_cells([
        "",
        "runs",
        "exec to first frame",
        "exec to exit",
        "exec to exit",
        "peak memory",
        "executable",
    ]);
    print_cells(["", "", spread, spread, spread, "", ""]);
    for outcome in outcomes {
        print_row(outcome);
    }
    print_budgets(outcomes);
}

fn print_cells(cells: [&str; 7]) {
    let [name, runs, first_frame, take_over, release, memory, file] = cells;
    let line = format!(
        "{name:18} {runs:>5}   {first_frame:^22}{take_over:^22}{release:^22}{memory:>11}  {file:>10}"
    );
    println!("{}", line.trim_end());
}

fn print_row(outcome: &Outcome) {
    let none = || "-".to_owned();
    print_cells([
        outcome.name,
        &outcome.runs.to_string(),
        &pair(&outcome.first_frame),
        &pair(&outcome.take_over),
        &outcome.release.as_ref().map_or_else(none, pair),
        &format!("{:.2} MB", megabytes(outcome.peak_kib * 1024)),
        &outcome
            .file_size
            .map_or_else(none, |size| format!("{:.2} MB", megabytes(size))),
    ]);
}

/// Returns both numbers, the median first.
pub fn pair(spread: &Spread) -> String {
    format!(
        "{} {}",
        milliseconds(spread.median),
        milliseconds(spread.p90)
    )
}

fn milliseconds(time: Duration) -> String {
    format!("{:>6.2} ms", time.as_secs_f64() * 1e3)
}

#[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The budgets are those of the project's design; each is compared with a median.
fn print_budgets([minimal, vipswitch, script]: &[Outcome; 3]) {
    let limit = minimal.first_frame.median.as_secs_f64();
    let times = |outcome: &Outcome| outcome.first_frame.median.as_secs_f64() / limit;
    let exit = |spread: &Spread| spread.median.as_secs_f64() * 1e3;
    let memory = megabytes(vipswitch.peak_kib * 1024);
    println!();
    budget("first frame, in minimal programs", times(vipswitch), 1.6);
    budget("take-over, ms", exit(&vipswitch.take_over), 25.0);
    if let Some(release) = &vipswitch.release {
        budget("release, ms", exit(release), 25.0);
    }
    budget("peak memory, MB", memory, 5.0);
    if let Some(size) = vipswitch.file_size {
        budget("executable, MB", megabytes(size), 6.0);
    }
    let script = times(script);
    println!("The script's first frame takes {script:.2} minimal programs.");
}

/// Prints whether a budget is kept.
pub fn budget(what: &str, measured: f64, limit: f64) {
    let kept = if measured <= limit { "yes" } else { "NO" };
    println!("vipswitch: {what:34} {measured:>6.2}   budget {limit:>4}   {kept}");
}
