//! Whether the Sentinels let the agent have one of them elected and a failover begun.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::{ANSWER, Known};
use crate::election::rights::lacking;
use crate::gather::Tried;
use crate::gather::remembered::Memory;
use crate::hosts::Kept;
use crate::redis::{NoAnswer, Server, sentinel_server};
use crate::report::finding::{Findings, Verdict, unknown, warning};

/// How long all of them may take, some at a time: a forged hello can add any number of Sentinels.
const ALL: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 8;

/// A Sentinel that is asked.
struct Asked<'a> {
    /// As it is shown.
    at: String,
    way: Server,
    master: &'a str,
    /// Whether it is sent the credentials.
    is_trusted: bool,
}

/// Judges this host's Sentinel, and the `others` that have answered. Without an agent only an operator's `failover` asks
/// for so much, and says itself what it lacks.
pub async fn judge(known: &Known, others: &[Tried], findings: &mut Findings) {
    if known.agent.is_err() {
        return;
    }
    let others = others.iter().filter(|other| other.said.is_ok());
    let others = others.map(|other| Asked {
        at: other.at.to_string(),
        way: other.way.clone(),
        master: &other.master,
        is_trusted: other.is_peer,
    });
    let all: Vec<Asked> = own(known).await.into_iter().chain(others).collect();
    let each = all.iter().map(async |one| {
        // Without a master there is nothing to elect anybody for.
        let Some(master) = known.redises(one.master).first() else {
            return (one, Ok(Vec::new()));
        };
        let lacking = lacking(&one.way, one.master, master, ANSWER).await;
        (one, lacking)
    });
    let asked = stream::iter(each).buffered(AT_ONCE);
    let asked: Vec<_> = asked.take_until(sleep(ALL)).collect().await;
    for (one, lacks) in asked {
        findings.add("votes", &one.at, verdict(one, lacks));
    }
}

/// Returns this host's Sentinel, which has answered, if it has a master of the configuration.
async fn own(known: &Known) -> Option<Asked<'_>> {
    let master = known.watched().first()?;
    let owner = Memory::read().owner(&known.config);
    let by = (&Kept::default(), Some(&owner));
    let way = sentinel_server(&known.config, by, Instant::now() + ANSWER).await;
    Some(Asked {
        at: known.config.sentinel.address.to_string(),
        way: way.ok()?,
        master: &master.name,
        is_trusted: true,
    })
}

fn verdict(one: &Asked, lacks: Result<Vec<String>, NoAnswer>) -> Verdict {
    const COST: &str = "it may not be asked for all that an election needs: the agent does not fail over a Redis that has died, and a server that shuts down hands nothing over, where a majority of the Sentinels is like this one";
    let Ok(lacks) = lacks else {
        return unknown("it did not tell whether it may be asked for its vote");
    };
    let remedy = format!("The user needs {} there.", lacks.join(" "));
    match (lacks.is_empty(), one.is_trusted) {
        (true, _) => None,
        (false, true) => warning(
            format!("the user of the configuration lacks rights: {COST}"),
            remedy,
        ),
        (false, false) => warning(
            format!("it is asked without the password, and so lacks rights: {COST}"),
            format!("Name it in `peers` under [sentinel] if it is one of yours. {remedy}"),
        ),
    }
}
