//! All that this host's Sentinel says of the masters that it monitors, for `check`. Nothing that it answers is
//! trusted: judgements escape it.

use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::evidence::{Site, Standby};
use crate::exit::Fault;
use crate::failover::{Endpoint, Host};
use crate::gather;
use crate::gather::remembered::Memory;
use crate::hosts::Kept;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{
    Lines, NoAnswer, Value, Words, ask, field, sentinel_fault, sentinel_server, standby, text,
    words,
};

/// How long Sentinel may take to answer all of one round of questions.
const ANSWERS: Duration = Duration::from_millis(1500);

/// How long all names that Redis and Sentinel announce may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// Returns a field of a master, a replica, a Sentinel or a run, empty if Sentinel did not send it.
pub fn get(row: &Value, key: &str) -> String {
    field(row, key).unwrap_or_default()
}

/// Returns a field that is a number.
pub fn number(row: &Value, key: &str) -> Option<usize> {
    field(row, key)?.parse().ok()
}

/// Returns where a Redis or a Sentinel listens; `None` if its name does not resolve.
pub fn at(site: &Site) -> Option<SocketAddr> {
    let first = site.addresses.first();
    first.map(|address| SocketAddr::new(*address, site.endpoint.port))
}

/// One master as Sentinel knows it. What it did not tell is `None`.
pub struct Watched {
    /// Its master-name.
    pub name: String,
    /// What `SENTINEL MASTER` says.
    pub master: Value,
    /// Its replicas, as far as they could be failed over to.
    pub standbys: Option<Vec<Standby>>,
    /// Whether the Sentinels that answer can decide a failover (`CKQUORUM`).
    pub quorum: Option<Result<Value, NoAnswer>>,
    /// Where its Redis servers are, the master first.
    pub redises: Vec<Site>,
    /// Where the other Sentinels are.
    pub sentinels: Vec<Site>,
}

impl Watched {
    /// Returns every Redis and Sentinel.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.redises.iter().chain(&self.sentinels)
    }
}

/// All that this host's Sentinel says.
pub struct Told {
    /// The number of its process, where that is.
    pub pid: Option<u32>,
    /// The path of its configuration.
    pub config_file: String,
    /// Every master that it monitors.
    pub masters: Vec<Value>,
    /// Its runs of scripts that are queued or at work.
    pub pending: Option<Vec<Value>>,
    /// Each configured master that it monitors.
    pub watched: Vec<Watched>,
}

/// Asks for everything about the configured masters.
///
/// # Errors
///
/// A Sentinel that does not answer, or not as a Sentinel.
pub async fn ask_all(config: &Config) -> Result<Told, Fault> {
    let owner = Memory::read().owner(config);
    let by = (&Kept::default(), Some(&owner));
    let server = sentinel_server(config, by, Instant::now() + ANSWERS).await?;
    let ask = async |questions: Vec<Words>| {
        let answers = ask(&server, &Lines::default(), &questions, ANSWERS)
            .await
            .map(Vec::into_iter);
        answers.map_err(|no| sentinel_fault(&no, &config.sentinel.address))
    };
    let general = [
        &["SENTINEL", "MASTERS"][..],
        &["SENTINEL", "PENDING-SCRIPTS"],
        &["INFO", "server"],
    ];
    let mut general = ask(general.map(words).to_vec()).await?;
    let masters = match general.next() {
        Some(Err(no)) => return Err(sentinel_fault(&no, &config.sentinel.address)),
        masters => rows(masters).unwrap_or_default(),
    };
    let pending = rows(general.next());
    let info = general.next().and_then(Result::ok);
    let info = info.as_ref().and_then(text).unwrap_or_default();
    let is_configured = |row: &&Value| config.masters.contains_key(&get(row, "name"));
    let configured: Vec<&Value> = masters.iter().filter(is_configured).collect();
    // By their old names, which every version knows.
    let questions = configured.iter().flat_map(|master| {
        ["SLAVES", "SENTINELS", "CKQUORUM"]
            .map(|what| words(&["SENTINEL", what, &get(master, "name")]))
    });
    let answers = ask(questions.collect()).await?;
    Ok(Told {
        pid: info_field(&info, "process_id").parse().ok(),
        config_file: info_field(&info, "config_file").to_owned(),
        watched: watched(config, &configured, answers).await,
        masters,
        pending,
    })
}

/// Returns what was answered about each master, and finds where its servers are, all at once.
async fn watched(
    config: &Config,
    masters: &[&Value],
    mut answers: impl Iterator<Item = Result<Value, NoAnswer>>,
) -> Vec<Watched> {
    // Where the kernel does not answer, another finding says so.
    let Ok(netlink) = Netlink::open() else {
        return Vec::new();
    };
    let (snapshot, until) = (&Snapshot::new(&netlink), Instant::now() + NAMES);
    let each = masters.iter().map(|master| {
        let [replicas, others] = [0; 2].map(|_| rows(answers.next()));
        let quorum = answers.next();
        async move {
            let name = get(master, "name");
            let redises = iter::once(*master).chain(replicas.iter().flatten());
            let redises = redises.filter_map(|row| {
                let run_id = Some(get(row, "runid")).filter(|id| !id.is_empty());
                Some((endpoint(row)?, run_id))
            });
            let redises = gather::sites(config, &name, snapshot, redises.collect(), until);
            let sentinels = others.iter().flatten().filter_map(endpoint);
            let sentinels = join_all(sentinels.map(|at| site(config, snapshot, at, until)));
            let (redises, sentinels) = join(redises, sentinels).await;
            Watched {
                redises: redises.unwrap_or_default(),
                master: (*master).clone(),
                name,
                quorum,
                standbys: replicas.map(|rows| rows.iter().map(standby).collect()),
                sentinels,
            }
        }
    });
    join_all(each).await
}

async fn site(
    config: &Config,
    snapshot: &Snapshot<'_>,
    endpoint: Endpoint,
    until: Instant,
) -> Site {
    let site = timeout_at(until, gather::site(config, snapshot, &endpoint)).await;
    site.unwrap_or_else(|_| Site {
        addresses: Vec::new(),
        run_id: None,
        place: Err(Fault::passing("its name was not resolved in time")),
        endpoint,
    })
}

fn endpoint(row: &Value) -> Option<Endpoint> {
    Some(Endpoint {
        host: Host::read(&get(row, "ip"))?,
        port: get(row, "port").parse().ok()?,
    })
}

fn rows(answer: Option<Result<Value, NoAnswer>>) -> Option<Vec<Value>> {
    match answer?.ok()? {
        Value::Array(rows) => Some(rows),
        _ => None,
    }
}

fn info_field<'a>(info: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    info.lines().find_map(value).unwrap_or_default().trim()
}
