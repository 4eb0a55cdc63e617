//! What a majority of the Sentinels says now. One alone may have an old file, or be cut off from
//! the others.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use redis::Value;

use super::ask::{Server, ask, ask_each, field, text};
use super::{MasterAddress, server, unanswered};
use crate::config::{Master, Sentinel};
use crate::exit::Fault;
use crate::failover::Host;
use crate::resolve;
use crate::text::escape;

/// How long each round of questions may take: to this host's Sentinel, then to all.
const TIMEOUT: Duration = Duration::from_millis(800);

/// What one Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vote {
    who: String,
    says: Result<MasterAddress, String>,
}

/// What the Sentinels that are known here say about a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    votes: Vec<Vote>,
    needed: usize,
}

impl Votes {
    /// Returns the master that enough of them name, if they do.
    pub fn winner(&self) -> Option<&MasterAddress> {
        let said = self.votes.iter().filter_map(|vote| vote.says.as_ref().ok());
        said.max_by_key(|master| self.number(master))
            .filter(|master| self.number(master) >= self.needed)
    }

    fn number(&self, master: &MasterAddress) -> usize {
        let same = self
            .votes
            .iter()
            .filter(|vote| vote.says.as_ref() == Ok(master));
        same.count()
    }
}

impl fmt::Display for Votes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(master) = self.winner() {
            let (number, all) = (self.number(master), self.votes.len());
            return write!(f, "{number} of {all} say {master}");
        }
        for (place, Vote { who, says }) in self.votes.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match says {
                Ok(master) => write!(f, "{comma}{who} says {master}")?,
                Err(why) => write!(f, "{comma}{who} does not answer ({why})")?,
            }
        }
        Ok(())
    }
}

/// Asks every Sentinel that this host's one knows, itself included, where a master is. Blocks for
/// less than two seconds, names of other Sentinels apart.
///
/// More than half of all must say the same, and no fewer than the quorum: a Sentinel that has
/// forgotten the others is no majority by itself.
///
/// # Errors
///
/// This host's Sentinel not to be asked is passing; one that does not monitor the master, or a
/// password file that cannot be used, is permanent.
pub async fn votes(sentinel: &Sentinel, name: &str) -> Result<Votes, Fault> {
    let own = server(sentinel)?;
    let question = |what: &str| ["SENTINEL", what, name].map(String::from).to_vec();
    let questions = vec![question("MASTER"), question("SENTINELS")];
    let refused = |no: &super::ask::NoAnswer| unanswered(sentinel, &no.why, no.code.as_deref());
    let answers = ask(&own, questions, TIMEOUT).map_err(|no| refused(&no))?;
    let [master, others] = answers.as_slice() else {
        return Err(unanswered(sentinel, "too few answers", None));
    };
    let master = match master {
        Err(no) if no.why.to_ascii_lowercase().contains("no such master") => {
            let text = format!(
                "Sentinel at {} does not monitor a master named \"{}\"",
                sentinel.address,
                escape(name)
            );
            let remedy = "The master-name in vipswitch.toml and in sentinel.conf must be the same.";
            return Err(Fault::permanent(text).remedy(remedy));
        }
        master => master.as_ref().map_err(refused)?,
    };
    let others = others.as_ref().map_err(refused)?;
    let quorum = field(master, "quorum").and_then(|number| number.parse().ok());
    let (mut servers, mut votes) = others_of(others, &own).await;
    servers.insert(0, own);
    let questions = [question("get-master-addr-by-name")];
    let answers = ask_each(&servers, &questions, TIMEOUT);
    votes.extend(servers.iter().zip(answers).map(|(server, answers)| Vote {
        who: server.address.to_string(),
        says: match answers.as_deref() {
            Ok([Ok(value)]) => read(value),
            Ok([Err(no)]) | Err(no) => Err(escape(&no.why)),
            Ok(_) => Err("too few answers".into()),
        },
    }));
    Ok(Votes {
        needed: (votes.len() / 2 + 1).max(quorum.unwrap_or(1)),
        votes,
    })
}

/// Returns the other Sentinels that can be asked, and the votes of those that cannot.
async fn others_of(answer: &Value, own: &Server) -> (Vec<Server>, Vec<Vote>) {
    let (mut servers, mut votes) = (Vec::new(), Vec::new());
    let Value::Array(others) = answer else {
        return (servers, votes);
    };
    for other in others {
        let host = field(other, "ip").unwrap_or_default();
        let port = field(other, "port").and_then(|port| port.parse().ok());
        let address = match Host::read(&host) {
            Some(host) => resolve::addresses(&host).await.ok(),
            None => None,
        };
        match (address.as_deref(), port) {
            (Some([address, ..]), Some(port)) => servers.push(Server {
                address: SocketAddr::new(*address, port),
                ..own.clone()
            }),
            _ => votes.push(Vote {
                who: escape(&host),
                says: Err("its name does not resolve here".into()),
            }),
        }
    }
    (servers, votes)
}

fn read(value: &Value) -> Result<MasterAddress, String> {
    match value {
        Value::Nil => Err("it does not monitor this master".into()),
        _ => super::read(value).ok_or_else(|| "it answers something else".into()),
    }
}

/// Makes sure that the Redis at this address says of itself that it is a master. Blocks for less
/// than a second.
///
/// # Errors
///
/// Another role, or no answer, is passing; a password file that cannot be used is permanent.
pub fn check_is_master(address: IpAddr, port: u16, of: &Master) -> Result<(), Fault> {
    let redis = Server {
        address: SocketAddr::new(address, port),
        username: of.redis_username.clone(),
        password: of
            .redis_password
            .as_ref()
            .map(crate::config::Password::read)
            .transpose()?,
    };
    let answer = ask(&redis, vec![vec!["ROLE".into()]], TIMEOUT);
    let role = match answer.as_deref() {
        Ok([Ok(Value::Array(words))]) => words.first().and_then(text),
        Ok([Err(no)]) | Err(no) => {
            let text = format!(
                "the Redis at {} does not tell its role: {}",
                redis.address,
                escape(&no.why)
            );
            let is_access = matches!(no.code.as_deref(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
                || no
                    .why
                    .to_ascii_lowercase()
                    .contains("authentication failed");
            return Err(if is_access {
                Fault::permanent(text)
                    .remedy("Set redis_password_file, and redis_username if it needs one, for the master in the configuration.")
            } else {
                Fault::passing(text).remedy("Is it running?")
            });
        }
        Ok(_) => None,
    };
    match role.as_deref() {
        Some("master") => Ok(()),
        role => Err(Fault::passing(format!(
            "the Sentinels name the Redis at {} of this host, and that one says that it is {}",
            redis.address,
            role.map_or("something else".into(), escape)
        ))
        .remedy("While a failover goes on this passes.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(says: &[Option<&str>], quorum: usize) -> Votes {
        let vote = |(place, host): (usize, &Option<&str>)| Vote {
            who: format!("10.0.0.{place}:26379"),
            says: host.map_or(Err("silent".into()), |host| {
                Ok(MasterAddress {
                    host: host.into(),
                    port: 6379,
                })
            }),
        };
        Votes {
            votes: says.iter().enumerate().map(vote).collect(),
            needed: (says.len() / 2 + 1).max(quorum),
        }
    }

    #[test]
    fn more_than_half_of_all_must_say_the_same() {
        let (a, b) = (Some("a"), Some("b"));
        for (says, quorum, winner) in [
            (&[a, a, b][..], 2, a),
            (&[b, a, a], 2, a),
            (&[a, a, None], 2, a),
            (&[a, None, None], 2, None),
            (&[a, b, None], 2, None),
            (&[a, b], 1, None),
            (&[a, a, b, b], 2, None),
            // One that knows no other: alone by configuration, or because it has forgotten them.
            (&[a], 1, a),
            (&[a], 2, None),
            (&[None], 1, None),
            (&[], 1, None),
        ] {
            let votes = votes(says, quorum);
            assert_eq!(
                votes.winner().map(|master| master.host.as_str()),
                winner,
                "{votes}"
            );
        }
    }

    #[test]
    fn who_answered_what_is_told() {
        assert_eq!(
            votes(&[Some("a"), Some("a"), None], 2).to_string(),
            "2 of 3 say a:6379"
        );
        assert_eq!(
            votes(&[Some("a"), Some("b"), None], 2).to_string(),
            "10.0.0.0:26379 says a:6379, 10.0.0.1:26379 says b:6379, 10.0.0.2:26379 does not answer (silent)"
        );
    }
}
