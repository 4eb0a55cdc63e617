//! What follows when a Redis of this host has died as the master: a Sentinel is asked to fail over at once, and the VIP
//! is kept away from it, until the failover has ended, or nothing has come of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::review::AT_START;
use super::{Master, Stands};
use crate::agent::core::death::{
    self, APART, Alive, Death, Died, Situation, Stage, speaks_against,
};
use crate::agent::core::promotion::LASTS;
use crate::agent::core::{Action, LastFailover, Own, Time, Timeline};
use crate::election::NOTHING_CAME;
use crate::election::look::Vote;
use crate::evidence::{Ballot, Evidence, Role};
use crate::verdict::{Verdict, Why};

/// How many votes of former rounds are known: each round has at most five, and another one begins 5 s later.
const VOTES: usize = 50;

impl Master {
    /// Notes what a Redis of this host said. Returns its death, if that is news.
    pub(super) fn note_life(&mut self, at: SocketAddr, own: &Own, now: Time) -> Option<Died> {
        if let Some(alive) = Alive::of(at, own, now) {
            let before = self.alive.insert(at, alive.clone());
            let died = before.and_then(|before| before.replaced_by(&alive, now));
            if self.death.is_none() && died.is_none() {
                self.death_note = None;
            }
            return died;
        }
        let Err(why) = &own.role else {
            self.alive.remove(&at);
            return None;
        };
        let died = self.alive.get_mut(&at)?.silent(why, own.is_gone, now)?;
        self.alive.remove(&at);
        Some(died)
    }

    /// Has its failover asked for, unless something speaks against that.
    pub(super) fn begin_death(&mut self, died: Died, now: Time, actions: &mut Vec<Action>) {
        let known = self.evidence(now);
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        // With `[hosts]`, and behind NAT, it may be another master's.
        let named = winner.and_then(|winner| known.own(winner));
        let dead = named.filter(|own| own.at == died.at).map(|own| &own.site);
        let why_not = speaks_against(&Situation {
            on_redis_death: self.on_redis_death,
            maintenance: self.maintenance.is_some_and(|until| now < until),
            winner,
            dead,
            is_promoting: self.promotion.is_some(),
            down_after: self.soonest_down(),
            ago: now.saturating_sub(died.since),
            near: died.near.len(),
            withheld: died.withheld,
            is_quiet: now < self.quiet_until,
        });
        let (Some(dead), None) = (winner, why_not) else {
            let why = why_not.map(|why| why.to_string()).unwrap_or_default();
            self.note_death(
                format!("its Redis has died, and Sentinel decides: {why}"),
                actions,
            );
            return;
        };
        let dead = dead.clone();
        let text = format!(
            "its Redis at {} has died: a Sentinel is to be elected for a failover",
            dead.endpoint
        );
        self.note_death(text, actions);
        let mut timeline = Timeline::new("another Redis".into(), died.since);
        timeline.died = Some(died.since);
        self.timeline = Some(timeline);
        // They wait for the release themselves.
        if self.stands == Some(Stands::Here) && !self.refuses {
            self.refuses = true;
            actions.push(Action::Refuse(self.name.clone(), true));
        }
        // It is seen at once when it is back.
        actions.push(Action::Expect(self.name.clone(), died.at));
        let near = died.near.clone();
        actions.push(Action::Elect(
            self.name.clone(),
            dead.clone(),
            near,
            (self.over(now), self.aged(NOTHING_CAME, now)),
        ));
        self.death = Some(Death {
            died,
            site: dead,
            stage: Stage::Electing,
            by: None,
        });
    }

    /// Notes the last vote of each Sentinel.
    pub(in crate::agent::core) fn votes_are(&mut self, votes: Vec<Vote>, now: Time) {
        self.votes.retain(|(vote, _)| votes.contains(vote));
        for vote in votes {
            let is_known = self.votes.iter().any(|(known, _)| *known == vote);
            self.votes.extend((!is_known).then_some((vote, now)));
        }
    }

    /// Returns the votes whose elections are over: those of former rounds of which nothing came; and those that are as old as
    /// a voter's own brake, after which Sentinel itself takes them for over (`sentinelStartFailoverIfNeeded` in sentinel.c:
    /// 2 * failover-timeout). Else one election that came to nothing would keep all others away for ever.
    fn over(&self, now: Time) -> Vec<Vote> {
        let lasts = self.facts.as_ref().and_then(|facts| facts.failover_timeout);
        let old = self.aged(2 * lasts.unwrap_or(LASTS), now);
        self.voted.iter().cloned().chain(old).collect()
    }

    /// Returns the votes that Sentinels have had for so long.
    fn aged(&self, age: Duration, now: Time) -> Vec<Vote> {
        let votes = self.votes.iter();
        let old = votes.filter(|(_, since)| now.saturating_sub(*since) >= age);
        old.map(|(vote, _)| vote.clone()).collect()
    }

    /// Returns why no election is held any more about its death: others came first, or this agent was stopped meanwhile.
    pub fn is_too_late(&self, now: Time) -> Option<String> {
        let Some(death) = &self.death else {
            return Some("the failover is over".into());
        };
        let ago = now.saturating_sub(death.died.since);
        let is_late = death::is_too_late(ago, self.soonest_down().unwrap_or_default());
        is_late.then(|| death::Why::TooLate.to_string())
    }

    fn note_death(&mut self, text: String, actions: &mut Vec<Action>) {
        if self.death_note.as_ref() != Some(&text) {
            actions.push(Action::Log(self.name.clone(), false, text.clone()));
            self.death_note = Some(text);
        }
    }

    /// Notes what came of the election: which Sentinel was asked, or why none was, and whether it may have begun all
    /// the same.
    pub(in crate::agent::core) fn elected(
        &mut self,
        (asked, votes): (Result<String, (String, bool)>, Vec<Vote>),
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Some(death) = self.death.as_mut() else {
            return;
        };
        self.voted.extend(votes);
        let surplus = self.voted.len().saturating_sub(VOTES);
        self.voted.drain(..surplus);
        death.by = asked.as_ref().ok().cloned();
        let (stage, text) = match asked {
            Ok(who) => (
                Stage::Asked(now),
                format!("the Sentinel at {who} fails over"),
            ),
            Err((why, true)) => (Stage::Asked(now), why),
            Err((why, false)) => (Stage::Waiting(now), format!("Sentinel decides: {why}")),
        };
        death.stage = stage;
        if let (Stage::Asked(_), Some(timeline)) = (stage, &mut self.timeline) {
            timeline.asked = Some(now);
        }
        self.note_death(text, actions);
    }

    /// Ends it once a majority names another master; and once nothing has come of it, or the leader has given up, where
    /// the Redis is back.
    pub(super) fn review_death(&mut self, known: &Evidence, now: Time, actions: &mut Vec<Action>) {
        let Some(death) = &self.death else { return };
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let is_another = winner.is_some_and(|winner| !winner.is_same(&death.site));
        let own = self.own.get(&death.died.at);
        // Sentinel has told it to follow the new one.
        let follows = own.is_some_and(|own| own.role == Ok(Role::Replica));
        if is_another || follows {
            self.end_death();
            return;
        }
        let is_due = self.next_round(known).is_some_and(|at| at <= now);
        if !is_due {
            return;
        }
        let died = death.died.clone();
        let is_gone = self.own.get(&died.at).is_some_and(|own| own.is_gone);
        self.death = None;
        if is_gone {
            self.begin_death(died, now, actions);
        }
        if self.death.is_none() {
            self.end_death();
            self.end_timeline("aborted", now);
        }
    }

    /// Returns when there may be another round about its death; `None` while a failover that was published goes on: a
    /// Sentinel says so, or its Redis is the master. If neither is so its leader is gone, and will not say that it has
    /// given up: the VIP would be nowhere for the leader's whole time, three minutes by default. So it would be where the
    /// chosen one is lost. A Sentinel that says
    /// that it fails over, of which nothing was published, may be the one that was asked, whose events do not arrive:
    /// it is waited for as long as a leader tries.
    pub(super) fn next_round(&self, known: &Evidence) -> Option<Time> {
        let death = self.death.as_ref()?;
        let again = death.again()?;
        let facts = self.facts.as_ref();
        let says_so = facts.is_some_and(|facts| facts.fails_over);
        if let Some(promotion) = &self.promotion {
            let goes_on = !promotion.is_lost && (says_so || known.promoted().is_some());
            return (!goes_on).then_some(again);
        }
        let lasts = facts.and_then(|facts| facts.failover_timeout);
        let asked = death.asked().filter(|_| says_so);
        let over = asked.map(|asked| asked + lasts.unwrap_or(LASTS));
        Some(again.max(over.unwrap_or_default()))
    }

    /// Notes a failover, whoever has begun it: the next is not asked for too soon.
    pub(super) fn note_failover(&mut self, now: Time) {
        self.quiet_until = now + APART;
    }

    /// Returns what the next agent has to know of the newest failover.
    pub fn last_failover(&self) -> LastFailover {
        LastFailover {
            epoch: self.epoch,
            quiet_until: self.quiet_until,
            follower: self.follower.map(|(at, _)| at),
        }
    }

    /// Goes on with what an earlier agent of this host knew of it. A Redis that has followed meanwhile is not told to lead
    /// before the Sentinels were asked for a while: a majority may name its heir in a moment.
    pub(in crate::agent::core) fn go_on_after(&mut self, last: LastFailover, now: Time) {
        (self.epoch, self.quiet_until) = (last.epoch, last.quiet_until);
        self.follower = last.follower.map(|at| (at, now + AT_START));
    }

    pub(super) fn end_death(&mut self) {
        self.death = None;
        self.death_note = None;
        self.voted.clear();
    }

    /// Ends the wait for a failover that its leader has given up.
    pub(super) fn death_aborted(&mut self, now: Time) {
        if let Some(death) = &mut self.death {
            death.stage = Stage::Waiting(now);
        }
    }

    /// Returns whether its VIP is to go as its Redis has died, before all else: that may be back at any moment.
    pub fn has_to_let_go(&self) -> bool {
        matches!(self.verdict, Verdict::Elsewhere(Why::Died))
    }

    /// Ends that clients are refused in place of the dead Redis, once another host is known to have the VIP, or it
    /// belongs here again.
    pub(super) fn review_refusals(&mut self, actions: &mut Vec<Action>) {
        let may_go_on = match &self.verdict {
            // The new holder announces itself, and that ends it; where nobody hears that, a majority's word does.
            Verdict::Elsewhere(Why::Died | Why::Promoted)
            | Verdict::Stays(_)
            | Verdict::Undecided(_) => true,
            Verdict::Elsewhere(_) | Verdict::Here(..) => false,
        };
        if self.refuses && !may_go_on {
            self.refuses = false;
            actions.push(Action::Refuse(self.name.clone(), false));
        }
    }
}
