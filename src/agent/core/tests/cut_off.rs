//! A host that is cut off from its peers.

use super::*;

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

/// What is done by a master that hears nothing of its replicas, and this of the Sentinels, for longer than `down-after`.
fn cut_off_with(told: impl Fn() -> Box<Facts>) -> Vec<Action> {
    let mut agent = Agent::standing(true);
    let mut actions = Vec::new();
    for _ in 0..7 {
        let mut cut = told();
        cut.could_elect_without = true;
        let mut silent = own(Role::Master);
        silent.acknowledged = None;
        actions.extend(agent.on(500, Event::OwnRedis(M.into(), at(), silent)));
        actions.extend(agent.polled(500, cut));
    }
    actions
}

#[test]
fn only_the_redis_that_this_hosts_sentinel_names_is_paused_where_it_is_cut_off() {
    let actions = cut_off_with(|| beside_strangers(facts([HERE, "-", "-"], Role::Master)));
    assert_eq!(paused(&actions), [at()]);
}

#[test]
fn a_master_whose_sentinels_are_all_silent_is_paused_where_it_is_cut_off() {
    let actions = cut_off_with(|| facts(["-"; 3], Role::Master));
    assert_eq!(paused(&actions), [at()]);
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_promoted_one_that_is_cut_off_lets_go_before_the_old_masters_host_takes_the_vip_back() {
    let mut agent = Agent::standing(false);
    agent.on(100, promotes(HERE));
    agent.on(50, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.settles(2);
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Promoted)
    ));
    let cut = || {
        let mut cut = facts([AWAY, "-", "-"], Role::Master);
        cut.could_elect_without = true;
        cut
    };
    let mut actions = agent.polled(500, cut());
    for _ in 0..3 {
        let mut silent = own(Role::Master);
        silent.acknowledged = None;
        actions.extend(agent.on(300, Event::OwnRedis(M.into(), at(), silent)));
        actions.extend(agent.polled(300, cut()));
    }
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = agent.polled(500, cut());
    assert!(actions.contains(&settle()), "{actions:?}");
    assert!(matches!(
        agent.master().verdict,
        Verdict::Elsewhere(Why::CutOff)
    ));
    // Its peers are back: the majority tells, whatever it says of itself.
    agent.settles(2);
    let actions = agent.polled(500, facts([AWAY; 3], Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
    agent.polled(500, facts([HERE; 3], Role::Master));
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Majority)
    ));
}

#[test]
fn a_promoted_one_that_was_away_for_long_is_bound_by_a_majority_only() {
    let silent = || Own {
        role: Err(Fault::passing("refused")),
        ..own(Role::Master)
    };
    let says = |own: Own| Event::OwnRedis(M.into(), at(), own);
    for (away, is_here) in [(500, true), (2_500, false)] {
        let mut agent = Agent::standing(false);
        agent.on(100, promotes(HERE));
        agent.on(50, says(own(Role::Master)));
        agent.settles(2);
        for _ in 0..away / 500 {
            agent.on(1, says(silent()));
            agent.polled(499, facts([AWAY; 3], Role::Master));
        }
        agent.on(1, says(own(Role::Master)));
        let verdict = &agent.master().verdict;
        let bound = matches!(verdict, Verdict::Here(_, Why::Promoted));
        assert_eq!(bound, is_here, "{away} ms: {verdict:?}");
    }
}

#[test]
fn what_a_host_does_that_is_cut_off_is_no_part_of_the_failover_before() {
    let mut agent = Agent::standing(false);
    agent.on(10, promotes(HERE));
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    agent.settles(1);
    agent.polled(500, facts([HERE; 3], Role::Master));
    let before = agent.master().timeline.clone();
    assert_eq!(before.as_ref().map(|it| it.ended), Some("taken_over"));
    silence(&mut agent, 7, None);
    agent.on(0, Event::Paused(M.into(), Ok(())));
    let released = Settled {
        verdict: Some(agent.master().verdict.clone()),
        failed: None,
        took_over: false,
        released: true,
        bound: None,
        first_frame: None,
    };
    let actions = agent.on(1, Event::Settled(M.into(), Box::new(released)));
    assert!(has_unpause(&actions), "{actions:?}");
    agent.on(0, Event::Unpaused(M.into()));
    assert_eq!(agent.master().timeline, before);
}
