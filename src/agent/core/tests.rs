use std::net::SocketAddr;

use super::*;
use crate::config::{OnIsolation, OnRedisDeath};
use crate::evidence::{Ballot, Call, OwnRedis, Role, Site, Vote, Word};
use crate::exit::{Fault, Kind};
use crate::failover::{Endpoint, Host};
use crate::place::Place;
use crate::verdict::{Verdict, Why};

mod attempts;
mod cut_off;
mod death;
mod hand_over;
pub(super) mod many;
mod promotion;
mod reload;
mod stopped;

const M: &str = "m";
const VIP: &str = "10.0.0.250";
const HERE: &str = "10.0.0.1";
const AWAY: &str = "10.0.0.2";
/// The Sentinel that leads.
const LEADER: &str = "10.0.0.3:26379";

const fn ms(number: u64) -> Time {
    Time::from_millis(number)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(host: &str) -> Endpoint {
    Endpoint {
        host: Host::Address(ip(host)),
        port: 6379,
    }
}

fn site(host: &str) -> Site {
    Site {
        endpoint: endpoint(host),
        addresses: vec![ip(host)],
        run_id: None,
        place: Ok(if host == HERE {
            Place::Here(Some(2))
        } else {
            Place::Elsewhere
        }),
    }
}

fn at() -> SocketAddr {
    SocketAddr::new(ip(HERE), 6379)
}

/// Three Sentinels, `-` is silent; they know of failover 7.
fn facts(says: [&str; 3], role: Role) -> Box<Facts> {
    let vote = |host: &str| Vote {
        who: "s".into(),
        says: match host {
            "-" => Err("silent".into()),
            host => Ok(site(host)),
        },
        epoch: 7,
        known_to: 3,
        listed_here: true,
        out_of_reach: host == "-",
    };
    let evidence = Evidence {
        ballot: Some(Ballot {
            votes: says.map(vote).to_vec(),
            quorum: 2,
            waited: Duration::ZERO,
        }),
        known_redis: vec![site(HERE), site(AWAY)],
        own_redis: vec![OwnRedis {
            site: site(HERE),
            at: at(),
            is_vouched_for: true,
            role: Ok(role),
            run_id: None,
        }],
        ..Evidence::default()
    };
    Box::new(Facts {
        evidence,
        down_after: Some(ms(5000)),
        soonest_down: Some(ms(5000)),
        failover_timeout: Some(ms(60_000)),
        could_elect_without: false,
        has_replicas: true,
        fails_over: false,
        promoting: None,
    })
}

/// The same where other masters' Redis are on this host, too: one on a port of this master's, and one on another address,
/// which its run id alone tells from this master's.
fn beside_strangers(mut facts: Box<Facts>) -> Box<Facts> {
    let ours = || Some("ours".to_owned());
    let told = &mut facts.evidence;
    let named = told.ballot.iter_mut().flat_map(|it| &mut it.votes);
    let named = named.filter_map(|vote| vote.says.as_mut().ok());
    let own = told.own_redis.iter_mut();
    let own = own.map(|own| (&mut own.site, &mut own.run_id));
    for (site, run_id) in own {
        (site.run_id, *run_id) = (ours(), ours());
    }
    for site in named.chain(&mut told.known_redis).filter(|it| it.is_here()) {
        site.run_id = ours();
    }
    let stranger = |site: Site, at: &str| OwnRedis {
        site,
        at: at.parse().unwrap(),
        is_vouched_for: true,
        role: Ok(Role::Master),
        run_id: Some("theirs".into()),
    };
    let unnamed = Site {
        endpoint: Endpoint {
            port: 6380,
            ..endpoint(HERE)
        },
        ..site(HERE)
    };
    let by_port = told.own_redis[0].site.clone();
    told.own_redis.splice(
        0..0,
        [
            stranger(unnamed, "10.0.0.1:6380"),
            stranger(by_port, "10.0.0.9:6379"),
        ],
    );
    facts
}

/// The Redis whose writes are to be paused.
fn paused(actions: &[Action]) -> Vec<SocketAddr> {
    let paused = actions.iter().filter_map(|action| match action {
        Action::Pause(_, at, _) => Some(*at),
        _ => None,
    });
    paused.collect()
}

fn own(role: Role) -> Own {
    Own {
        role: Ok(role),
        offset: Some(1000),
        acknowledged: Some(Duration::ZERO),
        replicas: Vec::new(),
        run_id: None,
        is_gone: false,
    }
}

/// The Redis of the other host follows this one, if it is a master.
fn followed(own: Own) -> Own {
    let replica = crate::agent::snapshot::Replica {
        at: endpoint(AWAY).to_string(),
        lag: Some(0),
        behind: 0,
        online: true,
    };
    let replicas = (own.role == Ok(Role::Master)).then_some(replica);
    Own {
        replicas: replicas.into_iter().collect(),
        ..own
    }
}

/// An agent and what it was told.
struct Agent {
    core: Core,
    /// Another one that is told the same, and reads its configuration again before each thing: what that does not change
    /// must make no difference.
    reloaded: Core,
    /// Whether the other one has another master, too, which comes and goes.
    has_another: bool,
    now: Time,
}

fn settings(name: &str, vip: &str) -> Settings {
    Settings {
        name: name.to_owned(),
        vips: vec![ip(vip)],
        on_isolation: OnIsolation::Release,
        on_redis_death: OnRedisDeath::Failover,
    }
}

impl Agent {
    fn new() -> Agent {
        let core = || Core::new(std::iter::once(settings(M, VIP)));
        Agent {
            core: core(),
            reloaded: core(),
            has_another: false,
            now: ms(0),
        }
    }

    /// Tells it something `later` milliseconds after the last thing.
    fn on(&mut self, later: u64, event: Event) -> Vec<Action> {
        self.now += ms(later);
        self.reload();
        let actions = self.core.on(event.clone(), self.now);
        let mut reloaded = self.reloaded.on(event.clone(), self.now);
        // What it has to say of the other master is no difference.
        reloaded.retain(|it| !matches!(it, Action::Log(name, ..) if name == "other"));
        assert_eq!(actions, reloaded, "{event:?}");
        let wakes = [&self.core, &self.reloaded].map(|core| core.wake(self.now));
        assert_eq!(wakes[0], wakes[1], "{event:?}");
        actions
    }

    fn reload(&mut self) {
        self.has_another = !self.has_another;
        let mut masters = vec![settings(M, VIP)];
        masters.extend(self.has_another.then(|| settings("other", "10.0.0.251")));
        // Only that all are asked about at once is a difference.
        let asks = self.reloaded.poll_again;
        self.reloaded.configure(masters);
        self.reloaded.poll_again = asks;
    }

    fn polled(&mut self, later: u64, facts: Box<Facts>) -> Vec<Action> {
        let actions = self.on(later, Event::Polled(M.into(), facts));
        self.on(0, Event::PollEnded);
        actions
    }

    /// Ends the attempt that is going on, as it should.
    fn settles(&mut self, later: u64) -> Vec<Action> {
        self.on(later, self.settled())
    }

    fn settled(&self) -> Event {
        let verdict = self.core.master(M).unwrap().verdict.clone();
        let settled = Settled {
            took_over: matches!(verdict, Verdict::Here(..)),
            released: matches!(verdict, Verdict::Elsewhere(_)),
            verdict: Some(verdict),
            failed: None,
            bound: Some(self.now),
            first_frame: Some(self.now),
        };
        Event::Settled(M.into(), Box::new(settled))
    }

    fn master(&self) -> &Master {
        self.core.master(M).unwrap()
    }

    /// The VIP stands here, or not, and all agree.
    fn standing(here: bool) -> Agent {
        let mut agent = Agent::new();
        let (says, role) = match here {
            true => (HERE, Role::Master),
            false => (AWAY, Role::Replica),
        };
        agent.on(0, Event::OwnRedis(M.into(), at(), own(role.clone())));
        let actions = agent.polled(1, facts([says; 3], role.clone()));
        assert!(actions.contains(&settle()), "{actions:?}");
        let of_away = followed(own(role));
        agent.on(0, Event::OwnRedis(M.into(), at(), of_away));
        agent.settles(1);
        assert!(agent.master().is_settled());
        agent
    }
}

fn settle() -> Action {
    Action::Settle(M.into())
}

fn has_unpause(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::Unpause(..)))
}

/// Whom the old master is told to follow, if it is, where writes are allowed again.
fn heir(actions: &[Action]) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Unpause(_, _, heir) => Some(heir.as_ref()?.to_string()),
        _ => None,
    })
}

fn promotes(to: &str) -> Event {
    Event::Promotes(M.into(), endpoint(to), LEADER.into())
}

/// Lets time go by with a round of questions every second.
fn silence(agent: &mut Agent, seconds: u64, acknowledged: Option<Duration>) -> Vec<Action> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        let mut cut = facts([HERE, "-", "-"], Role::Master);
        cut.could_elect_without = true;
        let mut redis = own(Role::Master);
        redis.acknowledged = acknowledged;
        all.extend(agent.on(500, Event::OwnRedis(M.into(), at(), redis)));
        all.extend(agent.polled(500, cut));
    }
    all
}

#[test]
fn nothing_is_moved_while_nothing_is_known() {
    let mut agent = Agent::new();
    assert_eq!(agent.on(0, Event::Woke), [Action::Poll]);
    let fault = Fault::passing("refused");
    let actions = agent.on(5, Event::NotPolled(M.into(), fault.clone()));
    assert!(!actions.contains(&settle()), "{actions:?}");
    // The log says why, once.
    let says =
        |action: &Action| matches!(action, Action::Log(_, false, text) if text.contains("refused"));
    assert!(actions.iter().any(says), "{actions:?}");
    let again = agent.on(5, Event::NotPolled(M.into(), fault));
    assert!(!again.iter().any(says), "{again:?}");
    let actions = agent.polled(5, facts([HERE, "-", "-"], Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
}

#[test]
fn an_order_against_the_truth_lasts_until_the_next_failover() {
    let mut agent = Agent::standing(false);
    let actions = agent.on(10, Event::Forced(M.into(), Some(Order::Bind)));
    assert!(actions.contains(&settle()), "{actions:?}");
    agent.settles(1);
    let actions = agent.polled(1000, facts([AWAY; 3], Role::Replica));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let mut later = facts([AWAY; 3], Role::Replica);
    for vote in &mut later.evidence.ballot.as_mut().unwrap().votes {
        vote.epoch = 8;
    }
    let actions = agent.polled(1000, later);
    assert!(actions.contains(&settle()), "{actions:?}");
}

const THIRD: &str = "10.0.0.3";

/// The VIP is here by order, the master elsewhere, and a third host's Redis may be promoted.
fn bound_by_order() -> Agent {
    let mut agent = Agent::standing(false);
    let mut known = facts([AWAY; 3], Role::Replica);
    known.evidence.known_redis.push(site(THIRD));
    agent.polled(10, known);
    agent.on(10, Event::Forced(M.into(), Some(Order::Bind)));
    agent.settles(1);
    agent
}

#[test]
fn an_order_against_the_truth_ends_with_the_promotion_and_not_a_second_later() {
    let mut agent = bound_by_order();
    let actions = agent.on(1000, promotes(THIRD));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let says_master = || Event::Chosen(M.into(), endpoint(THIRD), Role::Master, None);
    let actions = agent.on(100, says_master());
    assert!(actions.contains(&settle()), "{actions:?}");
    assert!(matches!(agent.master().verdict, Verdict::Elsewhere(_)));
    // One that was given in the midst of it is about what the operator sees.
    let mut agent = bound_by_order();
    agent.on(1000, promotes(THIRD));
    agent.on(10, Event::Forced(M.into(), Some(Order::Bind)));
    agent.settles(1);
    let actions = agent.on(100, says_master());
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Ordered)
    ));
}

#[test]
fn the_sentinels_are_asked_every_second_and_often_while_something_goes_on() {
    let mut agent = Agent::standing(false);
    let due = |agent: &Agent| agent.core.wake(agent.now) - agent.now;
    assert!(due(&agent) > ms(900), "{:?}", due(&agent));
    agent.on(0, promotes(HERE));
    agent.on(5, Event::PollEnded);
    assert!(due(&agent) <= ms(100), "{:?}", due(&agent));
    // A round that does not end is no reason for a second one.
    agent.on(100, Event::Woke);
    assert_eq!(agent.on(500, Event::Woke), []);
}

#[test]
fn a_call_that_sentinels_have_overtaken_is_forgotten() {
    let call = Call {
        to: site(AWAY),
        carries_information: true,
    };
    let called = Event::Called(M.into(), Box::new((call, Word::Agrees)), ms(20_000));
    let mut agent = Agent::new();
    agent.polled(0, facts([AWAY, AWAY, AWAY], Role::Replica));
    agent.settles(1);
    agent.on(1, called.clone());
    agent.settles(1);
    // Another failover, back to this host; then two Sentinels fall silent.
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.polled(1000, facts([HERE, HERE, HERE], Role::Master));
    agent.settles(1);
    agent.polled(1000, facts([HERE, "-", "-"], Role::Master));
    let master = agent.core.master(M).unwrap();
    assert!(
        matches!(master.verdict, Verdict::Undecided(_)),
        "{:?}",
        master.verdict
    );
    assert_eq!(master.stands(), Some(Stands::Here));

    // What a round tells that began before the call is older.
    agent.on(1000, Event::Woke);
    assert!(agent.core.polling.is_some());
    agent.on(0, called);
    agent.polled(1, facts([HERE, "-", "-"], Role::Master));
    let master = agent.core.master(M).unwrap();
    assert_eq!(master.verdict, Verdict::Elsewhere(Why::Called));
}

#[test]
fn a_call_of_an_earlier_failover_does_not_outlive_a_promotion() {
    let call = Call {
        to: site(HERE),
        carries_information: true,
    };
    let mut agent = Agent::new();
    agent.polled(0, facts([HERE, HERE, HERE], Role::Master));
    agent.settles(1);
    agent.on(
        1,
        Event::Called(M.into(), Box::new((call, Word::Agrees)), ms(200_000)),
    );
    agent.on(1, Event::Promotes(M.into(), endpoint(AWAY), LEADER.into()));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(1000));
    agent.on(1, said(Role::Replica));
    agent.on(1, said(Role::Master));
    agent.settles(1);
    let stands = |agent: &Agent| agent.core.master(M).unwrap().stands();
    assert_eq!(stands(&agent), Some(Stands::Elsewhere));
    // The leader's time is over, this host's Sentinel hangs, and the others are not of one mind yet.
    agent.polled(61_000, facts(["-", HERE, AWAY], Role::Master));
    let verdict = &agent.core.master(M).unwrap().verdict;
    assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
}

#[test]
fn an_agent_that_was_stopped_acts_on_nothing_that_it_knew_before() {
    let mut agent = Agent::standing(true);
    // Meanwhile the master has moved, and something has removed the VIP.
    let actions = agent.on(60_000, Event::AddressGone(ip(VIP)));
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(actions.contains(&Action::Poll), "{actions:?}");
    let actions = agent.polled(10, facts([AWAY; 3], Role::Replica));
    assert!(matches!(agent.master().verdict, Verdict::Elsewhere(_)));
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn an_agent_that_was_stopped_in_a_round_of_questions_acts_on_none_of_its_answers() {
    for here in [true, false] {
        let (before, now) = if here { (HERE, AWAY) } else { (AWAY, HERE) };
        let told = |named| Event::Polled(M.into(), facts([named; 3], Role::Master));
        for is_told_first in [true, false] {
            let mut agent = Agent::standing(here);
            assert!(agent.on(1000, Event::Woke).contains(&Action::Poll));
            // Meanwhile the master has moved, and somebody has moved the VIP.
            let moved = match here {
                true => Event::AddressGone(ip(VIP)),
                false => Event::AddressNew(ip(VIP)),
            };
            let mut late = vec![moved, told(before)];
            if is_told_first {
                late.reverse();
            }
            agent.now += ms(60_000);
            let mut actions: Vec<Action> =
                late.into_iter().flat_map(|it| agent.on(1, it)).collect();
            assert!(!actions.contains(&settle()), "{actions:?}");
            actions = agent.on(1, Event::PollEnded);
            actions.extend(agent.on(100, Event::Woke));
            assert!(actions.contains(&Action::Poll), "{actions:?}");
            let redis = own(Role::Master);
            agent.on(1, Event::OwnRedis(M.into(), at(), redis));
            let actions = agent.on(1, told(now));
            assert!(actions.contains(&settle()), "{actions:?}");
            let is_here = matches!(agent.master().verdict, Verdict::Here(..));
            assert_eq!(is_here, !here);
        }
    }
}
