//! `maintenance`: tells this host's agent that a Redis which stops is meant to.

use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::{load, print, with_agent};
use crate::agent::client::Unserved;
use crate::agent::request::Verb;
use crate::cli::{Maintenance, Options, Switch};
use crate::exit::{Exit, Fault};
use crate::text::{escape, printable};

/// What to do where this user may not ask.
const AS_ROOT: &str = "Run it as root.";

/// How long an operator waits for the agent.
const PATIENCE: Duration = Duration::from_secs(15);

/// Begins or ends it. Returns how that ended.
///
/// # Errors
///
/// No agent, an agent that does not answer, a master that is not configured, or none named of several.
pub(super) async fn run(
    of: &Maintenance,
    options: &Options,
    started: Instant,
) -> anyhow::Result<Exit> {
    let on = of.switch == Switch::On;
    if !on && of.time.is_some() {
        let text = "--for goes with on: off ends the maintenance at once";
        return Err(Fault::permanent(text).into());
    }
    let config = load(options, of.master.as_slice(), started).await?;
    let name = match &of.master {
        Some(name) => name,
        None => config.only_master()?,
    };
    if options.dry_run {
        let name = escape(name);
        let text = match (on, of.time) {
            (true, Some(time)) => {
                let seconds = time.as_secs();
                format!("{name}: would begin the maintenance, for {seconds} s")
            }
            (true, None) => format!(
                "{name}: would begin the maintenance, until `vipswitch maintenance {name} off`"
            ),
            (false, _) => format!("{name}: would end the maintenance"),
        };
        print(&(printable(&text) + "\n")).await?;
        return Ok(Exit::Done);
    }
    let seconds = of.time.map(|time| time.as_secs());
    let verb = Verb::Maintenance { on, seconds };
    match with_agent::ask(verb, &[name.to_owned()], options, Instant::now() + PATIENCE).await {
        Ok(reply) => with_agent::tell(&reply).await,
        Err(unserved) => Err(fault(&unserved).into()),
    }
}

fn fault(unserved: &Unserved) -> Fault {
    let text = unserved.to_string();
    let fault = match unserved.may_pass() {
        true => Fault::passing(text),
        false => Fault::permanent(text),
    };
    match unserved {
        Unserved::NoAgent => fault.remedy(
            "Only the agent fails over at once: without one Sentinel decides, after down-after-milliseconds, as ever.",
        ),
        // What every other user may ask of it is Sentinel's call and its status.
        Unserved::NotAllowed => fault.remedy(AS_ROOT),
        Unserved::Refused(_) if !geteuid().is_root() => fault.remedy(AS_ROOT),
        _ => match unserved.remedy() {
            Some(remedy) => fault.remedy(remedy),
            None => fault,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_ask_is_told_to_be_root_and_nothing_of_sentinels_user() {
        let said = fault(&Unserved::NotAllowed).to_string();
        assert!(said.ends_with(AS_ROOT), "{said}");
        assert!(!said.contains("socket_group"), "{said}");
    }
}
