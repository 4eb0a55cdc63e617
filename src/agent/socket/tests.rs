//! Server and client over real sockets, in a folder of the test's own.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream as Stream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use tokio::task::LocalSet;

use super::*;
use crate::agent::client::{Unserved, ask_at};
use crate::exit::Kind;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A group that every Linux has, and a user's number that none has.
const GROUP: &str = "daemon";
const STRANGER: &str = "4711";

struct Place {
    dir: TempDir,
    config: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        // The stranger comes through, and gets no further than the socket.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = dir.path().join("vipswitch.toml");
        fs::write(&config, "").unwrap();
        Place { dir, config }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    fn open(&self) -> Result<Server, Fault> {
        // An ordinary user can give it away to no group, which is a warning only.
        let (file, warning) = File::make(&self.socket(), Some(GROUP))?;
        Ok(Server {
            files: Files::new(file),
            config: self.config.clone(),
            warning,
        })
    }

    fn request(&self, verb: Verb) -> Request {
        Request {
            verb,
            masters: Vec::new(),
            config: self.config.clone(),
            telling: Default::default(),
        }
    }

    async fn ask(&self, verb: Verb) -> Result<Reply, Unserved> {
        let request = self.request(verb);
        ask_at(&self.socket(), &request, Instant::now() + PATIENCE).await
    }

    /// Runs perl with the socket's path, as root or as a stranger in this group.
    fn perl(&self, group: Option<&str>, script: &str) -> Child {
        let mut command = match group {
            None => Command::new("perl"),
            Some(group) => {
                let mut setpriv = Command::new("setpriv");
                let regid = format!("--regid={group}");
                setpriv.args(["--reuid", STRANGER, &regid, "--clear-groups", "perl"]);
                setpriv
            }
        };
        command.args(["-MIO::Socket::UNIX", "-e", script]);
        command.arg(self.socket()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// Runs a test beside a server whose loop does `each`.
fn beside<T>(place: &Place, each: impl Fn(Asked) + 'static, test: impl AsyncFnOnce() -> T) -> T {
    let server_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&server_runtime, async {
        let (to, mut asked) = mpsc::channel(8);
        spawn_local(place.open().unwrap().serve(to));
        spawn_local(async move {
            while let Some(asked) = asked.recv().await {
                each(asked);
            }
        });
        test().await
    })
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A loop that answers with the name of what was asked.
fn echo(asked: Asked) {
    let reply = Reply {
        exit: 1,
        out: format!("{:?}", asked.request.verb),
        err: vec!["noted".into()],
        refused: None,
    };
    let _ = asked.answer.send(reply);
}

/// Waits for a process without holding the server up.
async fn output(child: Child) -> String {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = timeout(PATIENCE, ended).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn hook(words: &str) -> Verb {
    Verb::Hook(words.split(' ').map(str::to_owned).collect())
}

const CALL: &str = "m leader start 10.0.0.1 6379 10.0.0.2 6379";

#[test]
fn an_answer_comes_back_as_the_loop_gave_it() {
    let place = Place::new();
    beside(&place, echo, async || {
        let reply = place.ask(hook(CALL)).await.unwrap();
        assert_eq!(reply.exit, 1);
        assert!(
            reply.out.starts_with("Hook([\"m\", \"leader\""),
            "{reply:?}"
        );
        assert_eq!(reply.err, ["noted"]);
        let metadata = fs::metadata(place.socket()).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o660);
        assert_eq!(metadata.gid() == 1, is_root());
        // Half a socket is left nowhere.
        assert!(!place.socket().with_extension("new").exists());
    });
    // It goes with its agent.
    assert!(!place.socket().exists());
}

#[test]
fn sentinels_user_may_call_the_hook_and_ask_for_the_status_and_nothing_else() {
    for (uid, verb, may) in [
        (0, Verb::Sync, true),
        (110, Verb::Sync, true),
        (111, Verb::Sync, false),
        (111, Verb::Bind { force: false }, false),
        (111, Verb::Unbind { force: false }, false),
        (111, Verb::Announce, false),
        (111, Verb::Status, true),
        (111, hook(CALL), true),
    ] {
        assert_eq!(may_ask(uid, 110, &verb), may, "{uid} {verb:?}");
    }
    assert!(
        is_root(),
        "needs root: an ordinary user cannot be another one, too"
    );
    let place = Place::new();
    let script = r#"
        my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or print("denied: $!"), exit;
        print $s $ARGV[1], "\n"; print <$s>;
    "#;
    beside(&place, echo, async || {
        let as_stranger = async |group: &str, verb: Verb| {
            let text = to_json(&place.request(verb));
            let script = script.replace("$ARGV[1]", &format!("q({text})"));
            output(place.perl(Some(group), &script)).await
        };
        for verb in [hook(CALL), Verb::Status] {
            let answer = as_stranger("1", verb).await;
            assert!(answer.contains("noted"), "{answer}");
        }
        let force = true;
        for verb in [
            Verb::Sync,
            Verb::Announce,
            Verb::Bind { force },
            Verb::Unbind { force },
        ] {
            let answer = as_stranger("1", verb.clone()).await;
            assert!(
                answer.contains("only root and the agent's own user"),
                "{answer}"
            );
            place.ask(verb).await.expect("root may");
        }
        let answer = as_stranger(STRANGER, Verb::Status).await;
        assert!(answer.starts_with("denied: Permission denied"), "{answer}");
    });
}

#[test]
fn a_second_agent_is_refused_and_a_killed_one_is_replaced() {
    let place = Place::new();
    // What an agent that was killed has left.
    drop(UnixListener::bind(place.socket()).unwrap());
    drop(UnixListener::bind(place.socket().with_extension("new")).unwrap());
    fs::write(place.socket().with_extension("lock"), "999999\n").unwrap();
    beside(&place, echo, async || {
        let Err(fault) = place.open() else {
            panic!("there are two")
        };
        assert_eq!(fault.kind, Kind::Permanent);
        let pid = format!("another agent (pid {}) is at work", std::process::id());
        assert!(fault.to_string().contains(&pid), "{fault}");
        // It has not disturbed the first.
        place.ask(Verb::Status).await.unwrap();
    });
    beside(&place, echo, async || {
        place.ask(Verb::Status).await.unwrap()
    });
}

#[test]
fn a_group_that_is_not_there_is_a_warning() {
    let place = Place::new();
    let made = LocalSet::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    made.block_on(&runtime, async {
        let (_file, warning) = File::make(&place.socket(), Some("no-such-group")).unwrap();
        let warning = warning.unwrap().to_string();
        for part in ["no group no-such-group", "socket_group under [agent]"] {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(fs::metadata(place.socket()).unwrap().mode() & 0o777, 0o660);
    });
}

#[test]
fn a_peer_that_says_nothing_or_too_much_is_told_so() {
    let place = Place::new();
    beside(&place, echo, async || {
        for (script, why) in [
            ("print <$s>", "no request came within 1 s"),
            (
                r#"$SIG{PIPE} = "IGNORE"; print $s "x" x 300000; shutdown $s, 1; print <$s>"#,
                "no line of at most 262144 bytes",
            ),
            (
                r#"print $s "{}\n"; print <$s>"#,
                "it does not know this request",
            ),
            (
                r#"print $s "{\"verb\":\"fly\"}\n"; print <$s>"#,
                "it does not know this request",
            ),
            (
                r#"print $s "{\"verb\""; shutdown $s, 1; print <$s>"#,
                "no line of at most",
            ),
        ] {
            let connect =
                "my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; $s->autoflush(1);";
            let answer = output(place.perl(None, &format!("{connect} {script}"))).await;
            assert!(answer.contains(why), "{script}: {answer}");
        }
        place.ask(Verb::Status).await.unwrap();
    });
}

#[test]
fn the_thirty_third_is_refused_until_another_has_its_answer() {
    let place = Place::new();
    let held = Rc::new(std::cell::RefCell::new(Vec::new()));
    let hold = Rc::clone(&held);
    let each = move |asked: Asked| match asked.request.verb {
        Verb::Sync => hold.borrow_mut().push(asked),
        _ => echo(asked),
    };
    beside(&place, each, async || {
        let ask = || {
            let (path, request) = (place.socket(), place.request(Verb::Sync));
            spawn_local(async move { ask_at(&path, &request, Instant::now() + PATIENCE).await })
        };
        let waiting: Vec<_> = (0..AT_ONCE).map(|_| ask()).collect();
        let full = async {
            while held.borrow().len() < AT_ONCE {
                sleep(Duration::from_millis(2)).await; // poll
            }
        };
        timeout(PATIENCE, full).await.unwrap();
        let refused = place.ask(Verb::Status).await.unwrap_err();
        let why = "it serves 32 others already".to_owned();
        assert_eq!(refused, Unserved::Refused(why));
        held.borrow_mut().drain(..).for_each(echo);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        place.ask(Verb::Status).await.unwrap();
    });
}

#[test]
fn another_configuration_is_refused_and_another_name_of_it_is_not() {
    let place = Place::new();
    beside(&place, echo, async || {
        let with = async |config: PathBuf| {
            let request = Request {
                config,
                ..place.request(Verb::Sync)
            };
            ask_at(&place.socket(), &request, Instant::now() + PATIENCE).await
        };
        let link = place.dir.path().join("link.toml");
        symlink(&place.config, &link).unwrap();
        with(link).await.unwrap();
        let other = place.dir.path().join("other.toml");
        fs::write(&other, "").unwrap();
        for other in [other, "/no/such\nfile".into(), PathBuf::new()] {
            let Err(Unserved::Refused(why)) = with(other.clone()).await else {
                panic!("{other:?} was taken")
            };
            assert!(why.starts_with("its configuration is /"), "{why}");
            assert!(!why.contains('\n'), "{why}");
        }
    });
}

#[test]
fn a_call_that_makes_no_sense_ends_with_2_and_the_loop_never_sees_it() {
    let place = Place::new();
    let never = |asked: Asked| panic!("{asked:?}");
    beside(&place, never, async || {
        for words in ["m leader start 10.0.0.1 6379 10.0.0.2 0", "m leader", "m"] {
            let reply = place.ask(hook(words)).await.unwrap();
            assert_eq!(reply.exit, 2, "{words}");
            assert_eq!(reply.err.len(), 1, "{reply:?}");
        }
    });
}

#[test]
fn an_answer_that_is_too_long_is_told_of() {
    let place = Place::new();
    let long = |asked: Asked| {
        let out = "x".repeat(LONGEST);
        let _ = asked.answer.send(Reply {
            out,
            ..Reply::default()
        });
    };
    beside(&place, long, async || {
        let Err(Unserved::Refused(why)) = place.ask(Verb::Status).await else {
            panic!("it was cut")
        };
        assert!(why.contains("more than 262144 bytes"), "{why}");
    });
}

#[test]
fn a_loop_that_drops_a_question_is_no_answer() {
    let place = Place::new();
    beside(&place, drop, async || {
        let Err(Unserved::Refused(why)) = place.ask(Verb::Status).await else {
            panic!("an answer")
        };
        assert!(why.contains("about to end"), "{why}");
    });
}

/// Runs a client alone.
fn alone<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

#[test]
fn without_an_agent_the_asker_knows_at_once() {
    let place = Place::new();
    assert_eq!(alone(place.ask(Verb::Status)), Err(Unserved::NoAgent));
    // What a killed one has left.
    drop(UnixListener::bind(place.socket()).unwrap());
    assert_eq!(alone(place.ask(Verb::Status)), Err(Unserved::NoAgent));
}

#[test]
fn an_agent_that_hangs_is_given_up_in_time() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let until = || Instant::now() + Duration::from_millis(200);
    let ask = || {
        let request = place.request(Verb::Status);
        let until = until();
        alone(async { ask_at(&place.socket(), &request, until).await })
    };
    assert_eq!(ask(), Err(Unserved::Hung));
    // An agent that is stopped, and has so many askers that the kernel's queue is full.
    let mut others = Vec::new();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    for _ in 0..2 {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&socket2::SockAddr::unix(place.socket()).unwrap());
        others.push(socket);
    }
    assert_eq!(ask(), Err(Unserved::Hung));
}

#[test]
fn an_agent_that_has_the_request_and_no_answer_yet_is_late_and_does_not_hang() {
    let place = Place::new();
    let held = std::cell::RefCell::new(Vec::new());
    let hold = move |asked: Asked| held.borrow_mut().push(asked);
    beside(&place, hold, async || {
        let request = place.request(Verb::Sync);
        // The sign of life comes as soon as the request is read.
        let until = Instant::now() + Duration::from_secs(2);
        let answer = ask_at(&place.socket(), &request, until).await;
        assert_eq!(answer, Err(Unserved::Late));
    });
}

#[test]
fn an_answer_that_ends_early_or_makes_no_sense_is_broken() {
    for (answer, why) in [
        ("", "ended before"),
        (" ", "ended before"),
        (" {\"exit\":0", "ended before"),
        (" {\"exit\":300}\n", "makes no sense"),
        ("hello\n", "makes no sense"),
    ] {
        let place = Place::new();
        let listener = UnixListener::bind(place.socket()).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _): (Stream, _) = listener.accept().unwrap();
            let mut question = [0; 4096];
            let _ = stream.read(&mut question).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let Err(Unserved::Broken(said)) = alone(place.ask(Verb::Status)) else {
            panic!("{answer}")
        };
        assert!(said.contains(why), "{answer}: {said}");
        server.join().unwrap();
    }
}

#[test]
fn a_stranger_in_the_agents_place_is_not_believed() {
    assert!(
        is_root(),
        "needs root: an ordinary user cannot be another one, too"
    );
    let place = Place::new();
    // The folder as it was before there was an agent: root's, and Sentinel's group may write.
    std::os::unix::fs::chown(place.dir.path(), None, Some(1)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
    let listen = "$| = 1; my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 9) or die $!; print 'r'; my $c = $s->accept; print $c qq({\"exit\":0}\\n) while <$c>;";
    let mut stranger = place.perl(Some("1"), listen);
    let mut ready = [0; 1];
    stranger
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    let Err(Unserved::Untrusted(why)) = alone(place.ask(Verb::Status)) else {
        panic!("it was believed")
    };
    assert!(why.contains(STRANGER), "{why}");
    let _ = stranger.wait();
}

#[test]
fn nothing_in_a_folder_of_everybodys_is_believed() {
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    beside(&place, echo, async || {
        let answer = place.ask(Verb::Status).await;
        assert!(matches!(&answer, Err(Unserved::Untrusted(_))), "{answer:?}");
    });
}

#[test]
fn files_that_are_removed_are_made_anew_and_those_of_another_agent_stay() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let server = place.open().unwrap();
        let files = server.files();
        let (to, mut asked) = mpsc::channel(8);
        let serving = spawn_local(server.serve(to));
        spawn_local(async move {
            while let Some(asked) = asked.recv().await {
                echo(asked);
            }
        });
        let in_folder = |name: &str| place.dir.path().join(name);
        let removals: [&dyn Fn(); 3] = [
            &|| fs::remove_file(in_folder("agent.sock")).unwrap(),
            &|| fs::remove_file(in_folder("agent.lock")).unwrap(),
            &|| fs::remove_dir_all(place.dir.path()).unwrap(),
        ];
        for remove in removals {
            assert!(matches!(files.look(), Look::InPlace));
            remove();
            assert!(matches!(files.look(), Look::Anew(_)));
            fs::write(&place.config, "").unwrap();
            place.ask(Verb::Status).await.unwrap();
            let fault = place.open().err().unwrap();
            assert!(fault.to_string().contains("another agent (pid "), "{fault}");
        }
        fs::remove_file(in_folder("agent.lock")).unwrap();
        let other = place.open().unwrap();
        assert!(matches!(files.look(), Look::Another(_)));
        serving.abort();
        let _ = serving.await;
        drop(files);
        assert!(place.socket().exists(), "it is the other one's");
        drop(other);
        assert!(!place.socket().exists());
    });
}
