//! This host's Redis, asked with the credentials with which `sync` asks it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use redis::Value;

use super::finding::Findings;
use super::network::Redises;
use crate::config::Config;
use crate::exit::Fault;
use crate::kernel::Snapshot;
use crate::plan::ToIs;
use crate::sentinel::ask::{Answers, Server, ask_each, text};
use crate::sentinel::majority::{redis_at, role};

/// How long all of them may take to answer.
const ANSWERS: Duration = Duration::from_millis(800);

/// Returns each master's Redis that is on this host.
///
/// # Errors
///
/// A netlink fault.
pub async fn here<'a>(
    kernel: &Snapshot<'_>,
    redises: &BTreeMap<&'a str, Redises>,
) -> Result<Vec<(&'a str, SocketAddr)>, Fault> {
    let mut here = Vec::new();
    for (master, known) in redises {
        for at in &known.endpoints {
            if kernel.where_is(&[at.ip()]).await? != ToIs::Elsewhere {
                here.push((*master, *at));
            }
        }
    }
    Ok(here)
}

/// Judges whether each of these tells its role. Returns the `min-replicas-to-write` of those that
/// tell it.
pub fn judge(
    config: &Config,
    here: &[(&str, SocketAddr)],
    findings: &mut Findings,
) -> Vec<(SocketAddr, u32)> {
    let mut servers: Vec<Server> = Vec::new();
    for (master, at) in here {
        let Ok(of) = config.master(master) else {
            continue;
        };
        match redis_at(*at, of) {
            Ok(server) => servers.push(server),
            Err(fault) => findings.fault("redis-role", &at.to_string(), &fault),
        }
    }
    let questions = [
        vec!["ROLE".to_owned()],
        // The pattern covers the name before Redis 5, too.
        ["CONFIG", "GET", "min-*-to-write"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let answers = ask_each(&servers, &questions, ANSWERS);
    let mut told = Vec::new();
    for (server, answers) in servers.iter().zip(&answers) {
        judge_one(server, answers, findings);
        told.extend(min_replicas(answers).map(|number| (server.address, number)));
    }
    told
}

fn judge_one(server: &Server, answers: &Answers, findings: &mut Findings) {
    let about = server.address.to_string();
    match role(server, answers) {
        Ok(_) => findings.ok("redis-role", &about, "this host's Redis tells its role"),
        Err(fault) => findings.fault("redis-role", &about, &fault),
    }
}

fn min_replicas(answers: &Answers) -> Option<u32> {
    match answers.as_deref() {
        Ok([_, Ok(Value::Array(pair))]) => pair.get(1).and_then(text)?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::ask::NoAnswer;

    #[test]
    fn a_redis_that_does_not_tell_its_role_is_an_error() {
        let server = Server {
            address: "10.0.0.1:6379".parse().unwrap(),
            username: None,
            password: None,
        };
        let word = |word: &str| Value::BulkString(word.into());
        let no = |why: &str| NoAnswer {
            why: why.into(),
            code: why.split(' ').next().map(str::to_owned),
        };
        let pair = Value::Array(vec![word("min-replicas-to-write"), word("1")]);
        for (answers, wrong, number) in [
            (
                Ok(vec![Ok(Value::Array(vec![word("slave")])), Ok(pair)]),
                false,
                Some(1),
            ),
            (
                Ok(vec![
                    Err(no("NOAUTH Authentication required")),
                    Err(no("NOAUTH")),
                ]),
                true,
                None,
            ),
            (Err(no("connection refused")), true, None),
        ] {
            let mut findings = Findings::default();
            judge_one(&server, &answers, &mut findings);
            assert_eq!(!findings.wrong().is_empty(), wrong, "{answers:?}");
            assert_eq!(min_replicas(&answers), number);
        }
    }
}
