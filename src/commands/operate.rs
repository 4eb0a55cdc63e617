//! `bind`, `unbind` and `announce`: what an operator asks for, told line by line.

use std::time::Instant;

use super::{level, load, print};
use crate::cli::{Masters, Options};
use crate::exit::Exit;
use crate::log;
use crate::plan::Call;
use crate::report::{Outcome, Phases, log_line, milliseconds, printable};
use crate::run::{self, Asked, Run, Target};

/// Carries the call out for these masters. Returns how it ended.
///
/// # Errors
///
/// A configuration that cannot be used, or an unknown master.
pub(super) fn run(
    call: Call,
    of: &Masters,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let config = load(options, started)?;
    let targets = Target::of(&config, &of.masters)?;
    let mut masters: Vec<&str> = targets.iter().map(|target| target.master).collect();
    masters.dedup();
    let mut run = Run::new(
        Asked::Operator(call),
        &config,
        targets,
        started,
        options.dry_run,
    );
    let exit = run.carry_out(|fault| {
        if !options.quiet {
            let patience = run::PATIENCE.as_secs();
            log::stderr(&format!("{fault}. Trying again, for {patience} s at most"));
        }
    });
    let mut call = vec![("master", masters.join(","))];
    call.extend(run.pairs());
    let line = log_line(&call, &run.outcomes, &run.phases, exit.code());
    // What an operator did belongs into the log.
    let logged = options.dry_run || log::line(level(exit), &line);
    if options.verbose && logged {
        log::stderr(&line);
    }
    tell(&run.outcomes, options, &run.phases);
    for (fault, _) in &run.command_failed {
        log::stderr(&fault.to_string());
    }
    Ok(exit)
}

/// The VIPs are as they should be even where nobody can be told, so that failing to print does
/// not change how the run ends.
fn tell(outcomes: &[Outcome], options: &Options, phases: &Phases) {
    let mut text = String::new();
    for outcome in outcomes {
        let master = &outcome.master;
        if options.json {
            text += &outcome.json(options.dry_run, phases.done);
            text.push('\n');
        } else if outcome.result.is_ok() && !options.quiet {
            let sentence = outcome.sentence(options.dry_run);
            let took = milliseconds(phases.done);
            text += &printable(&format!("{master}: {sentence}, in {took:.1} ms"));
            text.push('\n');
        }
        if let Err(fault) = &outcome.result {
            log::stderr(&format!("{master}: {}: {fault}", outcome.vip));
        }
    }
    if let Err(error) = print(&text) {
        log::stderr(&format!("{error:#}"));
    }
}
