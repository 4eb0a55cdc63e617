//! When a client that only reads learns that the VIP has left: the time from exec of the release
//! to the end of the client's connection.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::{Host, Lab, PATIENCE, executable};
use crate::launcher::Launcher;
use crate::report::{Spread, budget, pair};
use crate::{OTHER, VIP, bound, fixture, hook, text};

/// The arguments that make this executable one end of the connection.
pub const LISTENER: &str = "listener-child";
/// See [`LISTENER`].
pub const READER: &str = "reader-child";

const PORT: u16 = 8000;
/// How long a client is watched that may never learn.
const WATCHED: Duration = Duration::from_secs(2);

/// Measures both contenders and prints it. The script's client is watched once: it hangs.
pub fn measure(lab: &Lab, master: &mut Launcher, rounds: usize) {
    let _listener = End::start(&lab.host("master"), LISTENER);
    let mut times = Vec::new();
    let vipswitch = hook(&text(&executable()), OTHER);
    for _ in 0..rounds {
        times.push(learned(lab, master, &vipswitch, PATIENCE).expect("the client is reset"));
    }
    let script = learned(lab, master, &hook(&fixture("guide.sh"), OTHER), WATCHED);
    let spread = Spread::of(times.into_iter());
    println!("\nRelease, exec to the reset of a client that only reads: median, p90");
    println!("{:20}{}   {rounds} runs", "vipswitch", pair(&spread));
    let script = script.map_or_else(
        || format!("never ({WATCHED:?} watched)"),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1e3),
    );
    println!("{:20}  {script}   1 run", "the guide's script");
    budget(
        "reset of a client, ms",
        spread.median.as_secs_f64() * 1e3,
        50.0,
    );
}

fn learned(
    lab: &Lab,
    master: &mut Launcher,
    release: &[String],
    patience: Duration,
) -> Option<Duration> {
    master.run(&bound());
    let reader = End::start(&lab.host("peer"), READER);
    let run = master.run(release);
    let time = reader.lines.recv_timeout(patience).ok()?;
    let time = Duration::from_nanos(time.parse().expect(&time));
    Some(time - run.executed)
}

/// A process at one end of the connection.
struct End {
    child: Child,
    /// It ends when this is closed.
    _stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl End {
    /// Starts it; it is in its place when this returns.
    fn start(host: &Host, role: &str) -> End {
        let mut command = host.command(std::env::current_exe().unwrap());
        command.arg(role).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sink, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sink.send(line).is_err() {
                    return;
                }
            }
        });
        let ready = lines.recv_timeout(PATIENCE);
        assert_eq!(ready.as_deref(), Ok("ready"), "{role}");
        let _stdin = child.stdin.take();
        End {
            child,
            _stdin,
            lines,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's part: accepts connections, keeps them and says nothing after a greeting.
pub fn listen() {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    println!("ready");
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut connection in listener.incoming().flatten() {
            let _ = io::Write::write_all(&mut connection, b"+");
            kept.push(connection);
        }
    });
    wait_for_parent();
}

/// The child's part: connects, reads, and tells when that ended.
pub fn read() {
    let mut connection = TcpStream::connect((VIP, PORT)).unwrap();
    connection.read_exact(&mut [0]).unwrap();
    println!("ready");
    thread::spawn(move || {
        while connection.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        println!("{}", time.as_nanos());
    });
    wait_for_parent();
}

fn wait_for_parent() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
