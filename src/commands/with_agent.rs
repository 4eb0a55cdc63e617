//! What the commands leave to a living agent. Without an agent, and where it refuses, they do their own work.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{config_path, load, print};
use crate::agent::client::{self, Unserved};
use crate::agent::request::{Reply, Request, Telling, Verb};
use crate::agent::snapshot::Snapshot;
use crate::cli::Options;
use crate::config::Target;
use crate::exit::{Exit, Fault};
use crate::judgement::RELOAD;
use crate::log;
use crate::text::{escape, printable};

/// How long an operator waits for the agent's answer, which takes a minute at most.
const PATIENCE: Duration = Duration::from_secs(65);

/// What to do where the agent should have decided.
const UNDECIDED: &str = "Look at the agent, vipswitch status, or start it again: systemctl restart vipswitch-agent. With --force this is done \
                         without it.";

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
    let is_order = matches!(&verb, Verb::Bind { .. } | Verb::Unbind { .. });
    match ask(verb.clone(), masters, options, Instant::now() + PATIENCE).await {
        Ok(reply) => {
            let told = tell(&reply).await;
            let left = left_undone(&verb, masters, options).await;
            Some(told.map(|exit| Exit::worst([exit, left])))
        }
        // What this user may not do is the kernel's to say.
        Err(Unserved::NoAgent | Unserved::NotAllowed) => None,
        Err(unserved) => {
            if is_order
                && matches!(unserved, Unserved::Refused(_))
                && let Some(fault) = served_otherwise(masters, options).await
            {
                return Some(Err(fault.into()));
            }
            if is_undecided(&verb, &unserved) {
                let fault = Fault::passing(format!(
                    "{unserved}, so that nobody tells whether this is against the truth"
                ));
                return Some(Err(fault.remedy(UNDECIDED).into()));
            }
            if !options.quiet {
                log::stderr(&format!("{unserved}; going on without it")).await;
            }
            None
        }
    }
}

/// Says what an agent has not done about these masters, as its configuration is older than the file's, or an order that
/// holds keeps a VIP where `sync` does not want it. Returns how grave that is.
async fn left_undone(verb: &Verb, masters: &[String], options: &Options) -> Exit {
    let until = Instant::now() + LOOK;
    let Ok(known) = client::snapshot(masters, &config_path(options), until).await else {
        return Exit::Done;
    };
    let says = |holds: &str, ends: &str| match verb {
        Verb::Sync => Some(format!(
            "an operator's `{holds} --force` holds, which `sync` does not end. `vipswitch {ends} NAME` does"
        )),
        Verb::Bind { force: true } | Verb::Unbind { force: true } => Some(format!(
            "this holds against the Sentinels until the next failover, or `vipswitch {ends} NAME`"
        )),
        _ => None,
    };
    let is_meant = |name: &String| masters.is_empty() || masters.contains(name);
    let mut meant = known.masters.iter().filter(|it| is_meant(&it.name));
    while let Some(master) = meant.next().filter(|_| !options.quiet) {
        let said = match master.forced.as_deref() {
            Some("bind") => says("bind", "unbind"),
            Some("unbind") => says("unbind", "bind"),
            _ => None,
        };
        if let Some(text) = said {
            let name = escape(&master.name);
            log::stderr(&format!("{name}: {}", text.replace("NAME", &name))).await;
        }
    }
    // What is wrong with the file is `check`'s to tell: the agent goes on with what it has.
    let Ok(config) = load(options, masters, Instant::now()).await else {
        return Exit::Done;
    };
    match known.lags_behind(&config, masters) {
        Some(lags) => {
            log::stderr(&format!("{lags}. {RELOAD}")).await;
            Exit::Passing
        }
        None => Exit::Done,
    }
}

/// Returns whether an agent that is there would have to say whether an order is against the truth, and does not. It may
/// have begun with it.
fn is_undecided(verb: &Verb, unserved: &Unserved) -> bool {
    let is_plain = matches!(
        verb,
        Verb::Bind { force: false } | Verb::Unbind { force: false }
    );
    let is_there = matches!(
        unserved,
        Unserved::Hung | Unserved::Late | Unserved::Broken(_)
    );
    is_plain && is_there
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
    let until = Instant::now() + LOOK;
    let known = match client::snapshot(masters, &config_path(options), until).await {
        Ok(known) => known,
        Err(Unserved::Refused(_)) => {
            let fault = served_otherwise(masters, options).await?;
            log::stderr(&format!("this would be refused: {fault}")).await;
            return Some(Exit::from(fault.kind));
        }
        Err(unserved @ (Unserved::Hung | Unserved::Late)) => {
            let line = format!(
                "this would be refused: {unserved}, so that nobody tells whether it is against the truth. {UNDECIDED}"
            );
            log::stderr(&line).await;
            return Some(Exit::Passing);
        }
        Err(_) => return None,
    };
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

/// Returns why an order about these masters would not last: the agent has another configuration, in which one of their
/// VIPs is. It would put right within a second what is done here.
async fn served_otherwise(masters: &[String], options: &Options) -> Option<Fault> {
    let any = Path::new("");
    let agent = client::snapshot(&[], any, Instant::now() + LOOK)
        .await
        .ok()?;
    let config = load(options, masters, Instant::now()).await.ok()?;
    let is_same = || fs::canonicalize(&agent.config).ok() == fs::canonicalize(&config.path).ok();
    if agent.config.is_empty() || is_same() {
        return None;
    }
    let targets = Target::of(&config, masters).ok()?;
    let served = agent.masters.iter().flat_map(|master| &master.vips);
    let served: Vec<&str> = served.map(|vip| vip.address.as_str()).collect();
    let vip = targets
        .iter()
        .map(|target| target.vip.address.to_string())
        .find(|vip| served.contains(&vip.as_str()))?;
    let (ours, its) = (config.path.to_string_lossy(), escape(&agent.config));
    let text = format!(
        "the agent of this host serves {vip} by {its}, not by {}: it would undo at once what differs from that",
        escape(&ours)
    );
    let remedy = format!(
        "Give the order to the agent: --config {its}. Or stop it: systemctl stop vipswitch-agent"
    );
    Some(Fault::permanent(text).remedy(remedy))
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
