//! Random faults on real Redis, Sentinels and agents, while clients write through the VIP: one scenario after
//! another, each of which must end with the VIP on the master's host alone. Violations and lost writes are counted.
//!
//! `VIPSWITCH_SOAK=200 cargo test --test soak` runs so many scenarios; `VIPSWITCH_SOAK_SEED=S` those of a seed that
//! an earlier run has printed; `VIPSWITCH_SOAK_ONLY='Redis killed'` those whose name contains this.

mod child;
#[path = "../integration/common/mod.rs"]
mod common;
mod eye;
mod faults;
mod ground;
mod history;
mod random;
mod table;
mod writer;

use std::io::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

use child::now;
use common::redis::{SERVERS, SOON_DOWN};
use faults::{KINDS, Kind};
use ground::Ground;
use history::{Judged, State};
use random::Random;
use table::{Row, Table};
use writer::Written;

/// How many scenarios are run where nobody says otherwise.
const NUMBER: usize = 20;

/// How long two able hosts may have the VIP, and how long it may be elsewhere than decided.
const SOON: Duration = Duration::from_secs(5);

/// How long a write may have to wait: the longest pause is half of `down-after`, and the machine is busy.
const LONGEST_PAUSE: Duration = Duration::from_millis(SOON_DOWN as u64 / 2 + 2000);

/// A write that waited for so long did not wait for the end that the agent makes of a pause.
const PAUSE_THAT_RAN_OUT: Duration = Duration::from_millis(SOON_DOWN as u64 * 9 / 20);

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
    let downs_before = downs(ground);
    let with_hook = random.one_in(4);
    if with_hook {
        ground.call_the_hook(true);
    }
    let (told, wrong) = kind.happen(ground, random);
    let title = format!("{title}: {told}{}", if with_hook { ", hook" } else { "" });
    let mut order = [0, 1, 2];
    random.shuffle(&mut order);
    ground.heal(&order);
    ground.until(&title, State::is_settled);
    let written = ground.writer.report();
    let end = now();
    ground.look();
    let events = ground.history.told();
    let judged = ground.history.judge(end);
    let is_down = downs(ground) > downs_before;
    let mut violations = violations(kind, &judged, &written, is_down);
    violations.extend(wrong);
    print(&format!(
        "{title}: {:.1} s: settled {:?}, outage {:?}, acknowledged {}, lost {}, two {:?}, held {:?}, late {:?}{}",
        began.elapsed().as_secs_f64(),
        judged.unsettled,
        written.outage,
        written.acked,
        written.lost,
        judged.two_holders,
        judged.held,
        judged.late,
        if is_down { ", down" } else { "" },
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
        is_down,
        violations: violations.len(),
    });
    if with_hook {
        ground.call_the_hook(false);
    }
    ground.until_well();
    let said = |text: String| format!("{title}: {text}");
    violations.into_iter().map(said).collect()
}

/// Returns how often the Sentinels have agreed that a Redis is down.
fn downs(ground: &Ground) -> usize {
    let logs = SERVERS.map(|server| ground.site.sentinel_log(server));
    logs.iter().map(|log| log.matches("+odown").count()).sum()
}

fn violations(kind: Kind, judged: &Judged, written: &Written, is_down: bool) -> Vec<String> {
    let mut all = Vec::new();
    if judged.two_holders > SOON + judged.late {
        all.push(format!("two holders for {:?}", judged.two_holders));
    }
    if judged.unsettled > SOON + judged.late {
        all.push(format!("not where decided for {:?}", judged.unsettled));
    }
    if judged.held > LONGEST_PAUSE + judged.late {
        all.push(format!("a write waited for {:?}", judged.held));
    }
    // The machine kept Sentinel or the agent from acting: a failover of a Redis that seemed dead, a pause that was over
    // before the promotion.
    let is_excused = is_down || judged.late > Duration::ZERO || judged.held >= PAUSE_THAT_RAN_OUT;
    if kind.loses_nothing() && !is_excused && written.lost > 0 {
        let Written { lost, numbers, .. } = written;
        all.push(format!("{lost} acknowledged writes lost, first {numbers}"));
    }
    all
}
