//! `bind`, `unbind` and `announce`: what an operator asks for, told line by line.

use std::time::Instant;

use super::{asked, level, load, print};
use crate::cli::{Masters, Options};
use crate::exit::Exit;
use crate::log;
use crate::plan::Call;
use crate::report::{Outcome, Phases, log_line, milliseconds};
use crate::run::{Asked, Run, Target};

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
    let config = load(options)?;
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
    let exit = run.carry_out();
    let call = [
        ("master", masters.join(",")),
        ("why", asked(run.call).to_owned()),
    ];
    let line = log_line(&call, &run.outcomes, &run.phases, exit.code());
    if !options.dry_run {
        // What an operator did belongs into the log; the operator reads the lines below.
        log::to_syslog(level(exit), &line);
    }
    tell(&run.outcomes, options, &run.phases, &line);
    Ok(exit)
}

/// The VIPs are as they should be even where nobody can be told, so that failing to print does
/// not change how the run ends.
fn tell(outcomes: &[Outcome], options: &Options, phases: &Phases, line: &str) {
    let mut text = String::new();
    for outcome in outcomes {
        if options.json {
            text += &outcome.json(options.dry_run, phases.done);
            text.push('\n');
        } else if outcome.result.is_ok() && !options.quiet {
            let sentence = outcome.sentence(options.dry_run);
            text += &format!(
                "{}: {sentence}, in {:.1} ms\n",
                outcome.master,
                milliseconds(phases.done)
            );
        }
        if let Err(fault) = &outcome.result {
            log::stderr(&format!("{}: {}: {fault}", outcome.master, outcome.vip));
        }
    }
    if options.verbose {
        log::stderr(line);
    }
    if let Err(error) = print(&text) {
        log::stderr(&format!("{error:#}"));
    }
}
