//! A voice and what it may say, without a network.

use std::cell::Cell;
use std::path::Path;

use super::super::truth::Holder;
use super::*;
use crate::config;
use crate::vip::Vip;

#[test]
fn while_it_is_asked_what_is_true_due_rounds_go_out_and_answers_do_not() {
    let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
    let config = config::parse(text, Path::new("/x")).unwrap();
    let truth = Rc::new(Truth::new(Some(&config)));
    let job = Job {
        master: "m".into(),
        vip: Vip::parse("192.168.56.250/24").unwrap(),
        ifindex: 2,
        peers: Vec::new(),
        is_ordered: false,
    };
    let seconds = Duration::from_secs;
    let voice = Voice::new(
        job,
        Schedule::new(seconds(15)),
        Rc::clone(&truth),
        Instant::now(),
    );
    {
        let mut state = voice.state.borrow_mut();
        state.summary.rival("02:00:00:00:00:01");
        assert!(state.schedule.is_due(Duration::from_millis(100)));
        state.schedule.owe_answer();
    }
    // An answer alone waits.
    let now = Duration::from_millis(200);
    assert_eq!(voice.leave(now), Leave::Asked);
    assert!(!voice.may_go_on(now));
    let now = Duration::from_millis(1200);
    assert_eq!(voice.leave(now), Leave::Asked);
    assert!(voice.may_go_on(now) && voice.due(now).is_some());
    assert!(!voice.may_go_on(now), "once");
    // What was known last is old, and was no leave.
    truth.note_elsewhere("m");
    assert!(!voice.may_go_on(seconds(3)));
}

#[test]
fn a_voice_that_was_stopped_asks_before_its_next_round() {
    let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
    let config = config::parse(text, Path::new("/x")).unwrap();
    let truth = Rc::new(Truth::new(Some(&config)));
    let job = resident(&Rc::new(Cell::new(Holder::Here))).job;
    let seconds = Duration::from_secs;
    let schedule = Schedule::new(seconds(15));
    let voice = Voice::new(job, schedule, Rc::clone(&truth), Instant::now());
    let wake = |at: u64| voice.state.borrow_mut().wake_at = seconds(at);
    wake(1);
    assert!(!voice.was_stopped(seconds(2)));
    assert_eq!(voice.leave(seconds(2)), Leave::Granted, "nobody is asked");
    assert!(voice.was_stopped(seconds(4)));
    assert_eq!(voice.leave(seconds(4)), Leave::Asked);
    assert!(!voice.may_go_on(seconds(4)));
    wake(5);
    assert!(voice.was_stopped(seconds(5)), "until it is told");
    truth.note_elsewhere("m");
    assert_eq!(voice.leave(seconds(5)), Leave::Refused);
    voice.catch_up();
    assert!(!voice.was_stopped(seconds(5)));
}

/// A stop that ends before the next round is one, too.
#[tokio::test]
async fn a_voice_that_is_not_resident_looks_up_between_its_rounds() {
    let resident = resident(&Rc::new(Cell::new(Holder::Here)));
    let truth = Rc::new(Truth::new(None));
    let schedule = Schedule::new(Duration::from_secs(15));
    let voice = Voice::new(resident.job.clone(), schedule, truth, Instant::now());
    let hour = Duration::from_hours(1);
    voice.wait_until(hour).await;
    assert!(voice.state.borrow().wake_at < hour);
    resident.state.borrow_mut().wake_at = Duration::ZERO;
    let _ = timeout_at(Instant::now().into(), resident.wait_until(hour)).await;
    assert_eq!(resident.state.borrow().wake_at, hour);
}

/// Gives a voice a reason to speak.
type Why<'a> = &'a dyn Fn(&Voice);

#[test]
fn a_resident_voice_is_silent_after_a_stop_until_it_is_told() {
    let holder = Rc::new(Cell::new(Holder::Here));
    let ms = Duration::from_millis;
    // Its round, its interface, a rival, and somebody who has seen that another host answers.
    let whys: [(u64, Why<'_>); 4] = [
        (70_000, &|_| {}),
        (20_000, &|voice| voice.hurry()),
        (20_000, &hear_rival),
        (20_000, &|voice| {
            let schedule = &mut voice.state.borrow_mut().schedule;
            schedule.owe_round_unless_recent(ms(20_000));
        }),
    ];
    for (at, why) in whys {
        holder.set(Holder::Here);
        let voice = resident(&holder);
        assert!(voice.due(ms(10_000)).is_some() && voice.due(ms(19_999)).is_none());
        holder.set(Holder::NotTold);
        why(&voice);
        assert_eq!(voice.leave(ms(at)), Leave::Refused);
        voice.keep_silent(ms(at));
        assert!(voice.due(ms(at)).is_none());
        holder.set(Holder::Here);
        assert_eq!(voice.leave(ms(at + 200)), Leave::Granted);
        voice.catch_up();
        assert!(voice.due(ms(at + 200)).is_some(), "then it is said");
    }
}

#[test]
fn a_resident_voice_is_silent_while_the_master_is_elsewhere_and_then_says_it_once() {
    let holder = Rc::new(Cell::new(Holder::Elsewhere));
    let voice = resident(&holder);
    let ms = Duration::from_millis;
    hear_rival(&voice);
    assert_eq!(voice.leave(ms(150)), Leave::Refused);
    voice.keep_silent(ms(150));
    assert!(voice.due(ms(150)).is_none());
    // It looks again soon, not at the next round.
    assert_eq!(voice.wake_at(ms(150)), ms(150) + SOON);
    holder.set(Holder::Here);
    assert_eq!(voice.leave(ms(350)), Leave::Granted);
    voice.catch_up();
    assert!(voice.due(ms(350)).is_some() && voice.due(ms(351)).is_none());
    assert_eq!(voice.wake_at(ms(351)), ms(1200));
}

#[test]
fn a_claim_that_came_while_nobody_knew_is_answered_once_the_truth_says_here() {
    let holder = Rc::new(Cell::new(Holder::Unknown));
    let voice = resident(&holder);
    let ms = Duration::from_millis;
    hear_rival(&voice);
    assert_eq!(voice.leave(ms(50)), Leave::RoundsOnly);
    voice.leave_unanswered(ms(50));
    assert!(voice.due(ms(50)).is_none());
    // The rounds go on.
    assert!(voice.due(ms(100)).is_some());
    holder.set(Holder::Here);
    assert_eq!(voice.leave(ms(300)), Leave::Granted);
    voice.catch_up();
    assert!(voice.due(ms(300)).is_some());
}

#[test]
fn a_resident_voice_is_silent_while_another_process_announces() {
    let voice = resident(&Rc::new(Cell::new(Holder::Here)));
    voice.step_aside(true);
    let ms = Duration::from_millis;
    assert_eq!(voice.leave(ms(150)), Leave::Refused);
    voice.keep_silent(ms(150));
    voice.step_aside(false);
    assert_eq!(voice.leave(ms(200)), Leave::Granted);
    voice.catch_up();
    assert!(voice.due(ms(200)).is_some());
}

fn hear_rival(voice: &Voice) {
    let state = &mut *voice.state.borrow_mut();
    assert!(state.summary.rival("02:00:00:00:00:01"));
    state.schedule.owe_answer();
}

fn resident(holder: &Rc<Cell<Holder>>) -> Voice<'static> {
    let holder = Rc::clone(holder);
    let truth = Rc::new(Truth::known(Box::new(move |_| holder.get())));
    let job = Job {
        master: "m".into(),
        vip: Vip::parse("192.168.56.250/24").unwrap(),
        ifindex: 2,
        peers: Vec::new(),
        is_ordered: false,
    };
    let schedule = Schedule::for_ever(Duration::from_secs(60));
    Voice::new(job, schedule, truth, Instant::now()).resident(Rc::new(|_| {}))
}
