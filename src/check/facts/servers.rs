//! Which Redis and Sentinel servers can be reached from here, and what this host's Redis says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::sentinel::{Watched, at, words};
use crate::config::Config;
use crate::exit::Fault;
use crate::gather::{self, Tried};
use crate::redis::{Value, ask, redis_fault, redis_server, role, text};

/// How long one server may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(800);

/// How many connections are tried at once.
const AT_ONCE: usize = 64;

/// How long this host's Redis may take to answer.
const ANSWERS: Duration = Duration::from_millis(800);

/// Whether each server accepts a connection from here, or why not.
pub type Reached = BTreeMap<SocketAddr, Result<(), String>>;

/// Tries to connect to every Redis and Sentinel.
pub async fn reach(watched: &[Watched]) -> Reached {
    let sites = watched.iter().flat_map(Watched::sites);
    let targets: BTreeSet<SocketAddr> = sites.filter_map(at).collect();
    let tried = targets.into_iter().map(|target| async move {
        let reached = match timeout(CONNECT, TcpStream::connect(target)).await {
            Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        (target, reached)
    });
    let tried = stream::iter(tried).buffer_unordered(AT_ONCE);
    tried.collect().await
}

/// Asks every other Sentinel as `sync` asks it, about the first master that it is listed for. Where the files
/// of the configuration cannot be used, another finding says so.
pub async fn ask_sentinels(config: &Config, watched: &[Watched]) -> Vec<Tried> {
    let mut others: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for one in watched {
        for at in one.sentinels.iter().filter_map(at) {
            others.entry(at).or_insert(&one.name);
        }
    }
    let others: Vec<(SocketAddr, &str)> = others.into_iter().collect();
    gather::try_others(config, &others)
        .await
        .unwrap_or_default()
}

/// A Redis of this host.
#[derive(Clone, Debug)]
pub struct Redis {
    pub master: String,
    pub at: SocketAddr,
    /// Whether it tells its role, asked as `sync` asks it.
    pub role: Result<(), Fault>,
    /// Its `min-replicas-to-write`, where it tells that.
    pub min_replicas: Option<u32>,
    /// The replicas that it has, as they announce themselves; none where it is a replica itself.
    pub replicas: Vec<String>,
}

/// Asks every Redis of this host, with the credentials with which `sync` asks it.
pub async fn ask_redises(config: &Config, watched: &[Watched]) -> Vec<Redis> {
    let each = watched.iter().flat_map(|one| {
        let here = one.redises.iter().filter(|site| site.is_here());
        here.filter_map(at).map(move |at| (&one.name, at))
    });
    let asked = each.map(async |(master, at)| {
        let told = ask_redis(config, master, at).await;
        Redis {
            master: master.clone(),
            at,
            min_replicas: told.as_ref().map_or(None, |(number, _)| *number),
            replicas: told.as_ref().map_or(Vec::new(), |(_, all)| all.clone()),
            role: told.map(drop),
        }
    });
    join_all(asked).await
}

/// Returns its `min-replicas-to-write` and its replicas.
async fn ask_redis(
    config: &Config,
    master: &str,
    at: SocketAddr,
) -> Result<(Option<u32>, Vec<String>), Fault> {
    let server = redis_server(config, config.master(master)?, at)?;
    // The pattern covers the name before Redis 5, too.
    let questions = [
        words(&["CONFIG", "GET", "min-*-to-write"]),
        words(&["ROLE"]),
    ];
    let asked = join(role(&server, ANSWERS), ask(&server, &questions, ANSWERS));
    let (role, answers) = asked.await;
    role.map_err(|no| redis_fault(&no, at, master))?;
    let Ok([number, role]) = answers.as_deref() else {
        return Ok((None, Vec::new()));
    };
    let number = match number {
        Ok(Value::Array(pair)) => pair.get(1).and_then(text),
        _ => None,
    };
    let replicas = role.as_ref().map(replicas).unwrap_or_default();
    Ok((number.and_then(|number| number.parse().ok()), replicas))
}

/// Returns the replicas in a master's answer to ROLE, `HOST:PORT` each.
fn replicas(role: &Value) -> Vec<String> {
    let rows = match role {
        Value::Array(parts) => match parts.get(2) {
            Some(Value::Array(rows)) => rows.as_slice(),
            _ => &[],
        },
        _ => &[],
    };
    let at = |row: &Value| match row {
        Value::Array(row) => {
            let (host, port) = (text(row.first()?)?, text(row.get(1)?)?);
            Some(format!("{host}:{port}"))
        }
        _ => None,
    };
    rows.iter().filter_map(at).collect()
}
