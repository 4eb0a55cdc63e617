//! A configuration that is read again. That what it does not change makes no difference every test here shows: see
//! [`Agent::on`].

use super::*;

/// Has the agent read a configuration with these masters.
fn configure(agent: &mut Agent, masters: &[Settings]) {
    agent.core.configure(masters.to_vec());
}

#[test]
fn all_are_asked_at_once_and_the_vips_of_a_new_master_are_settled() {
    let mut agent = Agent::standing(true);
    configure(
        &mut agent,
        &[settings(M, VIP), settings("new", "10.0.0.251")],
    );
    let actions = agent.core.on(Event::Woke, agent.now + ms(100));
    assert_eq!(actions, [Action::Poll]);
    let facts = facts([HERE; 3], Role::Master);
    let told = Event::Polled("new".into(), facts);
    let actions = agent.core.on(told, agent.now + ms(101));
    assert!(
        actions.contains(&Action::Settle("new".into())),
        "{actions:?}"
    );
    assert!(agent.master().is_settled());
}

/// Only a round of questions looks whether a server has that address.
#[test]
fn a_vip_that_is_new_waits_for_a_round_of_questions() {
    for (on, holds) in [(HERE, true), (AWAY, false)] {
        let mut agent = Agent::standing(holds);
        configure(&mut agent, &[settings(M, "10.0.0.2")]);
        let now = agent.now + ms(100);
        let actions = agent.core.on(Event::Look(vec![M.into()]), now);
        assert!(actions.contains(&Action::Poll) && !actions.contains(&settle()));
        let role = if holds { Role::Master } else { Role::Replica };
        let told = |vip_of_a_server| {
            let mut facts = facts([on; 3], role.clone());
            facts.evidence.vip_of_a_server = vip_of_a_server;
            Event::Polled(M.into(), facts)
        };
        let actions = agent.core.on(told(Some(ip("10.0.0.2"))), now + ms(1));
        assert!(!actions.contains(&settle()), "{actions:?}");
        let actions = agent.core.on(told(None), now + ms(2));
        assert!(actions.contains(&settle()), "{actions:?}");
    }
}

#[test]
fn an_order_or_a_call_from_before_does_not_bind_a_vip_that_is_new_before_that() {
    let call = Call {
        to: site(HERE),
        carries_information: true,
    };
    let called = Event::Called(M.into(), Box::new((call, Word::Agrees)), ms(200_000));
    let forced = Event::Forced(M.into(), Some(Order::Bind));
    for wants in [called, forced] {
        for is_first in [true, false] {
            let mut agent = Agent::standing(false);
            if is_first {
                agent.on(10, wants.clone());
                agent.settles(1);
            }
            configure(&mut agent, &[settings(M, AWAY)]);
            let mut actions = agent
                .core
                .on(Event::Look(vec![M.into()]), agent.now + ms(1));
            if !is_first {
                actions.extend(agent.core.on(wants.clone(), agent.now + ms(2)));
            }
            assert!(!actions.contains(&settle()), "{wants:?}: {actions:?}");
            // Where nobody answers they hold, as they do without a reload.
            let in_vain = Event::NotPolled(M.into(), Fault::passing("refused"));
            agent.core.on(Event::PollEnded, agent.now + ms(3));
            let actions = agent.core.on(in_vain, agent.now + ms(4));
            assert!(actions.contains(&settle()), "{wants:?}: {actions:?}");
        }
    }
}

#[test]
fn a_round_that_began_before_a_vip_was_new_tells_nothing_of_it() {
    let mut agent = Agent::standing(true);
    assert_eq!(agent.on(1000, Event::Woke), [Action::Poll]);
    configure(&mut agent, &[settings(M, AWAY)]);
    let told = || Event::Polled(M.into(), facts([HERE; 3], Role::Master));
    let not_told = Event::NotPolled(M.into(), Fault::passing("refused"));
    let now = agent.now;
    for old in [told(), not_told] {
        let actions = agent.core.on(old, now + ms(1));
        assert!(!actions.contains(&settle()), "{actions:?}");
        assert!(agent.core.why_to_ask(M, now).is_some());
    }
    agent.core.on(Event::PollEnded, now + ms(2));
    let actions = agent.core.on(Event::Woke, now + ms(30));
    assert_eq!(actions, [Action::Poll]);
    let actions = agent.core.on(told(), now + ms(31));
    assert!(actions.contains(&settle()), "{actions:?}");
}

/// The Sentinels were not asked since the reload: what they said before it still tells which failover is the newest.
#[test]
fn a_promotion_right_after_a_reload_with_a_new_vip_counts() {
    let mut agent = Agent::standing(true);
    configure(&mut agent, &[settings(M, "10.0.0.251")]);
    let mut on = |event| agent.core.on(event, agent.now + ms(1));
    let actions = on(promotes(AWAY));
    assert_eq!(paused(&actions), [at()]);
    on(Event::Paused(M.into(), Ok(())));
    on(Event::Polled(M.into(), facts([HERE; 3], Role::Master)));
    on(Event::PollEnded);
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990));
    on(chosen);
    let verdict = &agent.master().verdict;
    let is_promoted = matches!(verdict, Verdict::Elsewhere(Why::Promoted));
    assert!(is_promoted, "{verdict:?}");
}

/// Nor does a reload keep it from being failed over.
#[test]
fn a_death_right_after_a_reload_with_a_new_vip_is_one() {
    let mut agent = Agent::standing(true);
    configure(&mut agent, &[settings(M, "10.0.0.251")]);
    let dead = Own {
        role: Err(Fault::passing("refused")),
        is_gone: true,
        ..own(Role::Master)
    };
    let event = Event::OwnRedis(M.into(), at(), dead);
    let actions = agent.core.on(event, agent.now + ms(1));
    let elects = |action: &Action| matches!(action, Action::Elect(..));
    assert!(actions.iter().any(elects), "{actions:?}");
}

#[test]
fn a_master_that_was_away_during_a_round_is_not_told_by_it() {
    let mut agent = Agent::standing(true);
    assert_eq!(agent.on(1000, Event::Woke), [Action::Poll]);
    configure(&mut agent, &[]);
    configure(&mut agent, &[settings(M, AWAY)]);
    let told = || Event::Polled(M.into(), facts([HERE; 3], Role::Master));
    let actions = agent.core.on(told(), agent.now + ms(1));
    assert!(!actions.contains(&settle()), "{actions:?}");
    agent.core.on(Event::PollEnded, agent.now + ms(2));
    let actions = agent.core.on(told(), agent.now + ms(3));
    assert!(actions.contains(&settle()), "{actions:?}");
}

/// What is known of the Redis stays known: the next promoted one was no master before.
#[test]
fn a_vip_that_is_new_is_released_at_a_promotion_as_soon_as_the_others() {
    let mut agent = Agent::standing(true);
    configure(&mut agent, &[settings(M, "10.0.0.251")]);
    let mut on = |event| agent.core.on(event, agent.now + ms(100));
    on(Event::Look(vec![M.into()]));
    on(Event::Polled(M.into(), facts([HERE; 3], Role::Master)));
    on(Event::PollEnded);
    let settled = agent.settled();
    let mut on = |event| agent.core.on(event, agent.now + ms(100));
    on(settled);
    on(promotes(AWAY));
    on(Event::Paused(M.into(), Ok(())));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990));
    let actions = on(chosen);
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_vip_that_is_new_is_settled_and_that_is_no_drift() {
    let mut agent = Agent::standing(true);
    let vips = vec![ip(VIP), ip("10.0.0.251")];
    let changed = Settings {
        vips,
        ..settings(M, VIP)
    };
    configure(&mut agent, &[changed]);
    assert!(!agent.master().is_settled());
    let now = agent.now + ms(100);
    let actions = agent.core.on(Event::Look(vec![M.into()]), now);
    assert!(actions.contains(&Action::Poll) && !actions.contains(&settle()));
    let told = Event::Polled(M.into(), facts([HERE; 3], Role::Master));
    let actions = agent.core.on(told, now);
    assert!(actions.contains(&settle()), "{actions:?}");
    let settled = Settled {
        verdict: Some(agent.master().verdict.clone()),
        failed: None,
        took_over: true,
        released: false,
        bound: Some(now),
        first_frame: Some(now),
    };
    let settled = Event::Settled(M.into(), Box::new(settled));
    agent.core.on(settled, now + ms(5));
    assert!(agent.master().is_settled());
    let master = agent.master();
    assert_eq!((master.drifts, master.take_overs), (0, 0));
    // It is this master's from now on.
    let actions = agent
        .core
        .on(Event::AddressGone(ip("10.0.0.251")), now + ms(9));
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn what_a_death_is_to_bring_is_what_the_newest_configuration_says() {
    let mut agent = Agent::standing(true);
    let waits = Settings {
        on_redis_death: OnRedisDeath::Wait,
        ..settings(M, VIP)
    };
    configure(&mut agent, &[waits]);
    let gone = Own {
        role: Err(Fault::passing("refused")),
        is_gone: true,
        ..own(Role::Master)
    };
    let died = Event::OwnRedis(M.into(), at(), gone);
    agent.core.on(died, agent.now + ms(1));
    let told = agent.master().death_note.clone().unwrap();
    assert!(told.contains("on_redis_death is \"wait\""), "{told}");
}

#[test]
fn a_master_that_is_no_more_in_it_is_waited_for_while_it_fails_over_and_then_forgotten() {
    let mut agent = Agent::standing(true);
    let is_busy = |agent: &Agent, kept: &str| agent.core.is_busy_beside(|name| name == kept);
    assert!(!is_busy(&agent, "new"));
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    assert!(is_busy(&agent, "new") && !is_busy(&agent, M));
    configure(&mut agent, &[settings("new", "10.0.0.251")]);
    assert!(agent.core.master(M).is_none() && !agent.core.is_busy());
    // Neither its VIP nor a late word of it wakes anybody, nor are its Sentinels asked often.
    let now = agent.now;
    for late in [
        Event::AddressGone(ip(VIP)),
        promotes(AWAY),
        Event::Look(vec![M.into()]),
        Event::PollEnded,
    ] {
        let actions = agent.core.on(late, now + ms(10));
        let is_poll = |action: &Action| matches!(action, Action::Poll);
        assert!(actions.iter().all(is_poll), "{actions:?}");
    }
    agent.core.on(Event::PollEnded, now + ms(20));
    agent.core.on(Event::Woke, now + ms(50));
    agent.core.on(Event::PollEnded, now + ms(60));
    let wake = agent.core.wake(now + ms(60));
    assert_eq!(wake, now + ms(60) + QUIET);
}

/// An attempt that was under way does not know the new VIP, and fails.
#[test]
fn an_attempt_that_fails_meanwhile_does_not_keep_the_agent_awake() {
    let mut agent = Agent::standing(true);
    let actions = agent.on(1000, Event::AddressGone(ip(VIP)));
    assert!(actions.contains(&settle()), "{actions:?}");
    configure(&mut agent, &[settings(M, AWAY)]);
    let failed = Settled {
        verdict: Some(agent.master().verdict.clone()),
        failed: Some(Fault::passing("it has other VIPs")),
        took_over: false,
        released: false,
        bound: None,
        first_frame: None,
    };
    let now = agent.now;
    agent.core.on(Event::Woke, now + ms(1));
    agent
        .core
        .on(Event::Settled(M.into(), Box::new(failed)), now + ms(2));
    let later = now + ms(300);
    agent.core.on(Event::Woke, later);
    assert!(agent.core.wake(later) > later);
}
