//! What the agent listens to: the events of every Sentinel, and this host's Redis. Each is a task of its own that
//! tells the core what it hears.

use std::cell::Cell;
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
use crate::redis::events::{self, What};
use crate::redis::{Lines, MasterAddress, NoAnswer, Server, redis_fault, redis_server};

/// How much may wait that a Sentinel, or a Redis, has said.
const QUEUE: usize = 256;

/// A Sentinel whose events are followed as long as this is kept.
pub(super) struct Followed {
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
    pub(super) fn begin(core: mpsc::Sender<Event>, server: Server) -> Followed {
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
            task: task.abort_handle(),
            is_up,
            refused,
        }
    }

    /// Returns whether it is to be followed anew, with what the files say now.
    pub(super) fn is_to_be_renewed(&self) -> bool {
        self.refused.is_to_be_renewed()
    }

    /// Returns whether its events arrive.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.get()
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

fn own(seen: Seen<()>, at: SocketAddr, name: &str) -> Own {
    match seen.state {
        Ok(state) => {
            let online = state.replicas.iter().filter(|replica| replica.online);
            let lags = online.filter_map(|replica| replica.lag_seconds);
            let replicas = state.replicas.iter().map(|replica| Replica {
                at: shown(&replica.host, replica.port),
                lag: replica.lag_seconds,
                behind: state.offset.saturating_sub(replica.offset),
                online: replica.has_data(),
            });
            Own {
                acknowledged: match (lags.min(), state.replicas.is_empty()) {
                    // It may not be asked for their lag: nobody can say that they are silent.
                    (None, false) => Some(Duration::ZERO),
                    (lag, _) => lag.map(Duration::from_secs),
                },
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
