//! Attempts to settle a VIP: after a drift, and when they fail.

use super::*;

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
            bound: None,
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
            bound: None,
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
        bound: None,
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
    for _ in 0..15 {
        // One jump would be a stop.
        agent.polled(1_000, facts([HERE; 3], Role::Master));
    }
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
        bound: None,
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
        bound: None,
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
fn an_operators_order_and_its_end_are_no_failover() {
    let mut agent = Agent::standing(true);
    agent.on(10, Event::Forced(M.into(), Some(Order::Unbind)));
    agent.settles(1);
    assert_eq!(agent.master().verdict, Verdict::Elsewhere(Why::Ordered));
    agent.on(1_000, Event::Forced(M.into(), None));
    agent.settles(1);
    assert!(matches!(agent.master().verdict, Verdict::Here(..)));
    assert!(
        agent.master().timeline.is_none(),
        "{:?}",
        agent.master().timeline
    );
    assert_eq!(agent.master().take_overs, 0);
}
