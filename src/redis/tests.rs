//! What a server can do to its client: each test is a listener of its own in this process.

use crate::evidence::Role;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{Instant, sleep};

use super::*;

/// Longer than any machine needs for what does answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what does not answer.
const SOON: Duration = Duration::from_millis(200);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Listens, and does this with each connection.
async fn listener<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at(address)
}

fn at(address: SocketAddr) -> Server {
    Server::at(Endpoint::Tcp(address))
}

/// Reads a question and answers this, then stays.
async fn says(text: impl Into<Vec<u8>>) -> Server {
    let text = text.into();
    listener(move |mut stream| {
        let text = text.clone();
        async move {
            hear(&mut stream).await;
            stream.write_all(&text).await.unwrap();
            sleep(PATIENCE).await;
        }
    })
    .await
}

/// Waits for a question.
async fn hear(stream: &mut (impl AsyncRead + Unpin)) {
    let heard = stream.read(&mut [0; 4096]).await.unwrap();
    assert!(heard > 0);
}

async fn ask_role(server: &Server, within: Duration) -> Answers {
    ask(server, &Lines::default(), &[words(&["ROLE"])], within).await
}

#[test]
fn where_nobody_listens_the_server_is_unreachable() {
    block_on(async {
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let refused = NoAnswer::Unreachable("connection refused".into());
        assert_eq!(ask_role(&at(address), PATIENCE).await, Err(refused));
        let nowhere = Server::at(Endpoint::Unix("/no/such.sock".into()));
        let absent = NoAnswer::Unreachable("no such file or directory".into());
        assert_eq!(ask_role(&nowhere, PATIENCE).await, Err(absent));
    });
}

#[test]
fn the_first_address_of_a_name_that_accepts_is_asked() {
    block_on(async {
        let listens = says("+fine\r\n").await;
        let Endpoint::Tcp(address) = listens.endpoint else {
            panic!()
        };
        // Nobody listens there: the port is that of another address.
        let mut server = at(SocketAddr::new(
            "127.9.9.9".parse().unwrap(),
            address.port(),
        ));
        server.further.push(address);
        let answers = ask_role(&server, PATIENCE).await.unwrap();
        assert_eq!(answers, [Ok(Value::Text("fine".into()))]);
    });
}

#[test]
fn a_unix_socket_is_asked_like_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            hear(&mut stream).await;
            stream.write_all(b"*1\r\n$5\r\nslave\r\n").await.unwrap();
        });
        let server = Server::at(Endpoint::Unix(path.clone()));
        assert_eq!(role(&server, PATIENCE).await, Ok(Role::Replica));
    });
}

#[test]
fn a_server_that_never_answers_or_drips_is_silent_at_the_deadline() {
    block_on(async {
        let asleep = listener(|stream| async move {
            sleep(PATIENCE).await;
            drop(stream);
        });
        let drips = listener(|mut stream| async move {
            // One byte at a time, each well before the deadline.
            for byte in b"*1\r\n$100\r\n".iter().chain([b'x'; 1000].iter()) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        for server in [asleep.await, drips.await] {
            let started = Instant::now();
            let answer = ask_role(&server, SOON).await;
            assert_eq!(answer, Err(NoAnswer::Silent(SOON)));
            assert_eq!(role(&server, SOON).await, Err(NoAnswer::Silent(SOON)));
            assert!(started.elapsed() < PATIENCE / 2);
        }
    });
}

#[test]
fn a_server_that_floods_is_left_at_the_limit() {
    block_on(async {
        for (begin, more) in [
            ("$536000000\r\n", "x"),
            ("*1000000000\r\n", ":1\r\n"),
            (
                "*60000\r\n",
                "$100\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n",
            ),
            ("+", "x"),
            ("-", "ERR "),
        ] {
            let server = listener(move |mut stream| async move {
                let block = more.repeat(1 << 14);
                let _ = stream.write_all(begin.as_bytes()).await;
                while stream.write_all(block.as_bytes()).await.is_ok() {}
            })
            .await;
            let before = memory("VmHWM");
            let answer = ask_role(&server, PATIENCE).await;
            assert_eq!(answer, Err(NoAnswer::TooLong), "{begin:?}");
            // The listener's own block, and what other tests take at the same time, included. The
            // kernel's counter lags, so that it can fall.
            let grown = memory("VmHWM").saturating_sub(before);
            assert!(grown < 64 << 10, "{begin:?}: {grown} KiB");
        }
    });
}

/// The memory of this process, in KiB.
fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.unwrap().trim_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap()
}

#[test]
fn a_connection_that_ends_midway_is_broken() {
    block_on(async {
        for (said, when) in [
            ("", "before an answer"),
            ("*2\r\n$5\r\nmas", "in the middle of an answer"),
        ] {
            let server = listener(move |mut stream| async move {
                hear(&mut stream).await;
                stream.write_all(said.as_bytes()).await.unwrap();
            })
            .await;
            let broken = NoAnswer::Broken(format!("the connection ended {when}"));
            assert_eq!(ask_role(&server, PATIENCE).await, Err(broken));
        }
        // Closed with a question unread, which resets the connection.
        let server = listener(|stream| async move { drop(stream) }).await;
        let answer = ask_role(&server, PATIENCE).await;
        assert!(matches!(answer, Err(NoAnswer::Broken(_))), "{answer:?}");
    });
}

#[test]
fn the_error_before_a_connection_is_closed_says_why() {
    block_on(async {
        // As Redis with maxclients does: before it has read a word.
        let mut server = listener(|mut stream| async move {
            let said = b"-ERR max number of clients reached\r\n";
            stream.write_all(said).await.unwrap();
            stream.shutdown().await.unwrap();
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let questions = [words(&["ROLE"]), words(&["PING"])];
        let full = NoAnswer::Refused("ERR max number of clients reached".into());
        assert_eq!(
            ask(&server, &Lines::default(), &questions, PATIENCE).await,
            Err(full.clone())
        );
        server.password = Some("secret".into());
        assert_eq!(
            ask(&server, &Lines::default(), &questions, PATIENCE).await,
            Err(full)
        );
    });
}

#[test]
fn what_speaks_another_protocol_is_not_redis() {
    block_on(async {
        for said in [
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
            b"\0\0\0garbage",
            b"$x\r\n",
        ] {
            let server = says(said).await;
            let answer = ask_role(&server, PATIENCE).await;
            assert!(matches!(answer, Err(NoAnswer::NotRedis(_))), "{answer:?}");
        }
    });
}

#[test]
fn what_answers_a_tls_hello_in_plain_text_does_not_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.crt");
    fs::write(&ca_file, tls::tests::CA).unwrap();
    let files = crate::config::Tls {
        ca_file,
        client: None,
    };
    block_on(async {
        let server = Server {
            tls: Some(Tls::load(&files).unwrap()),
            ..says("HTTP/1.1 400 Bad Request\r\n\r\n").await
        };
        assert_eq!(ask_role(&server, PATIENCE).await, Err(NoAnswer::NoTls));
        // A Redis waits for the end of a line, and answers a question beside.
        let waits = listener(|mut stream| async move {
            let mut first = [0; 1];
            if stream.read_exact(&mut first).await.is_ok() && first == *b"*" {
                let _ = stream.write_all(b"+PONG\r\n").await;
            }
            sleep(PATIENCE).await;
        });
        let server = Server {
            tls: server.tls,
            ..waits.await
        };
        let started = Instant::now();
        let answer = ask_role(&server, Duration::from_millis(800)).await;
        assert_eq!(answer, Err(NoAnswer::NoTls), "{:?}", started.elapsed());
    });
}

#[test]
fn what_ends_a_question_in_plain_text_and_answers_a_tls_hello_wants_tls() {
    block_on(async {
        for answer in [
            &b"\x15\x03\x03\x00\x02\x02\x28"[..],
            b"\x16\x03\x03\x00\x7a\x02",
        ] {
            let server = listener(move |mut stream| async move {
                let mut first = [0; 1];
                if stream.read_exact(&mut first).await.is_ok() && first == [22] {
                    let _ = stream.write_all(answer).await;
                }
            })
            .await;
            let wants = Err(NoAnswer::WantsTls);
            assert_eq!(ask_role(&server, PATIENCE).await, wants);
            let with_password = Server {
                password: Some("secret".into()),
                ..server
            };
            assert_eq!(ask_role(&with_password, PATIENCE).await, wants);
        }
        let alert = says(b"\x15\x03\x01\x00\x02\x02\x46").await;
        assert_eq!(ask_role(&alert, PATIENCE).await, Err(NoAnswer::WantsTls));
    });
}

#[test]
fn a_refused_password_is_the_answer_to_every_question() {
    block_on(async {
        let mut server =
            says("-ERR Client sent AUTH, but no password is set\r\n*1\r\n$6\r\nmaster\r\n").await;
        server.password = Some("secret".into());
        let answer = role(&server, PATIENCE).await;
        assert!(
            matches!(answer, Err(NoAnswer::AuthRefused(_))),
            "{answer:?}"
        );
        assert!(!format!("{server:?}").contains("secret"));
    });
}

#[test]
fn user_password_and_questions_go_out_at_once() {
    block_on(async {
        let server = listener(|mut stream| async move {
            let expected =
                "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np w\r\n*1\r\n$4\r\nROLE\r\n*2\r\n$4\r\nINFO\r\n$0\r\n\r\n";
            let mut asked = vec![0; expected.len()];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&asked), expected);
            stream.write_all(b"+OK\r\n:1\r\n-LOADING x.\r\n").await.unwrap();
        })
        .await;
        let server = Server {
            username: Some("u".into()),
            password: Some("p w".into()),
            ..server
        };
        let questions = [words(&["ROLE"]), words(&["INFO", ""])];
        assert_eq!(
            ask(&server, &Lines::default(), &questions, PATIENCE).await,
            Ok(vec![
                Ok(Value::Int(1)),
                Err(NoAnswer::Refused("LOADING x".into()))
            ])
        );
    });
}

#[test]
fn the_replies_to_a_question_that_was_dropped_are_skipped() {
    block_on(async {
        let server = listener(|mut stream| async move {
            let mut number = 0;
            // Each question has 14 bytes.
            while stream.read_exact(&mut [0; 14]).await.is_ok() {
                number += 1;
                let reply = format!(":{number}\r\n");
                sleep(SOON).await;
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        })
        .await;
        let until = Instant::now() + PATIENCE;
        let mut connection = Connection::open(&server, until).await.unwrap();
        let ping = [words(&["PING"])];
        // Never later than its reply.
        let silent = connection.ask(&ping, Instant::now()).await;
        assert!(matches!(silent, Err(NoAnswer::Silent(_))), "{silent:?}");
        assert_eq!(
            connection.ask(&ping, until).await,
            Ok(vec![Ok(Value::Int(2))])
        );
    });
}

#[test]
fn events_come_after_the_subscription_without_a_question() {
    block_on(async {
        let event = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n";
        let server = says(format!(
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n{event}{event}"
        ))
        .await;
        let until = Instant::now() + PATIENCE;
        let mut connection = Connection::open(&server, until).await.unwrap();
        let subscribed = connection.ask(&[words(&["SUBSCRIBE", "c"])], until).await;
        assert!(subscribed.unwrap()[0].is_ok());
        for _ in 0..2 {
            let Ok(Value::Array(event)) = connection.next().await else {
                panic!("no event")
            };
            assert_eq!(event[2], Value::Text("x".into()));
        }
    });
}

#[test]
fn a_sentinel_that_does_not_know_the_master_says_so_in_either_way() {
    block_on(async {
        for said in [
            "*-1\r\n",
            "$-1\r\n",
            "-ERR No such master with that name\r\n",
        ] {
            let answer = master_address(&says(said).await, &Lines::default(), "m", PATIENCE).await;
            assert_eq!(answer, Err(NoAnswer::NoSuchMaster), "{said:?}");
        }
        for said in [
            "*2\r\n$8\r\n10.0.0.1\r\n$5\r\n99999\r\n",
            "*1\r\n$8\r\n10.0.0.1\r\n",
            "+PONG\r\n",
        ] {
            let answer = master_address(&says(said).await, &Lines::default(), "m", PATIENCE).await;
            assert!(matches!(answer, Err(NoAnswer::Unexpected(_))), "{answer:?}");
        }
        let said = "*2\r\n$7\r\nfd00::1\r\n$4\r\n6379\r\n";
        let address = master_address(&says(said).await, &Lines::default(), "m", PATIENCE).await;
        assert_eq!(address.unwrap().to_string(), "[fd00::1]:6379");
    });
}

#[test]
fn a_view_has_what_sentinel_says_and_why_a_list_is_missing() {
    let bulk = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let texts = words
            .iter()
            .map(|word| format!("${}\r\n{word}\r\n", word.len()));
        format!("*{}\r\n{}", words.len(), texts.collect::<String>())
    };
    let described = bulk(
        "name m ip 10.0.0.1 port 6379 runid abc flags master,o_down config-epoch 7 quorum 2 num-other-sentinels 2 down-after-milliseconds 5000",
    );
    let other = bulk("name x ip 10.0.0.2 port 26379 flags sentinel");
    let said = format!(
        "{described}-NOPERM no\r\n*1\r\n{other}{}-ERR No such master with that name\r\n-ERR No such master with that name\r\n-ERR No such master with that name\r\n*-1\r\n",
        bulk("10.0.0.9 6380")
    );
    block_on(async {
        let views = views(&says(said).await, &Lines::default(), &["m", "n"], PATIENCE)
            .await
            .unwrap();
        let view = views[0].as_ref().unwrap();
        assert_eq!(view.master.to_string(), "10.0.0.9:6380");
        assert_eq!((view.config_epoch, view.quorum), (7, 2));
        assert_eq!(view.down_after, Some(Duration::from_secs(5)));
        assert_eq!(view.failover_timeout, None);
        assert_eq!(view.flags, ["master", "o_down"]);
        // That of the old master does not belong to the new one.
        assert_eq!(view.run_id, None);
        let expected = Instance {
            host: "10.0.0.2".into(),
            port: 26379,
            run_id: None,
            flags: vec!["sentinel".into()],
        };
        assert_eq!(view.replicas, [expected]);
        assert!(view.sentinels.is_empty());
        assert!(matches!(view.withheld, Some(NoAnswer::NotAllowed(_))));
        assert_eq!(views[1], Err(NoAnswer::NoSuchMaster));
    });
}

#[test]
fn where_role_is_renamed_info_tells_it() {
    block_on(async {
        let server = listener(|mut stream| async move {
            hear(&mut stream).await;
            let unknown = b"-ERR unknown command `ROLE`, with args beginning with: \r\n";
            stream.write_all(unknown).await.unwrap();
            hear(&mut stream).await;
            let info = "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n";
            let said = format!("${}\r\n{info}\r\n", info.len());
            stream.write_all(said.as_bytes()).await.unwrap();
        })
        .await;
        assert_eq!(role(&server, PATIENCE).await, Ok(Role::Master));
        // An ACL user who may not ask for it.
        for (may_ask_info, expected) in [(true, Ok(Role::Replica)), (false, Err("NOPERM no role"))]
        {
            let server = listener(move |mut stream| async move {
                hear(&mut stream).await;
                stream.write_all(b"-NOPERM no role\r\n").await.unwrap();
                hear(&mut stream).await;
                let said: &[u8] = match may_ask_info {
                    true => b"$12\r\nrole:slave\r\n\r\n",
                    false => b"-NOPERM no info\r\n",
                };
                stream.write_all(said).await.unwrap();
            })
            .await;
            let expected = expected.map_err(|text| NoAnswer::NotAllowed(text.into()));
            assert_eq!(role(&server, PATIENCE).await, expected);
        }
        let sentinel = says("*2\r\n$8\r\nsentinel\r\n*0\r\n").await;
        let other = Role::Other("sentinel".into());
        assert_eq!(role(&sentinel, PATIENCE).await, Ok(other));
    });
}
