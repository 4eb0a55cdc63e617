//! What the agent listens to: the events of every Sentinel, and this host's Redis. Each is a task of its own that
//! tells the core what it hears.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

use super::core::{Event, Own};
use super::redis::{Seen, Watch};
use super::sentinels::{Heard, News, follow};
use super::snapshot::Replica;
use crate::config::Config;
use crate::exit::Kind;
use crate::failover::{Endpoint, Host};
use crate::gather::Member;
use crate::redis::events::{self, What};
use crate::redis::{Instance, Lines, MasterAddress, NoAnswer, Server, redis_fault, redis_server};

/// How much may wait that a Sentinel, or a Redis, has said.
const QUEUE: usize = 256;

/// A Sentinel whose events are followed as long as this is kept.
pub(super) struct Followed {
    /// Every way in which it was listed last.
    listed_as: Vec<Instance>,
    /// Whether it answered the last question of the last round, where it was waited for.
    has_answered: Option<bool>,
    task: AbortHandle,
    is_up: Rc<Cell<bool>>,
    refused: Refused,
}

/// How long somebody is tried with the same password and certificate who does not accept them. Then the files are read
/// again.
const RENEWED: Duration = Duration::from_secs(3);

/// Whether a server does not accept what it is shown, as it was read from the files then.
#[derive(Clone)]
struct Refused {
    read: Instant,
    is: Rc<Cell<bool>>,
}

impl Refused {
    fn new() -> Refused {
        Refused {
            read: Instant::now(),
            is: Rc::default(),
        }
    }

    fn note(&self, no: Option<&NoAnswer>) {
        self.is
            .set(no.is_some_and(|no| no.kind() == Kind::Permanent));
    }

    fn is_to_be_renewed(&self) -> bool {
        self.is.get() && self.read.elapsed() >= RENEWED
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// Follows a Sentinel.
    fn begin(core: mpsc::Sender<Event>, server: Server) -> Followed {
        let is_up = Rc::new(Cell::new(false));
        let (to, mut heard) = mpsc::channel::<Heard<()>>(QUEUE);
        let (up, by) = (Rc::clone(&is_up), server.endpoint.to_string());
        let refused = Refused::new();
        let noted = refused.clone();
        let task = spawn_local(async move {
            let pass_on = async {
                while let Some(Heard { news, .. }) = heard.recv().await {
                    let no = match &news {
                        News::Down(no) => Some(no),
                        News::Up | News::Event(_) => None,
                    };
                    up.set(no.is_none());
                    noted.note(no);
                    // It is closed only when this world ends.
                    let _ = core.send(event(news, &by)).await;
                }
            };
            join(follow(server, (), to), pass_on).await;
        });
        Followed {
            listed_as: Vec::new(),
            has_answered: None,
            task: task.abort_handle(),
            is_up,
            refused,
        }
    }

    /// Returns whether it is to be followed anew, with what the files say now.
    fn is_to_be_renewed(&self) -> bool {
        self.refused.is_to_be_renewed()
    }

    /// Returns whether it answered last: the last round of questions, or where that did not wait for it, the last
    /// question on the connection of its events.
    pub(super) fn is_in_reach(&self) -> bool {
        self.has_answered.unwrap_or(self.is_up())
    }

    /// Returns whether its events arrive.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.get()
    }
}

/// Follows the events of each of these Sentinels, by where it is; `are_all` tells whether every Sentinel that is listed
/// is among them, so that no other is followed. A connection that is up needs no name: a Sentinel is followed on while
/// nobody knows where it is.
pub(super) fn follow_all<'a>(
    followed: &mut BTreeMap<String, Followed>,
    members: impl Iterator<Item = &'a Member>,
    are_all: bool,
    to: &mpsc::Sender<Event>,
) {
    followed.retain(|_, followed| !followed.is_to_be_renewed());
    if are_all {
        followed
            .values_mut()
            .for_each(|one| one.has_answered = Some(false));
    }
    let mut known = BTreeSet::new();
    let mut nowhere = Vec::new();
    for member in members {
        let Some(server) = &member.server else {
            nowhere.push(member);
            continue;
        };
        let at = server.endpoint.to_string();
        if known.insert(at.clone()) {
            let begin = || Followed::begin(to.clone(), server.clone());
            let followed = followed.entry(at).or_insert_with(begin);
            followed.listed_as.clone_from(&member.listed_as);
            followed.has_answered = member.has_answered;
        }
    }
    if are_all {
        followed.retain(|at, followed| {
            let mut nowhere = nowhere.iter();
            known.contains(at) || nowhere.any(|member| member.is_same(&followed.listed_as))
        });
    }
}

/// Whatever may have been missed is found by asking.
fn event(news: News, by: &str) -> Event {
    let News::Event(events::Event { master, what }) = news else {
        return Event::Changed;
    };
    match what {
        What::Promotes(to) => match endpoint(&to) {
            Some(to) => Event::Promotes(master, to, by.to_owned()),
            None => Event::Changed,
        },
        What::Aborted => Event::Aborted(master, by.to_owned()),
        // Sentinel's own state, of all masters.
        What::Promoted(_) | What::Switched(_) | What::Changed if master.is_empty() => {
            Event::Changed
        }
        What::Promoted(_) | What::Switched(_) | What::Changed => Event::ChangedOf(master),
    }
}

fn endpoint(at: &MasterAddress) -> Option<Endpoint> {
    Some(Endpoint {
        host: Host::read(&at.host)?,
        port: at.port,
    })
}

/// A Redis of this host that is watched as long as this is kept.
pub(super) struct Watched {
    watch: Rc<Watch>,
    is_paused: Cell<bool>,
    task: AbortHandle,
    refused: Refused,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    /// Watches the Redis of a master at this address of this host.
    pub(super) fn begin(
        config: &Config,
        core: mpsc::Sender<Event>,
        lines: &Rc<Lines>,
        (name, at): (&str, SocketAddr),
    ) -> Option<Watched> {
        let master = config.masters.get(name)?;
        // The round of questions tells what is wrong with the files.
        let server = redis_server(config, master, at).ok()?;
        let (to, mut seen) = mpsc::channel::<Seen<()>>(QUEUE);
        let watch = Rc::new(Watch::start(server, (), to));
        let (name, lines) = (name.to_owned(), Rc::clone(lines));
        let refused = Refused::new();
        let noted = refused.clone();
        let task = spawn_local(async move {
            while let Some(seen) = seen.recv().await {
                noted.note(seen.state.as_ref().err());
                match &seen.state {
                    Ok(state) => lines.note(at, state.role.clone(), state.run_id.clone()),
                    Err(_) => lines.forget(at),
                }
                let own = own(seen, at, &name);
                // It is closed only when this world ends.
                let _ = core.send(Event::OwnRedis(name.clone(), at, own)).await;
            }
        });
        Some(Watched {
            watch,
            is_paused: Cell::new(false),
            task: task.abort_handle(),
            refused,
        })
    }

    /// Returns whether it is to be watched anew, with what the files say now.
    pub(super) fn is_to_be_renewed(&self) -> bool {
        self.refused.is_to_be_renewed()
    }

    /// Ends a pause, if there is one, because nobody will after this.
    pub(super) async fn end_pause(&self) {
        if self.is_paused.get() {
            let _ = self.watch.unpause().await;
        }
    }

    /// Returns its watch, to pause its writes, or to end that.
    pub(super) fn watch(&self, is_paused: bool) -> Rc<Watch> {
        self.is_paused.set(is_paused);
        Rc::clone(&self.watch)
    }

    /// Looks closely: it is being promoted.
    pub(super) fn expect(&self) {
        self.watch.expect(CLOSELY);
    }
}

/// How long a promotion is looked for closely: the leader sends it within a tick or two of its timer.
const CLOSELY: Duration = Duration::from_secs(5);

/// As an event of Sentinel's names it, too.
fn shown(host: &str, port: u16) -> String {
    let host = host.to_owned();
    let at = MasterAddress { host, port };
    endpoint(&at).map_or_else(|| at.to_string(), |at| at.to_string())
}

/// Returns how long ago a replica last acknowledged. One that has not caught up yet has acknowledged nothing.
fn acknowledged(replicas: &[crate::redis::Replica]) -> Option<Duration> {
    let online = replicas.iter().filter(|replica| replica.online);
    // Where INFO may not be asked nobody can say that they are silent.
    let lags = online.map(|replica| replica.lag_seconds.unwrap_or_default());
    lags.min().map(Duration::from_secs)
}

fn own(seen: Seen<()>, at: SocketAddr, name: &str) -> Own {
    match seen.state {
        Ok(state) => {
            let replicas = state.replicas.iter().map(|replica| Replica {
                at: shown(&replica.host, replica.port),
                lag: replica.lag_seconds,
                behind: state.offset.saturating_sub(replica.offset),
                online: replica.has_data(),
            });
            Own {
                acknowledged: acknowledged(&state.replicas),
                replicas: replicas.collect(),
                offset: Some(state.offset),
                run_id: state.run_id,
                role: Ok(state.role),
                is_gone: false,
            }
        }
        Err(no) => Own {
            role: Err(redis_fault(&no, at, name)),
            offset: None,
            acknowledged: None,
            replicas: Vec::new(),
            run_id: None,
            is_gone: seen.is_gone,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Endpoint as Way;

    fn member(name: &str, port: Option<u16>) -> Member {
        let listed_as = Instance {
            host: name.into(),
            port: 26379,
            run_id: Some(format!("id of {name}")),
            flags: Vec::new(),
        };
        let at = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Member {
            listed_as: vec![listed_as],
            server: at.map(|at| Server::at(Way::Tcp(at))),
            has_answered: Some(at.is_some()),
        }
    }

    fn local(port: Option<u16>) -> Member {
        Member {
            listed_as: Vec::new(),
            ..member("", port)
        }
    }

    #[test]
    fn a_replica_that_has_not_caught_up_has_acknowledged_nothing() {
        let replica = |online: bool, lag_seconds: Option<u64>| crate::redis::Replica {
            host: "10.0.0.2".into(),
            port: 6379,
            online,
            offset: 0,
            lag_seconds,
        };
        let catching_up = replica(false, Some(0));
        let seconds = |replicas: &[_]| acknowledged(replicas).map(|time| time.as_secs());
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(std::slice::from_ref(&catching_up)), None);
        assert_eq!(seconds(&[catching_up, replica(true, Some(7))]), Some(7));
        assert_eq!(
            seconds(&[replica(true, Some(9)), replica(true, Some(8))]),
            Some(8)
        );
        // ROLE tells no lag.
        assert_eq!(seconds(&[replica(true, None)]), Some(0));
    }

    #[test]
    fn a_sentinel_is_followed_until_it_is_not_listed_any_more() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (to, _events) = mpsc::channel(QUEUE);
            let mut followed = BTreeMap::new();
            let mut follow = |members: &[Member], are_all| {
                follow_all(&mut followed, members.iter(), are_all, &to);
                let all = followed.iter();
                let each = all.map(|(at, followed)| (at[10..].to_owned(), followed.task.id()));
                each.collect::<Vec<_>>()
            };
            let all = [local(Some(1)), member("b", Some(2)), member("c", Some(3))];
            let begun = follow(&all, true);
            assert_eq!(begun.len(), 3);
            // The names do not resolve in this round: the connections are those of before.
            let unresolved = [local(None), member("b", None), member("c", None)];
            assert_eq!(follow(&unresolved, true), begun);
            // Nobody is known to list it, as one of the masters could not be asked about.
            assert_eq!(follow(&all[..1], false), begun);
            // It is listed elsewhere, which is known again.
            let moved = follow(&[local(Some(1)), member("b", Some(4))], true);
            let ports: Vec<&str> = moved.iter().map(|(port, _)| port.as_str()).collect();
            assert_eq!(ports, ["1", "4"]);
            assert_eq!(moved[0], begun[0]);
        });
    }
}
