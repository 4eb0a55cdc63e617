//! One attempt of the engine, in this process: it may be dropped at any await.

use std::cell::Cell;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::pin::{Pin, pin};
use std::process::Command;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use vipswitch::config::{self, Config, Target};
use vipswitch::engine::{Engine, Expected, Task};
use vipswitch::evidence::{Evidence, Order};
use vipswitch::exit::Fault;
use vipswitch::kernel::Snapshot;
use vipswitch::outcome::{Did, Outcome};

use crate::redis_client::{block_on, inside};

/// A future that is dropped after so many polls. Gives whether it came to its end.
struct Dropped<'a, F> {
    future: Pin<&'a mut F>,
    polls: usize,
}

impl<F: Future> Future for Dropped<'_, F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if self.polls == 0 {
            return Poll::Ready(false);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(|_| true)
    }
}

/// A future whose process is stopped for a while once `known` is set.
struct Stopped<'a, F> {
    future: Pin<&'a mut F>,
    known: &'a Cell<bool>,
}

impl<F: Future> Future for Stopped<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.future.as_mut().poll(context);
        if polled.is_pending() && self.known.take() {
            std::thread::sleep(Duration::from_millis(2_100));
        }
        polled
    }
}

/// Does what an operator wants: an attempt that is dropped after so many polls, then a whole one. Returns
/// what came of it, and whether the first one came to its end.
async fn twice(config: &Config, order: Order, polls: usize) -> (Did, bool) {
    let engine = Engine::new(Instant::now(), false, Vec::new());
    let targets = Target::of(config, &["m"]).unwrap();
    let mut task = Task::new(targets, Expected::Here);
    let evidence = || Evidence {
        order: Some(order),
        ..Evidence::default()
    };
    let ended = {
        let attempt = engine.settle(&mut task, async |_: &Snapshot<'_>| Ok(evidence()));
        let future = pin!(attempt);
        Dropped { future, polls }.await
    };
    for _ in 0..TRIES {
        engine.begin();
        let whole = engine.settle(&mut task, async |_: &Snapshot<'_>| Ok(evidence()));
        let failed = whole.await.err();
        match failed.as_ref().or(task.outcomes[0].fault()) {
            None => break,
            Some(fault) => assert!(is_busy(fault), "{polls}: {fault}"),
        }
    }
    let outcome = &task.outcomes[0];
    let did = outcome
        .did()
        .unwrap_or_else(|| panic!("{polls}: {:?}", outcome.state));
    (did.clone(), ended)
}

/// Whether that is the fault of a busy machine.
fn is_busy(fault: &Fault) -> bool {
    let fault = fault.to_string();
    fault.contains("did not answer within") || fault.contains("the machine very busy")
}

/// How often what is whole is tried: on a busy machine the kernel's answer, or the deed, may be late.
const TRIES: usize = 5;

fn is_bound() -> bool {
    let output = Command::new("ip")
        .args(["-o", "addr", "show", "dev", "eth1"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).contains("192.168.56.250/")
}

fn make_links() {
    for words in [
        "link add eth1 type veth peer name far",
        "link set eth1 up",
        "link set far up",
        "addr add 192.168.56.101/24 dev eth1",
    ] {
        let status = Command::new("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "{words}");
    }
}

#[test]
fn an_attempt_that_is_dropped_at_any_await_is_finished_by_the_next_and_told_as_done() {
    let name =
        "engine::an_attempt_that_is_dropped_at_any_await_is_finished_by_the_next_and_told_as_done";
    inside(name, |_| {
        make_links();
        let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
        let config = config::parse(text, Path::new("v.toml")).unwrap();
        let mut has_ended = [false; 2];
        for polls in 0.. {
            let (did, ended) = block_on(twice(&config, Order::Bind, polls));
            has_ended[0] |= ended;
            assert!(is_bound(), "{polls}");
            assert!(
                matches!(did, Did::TookOver { already: None, .. }),
                "{polls}: {did:?}"
            );
            let (did, ended) = block_on(twice(&config, Order::Unbind, polls));
            has_ended[1] |= ended;
            assert!(!is_bound(), "{polls}");
            assert!(matches!(did, Did::Released(_)), "{polls}: {did:?}");
            if has_ended == [true; 2] {
                assert!(polls > 5, "dropped at {polls} places only");
                break;
            }
        }
    });
}

/// An attempt that is stopped between the evidence and what follows from it. Returns why it did nothing.
async fn stopped(config: &Config, order: Order) -> String {
    let engine = Engine::new(Instant::now(), false, Vec::new());
    let targets = Target::of(config, &["m"]).unwrap();
    let mut task = Task::new(targets, Expected::Here);
    let known = Cell::new(false);
    let gather = async |_: &Snapshot<'_>| {
        known.set(true);
        Ok(Evidence {
            order: Some(order),
            ..Evidence::default()
        })
    };
    {
        let future = pin!(engine.settle(&mut task, gather));
        let known = &known;
        Stopped { future, known }.await.unwrap();
    }
    let fault = task.outcomes[0].fault();
    fault
        .unwrap_or_else(|| panic!("{order:?} was carried out"))
        .to_string()
}

#[test]
fn what_was_known_before_the_process_was_stopped_is_not_acted_on() {
    let name = "engine::what_was_known_before_the_process_was_stopped_is_not_acted_on";
    inside(name, |_| {
        make_links();
        let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
        let config = config::parse(text, Path::new("v.toml")).unwrap();
        block_on(async {
            let why = stopped(&config, Order::Bind).await;
            assert!(why.contains("was stopped") && !is_bound(), "{why}");
            twice(&config, Order::Bind, 0).await;
            let why = stopped(&config, Order::Unbind).await;
            assert!(why.contains("was stopped") && is_bound(), "{why}");
        });
    });
}

/// Takes the name of the only interface, as a run that is about to remove an address there, for longer than evidence may be
/// old.
fn hold_the_interface() -> std::thread::JoinHandle<()> {
    let output = Command::new("cat")
        .arg("/sys/class/net/eth1/ifindex")
        .output();
    let index = String::from_utf8(output.unwrap().stdout).unwrap();
    let name = format!("vipswitch/interface/{}", index.trim());
    let at = SocketAddr::from_abstract_name(name).unwrap();
    let held = UnixListener::bind_addr(&at).unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(2_500));
        drop(held);
    })
}

#[test]
fn a_release_that_takes_long_does_not_put_off_that_of_the_next_vip() {
    let name = "engine::a_release_that_takes_long_does_not_put_off_that_of_the_next_vip";
    inside(name, |_| {
        make_links();
        let text = "[masters.m]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\n";
        let config = config::parse(text, Path::new("v.toml")).unwrap();
        let engine = || Engine::new(Instant::now(), false, Vec::new());
        let order = async |order| {
            let engine = engine();
            let mut task = Task::new(Target::of(&config, &["m"]).unwrap(), Expected::Unknown);
            let evidence = Evidence {
                order: Some(order),
                ..Evidence::default()
            };
            let settled = engine.settle(&mut task, async |_: &Snapshot<'_>| Ok(evidence));
            settled.await.unwrap();
            task.outcomes
        };
        // On a busy machine it may stand still for longer beside that, now and then.
        let mut tries = (0..5).map(|_| {
            block_on(order(Order::Bind));
            let holder = hold_the_interface();
            let released = block_on(order(Order::Unbind));
            holder.join().unwrap();
            released
        });
        let done = |of: &Vec<Outcome>| {
            of.iter()
                .all(|one| matches!(one.did(), Some(Did::Released(_))))
        };
        assert!(tries.any(|released| done(&released)));
    });
}

#[test]
fn clients_that_a_take_over_may_strand_are_looked_for_though_it_is_dropped_at_any_await() {
    let name = "engine::clients_that_a_take_over_may_strand_are_looked_for_though_it_is_dropped_at_any_await";
    inside(name, |_| {
        const ALL: usize = usize::MAX;
        make_links();
        let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
        let config = config::parse(text, Path::new("v.toml")).unwrap();
        let vip: std::net::IpAddr = "192.168.56.250".parse().unwrap();
        let bind = async |engine: &Engine, polls: usize, is_routine: bool| {
            let targets = Target::of(&config, &["m"]).unwrap();
            // As the agent does: each attempt has a task of its own.
            let mut task = Task::new(targets, Expected::Here);
            task.is_routine = is_routine;
            for _ in 0..TRIES {
                let evidence = Evidence {
                    order: Some(Order::Bind),
                    ..Evidence::default()
                };
                let ended = {
                    let attempt = engine.settle(&mut task, async |_: &Snapshot<'_>| Ok(evidence));
                    let future = pin!(attempt);
                    Dropped { future, polls }.await
                };
                if polls < ALL || task.outcomes[0].did().is_some() {
                    return (task.stranded, ended);
                }
                let fault = task.outcomes[0].fault();
                assert!(fault.is_none_or(is_busy), "{fault:?}");
                engine.begin();
            }
            panic!("{:?}", task.outcomes[0].state);
        };
        block_on(async {
            for polls in 0.. {
                let engine = Engine::new(Instant::now(), false, Vec::new());
                let (mut found, ended) = bind(&engine, polls, true).await;
                engine.begin();
                found.extend(bind(&engine, ALL, true).await.0);
                assert_eq!(found, [vip], "{polls}");
                let again = bind(&engine, ALL, true).await.0;
                assert!(again.is_empty(), "{polls}: once");
                // A run that was killed may have bound it; but who looks all the time does not end what is well.
                let another = Engine::new(Instant::now(), false, Vec::new());
                assert!(bind(&another, ALL, true).await.0.is_empty());
                assert_eq!(bind(&another, ALL, false).await.0, [vip]);
                twice(&config, Order::Unbind, 0).await;
                if ended {
                    assert!(polls > 5, "dropped at {polls} places only");
                    break;
                }
            }
        });
    });
}
