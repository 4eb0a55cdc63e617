//! Scrapes over real connections.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::LocalSet;

use super::*;
use crate::agent::snapshot::{Master, Replica, Sentinel, Vip};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn snapshot() -> Snapshot {
    Snapshot {
        version: "1.2.3".into(),
        masters: vec![Master {
            name: "m\"\\\n".into(),
            verdict: "here".into(),
            vips: vec![Vip {
                address: "192.0.2.1".into(),
                here: true,
                claims: 4,
                ..Vip::default()
            }],
            replicas: vec![Replica {
                at: "192.0.2.9:6379".into(),
                lag: Some(3),
                behind: 70,
                online: true,
            }],
            failovers: 2,
            paused_seconds: 0.25,
            take_over_seconds: vec![0.015, 0.3],
            take_overs: 2,
            ..Master::default()
        }],
        sentinels: vec![
            Sentinel {
                in_reach: true,
                ..Sentinel::default()
            },
            Sentinel::default(),
        ],
        drift_repaired: 5,
        pending_commands: 1,
        ..Snapshot::default()
    }
}

/// Runs a test beside a server of these snapshots.
fn beside<T>(
    snapshot: impl Fn() -> Snapshot + 'static,
    test: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        spawn_local(accept(listener, snapshot));
        test(at).await
    })
}

/// Sends this, and returns all that comes back.
async fn talk(at: SocketAddr, question: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // The server may have heard enough before its end.
        let _ = stream.write_all(question.as_bytes()).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    };
    timeout(PATIENCE, talk).await.unwrap()
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// Returns the value of a sample, by its name with its labels as they are written.
fn sample(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_scrape_has_every_figure_of_the_snapshot() {
    let text = beside(snapshot, async |at| talk(at, GET).await);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("application/openmetrics-text"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let m = r#"master="m\"\\\n""#;
    for (name, value) in [
        (format!("vipswitch_holder{{{m},vip=\"192.0.2.1\"}}"), 1.0),
        (
            format!("vipswitch_rivals_total{{{m},vip=\"192.0.2.1\"}}"),
            4.0,
        ),
        (format!("vipswitch_verdict{{{m},verdict=\"here\"}}"), 1.0),
        (format!("vipswitch_verdict{{{m},verdict=\"stays\"}}"), 0.0),
        (format!("vipswitch_failovers_total{{{m}}}"), 2.0),
        (format!("vipswitch_paused_seconds_total{{{m}}}"), 0.25),
        (format!("vipswitch_take_over_seconds_count{{{m}}}"), 2.0),
        (format!("vipswitch_take_over_seconds_sum{{{m}}}"), 0.315),
        (
            format!("vipswitch_take_over_seconds_bucket{{le=\"0.02\",{m}}}"),
            1.0,
        ),
        (
            format!("vipswitch_take_over_seconds_bucket{{le=\"+Inf\",{m}}}"),
            2.0,
        ),
        (
            format!("vipswitch_replication_lag_seconds{{{m},replica=\"192.0.2.9:6379\"}}"),
            3.0,
        ),
        (
            format!("vipswitch_replication_lag_bytes{{{m},replica=\"192.0.2.9:6379\"}}"),
            70.0,
        ),
        ("vipswitch_sentinels".into(), 2.0),
        ("vipswitch_sentinels_in_reach".into(), 1.0),
        ("vipswitch_drift_repaired_total".into(), 5.0),
        ("vipswitch_pending_commands".into(), 1.0),
        ("vipswitch_build_info{version=\"1.2.3\"}".into(), 1.0),
    ] {
        assert_eq!(sample(&text, &name), Some(value), "{name} in {text}");
    }
}

#[test]
fn the_histogram_goes_on_from_scrape_to_scrape() {
    let now = Rc::new(RefCell::new(snapshot()));
    let shown = Rc::clone(&now);
    beside(
        move || shown.borrow().clone(),
        async |at| {
            let count = async || {
                let text = talk(at, GET).await;
                sample(
                    &text,
                    r#"vipswitch_take_over_seconds_count{master="m\"\\\n"}"#,
                )
            };
            assert_eq!(count().await, Some(2.0));
            assert_eq!(count().await, Some(2.0));
            {
                let master = &mut now.borrow_mut().masters[0];
                // The agent keeps the newest ones only.
                master.take_over_seconds = vec![0.3, 0.01];
                master.take_overs = 3;
            }
            assert_eq!(count().await, Some(3.0));
            now.borrow_mut().masters.clear();
            assert_eq!(count().await, None);
        },
    );
}

#[test]
fn nothing_but_get_metrics_is_answered_with_metrics() {
    beside(snapshot, async |at| {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000));
        for (question, answer) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404"),
            (
                "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 405",
            ),
            (&long, "HTTP/1.1 431"),
            ("hello\r\n\r\n", "HTTP/1.1 400"),
        ] {
            let said = talk(at, question).await;
            assert!(said.starts_with(answer), "{question}: {said}");
            assert!(!said.contains("vipswitch_"), "{said}");
        }
        let head = talk(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        assert!(talk(at, GET).await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn peers_that_say_nothing_are_cut_off_and_hold_up_nobody_for_long() {
    beside(snapshot, async |at| {
        let mut silent = Vec::new();
        for _ in 0..2 * AT_ONCE {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        let began = Instant::now();
        assert!(talk(at, GET).await.starts_with("HTTP/1.1 200"));
        assert!(began.elapsed() >= REQUEST, "more than {AT_ONCE} at once");
        for mut stream in silent {
            let mut rest = Vec::new();
            let end = stream.read_to_end(&mut rest);
            let _ = timeout(PATIENCE, end).await.expect("it is cut off");
        }
    });
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fault = runtime.block_on(serve(at, snapshot)).unwrap_err();
    let said = fault.to_string();
    assert!(
        said.contains(&at.to_string()) && said.contains("metrics under [agent]"),
        "{said}"
    );
}
