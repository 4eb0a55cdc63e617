//! The client: writes through the VIP without end. Each write sets a bit of its own, so that each that was
//! acknowledged can be looked for afterwards.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, Connection, is_child, now, tell};
use crate::common::redis::agents::RUN_ID;
use crate::common::redis::{CLIENT, MASTER_8000, Site};
use crate::common::{PATIENCE, wait_for};

/// How many connections write.
const WRITERS: usize = 3;
/// How long a writer waits for a connection. Short: a SYN that came while no host had the VIP is sent again by the
/// kernel only after 1 s.
const CONNECTED: Duration = Duration::from_millis(20);
/// How long it waits for an answer.
const ANSWERED: Duration = Duration::from_millis(250);
/// Between an answer and the next write.
const PACE: Duration = Duration::from_millis(1);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(2);
/// How many lost writes are told by number.
const TOLD: usize = 10;

/// What became of the writes of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Acknowledged.
    pub acked: u64,
    /// The longest time in which no write was acknowledged.
    pub outage: Duration,
    /// When each Redis acknowledged a write last, by the first characters of its run id.
    pub by: BTreeMap<String, Duration>,
    /// Acknowledged, and not there any more.
    pub lost: u64,
    /// The first of these.
    pub numbers: String,
}

/// The writers, in a process on the client's host.
pub struct Writer(Child);

impl Writer {
    /// Starts them.
    pub fn start(site: &Site) -> Writer {
        Writer(Child::start(
            &site.host(CLIENT),
            "writer::child_that_writes",
        ))
    }

    /// Returns what became of all writes since this was last asked for. The VIP must be of use.
    #[track_caller]
    pub fn report(&self) -> Written {
        self.0.ask("report");
        let line = wait_for(PATIENCE, || self.0.news().pop());
        let line = line.expect("the writers report");
        let mut words = line.splitn(5, ' ');
        let by = words.next().unwrap().split(',');
        let by = by.filter_map(|one| one.split_once(':'));
        let by = by.map(|(id, at)| {
            (
                id.to_owned(),
                Duration::from_micros(at.parse().expect(&line)),
            )
        });
        let by = by.collect();
        let mut number = || words.next().unwrap().parse().expect(&line);
        Written {
            by,
            acked: number(),
            outage: Duration::from_micros(number()),
            lost: number(),
            numbers: words.next().unwrap_or_default().to_owned(),
        }
    }
}

/// What was written since the last report.
struct Writes {
    scenario: u64,
    next: usize,
    acked: Vec<bool>,
    last: Instant,
    outage: Duration,
    by: BTreeMap<String, Duration>,
}

impl Writes {
    fn new(scenario: u64, last: Instant) -> Writes {
        Writes {
            scenario,
            next: 0,
            acked: Vec::new(),
            last,
            outage: Duration::ZERO,
            by: BTreeMap::new(),
        }
    }

    fn begin(&mut self) -> (u64, usize) {
        self.next += 1;
        (self.scenario, self.next - 1)
    }

    fn end(&mut self, (scenario, number): (u64, usize), by: &str) {
        let last = std::mem::replace(&mut self.last, Instant::now());
        self.outage = self.outage.max(self.last - last);
        // What was in flight at a report counts for neither.
        if scenario == self.scenario {
            match self.by.get_mut(by) {
                Some(at) => *at = now(),
                None => {
                    self.by.insert(by.to_owned(), now());
                }
            }
            let length = self.acked.len().max(number + 1);
            self.acked.resize(length, false);
            self.acked[number] = true;
        }
    }

    fn renew(&mut self) -> Writes {
        self.outage = self.outage.max(self.last.elapsed());
        let next = Writes::new(self.scenario + 1, self.last);
        std::mem::replace(self, next)
    }
}

fn vip() -> SocketAddr {
    let at = format!("{}:{}", MASTER_8000.vip, MASTER_8000.port);
    at.parse().unwrap()
}

fn write(writes: &Mutex<Writes>) -> io::Result<()> {
    let mut connection = Connection::open(vip(), CONNECTED, ANSWERED)?;
    let (_, info) = connection.ask("INFO server\r\n")?;
    let info = String::from_utf8_lossy(&info).into_owned();
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    let id = id.and_then(|id| id.get(..RUN_ID)).unwrap_or("nobody");
    loop {
        let (scenario, number) = writes.lock().unwrap().begin();
        let (answer, _) = connection.ask(&format!("SETBIT soak:{scenario} {number} 1\r\n"))?;
        if answer != ":0" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        writes.lock().unwrap().end((scenario, number), id);
        thread::sleep(PACE);
    }
}

/// Returns the numbers that are not there any more.
fn missing(writes: &Writes) -> io::Result<Vec<usize>> {
    let mut connection = Connection::open(vip(), CONNECTED, Duration::from_secs(5))?;
    let (_, there) = connection.ask(&format!("GET soak:{}\r\n", writes.scenario))?;
    let is_there = |number: &usize| {
        let octet = there.get(number / 8);
        octet.is_some_and(|octet| octet & (0x80 >> (number % 8)) != 0)
    };
    let acked = writes.acked.iter().enumerate().filter(|(_, acked)| **acked);
    let acked = acked.map(|(number, _)| number);
    Ok(acked.filter(|number| !is_there(number)).collect())
}

fn report(writes: &Writes) {
    let missing = wait_for(PATIENCE, || missing(writes).ok()).expect("the VIP is of use");
    let acked = writes.acked.iter().filter(|acked| **acked).count();
    let outage = writes.outage.as_micros();
    let some = &missing[..missing.len().min(TOLD)];
    let by = writes
        .by
        .iter()
        .map(|(id, at)| format!("{id}:{}", at.as_micros()));
    let by = by.collect::<Vec<_>>().join(",");
    tell(&format!("{by} {acked} {outage} {} {some:?}", missing.len()));
}

#[test]
#[ignore = "no test: the process that writes"]
fn child_that_writes() {
    if !is_child() {
        return;
    }
    let writes = Arc::new(Mutex::new(Writes::new(0, Instant::now())));
    for _ in 0..WRITERS {
        let writes = Arc::clone(&writes);
        thread::spawn(move || {
            loop {
                let _ = write(&writes);
                thread::sleep(RETRY);
            }
        });
    }
    for line in io::stdin().lines() {
        if line.is_err() {
            return;
        }
        let ended = writes.lock().unwrap().renew();
        report(&ended);
    }
}
