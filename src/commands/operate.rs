//! `bind`, `unbind`, `announce` and `sync`: what an operator or a timer asks for, told line by line.

use std::time::{Duration, Instant};

use super::{afterwards, level, load, print, with_agent};
use crate::agent::request::Verb;
use crate::cli::{Options, Ordered};
use crate::config::{Config, Target};
use crate::engine::Task;
use crate::evidence::Order;
use crate::exit::{self, Exit, Fault};
use crate::log;
use crate::once::left_over::release_left_over;
use crate::once::{self, Entry, PATIENCE, Run};
use crate::outcome::{Outcome, Phases};
use crate::report::{log_line, milliseconds};
use crate::text::{escape, printable};

/// Carries out an order about the masters that the operator has chosen. Returns how it ended.
///
/// # Errors
///
/// Those of [`run`], and no choice among several masters.
pub(super) async fn order(
    order: Order,
    ordered: &Ordered,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let Ordered { of, force } = ordered;
    let is_chosen = of.all || !of.masters.is_empty();
    let allow = |config: &Config| match is_chosen || config.masters.len() == 1 {
        true => Ok(()),
        false => Err(unchosen(config)),
    };
    if !is_chosen {
        // The agent does not know that nobody was named.
        let none: [&str; 0] = [];
        allow(&load(options, &none, started).await?)?;
    }
    let force = *force;
    let verb = match order {
        Order::Bind => Verb::Bind { force },
        Order::Unbind => Verb::Unbind { force },
        Order::Announce => Verb::Announce,
    };
    if options.dry_run && !force && order != Order::Announce {
        let is_bind = order == Order::Bind;
        if let Some(exit) = with_agent::would_refuse(is_bind, &of.masters, options).await {
            return Ok(exit);
        }
    }
    if let Some(exit) = with_agent::carry_out(verb, &of.masters, options).await {
        return exit;
    }
    run(Entry::Operator(order), &of.masters, options, started, allow).await
}

/// Makes this host agree with the Sentinels about these masters, about every one if none is named. Returns
/// how it ended.
///
/// # Errors
///
/// Those of [`run`].
pub(super) async fn sync(
    masters: &[String],
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    match with_agent::carry_out(Verb::Sync, masters, options).await {
        Some(exit) => exit,
        None => run(Entry::Sync, masters, options, started, |_| Ok(())).await,
    }
}

/// To take over, or release, all that a server knows is hardly ever meant.
fn unchosen(config: &Config) -> Fault {
    let names: Vec<String> = config.masters.keys().map(|name| escape(name)).collect();
    Fault::permanent("several masters are configured and none is named").remedy(format!(
        "Name those that are meant, of {}, or give --all.",
        names.join(", ")
    ))
}

/// Carries out what is asked for these masters, or for every one if none is named, where the configuration
/// allows it. Returns how it ended.
///
/// # Errors
///
/// A configuration that cannot be used, or an unknown master.
pub(super) async fn run(
    entry: Entry<'_>,
    masters: &[String],
    options: &Options,
    started: Instant,
    allow: impl Fn(&Config) -> Result<(), Fault>,
) -> anyhow::Result<Exit> {
    let config = load(options, masters, started).await?;
    allow(&config)?;
    let targets = Target::of(&config, masters)?;
    let mut run = Run::new(entry, &config, targets, started, options.dry_run);
    let waiting = async |fault: &Fault| {
        if !options.quiet {
            let fault = fault.to_string();
            let stop = if fault.ends_with(['.', '?']) { "" } else { "." };
            let most = PATIENCE.as_secs();
            log::stderr(&format!("{fault}{stop} Trying again, for {most} s at most")).await;
        }
    };
    let ended = async |task: &Task<'_>| write_log(task, entry, options).await;
    let exit = run.carry_out(waiting, ended).await;
    let exit = Exit::worst([exit, tell(&run.tasks, options).await]);
    let exit = match entry {
        Entry::Sync if masters.is_empty() => {
            Exit::worst([exit, let_go(&config, options, started).await])
        }
        _ => exit,
    };
    if let Some(fault) = run.unannounced() {
        log::stderr(&fault.to_string()).await;
    }
    let ordered = match entry {
        Entry::Operator(Order::Bind) => Some(true),
        Entry::Operator(Order::Unbind) => Some(false),
        _ => None,
    };
    if let (Some(bound), Exit::Done, false) = (ordered, exit, options.quiet || options.json) {
        afterwards::compare_with_sentinel(&config, &run, bound, options).await;
        if bound && !options.dry_run {
            afterwards::wait_for_confirmation(&run).await;
        }
    }
    for (fault, _) in run.command_failures() {
        log::stderr(&fault.to_string()).await;
    }
    Ok(exit)
}

/// Releases what an earlier configuration has left here, and tells of it. Returns how that ended.
async fn let_go(config: &Config, options: &Options, started: Instant) -> Exit {
    let outcomes = match release_left_over(config, options.dry_run).await {
        Ok(outcomes) => outcomes,
        Err(fault) => {
            log::stderr(&fault.to_string()).await;
            return Exit::from(fault.kind);
        }
    };
    if outcomes.is_empty() {
        return Exit::Done;
    }
    let faults = outcomes.iter().map(|outcome| outcome.fault());
    let exit = Exit::of_all(faults.map(|fault| fault.map(|fault| fault.kind)));
    let phases = Phases {
        done: started.elapsed(),
        tries: 1,
        ..Phases::default()
    };
    let call = [("why", "left_over".to_owned())];
    let line = log_line(&call, &outcomes, &phases, exit.code());
    let logged = options.dry_run || log::line(level(exit), &line).await;
    if options.verbose && logged {
        log::stderr(&line).await;
    }
    let each = outcomes.iter().map(|outcome| (outcome, phases.done));
    Exit::worst([exit, tell_each(each, options).await])
}

/// Writes the log line of a task; on demand to stderr, too.
async fn write_log(task: &Task<'_>, entry: Entry<'_>, options: &Options) {
    let mut masters: Vec<&str> = task.targets.iter().map(|target| target.name).collect();
    masters.dedup();
    let exit = task.exit();
    let mut call = vec![("master", masters.join(","))];
    call.extend(once::pairs(task));
    let line = log_line(&call, &task.outcomes, &task.phases, exit.code());
    // What was done belongs into the log; not that a look every half minute has found all well.
    let is_news = !matches!(entry, Entry::Sync) || !task.outcomes.iter().all(Outcome::found_well);
    let logged = options.dry_run || !is_news || log::line(level(exit), &line).await;
    if options.verbose && logged {
        log::stderr(&line).await;
    }
}

/// Tells what came of a run. Returns how that ended.
async fn tell(tasks: &[Task<'_>], options: &Options) -> Exit {
    let of_task = |task: &'_ Task<'_>| task.phases.done;
    let each = tasks.iter().flat_map(|task| {
        let outcomes = task.outcomes.iter();
        outcomes.map(move |outcome| (outcome, of_task(task)))
    });
    tell_each(each, options).await
}

/// Tells what came of each VIP, and how long it took. Returns how that ended: the VIPs are as they should be even where
/// nobody can be told, and a dry run is for what it tells alone.
async fn tell_each(each: impl Iterator<Item = (&Outcome, Duration)>, options: &Options) -> Exit {
    let mut text = String::new();
    for (outcome, done) in each {
        let master = &outcome.master;
        if options.json {
            text += &outcome.json(options.dry_run, done);
            text.push('\n');
        } else if outcome.did().is_some() && !options.quiet {
            let sentence = outcome.sentence(options.dry_run);
            let took = milliseconds(done);
            text += &printable(&format!("{master}: {sentence}, in {took:.1} ms"));
            text.push('\n');
        }
        if let Some(fault) = outcome.fault() {
            log::stderr(&format!("{master}: {}: {fault}", outcome.vip)).await;
        }
    }
    let Err(error) = print(&text).await else {
        return Exit::Done;
    };
    log::stderr(&format!("{error:#}")).await;
    match options.dry_run {
        true => exit::of(&error),
        false => Exit::Done,
    }
}
