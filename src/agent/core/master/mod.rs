//! What the agent knows of one master, and when it has its VIPs settled.

mod died;
mod failover;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cut_off::CutOff;
use super::death::{Alive, Death, Died};
use super::former::Former;
use super::hand_over::HandOver;
use super::lifts::Lifts;
use super::promotion::Promoting;
use super::{Action, Facts, Own, Settings, Settled, Time, Timeline};
use crate::config::{OnIsolation, OnRedisDeath};
use crate::evidence::{Ballot, Call, Evidence, Order, Role, Site, Word};
use crate::exit::{Fault, Kind};
use crate::verdict::{Verdict, Why, verdict};

/// For how long the Sentinels are asked often after a Redis of this host has changed its role.
const AFTER_A_CHANGE: Duration = Duration::from_secs(10);

/// For how long after the agent's start a Redis of this host does not get its VIP because a majority names it, while a
/// Sentinel fails over: an agent that was killed may have asked for that, as this Redis had died.
const AT_START: Duration = Duration::from_secs(2);

/// The pause before a failed attempt is repeated: short at first, then doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a fault that does not pass while nobody changes anything.
const HOPELESS_PAUSE: Duration = Duration::from_secs(30);

/// The number of the newest failover where no Sentinel has told it yet.
const UNKNOWN: u64 = u64::MAX;

/// Where the VIPs were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// On this host.
    Here,
    /// Not on this host.
    Elsewhere,
}

/// Whether a round of questions may still go on that began before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedBefore {
    /// It may.
    RoundGoesOn,
    /// It has ended: what is told next was asked for later.
    RoundEnded,
}

/// Sentinel's call.
#[derive(Debug)]
struct Called {
    call: Call,
    /// What this host's Sentinel said of it.
    word: Word,
    /// Until when it counts.
    until: Time,
    /// Whether a round of questions goes on that began before it.
    in_older_round: bool,
}

impl Called {
    /// Whether what was asked later speaks against it: this host's Sentinel, or a majority.
    fn is_stale(&self, known: &Evidence) -> bool {
        let Some(ballot) = known.ballot.as_ref().filter(|_| !self.in_older_round) else {
            return false;
        };
        let local = ballot
            .votes
            .first()
            .and_then(|vote| vote.says.as_ref().ok());
        let mut named = local.into_iter().chain(ballot.winner());
        named.any(|site| !site.is_same(&self.call.to))
    }
}

impl Stands {
    fn of(verdict: &Verdict) -> Option<Stands> {
        match verdict {
            Verdict::Here(..) => Some(Stands::Here),
            Verdict::Elsewhere(_) => Some(Stands::Elsewhere),
            Verdict::Stays(_) | Verdict::Undecided(_) => None,
        }
    }
}

/// What the agent knows of one master.
#[derive(Debug)]
pub struct Master {
    /// The master-name.
    pub name: String,
    vips: Vec<IpAddr>,
    on_isolation: OnIsolation,
    facts: Option<Facts>,
    /// Why the last round of questions told nothing.
    unasked: Option<Fault>,
    /// What each Redis of this host said last.
    pub own: BTreeMap<SocketAddr, Own>,
    promotion: Option<Promoting>,
    /// The time of a promotion is over, and the Sentinels were not asked since.
    asked_before: Option<AskedBefore>,
    /// A promotion whose time is over: its leader, who counts from a later step, may give up only now, or a majority name
    /// it.
    overdue: Option<Promoting>,
    former: Former,
    /// Whether what follows from the promotion was begun: its place may be unknown at first.
    is_begun: bool,
    pub(in crate::agent::core) hand_over: Option<HandOver>,
    /// The Redis of this host that was told to follow the promoted one, until a majority names that; and when it may be
    /// told to lead again.
    follower: Option<(SocketAddr, Time)>,
    /// When writes may be paused again: an event may be forged.
    pause_after: Time,
    cut_off: CutOff,
    on_redis_death: OnRedisDeath,
    /// The master of this host, while it lives.
    alive: Option<Alive>,
    /// Its death that nothing was done about yet.
    died: Option<Died>,
    death: Option<Death>,
    /// What is done about it, in words.
    pub death_note: Option<String>,
    /// Up to which epoch Sentinels have voted in a round about it of which nothing came.
    voted: u64,
    /// Whether clients are refused in its place.
    refuses: bool,
    /// Until when no failover is asked for, as the last one was not long ago.
    quiet_until: Time,
    /// The number of the newest failover that was ever known.
    epoch: u64,
    /// An order against the truth, and the newest failover when it was given.
    forced: Option<(Order, u64)>,
    /// Until when a Redis that stops is meant to ([`Time::MAX`]: until that is ended).
    pub maintenance: Option<Time>,
    call: Option<Called>,
    divided_since: Option<Time>,
    restless_until: Time,
    /// When something is due, whatever happens until then.
    pub(in crate::agent::core) due: Option<Time>,
    /// Whether something goes on, so that the Sentinels are to be asked often.
    pub(in crate::agent::core) is_restless: bool,
    /// What followed from all that last.
    pub verdict: Verdict,
    /// What the log was told of it last: its name, where the VIP belongs, whether that is not known.
    noted: (&'static str, Option<Stands>, bool),
    stands: Option<Stands>,
    settling: bool,
    is_dirty: bool,
    pub(in crate::agent::core) retry: Option<(Time, Duration)>,
    lifts: Lifts,
    failed: Option<Fault>,
    /// The last failover that was seen.
    pub timeline: Option<Timeline>,
    /// How often a VIP was taken over here.
    pub take_overs: u64,
    /// How long each took, from the first sign to the first frame.
    pub took: Vec<Duration>,
    /// How long writes were paused in all.
    pub paused_for: Duration,
    /// How often a VIP that something else had bound or removed was put right.
    pub drifts: u64,
}

impl Master {
    pub(in crate::agent::core) fn new(settings: Settings) -> Master {
        Master {
            name: settings.name,
            vips: settings.vips,
            on_isolation: settings.on_isolation,
            on_redis_death: settings.on_redis_death,
            alive: None,
            died: None,
            death: None,
            death_note: None,
            voted: 0,
            refuses: false,
            quiet_until: Time::ZERO,
            epoch: 0,
            facts: None,
            unasked: None,
            own: BTreeMap::new(),
            promotion: None,
            asked_before: None,
            overdue: None,
            former: Former::default(),
            is_begun: false,
            hand_over: None,
            follower: None,
            pause_after: Time::ZERO,
            cut_off: CutOff::default(),
            forced: None,
            maintenance: None,
            call: None,
            divided_since: None,
            restless_until: Time::ZERO,
            due: None,
            is_restless: false,
            verdict: Verdict::Stays(Why::NothingKnown),
            noted: (Verdict::Stays(Why::NothingKnown).name(), None, false),
            stands: None,
            settling: false,
            is_dirty: false,
            retry: None,
            lifts: Lifts::default(),
            failed: None,
            timeline: None,
            take_overs: 0,
            took: Vec::new(),
            paused_for: Duration::ZERO,
            drifts: 0,
        }
    }

    /// Returns what is known now, for the verdict.
    pub fn evidence(&self, now: Time) -> Evidence {
        let mut all = self.asked();
        if let Some(ballot) = &mut all.ballot {
            ballot.waited = self
                .divided_since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        }
        for redis in &mut all.own_redis {
            if let Some(own) = self.own.get(&redis.at) {
                redis.role = own.role.clone();
            }
        }
        let promotion = self.promotion.as_ref();
        all.promotion = promotion.map(|promoting| {
            let mut told = promoting.evidence(&all, now);
            // It was the master already, so that this is no sign of a promotion.
            told.role = told.role.filter(|_| !self.former.has(&told.to));
            told
        });
        all.is_cut_off = self.is_cut_off(&all, now);
        let winner = all.ballot.as_ref().and_then(Ballot::winner);
        let death = self.death.iter().filter(|it| it.keeps_the_vip_away());
        all.has_died = death
            .into_iter()
            .any(|death| winner.is_none_or(|winner| winner.is_same(&death.site)));
        all.order = self.forced.map(|(order, _)| order);
        if let Some(called) = &self.call {
            all.call = Some(called.call.clone());
            all.word = Some(called.word.clone());
        }
        all
    }

    /// Returns what the last round of questions told. What an earlier one told of the Sentinels does not hold any
    /// more; nor, once the time of a promotion of another Redis is over, that they name this host's: a round takes
    /// seconds where a Sentinel is silent, and the others may have named the promoted one since.
    fn asked(&self) -> Evidence {
        let told = self.facts.as_ref().map(|facts| facts.evidence.clone());
        let told = told.unwrap_or_default();
        let holds = |ballot: &Ballot| {
            let is_here = ballot.winner().is_some_and(Site::is_here);
            self.unasked.is_none() && !(is_here && self.asked_before.is_some())
        };
        Evidence {
            ballot: told.ballot.filter(holds),
            ..told
        }
    }

    fn is_cut_off(&self, known: &Evidence, now: Time) -> bool {
        let is_master = known
            .own_redis
            .iter()
            .any(|own| own.role == Ok(Role::Master));
        let due = self.down_after().and_then(|time| self.cut_off.due(time));
        self.on_isolation == OnIsolation::Release && is_master && due.is_some_and(|due| due <= now)
    }

    /// Returns how long this host has been cut off, if it is, whatever it does then.
    pub fn cut_off_for(&self, now: Time) -> Option<Duration> {
        let since = self.cut_off.since()?;
        let due = self.cut_off.due(self.down_after()?)?;
        (due <= now).then(|| now.saturating_sub(since))
    }

    fn down_after(&self) -> Option<Duration> {
        self.facts.as_ref()?.down_after
    }

    /// Returns an order against the truth that still holds, and the newest failover when it was given.
    pub fn forced(&self) -> Option<(Order, u64)> {
        self.forced
    }

    /// Goes on with an order that an earlier agent of this host was given.
    pub(in crate::agent::core) fn go_on_with(&mut self, order: Order, epoch: u64) {
        self.forced = Some((order, epoch));
    }

    /// Returns where the VIPs were settled last.
    pub fn stands(&self) -> Option<Stands> {
        self.stands
    }

    /// Returns whether everything was done that follows from what is known, and why not if it is known.
    pub fn is_settled(&self) -> bool {
        !self.settling && !self.is_dirty && Stands::of(&self.verdict) == self.stands
    }

    /// Returns whether a failover goes on that no majority has confirmed yet: another agent would not know of it.
    pub(in crate::agent::core) fn is_promoting(&self) -> bool {
        self.promotion.is_some() || self.death.as_ref().is_some_and(Death::keeps_the_vip_away)
    }

    /// Returns why the last attempt has failed, if it has.
    pub fn failed(&self) -> Option<&Fault> {
        self.failed.as_ref()
    }

    /// Returns what would follow without an operator's order.
    pub fn verdict_without_order(&self, now: Time) -> Verdict {
        verdict(&Evidence {
            order: None,
            ..self.evidence(now)
        })
    }

    /// Returns why the last round of questions told nothing.
    pub fn unasked(&self) -> Option<&Fault> {
        self.unasked.as_ref()
    }

    /// What was known before tells nothing: this agent, or the whole machine, was stopped meanwhile.
    pub(in crate::agent::core) fn was_late(&mut self, now: Time) {
        self.cut_off.was_late(now);
        let text = "this agent was stopped for a while, and has not asked since";
        self.unasked = Some(Fault::passing(text));
        self.own.clear();
        // Another Redis that has said that it is the master keeps the VIP away from here, as it does without a stop.
        let says_master = |it: &Promoting| it.role == Some(Role::Master);
        self.promotion = self.promotion.take().filter(says_master);
        // Something may have bound a VIP meanwhile, or removed it.
        self.is_dirty = true;
    }

    pub(in crate::agent::core) fn polled(&mut self, facts: Facts, now: Time) {
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
        // The lengths are kept where they were not told this time.
        let before = self.facts.take();
        let before = before.map(|before| (before.down_after, before.failover_timeout));
        let (down_after, failover_timeout) = before.unwrap_or_default();
        self.facts = Some(Facts {
            down_after: facts.down_after.or(down_after),
            failover_timeout: facts.failover_timeout.or(failover_timeout),
            ..facts
        });
    }

    pub(in crate::agent::core) fn round_ended(&mut self) {
        self.asked_before = self.asked_before.map(|_| AskedBefore::RoundEnded);
        if let Some(called) = &mut self.call {
            called.in_older_round = false;
        }
    }

    pub(in crate::agent::core) fn not_polled(&mut self, fault: Fault) {
        self.unasked = Some(fault);
        self.divided_since = None;
    }

    /// Returns whether its role is news.
    pub(in crate::agent::core) fn heard_own(
        &mut self,
        at: SocketAddr,
        own: Own,
        now: Time,
    ) -> bool {
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

    pub(in crate::agent::core) fn has(&self, address: IpAddr) -> bool {
        self.vips.contains(&address)
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

    pub(in crate::agent::core) fn gained(&mut self, address: IpAddr, now: Time) {
        if !self.has(address) {
            self.may_work_now(now);
        } else if self.stands == Some(Stands::Elsewhere) && !self.settling {
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
        if settled.released
            && let Some(timeline) = &mut self.timeline
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
            self.unpause_released(actions);
        }
    }

    /// Looks what follows from what is known now.
    pub(in crate::agent::core) fn review(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.expire(now);
        if self.maintenance.is_some_and(|until| now >= until) {
            self.maintain(None, actions);
        }
        if let Some(died) = self.died.take() {
            self.begin_death(died, now, actions);
        }
        let known = self.evidence(now);
        self.review_death(&known, now, actions);
        let mut known = self.evidence(now);
        self.begin_promotion(&known, now, actions);
        self.note_role(&known, now);
        if self.confirm(&known, now, actions) {
            known = self.evidence(now);
        }
        let next = verdict(&known);
        self.note(&next, now, actions);
        self.verdict = next;
        self.lead_again(&known, now, actions);
        self.hand_over_if_cut_off(&known, now, actions);
        self.review_refusals(actions);
        self.settle_if_due(now, actions);
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
        if self.hand_over.as_ref().is_some_and(|it| now >= it.until()) {
            self.unpaused(now);
        }
    }

    fn settle_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let wants = self.wants();
        if wants.is_none() || self.settling || self.holds_back(now) {
            return;
        }
        let may_try = self.retry.is_none_or(|(at, _)| now >= at);
        if (self.is_dirty || wants != self.stands) && may_try && !self.waits_for_pause(now) {
            (self.settling, self.is_dirty) = (true, false);
            actions.push(Action::Settle(self.name.clone()));
        } else if self.is_settled() && wants == Some(Stands::Elsewhere) {
            // There was no VIP to release.
            self.unpause_released(actions);
        }
    }

    /// Returns where the VIPs are to be settled, `None` where they stay as they are.
    fn wants(&self) -> Option<Stands> {
        Stands::of(&self.verdict)
    }

    fn holds_back(&self, now: Time) -> bool {
        let fails_over = self.facts.as_ref().is_some_and(|facts| facts.fails_over);
        now < AT_START && fails_over && matches!(self.verdict, Verdict::Here(_, Why::Majority))
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
        if let (Verdict::Here(_, Why::Majority), Some(Stands::Elsewhere)) = (next, self.stands) {
            // Without an event of its leader.
            if self
                .timeline
                .as_ref()
                .is_none_or(|timeline| !timeline.ended.is_empty())
            {
                let mut timeline = Timeline::new("this host".into(), now);
                timeline.role_changed = Some(now);
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
    pub(in crate::agent::core) fn wake(&self, now: Time) -> Option<Time> {
        // What cannot be tried when its time comes must not keep the agent awake.
        let held_back = self.holds_back(now).then_some(AT_START);
        let is_held = self.holds_back(now) || self.waits_for_pause(now);
        let may_try = !self.settling && self.wants().is_some() && !is_held;
        let retry = self.retry.filter(|_| may_try).map(|(at, _)| at);
        let pause = self.hand_over.as_ref().map(|it| it.next(now));
        let promotion = self.promotion.as_ref().map(Promoting::until);
        let call = self.call.as_ref().map(|called| called.until);
        let death = self.next_round(&self.evidence(now));
        let maintenance = self.maintenance;
        let all = [retry, pause, promotion, call, death, maintenance, held_back];
        all.into_iter().flatten().min()
    }

    /// Returns what the last round of questions told, for those who ask.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }
}

fn newest(known: &Evidence) -> u64 {
    let votes = known.ballot.iter().flat_map(|ballot| &ballot.votes);
    votes.map(|vote| vote.epoch).max().unwrap_or_default()
}

/// Returns a verdict in words.
pub fn words(verdict: &Verdict) -> String {
    let why = |why: &Why| match why {
        Why::Ordered => "an operator wants it so",
        Why::Called => "Sentinel's call says so",
        Why::Told => "this host's Sentinel says so",
        Why::Majority => "a majority of the Sentinels says so",
        Why::Replica => "this host's Redis is a replica",
        Why::Promoted => "a leader has promoted it, and it says that it is the master",
        Why::CutOff => "this host is cut off from its peers, which can have another master by now",
        Why::Died => "this host's Redis has died, and a failover was asked for",
        Why::NoNews => "the call tells nothing",
        Why::NothingKnown => "nothing is known yet",
    };
    match verdict {
        Verdict::Here(_, reason) => format!("the VIP belongs here: {}", why(reason)),
        Verdict::Elsewhere(reason) => format!("the VIP does not belong here: {}", why(reason)),
        Verdict::Stays(reason) => format!("the VIP stays as it is: {}", why(reason)),
        Verdict::Undecided(fault) => format!("the VIP stays as it is: {fault}"),
    }
}
