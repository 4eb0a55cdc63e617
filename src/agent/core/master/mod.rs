//! What the agent knows of one master, and when it has its VIPs settled.

mod died;
mod failover;
mod heard;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cut_off::CutOff;
use super::death::{Alive, Death, Died};
use super::former::Former;
use super::hand_over::HandOver;
use super::lifts::Lifts;
use super::promotion::Promoting;
use super::unproven::Unproven;
use super::{Facts, NOT_COMPARED, Own, STOPPED, Settings, Time, Timeline};
use crate::config::{OnIsolation, OnRedisDeath};
use crate::election::look::Vote;
use crate::evidence::{Ballot, Call, Evidence, Order, Role, Site, Word};
use crate::exit::Fault;
use crate::verdict::{Verdict, Why, verdict};

/// Where the VIPs were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// On this host.
    Here,
    /// Not on this host.
    Elsewhere,
}

/// How long the host of a Redis whose promotion no majority has confirmed may be without its peers. They are missed up to
/// 3 s after they were gone, and the old master's host gives the promoted one up after
/// [`chosen::SILENT`](crate::agent::chosen::SILENT).
const PROVISIONAL: Duration = Duration::from_secs(2);

/// Whether a round of questions may still go on that began before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedBefore {
    /// It may.
    RoundGoesOn,
    /// It has ended: what is told next was asked for later.
    RoundEnded,
}

impl AskedBefore {
    /// Returns which it is at this moment. Whether a round of questions goes on.
    fn new(polling: bool) -> AskedBefore {
        match polling {
            true => AskedBefore::RoundGoesOn,
            false => AskedBefore::RoundEnded,
        }
    }
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

/// What was learned since this agent was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinceStop {
    /// Nothing: the Sentinels were not asked.
    NotAsked,
    /// Not that the VIPs belong here: they belong elsewhere, or the Sentinels were asked in vain, or are not of one mind.
    NotHere,
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
    /// No round of questions has ended yet that has looked whether a server has the address of one of these VIPs.
    uncompared: Option<AskedBefore>,
    on_isolation: OnIsolation,
    facts: Option<Facts>,
    /// Why the last round of questions told nothing.
    unasked: Option<Fault>,
    /// What was learned since this agent was stopped, until that is that the VIPs belong here.
    since_stop: Option<SinceStop>,
    /// What each Redis of this host said last.
    pub own: BTreeMap<SocketAddr, Own>,
    /// Which of these refuse to tell of themselves: a password, a right or a certificate is wrong.
    refusing: BTreeSet<SocketAddr>,
    promotion: Option<Promoting>,
    /// The time of a promotion is over, and the Sentinels were not asked since.
    asked_before: Option<AskedBefore>,
    /// A promotion whose time is over: a majority may name it only now.
    overdue: Option<Promoting>,
    former: Former,
    /// Whether what follows from the promotion was begun: its place may be unknown at first.
    is_begun: bool,
    pub(in crate::agent::core) hand_over: Option<HandOver>,
    /// The Redis of this host that was told to follow the promoted one, until a majority names that; and when it may be
    /// told to lead again.
    follower: Option<(SocketAddr, Time)>,
    /// How long writes have waited for events that may be forged.
    unproven: Unproven,
    /// Whether the last pause could not be, as they have: that is said once.
    was_pause_refused: bool,
    cut_off: CutOff,
    on_redis_death: OnRedisDeath,
    /// Each Redis of this host that says that it is the master, by where it is.
    alive: BTreeMap<SocketAddr, Alive>,
    /// Its death that nothing was done about yet.
    died: Option<Died>,
    death: Option<Death>,
    /// What is done about it, in words.
    pub death_note: Option<String>,
    /// The votes of rounds about it of which nothing came.
    voted: Vec<Vote>,
    /// The last vote of each Sentinel, and since when it is that.
    votes: Vec<(Vote, Time)>,
    /// Whether clients are refused in its place.
    refuses: bool,
    /// Until when no failover is asked for, as the last one was not long ago.
    quiet_until: Time,
    /// The number of the newest failover that was ever known.
    epoch: u64,
    /// An order against the truth, and the newest failover when it was given.
    forced: Option<(Order, u64)>,
    /// Whether the promotion that goes on was published after that: it ends it.
    ends_order: bool,
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
    /// In how many failovers a VIP was taken over here.
    pub take_overs: u64,
    /// How long each took, from the first sign to the first frame.
    pub took: Vec<Duration>,
    /// How long writes were paused in all.
    pub paused_for: Duration,
    /// How often a VIP that something else had bound or removed was put right.
    pub drifts: u64,
}

impl Master {
    /// Returns a master of which nothing is known. Whether a round of questions goes on, which may be about another one of
    /// that name.
    pub(in crate::agent::core) fn new(settings: Settings, polling: bool) -> Master {
        Master {
            name: settings.name,
            vips: settings.vips,
            uncompared: Some(AskedBefore::new(polling)),
            on_isolation: settings.on_isolation,
            on_redis_death: settings.on_redis_death,
            alive: BTreeMap::new(),
            died: None,
            death: None,
            death_note: None,
            voted: Vec::new(),
            votes: Vec::new(),
            refuses: false,
            quiet_until: Time::ZERO,
            epoch: 0,
            facts: None,
            unasked: None,
            since_stop: None,
            own: BTreeMap::new(),
            refusing: BTreeSet::new(),
            promotion: None,
            asked_before: None,
            overdue: None,
            former: Former::default(),
            is_begun: false,
            hand_over: None,
            follower: None,
            unproven: Unproven::default(),
            was_pause_refused: false,
            cut_off: CutOff::default(),
            forced: None,
            ends_order: false,
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
        #[cfg(test)]
        super::tests::many::count();
        // A failover ends an order, and there may have been one while this agent was stopped.
        if self.forced.is_some() && self.has_to_ask() {
            return Evidence::default();
        }
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
        if let Some(called) = self.call.as_ref().filter(|_| !self.has_to_ask()) {
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
        let due = self.isolation().and_then(|time| self.cut_off.due(time));
        self.on_isolation == OnIsolation::Release && is_master && due.is_some_and(|due| due <= now)
    }

    /// Returns how long this host has been cut off, if it is, whatever it does then.
    pub fn cut_off_for(&self, now: Time) -> Option<Duration> {
        let since = self.cut_off.since()?;
        let due = self.cut_off.due(self.down_after()?)?;
        (due <= now).then(|| now.saturating_sub(since))
    }

    /// Returns after how long without its peers this host lets go: sooner while a promotion of its Redis is provisional,
    /// as the old master's host takes the VIP back then.
    pub(super) fn isolation(&self) -> Option<Duration> {
        let time = self.down_after()?;
        Some(match self.is_chosen_here() {
            true => time.min(PROVISIONAL),
            false => time,
        })
    }

    fn down_after(&self) -> Option<Duration> {
        self.facts.as_ref()?.down_after
    }

    /// Returns after how long the most impatient Sentinel takes a silent master for down.
    fn soonest_down(&self) -> Option<Duration> {
        self.facts.as_ref()?.soonest_down
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

    /// Returns whether a failover goes on that no majority has confirmed yet.
    pub(in crate::agent::core) fn is_promoting(&self) -> bool {
        let goes_on = self.promotion.as_ref().is_some_and(|it| !it.is_lost);
        goes_on || self.death.as_ref().is_some_and(Death::keeps_the_vip_away)
    }

    /// Returns whether something of a failover goes on that another agent would not know of.
    pub(in crate::agent::core) fn is_failing_over(&self) -> bool {
        self.hand_over.is_some() || self.follower.is_some() || self.is_promoting()
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

    /// Returns whether this agent was stopped, and has not asked since.
    pub(in crate::agent::core) fn has_to_ask(&self) -> bool {
        self.since_stop == Some(SinceStop::NotAsked)
    }

    /// Returns why nothing may be done yet that an order wants which is not forced.
    pub(in crate::agent::core) fn why_to_ask(&self) -> Option<&'static str> {
        match self.has_to_ask() {
            true => Some(STOPPED),
            false => self.uncompared.map(|_| NOT_COMPARED),
        }
    }

    /// Returns whether an answer is of no use: it was asked for before the VIPs were these.
    pub(in crate::agent::core) fn is_answer_old(&self) -> bool {
        self.uncompared == Some(AskedBefore::RoundGoesOn)
    }

    /// Returns whether this agent was stopped, and has not learned since that the VIPs belong here.
    pub(in crate::agent::core) fn has_to_learn(&self) -> bool {
        self.since_stop.is_some()
    }

    /// Returns why the last round of questions told nothing.
    pub fn unasked(&self) -> Option<&Fault> {
        self.unasked.as_ref()
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
        Why::Died => "this host's Redis has died, and is to be failed over",
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
