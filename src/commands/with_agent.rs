//! What the commands leave to a living agent. Without an agent, and where it refuses, they do their own work.

use std::time::{Duration, Instant};

use super::{config_path, print};
use crate::agent::client::{self, Unserved};
use crate::agent::request::{Reply, Request, Telling, Verb};
use crate::agent::snapshot::Snapshot;
use crate::cli::Options;
use crate::exit::Exit;
use crate::log;
use crate::text::{escape, printable};

/// How long an operator waits for the agent's answer, which takes a minute at most.
const PATIENCE: Duration = Duration::from_secs(65);

/// How long the agent may take to tell what it knows.
const LOOK: Duration = Duration::from_secs(2);

/// Asks the agent on behalf of a command with these options.
///
/// # Errors
///
/// See [`Unserved`].
pub(super) async fn ask(
    verb: Verb,
    masters: &[String],
    options: &Options,
    until: Instant,
) -> Result<Reply, Unserved> {
    let request = Request {
        verb,
        masters: masters.to_vec(),
        config: client::absolute(&config_path(options)),
        telling: Telling {
            json: options.json,
            verbose: options.verbose,
            quiet: options.quiet,
            dry_run: options.dry_run,
        },
    };
    client::ask(&request, until).await
}

/// Has the agent do what an operator asks for, and prints its answer. Returns how it ended, or `None` where the
/// command is to do its own work.
pub(super) async fn carry_out(
    verb: Verb,
    masters: &[String],
    options: &Options,
) -> Option<anyhow::Result<Exit>> {
    if options.dry_run {
        return None;
    }
    match ask(verb, masters, options, Instant::now() + PATIENCE).await {
        Ok(reply) => Some(tell(&reply).await),
        // What this user may not do is the kernel's to say.
        Err(Unserved::NoAgent | Unserved::NotAllowed) => None,
        Err(unserved) => {
            if !options.quiet {
                log::stderr(&format!("{unserved}; going on without it")).await;
            }
            None
        }
    }
}

/// Returns what a living agent knows of these masters, of all if none is named.
pub(super) async fn known(masters: &[String], options: &Options) -> Option<Snapshot> {
    let known = client::snapshot(masters, &config_path(options), Instant::now() + LOOK).await;
    known.ok()
}

/// Says which masters a living agent would refuse this order about, as it is against the truth. Returns how the dry run
/// ends then, or `None` where nothing would be refused.
pub(super) async fn would_refuse(
    is_bind: bool,
    masters: &[String],
    options: &Options,
) -> Option<Exit> {
    let known = known(masters, options).await?;
    let against = if is_bind { "elsewhere" } else { "here" };
    let mut refused = None;
    for master in known.masters {
        if master.verdict == against && master.forced.is_none() {
            let line = format!(
                "{}: this would be refused, as it is against the truth: {}. With --force it would be done.",
                escape(&master.name),
                escape(&master.why)
            );
            log::stderr(&line).await;
            refused = Some(Exit::Permanent);
        }
    }
    refused
}

/// Prints an answer.
pub(super) async fn tell(reply: &Reply) -> anyhow::Result<Exit> {
    let lines = reply.out.lines().map(|line| printable(line) + "\n");
    print(&lines.collect::<String>()).await?;
    tell_errors(reply).await;
    Ok(reply.ending())
}

/// Prints what an answer has for stderr.
pub(super) async fn tell_errors(reply: &Reply) {
    for line in &reply.err {
        log::stderr(line).await;
    }
}
