//! Sentinel's call.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use super::{level, load, with_agent};
use crate::agent::client::Unserved;
use crate::agent::request::{Reply, Verb};
use crate::agent::socket_path::socket_path;
use crate::cli::Options;
use crate::config::{Config, Target};
use crate::engine::Task;
use crate::evidence::Word;
use crate::exit::{Exit, Fault, Kind};
use crate::failover::Failover;
use crate::log::{self, Level};
use crate::once::{self, Entry, Run};
use crate::privilege::{self, Capability};
use crate::report::{fault_line, log_line, pair, quote};
use crate::text::{escape, joined};

/// How long a hook that can do the work itself waits for the agent's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes this host follow the failover. Returns how the run ended; everything that is to be
/// said about it is in the log by then. The failover was read from `arguments`.
pub(super) async fn run(failover: &Failover, arguments: &[OsString], started: Instant) -> Exit {
    let words = arguments.iter().map(|word| word.to_string_lossy().into());
    let call = Verb::Hook(words.collect());
    // Without privileges there is nothing better to do than to wait. Where there is no agent that need not be known
    // before the first frame.
    let may_wait = socket_path().is_ok_and(|path| path.exists());
    let until = match may_wait && !privilege::is_there(Capability::NetAdmin) {
        true => started + once::PATIENCE,
        false => Instant::now() + PATIENCE,
    };
    // Before the configuration, which this process need not be able to read.
    let unserved = match with_agent::ask(call, &[], &Options::default(), until).await {
        Ok(reply) => return tell(failover, &reply).await,
        Err(unserved) => unserved,
    };
    match load(&Options::default(), &[&failover.master], started).await {
        Ok(config) => match follow(failover, &config, &unserved, started).await {
            Ok(exit) => exit,
            Err(fault) => refuse(&fault, &pairs(failover)).await,
        },
        Err(fault) if is_agents(&unserved, [&fault]) => {
            let mut call = pairs(failover).to_vec();
            call.push(("agent", unserved.to_string()));
            let said = and_without_agent(&fault.to_string(), &unserved);
            // The agent has a configuration.
            let fault = match fault.kind {
                Kind::Permanent if !unserved.may_pass() => Fault::permanent(said),
                _ => Fault::passing(said),
            };
            refuse(&fault, &call).await
        }
        Err(fault) => refuse(&fault, &pairs(failover)).await,
    }
}

/// Ends a call that the agent has answered.
async fn tell(failover: &Failover, reply: &Reply) -> Exit {
    let exit = reply.ending();
    let mut line = match reply.err.is_empty() {
        true => "msg=\"the agent has dealt with the call\"".to_owned(),
        false => format!("msg={}", quote(&joined(&reply.err))),
    };
    let mut call = pairs(failover).to_vec();
    call.extend([
        ("by", "agent".to_owned()),
        ("exit", exit.code().to_string()),
    ]);
    for (key, value) in call {
        pair(&mut line, key, &value);
    }
    log::line(level(exit), &line).await;
    with_agent::tell_errors(reply).await;
    exit
}

/// Whether these faults have to do with an agent that has not answered: on a host that is to have none only where
/// another process could have done better.
fn is_agents<'a>(unserved: &Unserved, faults: impl IntoIterator<Item = &'a Fault>) -> bool {
    *unserved != Unserved::NoAgent || faults.into_iter().any(Fault::lacks_privilege)
}

/// Returns how a run ends that an agent should have done: what only the agent may do it can do another time, if it
/// is there.
fn end<'a>(exit: Exit, unserved: &Unserved, faults: impl IntoIterator<Item = &'a Fault>) -> Exit {
    match exit {
        Exit::Permanent
            if unserved.may_pass() && faults.into_iter().any(Fault::lacks_privilege) =>
        {
            Exit::Passing
        }
        exit => exit,
    }
}

/// Returns these faults of this process, and that an agent should have done the work.
fn and_without_agent(faults: &str, unserved: &Unserved) -> String {
    let stop = if faults.ends_with(['.', '?']) {
        ""
    } else {
        "."
    };
    let remedy = unserved.remedy().map(|remedy| format!(". {remedy}"));
    format!(
        "{faults}{stop} The agent has not done it either: {unserved}{}",
        remedy.unwrap_or_default()
    )
}

async fn follow(
    failover: &Failover,
    config: &Config,
    unserved: &Unserved,
    started: Instant,
) -> Result<Exit, Fault> {
    let targets = Target::of(config, &[&failover.master])?;
    let mut run = Run::new(Entry::Hook(failover), config, targets, started, false);
    let exit = run
        .carry_out(async |_: &Fault| {}, async |_: &Task<'_>| {})
        .await;
    // One call is about one master.
    let Some(task) = run.tasks.first() else {
        return Ok(exit);
    };
    let faults = || task.outcomes.iter().filter_map(|outcome| outcome.fault());
    let is_agents = is_agents(unserved, faults());
    let exit = end(exit, unserved, faults());
    let mut call = pairs(failover).to_vec();
    call.extend(once::pairs(task));
    call.extend(is_agents.then(|| ("agent", unserved.to_string())));
    let line = log_line(&call, &task.outcomes, &task.phases, exit.code());
    let mut texts: Vec<String> = faults().map(ToString::to_string).collect();
    // Two VIPs of one master often share a fault.
    texts.dedup();
    let mut said = joined(&texts);
    if is_agents && !said.is_empty() {
        said = and_without_agent(&said, unserved);
    }
    complain(exit, log_level(exit, task), &line, &said).await;
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
