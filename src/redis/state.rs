//! What a Redis says about itself and its replication, from ROLE and INFO on a connection that is kept.

use tokio::time::Instant;

use super::connection::Connection;
use super::no_answer::NoAnswer;
use super::reply::{Value, text};
use super::role::{line, of_info, of_role};
use super::{Answers, words};
use crate::evidence::Role;

/// The most replicas that are kept of an answer; a master has a handful.
const REPLICAS: usize = 1000;

/// What a Redis says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its role.
    pub role: Role,
    /// The number of its process that it made up when it started, where it may be asked for that.
    pub run_id: Option<String>,
    /// How many bytes of the replication stream it has (`master_repl_offset`).
    pub offset: u64,
    /// How many bytes it had when it turned master (`second_repl_offset` - 1; Redis 4.0 and later), if it was a
    /// replica before.
    pub promoted_at: Option<u64>,
    /// The id of its stream (`master_replid`; Redis 4.0 and later).
    pub stream: Option<String>,
    /// The id of the stream that it followed until it turned master (`master_replid2`).
    pub stream_before: Option<String>,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// The master that it follows.
    pub follows: Option<Follows>,
    /// Its version, where it may be asked for that. Valkey gives the version of Redis that it is compatible with.
    pub version: Option<String>,
    /// The number of its process, as it sees it: in a container not as this host does.
    pub process: Option<u32>,
}

/// A replica as its master sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its address or its name.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Whether it has caught up and takes the stream. Where INFO may not be asked: always.
    pub online: bool,
    /// How many bytes it has acknowledged.
    pub offset: u64,
    /// How long ago it last acknowledged, in seconds, where INFO may be asked.
    pub lag_seconds: Option<u64>,
}

impl Replica {
    /// Returns whether it has loaded the master's data. A master calls it online as soon as it has sent that, and takes
    /// the newlines that come while it loads for a sign of life, so that its lag is 0 s; it acknowledges after that.
    pub fn has_data(&self) -> bool {
        self.online && self.offset > 0
    }
}

/// The master that a replica follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follows {
    /// Its address or its name.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Whether the link to it is up.
    pub link_up: bool,
    /// How many bytes came from it.
    pub offset: u64,
}

impl State {
    /// Asks for all of it. `known` is what the same connection said before: a process does not change its run id and
    /// its version.
    ///
    /// # Errors
    ///
    /// Why its role is not known.
    pub async fn ask(
        connection: &mut Connection,
        known: Option<&State>,
        until: Instant,
    ) -> Result<State, NoAnswer> {
        let mut questions = vec![words(&["ROLE"]), words(&["INFO", "replication"])];
        if known.is_none() {
            questions.push(words(&["INFO", "server"]));
        }
        let answers = connection.ask(&questions, until).await;
        let mut state = of_answers(answers)?;
        if let Some(known) = known {
            state.run_id.clone_from(&known.run_id);
            state.version.clone_from(&known.version);
            state.process = known.process;
        }
        Ok(state)
    }
}

impl State {
    /// Returns whether it was a replica of this one until it turned master.
    pub fn was_replica_of(&self, other: &State) -> bool {
        other.stream.is_some() && self.stream_before == other.stream
    }

    /// Returns whether it can pause writes (`CLIENT PAUSE … WRITE`, Redis 6.2), as far as its version is known.
    pub fn can_pause_writes(&self) -> bool {
        !self.version.as_deref().is_some_and(is_before_6_2)
    }
}

/// Whether a version is certainly older than 6.2, where `CLIENT PAUSE … WRITE` began.
fn is_before_6_2(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (6, 2),
        _ => false,
    }
}

fn of_answers(answers: Answers) -> Result<State, NoAnswer> {
    let mut answers = answers?.into_iter();
    let mut next = || {
        let none = || Err(NoAnswer::Unexpected("none".into()));
        answers.next().unwrap_or_else(none)
    };
    let (role, replication, server) = (next(), next(), next());
    read(role, replication, server.ok().as_ref())
}

/// Reads the answers to ROLE, INFO replication and INFO server. Where ROLE has been renamed away, or the user may not
/// ask it, INFO tells the role; where INFO may not be asked, ROLE tells what it can.
///
/// # Errors
///
/// Why its role is not known.
pub fn read(
    role: Result<Value, NoAnswer>,
    replication: Result<Value, NoAnswer>,
    server: Option<&Value>,
) -> Result<State, NoAnswer> {
    let word = match (&role, &replication) {
        (Ok(role), _) => of_role(role)?,
        (Err(NoAnswer::UnknownCommand(_) | NoAnswer::NotAllowed(_)), Ok(info)) => of_info(info)?,
        (Err(no), _) => return Err(no.clone()),
    };
    let server = server.and_then(text).unwrap_or_default();
    let mut state = State {
        role: word,
        run_id: line(&server, "run_id").map(str::to_owned),
        version: line(&server, "redis_version").map(str::to_owned),
        process: line(&server, "process_id").and_then(|number| number.parse().ok()),
        offset: 0,
        promoted_at: None,
        stream: None,
        stream_before: None,
        replicas: Vec::new(),
        follows: None,
    };
    match (replication.ok().as_ref().and_then(text), role) {
        (Some(info), _) => of_replication(&mut state, &info),
        (None, Ok(Value::Array(list))) => of_list(&mut state, &list),
        (None, _) => (),
    }
    Ok(state)
}

/// Fills in what INFO replication says.
fn of_replication(state: &mut State, info: &str) {
    let number = |key: &str| line(info, key)?.parse::<u64>().ok();
    state.offset = number("master_repl_offset").unwrap_or_default();
    // -1 where it never was a replica.
    state.promoted_at = number("second_repl_offset").and_then(|offset| offset.checked_sub(1));
    state.stream = line(info, "master_replid").map(str::to_owned);
    state.stream_before = line(info, "master_replid2").map(str::to_owned);
    let replicas = info.lines().filter_map(replica).take(REPLICAS);
    state.replicas = replicas.collect();
    if let (Some(host), Some(port)) = (line(info, "master_host"), number("master_port")) {
        state.follows = u16::try_from(port).ok().map(|port| Follows {
            host: host.to_owned(),
            port,
            link_up: line(info, "master_link_status") == Some("up"),
            offset: number("slave_repl_offset").unwrap_or_default(),
        });
    }
}

/// Reads `slave0:ip=10.0.0.2,port=6379,state=online,offset=42,lag=1`.
fn replica(line: &str) -> Option<Replica> {
    let (number, fields) = line.trim().strip_prefix("slave")?.split_once(':')?;
    number.parse::<u32>().ok()?;
    let field = |name: &str| {
        let mut fields = fields.split(',');
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Replica {
        host: field("ip")?.to_owned(),
        port: field("port")?.parse().ok()?,
        online: field("state") == Some("online"),
        offset: field("offset")?.parse().ok()?,
        lag_seconds: field("lag").and_then(|lag| lag.parse().ok()),
    })
}

/// Fills in what ROLE says: `master OFFSET [[HOST PORT OFFSET]…]` or `slave HOST PORT LINK OFFSET`.
fn of_list(state: &mut State, list: &[Value]) {
    let number = |value: &Value| text(value)?.parse::<u64>().ok();
    let port = |value: &Value| text(value)?.parse::<u16>().ok();
    match (&state.role, list) {
        (Role::Master, [_, offset, Value::Array(replicas), ..]) => {
            state.offset = number(offset).unwrap_or_default();
            let read = |replica: &Value| match replica {
                Value::Array(fields) => match fields.as_slice() {
                    [host, at, offset] => Some(Replica {
                        host: text(host)?,
                        port: port(at)?,
                        online: true,
                        offset: number(offset)?,
                        lag_seconds: None,
                    }),
                    _ => None,
                },
                _ => None,
            };
            state.replicas = replicas.iter().filter_map(read).take(REPLICAS).collect();
        }
        (Role::Replica, [_, host, at, link, offset]) => {
            state.offset = number(offset).unwrap_or_default();
            state.follows = text(host).zip(port(at)).map(|(host, port)| Follows {
                host,
                port,
                link_up: text(link).as_deref() == Some("connected"),
                offset: state.offset,
            });
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn denied() -> NoAnswer {
        NoAnswer::NotAllowed("NOPERM".into())
    }

    const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        slave0:ip=fd00::2,port=6379,state=online,offset=40,lag=1\r\nslave_x:1\r\n\
        master_repl_offset:42\r\nsecond_repl_offset:-1\r\n";

    #[test]
    fn a_master_tells_its_replicas_and_how_far_they_are() {
        let role = Value::Array(vec![said("master")]);
        let server = said("redis_version:7.0.15\r\nrun_id:abc\r\n");
        let state = read(Ok(role), Ok(said(MASTER)), Some(&server)).unwrap();
        assert_eq!(state.role, Role::Master);
        assert_eq!((state.offset, state.promoted_at), (42, None));
        assert_eq!(state.run_id.as_deref(), Some("abc"));
        assert_eq!(state.version.as_deref(), Some("7.0.15"));
        let replica = Replica {
            host: "fd00::2".into(),
            port: 6379,
            online: true,
            offset: 40,
            lag_seconds: Some(1),
        };
        assert_eq!(state.replicas, [replica]);
    }

    #[test]
    fn info_tells_the_role_where_role_may_not_be_asked_and_the_other_way() {
        let state = read(Err(denied()), Ok(said(MASTER)), None).unwrap();
        assert_eq!((state.role, state.offset), (Role::Master, 42));
        let list = [said("slave"), said("redis-1"), Value::Int(6379)];
        let list = list.into_iter().chain([said("connected"), Value::Int(7)]);
        let state = read(Ok(Value::Array(list.collect())), Err(denied()), None).unwrap();
        let follows = Follows {
            host: "redis-1".into(),
            port: 6379,
            link_up: true,
            offset: 7,
        };
        assert_eq!((state.role, state.follows), (Role::Replica, Some(follows)));
        let replica = Value::Array(vec![said("10.0.0.2"), said("6379"), said("41")]);
        let list = vec![said("master"), Value::Int(42), Value::Array(vec![replica])];
        let state = read(Ok(Value::Array(list)), Err(denied()), None).unwrap();
        assert_eq!((state.offset, state.replicas[0].offset), (42, 41));
        assert_eq!(read(Err(denied()), Err(denied()), None), Err(denied()));
    }

    #[test]
    fn writes_can_be_paused_from_6_2_on() {
        for old in ["3.2.8", "5.0.14", "6.0.16"] {
            assert!(is_before_6_2(old), "{old}");
        }
        for new in ["6.2.0", "7.0.15", "10.0.1", "unknown", ""] {
            assert!(!is_before_6_2(new), "{new}");
        }
    }

    #[test]
    fn a_promoted_replica_tells_how_many_bytes_it_had() {
        let info = "role:master\r\nmaster_repl_offset:90\r\nsecond_repl_offset:61\r\n";
        let state = read(Err(denied()), Ok(said(info)), None).unwrap();
        assert_eq!((state.offset, state.promoted_at), (90, Some(60)));
    }

    #[test]
    fn a_promoted_replica_tells_whose_it_was() {
        let state = |id: &str, before: &str| {
            let info = format!("role:master\r\nmaster_replid:{id}\r\nmaster_replid2:{before}\r\n");
            read(Err(denied()), Ok(said(&info)), None).unwrap()
        };
        let (old, new) = (state("aa", "00"), state("bb", "aa"));
        assert!(new.was_replica_of(&old) && !old.was_replica_of(&new));
        // Redis 3.2.8 tells neither.
        let untold = read(Err(denied()), Ok(said("role:master\r\n")), None).unwrap();
        assert!(!untold.was_replica_of(&untold));
    }
}
