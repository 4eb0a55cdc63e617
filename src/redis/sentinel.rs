//! Questions to a Sentinel, with answers as types.

use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::connection::{Connection, Deadline};
use super::no_answer::NoAnswer;
use super::reply::{Value, field, text};
use super::server::Server;
use super::{Lines, Words, ask};
use crate::evidence::Standby;
use crate::exit::Kind;
use crate::text::escape;

/// Where a Sentinel says that a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterAddress {
    /// Its announced address, or its name under `announce-hostnames yes`.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What one Sentinel says about one master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where the master is. Only this is the new master already while the hook runs.
    pub master: MasterAddress,
    /// The number of the failover that made it the master; the highest is the newest.
    pub config_epoch: u64,
    /// How many Sentinels must agree that a master is down.
    pub quorum: usize,
    /// How long a master must be silent until it counts as down.
    pub down_after: Option<Duration>,
    /// How long Sentinel waits until it tries a failover again.
    pub failover_timeout: Option<Duration>,
    /// `master`, `s_down`, `o_down`, `failover_in_progress` and others.
    pub flags: Vec<String>,
    /// The other Sentinels that it knows.
    pub sentinels: Vec<Instance>,
    /// The replicas that it knows.
    pub replicas: Vec<Instance>,
    /// The same replicas, as far as they could be failed over to; `None` where the ACL user may not ask for them.
    pub standbys: Option<Vec<Standby>>,
    /// Why the list of Sentinels is empty: the ACL user may not ask for it.
    pub withheld: Option<NoAnswer>,
    /// The run id of [`View::master`], once Sentinel knows it.
    pub run_id: Option<String>,
}

/// A Redis or a Sentinel, as another Sentinel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its address or its name.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Its run id, once it is known.
    pub run_id: Option<String>,
    /// `slave` or `sentinel`, `s_down`, `disconnected` and others.
    pub flags: Vec<String>,
}

/// Returns where Sentinel says that a master is. This is the one question whose answer is already
/// the new master inside the hook, on leader and observers alike.
///
/// # Errors
///
/// Why there is no answer; a master that is not monitored is [`NoAnswer::NoSuchMaster`].
pub async fn master_address(
    server: &Server,
    lines: &Lines,
    name: &str,
    within: Duration,
) -> Result<MasterAddress, NoAnswer> {
    let answers = ask(server, lines, &[question(ADDRESS, name)], within).await?;
    read_address(first(answers))
}

/// Returns the same for several masters: all questions on one connection, within this time together.
///
/// # Errors
///
/// As [`master_address`], for each master.
pub async fn master_addresses(
    server: &Server,
    lines: &Lines,
    names: &[&str],
    within: Duration,
) -> Vec<Result<MasterAddress, NoAnswer>> {
    let questions: Vec<Words> = names.iter().map(|name| question(ADDRESS, name)).collect();
    let mut all = Vec::with_capacity(names.len());
    let take = |answer| all.push(read_address(answer));
    let end = lines.ask(server, &questions, Deadline::within(within), take);
    if let Err(no) | Ok(Err(no)) = end.await {
        all.resize(names.len(), Err(no));
    }
    all
}

/// What a Sentinel says about one master as far as it may be asked: only the address is always told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where the master is.
    pub master: MasterAddress,
    /// Every Redis of the master. The first is the Redis that SENTINEL MASTER describes: on the leader the old master,
    /// until the failover ends.
    pub servers: Vec<Instance>,
    /// The other Sentinels.
    pub sentinels: Vec<Instance>,
    /// How many Sentinels must agree that it is down; 0 where that was not told.
    pub quorum: usize,
}

/// How long the lists may take once the addresses are known: a Sentinel answers what came together in one go
/// (`processInputBuffer` in networking.c), and a VIP waits for them.
const LISTS: Duration = Duration::from_millis(50);

/// Returns what a Sentinel says about these masters, as far as it may be asked and answers in time.
///
/// # Errors
///
/// A Sentinel that cannot be reached. For one master: why its address is not known; a master that is not
/// monitored is [`NoAnswer::NoSuchMaster`].
pub async fn told(
    server: &Server,
    names: &[&str],
    within: Duration,
) -> Result<Vec<Result<Told, NoAnswer>>, NoAnswer> {
    let deadline = Deadline::within(within);
    let mut connection = Connection::connect(server, deadline).await?;
    // The addresses first: they alone have to be known.
    let every = |what: &'static str| names.iter().map(move |name| question(what, name));
    let questions: Vec<Words> = every(ADDRESS)
        .chain(every("MASTER"))
        .chain(every("SLAVES"))
        .chain(every("SENTINELS"))
        .collect();
    let mut answers = connection
        .converse_in_part(&questions, names.len(), deadline, LISTS)
        .await;
    let sentinels = answers.split_off(3 * names.len());
    let replicas = answers.split_off(2 * names.len());
    let described = answers.split_off(names.len());
    let list = |answer: Result<Value, NoAnswer>| {
        let read = answer.and_then(|list| instances(&list));
        read.unwrap_or_default()
    };
    let each = answers
        .into_iter()
        .zip(described)
        .zip(replicas.into_iter().zip(sentinels));
    let told = each.map(|((address, described), (replicas, sentinels))| {
        let described = described.ok();
        let quorum = described
            .as_ref()
            .and_then(|described| field(described, "quorum"));
        let master = described.and_then(|described| instance(&described));
        Ok(Told {
            master: read_address(address)?,
            servers: master.into_iter().chain(list(replicas)).collect(),
            sentinels: list(sentinels),
            quorum: quorum
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
        })
    });
    Ok(told.collect())
}

/// Returns all that a Sentinel says about these masters, asked at once on one connection within this time. An
/// answer that ends the conversation (too long, none at all) is the answer about its master alone: the
/// masters after that one are asked again, each on a connection of its own, within the same time once more.
///
/// # Errors
///
/// A conversation that did not begin, or a server that answers about no master.
pub async fn views(
    server: &Server,
    lines: &Lines,
    names: &[&str],
    within: Duration,
) -> Result<Vec<Result<View, NoAnswer>>, NoAnswer> {
    let questions: Vec<Words> = names.iter().flat_map(|name| about(name)).collect();
    let deadline = Deadline::within(within);
    let mut views = Vec::with_capacity(names.len());
    let mut of_one = Vec::with_capacity(VIEW.len());
    // Each at once: what is kept of the answers is a tenth of them.
    let take = |answer| {
        of_one.push(answer);
        if of_one.len() == VIEW.len() {
            views.extend(read_all(mem::take(&mut of_one)));
        }
    };
    let end = lines.ask(server, &questions, deadline, take).await?;
    let answered = views.len();
    let Err(why) = end else { return Ok(views) };
    let rest = &names[(answered + 1).min(names.len())..];
    if rest.is_empty() || why.kind() == Kind::Permanent {
        views.resize(names.len(), Err(why));
        return Ok(views);
    }
    // Nothing at all: it is frozen, unless it answers about another master.
    if answered == 0 {
        let last = view_alone(server, rest[rest.len() - 1], within / 2).await;
        if !matches!(last, Ok(_) | Err(NoAnswer::NoSuchMaster)) {
            return Err(why);
        }
    }
    views.push(Err(why));
    let mut further = vec![Err(NoAnswer::Silent(within)); rest.len()];
    let each = stream::iter(rest.iter().zip(&mut further));
    let each = each.for_each_concurrent(AT_ONCE, async |(name, view)| {
        *view = view_alone(server, name, within).await;
    });
    let _ = timeout(within, each).await;
    views.append(&mut further);
    Ok(views)
}

/// How many connections ask for what one conversation did not tell.
const AT_ONCE: usize = 4;

fn about(name: &str) -> [Words; 4] {
    VIEW.map(|what| question(what, name))
}

async fn view_alone(server: &Server, name: &str, within: Duration) -> Result<View, NoAnswer> {
    let answers = ask(server, &Lines::default(), &about(name), within).await?;
    read_all(answers)
        .pop()
        .unwrap_or_else(|| Err(NoAnswer::Unexpected("none".into())))
}

/// Reads the answers about one master after another, as far as they are whole.
fn read_all(answers: Vec<Result<Value, NoAnswer>>) -> Vec<Result<View, NoAnswer>> {
    let mut answers = answers.into_iter();
    let mut views = Vec::new();
    while let [Some(one), Some(two), Some(three), Some(four)] = [(); 4].map(|()| answers.next()) {
        views.push(view([one, two, three, four]));
    }
    views
}

const ADDRESS: &str = "get-master-addr-by-name";

/// SLAVES by its old name, which every version knows.
const VIEW: [&str; 4] = ["MASTER", "SENTINELS", "SLAVES", ADDRESS];

fn question(what: &str, name: &str) -> Words {
    ["SENTINEL", what, name].map(str::to_owned).to_vec()
}

fn first(answers: impl IntoIterator<Item = Result<Value, NoAnswer>>) -> Result<Value, NoAnswer> {
    let none = || Err(NoAnswer::Unexpected("none".into()));
    answers.into_iter().next().unwrap_or_else(none)
}

/// Reads a list of host and port; Sentinel says nil of a master that it does not monitor.
pub fn read_address(answer: Result<Value, NoAnswer>) -> Result<MasterAddress, NoAnswer> {
    let answer = answer?;
    if answer == Value::Nil {
        return Err(NoAnswer::NoSuchMaster);
    }
    let address = match &answer {
        Value::Array(list) => match list.as_slice() {
            [host, port] => Option::zip(text(host), text(port)),
            _ => None,
        },
        _ => None,
    };
    let read = address.and_then(|(host, port)| {
        Some(MasterAddress {
            host,
            port: port.parse().ok()?,
        })
    });
    read.ok_or_else(|| unexpected(&answer))
}

/// Reads the answers to the four questions of a [`View`].
pub fn view(answers: [Result<Value, NoAnswer>; 4]) -> Result<View, NoAnswer> {
    let [described, sentinels, replicas, address] = answers;
    let master = read_address(address)?;
    let described = described?;
    let number = |name: &str| field(&described, name)?.parse::<u64>().ok();
    let time = |name: &str| number(name).map(Duration::from_millis);
    let Value::Array(_) = &described else {
        return Err(unexpected(&described));
    };
    let list = |answer: Result<Value, NoAnswer>| match answer {
        Ok(value) => Ok((instances(&value)?, None)),
        Err(no @ NoAnswer::NotAllowed(_)) => Ok((Vec::new(), Some(no))),
        Err(no) => Err(no),
    };
    let standbys = match &replicas {
        Ok(Value::Array(rows)) => Some(rows.iter().map(standby).collect()),
        _ => None,
    };
    let (sentinels, withheld) = list(sentinels)?;
    let replicas = list(replicas)?.0;
    Ok(View {
        run_id: run_id_of(&master, &described, &replicas),
        master,
        config_epoch: number("config-epoch").unwrap_or_default(),
        quorum: saturating(number("quorum").unwrap_or(1)),
        down_after: time("down-after-milliseconds"),
        failover_timeout: time("failover-timeout"),
        flags: flags(&described),
        sentinels,
        replicas,
        standbys,
        withheld,
    })
}

/// On the leader SENTINEL MASTER describes the old master until the failover ends, and the new one is among the
/// replicas.
fn run_id_of(master: &MasterAddress, described: &Value, replicas: &[Instance]) -> Option<String> {
    let is_it = |host: &str, port: u16| host == master.host && port == master.port;
    let described_at = field(described, "ip").zip(field(described, "port"));
    match described_at {
        Some((host, port)) if port.parse().is_ok_and(|port| is_it(&host, port)) => {
            run_id(described)
        }
        _ => {
            let mut same = replicas.iter().filter(|one| is_it(&one.host, one.port));
            same.next()?.run_id.clone()
        }
    }
}

fn saturating(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Reads a list of descriptions.
pub fn instances(answer: &Value) -> Result<Vec<Instance>, NoAnswer> {
    let Value::Array(list) = answer else {
        return Err(unexpected(answer));
    };
    let read = |one| instance(one).ok_or_else(|| unexpected(one));
    list.iter().map(read).collect()
}

/// Reads a row of `SENTINEL SLAVES`.
pub fn standby(described: &Value) -> Standby {
    let is = |name: &str, value: &str| field(described, name).as_deref() == Some(value);
    let is_down = |flag: &String| flag == "s_down";
    Standby {
        name: field(described, "name").unwrap_or_default(),
        is_up: !flags(described).iter().any(is_down),
        is_linked: is("master-link-status", "ok"),
        may_lead: !is("slave-priority", "0"),
    }
}

fn instance(described: &Value) -> Option<Instance> {
    Some(Instance {
        host: canonical(field(described, "ip")?),
        port: field(described, "port")?.parse().ok()?,
        run_id: run_id(described),
        flags: flags(described),
    })
}

/// Returns an address as it is written everywhere, an IPv4-mapped one unmapped; a name as it is.
fn canonical(host: String) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host,
    }
}

fn run_id(described: &Value) -> Option<String> {
    field(described, "runid").filter(|id| !id.is_empty())
}

fn flags(described: &Value) -> Vec<String> {
    let flags = field(described, "flags").unwrap_or_default();
    flags.split(',').map(str::to_owned).collect()
}

/// How much of an answer is shown, in characters.
const SHOWN: usize = 100;

pub(super) fn unexpected(answer: &Value) -> NoAnswer {
    let text = match answer {
        Value::Array(list) => list
            .iter()
            .map(|one| text(one).unwrap_or("…".into()))
            .take(SHOWN)
            .collect::<Vec<_>>()
            .join(" "),
        answer => text(answer).unwrap_or("nil".into()),
    };
    let text: String = text.chars().take(SHOWN).collect();
    NoAnswer::Unexpected(format!("\"{}\"", escape(&text)))
}
