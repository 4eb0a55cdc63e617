//! What follows from all that is known of a master, and when something is due.

use std::time::Duration;

use super::{AskedBefore, Master, Stands, words};
use crate::agent::core::promotion::{Promoting, site};
use crate::agent::core::{Action, Time, Timeline};
use crate::evidence::Ballot;
use crate::exit::Fault;
use crate::verdict::{Verdict, Why, verdict};

/// How long after this agent's start a majority's word moves nothing where a Sentinel fails over: that majority may name
/// another one in a moment.
pub(super) const AT_START: Duration = Duration::from_secs(2);

impl Master {
    /// Looks what follows from what is known now.
    pub(in crate::agent::core) fn review(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.expire(now);
        if self.maintenance.is_some_and(|until| now >= until) {
            self.maintain(None, actions);
        }
        if let Some(died) = self.died.take() {
            match &self.death {
                // It was back, and has died again: another round is due when nothing has come of the first.
                Some(death) if death.keeps_the_vip_away() => {
                    actions.push(Action::Expect(self.name.clone(), died.at));
                }
                _ => self.begin_death(died, now, actions),
            }
        }
        if self.death.is_some() {
            let known = self.evidence(now);
            self.review_death(&known, now, actions);
        }
        let mut known = self.evidence(now);
        if self.look_at_own_promotion(&known, now) {
            known = self.evidence(now);
        }
        self.begin_promotion(&known, now, actions);
        self.note_role(&known, now);
        if self.ends_order && known.promoted().is_some() {
            // A majority tells of the failover about a second later, and the new master's host has the VIP by then.
            (self.forced, self.ends_order) = (None, false);
            known.order = None;
        }
        if self.confirm(&known, now, actions) {
            known = self.evidence(now);
        }
        let next = verdict(&known);
        self.note(&next, now, actions);
        self.verdict = next;
        if self.wants() == Some(Stands::Here) {
            self.since_stop = None;
        }
        self.lead_again(&known, now, actions);
        self.hand_over_if_cut_off(&known, now, actions);
        self.review_refusals(actions);
        self.settle_if_due(now, actions);
        self.unpause_beside_heir(&known, now, actions);
        self.forget_lapsed();
        let waits = known
            .ballot
            .as_ref()
            .is_some_and(Ballot::waits_for_a_minority);
        let has_call = self.call.is_some() && !self.is_settled();
        self.is_restless = waits
            || has_call
            || self.promotion.is_some()
            || self.death.is_some()
            || now < self.restless_until;
        self.due = self.wake(now);
    }

    fn expire(&mut self, now: Time) {
        self.call = self.call.take().filter(|called| now < called.until);
        let is_over = |promoting: &mut Promoting| now >= promoting.until();
        if let Some(over) = self.promotion.take_if(is_over) {
            self.overdue = Some(over);
            self.asked_before = Some(AskedBefore::RoundGoesOn);
            self.end_timeline("aborted", now);
        }
        self.lapse(now);
    }

    fn settle_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let wants = self.wants();
        if !self.may_settle(now) {
            return;
        }
        let may_try = self.retry.is_none_or(|(at, _)| now >= at);
        if (self.is_dirty || wants != self.stands) && may_try && !self.waits_for_pause(now) {
            (self.settling, self.is_dirty) = (true, false);
            actions.push(Action::Settle(self.name.clone()));
        } else if self.is_settled() && wants == Some(Stands::Elsewhere) {
            // There was no VIP to release.
            self.unpause_released(now, actions);
        }
    }

    /// Returns whether anything may be settled now.
    fn may_settle(&self, now: Time) -> bool {
        // A VIP that is new may be a server's own address, which is neither to be bound nor removed.
        let is_known = self.uncompared.is_none();
        is_known && self.wants().is_some() && !self.settling && !self.holds_back(now)
    }

    /// Returns where the VIPs are to be settled, `None` where they stay as they are.
    fn wants(&self) -> Option<Stands> {
        Stands::of(&self.verdict)
    }

    fn holds_back(&self, now: Time) -> bool {
        let fails_over = self.facts.as_ref().is_some_and(|facts| facts.fails_over);
        now < AT_START
            && match self.verdict {
                // An agent that was killed may have asked for that, as this Redis had died.
                Verdict::Here(_, Why::Majority) => fails_over,
                // This Redis may have been promoted a moment ago, and its VIP be here: it stays, and none is bound.
                Verdict::Elsewhere(Why::Majority) => self.is_chosen_here(),
                _ => false,
            }
    }

    pub(super) fn is_chosen_here(&self) -> bool {
        let facts = self.facts.as_ref();
        let chosen = self.promotion.as_ref().zip(facts);
        chosen.is_some_and(|(it, facts)| site(&it.to, &facts.evidence.known_redis).is_here())
    }

    /// Returns whether the release has to wait until writes are paused.
    fn waits_for_pause(&self, now: Time) -> bool {
        let is_handed_over = matches!(
            self.verdict,
            Verdict::Elsewhere(Why::CutOff | Why::Promoted)
        );
        let mut pause = self.hand_over.iter();
        is_handed_over && pause.any(|it| it.is_awaited(now))
    }

    fn note(&mut self, next: &Verdict, now: Time, actions: &mut Vec<Action>) {
        let noted = (
            next.name(),
            Stands::of(next),
            self.why_unknown(next).is_some(),
        );
        if noted == self.noted {
            return;
        }
        self.noted = noted;
        if let (
            Verdict::Here(_, Why::Majority | Why::Called | Why::Told),
            Some(Stands::Elsewhere),
        ) = (next, self.stands)
        {
            // Without an event of its leader; the end of an operator's order is no failover.
            let was_ordered = matches!(self.verdict, Verdict::Elsewhere(Why::Ordered));
            if !was_ordered && self.timeline.as_ref().is_none_or(Timeline::is_over) {
                let mut timeline = Timeline::new("this host".into(), now);
                timeline.role_changed = Some(now);
                timeline.ended = "taken_over";
                let is_confirmed = matches!(next, Verdict::Here(_, Why::Majority));
                timeline.confirmed = is_confirmed.then_some(now);
                self.timeline = Some(timeline);
            }
        }
        let (is_well, sentence) = match self.why_unknown(next) {
            Some(fault) => (false, words(&Verdict::Undecided(fault.clone()))),
            None => (true, words(next)),
        };
        actions.push(Action::Log(self.name.clone(), is_well, sentence));
    }

    /// Returns the fault that keeps everything as it is: what was told cannot be decided on, or nobody told anything.
    fn why_unknown<'a>(&'a self, next: &'a Verdict) -> Option<&'a Fault> {
        match next {
            Verdict::Undecided(fault) => Some(fault),
            Verdict::Stays(Why::NothingKnown) => self.unasked.as_ref(),
            _ => None,
        }
    }

    /// Returns when something is due, whatever happens until then.
    fn wake(&self, now: Time) -> Option<Time> {
        // What cannot be tried when its time comes must not keep the agent awake.
        let held_back = self.holds_back(now).then_some(AT_START);
        let may_try = self.may_settle(now) && !self.waits_for_pause(now);
        let retry = self.retry.filter(|_| may_try).map(|(at, _)| at);
        let pause = self.hand_over.as_ref().and_then(|it| it.next(now));
        let promotion = self.promotion.as_ref().map(Promoting::until);
        let call = self.call.as_ref().map(|called| called.until);
        let death = self.death.as_ref();
        let death = death.and_then(|_| self.next_round(&self.evidence(now)));
        let maintenance = self.maintenance;
        let cut_off = self.isolation().and_then(|time| self.cut_off.due(time));
        // Once it is over nothing more is due.
        let cut_off = cut_off.filter(|due| *due > now);
        let all = [
            retry,
            pause,
            promotion,
            call,
            death,
            maintenance,
            held_back,
            cut_off,
        ];
        all.into_iter().flatten().min()
    }
}
