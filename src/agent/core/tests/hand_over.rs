//! The old master in a failover: writes that wait, whom it follows, and when it leads again.

use super::*;

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
fn an_heir_of_this_host_leaves_the_vip_here_and_the_old_master_follows_it() {
    let next = Endpoint {
        port: 6380,
        ..endpoint(HERE)
    };
    let next_at = SocketAddr::new(ip(HERE), 6380);
    let second = Site {
        endpoint: next.clone(),
        ..site(HERE)
    };
    let known = |named: Site, old: Role, new: Role| {
        let mut known = facts([HERE; 3], old);
        let told = &mut known.evidence;
        for vote in &mut told.ballot.as_mut().unwrap().votes {
            vote.says = Ok(named.clone());
        }
        told.known_redis.push(second.clone());
        told.own_redis.push(OwnRedis {
            site: second.clone(),
            at: next_at,
            is_vouched_for: true,
            role: Ok(new),
            run_id: None,
        });
        known
    };
    use Role::{Master, Replica};
    let says = |at: SocketAddr, role: Role| Event::OwnRedis(M.into(), at, own(role));
    let mut agent = Agent::standing(true);
    agent.polled(10, known(site(HERE), Master, Replica));
    let promotes = Event::Promotes(M.into(), next.clone(), LEADER.into());
    let actions = agent.on(100, promotes);
    let pause = Action::Pause(M.into(), at(), ms(2000));
    let expect = Action::Expect(M.into(), next_at);
    assert!(actions.contains(&pause) && actions.contains(&expect));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    // What it is told is not known of its own Redis yet: if that were a replica, no Redis of this host would be a master.
    let actions = agent.on(
        50,
        Event::Chosen(M.into(), next.clone(), Master, Some(1000)),
    );
    assert!(!has_unpause(&actions), "{actions:?}");
    let actions = agent.on(1, says(next_at, Master));
    assert_eq!(heir(&actions), Some(next.to_string()), "{actions:?}");
    let mut later = agent.on(1, says(at(), Replica));
    later.extend(agent.on(1, Event::Unpaused(M.into())));
    // The Sentinels name the old one for another second.
    later.extend(agent.polled(500, known(site(HERE), Replica, Master)));
    assert!(matches!(
        agent.master().verdict,
        Verdict::Here(_, Why::Promoted)
    ));
    later.extend(agent.polled(500, known(second.clone(), Replica, Master)));
    later.extend(agent.polled(1000, known(second.clone(), Replica, Master)));
    let is_lead = |action: &Action| matches!(action, Action::Lead(..));
    assert!(!later.contains(&settle()) && !later.iter().any(is_lead));
    assert_eq!(agent.master().stands(), Some(Stands::Here));
    assert!(!agent.core.is_busy());
    let timeline = agent.master().timeline.clone().unwrap();
    assert!(timeline.paused.is_some() && timeline.unpaused.is_some());
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
    assert_eq!(agent.master().paused_for, ms(2000));
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

/// Plays what somebody forges for so many rounds of 200 ms, and returns for how many of them writes waited at the end.
fn rounds_that_wait(rounds: u64, mut forged: impl FnMut(u64) -> Event) -> u64 {
    let mut agent = Agent::standing(true);
    let mut waits = 0;
    for round in 0..rounds {
        let actions = agent.on(199, forged(round));
        let is_pause = |action: &Action| matches!(action, Action::Pause(..));
        if actions.iter().any(is_pause) {
            agent.on(0, Event::Paused(M.into(), Ok(())));
        }
        // Its Redis answers at once.
        if has_unpause(&actions) {
            agent.on(1, Event::Unpaused(M.into()));
        } else {
            agent.on(1, Event::Woke);
        }
        let hand_over = agent.master().hand_over.as_ref();
        waits += u64::from(hand_over.is_some_and(|it| it.is_in_force));
    }
    waits
}

#[test]
fn forged_events_do_not_keep_writes_waiting() {
    let to = |round: u64| [AWAY, "10.0.0.66"][(round % 2) as usize];
    let forgers: [&dyn Fn(u64) -> Event; 3] = [
        &|round| promotes(to(round)),
        &|round| match round % 5 {
            0 => promotes(AWAY),
            4 => Event::Aborted(M.into(), LEADER.into()),
            _ => Event::Woke,
        },
        &|round| Event::Promotes(M.into(), endpoint(AWAY), format!("10.0.0.9:{round}")),
    ];
    for forged in forgers {
        // A minute: 4 s, and a tenth of the time.
        let waits = rounds_that_wait(300, forged) * 200;
        assert!((2_000..=10_500).contains(&waits), "{waits} ms");
    }
    // A host that no Sentinel of this host's has named is no Redis of this master, whatever it says.
    let mut agent = Agent::standing(true);
    agent.on(200, promotes("10.0.0.66"));
    let chosen = Event::Chosen(M.into(), endpoint("10.0.0.66"), Role::Master, None);
    assert!(!agent.on(1, chosen).contains(&settle()));
}

#[test]
fn writes_are_paused_again_soon_after_a_failover_of_which_nothing_came() {
    let pauses = |agent: &mut Agent, by: &str| {
        let promotes = Event::Promotes(M.into(), endpoint(AWAY), by.into());
        let actions = agent.on(1000, promotes);
        let is_whole = |action: &Action| *action == Action::Pause(M.into(), at(), ms(2000));
        actions.iter().any(is_whole)
    };
    let begun = |lasts: u64| {
        let mut agent = Agent::standing(true);
        let mut short = facts([HERE; 3], Role::Master);
        short.failover_timeout = Some(ms(lasts));
        agent.polled(100, short);
        assert!(pauses(&mut agent, LEADER));
        agent.on(1, Event::Paused(M.into(), Ok(())));
        agent
    };
    let mut agent = begun(60_000);
    agent.on(500, Event::Aborted(M.into(), LEADER.into()));
    agent.on(1, Event::Unpaused(M.into()));
    assert!(pauses(&mut agent, LEADER), "its leader has given it up");
    // Its leader was killed, and another one begins the next.
    let mut agent = begun(60_000);
    agent.on(2_000, Event::Woke);
    let told = Event::Promotes(M.into(), endpoint("10.0.0.3"), "10.0.0.3:26379".into());
    agent.on(100, told);
    assert!(pauses(&mut agent, "10.0.0.3:26379"), "a leader was killed");
    // A majority names the promoted one, in time or late, and the next failovers come back from there.
    let mut agent = begun(2_000);
    for _ in 0..5 {
        agent.on(2_000, Event::Woke);
        agent.polled(10, facts([AWAY; 3], Role::Master));
        agent.polled(10, facts([AWAY; 3], Role::Replica));
        agent.polled(1_000, facts([HERE; 3], Role::Master));
        assert!(pauses(&mut agent, LEADER), "after a majority's word");
        agent.on(1, Event::Paused(M.into(), Ok(())));
    }
}

#[test]
fn another_leader_that_promotes_the_same_one_begins_another_failover() {
    let has_begun = |actions: &[Action]| {
        let is_pause = |it: &Action| matches!(it, Action::Pause(..));
        let is_ask = |it: &Action| matches!(it, Action::AskChosen(..));
        actions.iter().any(is_pause) && actions.iter().any(is_ask)
    };
    let by = |leader: &str| Event::Promotes(M.into(), endpoint(AWAY), leader.into());
    let passes = |agent: &mut Agent, seconds: u64| {
        for _ in 0..seconds {
            agent.on(1_000, Event::Woke);
        }
    };
    // The first leader was killed.
    for after in [3, 20, 50] {
        let mut agent = Agent::standing(true);
        assert!(has_begun(&agent.on(100, by("10.0.0.2:26379"))));
        agent.on(1, Event::Paused(M.into(), Ok(())));
        assert!(
            !has_begun(&agent.on(50, by("10.0.0.2:26379"))),
            "its next event"
        );
        passes(&mut agent, after);
        let actions = agent.on(100, by("10.0.0.3:26379"));
        assert!(has_begun(&actions), "{actions:?}");
        let began = agent.now;
        let timeline = agent.master().timeline.as_ref().unwrap();
        assert_eq!((timeline.began, timeline.paused), (began, None));
        // Its time counts from its own event.
        passes(&mut agent, 59);
        assert!(agent.master().is_promoting());
        passes(&mut agent, 1);
        assert!(!agent.master().is_promoting());
    }
    // It said that it is the master: nothing is taken back until it says otherwise.
    let mut agent = Agent::standing(true);
    agent.on(100, by("10.0.0.2:26379"));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
    agent.on(50, said(Role::Master));
    agent.settles(2);
    agent.on(1, Event::Unpaused(M.into()));
    let actions = agent.on(10, by("10.0.0.3:26379"));
    assert!(!actions.contains(&settle()), "{actions:?}");
    assert!(agent.on(10, said(Role::Replica)).contains(&settle()));
}

/// Two leaders have promoted, and have died before it came to that: no pause is left.
fn spent() -> Agent {
    let mut agent = Agent::standing(true);
    for leader in ["10.0.0.2:26379", "10.0.0.3:26379"] {
        agent.on(
            600,
            Event::Promotes(M.into(), endpoint(AWAY), leader.into()),
        );
        agent.on(1, Event::Paused(M.into(), Ok(())));
        for _ in 0..3 {
            agent.on(700, Event::Woke);
        }
    }
    agent
}

#[test]
fn an_old_master_whose_writes_are_not_paused_any_more_follows_its_heir_all_the_same() {
    let third = |number: u8| {
        let leader = format!("10.0.0.{number}:26379");
        Event::Promotes(M.into(), endpoint(AWAY), leader)
    };
    let is_pause = |it: &Action| matches!(it, Action::Pause(..));
    let is_told = |it: &Action| matches!(it, Action::Log(_, false, text) if text.contains("not paused again"));
    let mut agent = spent();
    let actions = agent.on(100, third(4));
    assert!(!actions.iter().any(is_pause), "{actions:?}");
    assert_eq!(actions.iter().filter(|it| is_told(it)).count(), 1);
    // Whoever forges events does not fill the log.
    assert!(!agent.on(10, third(5)).iter().any(is_told));
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
    agent.on(50, said(Role::Replica));
    agent.on(1, said(Role::Master));
    let followed = heir(&agent.settles(2));
    assert_eq!(followed, Some(endpoint(AWAY).to_string()));
}

#[test]
fn a_host_that_is_cut_off_in_a_failover_that_came_to_nothing_pauses_its_writes() {
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let actions = silence(&mut agent, 9, None);
    let is_pause = |it: &Action| matches!(it, Action::Pause(..));
    let paused = actions.iter().position(is_pause);
    let released = actions.iter().position(|it| *it == settle());
    assert!(paused.is_some() && paused < released, "{actions:?}");
}

#[test]
fn the_next_pause_waits_until_the_last_one_has_ended() {
    let is_pause = |action: &Action| matches!(action, Action::Pause(..));
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let aborted = Event::Aborted(M.into(), LEADER.into());
    assert!(has_unpause(&agent.on(100, aborted)));
    let actions = agent.on(1, promotes(AWAY));
    assert!(!actions.iter().any(is_pause), "{actions:?}");
    let actions = agent.on(1, Event::Unpaused(M.into()));
    assert!(actions.iter().any(is_pause), "{actions:?}");
    // A second answer to the first one's end is none to this one.
    agent.on(1, Event::Paused(M.into(), Ok(())));
    agent.on(1, Event::Unpaused(M.into()));
    assert!(agent.master().hand_over.is_some());
    // Nobody answers: after its time the next may begin.
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1_900, Event::Aborted(M.into(), LEADER.into()));
    agent.on(1, promotes(AWAY));
    let actions = agent.on(2_000, Event::Woke);
    assert!(actions.iter().any(is_pause), "{actions:?}");
}

#[test]
fn a_pause_that_ends_before_the_promotion_leaves_the_old_master_its_heir() {
    for paused in [Ok(()), Err("old".to_owned())] {
        let lapsed = || {
            let mut agent = Agent::standing(true);
            agent.on(100, promotes(AWAY));
            agent.on(1, Event::Paused(M.into(), paused.clone()));
            agent.on(2_000, Event::Woke);
            agent
        };
        let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
        let mut agent = lapsed();
        agent.on(500, said(Role::Replica));
        let actions = agent.on(1, said(Role::Master));
        assert!(actions.contains(&settle()), "{actions:?}");
        assert_eq!(heir(&agent.settles(2)), Some(endpoint(AWAY).to_string()));
        let until = agent.now + ms(2_000);
        assert!(agent.core.wake(agent.now) <= until && agent.core.is_busy());
        agent.on(1, Event::Unpaused(M.into()));
        assert!(agent.master().hand_over.is_none());
        let counted = if paused.is_ok() { 2_000 } else { 0 };
        assert_eq!(agent.master().paused_for, ms(counted));
        // Nothing comes of the promotion: nobody is followed later.
        let mut agent = lapsed();
        agent.on(500, Event::Aborted(M.into(), LEADER.into()));
        assert!(agent.master().hand_over.is_none());
        // The leader's time is over.
        let mut agent = lapsed();
        agent.on(180_000, Event::Woke);
        assert!(agent.master().hand_over.is_none());
    }
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
    // Another Redis listens there by now.
    assert!(!ends(&|agent| {
        let mut other = beside_strangers(facts([HERE; 3], Role::Replica));
        let own = &mut other.evidence.own_redis;
        own.retain(|own| own.at == at());
        own[0].run_id = Some("theirs".into());
        agent.polled(10, other);
        agent.on(500, Event::Aborted(M.into(), LEADER.into()))
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

/// The chosen one counts as no master any more.
fn lost() -> Event {
    Event::ChosenLost(M.into(), endpoint(AWAY), "connection refused".into())
}

#[test]
fn an_old_master_leads_again_as_soon_as_its_heir_is_lost_until_that_is_back() {
    let lead = Action::Lead(M.into(), at());
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
    let tells = |agent: &mut Agent, role: Role| {
        let mut actions = agent.on(1, Event::OwnRedis(M.into(), at(), own(role.clone())));
        let mut told = facts([HERE; 3], role);
        // Its leader waits for it.
        told.fails_over = true;
        actions.extend(agent.polled(100, told));
        actions
    };
    let mut agent = Agent::standing(true);
    // It was started some time ago.
    for _ in 0..4 {
        agent.on(500, Event::Woke);
    }
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    agent.on(10, said(Role::Replica));
    agent.on(50, said(Role::Master));
    agent.settles(2);
    agent.on(1, Event::Unpaused(M.into()));
    let actions = tells(&mut agent, Role::Replica);
    assert!(!actions.contains(&lead), "{actions:?}");
    let follower = |agent: &Agent| agent.master().last_failover().follower;
    assert_eq!(follower(&agent), Some(at()), "for the next agent");
    // What was asked before may be old.
    assert!(!agent.on(500, lost()).contains(&lead));
    assert!(tells(&mut agent, Role::Replica).contains(&lead));
    let is_said =
        |it: &Action| matches!(it, Action::Log(_, false, text) if text.contains("refused"));
    assert!(!agent.on(1, lost()).iter().any(is_said), "said once");
    let actions = tells(&mut agent, Role::Master);
    assert!(actions.contains(&settle()), "{actions:?}");
    agent.settles(2);
    assert_eq!(follower(&agent), None);
    // An agent that is to end does not wait for it.
    assert!(!agent.core.is_busy());
    // It is back as the master, and may be made a replica in a moment: a majority tells.
    let actions = agent.on(50, said(Role::Master));
    assert!(!actions.contains(&settle()), "{actions:?}");
    let actions = agent.polled(100, facts([AWAY; 3], Role::Master));
    assert!(actions.contains(&settle()), "{actions:?}");
    // Another leader may promote it anew.
    let by = Event::Promotes(M.into(), endpoint(AWAY), "10.0.0.2:26379".into());
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(10, lost());
    agent.on(10, said(Role::Master));
    agent.on(10, by);
    agent.on(10, said(Role::Master));
    let verdict = &agent.master().verdict;
    assert!(
        matches!(verdict, Verdict::Elsewhere(Why::Promoted)),
        "{verdict:?}"
    );
}

#[test]
fn an_heir_that_is_lost_before_the_release_is_followed_by_nobody() {
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    agent.on(1, Event::Paused(M.into(), Ok(())));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990));
    agent.on(10, chosen);
    agent.on(2, lost());
    assert_eq!(heir(&agent.settles(2)), None);
    // Of another promotion that says nothing.
    let other = Event::ChosenLost(M.into(), endpoint("10.0.0.3"), "refused".into());
    let mut agent = Agent::standing(true);
    agent.on(100, promotes(AWAY));
    let chosen = Event::Chosen(M.into(), endpoint(AWAY), Role::Master, Some(990));
    agent.on(10, chosen);
    agent.on(2, other);
    assert_eq!(heir(&agent.settles(2)), Some(endpoint(AWAY).to_string()));
}

#[test]
fn the_next_agent_has_an_old_master_that_follows_lead_again() {
    let lead = Action::Lead(M.into(), at());
    let after = |named: &str| {
        let mut agent = Agent::new();
        let last = LastFailover {
            follower: Some(at()),
            ..LastFailover::default()
        };
        agent.core.go_on_after(M, last, Time::ZERO);
        agent.reloaded.go_on_after(M, last, Time::ZERO);
        agent.on(1, Event::OwnRedis(M.into(), at(), own(Role::Replica)));
        let actions = agent.polled(10, facts([named; 3], Role::Replica));
        assert!(
            !actions.contains(&lead),
            "a majority may name its heir in a moment"
        );
        agent.on(900, Event::Woke);
        agent.on(900, Event::Woke);
        let actions = agent.polled(500, facts([named; 3], Role::Replica));
        actions.contains(&lead)
    };
    assert!(after(HERE));
    assert!(!after(AWAY));
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

#[test]
fn a_master_that_was_just_started_is_paused_and_not_told_to_follow() {
    // The Sentinels have its former run id for some seconds.
    let told = |mut facts: Box<Facts>| {
        let told = &mut facts.evidence;
        told.own_redis[0].run_id = Some("new".into());
        let votes = told.ballot.iter_mut().flat_map(|it| &mut it.votes);
        for site in votes.filter_map(|vote| vote.says.as_mut().ok()) {
            site.run_id = Some("former".into());
        }
        facts
    };
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
    let mut agent = Agent::standing(true);
    agent.polled(10, told(facts([HERE; 3], Role::Master)));
    assert_eq!(paused(&agent.on(100, promotes(AWAY))), [at()]);
    agent.on(1, Event::Paused(M.into(), Ok(())));
    agent.on(10, said(Role::Replica));
    assert!(agent.on(50, said(Role::Master)).contains(&settle()));
    let actions = agent.settles(2);
    assert!(
        has_unpause(&actions) && heir(&actions).is_none(),
        "{actions:?}"
    );
    // Several may be meant.
    let mut agent = Agent::standing(true);
    let mut several = beside_strangers(facts([HERE; 3], Role::Master));
    several.evidence.own_redis[2].run_id = Some("new".into());
    agent.polled(10, several);
    assert!(paused(&agent.on(100, promotes(AWAY))).is_empty());
}

#[test]
fn another_masters_redis_on_this_host_is_neither_paused_nor_told_to_follow() {
    let said = |role| Event::Chosen(M.into(), endpoint(AWAY), role, Some(990));
    let told = |named: &str, role: Role| beside_strangers(facts([named; 3], role));
    let mut agent = Agent::standing(true);
    agent.polled(10, told(HERE, Role::Master));
    let actions = agent.on(100, promotes(AWAY));
    assert_eq!(paused(&actions), [at()]);
    agent.on(1, Event::Paused(M.into(), Ok(())));
    agent.on(10, said(Role::Replica));
    agent.on(50, said(Role::Master));
    let is_old = |it: &Action| matches!(it, Action::Unpause(_, old, Some(_)) if *old == at());
    assert!(agent.settles(2).iter().any(is_old));
    // The master is on another host, and its replica of this host is promoted.
    let mut agent = Agent::standing(false);
    agent.polled(10, told(AWAY, Role::Replica));
    let mut actions = agent.on(100, promotes(HERE));
    let chosen = Event::Chosen(M.into(), endpoint(HERE), Role::Master, Some(990));
    actions.extend(agent.on(50, Event::OwnRedis(M.into(), at(), own(Role::Master))));
    actions.extend(agent.on(1, chosen));
    actions.extend(agent.settles(2));
    actions.extend(agent.polled(900, told(HERE, Role::Master)));
    assert!(matches!(agent.master().verdict, Verdict::Here(..)));
    let asks = actions.iter().any(|it| matches!(it, Action::AskChosen(..)));
    assert!(paused(&actions).is_empty() && !has_unpause(&actions) && !asks);
}
