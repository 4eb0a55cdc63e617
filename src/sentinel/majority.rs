//! What a majority of the Sentinels says now. One alone may have an old file, or be cut off from
//! the others.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use redis::Value;
use tokio::time::timeout_at;

use super::ask::{Answers, Server, ask, ask_each, field, text};
use super::{MasterAddress, server, unanswered};
use crate::config::{Master, Password, Sentinel};
use crate::exit::Fault;
use crate::failover::Host;
use crate::hosts;
use crate::text::escape;

/// How long each round of questions may take: to this host's Sentinel, then to all.
const TIMEOUT: Duration = Duration::from_millis(800);

/// How long the names of all other Sentinels may take to resolve.
const NAMES: Duration = Duration::from_secs(1);

/// What one Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vote {
    who: String,
    says: Result<MasterAddress, String>,
    /// How new that is: each failover has a number of its own, and the highest is the newest
    /// (`config-epoch`; 0 where it was not told).
    epoch: u64,
}

/// What the Sentinels that are known here say about a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    votes: Vec<Vote>,
    needed: usize,
    own: Option<MasterAddress>,
    /// The addresses of every Redis and Sentinel that this host's one knows.
    known: Vec<IpAddr>,
}

impl Votes {
    /// Returns the master that enough of them name, if they do and none knows of a later failover:
    /// the leader knows of its own for a moment before the others hear of it (sentinel.c raises
    /// `config-epoch` just before it calls the hook).
    pub fn winner(&self) -> Option<&MasterAddress> {
        let said = self.votes.iter().filter_map(|vote| vote.says.as_ref().ok());
        let most = said.max_by_key(|master| self.number(master))?;
        let newest = |of_winner: bool| {
            let votes = self.votes.iter();
            let votes = votes.filter(|vote| (vote.says.as_ref() == Ok(most)) == of_winner);
            let votes = votes.filter(|vote| vote.says.is_ok());
            votes.map(|vote| vote.epoch).max()
        };
        let is_newest = newest(false) <= newest(true);
        Some(most).filter(|most| self.number(most) >= self.needed && is_newest)
    }

    /// Returns what this host's Sentinel says.
    pub fn own(&self) -> Option<&MasterAddress> {
        self.own.as_ref()
    }

    /// Returns whether this is an address that a Redis or a Sentinel has, by this host's one. No VIP
    /// may be: a release would take it from its server.
    pub fn is_a_servers(&self, address: IpAddr) -> bool {
        self.known.contains(&address)
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
        for (place, Vote { who, says, epoch }) in self.votes.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match says {
                Ok(master) => write!(f, "{comma}{who} says {master} since failover {epoch}")?,
                Err(why) => write!(f, "{comma}{who} does not answer ({why})")?,
            }
        }
        Ok(())
    }
}

/// Asks every Sentinel that this host's one knows, itself included, where a master is. Blocks for
/// less than three seconds.
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
    // By their old name, which every version knows.
    let questions = vec![
        question("MASTER"),
        question("SENTINELS"),
        question("SLAVES"),
    ];
    let refused = |no: &super::ask::NoAnswer| unanswered(sentinel, &no.why, no.code.as_deref());
    let answers = ask(&own, questions, TIMEOUT).map_err(|no| refused(&no))?;
    let [master, others, replicas] = answers.as_slice() else {
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
    let known = addresses([Some(master), Some(others), replicas.as_ref().ok()]);
    let (mut servers, mut votes) = others_of(others, &own).await;
    servers.insert(0, own);
    // Only the first answer is already the new master while the hook runs.
    let questions = [question("get-master-addr-by-name"), question("MASTER")];
    let answers = ask_each(&servers, &questions, TIMEOUT);
    votes.extend(servers.iter().zip(&answers).map(|(server, answers)| Vote {
        who: server.address.to_string(),
        says: match answers.as_deref() {
            Ok([Ok(value), ..]) => read(value),
            Ok([Err(no), ..]) | Err(no) => Err(escape(&no.why)),
            Ok(_) => Err("too few answers".into()),
        },
        epoch: number(answers, "config-epoch"),
    }));
    // One that was just started knows few others: whoever knows the most knows how many there are.
    let known_to = answers
        .iter()
        .map(|answers| number(answers, "num-other-sentinels") + 1);
    let all = known_to.max().unwrap_or(1).max(votes.len() as u64);
    let own_place = votes.len() - servers.len();
    Ok(Votes {
        needed: ((all / 2 + 1) as usize).max(quorum.unwrap_or(1)),
        own: votes[own_place].says.clone().ok(),
        votes,
        known,
    })
}

/// Returns a number in what SENTINEL MASTER, the second question, was answered; 0 without.
fn number(answers: &Answers, name: &str) -> u64 {
    let text = match answers.as_deref() {
        Ok([_, Ok(master)]) => field(master, name),
        _ => None,
    };
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Returns the addresses in descriptions of one or several instances; names are none.
fn addresses<const N: usize>(answers: [Option<&Value>; N]) -> Vec<IpAddr> {
    let address = |value: &Value| -> Option<IpAddr> {
        let address: IpAddr = field(value, "ip")?.parse().ok()?;
        Some(address.to_canonical())
    };
    let of = |answer: &Value| -> Vec<IpAddr> {
        match answer {
            Value::Array(list) if field(answer, "ip").is_none() => {
                list.iter().filter_map(address).collect()
            }
            _ => address(answer).into_iter().collect(),
        }
    };
    answers.into_iter().flatten().flat_map(of).collect()
}

/// Returns the other Sentinels that can be asked, and the votes of those that cannot.
async fn others_of(answer: &Value, own: &Server) -> (Vec<Server>, Vec<Vote>) {
    let (mut servers, mut votes) = (Vec::new(), Vec::new());
    let Value::Array(others) = answer else {
        return (servers, votes);
    };
    let until = tokio::time::Instant::now() + NAMES;
    for other in others {
        let host = field(other, "ip").unwrap_or_default();
        let port = field(other, "port").and_then(|port| port.parse().ok());
        let address = match Host::read(&host) {
            Some(host) => match timeout_at(until, hosts::addresses(&host)).await {
                Ok(Ok(addresses)) => Some(addresses),
                _ => None,
            },
            None => None,
        };
        match (address.as_deref(), port) {
            (Some([address, ..]), Some(port)) => {
                let address = SocketAddr::new(*address, port);
                // One vote each, however often it is listed.
                let known = servers.iter().chain([own]);
                if !known.into_iter().any(|one: &Server| one.address == address) {
                    servers.push(Server {
                        address,
                        ..own.clone()
                    });
                }
            }
            _ => votes.push(Vote {
                who: escape(&host),
                says: Err("its name does not resolve here".into()),
                epoch: 0,
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

/// Returns a Redis of a master, asked as the configuration says.
///
/// # Errors
///
/// A password file that cannot be used is permanent.
pub fn redis_at(address: SocketAddr, of: &Master) -> Result<Server, Fault> {
    Ok(Server {
        address,
        username: of.redis_username.clone(),
        password: of.redis_password.as_ref().map(Password::read).transpose()?,
    })
}

/// Makes sure that the Redis at this address says of itself that it is a master. Blocks for less
/// than a second.
///
/// # Errors
///
/// Another role, or no answer, is passing; a password file that cannot be used, or a password that
/// is refused, is permanent.
pub fn check_is_master(address: IpAddr, port: u16, of: &Master) -> Result<(), Fault> {
    let redis = redis_at(SocketAddr::new(address, port), of)?;
    let answer = ask(&redis, vec![vec!["ROLE".into()]], TIMEOUT);
    match role(&redis, &answer)?.as_deref() {
        Some("master") => Ok(()),
        role => Err(Fault::passing(format!(
            "the Sentinels name the Redis at {} of this host, and that one says that it is {}",
            redis.address,
            role.map_or("something else".into(), escape)
        ))
        .remedy("While a failover goes on this passes.")),
    }
}

/// Returns the role in a Redis's answers to questions of which ROLE was the first.
///
/// # Errors
///
/// No answer is passing, one that a password is missing or wrong permanent.
pub fn role(redis: &Server, answers: &Answers) -> Result<Option<String>, Fault> {
    let no = match answers.as_deref() {
        Ok([Ok(Value::Array(words)), ..]) => return Ok(words.first().and_then(text)),
        Ok([Err(no), ..]) | Err(no) => no,
        Ok(_) => return Ok(None),
    };
    let address = redis.address;
    let refused = no
        .why
        .to_ascii_lowercase()
        .contains("authentication failed");
    if refused {
        let text = format!("the Redis at {address} refused the password");
        return Err(Fault::permanent(text).remedy(
            "Correct the master's redis_username and redis_password_file in the configuration, or what is in that file.",
        ));
    }
    let text = format!(
        "the Redis at {address} does not tell its role: {}",
        escape(&no.why)
    );
    Err(match no.code.as_deref() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => Fault::permanent(text).remedy(
            "Set redis_password_file, and redis_username if it needs one, for the master in the configuration.",
        ),
        _ => Fault::passing(text).remedy("Is it running?"),
    })
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
            epoch: 7,
        };
        Votes {
            own: None,
            votes: says.iter().enumerate().map(vote).collect(),
            needed: (says.len() / 2 + 1).max(quorum),
            known: Vec::new(),
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
    fn one_that_knows_of_a_later_failover_is_waited_for() {
        let with = |place: usize, epoch: u64| {
            let mut votes = votes(&[Some("new"), Some("old"), Some("old")], 2);
            votes.votes[place].epoch = epoch;
            votes.winner().map(|master| master.host.clone())
        };
        assert_eq!(with(0, 8), None);
        // One with an old file, and one of the majority that is behind, change nothing.
        assert_eq!(with(0, 6).as_deref(), Some("old"));
        assert_eq!(with(1, 6).as_deref(), Some("old"));
    }

    #[test]
    fn every_address_that_sentinel_tells_is_known() {
        let instance = |ip: &str| {
            let word = |word: &str| Value::BulkString(word.into());
            Value::Array(vec![word("name"), word("x"), word("ip"), word(ip)])
        };
        let others = Value::Array(vec![instance("10.0.0.2"), instance("a-name")]);
        let all = [
            Some(&instance("::ffff:10.0.0.1")),
            Some(&others),
            None,
            Some(&Value::Nil),
        ];
        let known: Vec<String> = addresses(all).iter().map(IpAddr::to_string).collect();
        assert_eq!(known, ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn who_answered_what_is_told() {
        assert_eq!(
            votes(&[Some("a"), Some("a"), None], 2).to_string(),
            "2 of 3 say a:6379"
        );
        assert_eq!(
            votes(&[Some("a"), Some("b"), None], 2).to_string(),
            "10.0.0.0:26379 says a:6379 since failover 7, 10.0.0.1:26379 says b:6379 since failover 7, 10.0.0.2:26379 does not answer (silent)"
        );
    }
}
