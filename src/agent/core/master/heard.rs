//! What a master hears: from rounds of questions, from the Redis of this host, the kernel, operators, the configuration
//! and attempts.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Alive, AskedBefore, Called, Master, SinceStop, Stands, newest};
use crate::agent::core::promotion::site;
use crate::agent::core::{Action, Facts, Own, STOPPED, Settings, Settled, Time};
use crate::evidence::{Ballot, Call, Order, Role, Word};
use crate::exit::{Fault, Kind};
use crate::failover::Endpoint;

/// For how long the Sentinels are asked often after a Redis of this host has changed its role.
const AFTER_A_CHANGE: Duration = Duration::from_secs(10);

/// The pause before a failed attempt is repeated: short at first, then doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a fault that does not pass while nobody changes anything.
const HOPELESS_PAUSE: Duration = Duration::from_secs(30);

/// The number of the newest failover where no Sentinel has told it yet.
const UNKNOWN: u64 = u64::MAX;

impl Master {
    /// Returns the same master as the configuration has it now. Whether a round of questions goes on, which has not looked
    /// at VIPs that are new.
    pub(in crate::agent::core) fn configured(
        mut self,
        settings: Settings,
        polling: bool,
    ) -> Master {
        if self.vips != settings.vips {
            // They were settled nowhere, and nobody has looked whether a server has such an address.
            self.stands = None;
            if let Some(facts) = &mut self.facts {
                facts.evidence.vip_of_a_server = None;
            }
            self.uncompared = Some(AskedBefore::new(polling));
        }
        Master {
            vips: settings.vips,
            on_isolation: settings.on_isolation,
            on_redis_death: settings.on_redis_death,
            ..self
        }
    }

    /// What was known before tells nothing: this agent, or the whole machine, was stopped meanwhile.
    pub(in crate::agent::core) fn was_late(&mut self, now: Time) {
        self.cut_off.was_late(now);
        self.unasked = Some(Fault::passing(STOPPED));
        self.since_stop = Some(SinceStop::NotAsked);
        self.call = None;
        self.own.clear();
        // A replica may be the master by now, and its VIP be here.
        let facts = self.facts.iter_mut();
        for own in facts.flat_map(|facts| &mut facts.evidence.own_redis) {
            if own.role == Ok(Role::Replica) {
                own.role = Err(Fault::passing(STOPPED));
            }
        }
        self.alive.values_mut().for_each(Alive::was_late);
        self.died = None;
        // Another host's Redis that has said that it is the master keeps the VIP away from here, as it does without a stop.
        let told = self.facts.as_ref().map(|facts| &facts.evidence);
        let known = told.map_or(&[][..], |told| &told.known_redis);
        self.promotion
            .take_if(|it| it.role != Some(Role::Master) || site(&it.to, known).is_here());
        // Something may have bound a VIP meanwhile, or removed it.
        self.is_dirty = true;
    }

    pub(in crate::agent::core) fn polled(
        &mut self,
        facts: Facts,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        self.note_asked();
        // Its event was missed: events are followed only after the first answer, and a connection may have ended. One
        // answer later may be older than the end of that failover. A leader goes on to say so once it has promoted, until
        // all replicas follow: a promotion that a majority has confirmed is not begun again.
        let is_new = |of: &(Endpoint, String)| {
            let is_over = self.overdue.as_ref().is_some_and(|over| over.to == of.0);
            let is_former = self.former.has(&site(&of.0, &facts.evidence.known_redis));
            let before = self.facts.as_ref().map(|facts| facts.promoting.as_ref());
            let is_told = before.is_none_or(|before| before == Some(of));
            self.promotion.is_none() && !is_over && !is_former && is_told
        };
        let missed = facts.promoting.clone().filter(is_new);
        self.cut_off
            .polled(facts.could_elect_without && facts.has_replicas, now);
        let ballot = facts.evidence.ballot.as_ref();
        let waits = ballot.is_some_and(Ballot::waits_for_a_minority);
        self.divided_since = self.divided_since.or(Some(now)).filter(|_| waits);
        if let (Some(promoting), Some(lasts)) = (&mut self.promotion, facts.failover_timeout) {
            // Its event may have come before the first answer.
            promoting.lasts = lasts;
        }
        self.asked_before
            .take_if(|since| *since == AskedBefore::RoundEnded);
        self.former.asked(&facts.evidence, self.facts.is_none());
        let epoch = newest(&facts.evidence);
        // A site's first failover is the first that has a number.
        let was_known = self.facts.is_some() || self.epoch > 0;
        if was_known && self.epoch < epoch {
            self.note_failover(now);
        }
        self.epoch = self.epoch.max(epoch);
        let known = |(order, given)| (order, if given == UNKNOWN { epoch } else { given });
        self.forced = self.forced.map(known).filter(|(_, given)| epoch <= *given);
        self.unasked = None;
        let is_stale = |called: &Called| called.is_stale(&facts.evidence);
        self.call = self.call.take().filter(|called| !is_stale(called));
        let known: Vec<SocketAddr> = facts.evidence.own_redis.iter().map(|own| own.at).collect();
        self.own.retain(|at, _| known.contains(at));
        self.refusing.retain(|at| known.contains(at));
        // The lengths are kept where they were not told this time.
        let before = self.facts.take();
        let before = before.unwrap_or_default();
        self.facts = Some(Facts {
            down_after: facts.down_after.or(before.down_after),
            soonest_down: facts.soonest_down.or(before.soonest_down),
            failover_timeout: facts.failover_timeout.or(before.failover_timeout),
            ..facts
        });
        if let Some((to, by)) = missed {
            self.promotes(to, by, now, actions);
        }
        self.look_at_leader(now, actions);
    }

    pub(in crate::agent::core) fn round_ended(&mut self) {
        self.asked_before = self.asked_before.map(|_| AskedBefore::RoundEnded);
        self.uncompared = self.uncompared.map(|_| AskedBefore::RoundEnded);
        if let Some(called) = &mut self.call {
            called.in_older_round = false;
        }
    }

    fn note_asked(&mut self) {
        self.since_stop = self.since_stop.map(|_| SinceStop::NotHere);
        self.uncompared = None;
    }

    pub(in crate::agent::core) fn not_polled(&mut self, fault: Fault) {
        self.note_asked();
        self.unasked = Some(fault);
        self.divided_since = None;
    }

    /// Returns whether its role is news.
    pub(in crate::agent::core) fn heard_own(
        &mut self,
        at: SocketAddr,
        own: Own,
        now: Time,
        actions: &mut Vec<Action>,
    ) -> bool {
        self.note_refusal(at, &own, actions);
        self.cut_off.heard(own.acknowledged, now);
        let before = self.own.get(&at).map(|own| own.role.clone().ok());
        let is_news = before.is_some_and(|role| role != own.role.clone().ok());
        if is_news {
            self.restless_until = now + AFTER_A_CHANGE;
        }
        if let Some(hand_over) = self.hand_over.as_mut().filter(|it| it.at == at)
            && own.role == Ok(Role::Master)
        {
            hand_over.heard(own.offset);
        }
        let told = self.facts.as_ref().map(|facts| &facts.evidence);
        if let Some(told) = told {
            self.former.heard(at, &own, told);
        }
        self.died = self.note_life(at, &own, now).or(self.died.take());
        self.own.insert(at, own);
        self.compare();
        is_news
    }

    /// Notes that a Redis of this host refuses to tell of itself, or does no more: a replica's verdict does not show that.
    fn note_refusal(&mut self, at: SocketAddr, own: &Own, actions: &mut Vec<Action>) {
        let (is_well, text) = match &own.role {
            Err(fault) if fault.kind == Kind::Permanent && self.refusing.insert(at) => (
                false,
                format!("nothing is known of the Redis here: {fault}"),
            ),
            Ok(_) if self.refusing.remove(&at) => (true, format!("{at} tells its role again")),
            _ => return,
        };
        actions.push(Action::Log(self.name.clone(), is_well, text));
    }

    /// Takes Sentinel's call. Whether a round of questions goes on, which is older than the call.
    pub(in crate::agent::core) fn called(
        &mut self,
        (call, word): (Call, Word),
        until: Time,
        polling: bool,
    ) {
        self.call = Some(Called {
            call,
            word,
            until,
            in_older_round: polling,
        });
        self.is_dirty |= !self.settling;
    }

    pub(in crate::agent::core) fn force(&mut self, order: Option<Order>) {
        let epoch = self.facts.as_ref().map(|facts| newest(&facts.evidence));
        self.forced = order.map(|order| (order, epoch.unwrap_or(UNKNOWN)));
        self.ends_order = false;
        self.look();
    }

    pub(in crate::agent::core) fn maintain(
        &mut self,
        until: Option<Time>,
        actions: &mut Vec<Action>,
    ) {
        if self.maintenance.is_some() != until.is_some() {
            let text = match until {
                Some(_) => "maintenance: a Redis that stops is not failed over at once",
                None => "the maintenance is over",
            };
            actions.push(Action::Log(self.name.clone(), true, text.to_owned()));
        }
        self.maintenance = until;
    }

    pub(in crate::agent::core) fn look(&mut self) {
        self.is_dirty = true;
        self.retry = None;
    }

    pub(in crate::agent::core) fn lost(&mut self, vip: IpAddr) {
        if self.vips.contains(&vip) && self.stands == Some(Stands::Here) {
            self.look();
        }
    }

    /// Has a failed attempt repeated at once, or soon where that happens all the time: a link of no concern to the
    /// VIP may flap.
    pub(in crate::agent::core) fn may_work_now(&mut self, now: Time) {
        let Some((at, pause)) = self.retry else {
            return;
        };
        let next = self.lifts.take(now).err();
        self.retry = next.map(|next| (at.min(next), pause));
    }

    /// Looks again at a VIP that may have come before this address of the host's own (a network manager configures
    /// the interface anew): beside it the VIP is to have no subnet, or it becomes the host's source address.
    pub(in crate::agent::core) fn gained_own(&mut self, address: IpAddr, now: Time) {
        self.may_work_now(now);
        self.is_dirty |= address.is_ipv4() && self.stands == Some(Stands::Here);
    }

    /// Looks again: what was not told may have been a VIP that was removed or bound, or an address of this host's own.
    pub(in crate::agent::core) fn missed(&mut self, now: Time) {
        self.may_work_now(now);
        self.is_dirty |= self.stands.is_some();
    }

    pub(in crate::agent::core) fn gained(&mut self, vip: IpAddr) {
        if self.vips.contains(&vip) && self.stands == Some(Stands::Elsewhere) && !self.settling {
            self.look();
        }
    }

    pub(in crate::agent::core) fn settled(
        &mut self,
        settled: Settled,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        self.settling = false;
        let stands = settled.verdict.as_ref().and_then(Stands::of);
        if settled.took_over {
            self.note_take_over(&settled, now);
        }
        // A majority may have named another host before the VIP could be released here.
        if settled.released
            && let Some(timeline) = &mut self.timeline
            && matches!(timeline.ended, "" | "elsewhere")
        {
            timeline.released.get_or_insert(now);
        }
        // What the kernel tells of this agent's own deeds can come late: only a VIP that was not found as it had been
        // settled was something else's deed.
        let was_mended = match stands {
            Some(Stands::Here) => settled.took_over,
            Some(Stands::Elsewhere) => settled.released,
            None => false,
        };
        self.drifts += u64::from(was_mended && settled.failed.is_none() && stands == self.stands);
        let has_failed = settled.failed.is_some();
        match &settled.failed {
            None => {
                self.stands = stands.or(self.stands);
                self.retry = None;
                // Nothing was known any more, so that nothing was looked at.
                self.is_dirty |= stands.is_none();
            }
            Some(fault) => {
                let pause = match (fault.kind, self.retry) {
                    (Kind::Permanent, _) => HOPELESS_PAUSE,
                    (Kind::Passing, None) => FIRST_PAUSE,
                    (Kind::Passing, Some((_, last))) => (last * 2).min(LONGEST_PAUSE),
                };
                self.retry = Some((now + pause, pause));
                self.is_dirty = true;
            }
        }
        self.failed = settled.failed;
        // Blocked clients were reset by then; never before.
        if !has_failed && stands == Some(Stands::Elsewhere) {
            self.unpause_released(now, actions);
        }
    }
}
