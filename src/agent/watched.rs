//! The Redis of this host, each watched by a task of its own that tells the core what it says.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

use super::core::{Event, Own};
use super::credentials::Shown;
use super::following::endpoint;
use super::redis::{Seen, Watch};
use super::snapshot::Replica;
use crate::config::Config;
use crate::redis::{Lines, MasterAddress, redis_fault, redis_server};

/// How much may wait that a Redis has said.
const QUEUE: usize = 256;

/// A Redis of this host that is watched as long as this is kept.
pub(super) struct Watched {
    watch: Rc<Watch>,
    is_paused: Cell<bool>,
    /// Whether it was known at any time that it may be sent the credentials.
    was_vouched_for: Cell<bool>,
    task: AbortHandle,
    shown: Shown,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    /// Watches the Redis of a master at this address of this host. The watch `before` goes on where it is asked in the same
    /// way still; else what that knew of pauses and of a promotion holds for this one.
    pub(super) fn begin(
        (config, reloads): (&Config, u64),
        (core, lines): (&mpsc::Sender<Event>, &Rc<Lines>),
        (name, at): (&str, SocketAddr),
        before: Option<Watched>,
    ) -> Option<Watched> {
        let master = config.masters.get(name)?;
        // The round of questions tells what is wrong with the files.
        let Ok(server) = redis_server(config, master, at) else {
            return before;
        };
        if before
            .as_ref()
            .is_some_and(|it| it.shown.holds(&server, reloads))
        {
            return before;
        }
        let (to, mut seen) = mpsc::channel::<Seen<()>>(QUEUE);
        let shown = Shown::new(server.clone(), reloads);
        let watch = Rc::new(Watch::start(server, (), to));
        let (is_paused, was_vouched_for) = (Cell::new(false), Cell::new(false));
        if let Some(before) = before {
            was_vouched_for.set(before.was_vouched_for.get());
            is_paused.set(before.is_paused.get());
            watch.expect_as(&before.watch);
        }
        let (name, lines, core) = (name.to_owned(), Rc::clone(lines), core.clone());
        let note = shown.note();
        let task = spawn_local(async move {
            while let Some(seen) = seen.recv().await {
                note(seen.state.as_ref().err());
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
            is_paused,
            was_vouched_for,
            task: task.abort_handle(),
            shown,
        })
    }

    /// Returns whether the files need not be read again, after so many reloads.
    pub(super) fn is_current(&self, reloads: u64) -> bool {
        self.shown.is_current(reloads)
    }

    /// Notes that it may be sent the credentials.
    pub(super) fn vouch(&self) {
        self.was_vouched_for.set(true);
    }

    /// Returns whether it was known at any time that it may be sent the credentials.
    pub(super) fn was_vouched_for(&self) -> bool {
        self.was_vouched_for.get()
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
}
