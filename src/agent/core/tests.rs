use super::*;
use crate::evidence::{Ballot, OwnRedis, Site, Vote};
use crate::exit::Kind;
use crate::failover::Host;
use crate::place::Place;
use crate::verdict::Why;

mod death;

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
            role: Ok(role),
            run_id: None,
        }],
        ..Evidence::default()
    };
    Box::new(Facts {
        evidence,
        down_after: Some(ms(5000)),
        failover_timeout: Some(ms(60_000)),
        could_elect_without: false,
        has_replicas: true,
        fails_over: false,
    })
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

/// An agent and what it was told.
struct Agent {
    core: Core,
    now: Time,
}

impl Agent {
    fn new() -> Agent {
        let masters = [Settings {
            name: M.to_owned(),
            vips: vec![ip(VIP)],
            on_isolation: OnIsolation::Release,
            on_redis_death: OnRedisDeath::Failover,
        }];
        Agent {
            core: Core::new(masters.into_iter()),
            now: ms(0),
        }
    }

    /// Tells it something `later` milliseconds after the last thing.
    fn on(&mut self, later: u64, event: Event) -> Vec<Action> {
        self.now += ms(later);
        self.core.on(event, self.now)
    }

    fn polled(&mut self, later: u64, facts: Box<Facts>) -> Vec<Action> {
        let actions = self.on(later, Event::Polled(M.into(), facts));
        self.on(0, Event::PollEnded);
        actions
    }

    /// Ends the attempt that is going on, as it should.
    fn settles(&mut self, later: u64) -> Vec<Action> {
        let verdict = self.core.master(M).unwrap().verdict.clone();
        let settled = Settled {
            took_over: matches!(verdict, Verdict::Here(..)),
            released: matches!(verdict, Verdict::Elsewhere(_)),
            verdict: Some(verdict),
            failed: None,
            first_frame: Some(self.now),
        };
        self.on(later, Event::Settled(M.into(), Box::new(settled)))
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
        agent.on(0, Event::OwnRedis(M.into(), at(), own(role)));
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
fn a_replica_that_is_promoted_takes_over_as_soon_as_it_says_master() {
    let mut agent = Agent::standing(false);
    let actions = agent.on(100, promotes(HERE));
    assert!(
        actions.contains(&Action::Expect(M.into(), at())),
        "{actions:?}"
    );
    assert!(!actions.contains(&settle()), "{actions:?}");
    // The same again, as the leader goes on.
    assert_eq!(agent.on(50, promotes(HERE)), []);
    let actions = agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    assert!(actions.contains(&settle()), "{actions:?}");
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Promoted)
    ));
    agent.settles(2);
    // A majority that still names the old master does not take it away; its own word confirms it.
    let actions = agent.polled(100, facts([AWAY; 3], Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
    agent.polled(900, facts([HERE; 3], Role::Master));
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Majority)
    ));
    let timeline = agent.master().timeline.clone().unwrap();
    assert_eq!(timeline.ended, "taken_over");
    assert_eq!(timeline.role_changed, Some(timeline.began + ms(60)));
    assert_eq!(agent.master().take_overs, 1);
}

#[test]
fn a_promotion_that_is_given_up_gives_the_vip_back_to_what_is_true() {
    let mut agent = Agent::standing(false);
    agent.on(100, promotes(HERE));
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.settles(2);
    let actions = agent.on(100, Event::Aborted(M.into(), LEADER.into()));
    assert!(actions.contains(&settle()), "{actions:?}");
    assert!(matches!(
        agent.master().verdict,
        Verdict::Elsewhere(Why::Majority)
    ));
    // Without a word of the leader, too, once its time is over.
    let mut agent = Agent::standing(false);
    agent.on(100, promotes(HERE));
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.settles(2);
    let actions = agent.on(60_000, Event::Woke);
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn the_old_master_pauses_releases_and_then_allows_writes() {
    let mut agent = Agent::standing(true);
    let actions = agent.on(100, promotes(AWAY));
    let pause = Action::Pause(M.into(), at(), ms(2000));
    assert!(actions.contains(&pause), "{actions:?}");
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::AskChosen(..)))
    );
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let actions = agent.on(
        60,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990)),
    );
    assert!(
        actions.contains(&settle()) && !has_unpause(&actions),
        "{actions:?}"
    );
    // An agent that is to end ends after this.
    assert!(agent.core.is_busy());
    // What its Redis said before writes were paused is not compared: some were answered since.
    let behind = |agent: &Agent| agent.master().timeline.as_ref().unwrap().bytes_behind;
    assert_eq!(behind(&agent), None);
    agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    assert_eq!(behind(&agent), Some(10));
    let actions = agent.settles(2);
    assert!(has_unpause(&actions), "{actions:?}");
    agent.on(1, Event::Unpaused(M.into()));
    // The Sentinels name it for another second, and it is a master still.
    let actions = agent.polled(100, facts([HERE; 3], Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
    agent.polled(900, facts([AWAY; 3], Role::Master));
    assert!(!agent.core.is_busy());
    let timeline = agent.master().timeline.clone().unwrap();
    assert_eq!(
        (timeline.ended, timeline.bytes_behind),
        ("released", Some(10))
    );
    assert_eq!(timeline.unpaused, Some(timeline.began + ms(64)));
    assert_eq!(agent.master().paused_for, ms(64));
}

#[test]
fn the_old_master_is_told_to_follow_only_a_promoted_one_that_said_so_itself_after_the_release() {
    let at_port = |host: &str| endpoint(host).to_string();
    let chosen = |role, had| Event::Chosen(M.into(), endpoint(AWAY), role, had);
    let begun = |paused: Result<(), String>| {
        let mut agent = Agent::standing(true);
        agent.on(100, promotes(AWAY));
        agent.on(1, Event::Paused(M.into(), paused));
        agent
    };
    let mut agent = begun(Ok(()));
    let actions = agent.on(60, chosen(Role::Master, Some(990)));
    assert_eq!(heir(&actions), None, "before the release");
    assert_eq!(heir(&agent.settles(2)), Some(at_port(AWAY)));
    // Writes that could not be paused are no reason to take more of them.
    let mut agent = begun(Err("old".into()));
    agent.on(60, chosen(Role::Master, Some(990)));
    assert_eq!(heir(&agent.settles(2)), Some(at_port(AWAY)));
    agent.on(1, Event::Unpaused(M.into()));
    let master = agent.master();
    let timeline = master.timeline.clone().unwrap();
    assert_eq!((timeline.unpaused, master.paused_for), (None, ms(0)));
    // It has left, and nobody knows whether it is the master.
    let mut agent = begun(Ok(()));
    agent.on(60, chosen(Role::Master, None));
    let actions = agent.settles(2);
    assert!(has_unpause(&actions) && heir(&actions).is_none());
    // The leader gives up, or turns to another one, before the release.
    for other in [
        Event::Aborted(M.into(), LEADER.into()),
        promotes("10.0.0.3"),
    ] {
        let mut agent = begun(Ok(()));
        agent.on(60, chosen(Role::Master, Some(990)));
        let mut actions = agent.on(1, other);
        actions.extend(agent.settles(2));
        assert_eq!(heir(&actions), None, "{actions:?}");
    }
    // A host that is cut off has no heir.
    let mut agent = Agent::standing(true);
    silence(&mut agent, 7, None);
    let actions = agent.settles(1);
    assert!(has_unpause(&actions) && heir(&actions).is_none());
}

#[test]
fn a_pause_ends_on_every_way_out() {
    // The leader gives up.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    assert!(has_unpause(
        &agent.on(100, Event::Aborted(M.into(), LEADER.into()))
    ));
    // Nothing happens: it ends by itself, and the VIP stays.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let actions = agent.on(2000, Event::Woke);
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(agent.master().hand_over.is_none());
    // The leader turns to another.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    assert!(has_unpause(&agent.on(100, promotes("10.0.0.3"))));
    // It cannot pause, and releases all the same.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Err("old".into())));
    let actions = agent.on(
        60,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    assert!(actions.contains(&settle()), "{actions:?}");
    // Its Redis does not answer: the release waits a moment, no longer.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    let actions = agent.on(
        60,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(agent.core.wake(agent.now) <= agent.now + ms(140));
    assert!(agent.on(140, Event::Woke).contains(&settle()));
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
fn forged_events_do_not_keep_writes_waiting() {
    let mut agent = Agent::standing(true);
    let pauses = |actions: &[Action]| {
        let is_pause = |action: &&Action| matches!(action, Action::Pause(..));
        actions.iter().filter(is_pause).count()
    };
    let mut number = 0;
    for round in 0..50 {
        let to = if round % 2 == 0 { AWAY } else { "10.0.0.66" };
        number += pauses(&agent.on(200, promotes(to)));
    }
    assert_eq!(number, 1);
    // A host that no Sentinel of this host's has named is no Redis of this master, whatever it says.
    let actions = agent.on(
        1,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    assert!(!actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_host_that_is_cut_off_pauses_and_releases_after_down_after() {
    let mut agent = Agent::standing(true);
    let actions = silence(&mut agent, 5, None);
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = silence(&mut agent, 2, None);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Pause(..)))
    );
    // The answer to the pause does not come, and is not waited for.
    let place = |is: &dyn Fn(&Action) -> bool| actions.iter().position(is);
    let paused = place(&|action| matches!(action, Action::Pause(..)));
    assert!(paused < place(&|action| *action == settle()), "{actions:?}");
    assert!(has_unpause(&agent.settles(1)));
    agent.on(0, Event::Unpaused(M.into()));
    // Its peers are back, and still name it.
    let actions = agent.polled(1000, facts([HERE; 3], Role::Master));
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_host_with_a_replica_or_an_agent_that_was_stopped_is_not_cut_off() {
    let mut agent = Agent::standing(true);
    let actions = silence(&mut agent, 20, Some(Duration::ZERO));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let mut agent = Agent::standing(true);
    silence(&mut agent, 3, None);
    // Stopped for a minute: what it had seen before counts for nothing.
    agent.now += ms(60_000);
    let actions = silence(&mut agent, 4, None);
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = silence(&mut agent, 4, None);
    let pauses = |action: &Action| matches!(action, Action::Pause(..));
    assert!(actions.iter().any(pauses), "{actions:?}");
}

#[test]
fn a_replicas_acknowledgement_counts_until_redis_says_that_it_is_too_old() {
    // Whole seconds: 5 may be little more than 4.
    let mut agent = Agent::standing(true);
    let actions = silence(&mut agent, 20, Some(Duration::from_secs(5)));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = silence(&mut agent, 2, Some(Duration::from_secs(6)));
    assert!(actions.contains(&settle()), "{actions:?}");
    // A Redis that was not asked since says nothing.
    let mut agent = Agent::standing(true);
    silence(&mut agent, 1, Some(Duration::ZERO));
    for _ in 0..8 {
        let mut cut = facts([HERE, "-", "-"], Role::Master);
        cut.could_elect_without = true;
        let actions = agent.polled(1000, cut);
        assert!(!actions.contains(&settle()), "{actions:?}");
    }
}

#[test]
fn a_vip_that_something_else_removed_or_bound_is_mended_at_once() {
    let mut agent = Agent::standing(true);
    assert!(
        agent
            .on(10, Event::AddressGone(ip(VIP)))
            .contains(&settle())
    );
    // Removed again while it is being bound.
    agent.on(1, Event::AddressGone(ip(VIP)));
    assert!(agent.settles(1).contains(&settle()));
    agent.settles(1);
    assert_eq!(agent.master().drifts, 2);
    assert_eq!(agent.on(10, Event::AddressGone(ip("10.0.0.9"))), []);
    let mut agent = Agent::standing(false);
    assert!(agent.on(10, Event::AddressNew(ip(VIP))).contains(&settle()));
    agent.settles(1);
    assert_eq!(agent.master().drifts, 1);
}

#[test]
fn what_the_kernel_tells_late_of_the_agents_own_deeds_is_no_drift() {
    for here in [true, false] {
        let mut agent = Agent::standing(here);
        let late = match here {
            true => Event::AddressGone(ip(VIP)),
            false => Event::AddressNew(ip(VIP)),
        };
        // It is looked at, and found as it should be.
        assert!(agent.on(1, late).contains(&settle()));
        let settled = Settled {
            verdict: Some(agent.master().verdict.clone()),
            failed: None,
            took_over: false,
            released: false,
            first_frame: None,
        };
        agent.on(1, Event::Settled(M.into(), Box::new(settled)));
        assert!(agent.master().is_settled());
        assert_eq!(agent.master().drifts, 0);
    }
}

#[test]
fn an_address_of_the_hosts_own_that_comes_after_the_vip_has_the_vip_looked_at_again() {
    let mut agent = Agent::standing(true);
    let own = || Event::AddressNew(ip("10.0.0.9"));
    assert!(agent.on(10, own()).contains(&settle()));
    // Also one that comes while the VIP is being bound.
    agent.on(1, own());
    assert!(agent.settles(1).contains(&settle()));
    let mut agent = Agent::standing(false);
    assert!(!agent.on(10, own()).contains(&settle()));
}

#[test]
fn a_failed_attempt_is_repeated_and_a_hopeless_one_rarely() {
    let mut agent = Agent::standing(true);
    agent.on(10, Event::AddressGone(ip(VIP)));
    let fails = |agent: &mut Agent, kind: Kind| {
        let settled = Settled {
            verdict: Some(agent.master().verdict.clone()),
            failed: Some(match kind {
                Kind::Passing => Fault::passing("no"),
                Kind::Permanent => Fault::permanent("no"),
            }),
            took_over: false,
            released: false,
            first_frame: None,
        };
        agent.on(1, Event::Settled(M.into(), Box::new(settled)));
        agent.master().retry.map(|(at, _)| at - agent.now)
    };
    for pause in [20, 40, 80] {
        assert_eq!(fails(&mut agent, Kind::Passing), Some(ms(pause)));
        assert!(agent.on(pause, Event::Woke).contains(&settle()));
    }
    assert_eq!(fails(&mut agent, Kind::Permanent), Some(ms(30_000)));
}

#[test]
fn a_link_that_flaps_does_not_have_a_hopeless_attempt_repeated_all_the_time() {
    let mut agent = Agent::standing(true);
    agent.on(10, Event::AddressGone(ip(VIP)));
    let mut attempts = 0;
    let settled = Settled {
        verdict: Some(agent.master().verdict.clone()),
        failed: Some(Fault::permanent("no")),
        took_over: false,
        released: false,
        first_frame: None,
    };
    // The first change may be what was missing.
    agent.on(1, Event::Settled(M.into(), Box::new(settled.clone())));
    assert!(agent.on(1, Event::LinkChanged).contains(&settle()));
    for round in 0..2000 {
        agent.on(5, Event::Settled(M.into(), Box::new(settled.clone())));
        let actions = match round % 2 {
            0 => agent.on(5, Event::LinkChanged),
            _ => agent.on(5, Event::AddressNew(ip("172.17.0.1"))),
        };
        attempts += usize::from(actions.contains(&settle()));
    }
    // In 20 seconds.
    assert!((15..=35).contains(&attempts), "{attempts}");
    // A quiet time later a change counts at once again.
    agent.on(10, Event::Settled(M.into(), Box::new(settled)));
    agent.polled(15_000, facts([HERE; 3], Role::Master));
    assert!(agent.on(1, Event::LinkChanged).contains(&settle()));
}

#[test]
fn a_failed_attempt_of_an_agent_that_holds_back_does_not_keep_it_awake() {
    let mut agent = Agent::new();
    agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
    let actions = agent.polled(1, facts([AWAY; 3], Role::Replica));
    assert!(actions.contains(&settle()), "{actions:?}");
    let settled = Settled {
        verdict: Some(Verdict::Elsewhere(Why::Majority)),
        took_over: false,
        released: false,
        failed: Some(Fault::passing("refused")),
        first_frame: None,
    };
    agent.on(1, Event::Settled(M.into(), Box::new(settled)));
    // It was started a moment ago, and a failover to this host ends.
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    let ends = Facts {
        fails_over: true,
        ..*facts([HERE; 3], Role::Master)
    };
    agent.polled(1, Box::new(ends));
    agent.on(500, Event::Woke);
    assert!(agent.core.wake(agent.now) > agent.now);
}

#[test]
fn a_failed_attempt_that_cannot_be_repeated_now_does_not_keep_the_agent_awake() {
    let mut agent = Agent::standing(true);
    agent.on(10, Event::AddressGone(ip(VIP)));
    let settled = Settled {
        verdict: Some(agent.master().verdict.clone()),
        failed: Some(Fault::passing("no")),
        took_over: false,
        released: false,
        first_frame: None,
    };
    agent.on(1, Event::Settled(M.into(), Box::new(settled)));
    // Nobody knows any more where the VIP belongs.
    agent.polled(1, facts([HERE, "-", "-"], Role::Master));
    assert_eq!(agent.on(500, Event::Woke), []);
    assert!(agent.core.wake(agent.now) > agent.now);
    // As soon as somebody does, the attempt is repeated.
    let actions = agent.polled(1, facts([HERE; 3], Role::Master));
    assert!(actions.contains(&settle()), "{actions:?}");
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
    agent.on(
        1,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(1000)),
    );
    agent.settles(1);
    let stands = |agent: &Agent| agent.core.master(M).unwrap().stands();
    assert_eq!(stands(&agent), Some(Stands::Elsewhere));
    // The leader's time is over, this host's Sentinel hangs, and the others are not of one mind yet.
    agent.polled(61_000, facts(["-", HERE, AWAY], Role::Master));
    let verdict = &agent.core.master(M).unwrap().verdict;
    assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
}

#[test]
fn the_host_of_a_master_that_died_releases_as_soon_as_the_chosen_replica_says_master() {
    let mut agent = Agent::new();
    agent.polled(0, facts([HERE, HERE, HERE], Role::Master));
    agent.settles(1);
    let dead = Own {
        role: Err(Fault::passing("connection refused")),
        offset: None,
        acknowledged: None,
        ..own(Role::Master)
    };
    agent.on(1, Event::OwnRedis(M.into(), at(), dead));
    let actions = agent.on(1, Event::Promotes(M.into(), endpoint(AWAY), LEADER.into()));
    let is_asked = |action: &Action| matches!(action, Action::AskChosen(..));
    let is_pause = |action: &Action| matches!(action, Action::Pause(..));
    assert!(actions.iter().any(is_asked), "{actions:?}");
    assert!(!actions.iter().any(is_pause), "{actions:?}");
    let actions = agent.on(
        1,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    let settle = Action::Settle(M.into());
    assert!(actions.contains(&settle), "{actions:?}");
    agent.settles(1);
    let stands = agent.core.master(M).unwrap().stands();
    assert_eq!(stands, Some(Stands::Elsewhere));
}

#[test]
fn writes_are_paused_again_soon_after_a_failover_that_its_leader_has_given_up() {
    let pauses = |agent: &mut Agent| {
        let actions = agent.on(1000, promotes(AWAY));
        let is_pause = |action: &Action| matches!(action, Action::Pause(..));
        actions.iter().any(is_pause)
    };
    let begun = |lasts: u64| {
        let mut agent = Agent::standing(true);
        let mut short = facts([HERE; 3], Role::Master);
        short.failover_timeout = Some(ms(lasts));
        agent.polled(100, short);
        assert!(pauses(&mut agent));
        agent.on(1, Event::Paused(M.into(), Ok(())));
        agent
    };
    let given_up = || Event::Aborted(M.into(), LEADER.into());
    let mut agent = begun(60_000);
    agent.on(500, given_up());
    assert!(pauses(&mut agent), "after its word");
    // It gives up once its time is over, which it counts from a later step than the first.
    let mut agent = begun(2_000);
    agent.on(2_000, Event::Woke);
    agent.on(70, given_up());
    assert!(pauses(&mut agent), "after its word that came late");
    // A majority names the promoted one late, and the next failover comes back from there.
    let mut agent = begun(2_000);
    agent.on(2_000, Event::Woke);
    agent.polled(10, facts([AWAY; 3], Role::Master));
    agent.polled(10, facts([AWAY; 3], Role::Replica));
    agent.polled(1_000, facts([HERE; 3], Role::Master));
    assert!(pauses(&mut agent), "after a majority's word");
    // Whoever forges events forges one after the other.
    let mut agent = begun(2_000);
    agent.on(2_000, Event::Woke);
    agent.on(70, Event::Aborted(M.into(), "10.0.0.2:26379".into()));
    assert!(!pauses(&mut agent), "after nobody's word");
}

#[test]
fn a_candidate_that_was_not_elected_ends_nobody_elses_failover() {
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let actions = agent.on(10, Event::Aborted(M.into(), "10.0.0.2:26379".into()));
    assert!(!has_unpause(&actions), "{actions:?}");
    let who = endpoint("10.0.0.3");
    let actions = agent.on(10, Event::Chosen(M.into(), who, Role::Master, None));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = agent.on(
        10,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    assert!(actions.contains(&settle()), "{actions:?}");
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
fn a_late_event_of_a_failover_that_is_over_begins_nothing_and_allows_no_writes() {
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    agent.on(
        60,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    // The kernel refuses the release; meanwhile a majority names the new master.
    agent.polled(500, facts([AWAY; 3], Role::Master));
    let actions = agent.on(10, promotes(AWAY));
    assert!(!has_unpause(&actions), "{actions:?}");
    assert!(!agent.master().is_promoting());
    // Another failover follows, and the VIP is still here.
    let actions = agent.on(10, promotes("10.0.0.3"));
    assert!(!has_unpause(&actions), "{actions:?}");
}

#[test]
fn a_promotion_that_is_heard_of_before_the_first_answer_ends_with_the_leaders_time_too() {
    let mut agent = Agent::new();
    // There was no failover yet.
    let facts = || {
        let mut facts = facts([HERE; 3], Role::Master);
        for vote in &mut facts.evidence.ballot.as_mut().unwrap().votes {
            vote.epoch = 0;
        }
        facts
    };
    agent.on(0, promotes(AWAY));
    agent.polled(1, facts());
    agent.on(
        1,
        Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None),
    );
    agent.polled(1, facts());
    assert!(matches!(agent.master().verdict, Verdict::Elsewhere(_)));
    // The leader has died, and nobody else knows of it.
    for _ in 0..61 {
        agent.polled(1_000, facts());
    }
    assert!(matches!(agent.master().verdict, Verdict::Here(..)));
}

#[test]
fn a_promotion_of_the_old_master_that_is_a_master_still_moves_nothing() {
    // On the old master's host: its Redis stays a writable master for 11 s.
    let mut agent = Agent::standing(true);
    agent.polled(1000, facts([AWAY; 3], Role::Master));
    agent.settles(1);
    let actions = agent.on(100, promotes(HERE));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert_eq!(agent.master().stands(), Some(Stands::Elsewhere));
    // An agent that is started then knows no more than that its Redis is a master.
    let mut agent = Agent::new();
    agent.polled(0, facts([AWAY; 3], Role::Master));
    agent.settles(1);
    let actions = agent.on(100, promotes(HERE));
    assert!(!actions.contains(&settle()), "{actions:?}");
    // On the new master's host.
    let mut agent = Agent::standing(false);
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.polled(1000, facts([HERE; 3], Role::Master));
    agent.settles(1);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let says = |role| Event::Chosen(M.into(), endpoint(AWAY), role, None);
    let actions = agent.on(10, says(Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
    // It was a replica in between: that is a promotion.
    agent.on(10, says(Role::Replica));
    let actions = agent.on(10, says(Role::Master));
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_master_that_has_followed_another_since_can_be_promoted_again() {
    // Here: it was told to follow, and its role is heard before the event.
    let mut agent = Agent::standing(true);
    agent.polled(1000, facts([AWAY; 3], Role::Master));
    agent.settles(1);
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
    agent.polled(1000, facts([AWAY; 3], Role::Replica));
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    let actions = agent.on(5, promotes(HERE));
    assert!(actions.contains(&settle()), "{actions:?}");
    // The agent, or the machine, was stopped in between.
    let mut agent = Agent::standing(false);
    agent.on(60_000, promotes(HERE));
    agent.on(5, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    let verdict = &agent.master().verdict;
    assert!(
        matches!(verdict, Verdict::Here(_, Why::Promoted)),
        "{verdict:?}"
    );
    // Away: it follows this host's Redis.
    let mut agent = Agent::standing(false);
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.polled(1000, facts([HERE; 3], Role::Master));
    agent.settles(1);
    let mut master = own(Role::Master);
    master.replicas = vec![crate::agent::snapshot::Replica {
        at: endpoint(AWAY).to_string(),
        lag: Some(0),
        behind: 0,
    }];
    agent.on(1000, Event::OwnRedis(M.into(), at(), master));
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
    let actions = agent.on(10, chosen);
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn an_old_master_that_follows_leads_again_where_nothing_came_of_the_promotion() {
    let ends = |end: &dyn Fn(&mut Agent) -> Vec<Action>| {
        let mut agent = Agent::standing(true);
        agent.on(100, promotes(AWAY));
        agent.on(1, Event::Paused(M.into(), Ok(())));
        let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
        agent.on(10, said(Role::Replica));
        agent.on(50, said(Role::Master));
        let actions = agent.settles(2);
        assert!(
            actions
                .iter()
                .any(|it| matches!(it, Action::Unpause(_, _, Some(_)))),
            "{actions:?}"
        );
        agent.on(1, Event::Unpaused(M.into()));
        agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
        end(&mut agent).contains(&Action::Lead(M.into(), at()))
    };
    assert!(ends(&|agent| {
        agent.on(500, Event::Aborted(M.into(), LEADER.into()))
    }));
    assert!(!ends(&|agent| {
        agent.polled(500, facts([AWAY; 3], Role::Replica))
    }));
    // This agent was stopped, and the Sentinels have not heard of the new one yet.
    assert!(!ends(&|agent| {
        agent.on(5_000, Event::Woke);
        agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
        let mut actions = agent.polled(10, facts([HERE; 3], Role::Replica));
        actions.extend(agent.polled(500, facts([HERE; 3], Role::Replica)));
        actions
    }));
    // It is told until it does so.
    let told = |agent: &mut Agent, role: Role| {
        agent.on(1, Event::OwnRedis(M.into(), at(), own(role.clone())));
        let actions = agent.polled(1_000, facts([HERE; 3], role));
        actions.contains(&Action::Lead(M.into(), at()))
    };
    ends(&|agent| {
        let actions = agent.on(500, Event::Aborted(M.into(), LEADER.into()));
        assert!(told(agent, Role::Replica) && !told(agent, Role::Master));
        assert!(!told(agent, Role::Replica), "somebody else made it one");
        actions
    });
}

#[test]
fn nothing_is_taken_back_by_what_was_asked_before_the_time_of_a_promotion_was_over() {
    let lead = Action::Lead(M.into(), at());
    let over = || {
        let mut agent = Agent::standing(true);
        let mut short = facts([HERE; 3], Role::Master);
        short.failover_timeout = Some(ms(2_000));
        agent.polled(100, short);
        agent.on(100, promotes(AWAY));
        agent.on(1, Event::Paused(M.into(), Ok(())));
        let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990));
        agent.on(50, chosen);
        agent.settles(2);
        agent.on(1, Event::Unpaused(M.into()));
        agent
    };
    // A Sentinel is silent, and this round of questions takes long.
    let ended = |role: Role| {
        let mut agent = over();
        agent.on(1, Event::OwnRedis(M.into(), at(), own(role.clone())));
        let mut actions = agent.on(2_000, Event::Woke);
        actions.extend(agent.polled(10, facts([HERE, "-", HERE], role)));
        assert!(!actions.contains(&lead), "{actions:?}");
        assert!(!actions.contains(&settle()), "{actions:?}");
        agent
    };
    for (named, is_lead) in [(HERE, true), (AWAY, false)] {
        let mut agent = ended(Role::Replica);
        let actions = agent.polled(500, facts([named, "-", named], Role::Replica));
        assert_eq!(actions.contains(&lead), is_lead, "{actions:?}");
        // It may have stayed a master.
        let mut agent = ended(Role::Master);
        let actions = agent.polled(500, facts([named, "-", named], Role::Master));
        assert_eq!(actions.contains(&settle()), is_lead, "{actions:?}");
    }
}
