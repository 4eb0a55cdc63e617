//! `bind`, `unbind`, `announce` and `sync`: what an operator or a timer asks for, told line by line.

use std::time::{Duration, Instant};

use super::{afterwards, level, load, print};
use crate::cli::{Masters, Options};
use crate::config::Config;
use crate::exit::Exit;
use crate::log;
use crate::plan::Call;
use crate::report::{Outcome, Phases, log_line, milliseconds};
use crate::run::{self, Asked, Run, Target};
use crate::text::printable;

/// After which time nothing more is begun, however many masters are left: what has called may not
/// wait for ever.
const LONGEST: Duration = Duration::from_secs(30);

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
    let number = groups.len() as u32;
    let exits = groups.into_iter().enumerate().map(|(place, targets)| {
        // Each has its share of the time that is left, so that one that hangs leaves some to the
        // others, and at least one try.
        let left = run::PATIENCE.saturating_sub(started.elapsed());
        let patience = started.elapsed() + left / (number - place as u32);
        one(asked, &config, targets, options, started, patience)
    });
    Ok(Exit::worst(exits))
}

fn one<'a>(
    asked: Asked<'a>,
    config: &'a Config,
    targets: Vec<Target<'a>>,
    options: &Options,
    started: Instant,
    patience: Duration,
) -> Exit {
    let mut masters: Vec<&str> = targets.iter().map(|target| target.master).collect();
    masters.dedup();
    if started.elapsed() > LONGEST {
        let masters = masters.join(", ");
        log::stderr(&format!(
            "{masters}: not tried, as those before it took too long"
        ));
        return Exit::Passing;
    }
    let mut run = Run::new(asked, config, targets, started, options.dry_run);
    run.patience = patience;
    let exit = run.carry_out(|fault| {
        if !options.quiet {
            let (fault, patience) = (fault.to_string(), patience.as_secs());
            let stop = if fault.ends_with(['.', '?']) { "" } else { "." };
            log::stderr(&format!(
                "{fault}{stop} Trying again, for {patience} s at most"
            ));
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
    let moved = matches!(asked, Asked::Operator(Call::Bind | Call::Unbind));
    if moved && exit == Exit::Done && !options.quiet && !options.json {
        let bound = matches!(asked, Asked::Operator(Call::Bind));
        afterwards::compare_with_sentinel(config, run.targets(), bound);
        if bound && !options.dry_run {
            afterwards::wait_for_confirmation(&run);
        }
    }
    for (fault, _) in run.command_failures() {
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
