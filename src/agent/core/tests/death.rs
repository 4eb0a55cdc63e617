//! A Redis that has died as the master.

use super::*;
use crate::agent::snapshot::Replica;
use crate::election::look::Vote;

fn with_replicas(lag: u64, behind: u64) -> Own {
    Own {
        replicas: vec![Replica {
            at: format!("{AWAY}:6379"),
            lag: Some(lag),
            behind,
            online: true,
        }],
        ..own(Role::Master)
    }
}

fn silent(is_gone: bool) -> Event {
    let own = Own {
        role: Err(Fault::passing("refused")),
        is_gone,
        ..own(Role::Master)
    };
    Event::OwnRedis(M.into(), at(), own)
}

/// The master is here, and a replica has all it has.
fn master() -> Agent {
    let mut agent = Agent::standing(true);
    agent.on(100, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
    agent
}

fn elects(actions: &[Action]) -> bool {
    let elect = |action: &Action| matches!(action, Action::Elect(..));
    actions.iter().any(elect)
}

fn refuses(wanted: bool) -> Action {
    Action::Refuse(M.into(), wanted)
}

/// The votes of a round.
fn votes() -> Vec<Vote> {
    vec![Vote::new("bb", 8), Vote::new("bb", 9)]
}

/// It has died, a Sentinel was asked, and the VIP is released.
fn asked() -> Agent {
    let mut agent = master();
    agent.on(50, silent(true));
    agent.on(10, Event::Elected(M.into(), Ok(LEADER.into()), votes()));
    agent.settles(2);
    agent
}

/// Nothing happens for so long but what is due: a timer that is late by a second tells nothing.
fn waits(agent: &mut Agent, time: u64) -> Vec<Action> {
    let woken = (0..time / 500).flat_map(|_| agent.on(500, Event::Woke));
    woken.collect()
}

fn back(later: u64, agent: &mut Agent) -> Vec<Action> {
    agent.on(later, Event::OwnRedis(M.into(), at(), own(Role::Master)))
}

#[test]
fn its_failover_is_asked_for_and_its_vip_released_at_the_same_time() {
    let mut agent = master();
    // Its connection has ended: a promotion, or an end that is not certain.
    let actions = agent.on(50, silent(false));
    assert!(!elects(&actions), "{actions:?}");
    let actions = agent.on(1, silent(true));
    let elect = Action::Elect(
        M.into(),
        site(HERE),
        vec![format!("{AWAY}:6379")],
        (vec![], vec![]),
    );
    assert!(
        actions.contains(&elect) && actions.contains(&settle()),
        "{actions:?}"
    );
    assert!(actions.contains(&refuses(true)), "{actions:?}");
    agent.settles(2);
    // Once is enough.
    let actions = agent.on(5, silent(true));
    assert!(!elects(&actions), "{actions:?}");
    assert!(agent.core.is_busy());
}

#[test]
fn a_redis_that_came_back_gets_no_client_until_a_majority_names_another_or_nothing_came() {
    let mut agent = asked();
    let actions = back(20, &mut agent);
    assert!(!actions.contains(&settle()), "{actions:?}");
    agent.on(100, promotes(AWAY));
    agent.polled(100, facts([HERE; 3], Role::Master));
    assert!(matches!(
        agent.master().verdict,
        Verdict::Elsewhere(Why::Died)
    ));
    let actions = agent.polled(600, facts([AWAY; 3], Role::Master));
    assert!(matches!(
        agent.master().verdict,
        Verdict::Elsewhere(Why::Majority)
    ));
    assert!(actions.contains(&refuses(false)), "{actions:?}");
    assert!(!agent.master().is_promoting());
    // Nothing came of it.
    let mut agent = asked();
    back(20, &mut agent);
    let actions = waits(&mut agent, 5_000);
    assert!(
        actions.contains(&settle()) && actions.contains(&refuses(false)),
        "{actions:?}"
    );
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Majority)
    ));
}

#[test]
fn a_redis_that_is_back_before_anybody_was_refused_has_died_all_the_same() {
    let run_id = |id: &str| Own {
        run_id: Some(id.into()),
        ..with_replicas(0, 0)
    };
    let mut agent = master();
    for (id, died) in [("a", false), ("a", false), ("b", true), ("b", false)] {
        let actions = agent.on(10, Event::OwnRedis(M.into(), at(), run_id(id)));
        assert_eq!(elects(&actions), died, "{id}: {actions:?}");
        let verdict = &agent.master().verdict;
        let is_away = matches!(verdict, Verdict::Elsewhere(Why::Died));
        assert_eq!(is_away, id == "b", "{id}: {verdict:?}");
    }
}

#[test]
fn there_is_another_round_of_votes_only_when_nothing_has_come_of_the_first() {
    let mut agent = asked();
    let woken = |agent: &mut Agent, later| elects(&waits(agent, later));
    let mut slow = facts([HERE; 3], Role::Master);
    slow.soonest_down = Some(ms(30_000));
    agent.polled(10, slow);
    agent.on(10, silent(true));
    assert!(!woken(&mut agent, 4_000));
    let actions = waits(&mut agent, 1_000);
    let elect = Action::Elect(
        M.into(),
        site(HERE),
        vec![format!("{AWAY}:6379")],
        (votes(), vec![]),
    );
    assert!(actions.contains(&elect), "{actions:?}");
    // Sentinel is about to decide itself.
    let mut agent = asked();
    agent.on(10, silent(true));
    assert!(!woken(&mut agent, 5_000));
    // A leader has published its choice.
    let mut agent = asked();
    agent.on(100, promotes(AWAY));
    agent.on(10, silent(true));
    assert!(!woken(&mut agent, 5_000));
    // It has given up, so that the dead one may be the master still.
    agent.on(10, Event::Aborted(M.into(), LEADER.into()));
    let actions = back(10, &mut agent);
    assert!(
        matches!(agent.master().verdict, Verdict::Here(_, Why::Majority)),
        "{actions:?}"
    );
}

#[test]
fn a_leader_that_dies_after_its_choice_keeps_the_vip_from_a_redis_that_is_back_for_5_s_only() {
    let told = |fails_over: bool| {
        Box::new(Facts {
            fails_over,
            ..*facts([HERE; 3], Role::Master)
        })
    };
    let died = |agent: &Agent| matches!(agent.master().verdict, Verdict::Elsewhere(Why::Died));
    let published = || {
        let mut agent = asked();
        agent.on(100, promotes(AWAY));
        back(20, &mut agent);
        agent
    };
    // It lives, and may take as long as failover-timeout says.
    let mut agent = published();
    for _ in 0..20 {
        agent.polled(500, told(true));
        assert!(died(&agent));
    }
    let actions = agent.polled(500, told(false));
    assert!(
        actions.contains(&settle()) && actions.contains(&refuses(false)),
        "{actions:?}"
    );
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Majority)
    ));
    // The chosen one says nothing any more, for which its leader waits.
    let mut agent = published();
    agent.polled(500, told(true));
    let lost = Event::ChosenLost(M.into(), endpoint(AWAY), "connection refused".into());
    agent.on(500, lost);
    assert!(died(&agent));
    for _ in 0..7 {
        agent.polled(500, told(true));
    }
    assert!(died(&agent));
    let actions = agent.polled(500, told(true));
    assert!(
        actions.contains(&settle()) && actions.contains(&refuses(false)),
        "{actions:?}"
    );
    // It does not say that it fails over before it has begun, or any more once it has ended.
    let mut agent = published();
    for _ in 0..8 {
        agent.polled(500, told(false));
        assert!(died(&agent));
    }
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
    agent.on(10, chosen);
    agent.polled(500, told(false));
    for _ in 0..4 {
        agent.polled(500, told(false));
    }
    let verdict = &agent.master().verdict;
    assert!(
        matches!(verdict, Verdict::Elsewhere(Why::Promoted)),
        "{verdict:?}"
    );
}

#[test]
fn a_redis_that_came_back_gets_no_client_while_a_sentinel_fails_over_whose_events_are_lost() {
    let told = |agent: &mut Agent, fails_over| {
        let mut facts = facts([HERE; 3], Role::Master);
        facts.fails_over = fails_over;
        agent.polled(10, facts);
    };
    let begun = || {
        let mut agent = asked();
        back(20, &mut agent);
        told(&mut agent, true);
        waits(&mut agent, 6_000);
        let verdict = &agent.master().verdict;
        assert!(
            matches!(verdict, Verdict::Elsewhere(Why::Died)),
            "{verdict:?}"
        );
        agent
    };
    let is_here =
        |agent: &mut Agent| matches!(agent.master().verdict, Verdict::Here(_, Why::Majority));
    // It has given up.
    let mut agent = begun();
    told(&mut agent, false);
    assert!(is_here(&mut agent));
    // One that fails over without end is not waited for.
    let mut agent = begun();
    waits(&mut agent, 60_000);
    assert!(is_here(&mut agent));
}

#[test]
fn where_nobody_was_asked_a_redis_that_is_back_gets_its_vip_again() {
    let mut agent = master();
    agent.on(50, silent(true));
    agent.settles(2);
    let lost = Err(("too few".to_owned(), false));
    agent.on(50, Event::Elected(M.into(), lost, Vec::new()));
    assert!(matches!(agent.master().verdict, Verdict::Undecided(_)));
    let actions = back(10, &mut agent);
    assert!(
        actions.contains(&settle()) && actions.contains(&refuses(false)),
        "{actions:?}"
    );
}

/// Nobody was asked, and Sentinel promotes another one: a majority names the dead one for another second.
#[test]
fn a_redis_that_is_back_after_another_was_promoted_does_not_get_its_vip_again() {
    let mut agent = master();
    agent.on(50, silent(true));
    agent.settles(2);
    let lost = Err(("too few".to_owned(), false));
    agent.on(50, Event::Elected(M.into(), lost, Vec::new()));
    let actions = agent.on(3000, promotes(AWAY));
    let asks = |action: &Action| matches!(action, Action::AskChosen(..));
    assert!(actions.iter().any(asks), "{actions:?}");
    let is_master = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, None);
    agent.on(50, is_master);
    let actions = back(100, &mut agent);
    assert!(!actions.contains(&settle()), "{actions:?}");
    // A third host has nothing to ask.
    let mut agent = Agent::new();
    agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
    agent.polled(1, facts(["10.0.0.3"; 3], Role::Replica));
    let actions = agent.on(3000, promotes(AWAY));
    assert!(!actions.iter().any(asks), "{actions:?}");
}

/// It has found no replica that it could promote, so that it has published none.
#[test]
fn the_sentinel_that_was_asked_gives_up_before_it_has_chosen() {
    for (by, is_over) in [(LEADER, true), ("10.0.0.9:26379", false)] {
        let mut agent = asked();
        back(10, &mut agent);
        assert_eq!(agent.master().stands(), Some(Stands::Elsewhere));
        let actions = agent.on(100, Event::Aborted(M.into(), by.into()));
        assert_eq!(actions.contains(&settle()), is_over, "{actions:?}");
    }
}

#[test]
fn whatever_speaks_against_it_leaves_the_failover_to_sentinel() {
    let dies = |change: &dyn Fn(&mut Agent)| {
        let mut agent = master();
        change(&mut agent);
        elects(&agent.on(50, silent(true)))
    };
    assert!(dies(&|_| {}));
    let told = |own: Own| {
        move |agent: &mut Agent| {
            agent.on(1, Event::OwnRedis(M.into(), at(), own.clone()));
        }
    };
    assert!(!dies(&told(own(Role::Master))), "no replica");
    assert!(!dies(&told(with_replicas(3, 0))), "a silent replica");
    let mut in_full_sync = with_replicas(0, 0);
    in_full_sync.replicas[0].online = false;
    assert!(!dies(&told(in_full_sync)), "a replica without data");
    assert!(!dies(&told(with_replicas(0, 17 << 20))), "a late replica");
    assert!(!dies(&told(own(Role::Replica))), "no master");
    let polled = |facts: Box<Facts>| {
        move |agent: &mut Agent| {
            agent.polled(1, facts.clone());
        }
    };
    assert!(
        !dies(&polled(facts([HERE, "-", "-"], Role::Master))),
        "no majority"
    );
    assert!(
        !dies(&polled(facts([AWAY; 3], Role::Master))),
        "another master"
    );
    let with_down_after = |time: u64| {
        Box::new(Facts {
            soonest_down: Some(ms(time)),
            ..*facts([HERE; 3], Role::Master)
        })
    };
    assert!(!dies(&polled(with_down_after(1999))), "a short down-after");
    assert!(dies(&polled(with_down_after(2000))));
    let late = |agent: &mut Agent| {
        agent.on(1, silent(false));
        agent.on(3_500, Event::Woke);
        agent.polled(1, facts([HERE; 3], Role::Master));
    };
    assert!(!dies(&late), "Sentinel is about to decide itself");
    let refuses = |agent: &mut Agent| {
        let own = Own {
            role: Err(Fault::permanent("a wrong password")),
            ..own(Role::Master)
        };
        agent.on(1, Event::OwnRedis(M.into(), at(), own));
        agent.on(1, silent(false));
    };
    assert!(!dies(&refuses), "nobody knows what its replicas have");
    let told_again = |agent: &mut Agent| {
        refuses(agent);
        agent.on(1, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
    };
    assert!(dies(&told_again));
    let promotes = |agent: &mut Agent| drop(agent.on(1, promotes(AWAY)));
    assert!(!dies(&promotes), "a failover goes on");
    let maintenance = |until: u64| {
        move |agent: &mut Agent| {
            let until = agent.now + ms(until);
            agent.on(1, Event::Maintenance(M.into(), Some(until)));
        }
    };
    assert!(!dies(&maintenance(1000)), "it is meant");
    assert!(dies(&maintenance(10)), "it is meant no more");
}

#[test]
fn another_masters_redis_of_this_host_that_dies_has_nothing_failed_over() {
    let theirs: SocketAddr = "10.0.0.9:6379".parse().unwrap();
    let says = |at: SocketAddr, own: Own| Event::OwnRedis(M.into(), at, own);
    let gone = || Own {
        role: Err(Fault::passing("refused")),
        is_gone: true,
        ..own(Role::Master)
    };
    let both = || {
        let mut agent = Agent::standing(true);
        agent.polled(10, beside_strangers(facts([HERE; 3], Role::Master)));
        agent.on(10, says(at(), with_replicas(0, 0)));
        agent.on(10, says(theirs, with_replicas(0, 0)));
        agent
    };
    let mut agent = both();
    let actions = agent.on(10, says(theirs, gone()));
    assert!(!elects(&actions), "{actions:?}");
    assert!(matches!(agent.master().verdict, Verdict::Here(..)));
    assert!(elects(&agent.on(10, says(at(), gone()))));
    let mut agent = both();
    assert!(elects(&agent.on(10, says(at(), gone()))));
}

#[test]
fn a_redis_that_came_back_while_the_agent_was_stopped_has_not_died_a_moment_ago() {
    let of = |run_id: &str| Own {
        run_id: Some(run_id.into()),
        ..with_replicas(0, 0)
    };
    let elects_after = |stopped: u64, now: Event| {
        let mut agent = master();
        let actions = agent.on(100, Event::OwnRedis(M.into(), at(), of("a")));
        assert!(!elects(&actions));
        let mut actions = agent.on(stopped, Event::Woke);
        actions.extend(agent.polled(1, facts([HERE; 3], Role::Master)));
        actions.extend(agent.on(1, now));
        actions.extend(agent.polled(10, facts([HERE; 3], Role::Master)));
        elects(&actions)
    };
    let back = |id: &str| Event::OwnRedis(M.into(), at(), of(id));
    assert!(elects_after(100, back("b")), "it was not stopped");
    assert!(!elects_after(10_000, back("b")));
    assert!(!elects_after(2_500, back("b")));
    // One that is dead still may have died at any moment since.
    assert!(elects_after(2_500, silent(true)));
    assert!(!elects_after(3_500, silent(true)));
}

#[test]
fn one_that_is_back_and_dies_again_is_asked_for_once_until_nothing_has_come_of_it() {
    let mut agent = asked();
    let note = agent.master().death_note.clone();
    let of = |run_id: &str| Own {
        run_id: Some(run_id.into()),
        ..with_replicas(0, 0)
    };
    agent.on(100, Event::OwnRedis(M.into(), at(), of("b")));
    let actions = agent.on(100, silent(true));
    assert!(!elects(&actions), "{actions:?}");
    let expect = Action::Expect(M.into(), at());
    assert!(actions.contains(&expect), "{actions:?}");
    let actions = agent.on(100, Event::OwnRedis(M.into(), at(), of("c")));
    assert!(!elects(&actions), "{actions:?}");
    assert_eq!(agent.master().death_note, note);
    assert!(matches!(
        agent.master().verdict,
        Verdict::Elsewhere(Why::Died)
    ));
}

#[test]
fn a_command_that_kills_every_master_does_not_kill_all_of_them() {
    let mut agent = Agent::standing(false);
    agent.on(100, promotes(HERE));
    agent.on(10, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
    agent.settles(2);
    agent.polled(500, facts([HERE; 3], Role::Master));
    agent.on(10, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
    assert!(!elects(&agent.on(1_000, silent(true))));
    // A minute later it would.
    agent.on(10, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
    for _ in 0..60 {
        agent.polled(1_000, facts([HERE; 3], Role::Master));
    }
    assert!(elects(&agent.on(10, silent(true))));
}

#[test]
fn an_agent_that_is_started_while_a_failover_goes_on_gives_the_vip_to_nobody_for_a_moment() {
    let started = |fails_over: bool| {
        let mut agent = Agent::new();
        agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Master)));
        let facts = Facts {
            fails_over,
            ..*facts([HERE; 3], Role::Master)
        };
        let actions = agent.polled(10, Box::new(facts));
        (agent, actions.contains(&settle()))
    };
    assert!(started(false).1);
    let (mut agent, settles) = started(true);
    assert!(!settles);
    let actions: Vec<Action> = (0..4).flat_map(|_| agent.on(500, Event::Woke)).collect();
    assert!(actions.contains(&settle()), "{actions:?}");
}

/// The Sentinels name this one; the leader fails over, and tells which replica it promotes if it has chosen one.
fn failing_over(promoting: Option<&str>, named: &str) -> Box<Facts> {
    Box::new(Facts {
        fails_over: true,
        promoting: promoting.map(|to| (endpoint(to), LEADER.to_owned())),
        ..*facts([named; 3], Role::Master)
    })
}

#[test]
fn an_agent_that_is_started_while_a_failover_goes_on_learns_from_the_leader_who_is_chosen() {
    let asks = Action::AskChosen(M.into(), endpoint(AWAY), ms(60_000));
    let mut agent = Agent::new();
    agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Master)));
    let actions = agent.polled(10, failing_over(Some(AWAY), HERE));
    assert!(actions.contains(&asks), "{actions:?}");
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(1000));
    agent.on(299, said(Role::Replica));
    let actions = agent.on(1, said(Role::Master));
    assert!(actions.contains(&settle()), "{actions:?}");
    assert_eq!(agent.master().verdict, Verdict::Elsewhere(Why::Promoted));
    // The leader's giving up is heard from the same Sentinel.
    agent.settles(1);
    agent.on(1, Event::Aborted(M.into(), LEADER.into()));
    assert_ne!(agent.master().verdict, Verdict::Elsewhere(Why::Promoted));
}

#[test]
fn an_agent_that_is_started_beside_the_promoted_redis_leaves_the_vip_where_it_is_for_a_moment() {
    let started = |promoting: Option<&str>| {
        let mut agent = Agent::new();
        agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Master)));
        let actions = agent.polled(10, failing_over(promoting, AWAY));
        let verdict = &agent.master().verdict;
        assert_eq!(*verdict, Verdict::Elsewhere(Why::Majority));
        (agent, actions.contains(&settle()))
    };
    let (mut agent, settles) = started(Some(HERE));
    assert!(!settles);
    agent.polled(900, failing_over(Some(HERE), AWAY));
    agent.polled(900, failing_over(Some(HERE), HERE));
    let actions = waits(&mut agent, 500);
    assert!(actions.contains(&settle()), "{actions:?}");
    let verdict = &agent.master().verdict;
    assert!(matches!(verdict, Verdict::Here(_, Why::Majority)));
    // It may be the old master of an earlier failover, whatever one Sentinel says.
    let (mut agent, _) = started(Some(HERE));
    for _ in 0..2 {
        agent.polled(900, failing_over(Some(HERE), AWAY));
    }
    let actions = waits(&mut agent, 500);
    assert!(actions.contains(&settle()), "{actions:?}");
    let verdict = &agent.master().verdict;
    assert_eq!(*verdict, Verdict::Elsewhere(Why::Majority));
    assert!(started(None).1 && started(Some(AWAY)).1);
}

#[test]
fn an_agent_that_is_started_gives_the_vip_to_no_master_that_it_has_not_seen_as_a_replica() {
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(1000));
    let started = || {
        let mut agent = Agent::new();
        agent.on(0, Event::OwnRedis(M.into(), at(), own(Role::Master)));
        agent
    };
    // One Sentinel tells of a failover back to the old master, which is a master still for 11 s.
    let answered = || {
        let mut agent = started();
        agent.polled(10, failing_over(Some(AWAY), HERE));
        agent
    };
    let published = || {
        let mut agent = started();
        agent.polled(10, facts([HERE; 3], Role::Master));
        agent.on(10, promotes(AWAY));
        agent
    };
    for told in [&answered as &dyn Fn() -> Agent, &published] {
        let is_here = |agent: &Agent| matches!(agent.master().verdict, Verdict::Here(..));
        let mut agent = told();
        agent.on(1, Event::Paused(M.into(), Ok(())));
        let mut actions = agent.on(5, said(Role::Master));
        actions.extend(waits(&mut agent, 3_000));
        assert!(is_here(&agent) && heir(&actions).is_none());
        // It was one: its stream is this one's, or this host's Redis has told so.
        agent.on(5, said(Role::Replica));
        agent.on(1, said(Role::Master));
        assert!(!is_here(&agent));
        let mut agent = told();
        agent.on(1, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
        agent.on(5, said(Role::Master));
        assert!(!is_here(&agent));
    }
    // Where this host's Redis is none there is nothing to be lost.
    let mut agent = Agent::new();
    let mut dead = failing_over(Some(AWAY), HERE);
    dead.evidence.own_redis[0].role = Err(Fault::passing("refused"));
    agent.polled(10, dead);
    agent.on(5, said(Role::Master));
    let verdict = &agent.master().verdict;
    assert_eq!(*verdict, Verdict::Elsewhere(Why::Promoted));
}

#[test]
fn a_promotion_whose_event_was_lost_is_learnt_from_two_answers_of_the_leader() {
    let is_ask = |action: &Action| matches!(action, Action::AskChosen(..));
    let started = || {
        let mut agent = Agent::new();
        agent.polled(10, failing_over(None, HERE));
        agent.on(0, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
        // One answer may be older than the failover's end.
        let actions = agent.polled(1_000, failing_over(Some(AWAY), HERE));
        assert!(!actions.iter().any(is_ask), "{actions:?}");
        agent
    };
    let actions = started().polled(100, failing_over(Some(AWAY), HERE));
    assert!(actions.iter().any(is_ask), "{actions:?}");
    // Its end was heard of between the two.
    let mut agent = started();
    agent.on(10, Event::Aborted(M.into(), LEADER.into()));
    let actions = agent.polled(100, failing_over(Some(AWAY), HERE));
    assert!(!actions.iter().any(is_ask), "{actions:?}");
    let actions = agent.polled(100, failing_over(None, HERE));
    assert!(!actions.iter().any(is_ask), "{actions:?}");
    // What is over by its time is not begun again.
    let mut agent = started();
    agent.polled(100, failing_over(Some(AWAY), HERE));
    let actions: Vec<Action> = (0..700)
        .flat_map(|_| agent.polled(100, failing_over(Some(AWAY), HERE)))
        .collect();
    assert!(!actions.iter().any(is_ask), "{actions:?}");
}

#[test]
fn an_election_whose_turn_comes_late_is_not_held() {
    let mut agent = master();
    let begun = agent.now;
    assert!(elects(&agent.on(1, silent(true))));
    let master = agent.master();
    assert_eq!(master.is_too_late(begun + ms(3_400)), None);
    let late = master.is_too_late(begun + ms(3_600));
    assert!(late.is_some_and(|why| why.contains("decide itself")));
}

#[test]
fn nothing_is_known_to_an_attempt_that_goes_on_before_the_agent_knows_that_it_was_stopped() {
    let mut agent = master();
    agent.on(10, Event::Woke);
    let is_told = |later: u64| {
        let known = agent.core.evidence(M, agent.now + ms(later));
        known.ballot.is_some()
    };
    assert!(is_told(1_500) && !is_told(5_000));
}

#[test]
fn the_first_failover_of_a_site_counts_although_its_events_are_lost() {
    let told = |agent: &mut Agent, epoch: u64| {
        let mut facts = facts([HERE; 3], Role::Master);
        for vote in &mut facts.evidence.ballot.as_mut().unwrap().votes {
            vote.epoch = epoch;
        }
        agent.polled(500, facts);
    };
    let dies_after = |epochs: &[u64]| {
        let mut agent = Agent::new();
        epochs.iter().for_each(|epoch| told(&mut agent, *epoch));
        agent.settles(1);
        agent.on(1, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
        elects(&agent.on(50, silent(true)))
    };
    assert!(dies_after(&[0, 0]) && dies_after(&[1, 1]));
    assert!(!dies_after(&[0, 1]), "so soon after the last");
}

#[test]
fn a_vote_of_which_nothing_came_is_over_once_sentinels_own_brake_is() {
    let old = Vote::new("cc", 9);
    // failover-timeout is 60 s.
    let of_which = |seconds: u64, seen: &dyn Fn(u64) -> Vec<Vote>| {
        let mut agent = master();
        for second in 0..=seconds {
            agent.on(0, Event::Votes(M.into(), seen(second)));
            agent.on(1, Event::OwnRedis(M.into(), at(), with_replicas(0, 0)));
            agent.polled(999, facts([HERE; 3], Role::Master));
        }
        let actions = agent.on(1, silent(true));
        let found = actions.iter().find_map(|action| match action {
            Action::Elect(_, _, _, (over, stood)) => {
                Some((over.contains(&old), stood.contains(&old)))
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{actions:?}"))
    };
    let always = |_| vec![old.clone(), Vote::new("bb", 8)];
    assert_eq!(of_which(100, &always), (false, true));
    assert_eq!(of_which(121, &always), (true, true));
    // Whoever wanted it may still ask.
    assert_eq!(of_which(3, &always), (false, false));
    assert_eq!(of_which(5, &always), (false, true));
    // It was another one for a while.
    let changes = |second| vec![Vote::new("cc", if second == 60 { 10 } else { 9 })];
    assert_eq!(of_which(121, &changes), (false, true));
    assert_eq!(of_which(62, &changes), (false, false));
}
