//! Has a failover begun by one Sentinel that the others have elected for it: at once when a Redis has died, or when an
//! operator wants it. [`rules`] decides each step from what was answered; this asks. Whom the VIP belongs to is
//! decided elsewhere, by the same evidence as in any failover.

mod leaving;
pub mod look;
pub mod names;
pub mod rights;
pub mod rules;

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

pub use self::leaving::leaving;
pub use self::look::{Candidate, Look, Looked};
use self::look::{Vote, election_questions, questions, read, read_voted, to_begin};
use self::rules::ABOVE;
pub use self::rules::{Plan, Refusal, Round, Terms};
use crate::evidence::Site;
use crate::exit::Fault;
use crate::hosts::Kept;
use crate::redis::{self, Endpoint, Lines, NoAnswer, Server, Value, Words};

/// How long each step may take when a Redis has died: Sentinel itself decides after `down-after-milliseconds`.
pub const QUICK: Duration = Duration::from_millis(50);

/// How long each step may take when nothing presses.
pub const PATIENT: Duration = Duration::from_secs(1);

/// How much longer than a look a round of votes may take: a Sentinel writes each new epoch and each vote to its disk
/// before it answers (`sentinelFlushConfig` in sentinel.c), which took 60 ms on a busy one.
const WRITTEN: u32 = 4;

/// How much longer than the needed ones the others are waited for: a Sentinel that hangs holds nothing up.
const OTHERS: Duration = Duration::from_millis(10);

/// How long after the votes were asked for the request is sent without a further look (or as long as a step may take,
/// where that is longer), and how often is looked again.
const FRESH: Duration = Duration::from_millis(500);
const TRIES: usize = 3;

/// How long after the first look the request may be sent: whoever finds that nothing has come of votes for
/// [`NOTHING_CAME`] holds the next election, and counts them as over.
const WITHIN: Duration = Duration::from_secs(4);

/// How long nothing has to come of votes, or of a request, until it is over.
pub const NOTHING_CAME: Duration = Duration::from_secs(5);

/// A failover that is wanted.
pub struct Request<'a> {
    /// The master-name.
    pub name: &'a str,
    /// The master, as a majority of the Sentinels names it.
    pub master: &'a Site,
    /// How every Sentinel is asked.
    pub ways: &'a [Server],
    /// What the election is about.
    pub terms: Terms,
    /// How long each step may take.
    pub step: Duration,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The Sentinel that is to be asked has the votes for it.
    Elected(Plan),
    /// It has begun.
    Begun,
}

/// Whether to go on once a Sentinel is elected, or why it is not to be asked after all.
pub type GoOn = Result<(), Fault>;

/// An election that came to nothing, or a request that did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub why: Refusal,
    /// The votes that were asked for.
    pub votes: Vec<Vote>,
}

impl Looked {
    /// Returns which Sentinel is to be asked: see [`rules::plan`].
    ///
    /// # Errors
    ///
    /// Why Sentinel is to decide alone; where too few answered, the right that is missing, if one is.
    pub fn plan(&self, terms: &Terms) -> Result<Plan, Refusal> {
        rules::plan(terms, &self.looks).map_err(|no| match (&no, self.withheld.first()) {
            (Refusal::TooFew(..), Some((who, right))) => Refusal::Withheld(who.clone(), right),
            _ => no,
        })
    }
}

/// Asks every Sentinel how the master stands.
pub async fn look(request: &Request<'_>, lines: &Lines) -> Looked {
    let until = Instant::now() + request.step;
    let questions = questions(request.name, request.master);
    let all = request
        .ways
        .iter()
        .map(|server| Some((server, questions.clone())));
    let read = |server: &Server, answers| read(named(server), request.master, answers);
    let said = ask_all(all, lines, (until, request), None, (read, Result::is_ok)).await;
    let mut looked = Looked::default();
    for (server, said) in request.ways.iter().zip(said) {
        looked.add(server.endpoint.to_string(), said);
    }
    looked
}

/// Holds the election, and has the elected Sentinel begin the failover. Returns the plan that was carried out, and every
/// vote that may have been given for it. What is done about its progress is waited for: the votes hold until another failover, so that the request may come a moment
/// later, or not at all.
///
/// # Errors
///
/// Why no failover was asked for, or what the Sentinel answered that was asked ([`Refusal::was_asked`]).
pub async fn hold(
    request: &Request<'_>,
    lines: &Lines,
    mut progress: impl AsyncFnMut(Progress) -> GoOn,
) -> Result<(Plan, Vec<Vote>), Failed> {
    let began = Instant::now();
    let looked = look(request, lines).await;
    let mut terms = with_names(&request.terms, &looked, (&lines.names, request.step)).await;
    terms.end_stood(&looked.looks);
    let request = &Request { terms, ..*request };
    let failed = |votes: &[Vote]| {
        let votes = votes.to_vec();
        |why: Refusal| Failed { why, votes }
    };
    let mut plan = looked.plan(&request.terms).map_err(failed(&[]))?;
    let mut asked_for = Vec::new();
    let looks = looked.looks;
    let server = &request.ways[plan.asked];
    let known = plan.epoch;
    let mut first = Err(Refusal::Lost(0, request.terms.needed));
    let mut voted = began;
    for above in ABOVE {
        plan.epoch = known + above;
        voted = Instant::now();
        asked_for.push(Vote::new(&plan.run_id, plan.epoch));
        let votes = votes(request, (&plan, Round::First), &looks, lines).await;
        first = rules::is_elected(&request.terms, &plan, Round::First, &votes);
        let is_lost = matches!(first, Err(Refusal::Lost(..)));
        if !is_lost || !rules::is_too_old(&request.terms, &plan, &votes) {
            break;
        }
    }
    first.map_err(failed(&asked_for))?;
    // This process was stopped: the votes are not known to stand.
    if voted.elapsed() > FRESH.max(WRITTEN * request.step) {
        return Err(failed(&asked_for)(Refusal::Stopped));
    }
    // Its own as it begins, too.
    asked_for.push(Vote::new(&plan.run_id, plan.epoch + 1));
    let failed = |why: Refusal| failed(&asked_for)(why);
    voted = Instant::now();
    let second = votes(request, (&plan, Round::Second), &looks, lines).await;
    rules::is_elected(&request.terms, &plan, Round::Second, &second).map_err(failed)?;
    let goes_on = progress(Progress::Elected(plan.clone())).await;
    goes_on.map_err(|why| failed(Refusal::Unwanted(why)))?;
    // The moment was waited for, or this process was stopped: Sentinel may have decided meanwhile.
    let fresh = FRESH.max(request.step);
    for _ in 0..TRIES {
        if voted.elapsed() > fresh {
            voted = Instant::now();
            let still = votes(request, (&plan, Round::Still), &looks, lines).await;
            rules::is_elected(&request.terms, &plan, Round::Still, &still).map_err(failed)?;
        }
    }
    if voted.elapsed() > fresh {
        return Err(failed(Refusal::Stopped));
    }
    if began.elapsed() > WITHIN {
        return Err(failed(Refusal::TooSlow(WITHIN)));
    }
    if let Some((left, who)) = rules::first_to_decide(&request.terms, &looks)
        && began.elapsed() >= left
    {
        return Err(failed(Refusal::TooLate(who)));
    }
    begin(request, server, lines).await.map_err(&failed)?;
    // It has begun, whatever is thought of it now.
    let _ = progress(Progress::Begun).await;
    Ok((plan, asked_for))
}

/// Returns the last vote of a Sentinel about each of these masters, where it tells.
pub async fn votes_given(
    server: &Server,
    masters: &[&Site],
    lines: &Lines,
    within: Duration,
) -> Vec<Option<Vote>> {
    let questions: Vec<Words> = masters
        .iter()
        .map(|master| look::last_vote(master))
        .collect();
    let answers = redis::ask(server, lines, &questions, within).await;
    let read = |answer: Result<Value, NoAnswer>| look::vote(&answer.ok()?);
    answers.unwrap_or_default().into_iter().map(read).collect()
}

/// Returns the terms with the replicas by the Sentinels' names for them.
async fn with_names(terms: &Terms, looked: &Looked, by: (&Kept, Duration)) -> Terms {
    let Some(near) = &terms.near else {
        return terms.clone();
    };
    let named = looked.replicas();
    Terms {
        near: Some(names::as_named(near, &named, by).await),
        ..terms.clone()
    }
}

async fn votes(
    request: &Request<'_>,
    (plan, round): (&Plan, Round),
    looks: &[Option<Look>],
    lines: &Lines,
) -> Vec<Option<look::Voted>> {
    let until = Instant::now() + WRITTEN * request.step;
    let epoch = |place: usize| match round {
        Round::First => Some(plan.epoch),
        // Its own next epoch is what the request to begin takes.
        Round::Second if place == plan.asked => None,
        Round::Second => Some(plan.epoch + 1),
        Round::Still => None,
    };
    let each = request.ways.iter().zip(looks).enumerate();
    let each = each.map(|(place, (server, look))| {
        let master = &look.as_ref()?.master;
        let wanted = (epoch(place), plan.run_id.as_str());
        Some((server, election_questions(request.name, master, wanted)))
    });
    let read = |server: &Server, answers| read_voted(server.endpoint.to_string(), answers);
    let how = (read, Option::is_some as fn(&_) -> bool);
    let said = ask_all(each, lines, (until, request), Some(plan.asked), how).await;
    said.into_iter().map(Option::flatten).collect()
}

/// Asks once, and nobody else whatever comes of it: it may have begun where the connection ends before an answer. The
/// answer is waited for longer than a step: it decides nothing any more, and tells what is written to the log.
async fn begin(request: &Request<'_>, server: &Server, lines: &Lines) -> Result<(), Refusal> {
    let question = [to_begin(request.name)];
    match redis::ask_once(server, lines, &question, request.step.max(PATIENT)).await {
        Ok(mut answers) => match answers.pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(no)) => Err(Refusal::Refused(no.to_string())),
            None => Err(Refusal::Silent("nothing came".into())),
        },
        Err(no) => Err(Refusal::Silent(no.to_string())),
    }
}

type Answers = Vec<Result<Value, NoAnswer>>;

/// Asks all at once, and has each one's answers read. Waits for every one until then, and only a moment longer than it
/// takes so many to tell what is wanted as are needed, this one among them if there is one, for which they vote: without
/// its own vote none is elected.
async fn ask_all<'a, T>(
    all: impl Iterator<Item = Option<(&'a Server, Vec<Words>)>>,
    lines: &Lines,
    (until, request): (Instant, &Request<'_>),
    this: Option<usize>,
    (read, tells): (impl Fn(&Server, Answers) -> T, fn(&T) -> bool),
) -> Vec<Option<T>> {
    let mut told = Vec::new();
    let mut asked = FuturesUnordered::new();
    for (place, one) in all.enumerate() {
        told.push(None);
        let Some((server, questions)) = one else {
            continue;
        };
        asked.push(async move {
            let within = until.saturating_duration_since(Instant::now());
            let said = match this {
                None => redis::ask(server, lines, &questions, within).await,
                // A voter that is asked again has voted: whom it had voted for before is lost with the first answer.
                Some(_) => redis::ask_once(server, lines, &questions, within).await,
            };
            (place, server, said)
        });
    }
    let mut until = until;
    while let Ok(Some((place, server, said))) = timeout_at(until, asked.next()).await {
        let Ok(said) = said else { continue };
        told[place] = Some(read(server, said));
        let has_told = |one: &Option<T>| one.as_ref().is_some_and(tells);
        let enough = told.iter().filter(|one| has_told(one)).count() >= request.terms.needed;
        if enough && this.is_none_or(|this| has_told(&told[this])) {
            until = until.min(Instant::now() + OTHERS);
        }
    }
    told
}

fn named(server: &Server) -> (String, Option<IpAddr>) {
    let address = match &server.endpoint {
        Endpoint::Tcp(at) => Some(at.ip().to_canonical()),
        Endpoint::Unix(_) => None,
    };
    (server.endpoint.to_string(), address)
}

#[cfg(test)]
pub(crate) mod hold_tests;
#[cfg(test)]
mod tests;
