//! Random faults on real Redis, Sentinels and agents, while clients write through the VIP: one scenario after
//! another, each of which must end with the VIP on the master's host alone. Violations and lost writes are counted.
//!
//! `VIPSWITCH_SOAK=200 cargo test --test soak` runs so many scenarios; `VIPSWITCH_SOAK_SEED=S` those of a seed that
//! an earlier run has printed; `VIPSWITCH_SOAK_ONLY='Redis killed'` those whose name contains this.

mod child;
#[path = "../integration/common/mod.rs"]
mod common;
mod deaths;
mod eye;
mod faults;
mod ground;
mod history;
mod kinds;
mod random;
mod subscribers;
mod table;
mod verbs;
mod writer;

use std::io::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use child::now;
use ground::Ground;
use history::{Judged, State};
use kinds::{KINDS, Kind};
use random::Random;
use table::{Row, Table};
use writer::Written;

/// How many scenarios are run where nobody says otherwise: each kind once.
const NUMBER: usize = KINDS.len();

/// How long two able hosts may have the VIP, and how long it may be elsewhere than decided.
const SOON: Duration = Duration::from_secs(5);

/// How much longer than the longest pause a write may have to wait: the machine is busy.
const BUSY: Duration = Duration::from_secs(2);

/// Prints a line that the test harness does not hold back.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let number = value.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} cannot be {value}")))
}

/// Returns the kinds in any order, each as often as any other.
fn deck(random: &mut Random, number: usize) -> Vec<Kind> {
    let only: String = setting("VIPSWITCH_SOAK_ONLY").unwrap_or_default();
    let mut kinds = KINDS.to_vec();
    kinds.retain(|kind| kind.name().contains(&only));
    assert!(!kinds.is_empty(), "no such scenario: {only}");
    let mut deck = Vec::new();
    while deck.len() < number {
        random.shuffle(&mut kinds);
        deck.extend(&kinds);
    }
    deck.truncate(number);
    deck
}

#[test]
fn one_holder_after_every_fault_and_nothing_lost_when_planned() {
    let number = setting("VIPSWITCH_SOAK").unwrap_or(NUMBER);
    let seed = setting("VIPSWITCH_SOAK_SEED").unwrap_or_else(|| now().as_micros() as u64);
    print(&format!(
        "VIPSWITCH_SOAK_SEED={seed} VIPSWITCH_SOAK={number}"
    ));
    let mut random = Random(seed);
    let mut ground = Ground::start();
    let mut table = Table::default();
    let mut violations = Vec::new();
    for (place, kind) in (1..).zip(deck(&mut random, number)) {
        let title = format!("{place} of {number}, {}", kind.name());
        violations.extend(scenario(kind, &title, &mut ground, &mut random, &mut table));
    }
    print(&table.text());
    assert!(
        violations.is_empty(),
        "VIPSWITCH_SOAK_SEED={seed} VIPSWITCH_SOAK={number}: {violations:#?}"
    );
}

/// Runs a scenario to its end, and returns what must not be.
fn scenario(
    kind: Kind,
    title: &str,
    ground: &mut Ground,
    random: &mut Random,
    table: &mut Table,
) -> Vec<String> {
    let (began, logged) = (Instant::now(), ground.site.log().len());
    ground.begin();
    let with_hook = random.one_in(4);
    if with_hook {
        ground.call_the_hook(true);
    }
    let happened = kind.happen(ground, random);
    let hook = if with_hook { ", hook" } else { "" };
    let title = format!("{title}: {}{hook}", happened.told);
    let mut order = [0, 1, 2];
    random.shuffle(&mut order);
    ground.heal(&order);
    ground.until(&title, State::is_settled);
    let written = ground.writer.report();
    let end = now();
    ground.look();
    let events = ground.history.told();
    let judged = ground.history.judge(end);
    let excuses = Excuses {
        is_down: !ground.is_undisturbed(),
        is_told: ground.logged_since(logged, " which are lost") > 0,
        longest_pause: ground.longest_pause(),
    };
    let mut violations = violations(&judged, &written, &excuses, happened.loses_nothing);
    violations.extend(happened.wrong);
    if let Some(afterwards) = happened.afterwards {
        violations.extend(afterwards(ground, &judged, &written));
    }
    print(&format!(
        "{title}: {:.1} s: settled {:?}, outage {:?}, acknowledged {}, lost {}, two {:?}, held {:?}, late {:?}{}{}",
        began.elapsed().as_secs_f64(),
        judged.unsettled,
        written.outage,
        written.acked,
        written.lost,
        judged.two_holders,
        judged.held,
        judged.late,
        if excuses.is_down { ", down" } else { "" },
        if excuses.is_told {
            ", the agent tells of losses"
        } else {
            ""
        },
    ));
    if !violations.is_empty() {
        let log = ground.site.log().split_off(logged);
        let agents = ground.agents();
        print(&format!(
            "VIOLATION {title}: {violations:#?}\n{events}\n{agents:#?}\n{log:#?}"
        ));
    }
    table.add(Row {
        kind,
        judged,
        written,
        is_down: excuses.is_down,
        violations: violations.len(),
    });
    if with_hook {
        ground.call_the_hook(false);
    }
    ground.restore();
    ground.until_well();
    let said = |text: String| format!("{title}: {text}");
    violations.into_iter().map(said).collect()
}

/// What a busy machine does to a planned failover.
struct Excuses {
    /// A Redis was taken for down.
    is_down: bool,
    /// The old master's agent could not pause writes before the promotion, and tells how much is lost.
    is_told: bool,
    /// How long a pause may be.
    longest_pause: Duration,
}

fn violations(
    judged: &Judged,
    written: &Written,
    excuses: &Excuses,
    loses_nothing: bool,
) -> Vec<String> {
    let mut all = Vec::new();
    if judged.two_holders > SOON + judged.late {
        all.push(format!("two holders for {:?}", judged.two_holders));
    }
    if judged.unsettled > SOON + judged.late {
        all.push(format!("not where decided for {:?}", judged.unsettled));
    }
    if judged.held > excuses.longest_pause + BUSY + judged.late {
        all.push(format!("a write waited for {:?}", judged.held));
    }
    // A write that waited for so long did not wait for the end that the agent makes of a pause: it was over before the
    // promotion.
    let has_run_out = judged.held >= excuses.longest_pause * 9 / 10;
    let is_excused =
        excuses.is_down || excuses.is_told || judged.late > Duration::ZERO || has_run_out;
    if loses_nothing && !is_excused && written.lost > 0 {
        let Written { lost, numbers, .. } = written;
        all.push(format!("{lost} acknowledged writes lost, first {numbers}"));
    }
    all
}
