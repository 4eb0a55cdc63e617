//! `bind`, `unbind`, `announce` and `sync`: what an operator or a timer asks for, told line by line.

use std::time::Instant;

use super::{level, load, print};
use crate::cli::{Masters, Options};
use crate::config::Config;
use crate::exit::Exit;
use crate::log;
use crate::report::{Outcome, Phases, log_line, milliseconds, printable};
use crate::run::{self, Asked, Run, Target};

/// Carries out what is asked for these masters. Returns how it ended.
///
/// # Errors
///
/// A configuration that cannot be used, or an unknown master.
pub(super) fn run(
    asked: Asked<'_>,
    of: &Masters,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let config = load(options, started)?;
    let targets = Target::of(&config, &of.masters)?;
    let groups: Vec<Vec<Target>> = match asked {
        // Each master has a truth of its own.
        Asked::Sync => {
            let masters = targets.chunk_by(|one, other| one.master == other.master);
            masters.map(<[Target]>::to_vec).collect()
        }
        _ => vec![targets],
    };
    let exits = groups
        .into_iter()
        .map(|targets| one(asked, &config, targets, options, started));
    Ok(Exit::worst(exits))
}

fn one<'a>(
    asked: Asked<'a>,
    config: &'a Config,
    targets: Vec<Target<'a>>,
    options: &Options,
    started: Instant,
) -> Exit {
    let mut masters: Vec<&str> = targets.iter().map(|target| target.master).collect();
    masters.dedup();
    let mut run = Run::new(asked, config, targets, started, options.dry_run);
    let exit = run.carry_out(|fault| {
        if !options.quiet {
            let patience = run::PATIENCE.as_secs();
            log::stderr(&format!("{fault}. Trying again, for {patience} s at most"));
        }
    });
    let mut call = vec![("master", masters.join(","))];
    call.extend(run.pairs());
    let line = log_line(&call, &run.outcomes, &run.phases, exit.code());
    // What was done belongs into the log; not that a look every half minute has found all well.
    let is_news = !(matches!(asked, Asked::Sync) && run.found_all_well());
    let logged = options.dry_run || !is_news || log::line(level(exit), &line);
    if options.verbose && logged {
        log::stderr(&line);
    }
    tell(&run.outcomes, options, &run.phases);
    for (fault, _) in &run.command_failed {
        log::stderr(&fault.to_string());
    }
    exit
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
