//! An agent's election of the Sentinel that is to fail over from its dead Redis: what `election::hold` does, round trip
//! by round trip, with the program's own rules. Requests and answers are late or lost as the links have it.

use std::time::Duration;

use vipswitch::election::look::{Look, Vote, Voted};
use vipswitch::election::rules::{self, ABOVE};
use vipswitch::election::{Plan, QUICK, Refusal, Round, Terms};

use crate::cluster::{Cluster, HOSTS, Host, Link, link, ms};
use crate::sentinel::votes::place;

/// How much longer than the needed ones the others are waited for.
const OTHERS: Duration = ms(10);

/// A Sentinel writes its vote to its disk before it answers.
const WRITTEN: u32 = 4;

/// How late a request may be that is late.
const LATE: u64 = 400;

/// What comes of it in the end: the Sentinel that was asked, or why none was and whether it may have begun.
pub type Asked = Result<String, (String, bool)>;

/// Which answers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Looks,
    Votes(Round),
}

/// What happens in it next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A question arrives at a Sentinel.
    Reaches(Host),
    /// The answers are counted; whether nobody is waited for any longer.
    Counts(bool),
    /// The request to fail over arrives.
    Begins,
}

/// What is to happen when, and that it belongs to this round.
pub type Later = (Duration, u32, Step);

/// An election that goes on.
pub struct Election {
    by: Host,
    dead: Host,
    terms: Terms,
    stage: Stage,
    /// Counts the rounds: what belongs to an earlier one comes too late.
    round: u32,
    looks: [Option<Look>; HOSTS],
    votes: [Option<Voted>; HOSTS],
    plan: Option<Plan>,
    /// The highest epoch that was known, and which of [`ABOVE`] is tried.
    known: u64,
    above: usize,
    /// A flaw.
    pub asks_without_votes: bool,
}

impl Election {
    /// Begins one.
    pub fn new(
        by: Host,
        dead: Host,
        terms: Terms,
        cluster: &mut Cluster,
    ) -> (Election, Vec<Later>) {
        let mut election = Election {
            by,
            dead,
            terms,
            stage: Stage::Looks,
            round: 0,
            looks: Default::default(),
            votes: Default::default(),
            plan: None,
            known: 0,
            above: 0,
            asks_without_votes: false,
        };
        let later = election.ask_all(cluster);
        (election, later)
    }

    fn ask_all(&mut self, cluster: &mut Cluster) -> Vec<Later> {
        self.round += 1;
        self.votes = Default::default();
        let longest = match self.stage {
            Stage::Looks => QUICK,
            Stage::Votes(_) => QUICK * WRITTEN,
        };
        let mut later = Vec::new();
        for sentinel in 0..HOSTS {
            // Only those that were looked at are asked for a vote.
            if self.stage == Stage::Looks || self.looks[sentinel].is_some() {
                let moment = ms(1) + cluster.random(6);
                later.push((moment, self.round, Step::Reaches(sentinel)));
            }
        }
        later.push((ms(7) + OTHERS, self.round, Step::Counts(false)));
        later.push((longest, self.round, Step::Counts(true)));
        later
    }

    /// Goes on. Returns what is to happen later, or what has come of it and the votes that were asked for.
    pub fn go_on(
        &mut self,
        (round, step): (u32, Step),
        cluster: &mut Cluster,
    ) -> Result<Vec<Later>, (Asked, Vec<Vote>)> {
        if round != self.round {
            return Ok(Vec::new());
        }
        match step {
            Step::Reaches(sentinel) => {
                self.reaches(sentinel, cluster);
                Ok(Vec::new())
            }
            Step::Counts(is_last) => {
                if is_last || self.has_enough() {
                    self.counts(cluster)
                } else {
                    Ok(Vec::new())
                }
            }
            Step::Begins => Err(self.begins(cluster)),
        }
    }

    fn has_enough(&self) -> bool {
        let answered = match self.stage {
            Stage::Looks => self.looks.iter().flatten().count(),
            Stage::Votes(_) => self.votes.iter().flatten().count(),
        };
        let asked = self.plan.as_ref().map(|plan| plan.asked);
        let has_asked = match self.stage {
            Stage::Looks => true,
            Stage::Votes(_) => asked.is_none_or(|asked| self.votes[asked].is_some()),
        };
        answered >= self.terms.needed && has_asked
    }

    /// A question arrives, and its answer; or one of them is lost.
    fn reaches(&mut self, sentinel: Host, cluster: &mut Cluster) {
        if cluster.ask(self.by, sentinel).is_err() {
            return;
        }
        let is_lost = cluster.loses_answer(self.by, sentinel);
        if is_lost && cluster.once_in(2) {
            return;
        }
        match (self.stage, &self.plan) {
            (Stage::Votes(round), Some(plan)) => {
                let wanted = match (round, sentinel == plan.asked) {
                    (Round::First, _) => Some((plan.epoch, plan.asked)),
                    (Round::Second, false) => Some((plan.epoch + 1, plan.asked)),
                    (Round::Second, true) | (Round::Still, _) => None,
                };
                let voted = cluster.ask_for_vote(sentinel, self.dead, wanted);
                self.votes[sentinel] = Some(voted).filter(|_| !is_lost);
            }
            _ => {
                let look = cluster.look_at(sentinel, self.dead);
                self.looks[sentinel] = Some(look).filter(|_| !is_lost);
            }
        }
    }

    fn counts(&mut self, cluster: &mut Cluster) -> Result<Vec<Later>, (Asked, Vec<Vote>)> {
        let refused = |why: &Refusal, votes| (Err((why.to_string(), false)), votes);
        let given = self.given();
        let round = match self.stage {
            Stage::Looks => {
                self.terms.end_stood(&self.looks);
                let plan = rules::plan(&self.terms, &self.looks)
                    .map_err(|why| refused(&why, Vec::new()))?;
                self.known = plan.epoch;
                self.plan = Some(plan);
                if self.asks_without_votes {
                    self.round += 1;
                    return Ok(vec![(ms(1), self.round, Step::Begins)]);
                }
                self.stage = Stage::Votes(Round::First);
                return Ok(self.ask_all(cluster));
            }
            Stage::Votes(round) => round,
        };
        let Some(plan) = &mut self.plan else {
            return Ok(Vec::new());
        };
        match (
            rules::is_elected(&self.terms, plan, round, &self.votes),
            round,
        ) {
            (Ok(()), Round::First) => {
                self.stage = Stage::Votes(Round::Second);
                Ok(self.ask_all(cluster))
            }
            (Ok(()), Round::Second | Round::Still) => {
                self.round += 1;
                let asked = plan.asked;
                let late = asked != self.by && cluster.links[link(self.by, asked)] == Link::Late;
                let moment = ms(1) + cluster.random(if late { LATE } else { 5 });
                Ok(vec![(moment, self.round, Step::Begins)])
            }
            (Err(_), Round::First)
                if self.above + 1 < ABOVE.len()
                    && rules::is_too_old(&self.terms, plan, &self.votes) =>
            {
                self.above += 1;
                plan.epoch = self.known + ABOVE[self.above];
                Ok(self.ask_all(cluster))
            }
            (Err(why), _) => Err(refused(&why, given)),
        }
    }

    /// Returns the votes that were asked for until now.
    fn given(&self) -> Vec<Vote> {
        let Some(plan) = &self.plan else {
            return Vec::new();
        };
        let tried = ABOVE[..=self.above].iter();
        let tried = tried.map(|above| Vote::new(&plan.run_id, self.known + above));
        let voted = [plan.epoch, plan.epoch + 1];
        let voted = voted.map(|epoch| Vote::new(&plan.run_id, epoch));
        tried.chain(voted).collect()
    }

    fn begins(&mut self, cluster: &mut Cluster) -> (Asked, Vec<Vote>) {
        let Some(plan) = &self.plan else {
            return (Err((String::new(), false)), Vec::new());
        };
        let (asked, votes) = (plan.asked, self.given());
        let silent = || Err(("the elected Sentinel did not answer".to_owned(), true));
        if cluster.ask(self.by, asked).is_err() {
            return (silent(), votes);
        }
        let is_lost = cluster.loses_answer(self.by, asked);
        if is_lost && cluster.once_in(2) {
            return (silent(), votes);
        }
        let begun = cluster.force_for_agent(asked, self.by);
        let told = match begun {
            _ if is_lost => silent(),
            Ok(()) => Ok(place(asked)),
            Err(word) => Err((format!("the elected Sentinel refused: {word}"), true)),
        };
        (told, votes)
    }
}
