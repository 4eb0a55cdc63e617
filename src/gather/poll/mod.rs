//! The Sentinels' votes: the local Sentinel and every Sentinel that it lists are asked about every master.

mod count;
mod names;
mod others;

use std::time::Duration;

use tokio::time::Instant;

use self::others::{Other, add, ask, forget_local, further};
use super::ROUND;
use crate::config::Config;
use crate::exit::Fault;
use crate::redis::{self, NoAnswer, View, not_monitored, sentinel_fault, sentinel_server};

pub(super) use self::count::endpoint;
pub use self::count::{Asked, Poll, count};

/// How long the names of all servers may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// all masters on it; then those that only the others list. Takes less than four seconds, and five more where
/// a master's name is looked up in vain.
///
/// # Errors
///
/// A local Sentinel that cannot be asked is passing; a refused password, and files that cannot be used, are
/// permanent. So is, for one master, that it is not monitored, or that the other Sentinels may not be listed.
pub async fn poll(config: &Config, names: &[&str]) -> Result<Vec<Result<Poll, Fault>>, Fault> {
    let at = &config.sentinel.address;
    let server = sentinel_server(config, Instant::now() + NAMES).await?;
    let own = redis::views(&server, names, ROUND)
        .await
        .map_err(|no| sentinel_fault(&no, at))?;
    let checked = |(name, view): (&&str, Result<View, NoAnswer>)| match view {
        Err(NoAnswer::NoSuchMaster) => Err(not_monitored(at, name)),
        Err(no) => Err(sentinel_fault(&no, at)),
        Ok(View {
            withheld: Some(no), ..
        }) => Err(sentinel_fault(&no, at)),
        Ok(view) => Ok(view),
    };
    let mut own: Vec<Result<View, Fault>> = names.iter().zip(own).map(checked).collect();
    forget_local(own.iter_mut().flatten(), &server).await;
    let mut others: Vec<Other> = Vec::new();
    let listed = names.iter().zip(&own);
    let listed =
        listed.flat_map(|(name, view)| view.iter().map(|view| (*name, &view.sentinels[..])));
    add(&mut others, listed.collect(), &server).await;
    ask(&mut others).await;
    let further = further(&others, &server).await;
    if !further.is_empty() {
        let listed = further
            .iter()
            .map(|(name, at)| (name.as_str(), std::slice::from_ref(at)));
        add(&mut others, listed.collect(), &server).await;
        ask(&mut others).await;
    }
    let own_name = server.endpoint.to_string();
    let count = |(name, view): (&&str, Result<View, Fault>)| {
        Ok(count(view?, &own_name, &of_one(&others, name)))
    };
    let mut polls: Vec<Result<Poll, Fault>> = names.iter().zip(own).map(count).collect();
    names::look_up(polls.iter_mut().flatten()).await;
    Ok(polls)
}

/// Returns what was said of one master.
fn of_one(others: &[Other], name: &str) -> Vec<Asked> {
    let asked = |other: &Other| {
        Some(Asked {
            at: other.at.clone(),
            asked: match &other.server {
                Ok(server) => Ok(server.endpoint.to_string()),
                Err(why) => Err(why.clone()),
            },
            view: other.views.get(name)?.clone()?,
        })
    };
    others.iter().filter_map(asked).collect()
}
