//! Which Redis and Sentinel can be reached from here: a TCP connection to each, all at once.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::addresses::Names;
use super::finding::Findings;
use super::watched::Answers;
use crate::text::escape;

/// How long one may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(800);

/// How long all of them together may take.
const ALL: Duration = Duration::from_millis(2500);

/// How often the threads are looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// How many are asked at once.
const AT_ONCE: usize = 32;

/// What listens, or ought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The master.
    Master,
    /// One of its replicas.
    Replica,
    /// Another Sentinel.
    Sentinel,
}

impl Role {
    fn check(self) -> &'static str {
        match self {
            Role::Master | Role::Replica => "redis-reachable",
            Role::Sentinel => "sentinel-reachable",
        }
    }
}

/// What came of reaching for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It accepted the connection. This host's Redis may have told its `min-replicas-to-write`.
    Yes(Option<u32>),
    /// It did not, and why.
    No(String),
    /// There was no time left for it.
    NotTried,
}

/// Reaches for all of these, each in a thread, and returns what came of it in the same order.
pub fn reach(targets: &[(SocketAddr, Role)]) -> Vec<Reached> {
    let work = Arc::new(Mutex::new(Work {
        targets: targets.to_vec(),
        next: 0,
        reached: vec![Reached::NotTried; targets.len()],
    }));
    let mut threads = Vec::new();
    for _ in 0..targets.len().min(AT_ONCE) {
        let work = Arc::clone(&work);
        // Fewer threads only take longer; one that stays behind ends with the process.
        threads.extend(thread::Builder::new().spawn(move || reach_next(&work)).ok());
    }
    let give_up = Instant::now() + ALL;
    while Instant::now() < give_up && !threads.iter().all(JoinHandle::is_finished) {
        thread::sleep(PAUSE);
    }
    match work.lock() {
        Ok(work) => work.reached.clone(),
        Err(_) => vec![Reached::NotTried; targets.len()],
    }
}

/// What the threads share.
struct Work {
    targets: Vec<(SocketAddr, Role)>,
    next: usize,
    reached: Vec<Reached>,
}

/// Reaches for one after the other until none is left.
fn reach_next(work: &Mutex<Work>) -> Option<()> {
    loop {
        let (place, (address, _)) = {
            let mut work = work.lock().ok()?;
            let place = work.next;
            work.next += 1;
            (place, *work.targets.get(place)?)
        };
        let reached = reach_one(address);
        work.lock().ok()?.reached[place] = reached;
    }
}

fn reach_one(address: SocketAddr) -> Reached {
    match TcpStream::connect_timeout(&address, CONNECT) {
        Err(error) => Reached::No(error.to_string()),
        Ok(_) => Reached::Yes(None),
    }
}

/// Reaches for each Redis and Sentinel, all at once, and judges what came of it. `excuse` says why
/// one may be out of reach, where that is plain.
/// `told` is the `min-replicas-to-write` of this host's Redis.
pub fn judge_all(
    answers: &Answers,
    names: &Names,
    told: &[(SocketAddr, u32)],
    excuse: Option<&str>,
    findings: &mut Findings,
) {
    let mut targets: Vec<(SocketAddr, Role)> = Vec::new();
    let mut wanted = Vec::new();
    for one in &answers.watched {
        let redises = one.redises().into_iter().enumerate();
        let redises = redises.map(|(place, at)| {
            (
                at,
                if place == 0 {
                    Role::Master
                } else {
                    Role::Replica
                },
            )
        });
        let others = one.others().into_iter().map(|at| (at, Role::Sentinel));
        for ((host, port), role) in redises.chain(others) {
            let address = names.get(&host).first().copied();
            let target = address.map(|address| (SocketAddr::new(address, port), role));
            targets.extend(target.filter(|target| !targets.contains(target)));
            wanted.push((one, format!("{}:{port}", escape(&host)), role, target));
        }
    }
    let reached = reach(&targets);
    for one in &answers.watched {
        let of_this = wanted
            .iter()
            .filter(|(whose, ..)| std::ptr::eq(*whose, one));
        let tried = of_this.map(|(_, name, role, target)| Tried {
            name: name.clone(),
            role: *role,
            reached: match target.and_then(|target| targets.iter().position(|one| *one == target)) {
                Some(place) => match &reached[place] {
                    Reached::Yes(None) => {
                        let of_this = told.iter().find(|(at, _)| *at == targets[place].0);
                        Reached::Yes(of_this.map(|(_, number)| *number))
                    }
                    reached => reached.clone(),
                },
                None => Reached::No("its name does not resolve here".into()),
            },
        });
        let tried: Vec<Tried> = tried.collect();
        judge(&escape(&one.name), &tried, excuse, findings);
    }
}

/// One that was reached for, by its name.
struct Tried {
    /// `ADDRESS:PORT`, escaped.
    name: String,
    /// What it is.
    role: Role,
    /// What came of it.
    reached: Reached,
}

/// Judges which of one master's could be reached. `excuse` says why none of them may be, where
/// that is known.
fn judge(master: &str, tried: &[Tried], excuse: Option<&str>, findings: &mut Findings) {
    for Tried {
        name,
        role,
        reached,
    } in tried
    {
        let check = role.check();
        let port = name.rsplit(':').next().unwrap_or_default();
        match (reached, excuse) {
            (Reached::Yes(_), _) => findings.ok(check, name, "accepts connections from here"),
            (Reached::NotTried, _) => findings.unknown(&[check], name, "there was no time to try"),
            (Reached::No(_), Some(excuse)) => findings.unknown(&[check], name, excuse),
            (Reached::No(why), None) => {
                let text = format!("cannot be reached from here: {why}");
                let remedy = format!(
                    "Start it, let it listen on that address, and open port {port}/tcp in its host's firewall."
                );
                match role {
                    Role::Master => findings.error(check, name, text, remedy),
                    _ => findings.warn(check, name, text, remedy),
                }
            }
        }
    }
    judge_min_replicas(master, tried, findings);
}

fn judge_min_replicas(master: &str, tried: &[Tried], findings: &mut Findings) {
    let redises = || tried.iter().filter(|one| one.role != Role::Sentinel);
    let told = |one: &Tried| match one.reached {
        Reached::Yes(number) => number,
        _ => None,
    };
    let zero: Vec<&str> = redises()
        .filter(|one| told(one) == Some(0))
        .map(|one| one.name.as_str())
        .collect();
    if redises().count() < 3 {
        let text =
            "not judged: with fewer than two replicas it would stop the writes when one is away";
        findings.ok("min-replicas", master, text);
    } else if !zero.is_empty() {
        findings.warn(
            "min-replicas",
            master,
            format!("min-replicas-to-write is 0 on {}: a master that is cut off goes on taking writes, which are lost", zero.join(", ")),
            "Set `min-replicas-to-write 1` and `min-replicas-max-lag 10` in redis.conf of every server.",
        );
    } else if redises().all(|one| told(one).is_none()) {
        findings.unknown(&["min-replicas"], master, "no Redis of this host tells it");
    } else {
        findings.ok(
            "min-replicas",
            master,
            "a master that is cut off stops taking writes",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Error, Unknown, Warning};
    use super::*;
    use std::net::TcpListener;

    fn tried(list: &[(Role, Reached)]) -> Vec<Tried> {
        let one = |(role, reached): &(Role, Reached)| Tried {
            name: "10.0.0.1:8000".into(),
            role: *role,
            reached: reached.clone(),
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn each_is_told_by_what_it_is() {
        use Role::{Master, Replica, Sentinel};
        let (yes, no) = (Reached::Yes(Some(1)), Reached::No("refused".into()));
        let three = [
            (Master, yes.clone()),
            (Replica, yes.clone()),
            (Replica, yes.clone()),
        ];
        let with = |place: usize, reached: Reached| {
            let mut three = three.clone();
            three[place].1 = reached;
            three
        };
        for (list, excuse, wrong) in [
            (three.to_vec(), None, vec![]),
            (
                with(0, no.clone()).to_vec(),
                None,
                vec![("redis-reachable", Error)],
            ),
            (
                with(2, no.clone()).to_vec(),
                None,
                vec![("redis-reachable", Warning)],
            ),
            (
                with(2, no.clone()).to_vec(),
                Some("no carrier"),
                vec![("redis-reachable", Unknown)],
            ),
            (
                with(1, Reached::NotTried).to_vec(),
                None,
                vec![("redis-reachable", Unknown)],
            ),
            (
                with(1, Reached::Yes(Some(0))).to_vec(),
                None,
                vec![("min-replicas", Warning)],
            ),
            (with(1, Reached::Yes(None)).to_vec(), None, vec![]),
            (three[..2].to_vec(), None, vec![]),
            (
                vec![(Sentinel, no)],
                None,
                vec![("sentinel-reachable", Warning)],
            ),
        ] {
            let mut findings = Findings::default();
            judge("m", &tried(&list), excuse, &mut findings);
            assert_eq!(findings.wrong(), wrong, "{list:?}");
        }
    }

    #[test]
    fn one_that_listens_is_told_from_one_that_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let reached = reach(&[(listening, Role::Sentinel), (gone, Role::Sentinel)]);
        assert_eq!(reached[0], Reached::Yes(None));
        assert!(matches!(reached[1], Reached::No(_)), "{reached:?}");
        assert_eq!(reach(&[]), []);
    }
}
