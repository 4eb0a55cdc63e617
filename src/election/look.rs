//! What a Sentinel says of a master before a failover is asked for, and how it answers a request for its vote.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::evidence::Site;
use crate::few;
use crate::gather::sites::endpoint;
use crate::redis::reply::{Value, field, text};
use crate::redis::{self, MasterAddress, NoAnswer, Words, words};

/// A vote of a Sentinel (`leader` and `leader_epoch` in sentinel.c).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The run id of the Sentinel that it voted for; empty where it never voted.
    pub leader: String,
    /// In which epoch.
    pub epoch: u64,
}

impl Vote {
    /// Returns the vote for a Sentinel in an epoch.
    pub fn new(leader: &str, epoch: u64) -> Vote {
        Vote {
            leader: leader.to_owned(),
            epoch,
        }
    }
}

/// What one Sentinel says.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where it was asked.
    pub who: String,
    /// Its address; `None` for a Unix socket, which is on this host.
    pub address: Option<IpAddr>,
    /// Its run id, where it tells it.
    pub run_id: Option<String>,
    /// Whether it names the master that the failover is about.
    pub names_it: bool,
    /// The master as it calls it.
    pub master: MasterAddress,
    /// The master's flags.
    pub flags: Vec<String>,
    /// The number of the newest failover of this master.
    pub config_epoch: u64,
    /// The highest number of a failover of any master.
    pub highest_epoch: u64,
    /// Its last vote about this master.
    pub vote: Vote,
    /// Whether it is in TILT mode, in which it begins nothing, where it may be asked for that.
    pub tilt: Option<bool>,
    /// The replicas.
    pub replicas: Vec<Candidate>,
    /// The other Sentinels.
    pub sentinels: Vec<Listed>,
    /// How long a master must be silent until it counts as down.
    pub down_after: Duration,
    /// How long ago the master answered it last.
    pub silent: Duration,
}

/// A replica, as a Sentinel sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it is.
    pub at: String,
    /// Its run id.
    pub run_id: String,
    /// Its flags.
    pub flags: Vec<String>,
    /// Whether its link to the master is up, by its last INFO.
    pub link_is_up: bool,
    /// Its priority: lower is better, 0 is never.
    pub priority: u64,
    /// How far it has come in the master's stream, in bytes.
    pub offset: u64,
    /// Whether it says that it is a replica, by its last INFO.
    pub follows: bool,
    /// How long ago it answered a PING.
    pub answered: Duration,
    /// How long ago it answered INFO.
    pub told: Duration,
}

/// A Sentinel in the list of another one.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it is.
    pub at: String,
    /// Its run id.
    pub run_id: Option<String>,
}

/// What a Sentinel answered to the request for its vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voted {
    /// Where it was asked.
    pub who: String,
    /// Its last vote before.
    pub before: Vote,
    /// Its vote now. That of the Sentinel to be asked, in the second round: the same.
    pub now: Vote,
    /// The master's flags there.
    pub flags: Vec<String>,
    /// The number of the newest failover that it knows.
    pub config_epoch: u64,
}

/// What all Sentinels said.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// What each said; `None` where it did not answer in time, or not all that is needed.
    pub looks: Vec<Option<Look>>,
    /// The Sentinels that do not let this user ask, and the right that it lacks there.
    pub withheld: Vec<(String, &'static str)>,
}

impl Looked {
    /// Adds what a Sentinel said, `None` where it did not answer.
    pub fn add(&mut self, who: String, said: Option<Result<Look, Unread>>) {
        if let Some(Err(Unread::Withheld(right))) = said {
            self.withheld.push((who, right));
        }
        self.looks.push(said.and_then(Result::ok));
    }

    /// Returns every replica, as the Sentinels call it.
    pub fn replicas(&self) -> Vec<String> {
        let looks = self.looks.iter().flatten();
        let all = looks.flat_map(|look| look.replicas.iter().map(|one| one.at.clone()));
        let all: BTreeSet<String> = few::set(all);
        all.into_iter().collect()
    }
}

/// Why an answer tells too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The user lacks this right, as an ACL names it.
    Withheld(&'static str),
    /// It is not what a Sentinel that monitors the master answers.
    Other,
}

/// The right that each of the questions of a look needs.
const RIGHTS: [&str; 8] = [
    "+sentinel|get-master-addr-by-name",
    "+sentinel|master",
    "+sentinel|slaves",
    "+sentinel|sentinels",
    "+sentinel|masters",
    "+sentinel|myid",
    "+info",
    "+sentinel|is-master-down-by-addr",
];

/// Those of them without which there is no election.
const NEEDED: [usize; 5] = [0, 1, 2, 3, 7];

/// Returns what a Sentinel is asked, all at once.
pub fn questions(name: &str, master: &Site) -> Vec<Words> {
    let of = |what: &str| words(&["SENTINEL", what, name]);
    vec![
        of("get-master-addr-by-name"),
        of("MASTER"),
        of("SLAVES"),
        of("SENTINELS"),
        words(&["SENTINEL", "MASTERS"]),
        words(&["SENTINEL", "MYID"]),
        words(&["INFO", "sentinel"]),
        // In epoch 0 nobody is voted for: it tells the last vote.
        last_vote(master),
    ]
}

/// No Sentinel has this run id.
const NOBODY: &str = "0000000000000000000000000000000000000000";

fn address_of(master: &Site) -> MasterAddress {
    MasterAddress {
        host: master.endpoint.host.to_string(),
        port: master.endpoint.port,
    }
}

/// Returns the request for a vote (`SENTINEL IS-MASTER-DOWN-BY-ADDR ip port epoch runid`): answered whether or not the
/// master counts as down, with the last vote where there is no vote in this epoch.
fn vote_question(master: &MasterAddress, epoch: u64, run_id: &str) -> Words {
    let (port, epoch) = (master.port.to_string(), epoch.to_string());
    let what = "IS-MASTER-DOWN-BY-ADDR";
    words(&["SENTINEL", what, &master.host, &port, &epoch, run_id])
}

/// Returns the question for a Sentinel's last vote about a master: it votes for nobody.
pub fn last_vote(master: &Site) -> Words {
    vote_question(&address_of(master), 0, NOBODY)
}

/// Returns the questions of an election: the last vote, a vote in this epoch if one is wanted, and how the master stands.
pub fn election_questions(
    name: &str,
    master: &MasterAddress,
    (epoch, run_id): (Option<u64>, &str),
) -> Vec<Words> {
    let wanted = epoch.unwrap_or_default();
    vec![
        vote_question(master, 0, run_id),
        vote_question(master, wanted, run_id),
        words(&["SENTINEL", "MASTER", name]),
    ]
}

/// Returns the request to begin a failover.
pub fn to_begin(name: &str) -> Words {
    words(&["SENTINEL", "FAILOVER", name])
}

/// Reads the answers to [`election_questions`].
pub fn read_voted(who: String, answers: Vec<Result<Value, NoAnswer>>) -> Option<Voted> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next()?.ok();
    let (before, now, described) = (next()?, next()?, next()?);
    Some(Voted {
        who,
        before: vote(&before)?,
        now: vote(&now)?,
        flags: flags(&described),
        config_epoch: config_epoch(&described)?,
    })
}

/// Reads the answers to [`questions`].
///
/// # Errors
///
/// Why they do not tell what is needed.
pub fn read(
    from: (String, Option<IpAddr>),
    master: &Site,
    answers: Vec<Result<Value, NoAnswer>>,
) -> Result<Look, Unread> {
    if answers.len() < RIGHTS.len() {
        return Err(Unread::Other);
    }
    let is_withheld = |place: &usize| matches!(answers[*place], Err(NoAnswer::NotAllowed(_)));
    if let Some(place) = NEEDED.into_iter().find(is_withheld) {
        return Err(Unread::Withheld(RIGHTS[place]));
    }
    read_all(from, master, answers).ok_or(Unread::Other)
}

fn read_all(
    (who, address): (String, Option<IpAddr>),
    master: &Site,
    answers: Vec<Result<Value, NoAnswer>>,
) -> Option<Look> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().and_then(Result::ok);
    let [named, described, replicas, sentinels] = [(); 4].map(|()| next());
    let [masters, own_id, info, voted] = [(); 4].map(|()| next());
    let named = redis::readers::read_address(Ok(named?)).ok()?;
    let described = described?;
    Some(Look {
        who,
        address,
        run_id: own_id.as_ref().and_then(text),
        names_it: is_it(&named, master),
        master: named,
        flags: flags(&described),
        config_epoch: config_epoch(&described)?,
        highest_epoch: highest(masters.as_ref()),
        vote: vote(&voted?)?,
        tilt: info.as_ref().and_then(text).and_then(|text| tilt(&text)),
        replicas: list(replicas?).iter().filter_map(candidate).collect(),
        sentinels: list(sentinels?).iter().filter_map(listed).collect(),
        down_after: time(&described, "down-after-milliseconds")?,
        silent: time(&described, "last-ok-ping-reply")?,
    })
}

/// Returns whether a Sentinel's words mean this Redis.
fn is_it(named: &MasterAddress, master: &Site) -> bool {
    let Ok(endpoint) = endpoint(&named.host, named.port) else {
        return false;
    };
    let address = named.host.parse::<IpAddr>().ok();
    let is_its = address.is_some_and(|at| master.addresses.contains(&at.to_canonical()));
    endpoint.port == master.endpoint.port && (endpoint.host == master.endpoint.host || is_its)
}

/// Reads `INFO sentinel`.
fn tilt(info: &str) -> Option<bool> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == "sentinel_tilt")?;
    Some(value.trim() != "0")
}

fn config_epoch(described: &Value) -> Option<u64> {
    possible(number(described, "config-epoch")?)
}

/// Returns the number of a failover if there can be one after it. Each raises it by one, so that no site comes that far;
/// Sentinel reads it in a request as a signed one of 64 bits (`getLongLongFromObjectOrReply` in sentinel.c).
fn possible(epoch: u64) -> Option<u64> {
    (epoch <= u64::MAX / 4).then_some(epoch)
}

fn highest(masters: Option<&Value>) -> u64 {
    let Some(Value::Array(masters)) = masters else {
        return 0;
    };
    let epochs = masters.iter().filter_map(config_epoch);
    epochs.max().unwrap_or_default()
}

/// Reads the answer to [`last_vote`].
pub fn vote(answer: &Value) -> Option<Vote> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [_, leader, Value::Int(epoch)] = parts.as_slice() else {
        return None;
    };
    let leader = text(leader).filter(|leader| leader != "*");
    Some(Vote {
        leader: leader.unwrap_or_default(),
        epoch: possible(u64::try_from(*epoch).ok()?)?,
    })
}

fn list(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn candidate(described: &Value) -> Option<Candidate> {
    Some(Candidate {
        at: at(described)?,
        run_id: field(described, "runid").unwrap_or_default(),
        flags: flags(described),
        link_is_up: field(described, "master-link-status").as_deref() == Some("ok"),
        priority: number(described, "slave-priority")?,
        offset: number(described, "slave-repl-offset").unwrap_or_default(),
        follows: field(described, "role-reported").as_deref() == Some("slave"),
        answered: time(described, "last-ok-ping-reply")?,
        told: time(described, "info-refresh")?,
    })
}

fn listed(described: &Value) -> Option<Listed> {
    Some(Listed {
        at: at(described)?,
        run_id: field(described, "runid").filter(|id| !id.is_empty()),
    })
}

/// Returns where an instance is, as events and replicas' lists show it, too.
fn at(described: &Value) -> Option<String> {
    let port = field(described, "port")?.parse().ok()?;
    let endpoint = endpoint(&field(described, "ip")?, port).ok()?;
    Some(endpoint.to_string())
}

fn flags(described: &Value) -> Vec<String> {
    let flags = field(described, "flags").unwrap_or_default();
    flags.split(',').map(str::to_owned).collect()
}

fn number(described: &Value, name: &str) -> Option<u64> {
    field(described, name)?.parse().ok()
}

fn time(described: &Value, name: &str) -> Option<Duration> {
    number(described, name).map(Duration::from_millis)
}
