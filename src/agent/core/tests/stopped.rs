//! An agent, or its whole machine, that was stopped: another host may have the VIPs by now.

use super::*;

/// How long it was stopped.
const STOP: u64 = 30_000;

fn is_silent(agent: &Agent) -> bool {
    agent.core.has_to_learn(M, agent.now)
}

#[test]
fn nothing_is_said_in_a_vips_name_until_it_is_known_to_belong_here_again() {
    let not_polled = || Event::NotPolled(M.into(), Fault::passing("refused"));
    let two_are_silent = || Event::Polled(M.into(), facts([HERE, "-", "-"], Role::Master));
    let wakes = [
        Event::Woke,
        // A cable that is in again, and what else the kernel has told meanwhile.
        Event::LinkChanged,
        Event::Lost,
        Event::AddressGone(ip(VIP)),
        Event::OwnRedis(M.into(), at(), own(Role::Master)),
        Event::Look(vec![M.into()]),
    ];
    for first in wakes {
        let mut agent = Agent::standing(true);
        assert!(!is_silent(&agent));
        assert!(!agent.core.has_to_learn(M, agent.now + ms(1_500)));
        // Nobody has told it yet.
        assert!(agent.core.has_to_learn(M, agent.now + ms(STOP)));
        let actions = agent.on(STOP, first.clone());
        assert!(!actions.contains(&settle()), "{first:?}: {actions:?}");
        assert!(is_silent(&agent), "{first:?}");
        // The network may not be there yet.
        for told in [not_polled(), two_are_silent(), not_polled()] {
            agent.on(10, told);
            agent.on(0, Event::PollEnded);
            assert!(is_silent(&agent), "{first:?}");
        }
        agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
        let actions = agent.polled(100, facts([HERE; 3], Role::Master));
        assert!(actions.contains(&settle()), "{first:?}: {actions:?}");
        assert!(!is_silent(&agent), "{first:?}");
        // From now on it is as it was: a majority that falls silent silences nobody.
        agent.settles(1);
        agent.polled(100, facts([HERE, "-", "-"], Role::Master));
        assert!(!is_silent(&agent), "{first:?}");
    }
}

#[test]
fn an_answer_that_was_asked_for_before_the_stop_is_as_old_as_that() {
    let mut agent = Agent::standing(true);
    assert_eq!(agent.on(1_000, Event::Woke), [Action::Poll]);
    // It has waited in a socket.
    let old = Event::Polled(M.into(), facts([HERE; 3], Role::Master));
    let actions = agent.on(STOP, old);
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(is_silent(&agent));
    agent.on(1, Event::PollEnded);
    assert_eq!(agent.on(20, Event::Woke), [Action::Poll]);
    let actions = agent.polled(5, facts([AWAY; 3], Role::Replica));
    assert!(actions.contains(&settle()), "{actions:?}");
    assert!(matches!(agent.master().verdict, Verdict::Elsewhere(_)));
    assert!(is_silent(&agent));
}

#[test]
fn what_was_ordered_or_called_for_before_the_stop_waits_for_an_answer() {
    let is_here = |agent: &Agent| matches!(agent.master().verdict, Verdict::Here(..));
    // A failover would have ended the order.
    let stopped = || {
        let mut agent = bound_by_order();
        let actions = agent.on(STOP, Event::AddressGone(ip(VIP)));
        assert!(!actions.contains(&settle()), "{actions:?}");
        assert!(!is_here(&agent) && is_silent(&agent));
        agent
    };
    let mut agent = stopped();
    agent.polled(5, facts([AWAY; 3], Role::Replica));
    assert!(is_here(&agent) && !is_silent(&agent), "there was none");
    let mut agent = stopped();
    let mut later = facts([AWAY; 3], Role::Replica);
    for vote in &mut later.evidence.ballot.as_mut().unwrap().votes {
        vote.epoch = 8;
    }
    agent.polled(5, later);
    assert!(!is_here(&agent), "there was one");
    // Where nobody answers an order holds, as it does without a stop.
    let mut agent = stopped();
    agent.on(5, Event::NotPolled(M.into(), Fault::passing("refused")));
    assert!(is_here(&agent));

    let call = Call {
        to: site(HERE),
        carries_information: true,
    };
    let called = Event::Called(M.into(), Box::new((call, Word::Agrees)), ms(200_000));
    let mut agent = Agent::standing(false);
    agent.polled(100, facts([AWAY, "-", "-"], Role::Master));
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.on(1, called);
    assert!(is_here(&agent));
    agent.settles(1);
    let actions = agent.on(STOP, Event::Woke);
    assert!(!is_here(&agent) && !actions.contains(&settle()));
    agent.polled(5, facts([HERE, "-", "-"], Role::Master));
    assert!(!is_here(&agent), "{:?}", agent.master().verdict);
}

/// What has waited in a socket since before the stop.
#[test]
fn what_was_under_way_while_it_was_stopped_waits_for_an_answer() {
    let is_here = |agent: &Agent| matches!(agent.master().verdict, Verdict::Here(..));
    let promotes = || Event::Promotes(M.into(), endpoint(HERE), LEADER.into());
    let says_master = || Event::OwnRedis(M.into(), at(), own(Role::Master));
    let call = Call {
        to: site(HERE),
        carries_information: true,
    };
    let called = || {
        let call = Box::new((call.clone(), Word::Agrees));
        Event::Called(M.into(), call, ms(200_000))
    };
    for waited in [
        vec![promotes(), says_master()],
        vec![says_master(), called()],
    ] {
        let stopped = |agent: &mut Agent| {
            agent.polled(100, facts([AWAY; 3], Role::Replica));
            agent.settles(1);
            agent.on(STOP, Event::Woke);
            for event in waited.clone() {
                let actions = agent.on(1, event);
                assert!(!actions.contains(&settle()), "{actions:?}");
            }
            assert!(!is_here(agent) && is_silent(agent), "{waited:?}");
            assert!(agent.core.why_to_ask(M, agent.now).is_some());
        };
        // The failover was given up, or another one came.
        let mut agent = Agent::standing(false);
        stopped(&mut agent);
        agent.polled(5, facts([HERE; 3], Role::Master));
        assert!(is_here(&agent) && !is_silent(&agent), "{waited:?}");
        assert_eq!(agent.core.why_to_ask(M, agent.now), None);
        let mut agent = Agent::standing(false);
        stopped(&mut agent);
        let mut later = facts([AWAY; 3], Role::Replica);
        for vote in &mut later.evidence.ballot.as_mut().unwrap().votes {
            vote.epoch = 8;
        }
        agent.polled(5, later);
        assert!(!is_here(&agent), "{waited:?}");
    }
}

/// Another Redis of this host was promoted before the stop, and a third host's since.
#[test]
fn a_promotion_of_this_hosts_redis_from_before_the_stop_is_over() {
    let mut agent = Agent::standing(false);
    agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.on(1, promotes(HERE));
    let says_master = Event::Chosen(M.into(), endpoint(HERE), Role::Master, None);
    agent.on(1, says_master);
    // Also a round has told that it is the master.
    agent.polled(10, facts([AWAY; 3], Role::Master));
    agent.settles(1);
    assert_eq!(agent.master().stands(), Some(Stands::Here));
    let actions = agent.on(STOP, Event::Woke);
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(is_silent(&agent));
}
