//! What a process on each server sees, whatever happens to the network: whether the VIP is there, what its Redis says
//! that it is, which master its Sentinel names, and how long a write on its Redis had to wait.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, Connection, is_child, now, tell};
use crate::common::redis::{MASTER_8000, SENTINEL_PORT, SERVERS, Site, address};

/// Between two looks at the addresses.
const LOOK: Duration = Duration::from_millis(10);
/// Between two questions.
const QUESTION: Duration = Duration::from_millis(30);
/// How late a look may be: what happens meanwhile proves nothing, as the machine did not let anybody run.
const LATE: Duration = Duration::from_millis(500);
/// How long an answer may take. A write may have to wait longer.
const ANSWERED: Duration = Duration::from_millis(500);
const WRITTEN: Duration = Duration::from_secs(30);
/// A write that waited for less was not held up.
const PROMPT: Duration = Duration::from_millis(300);

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Whether the VIP is here.
    Vip(bool),
    /// What Redis says that it is: `master`, `slave`, or nothing.
    Role(String),
    /// The server that Sentinel names, by its place among [`SERVERS`].
    Named(Option<usize>),
    /// A write was answered after so long.
    Held(Duration),
    /// The machine did not let this process run for so long.
    Late(Duration),
}

/// A process that looks, on one server.
pub struct Eye(Child);

impl Eye {
    /// Starts it.
    pub fn start(site: &Site, server: &str) -> Eye {
        Eye(Child::start(&site.host(server), "eye::child_that_looks"))
    }

    /// Returns what it saw since this was last asked for, and when.
    pub fn news(&self) -> Vec<(Duration, Seen)> {
        self.0.news().iter().map(|line| parse(line)).collect()
    }
}

fn parse(line: &str) -> (Duration, Seen) {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().expect(line);
    let at = Duration::from_micros(word().parse().expect(line));
    let (kind, what) = (word(), word());
    let time = || Duration::from_micros(what.parse().expect(line));
    let seen = match kind {
        "vip" => Seen::Vip(what == "true"),
        "role" => Seen::Role(what.to_owned()),
        "named" => Seen::Named(SERVERS.iter().position(|server| address(server) == what)),
        "held" => Seen::Held(time()),
        "late" => Seen::Late(time()),
        _ => panic!("{line}"),
    };
    (at, seen)
}

fn say(kind: &str, what: &str) {
    tell(&format!("{} {kind} {what}", now().as_micros()));
}

/// An address that is not this host's cannot be bound.
fn look_for_the_vip() {
    let vip: IpAddr = MASTER_8000.vip.parse().unwrap();
    let (mut before, mut last) = (None, Instant::now());
    loop {
        let is_here = UdpSocket::bind((vip, 0)).is_ok();
        if last.elapsed() > LATE {
            say("late", &last.elapsed().as_micros().to_string());
        }
        last = Instant::now();
        if before.replace(is_here) != Some(is_here) {
            say("vip", &is_here.to_string());
        }
        thread::sleep(LOOK);
    }
}

/// Asks again and again, and tells each answer that is another one than before.
fn follow(kind: &str, port: u16, question: &str, element: usize) {
    let mut before = None;
    let mut connection = None;
    loop {
        let answer = ask(&mut connection, port, question, element);
        let answer = answer.unwrap_or_else(|_| {
            connection = None;
            "-".to_owned()
        });
        if before.as_ref() != Some(&answer) {
            say(kind, &answer);
            before = Some(answer);
        }
        thread::sleep(QUESTION);
    }
}

fn ask(
    connection: &mut Option<Connection>,
    port: u16,
    question: &str,
    element: usize,
) -> io::Result<String> {
    let open = match connection.take() {
        Some(open) => open,
        None => local(port, ANSWERED)?,
    };
    let answer = connection.insert(open).ask_list(question)?;
    Ok(answer.get(element).cloned().unwrap_or_else(|| "-".into()))
}

fn local(port: u16, answered: Duration) -> io::Result<Connection> {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    Connection::open(at, ANSWERED, answered)
}

/// Writes again and again, past every VIP: a replica refuses at once, a paused master answers late.
fn write() -> io::Result<()> {
    let mut connection = local(MASTER_8000.port, WRITTEN)?;
    loop {
        let begun = Instant::now();
        connection.ask("SET soak:probe 1\r\n")?;
        if begun.elapsed() > PROMPT {
            say("held", &begun.elapsed().as_micros().to_string());
        }
        thread::sleep(QUESTION);
    }
}

#[test]
#[ignore = "no test: the process that looks on a server"]
fn child_that_looks() {
    if !is_child() {
        return;
    }
    thread::spawn(look_for_the_vip);
    thread::spawn(|| follow("role", MASTER_8000.port, "ROLE\r\n", 0));
    let named = format!("SENTINEL get-master-addr-by-name {}\r\n", MASTER_8000.name);
    thread::spawn(move || follow("named", SENTINEL_PORT, &named, 0));
    loop {
        let _ = write();
        thread::sleep(QUESTION);
    }
}
