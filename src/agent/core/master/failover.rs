//! What a failover changes about a master: a promotion, from its first sign until a majority confirms it; writes that
//! wait until the VIP is released; and when all that happened.

use std::net::SocketAddr;
use std::time::Duration;

use super::{AskedBefore, Called, Master, Stands};
use crate::agent::core::hand_over::{HandOver, Stage, longest};
use crate::agent::core::promotion::{Promoting, site};
use crate::agent::core::{Action, Settled, Time, Timeline};
use crate::evidence::{Ballot, Evidence, OwnRedis, Role, Site};
use crate::failover::Endpoint;
use crate::place::Place;
use crate::verdict::{Verdict, Why};

/// How soon a Redis is told again to lead.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// How many take-over times are kept.
const KEPT: usize = 100;

impl Master {
    /// Notes how many bytes the new master lacks, once both numbers are known.
    pub(super) fn compare(&mut self) {
        let behind = self.hand_over.as_ref().and_then(HandOver::behind);
        if let (Some(behind), Some(timeline)) = (behind, &mut self.timeline) {
            timeline.bytes_behind = Some(behind);
        }
    }

    pub(in crate::agent::core) fn promotes(
        &mut self,
        to: Endpoint,
        by: String,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let is_same = |known: &&Promoting| known.to == to;
        let known = self.promotion.as_ref().filter(is_same);
        if known.is_some_and(|known| known.by.contains(&by)) {
            return;
        }
        let is_again = known.is_some();
        let asked = self.asked();
        if self.has_to_ask() && site(&to, &asked.known_redis).is_here() {
            // It may be as old as the stop, and that failover over: if not, the leader tells of it when it is asked.
            return;
        }
        let winner = asked.ballot.as_ref().and_then(Ballot::winner);
        if winner.is_some_and(|winner| winner.is_same(&site(&to, &asked.known_redis))) {
            // An event of a failover that a majority has confirmed: it comes late.
            return;
        }
        let has_to_release =
            Stands::of(&self.verdict) == Some(Stands::Elsewhere) && !self.is_settled();
        if !is_again {
            if !has_to_release {
                self.unpause(None, now, actions);
            }
            if let Some(hand_over) = &mut self.hand_over {
                hand_over.heir = None;
            }
        }
        // Sentinel calls after its events: a call about another Redis is about an earlier failover.
        let chosen = site(&to, &self.asked().known_redis);
        let is_about_it = |called: &Called| called.call.to.is_same(&chosen);
        self.call = self.call.take().filter(is_about_it);
        let lasts = self.facts.as_ref().and_then(|facts| facts.failover_timeout);
        let begun = self.timeline.take();
        let has_come = |it: &Timeline| it.released.is_some() || self.is_pausing();
        let is_part = |it: &Timeline| self.death.is_some() || is_again && has_come(it);
        let begun = begun.filter(|it| is_part(it) && it.ended.is_empty());
        self.timeline = Some(Timeline {
            to: to.to_string(),
            event: Some(now),
            ..begun.unwrap_or_else(|| Timeline::new(String::new(), now))
        });
        self.note_failover(now);
        self.overdue = None;
        self.asked_before = None;
        let before = self.promotion.take().filter(|_| is_again);
        let next = Promoting::new(to, by, &self.asked(), now, lasts);
        // Its leader may have been killed: then this is another failover to the same one, and all is done again. What that
        // said last holds until it is asked.
        self.promotion = Some(next.after(before));
        self.is_begun = false;
        self.ends_order = true;
    }

    /// A candidate that was not elected gives up, too: only the leader that has published the promotion ends it.
    pub(in crate::agent::core) fn aborted(
        &mut self,
        by: &str,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if let Some(facts) = &mut self.facts {
            facts.promoting.take_if(|(_, leader)| leader == by);
        }
        let was_promoting = (self.promotion).take_if(|known| known.by.contains(by));
        // The one that was asked may find none to promote: it has published nothing then.
        let was_asked = self.death.as_ref().and_then(|it| it.by.as_deref()) == Some(by);
        if was_promoting.is_none() && (!was_asked || self.promotion.is_some()) {
            return;
        }
        self.end_timeline("aborted", now);
        self.death_aborted(now);
        self.unpause(None, now, actions);
    }

    /// Ends a promotion of which its leaders do not tell any more: the event of its end was missed, or they never began
    /// it. What the chosen one says counts for more: its leader may have ended before a majority has heard of it.
    pub(super) fn look_at_leader(&mut self, now: Time, actions: &mut Vec<Action>) {
        let (Some(facts), Some(promotion)) = (&self.facts, &mut self.promotion) else {
            return;
        };
        let ballot = facts.evidence.ballot.as_ref();
        let is_denied = promotion.is_denied(facts.fails_over, ballot);
        let by = promotion.by.first().cloned().filter(|_| is_denied);
        if let Some(by) = by
            && self.evidence(now).promotion.and_then(|it| it.role) != Some(Role::Master)
        {
            self.aborted(&by, now, actions);
        }
    }

    pub(in crate::agent::core) fn chosen_said(
        &mut self,
        who: &Endpoint,
        role: Role,
        had: Option<u64>,
        now: Time,
    ) {
        let promotion = self.promotion.as_mut();
        let Some(promotion) = promotion.filter(|known| known.to == *who && !known.is_lost) else {
            return;
        };
        if role == Role::Master
            && let Some(timeline) = &mut self.timeline
        {
            timeline.role_changed.get_or_insert(now);
        }
        let told = self.facts.as_ref().map(|facts| &facts.evidence);
        let known = told.map(|told| told.known_redis.as_slice());
        let its_site = site(who, known.unwrap_or_default());
        if role == Role::Replica {
            self.former.follows(&its_site);
        }
        promotion.role = Some(role.clone());
        let is_former = self.former.has(&its_site);
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.chosen_said(who, (role, is_former), had);
        }
        self.compare();
    }

    /// The promotion keeps nothing away any more: a majority's word counts again.
    /// Whether a round of questions goes on, which may have asked before it was lost, as what is known was: a majority may
    /// have named it since.
    pub(in crate::agent::core) fn chosen_lost(
        &mut self,
        (who, why): (&Endpoint, &str),
        polling: bool,
        actions: &mut Vec<Action>,
    ) {
        let promotion = self.promotion.as_mut().filter(|known| known.to == *who);
        let Some(promotion) = promotion.filter(|known| !known.is_lost) else {
            return;
        };
        (promotion.role, promotion.is_lost) = (None, true);
        self.asked_before = Some(AskedBefore::new(polling));
        if let Some(hand_over) = self.hand_over.as_mut().filter(|it| !it.is_ending()) {
            hand_over.heir = None;
        }
        let text = format!(
            "{who}, which is promoted, is not the master now ({why}): the majority's word counts"
        );
        actions.push(Action::Log(self.name.clone(), false, text));
    }

    /// Returns whether this replica is promoted, it counts, and no majority has confirmed it yet.
    pub(in crate::agent::core) fn promotes_to(&self, to: &Endpoint) -> bool {
        let known = self.promotion.as_ref();
        known.is_some_and(|known| known.to == *to && !known.is_lost)
    }

    /// Looks whether a promoted Redis of this host counts no more: the old master's host may have given it up. Returns
    /// whether that is news.
    pub(super) fn look_at_own_promotion(&mut self, known: &Evidence, now: Time) -> bool {
        let promotion = self.promotion.as_mut();
        promotion.is_some_and(|it| it.is_lost_here(known, known.is_cut_off, now))
    }

    pub(in crate::agent::core) fn paused(&mut self, paused: Result<(), String>, now: Time) {
        // Its end may have been asked for meanwhile.
        let asked = |it: &&mut HandOver| it.stage == Stage::Asked;
        let Some(hand_over) = self.hand_over.as_mut().filter(asked) else {
            return;
        };
        hand_over.is_in_force = paused.is_ok();
        hand_over.stage = match paused {
            Ok(()) => Stage::Paused,
            Err(_) => Stage::Refused,
        };
        // A host that is cut off pauses writes, too, which is no part of the last failover.
        if let (Stage::Paused, Some(timeline)) = (hand_over.stage, &mut self.timeline)
            && timeline.ended.is_empty()
        {
            timeline.paused.get_or_insert(now);
        }
    }

    /// Notes that writes are allowed again, as was asked for.
    pub(in crate::agent::core) fn unpaused(&mut self, now: Time) {
        // This can come late, when the next pause has begun.
        if self.hand_over.as_ref().is_some_and(HandOver::is_ending) {
            self.note_unpaused(now);
            self.hand_over = None;
        }
    }

    /// Notes what has ended by itself. Whom the old master is to follow is kept as long as the promotion may come.
    pub(super) fn lapse(&mut self, now: Time) {
        let is_over = |it: &&HandOver| it.ends().is_some_and(|ends| now >= ends);
        let Some(hand_over) = self.hand_over.as_ref().filter(is_over) else {
            return;
        };
        let is_of_use = self.promotion.is_some() || hand_over.heir.is_some();
        let is_kept = is_of_use && !hand_over.is_ending();
        self.note_unpaused(now);
        self.hand_over = self.hand_over.take().filter(|_| is_kept);
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.stage = Stage::Lapsed;
        }
    }

    /// Forgets whom the old master was to follow, where nothing came of the promotion.
    pub(super) fn forget_lapsed(&mut self) {
        let may_come =
            self.promotion.is_some() || Stands::of(&self.verdict) == Some(Stands::Elsewhere);
        self.hand_over
            .take_if(|it| it.stage == Stage::Lapsed && !may_come);
    }

    /// Returns whether writes wait, as far as is known.
    fn is_pausing(&self) -> bool {
        self.hand_over.as_ref().is_some_and(|it| it.is_in_force)
    }

    fn note_unpaused(&mut self, now: Time) {
        let was_in_force = self.is_pausing();
        self.count_pause(now);
        if let (true, Some(timeline)) = (was_in_force, &mut self.timeline)
            && timeline.paused.is_some()
        {
            timeline.unpaused.get_or_insert(now);
        }
    }

    /// Notes that what writes wait for, or have waited for, was no forged promotion.
    fn prove(&mut self) {
        self.unproven.prove();
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.is_proven = true;
        }
    }

    /// Counts how long writes have waited: no longer from now on.
    fn count_pause(&mut self, now: Time) {
        let Some(hand_over) = self.hand_over.as_mut().filter(|it| it.is_in_force) else {
            return;
        };
        hand_over.is_in_force = false;
        self.paused_for += hand_over.waited(now);
        self.unproven.spend(hand_over, now);
    }

    /// Allows writes again. The old master is to follow its heir at once, if it has one: it would be a writable master
    /// for 11 s, until Sentinel tells it.
    pub(super) fn unpause(&mut self, heir: Option<Endpoint>, now: Time, actions: &mut Vec<Action>) {
        let Some(hand_over) = &mut self.hand_over else {
            return;
        };
        let is_due = match hand_over.stage {
            Stage::Asked | Stage::Paused => true,
            Stage::Refused | Stage::Lapsed => heir.is_some(),
            Stage::Ending(_) => false,
        };
        if is_due {
            hand_over.end(now);
            self.follower = heir.as_ref().map(|_| (hand_over.at, Time::ZERO));
            actions.push(Action::Unpause(self.name.clone(), hand_over.at, heir));
        } else if hand_over.stage == Stage::Lapsed {
            self.hand_over = None;
        }
    }

    /// Has an old master that was told to follow its heir be a master again, where the promotion is over, or its heir lost,
    /// and a majority names it still: nobody would be the master until Sentinel counts one that says that
    /// it is a replica as down, 20 s after `down-after-milliseconds` (`sentinelCheckSubjectivelyDown` in sentinel.c). It
    /// is told again until it says that it is.
    pub(super) fn lead_again(&mut self, known: &Evidence, now: Time, actions: &mut Vec<Action>) {
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let (Some(winner), Some((at, next))) = (winner, self.follower) else {
            return;
        };
        if self.promotion.as_ref().is_some_and(|it| !it.is_lost) {
            return;
        }
        let own = self.own.get(&at);
        let leads = own.is_some_and(|own| own.role == Ok(Role::Master));
        // Its heir may be of this host, too.
        let is_other = |own: &OwnRedis| own.at == at && !own.is(winner);
        let is_named = winner.is_here() && !known.own_redis.iter().any(is_other);
        // Another may listen elsewhere by now.
        let is_there = known.own_redis.iter().any(|own| own.at == at);
        if !is_named || !is_there || leads && next > Time::ZERO {
            self.follower = None;
        } else if now >= next {
            self.follower = Some((at, now + TOLD_AGAIN));
            actions.push(Action::Lead(self.name.clone(), at));
        }
    }

    /// Allows writes again after the VIP was released.
    pub(super) fn unpause_released(&mut self, now: Time, actions: &mut Vec<Action>) {
        let heir = self.hand_over.as_ref().and_then(|it| it.heir.clone());
        self.unpause(heir, now, actions);
    }

    /// Allows writes again where the heir is of this host, too, so that no VIP is released: once it is known to be the
    /// master.
    pub(super) fn unpause_beside_heir(
        &mut self,
        known: &Evidence,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let leads = known.promoted().or(winner).filter(|site| site.is_here());
        let heir = self.hand_over.as_ref().and_then(|it| it.heir.as_ref());
        if let Some((leads, heir)) = leads.zip(heir)
            && leads.is_same(&site(heir, &known.known_redis))
        {
            self.unpause_released(now, actions);
        }
    }

    /// Notes the take-over of a failover. A VIP that stood here already, or came by a start of this agent, is none; a
    /// majority may have confirmed the failover before the VIP could be bound.
    pub(super) fn note_take_over(&mut self, settled: &Settled, now: Time) {
        let Some(timeline) = self
            .timeline
            .as_mut()
            .filter(|_| self.stands != Some(Stands::Here))
        else {
            return;
        };
        if timeline.first_frame.is_none() && matches!(timeline.ended, "" | "taken_over") {
            let first = settled.first_frame.unwrap_or(now);
            self.take_overs += 1;
            timeline.bound = settled.bound;
            timeline.first_frame = Some(first);
            timeline.settled = Some(now);
            let began = timeline.role_changed.unwrap_or(timeline.began);
            self.took.push(first.saturating_sub(began));
            let surplus = self.took.len().saturating_sub(KEPT);
            self.took.drain(..surplus);
        }
    }

    pub(super) fn end_timeline(&mut self, how: &'static str, now: Time) {
        if let Some(timeline) = &mut self.timeline
            && timeline.ended.is_empty()
        {
            timeline.ended = how;
            if how != "aborted" {
                timeline.confirmed.get_or_insert(now);
            }
        }
    }

    /// Returns the Redis of this host that a majority names, or this host's Sentinel where there is none, if it says that it
    /// is the master; and whether it certainly is that one. With `[hosts]`, and behind NAT, one of another master may be among
    /// those of this host. One that was just started has another run id than the Sentinels know, for as long as they do not
    /// ask it, and where they are silent nobody names one: then it is the only one that may be meant, whose writes may wait
    /// for once, but which is not told to follow.
    fn old_master<'a>(&self, known: &'a Evidence) -> Option<(&'a OwnRedis, bool)> {
        // A round that told nothing does not change which Redis this is.
        let ballot = self.facts.as_ref()?.evidence.ballot.as_ref();
        let named = ballot.and_then(|ballot| ballot.winner().or_else(|| ballot.own()));
        let old = match (named, known.own_redis.as_slice()) {
            (Some(named), _) => known.own(named),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let old = old.filter(|own| own.role == Ok(Role::Master))?;
        Some((old, named.is_some_and(|named| old.is(named))))
    }

    /// Does what follows from a promotion at once, as soon as it is known which host is meant.
    pub(super) fn begin_promotion(
        &mut self,
        known: &Evidence,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Some(promoting) = self.promotion.as_ref().filter(|_| !self.is_begun) else {
            return;
        };
        let to = site(&promoting.to, &known.known_redis);
        let Ok(place) = &to.place else { return };
        // Both may be on this host, on two ports or two addresses: what is written to the old one is lost there, too.
        let old = self.old_master(known);
        let old = old.filter(|(own, _)| !own.site.is_same(&to));
        let is_here = matches!(place, Place::Here(_));
        // Writes are paused again once they are allowed.
        let is_ending = self.hand_over.as_ref().is_some_and(HandOver::is_ending);
        if is_ending && (old.is_some() || !is_here) {
            return;
        }
        let (endpoint, until) = (promoting.to.clone(), promoting.until());
        if let Some(own) = known.own(&to) {
            actions.push(Action::Expect(self.name.clone(), own.at));
        }
        let old = old.map(|(own, is_certain)| (own.at, is_certain));
        if let Some(old) = old {
            self.pause(old, now, actions);
        }
        // A master that has died pauses nothing, and its host has the VIP still, or has released it: the dead one may be
        // back, and named by all, before they know of its successor.
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let is_ours = || self.stands == Some(Stands::Here) || winner.is_some_and(Site::is_here);
        if old.is_some() || !is_here && is_ours() {
            let left = until.saturating_sub(now);
            actions.push(Action::AskChosen(self.name.clone(), endpoint, left));
        }
        self.is_begun = true;
    }

    /// Has the writes of a Redis wait, which is the old master for certain, or as far as anybody can tell.
    fn pause(
        &mut self,
        (at, is_certain): (SocketAddr, bool),
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let mut spent = self.unproven.clone();
        if let Some(hand_over) = self.hand_over.as_ref().filter(|it| it.is_in_force) {
            spent.spend(hand_over, now);
        }
        let allowed = spent.allows(longest(self.soonest_down()), now);
        if allowed.is_none() && self.is_pausing() {
            // What writes wait for already goes on.
            return;
        }
        self.count_pause(now);
        // Whom the old master is to follow is wanted all the same.
        self.hand_over = Some(HandOver {
            at,
            may_follow: is_certain,
            longest: allowed.unwrap_or_default(),
            since: now,
            stage: allowed.map_or(Stage::Lapsed, |_| Stage::Asked),
            sent: None,
            had: None,
            is_in_force: allowed.is_some(),
            is_proven: false,
            heir: None,
        });
        if let Some(longest) = allowed {
            actions.push(Action::Pause(self.name.clone(), at, longest));
        } else if !self.was_pause_refused {
            let text = "writes are not paused again, as they have waited of late for failovers that nobody has \
                        confirmed, so that some may be lost";
            actions.push(Action::Log(self.name.clone(), false, text.to_owned()));
        }
        self.was_pause_refused = allowed.is_none();
    }

    /// Notes when this host's Redis turned master.
    pub(super) fn note_role(&mut self, known: &Evidence, now: Time) {
        let is_here = known.promoted().is_some_and(Site::is_here);
        if let (true, Some(timeline)) = (is_here, &mut self.timeline) {
            timeline.role_changed.get_or_insert(now);
        }
    }

    /// Ends a promotion that a majority has confirmed: from now on the majority says where the master is.
    /// Returns whether it did.
    pub(super) fn confirm(
        &mut self,
        known: &Evidence,
        now: Time,
        actions: &mut Vec<Action>,
    ) -> bool {
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let is_named = |over: &mut Promoting| {
            winner.is_some_and(|winner| winner.is_same(&site(&over.to, &known.known_redis)))
        };
        if self.overdue.take_if(is_named).is_some() {
            self.prove();
        }
        let Some((promoting, winner)) = self.promotion.as_ref().zip(winner) else {
            return false;
        };
        let to = site(&promoting.to, &known.known_redis);
        if winner.is_same(&to) {
            self.promotion = None;
            self.prove();
            let has_released = self
                .timeline
                .as_ref()
                .is_some_and(|it| it.released.is_some());
            let how = match (winner.is_here(), has_released) {
                (true, _) => "taken_over",
                (false, true) => "released",
                (false, false) => "elsewhere",
            };
            self.end_timeline(how, now);
            if let Some(timeline) = &self.timeline {
                actions.push(Action::Log(self.name.clone(), true, timeline.words()));
            }
            return true;
        }
        false
    }

    pub(super) fn hand_over_if_cut_off(
        &mut self,
        known: &Evidence,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let is_due = matches!(self.verdict, Verdict::Elsewhere(Why::CutOff))
            && self.stands == Some(Stands::Here)
            && (self.hand_over.as_ref()).is_none_or(|it| it.stage == Stage::Lapsed)
            && (self.unproven.allows(longest(self.soonest_down()), now)).is_some();
        let old = self.old_master(known).filter(|_| is_due);
        if let Some(old) = old.map(|(own, is_certain)| (own.at, is_certain)) {
            self.pause(old, now, actions);
        }
    }
}
