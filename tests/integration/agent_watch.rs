//! What the agent hears of Sentinels and sees of a Redis, against real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use vipswitch::agent::chosen::turned_master;
use vipswitch::agent::redis::{Because, Seen, Watch};
use vipswitch::agent::sentinels::{Heard, News, follow};
use vipswitch::evidence::Role;
use vipswitch::failover::{Endpoint, Host};
use vipswitch::redis::events::{CHANNELS, What};
use vipswitch::redis::{Lines, NoAnswer, Server, State, Value, Words, ask, text};

use crate::common::PATIENCE;
use crate::redis_client::{
    Process, at, block_on, inside, make_certificates, tls_conf, with_password, with_tls,
};

/// Runs a test of this module, or of the one that its name begins with, on a host of its own, where tasks may be
/// spawned.
#[track_caller]
pub fn on_a_host<F: Future<Output = ()>>(name: &str, test: impl FnOnce(PathBuf) -> F) {
    let name = match name.contains("::") {
        true => name.to_owned(),
        false => format!("agent_watch::{name}"),
    };
    inside(&name, |dir| {
        block_on(LocalSet::new().run_until(test(dir.to_owned())));
    });
}

/// Starts a server in a folder of its own.
fn start(dir: &Path, program: &'static str, port: u16, conf: &str) -> Process {
    let folder = dir.join(port.to_string());
    fs::create_dir_all(&folder).unwrap();
    let conf = format!("port {port}\nbind 127.0.0.1\n{conf}");
    // It waits in a runtime of its own, which a thread has once.
    let started = std::thread::spawn(move || Process::start(&folder, program, &conf, &at(port)));
    started.join().unwrap()
}

/// Starts a Redis that saves nothing by itself.
pub fn redis(dir: &Path, port: u16, conf: &str) -> Process {
    start(dir, "redis-server", port, &format!("save \"\"\n{conf}"))
}

fn words(line: &str) -> Words {
    line.split(' ').map(str::to_owned).collect()
}

/// Says these lines, and returns the answers.
pub async fn say(server: &Server, lines: &[&str]) -> Vec<Result<Value, NoAnswer>> {
    let questions: Vec<Words> = lines.iter().map(|line| words(line)).collect();
    ask(server, &Lines::default(), &questions, PATIENCE)
        .await
        .unwrap()
}

/// Signals a server.
pub fn signal(process: &Process, signal: Signal) {
    let pid = i32::try_from(process.0.id()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn link(state: &str) {
    let set = Command::new("ip")
        .args(["link", "set", "lo", state])
        .status();
    assert!(set.unwrap().success());
}

/// Waits for something that arrives.
pub async fn arrives<T: std::fmt::Debug, U>(
    what: &str,
    from: &mut Receiver<T>,
    mut wanted: impl FnMut(&T) -> Option<U>,
) -> U {
    let until = Instant::now() + PATIENCE;
    let mut others = Vec::new();
    loop {
        match tokio::time::timeout_at(until, from.recv()).await {
            Ok(Some(arrived)) => match wanted(&arrived) {
                Some(found) => return found,
                None => others.push(arrived),
            },
            _ => panic!("not seen: {what}\n{others:#?}"),
        }
    }
}

/// Waits until something is so.
async fn becomes(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "not seen: {what}");
        sleep(Duration::from_millis(20)).await; // poll
    }
}

/// What is seen of a Redis.
pub type Sights = Receiver<Seen<u8>>;

/// Watches a Redis.
pub fn watch(server: Server) -> (Watch, Sights) {
    let (to, seen) = mpsc::channel(64);
    (Watch::start(server, 1, to), seen)
}

/// Waits until the Redis is seen so, whatever was the reason to ask.
pub async fn seen(
    sights: &mut Sights,
    what: &str,
    so: impl Fn(&State) -> bool,
) -> (State, Because) {
    arrives(what, sights, |seen| {
        let state = seen.state.as_ref().ok().filter(|state| so(state))?;
        Some((state.clone(), seen.why))
    })
    .await
}

fn is_linked(state: &State) -> bool {
    state
        .follows
        .as_ref()
        .is_some_and(|follows| follows.link_up)
}

/// Promotes right after a question, again until it is seen long before the next one. Only the end of the connection
/// tells that early; one round of ten is enough, as a busy machine may be late in the others.
async fn promote_until_seen_early(sights: &mut Sights) {
    for _ in 0..10 {
        say(&at(7002), &["REPLICAOF 127.0.0.1 7001"]).await;
        let asked = |seen: &Seen<u8>| match &seen.state {
            Ok(state) if seen.why == Because::Tick && is_linked(state) => Some(()),
            _ => None,
        };
        arrives("a replica, when it was time", sights, asked).await;
        let began = Instant::now();
        promote(&at(7002)).await;
        seen(sights, "a master", |state| state.role == Role::Master).await;
        if began.elapsed() < Duration::from_millis(400) {
            return;
        }
    }
    panic!("never seen before the next question");
}

/// A promotion as Sentinel makes it.
async fn promote(server: &Server) {
    let lines = [
        "MULTI",
        "REPLICAOF NO ONE",
        "CLIENT KILL TYPE normal",
        "EXEC",
    ];
    let _ = ask(server, &Lines::default(), &lines.map(words), PATIENCE).await;
}

#[test]
fn a_promotion_is_seen_when_it_ends_the_connection() {
    on_a_host(
        "a_promotion_is_seen_when_it_ends_the_connection",
        |dir| async move {
            let _master = redis(&dir, 7001, "repl-diskless-sync-delay 0");
            let _replica = redis(&dir, 7002, "replicaof 127.0.0.1 7001");
            let (_watch, mut sights) = watch(at(7002));
            seen(&mut sights, "a replica with its link", is_linked).await;
            let chosen =
                spawn_local(async { turned_master(&at(7002), Instant::now() + PATIENCE).await });
            promote(&at(7002)).await;
            let (state, why) =
                seen(&mut sights, "a master", |state| state.role == Role::Master).await;
            assert_eq!(why, Because::Ended);
            assert!(
                state.promoted_at.is_some_and(|at| at <= state.offset),
                "{state:?}"
            );
            let promotion = chosen.await.unwrap().unwrap();
            assert_eq!(promotion.promoted_at, state.promoted_at);
            promote_until_seen_early(&mut sights).await;
        },
    );
}

#[test]
fn a_promotion_that_ends_no_connection_is_seen_where_it_is_expected() {
    let name = "a_promotion_that_ends_no_connection_is_seen_where_it_is_expected";
    on_a_host(name, |dir| async move {
        let _master = redis(&dir, 7001, "repl-diskless-sync-delay 0");
        let _replica = redis(&dir, 7002, "replicaof 127.0.0.1 7001");
        let (watch, mut sights) = watch(at(7002));
        seen(&mut sights, "a replica with its link", is_linked).await;
        watch.expect(PATIENCE);
        say(&at(7002), &["REPLICAOF NO ONE"]).await;
        let (_, why) = seen(&mut sights, "a master", |state| state.role == Role::Master).await;
        assert_eq!(why, Because::Expected);
    });
}

#[test]
fn a_redis_that_ends_is_refused_at_once_and_found_again() {
    on_a_host(
        "a_redis_that_ends_is_refused_at_once_and_found_again",
        |dir| async move {
            let process = redis(&dir, 7001, "");
            let (watch, mut sights) = watch(at(7001));
            let (first, why) = seen(&mut sights, "a master", |_| true).await;
            assert_eq!(why, Because::Connected);
            assert!(
                first.run_id.is_some() && first.version.is_some(),
                "{first:?}"
            );
            drop(process);
            let why = arrives("a refusal", &mut sights, |seen| {
                let refused = seen.state.as_ref().err()?.is_refused();
                refused.then_some(seen.why)
            });
            assert_eq!(why.await, Because::Ended);
            let paused = watch.pause(PATIENCE).await.unwrap_err();
            assert!(paused.is_refused(), "{paused:?}");
            let _again = redis(&dir, 7001, "");
            let (second, why) = seen(&mut sights, "a master again", |_| true).await;
            assert_eq!(why, Because::Connected);
            assert_ne!(second.run_id, first.run_id);
        },
    );
}

#[test]
fn a_redis_that_hangs_is_silent_and_a_lost_link_too() {
    on_a_host(
        "a_redis_that_hangs_is_silent_and_a_lost_link_too",
        |dir| async move {
            let process = redis(&dir, 7001, "");
            let (_watch, mut sights) = watch(at(7001));
            seen(&mut sights, "a master", |_| true).await;
            signal(&process, Signal::SIGSTOP);
            silence(&mut sights).await;
            signal(&process, Signal::SIGCONT);
            seen(&mut sights, "a master after the stop", |_| true).await;
            link("down");
            silence(&mut sights).await;
            link("up");
            seen(&mut sights, "a master after the cut", |_| true).await;
        },
    );
}

async fn silence(sights: &mut Sights) {
    let silent = |seen: &Seen<u8>| matches!(seen.state, Err(NoAnswer::Silent(_))).then_some(());
    arrives("silence", sights, silent).await;
}

/// What the documents say that the agent's user of a Redis needs.
const REDIS_USER: &str = "user agent on >word resetchannels &vipswitch:* -@all +role +info +client|pause +client|unpause +replicaof +publish +subscribe";

#[test]
fn a_pause_stops_writes_until_it_is_lifted_with_no_more_than_the_documented_rights() {
    let name = "a_pause_stops_writes_until_it_is_lifted_with_no_more_than_the_documented_rights";
    on_a_host(name, |dir| async move {
        let _redis = redis(&dir, 7001, REDIS_USER);
        let (watch, mut sights) = watch(with_password(7001, Some("agent"), "word"));
        let (state, _) = seen(&mut sights, "a master", |_| true).await;
        assert!(
            state.run_id.is_some() && state.version.is_some(),
            "{state:?}"
        );
        // Longer than the test: only the end of the pause lets the write go on.
        assert_eq!(watch.pause(PATIENCE * 10).await, Ok(()));
        let mut write = spawn_local(async { say(&at(7001), &["SET key value"]).await });
        let early = timeout(Duration::from_millis(300), &mut write).await;
        assert!(early.is_err(), "written during the pause: {early:?}");
        assert_eq!(watch.unpause().await, Ok(()));
        let written = timeout(PATIENCE, write).await.unwrap().unwrap();
        assert_eq!(written, [Ok(Value::Text("OK".into()))]);
    });
}

#[test]
fn a_master_follows_another_in_the_midst_of_a_pause_with_no_more_than_the_documented_rights() {
    let name =
        "a_master_follows_another_in_the_midst_of_a_pause_with_no_more_than_the_documented_rights";
    on_a_host(name, |dir| async move {
        let _old = redis(&dir, 7001, REDIS_USER);
        let _new = redis(&dir, 7002, "");
        let (watch, mut sights) = watch(with_password(7001, Some("agent"), "word"));
        seen(&mut sights, "a master", |_| true).await;
        assert_eq!(watch.pause(PATIENCE * 10).await, Ok(()));
        let mut waiting = spawn_local(async { say(&at(7001), &["SET key value"]).await });
        let early = timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(early.is_err(), "written during the pause: {early:?}");
        let heir = Endpoint {
            host: Host::Address([127, 0, 0, 1].into()),
            port: 7002,
        };
        assert_eq!(watch.follow(heir).await, Ok(()));
        seen(&mut sights, "a replica", |state| {
            let follows = state.follows.as_ref();
            follows.is_some_and(|it| it.port == 7002 && it.link_up)
        })
        .await;
        // What had waited is refused: its client asks elsewhere.
        assert_eq!(watch.unpause().await, Ok(()));
        let refused = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        let [Err(no)] = refused.as_slice() else {
            panic!("{refused:?}")
        };
        assert!(no.to_string().starts_with("READONLY"), "{no}");
    });
}

#[test]
fn a_user_that_may_not_pause_says_so_and_one_without_info_tells_the_role() {
    let name = "a_user_that_may_not_pause_says_so_and_one_without_info_tells_the_role";
    on_a_host(name, |dir| async move {
        let _redis = redis(&dir, 7001, "user agent on >word -@all +role");
        let (watch, mut sights) = watch(with_password(7001, Some("agent"), "word"));
        let (state, _) = seen(&mut sights, "a master", |_| true).await;
        assert_eq!((state.role, state.run_id), (Role::Master, None));
        let no = watch.pause(PATIENCE).await.unwrap_err();
        assert!(matches!(no, NoAnswer::NotAllowed(_)), "{no:?}");
        let heir = Endpoint {
            host: Host::Name("other".into()),
            port: 1,
        };
        let no = watch.follow(heir).await.unwrap_err();
        assert!(matches!(no, NoAnswer::NotAllowed(_)), "{no:?}");
    });
}

#[test]
fn a_redis_with_tls_is_watched_and_its_promotion_seen() {
    on_a_host(
        "a_redis_with_tls_is_watched_and_its_promotion_seen",
        |dir| async move {
            make_certificates(&dir);
            let conf = tls_conf(&dir, "ca", "redis").replace("port 7001\n", "");
            let conf = conf.replace("tls-port", "port 7001\ntls-port");
            let _redis = redis(&dir, 7001, &format!("{conf}\nreplicaof 127.0.0.1 7999"));
            let (_watch, mut sights) = watch(with_tls(&dir, 7002, "ca", Some("redis")));
            seen(&mut sights, "a replica", |state| {
                state.role == Role::Replica
            })
            .await;
            promote(&at(7001)).await;
            let (_, why) = seen(&mut sights, "a master", |state| state.role == Role::Master).await;
            assert_eq!(why, Because::Ended);
        },
    );
}

/// What the documents say that the agent's user of a Sentinel needs to follow it.
fn sentinel_user() -> String {
    let channels: String = CHANNELS.map(|channel| format!("&{channel} ")).concat();
    format!("user agent on >word resetchannels {channels}-@all +subscribe +ping")
}

fn followed(server: Server, room: usize) -> Receiver<Heard<u8>> {
    let (to, heard) = mpsc::channel(room);
    drop(spawn_local(follow(server, 1, to)));
    heard
}

async fn up(heard: &mut Receiver<Heard<u8>>) {
    arrives("the beginning of events", heard, |heard| {
        (heard.news == News::Up).then_some(())
    })
    .await;
}

async fn down(heard: &mut Receiver<Heard<u8>>) -> NoAnswer {
    arrives("the end of events", heard, |heard| match &heard.news {
        News::Down(no) => Some(no.clone()),
        _ => None,
    })
    .await
}

const MONITOR: &str = "sentinel monitor m1 127.0.0.1 7001 1\nsentinel failover-timeout m1 20000";

#[test]
fn a_failover_is_followed_with_no_more_than_the_documented_rights() {
    let name = "a_failover_is_followed_with_no_more_than_the_documented_rights";
    on_a_host(name, |dir| async move {
        let _master = redis(&dir, 7001, "repl-diskless-sync-delay 0");
        let _replica = redis(&dir, 7002, "replicaof 127.0.0.1 7001");
        let conf = format!("{MONITOR}\n{}", sentinel_user());
        let _sentinel = start(&dir, "redis-sentinel", 26379, &conf);
        let mut heard = followed(with_password(26379, Some("agent"), "word"), 64);
        up(&mut heard).await;
        // Refused until Sentinel knows a replica that it can choose.
        let begins = async || say(&at(26379), &["SENTINEL FAILOVER m1"]).await[0].is_ok();
        becomes("a failover begins", begins).await;
        for step in ["chosen", "promoted", "switched"] {
            let to = arrives(step, &mut heard, |heard| match &heard.news {
                News::Event(event) => match (&event.what, step) {
                    (What::Promotes(to), "chosen") => Some((event.master.clone(), to.clone())),
                    (What::Promoted(to), "promoted") => Some((event.master.clone(), to.clone())),
                    (What::Switched(to), "switched") => Some((event.master.clone(), to.clone())),
                    _ => None,
                },
                _ => None,
            });
            let (master, to) = to.await;
            assert_eq!((master.as_str(), to.port), ("m1", 7002), "{step}");
        }
    });
}

#[test]
fn a_sentinel_that_hangs_or_is_cut_off_is_given_up_and_followed_again() {
    let name = "a_sentinel_that_hangs_or_is_cut_off_is_given_up_and_followed_again";
    on_a_host(name, |dir| async move {
        let _master = redis(&dir, 7001, "");
        let conf = format!("{MONITOR}\nrequirepass secret");
        let sentinel = start(&dir, "redis-sentinel", 26379, &conf);
        let mut heard = followed(with_password(26379, None, "secret"), 64);
        up(&mut heard).await;
        signal(&sentinel, Signal::SIGSTOP);
        assert!(matches!(down(&mut heard).await, NoAnswer::Silent(_)));
        signal(&sentinel, Signal::SIGCONT);
        up(&mut heard).await;
        link("down");
        assert!(matches!(down(&mut heard).await, NoAnswer::Silent(_)));
        link("up");
        up(&mut heard).await;
        drop(sentinel);
        down(&mut heard).await;
        assert!(down(&mut heard).await.is_refused());
    });
}

#[test]
fn a_refused_subscription_is_told_once() {
    on_a_host("a_refused_subscription_is_told_once", |dir| async move {
        let _master = redis(&dir, 7001, "");
        let conf = format!("{MONITOR}\nuser agent on >word -@all +ping");
        let _sentinel = start(&dir, "redis-sentinel", 26379, &conf);
        let mut heard = followed(with_password(26379, Some("agent"), "word"), 64);
        let no = down(&mut heard).await;
        assert!(matches!(no, NoAnswer::NotAllowed(_)), "{no:?}");
        let again = timeout(Duration::from_secs(1), heard.recv()).await;
        assert!(again.is_err(), "told twice: {again:?}");
    });
}

#[test]
fn a_receiver_without_room_gets_no_events_with_a_gap_untold() {
    on_a_host(
        "a_receiver_without_room_gets_no_events_with_a_gap_untold",
        |dir| async move {
            let _master = redis(&dir, 7001, "");
            let _sentinel = start(&dir, "redis-sentinel", 26379, MONITOR);
            let mut heard = followed(at(26379), 1);
            let is_followed = async || {
                let list = say(&at(26379), &["CLIENT LIST"]).await.remove(0).unwrap();
                text(&list).unwrap().contains("cmd=subscribe")
                    || text(&list).unwrap().contains("cmd=ping")
            };
            becomes("it is followed", is_followed).await;
            say(
                &at(26379),
                &["SENTINEL SET m1 quorum 1", "SENTINEL SET m1 quorum 1"],
            )
            .await;
            becomes("without room it is not followed any more", async || {
                !is_followed().await
            })
            .await;
            up(&mut heard).await;
            down(&mut heard).await;
            up(&mut heard).await;
        },
    );
}
