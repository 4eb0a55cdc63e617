//! Sentinel's call.

use std::io::{self, IsTerminal as _};
use std::time::Instant;

use super::{level, load};
use crate::cli::Options;
use crate::config::Config;
use crate::exit::{Exit, Fault};
use crate::failover::Failover;
use crate::inherited_files;
use crate::log;
use crate::report::{fault_line, log_line};
use crate::run::{Asked, Run, Target};
use crate::text::escape;

/// Makes this host follow the failover. Returns how the run ended; everything that is to be
/// said about it is in the log by then.
pub(super) fn run(failover: &Failover, started: Instant) -> Exit {
    match load(&Options::default(), started).and_then(|config| follow(failover, &config, started)) {
        Ok(exit) => exit,
        Err(fault) => refuse(&fault, &pairs(failover)),
    }
}

fn follow(failover: &Failover, config: &Config, started: Instant) -> Result<Exit, Fault> {
    let master = config.master(&failover.master)?;
    if master.on_take_over.is_some() || master.on_release.is_some() {
        inherited_files::close_files();
    }
    let targets = Target::of(config, &[&failover.master])?;
    let mut run = Run::new(Asked::Follow(failover), config, targets, started, false);
    let exit = run.carry_out(|_| {});
    let mut call = pairs(failover).to_vec();
    call.extend(run.pairs());
    let line = log_line(&call, &run.outcomes, &run.phases, exit.code());
    let faults = run
        .outcomes
        .iter()
        .flat_map(|outcome| outcome.result.as_ref().err());
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    complain(exit, &line, &faults.join("; "));
    Ok(exit)
}

/// Ends a call that nothing can be done for. `call` says what was asked, for the log.
pub(super) fn refuse(fault: &Fault, call: &[(&str, String)]) -> Exit {
    let exit = Exit::from(fault.kind);
    let line = fault_line(fault, call, exit.code());
    complain(exit, &line, &fault.to_string());
    exit
}

/// Writes the log line, and for an end that Sentinel will not retry one line to stderr.
fn complain(exit: Exit, line: &str, fault: &str) {
    // Without syslog the line is on stderr, and the fault in it.
    if !log::line(level(exit), line) {
        return;
    }
    if exit == Exit::Permanent {
        log::stderr(fault);
    } else if io::stderr().is_terminal() {
        // Called by hand.
        log::stderr(line);
    }
}

/// Everything here came from the arguments, and goes into the log.
fn pairs(failover: &Failover) -> [(&'static str, String); 5] {
    let from = failover.from.as_ref().map(ToString::to_string);
    [
        ("master", escape(&failover.master)),
        ("role", failover.role.to_string()),
        ("state", escape(&failover.state)),
        ("from", escape(&from.unwrap_or_default())),
        ("to", escape(&failover.to.to_string())),
    ]
}
