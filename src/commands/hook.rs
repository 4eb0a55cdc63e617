//! Sentinel's call.

use std::io::{self, IsTerminal as _};
use std::time::Instant;

use super::{level, load};
use crate::cli::Options;
use crate::config::{Config, Target};
use crate::engine::Task;
use crate::evidence::Word;
use crate::exit::{Exit, Fault};
use crate::failover::Failover;
use crate::log::{self, Level};
use crate::once::{self, Entry, Run};
use crate::report::{fault_line, log_line};
use crate::text::escape;

/// Makes this host follow the failover. Returns how the run ended; everything that is to be
/// said about it is in the log by then.
pub(super) async fn run(failover: &Failover, started: Instant) -> Exit {
    let done = match load(&Options::default(), &[&failover.master], started).await {
        Ok(config) => follow(failover, &config, started).await,
        Err(fault) => Err(fault),
    };
    match done {
        Ok(exit) => exit,
        Err(fault) => refuse(&fault, &pairs(failover)).await,
    }
}

async fn follow(failover: &Failover, config: &Config, started: Instant) -> Result<Exit, Fault> {
    let targets = Target::of(config, &[&failover.master])?;
    let mut run = Run::new(Entry::Hook(failover), config, targets, started, false);
    let exit = run
        .carry_out(async |_: &Fault| {}, async |_: &Task<'_>| {})
        .await;
    // One call is about one master.
    let Some(task) = run.tasks.first() else {
        return Ok(exit);
    };
    let mut call = pairs(failover).to_vec();
    call.extend(once::pairs(task));
    let line = log_line(&call, &task.outcomes, &task.phases, exit.code());
    let faults = task.outcomes.iter().filter_map(|outcome| outcome.fault());
    let mut faults: Vec<String> = faults.map(ToString::to_string).collect();
    // Two VIPs of one master often share a fault.
    faults.dedup();
    complain(exit, log_level(exit, task), &line, &faults.join("; ")).await;
    Ok(exit)
}

/// Without a word of this host's Sentinel a call is followed unchecked, so that a stale one would be, too: a
/// wrong `address` under `[sentinel]` has to be seen.
fn log_level(exit: Exit, task: &Task<'_>) -> Level {
    let evidence = task.evidence.as_ref();
    let word = evidence.and_then(|evidence| evidence.word.as_ref());
    match (level(exit), word) {
        (Level::Notice, Some(Word::Silent(_) | Word::Unmonitored)) => Level::Warning,
        (level, _) => level,
    }
}

/// Ends a call that nothing can be done for. `call` says what was asked, for the log.
pub(super) async fn refuse(fault: &Fault, call: &[(&str, String)]) -> Exit {
    let exit = Exit::from(fault.kind);
    let line = fault_line(fault, call, exit.code());
    complain(exit, level(exit), &line, &fault.to_string()).await;
    exit
}

/// Writes the log line, and for an end that Sentinel will not retry one line to stderr.
async fn complain(exit: Exit, level: Level, line: &str, fault: &str) {
    // Without syslog the line is on stderr, and the fault in it.
    if !log::line(level, line).await {
        return;
    }
    if exit == Exit::Permanent {
        log::stderr(fault).await;
    } else if io::stderr().is_terminal() {
        // Called by hand.
        log::stderr(line).await;
    }
}

/// Everything here came from the arguments, and goes into the log.
fn pairs(failover: &Failover) -> [(&'static str, String); 5] {
    let from = failover.from.as_ref().map(ToString::to_string);
    let from = from.or_else(|| failover.unread_from.clone());
    [
        ("master", escape(&failover.master)),
        ("role", failover.role.to_string()),
        ("state", escape(&failover.state)),
        ("from", escape(&from.unwrap_or_default())),
        ("to", escape(&failover.to.to_string())),
    ]
}
