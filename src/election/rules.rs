//! What follows from what the Sentinels answered: whether a failover may be asked for, of which Sentinel, and whether
//! that Sentinel was elected. Pure: no clock, no network.
//!
//! `SENTINEL FAILOVER` raises the epoch without asking anybody, and where two Sentinels are asked, two replicas become
//! masters of the same epoch, or no Redis stays a master at all. So the Sentinel that will be asked is elected first,
//! with the Sentinels' own votes (`sentinelVoteLeader` in sentinel.c: one vote for each epoch). A vote that is newer
//! than the newest failover is also the lock: each voter tells its last vote before it votes, and a voter that has
//! voted for another one meanwhile does not count. Two requesters have a voter in common, so that one of them fails,
//! whatever epochs they know.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::look::{Candidate, Look, Vote, Voted};
use super::names;
use crate::exit::Fault;
use crate::failover::Host;
use crate::text::escape;

/// What a replica that is selected must have (`sentinelSelectSlave` in sentinel.c): a PING answered in the last five
/// periods, and INFO no older than three periods of 10 s, or five of 1 s once the master counts as down.
const PING: Duration = Duration::from_secs(5);
const INFO: Duration = Duration::from_secs(30);

/// How many replicas that cannot be promoted are named, each with its reason.
const NAMED: usize = 4;

/// Flags of a master with which no failover is asked for: Sentinel is about to decide itself, or does already.
const BUSY: [&str; 3] = ["failover_in_progress", "s_down", "o_down"];

/// What the election is about.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// How many Sentinels must agree: more than half of the members, and no fewer than the quorum.
    pub needed: usize,
    /// The addresses of the master's host, as far as they are known. Its own Sentinel works, but that host may be going
    /// down, and would take a failover that has begun with it: it is asked only where there is no other.
    pub leaving: Vec<IpAddr>,
    /// Whether that is this host.
    pub is_here: bool,
    /// The replicas that lack little of what the master has, as the Sentinels name them; `None` where any will do.
    pub near: Option<Vec<String>>,
    /// How long at least every Sentinel must have until it decides itself, where that counts.
    pub ahead: Option<Duration>,
    /// Votes of which nothing has come for so long that their election is over. Each is named whole: another requester
    /// can have been given votes in the same epochs since.
    pub over: Vec<Vote>,
    /// Votes of others that have stood for so long that whoever wanted them has given up, or has asked the Sentinel that they
    /// are for ([`Terms::end_stood`]).
    pub stood: Vec<Vote>,
    /// The highest epoch in which this requester has had votes about any master: the Sentinels have one epoch for all
    /// of them, and tell it only once a failover has come of it, about 0.2 s later.
    pub taken: u64,
}

impl Terms {
    /// Counts votes that have stood for long as over where the Sentinel that they are for answers: if it has begun it has the
    /// flag of that, with which nothing is planned. One that does not answer may have begun.
    pub fn end_stood(&mut self, looks: &[Option<Look>]) {
        let answered: Vec<(usize, &Look)> = answered(looks);
        let run_ids = answered.iter().map(|(_, look)| run_id(look, &answered));
        let run_ids: Vec<String> = run_ids.flatten().collect();
        let stood = std::mem::take(&mut self.stood).into_iter();
        let over = stood.filter(|vote| run_ids.contains(&vote.leader));
        self.over.extend(over);
    }
}

fn answered(looks: &[Option<Look>]) -> Vec<(usize, &Look)> {
    let all = looks.iter().enumerate();
    all.filter_map(|(place, look)| Some((place, look.as_ref()?)))
        .collect()
}

/// The Sentinel that is to be asked, and the epoch in which it is elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its place among the Sentinels that were looked at.
    pub asked: usize,
    /// Its run id.
    pub run_id: String,
    /// The epoch of the first vote; the second is for the next one, which `SENTINEL FAILOVER` takes.
    pub epoch: u64,
    /// The number of the newest failover.
    pub config_epoch: u64,
    /// The replicas of which it will select one, the best first by what it knows now. Where there are several nobody knows
    /// which.
    pub replicas: Vec<String>,
}

/// How far above the highest known epoch the first vote is tried, one after another: failovers of other masters that
/// came to nothing have raised the Sentinels' current epoch, which no answer tells, and a vote in an older one is not
/// given.
pub const ABOVE: [u64; 4] = [0, 16, 1024, 65_536];

/// Returns whether the Sentinels gave no vote because the epoch was too old: none has a newer vote for another one.
pub fn is_too_old(terms: &Terms, plan: &Plan, votes: &[Option<Voted>]) -> bool {
    let mut voted = votes.iter().flatten();
    voted.all(|voted| is_free(terms, plan, &voted.before))
}

/// Returns whether a Sentinel with this vote may vote anew: what it voted for is over, or was the same, as one Sentinel
/// does not fail over twice at the same time.
fn is_free(terms: &Terms, plan: &Plan, vote: &Vote) -> bool {
    is_over(terms, plan.config_epoch, vote) || vote.leader == plan.run_id
}

/// Returns whether what a Sentinel with this vote voted for is over: a newer failover is known, or nothing came of it.
fn is_over(terms: &Terms, config_epoch: u64, vote: &Vote) -> bool {
    vote.epoch <= config_epoch || terms.over.contains(vote)
}

/// Which of the two votes is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Round {
    /// Of all, for the Sentinel that will be asked, which so takes the epoch for its own.
    First,
    /// Of the others, for the epoch that it takes next.
    Second,
    /// Nobody is voted for any more: whether the votes stand that were given.
    Still,
}

/// Why no failover is asked for, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// So many of so many answered in time.
    TooFew(usize, usize),
    /// Too few tell what is needed, as this one does not let the user of the configuration ask: the right that is missing.
    Withheld(String, &'static str),
    /// A majority does not name this master.
    OtherMaster,
    /// A Sentinel has this flag for the master.
    Busy(String, String),
    /// This Sentinel is about to decide itself.
    TooLate(String),
    /// A Sentinel has voted in this epoch, and no failover has come of it yet.
    Voted(u64),
    /// No Sentinel could be asked, or none would find a replica to promote, and why.
    NoSentinel(String),
    /// So many of the votes that were needed came.
    Lost(usize, usize),
    /// This process was stopped again and again since the votes: it is not known whether they stand.
    Stopped,
    /// The Sentinels took longer for the look and the votes than the votes are known to stand.
    TooSlow(Duration),
    /// Whoever wanted the failover does not want this one.
    Unwanted(Fault),
    /// It was elected and asked, and refused.
    Refused(String),
    /// It was elected and asked, and did not answer in time: it may have begun.
    Silent(String),
}

impl Refusal {
    /// Returns whether the request was sent: then no other one may follow soon.
    pub fn was_asked(&self) -> bool {
        matches!(self, Refusal::Refused(_) | Refusal::Silent(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooFew(answered, needed) => write!(
                f,
                "{answered} Sentinels answered in time, and {needed} are needed"
            ),
            Refusal::Withheld(who, right) => write!(
                f,
                "the user of the configuration lacks {right} at the Sentinel at {who}"
            ),
            Refusal::Unwanted(why) => f.write_str(why.cause()),
            Refusal::OtherMaster => f.write_str("a majority of the Sentinels names another master"),
            Refusal::Busy(who, flag) => {
                write!(
                    f,
                    "the Sentinel at {who} has the flag {} for it",
                    escape(flag)
                )
            }
            Refusal::TooLate(who) => {
                write!(f, "the Sentinel at {who} is about to decide itself")
            }
            Refusal::Voted(epoch) => write!(
                f,
                "a Sentinel has voted in epoch {epoch}, of which no failover has come yet"
            ),
            Refusal::NoSentinel(why) => write!(f, "no Sentinel could promote a replica: {why}"),
            Refusal::Lost(votes, needed) => write!(
                f,
                "{votes} Sentinels voted for the one to be asked, and {needed} are needed"
            ),
            Refusal::Stopped => f.write_str(
                "this process was stopped after the votes, so that it is not known whether they stand",
            ),
            Refusal::TooSlow(within) => write!(
                f,
                "the Sentinels took more than {} s for it, so that it is not known whether their votes stand",
                within.as_secs()
            ),
            Refusal::Refused(why) => write!(f, "the elected Sentinel refused: {why}"),
            Refusal::Silent(why) => write!(f, "the elected Sentinel did not answer: {why}"),
        }
    }
}

/// Returns which Sentinel is to be asked, and in which epoch it is to be elected. `None` stands for a Sentinel that did
/// not answer in time.
///
/// # Errors
///
/// Why Sentinel is to decide alone.
pub fn plan(terms: &Terms, looks: &[Option<Look>]) -> Result<Plan, Refusal> {
    let answered = answered(looks);
    if answered.len() < terms.needed {
        return Err(Refusal::TooFew(answered.len(), terms.needed));
    }
    let named = answered.iter().filter(|(_, look)| look.names_it).count();
    if named < terms.needed {
        return Err(Refusal::OtherMaster);
    }
    for (_, look) in &answered {
        let tilt = look
            .tilt
            .is_some_and(|tilt| tilt)
            .then(|| "tilt".to_owned());
        if let Some(flag) = busy(&look.flags).or(tilt) {
            return Err(Refusal::Busy(look.who.clone(), flag));
        }
    }
    if let Some((left, who)) = first_to_decide(terms, looks)
        && left.is_zero()
    {
        return Err(Refusal::TooLate(who));
    }
    let newest = |of: fn(&Look) -> u64| answered.iter().map(|(_, look)| of(look)).max();
    let newest = |of| newest(of).unwrap_or_default();
    let config_epoch = newest(|look| look.config_epoch);
    let newest_vote = newest(|look| look.vote.epoch);
    let votes = answered.iter().map(|(_, look)| &look.vote);
    let goes_on = votes.filter(|vote| !is_over(terms, config_epoch, vote));
    if let Some(epoch) = goes_on.map(|vote| vote.epoch).max() {
        return Err(Refusal::Voted(epoch));
    }
    // Of every master: a Sentinel has one current epoch for all.
    let highest = newest(|look| look.highest_epoch).max(terms.taken);
    let over = terms.over.iter().map(|vote| vote.epoch).max();
    let over = over.unwrap_or_default();
    let epoch = 1 + highest.max(newest_vote).max(config_epoch).max(over);
    let (asked, run_id, replicas) = choose(terms, &answered)?;
    Ok(Plan {
        asked,
        run_id,
        epoch,
        config_epoch,
        replicas,
    })
}

/// Returns which Sentinel would decide itself first, and how long after it was looked at nothing may be asked for any
/// more; `None` where that does not count.
pub fn first_to_decide(terms: &Terms, looks: &[Option<Look>]) -> Option<(Duration, String)> {
    let ahead = terms.ahead?;
    let left = |look: &Look| look.down_after.saturating_sub(look.silent + ahead);
    let answered = looks.iter().flatten();
    answered.map(|look| (left(look), look.who.clone())).min()
}

/// Chooses among the Sentinels that could do it, always the same of the same: two requesters that choose alike do no
/// harm.
fn choose(
    terms: &Terms,
    answered: &[(usize, &Look)],
) -> Result<(usize, String, Vec<String>), Refusal> {
    let mut why = String::new();
    let is_leaving = |at: IpAddr| terms.leaving.contains(&at) || terms.is_here && at.is_loopback();
    // A Sentinel may be asked on another address of its host than where the master, or the others, know that host.
    let is_known_there = |run_id: &str| {
        let listed = answered.iter().flat_map(|(_, look)| &look.sentinels);
        let mut listed = listed.filter(|one| one.run_id.as_deref() == Some(run_id));
        let mut asked = answered.iter().map(|(_, look)| look);
        listed.any(|one| match names::read(&one.at).map(|at| at.host) {
            Some(Host::Address(at)) => is_leaving(at),
            Some(Host::Name(_)) | None => false,
        }) || asked.any(|look| {
            look.run_id.as_deref() == Some(run_id) && look.address.map_or(terms.is_here, is_leaving)
        })
    };
    let mut able: Vec<(bool, String, (usize, Vec<String>))> = Vec::new();
    for (place, look) in answered {
        let who = &look.who;
        match (look.tilt, selected(terms, look), run_id(look, answered)) {
            (None, ..) => {
                why = format!("{who} does not tell whether it is in TILT mode (+info)");
            }
            (_, Err(reason), _) => why = format!("{who}: {reason}"),
            (_, _, None) => why = format!("nobody tells the run id of {who}"),
            (_, Ok(replicas), Some(run_id)) => {
                let is_asked_there = look.address.map_or(terms.is_here, is_leaving);
                let leaves = is_asked_there || is_known_there(&run_id);
                able.push((leaves, run_id, (*place, replicas)));
            }
        }
    }
    let first = able.into_iter().min();
    let (_, run_id, (place, replicas)) = first.ok_or(Refusal::NoSentinel(why))?;
    Ok((place, run_id, replicas))
}

/// Returns a Sentinel's run id: as it says itself (`SENTINEL MYID`, Redis 6.2), or as the others list it.
fn run_id(look: &Look, answered: &[(usize, &Look)]) -> Option<String> {
    let listed = answered.iter().flat_map(|(_, other)| &other.sentinels);
    let mut listed = listed.filter(|one| one.at == look.who);
    let listed = listed.find_map(|one| one.run_id.clone());
    look.run_id.clone().or(listed)
}

/// Returns the replicas of which this Sentinel will select one, the best first by what it knows now: the lowest priority,
/// then the highest offset, then the smallest run id (`compareSlavesForPromotion` in sentinel.c). Of those with the lowest
/// priority any may be the best by then: an offset is as old as the last INFO, up to ten seconds, and as it begins the
/// Sentinel asks those anew whose INFO is older than a second.
fn selected(terms: &Terms, look: &Look) -> Result<Vec<String>, String> {
    let mut unfit = Vec::new();
    let mut able: Vec<&Candidate> = Vec::new();
    for one in &look.replicas {
        match cannot_be_selected(one) {
            None => able.push(one),
            Some(reason) => unfit.push(format!("{} {reason}", one.at)),
        }
    }
    // One that tells no run id (Redis 2.8 and older) comes last, and case does not count.
    able.sort_by_cached_key(|of| {
        let id = of.run_id.to_ascii_lowercase();
        (of.priority, u64::MAX - of.offset, id.is_empty(), id)
    });
    let first = able.first().ok_or_else(|| match unfit.as_slice() {
        [] => "it knows no replica".to_owned(),
        unfit => unfit[..unfit.len().min(NAMED)].join(", "),
    })?;
    let is_near = |one: &Candidate| {
        let near = terms.near.as_ref();
        near.map(|near| near.contains(&one.at))
    };
    let lacks = match is_near(first) {
        Some(near) => (!near).then_some("lacks what the master has"),
        // Sentinel selects one whose link has been down for up to ten times down-after-milliseconds. A link to a master
        // that has died is down, and the replica has what it had.
        None => (!first.link_is_up).then_some("has no link to the master"),
    };
    if let Some(why) = lacks {
        return Err(format!("it would select {}, which {why}", first.at));
    }
    // One that follows nobody has come no further by then.
    let may_be = |one: &&&Candidate| {
        one.priority == first.priority && (one.link_is_up || is_near(one) == Some(true))
    };
    Ok(able
        .iter()
        .filter(may_be)
        .map(|one| one.at.clone())
        .collect())
}

fn cannot_be_selected(one: &Candidate) -> Option<String> {
    let down = ["s_down", "o_down", "disconnected"];
    if let Some(flag) = one.flags.iter().find(|flag| down.contains(&flag.as_str())) {
        return Some(format!("has the flag {flag}"));
    }
    if one.priority == 0 {
        return Some("has priority 0, so that it is never promoted".into());
    }
    if one.answered > PING {
        return Some("has not answered a PING for more than 5 s".into());
    }
    (one.told > INFO).then(|| "has not told of itself for more than 30 s".into())
}

fn busy(flags: &[String]) -> Option<String> {
    let mut flags = flags.iter();
    flags.find(|flag| BUSY.contains(&flag.as_str())).cloned()
}

/// Returns whether the Sentinel of the plan is elected by these votes; `None` stands for a Sentinel that did not answer
/// in time.
///
/// # Errors
///
/// Why it is not: too few votes, or something began meanwhile.
pub fn is_elected(
    terms: &Terms,
    plan: &Plan,
    round: Round,
    votes: &[Option<Voted>],
) -> Result<(), Refusal> {
    let mut won = 0;
    for (place, voted) in votes.iter().enumerate() {
        let Some(voted) = voted else { continue };
        if let Some(flag) = busy(&voted.flags) {
            return Err(Refusal::Busy(voted.who.clone(), flag));
        }
        if voted.config_epoch > plan.config_epoch {
            return Err(Refusal::OtherMaster);
        }
        if is_for(terms, plan, (round, place), voted) {
            won += 1;
        }
    }
    // Without its own vote its epoch is unknown, and so is the epoch that it takes next.
    let own = votes.get(plan.asked).and_then(Option::as_ref);
    let has_own = own.is_some_and(|voted| is_for(terms, plan, (round, plan.asked), voted));
    match has_own && won >= terms.needed {
        true => Ok(()),
        false => Err(Refusal::Lost(won, terms.needed)),
    }
}

fn is_for(terms: &Terms, plan: &Plan, (round, place): (Round, usize), voted: &Voted) -> bool {
    let is_first = Vote::new(&plan.run_id, plan.epoch);
    let is_next = Vote::new(&plan.run_id, plan.epoch + 1);
    match round {
        Round::First => voted.now == is_first && is_free(terms, plan, &voted.before),
        Round::Second | Round::Still if place == plan.asked => voted.now == is_first,
        Round::Second => voted.now == is_next && voted.before == is_first,
        Round::Still => voted.now == is_next,
    }
}
