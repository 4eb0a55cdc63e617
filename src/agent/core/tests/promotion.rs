//! A promotion that was published, of this host's Redis or another, until a majority confirms it or it is given up.

use super::*;

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
    assert!(timeline.bound.is_some());
    // Something removes the VIP: that is no failover.
    let actions = agent.on(100, Event::AddressGone(ip(VIP)));
    assert!(actions.contains(&settle()), "{actions:?}");
    agent.settles(2);
    let master = agent.master();
    let counted = (master.take_overs, master.took.len(), master.drifts);
    assert_eq!(counted, (1, 1, 1));
}

#[test]
fn another_masters_redis_at_the_same_port_does_not_speak_for_the_chosen_one() {
    let mut agent = Agent::standing(false);
    agent.polled(10, beside_strangers(facts([AWAY; 3], Role::Replica)));
    let actions = agent.on(100, promotes(HERE));
    assert!(actions.contains(&Action::Expect(M.into(), at())));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = agent.on(60, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_vip_that_a_start_of_the_agent_binds_is_no_failover() {
    let agent = Agent::standing(true);
    assert_eq!(agent.master().take_overs, 0);
    assert!(agent.master().took.is_empty());
}

#[test]
fn a_take_over_counts_that_is_done_only_after_a_majority_names_the_host() {
    let mut agent = Agent::standing(false);
    agent.on(100, promotes(HERE));
    agent.on(10, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    // The attempt goes on for a second.
    agent.polled(900, facts([HERE; 3], Role::Master));
    agent.settles(100);
    assert_eq!(agent.master().take_overs, 1);
    assert_eq!(agent.master().took, [ms(900)]);
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
    let actions: Vec<Action> = (0..60).flat_map(|_| agent.on(1_000, Event::Woke)).collect();
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn the_host_of_a_master_that_died_releases_as_soon_as_the_chosen_replica_says_master() {
    let mut agent = Agent::standing(true);
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
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, None);
    agent.on(1, said(Role::Replica));
    agent.on(1, said(Role::Master));
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
    // Both may be as old as the stop, until the leader was asked.
    for _ in 0..2 {
        let mut facts = facts([AWAY; 3], Role::Master);
        facts.promoting = Some((endpoint(HERE), LEADER.into()));
        facts.fails_over = true;
        agent.polled(5, facts);
    }
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
        online: true,
    }];
    agent.on(1000, Event::OwnRedis(M.into(), at(), master));
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
    let actions = agent.on(10, chosen);
    assert!(actions.contains(&settle()), "{actions:?}");
}

#[test]
fn a_confirmed_promotion_is_not_begun_again_while_its_leader_goes_on() {
    let goes_on = |says: [&str; 3]| {
        Box::new(Facts {
            fails_over: true,
            promoting: Some((endpoint(AWAY), LEADER.to_owned())),
            ..*facts(says, Role::Master)
        })
    };
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
    agent.on(60, chosen);
    agent.settles(2);
    agent.polled(900, goes_on([AWAY; 3]));
    assert!(!agent.master().is_promoting());
    // It waits until all replicas follow, and the other Sentinels are silent for a moment.
    for _ in 0..3 {
        agent.polled(100, goes_on(["-", "-", AWAY]));
        assert!(!agent.master().is_promoting());
    }
    assert_eq!(agent.master().timeline.as_ref().unwrap().ended, "released");
}

#[test]
fn a_promotion_that_its_leader_does_not_tell_of_any_more_is_over() {
    /// What the leader answers, if it does.
    fn answers(promoting: Option<&str>, leader: &str) -> Box<Facts> {
        let mut facts = facts([HERE, HERE, leader], Role::Master);
        facts.evidence.ballot.as_mut().unwrap().votes[2].who = LEADER.into();
        facts.fails_over = promoting.is_some();
        facts.promoting = promoting.map(|to| (endpoint(to), LEADER.to_owned()));
        facts
    }
    let learnt = || {
        let mut agent = Agent::standing(true);
        for _ in 0..2 {
            agent.polled(100, answers(Some(AWAY), HERE));
        }
        assert!(agent.master().is_promoting());
        agent
    };
    let published = || {
        let mut agent = Agent::standing(true);
        agent.on(100, promotes(AWAY));
        agent
    };
    for begun in [&learnt as &dyn Fn() -> Agent, &published] {
        let mut agent = begun();
        // One that was asked for before the event is no answer to it.
        agent.polled(100, answers(None, HERE));
        assert!(agent.master().is_promoting());
        let actions = agent.polled(100, answers(None, HERE));
        assert!(has_unpause(&actions), "{actions:?}");
        assert!(!agent.master().is_promoting());
        // A leader that is silent may go on.
        let mut agent = begun();
        for _ in 0..10 {
            agent.polled(100, answers(None, "-"));
        }
        assert!(agent.master().is_promoting());
        // Between two answers without it there was one with it.
        for promoting in [None, Some(AWAY), None, Some(AWAY)] {
            agent.polled(100, answers(promoting, HERE));
            assert!(agent.master().is_promoting());
        }
        // The chosen one is the master: no majority has heard of it yet.
        let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
        agent.on(10, chosen);
        for _ in 0..3 {
            agent.polled(100, answers(None, HERE));
        }
        let verdict = &agent.master().verdict;
        assert_eq!(*verdict, Verdict::Elsewhere(Why::Promoted));
    }
}
