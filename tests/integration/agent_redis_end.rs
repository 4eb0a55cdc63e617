//! How soon it is seen that a Redis has ended.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use vipswitch::agent::redis::{Because, Seen};
use vipswitch::redis::{Endpoint, Server};

use crate::agent_watch::{Sights, arrives, on_a_host, redis, say, seen, signal, watch};
use crate::common::{PATIENCE, eventually};
use crate::redis_client::{Process, at};

/// Waits until it is certain that the Redis has ended. Returns why that was looked at, and what was seen before.
async fn gone(sights: &mut Sights) -> (Because, Vec<Seen<u8>>) {
    let mut before = Vec::new();
    let why = arrives("that it is gone", sights, |seen| {
        let why = seen.is_gone.then_some(seen.why);
        before.push(seen.clone());
        why
    });
    let why = why.await;
    before.pop();
    (why, before)
}

/// Returns the only child of a server.
fn child(of: &Process) -> Pid {
    let number = of.0.id();
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap())
}

#[test]
fn a_redis_that_is_killed_while_a_child_of_it_saves_is_gone_at_once() {
    let name = "agent_redis_end::a_redis_that_is_killed_while_a_child_of_it_saves_is_gone_at_once";
    on_a_host(name, |dir| async move {
        let process = redis(&dir, 7001, "rdb-key-save-delay 100000000");
        let (_watch, mut sights) = watch(at(7001));
        seen(&mut sights, "a master", |_| true).await;
        for answer in say(&at(7001), &["SET key value", "BGSAVE"]).await {
            answer.unwrap();
        }
        let child = child(&process);
        // It has all connections that its parent has now, and keeps them for longer than this test takes; its port it
        // has closed by now.
        let saves = dir.join(format!("7001/temp-{child}.rdb"));
        eventually("the child saves", || saves.exists());
        signal(&process, Signal::SIGKILL);
        let (why, before) = gone(&mut sights).await;
        kill(child, Signal::SIGKILL).unwrap();
        assert_eq!(why, Because::Ended, "{before:#?}");
        assert!(before.iter().all(|seen| seen.state.is_ok()), "{before:#?}");
    });
}

/// A Redis that is being killed: it answers on one connection and ends that, takes some more and ends them, and only
/// then closes its port.
async fn ends_bit_by_bit(listener: TcpListener) -> Instant {
    let (mut first, _) = listener.accept().await.unwrap();
    let mut asked = [0; 512];
    let _ = first.read(&mut asked).await.unwrap();
    let role = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
    let info = "$11\r\nrole:master\r\n";
    first
        .write_all(format!("{role}{info}{info}").as_bytes())
        .await
        .unwrap();
    // The time is what this is about: longer than a connection that is no good one.
    sleep(Duration::from_millis(150)).await;
    let ended = Instant::now();
    drop(first);
    for _ in 0..3 {
        let _ = timeout(PATIENCE, listener.accept()).await;
    }
    ended
}

#[test]
fn a_redis_whose_port_outlives_its_connections_for_a_moment_is_gone_soon() {
    let name =
        "agent_redis_end::a_redis_whose_port_outlives_its_connections_for_a_moment_is_gone_soon";
    on_a_host(name, |_| async move {
        // One round of ten is enough, as a busy machine may be late in the others.
        for _ in 0..10 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at: SocketAddr = listener.local_addr().unwrap();
            let ends = tokio::task::spawn_local(ends_bit_by_bit(listener));
            let (_watch, mut sights) = watch(Server::at(Endpoint::Tcp(at)));
            gone(&mut sights).await;
            // The first of the usual waits alone is 50 ms and more.
            if ends.await.unwrap().elapsed() < Duration::from_millis(50) {
                return;
            }
        }
        panic!("never seen soon");
    });
}
