//! The Sentinels' votes: the local Sentinel and every Sentinel that it lists are asked about every master.
//! Where the local one is silent, those that it listed last and the `peers` of the configuration are asked.

mod count;
mod local;
mod names;
mod others;

use std::time::Duration;

use futures_util::future::join;
use tokio::time::Instant;

use self::count::share_vips;
use self::local::{forget_in_place, forget_in_views, further};
use self::others::{Asking, Other, add, addresses_of, ask};
use super::patience::Patience;
use super::remembered::{Listed, Memory};
use crate::config::Config;
use crate::exit::{Fault, Kind};
use crate::failover::Endpoint;
use crate::redis::{
    self, Access, Instance, Lines, NoAnswer, Server, View, not_monitored, sentinel_fault,
    sentinel_server,
};

pub use self::count::{Asked, Member, NotAsked, Poll, Silence, count};
pub use self::others::{Tried, try_others};

/// How long the names of all servers may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// What the local Sentinel says of one master, or why it says nothing.
type Own = Result<View, Silence>;

/// Asks the local Sentinel and every Sentinel that it lists about these masters: one conversation with each,
/// all masters on it; then those that only the others list. Takes less than four seconds, and five more where
/// a master's name is looked up in vain; with more patience so many times as long.
///
/// # Errors
///
/// A local Sentinel that cannot be asked is passing, and a fault only where nobody is known who could be asked
/// in its place; a refused password, and files that cannot be used, are permanent. So is, for one master, that
/// it is not monitored, or that the other Sentinels may not be listed.
pub async fn poll(
    config: &Config,
    names: &[&str],
    memory: &Memory,
    patience: Patience,
    lines: &Lines,
) -> Result<Vec<Result<Poll, Fault>>, Fault> {
    let until = Instant::now() + NAMES;
    let peers = addresses_of(&config.sentinel.peers, &lines.names, until);
    let (local, peers) = join(ask_local(config, names, memory, (patience, lines)), peers).await;
    let (server, mut own) = local?;
    forget_in_views(views(&mut own), config).await;
    let asking = Asking {
        names: &lines.names,
        own: server.as_ref().map(|server| server.endpoint.clone()),
        access: Access::load(config)?,
        peers,
        vips: config.vips().map(|vip| vip.address).collect(),
        local_answers: own.iter().flatten().any(Result::is_ok),
        owner: (&lines.owner, config),
    };
    let mut lists: Vec<Vec<Instance>> = own.iter().map(|own| listed(config, own)).collect();
    let in_place = lists.iter_mut().zip(&own);
    let in_place = in_place.filter(|(_, own)| !matches!(own, Ok(Ok(_))));
    forget_in_place(in_place.map(|(list, _)| list), config).await;
    let lists: Vec<(&str, &[Instance])> = names
        .iter()
        .zip(&lists)
        .map(|(name, list)| (*name, list.as_slice()))
        .collect();
    let others = ask_others(&lists, &asking, config, (patience, lines)).await;
    let own_name = match &server {
        Some(server) => server.endpoint.to_string(),
        None => config.sentinel.address.to_string(),
    };
    let has_password = config.sentinel.password.is_some();
    let has_certificate = config.has_client_certificate();
    let count = |(name, own): (&&str, Result<Own, Fault>)| {
        let asked = of_one(&others, name, (has_password, has_certificate));
        let own = own?;
        let local = Member {
            listed_as: Vec::new(),
            server: server.clone(),
            has_answered: Some(own.is_ok()),
        };
        let mut poll = count(own, &own_name, &asked);
        let others = others
            .iter()
            .filter(|other| other.views.contains_key(*name));
        let others = others.map(|other| Member {
            listed_as: other.listed_as.clone(),
            server: other.server.as_ref().ok().cloned(),
            has_answered: other.has_answered(name),
        });
        poll.members = std::iter::once(local).chain(others).collect();
        let ways = poll.members.iter();
        poll.ways = ways.filter_map(|member| member.server.clone()).collect();
        poll.patience = patience;
        Ok(poll)
    };
    let mut polls: Vec<Result<Poll, Fault>> = names.iter().zip(own).map(count).collect();
    share_vips(&mut polls, config, memory);
    names::look_up(polls.iter_mut().flatten(), &lines.names).await;
    Ok(polls)
}

/// Asks the local Sentinel. Returns how, where that is known, and what it says of each master.
async fn ask_local(
    config: &Config,
    names: &[&str],
    memory: &Memory,
    (patience, lines): (Patience, &Lines),
) -> Result<(Option<Server>, Vec<Result<Own, Fault>>), Fault> {
    let at = &config.sentinel.address;
    memory.tell(config, &lines.owner);
    let silent = |name: &str, why: &str, fault: Fault| match memory.of(name) {
        None if config.sentinel.peers.is_empty() => Err(fault),
        known => Ok(Err(Silence {
            why: why.to_owned(),
            known: known.cloned().unwrap_or_default(),
        })),
    };
    let all_silent = |why: &str, fault: &Fault| {
        let each = names.iter().map(|name| silent(name, why, fault.clone()));
        each.collect()
    };
    let by = (&lines.names, Some(&lines.owner));
    let server = match sentinel_server(config, by, Instant::now() + NAMES).await {
        Ok(server) => server,
        Err(fault) if fault.kind == Kind::Permanent => return Err(fault),
        Err(fault) => return Ok((None, all_silent(fault.cause(), &fault))),
    };
    let views = match redis::views(&server, lines, names, patience.round()).await {
        Ok(views) => views,
        Err(no) if no.kind() == Kind::Permanent => return Err(sentinel_fault(&no, at)),
        Err(no) => {
            let silent = all_silent(&no.to_string(), &sentinel_fault(&no, at));
            return Ok((Some(server), silent));
        }
    };
    if views.iter().any(Result::is_ok) {
        lines.owner.has_answered();
    }
    let own = |(name, view): (&&str, Result<View, NoAnswer>)| match view {
        Err(NoAnswer::NoSuchMaster) => Err(not_monitored(at, name)),
        Err(no) if no.kind() == Kind::Permanent => Err(sentinel_fault(&no, at)),
        Err(no) => silent(name, &no.to_string(), sentinel_fault(&no, at)),
        Ok(View {
            withheld: Some(no), ..
        }) => Err(sentinel_fault(&no, at)),
        Ok(view) => Ok(Ok(view)),
    };
    Ok((Some(server), names.iter().zip(views).map(own).collect()))
}

fn views(own: &mut [Result<Own, Fault>]) -> impl Iterator<Item = &mut View> {
    own.iter_mut().flatten().flatten()
}

/// Returns whom to ask about a master beside the local Sentinel: whom it lists, or where it is silent whom it
/// listed last, and the peers.
fn listed(config: &Config, own: &Result<Own, Fault>) -> Vec<Instance> {
    match own {
        Err(_) => Vec::new(),
        Ok(Ok(view)) => view.sentinels.clone(),
        Ok(Err(silence)) => {
            let remembered = silence.known.sentinels.iter().cloned();
            let peers = config.sentinel.peers.iter().map(unknown);
            remembered.chain(peers).map(instance).collect()
        }
    }
}

fn unknown(peer: &Endpoint) -> Listed {
    Listed {
        host: peer.host.to_string(),
        port: peer.port,
        run_id: None,
    }
}

fn instance(listed: Listed) -> Instance {
    Instance {
        host: listed.host,
        port: listed.port,
        run_id: listed.run_id,
        flags: Vec::new(),
    }
}

async fn ask_others(
    lists: &[(&str, &[Instance])],
    asking: &Asking<'_>,
    config: &Config,
    (patience, lines): (Patience, &Lines),
) -> Vec<Other> {
    let mut others: Vec<Other> = Vec::new();
    add(&mut others, lists, asking).await;
    ask(&mut others, asking, patience, lines).await;
    let further = further(&others, config).await;
    if !further.is_empty() {
        let further: Vec<(&str, &[Instance])> = further
            .iter()
            .map(|(name, at)| (name.as_str(), std::slice::from_ref(at)))
            .collect();
        add(&mut others, &further, asking).await;
        ask(&mut others, asking, patience, lines).await;
    }
    others
}

/// Returns what was said of one master. A Sentinel that wants what only peers are shown says so.
fn of_one(
    others: &[Other],
    name: &str,
    (has_password, has_certificate): (bool, bool),
) -> Vec<Asked> {
    let asked = |other: &Other| {
        let view = other.views.get(name)?.clone()?;
        Some(Asked {
            listed_as: other.listed_as.clone(),
            asked: match &other.server {
                Ok(server) => Ok(server.endpoint.to_string()),
                Err(why) => Err(why.clone()),
            },
            view: view.map_err(|no| match no {
                NoAnswer::AuthMissing(_) if has_password && !other.is_peer => {
                    NoAnswer::AuthMissing(NOT_A_PEER.into())
                }
                NoAnswer::Certificate(why) if has_certificate && !other.is_peer => {
                    NoAnswer::Certificate(format!(
                        "{why}, which only `peers` under [sentinel] are shown: vipswitch check shows the line to add"
                    ))
                }
                no => no,
            }),
        })
    };
    others.iter().filter_map(asked).collect()
}

const NOT_A_PEER: &str = "it wants the password, which only `peers` under [sentinel] are sent: vipswitch check shows the line to add";
