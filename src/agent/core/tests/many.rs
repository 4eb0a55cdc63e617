//! What an agent with many masters does costs as much as there are masters, not as many times as much.

use std::cell::Cell;

use super::*;

thread_local! {
    static EVIDENCES: Cell<u64> = const { Cell::new(0) };
}

/// Counts how often all that is known of a master is put together.
pub(in crate::agent::core) fn count() {
    EVIDENCES.set(EVIDENCES.get() + 1);
}

fn name(number: u32) -> String {
    format!("m{number}")
}

fn vip(number: u32) -> IpAddr {
    IpAddr::from((0x0a01_0000 + number).to_be_bytes())
}

/// An agent with many masters, whose VIPs stand here.
fn with(masters: u32) -> Core {
    let settings = |number| Settings {
        name: name(number),
        vips: vec![vip(number)],
        on_isolation: OnIsolation::Release,
        on_redis_death: OnRedisDeath::Failover,
    };
    let mut core = Core::new((0..masters).map(settings));
    core.on(Event::Woke, ms(0));
    for number in 0..masters {
        let redis = Event::OwnRedis(name(number), at(), own(Role::Master));
        core.on(redis, ms(1));
        let facts = facts([HERE; 3], Role::Master);
        let actions = core.on(Event::Polled(name(number), facts), ms(1));
        assert!(actions.contains(&Action::Settle(name(number))));
        let settled = Settled {
            verdict: Some(core.master(&name(number)).unwrap().verdict.clone()),
            failed: None,
            took_over: true,
            released: false,
            bound: None,
            first_frame: None,
        };
        core.on(Event::Settled(name(number), Box::new(settled)), ms(2));
    }
    core.on(Event::PollEnded, ms(3));
    core
}

/// Returns how often the evidence is put together in a round of questions at rest, with all that comes with it.
fn in_a_round(core: &mut Core, masters: u32, began: Time) -> u64 {
    let before = EVIDENCES.get();
    core.on(Event::Woke, began);
    for number in 0..masters {
        let redis = Event::OwnRedis(name(number), at(), own(Role::Master));
        core.on(redis, began + ms(1));
        let facts = facts([HERE; 3], Role::Master);
        core.on(Event::Polled(name(number), facts), began + ms(2));
        core.on(Event::AddressNew(vip(number)), began + ms(3));
        core.wake(began + ms(3));
    }
    core.on(Event::PollEnded, began + ms(4));
    EVIDENCES.get() - before
}

#[test]
fn a_round_of_questions_costs_each_master_the_same_however_many_there_are() {
    let mut of_each = Vec::new();
    for masters in [10, 100, 1000] {
        let mut core = with(masters);
        let number = in_a_round(&mut core, masters, ms(1003));
        of_each.push(number / u64::from(masters));
        assert_eq!(number % u64::from(masters), 0, "{number}");
    }
    assert!(
        of_each.iter().all(|each| *each == of_each[0]),
        "{of_each:?}"
    );
    assert!(of_each[0] <= 4, "{of_each:?}");
}

#[test]
fn to_know_when_something_is_due_costs_nothing() {
    let core = with(10);
    let before = EVIDENCES.get();
    assert!(core.wake(ms(10)) > ms(10));
    assert_eq!(EVIDENCES.get(), before);
}

#[test]
fn a_vip_that_is_removed_is_the_concern_of_its_own_master() {
    let mut core = with(10);
    let before = EVIDENCES.get();
    let actions = core.on(Event::AddressGone(vip(3)), ms(10));
    assert_eq!(actions, [Action::Settle(name(3))]);
    assert!(EVIDENCES.get() <= before + 1);
    // None of the agent's.
    assert_eq!(core.on(Event::AddressGone(ip("10.9.9.9")), ms(11)), []);
    assert!(EVIDENCES.get() <= before + 1);
}

#[test]
fn one_round_answers_for_all_masters_that_somebody_asks_about() {
    let mut core = with(10);
    let all: Vec<String> = (0..10).map(name).collect();
    let actions = core.on(Event::Look(all.clone()), ms(100));
    let polls = |action: &&Action| matches!(action, Action::Poll | Action::PollSome(_));
    let asked: Vec<&Action> = actions.iter().filter(polls).collect();
    assert_eq!(asked, [&Action::PollSome(all)]);
}

#[test]
fn what_is_asked_for_while_a_round_goes_on_is_asked_in_the_next() {
    let mut core = with(10);
    let begins = |actions: &[Action]| {
        let rounds = actions.iter();
        let mut rounds = rounds.filter_map(|action| match action {
            Action::PollSome(names) => Some(names.clone()),
            Action::Poll => Some(Vec::new()),
            _ => None,
        });
        rounds.next()
    };
    let first = core.on(Event::Look(vec![name(1)]), ms(100));
    assert_eq!(begins(&first), Some(vec![name(1)]));
    assert_eq!(begins(&core.on(Event::Look(vec![name(2)]), ms(101))), None);
    assert_eq!(begins(&core.on(Event::PollEnded, ms(110))), None);
    let next = core.on(Event::Woke, core.wake(ms(110)));
    assert_eq!(begins(&next), Some(vec![name(2)]));
}

#[test]
fn where_changes_of_the_kernel_were_lost_everything_is_looked_at() {
    let mut core = with(3);
    let actions = core.on(Event::Lost, ms(100));
    assert!(actions.contains(&Action::Poll), "{actions:?}");
    for number in 0..3 {
        assert!(
            actions.contains(&Action::Settle(name(number))),
            "{actions:?}"
        );
    }
}
