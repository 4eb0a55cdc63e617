//! Connections that stay open for an owner that asks often: one to each server, whatever the number of masters. An
//! owner that asks once keeps none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::connection::{Connection, Deadline};
use super::no_answer::NoAnswer;
use super::owner::Owner;
use super::reply::Value;
use super::server::{Endpoint, Server};
use super::{Identity, Words};
use crate::evidence::Role;
use crate::hosts::Kept;

/// How many connections are kept at most: the oldest goes.
const MOST: usize = 256;

/// Whether a connection leads there, and has shown what is to be shown now.
fn is_same(of: &Server, server: &Server) -> bool {
    of.endpoint == server.endpoint && of.is_asked_like(server)
}

/// How long an answer to the watch of a Redis counts.
const FRESH: Duration = Duration::from_secs(2);

/// The idle connections, and what is known without asking.
#[derive(Default)]
pub struct Lines {
    keeps: bool,
    /// Where the names of servers led last.
    pub names: Kept,
    /// Who this host's Sentinel's user may be.
    pub owner: Owner,
    idle: RefCell<Vec<(Server, Connection)>>,
    /// What a Redis is that is watched on a connection of its own, and when it said so.
    watched: RefCell<BTreeMap<SocketAddr, (Identity, Instant)>>,
    /// What a Redis said when it was asked, and when.
    asked: RefCell<BTreeMap<SocketAddr, (Identity, Instant)>>,
}

impl Lines {
    /// Returns lines that are kept. The default keeps none.
    pub fn keeping() -> Lines {
        Lines {
            keeps: true,
            names: Kept::keeping(),
            ..Lines::default()
        }
    }

    /// Notes what a Redis answers to its watch: it need not be asked on another connection.
    pub fn note(&self, at: SocketAddr, role: Role, run_id: Option<String>) {
        let asked = self.asked.borrow();
        // How long it has been running it tells only to who asks; the same process runs on.
        let same = asked.get(&at).filter(|(known, _)| known.run_id == run_id);
        let uptime = same.and_then(|(known, then)| Some(known.uptime? + then.elapsed()));
        let identity = Identity {
            role,
            run_id,
            uptime,
        };
        self.watched
            .borrow_mut()
            .insert(at, (identity, Instant::now()));
        self.idle
            .borrow_mut()
            .retain(|(of, _)| of.endpoint != Endpoint::Tcp(at));
    }

    /// Notes what a Redis said that was asked.
    pub fn learn(&self, at: SocketAddr, identity: &Identity) {
        if self.keeps {
            let now = Instant::now();
            self.asked.borrow_mut().insert(at, (identity.clone(), now));
        }
    }

    /// Notes that a Redis does not answer its watch: it is asked on another connection again.
    pub fn forget(&self, at: SocketAddr) {
        self.watched.borrow_mut().remove(&at);
    }

    /// Returns what a Redis is that is watched.
    pub fn watched(&self, at: SocketAddr) -> Option<Identity> {
        let watched = self.watched.borrow();
        let (known, then) = watched.get(&at)?;
        // A Redis that has started anew is asked how long it has been running.
        let is_known = then.elapsed() < FRESH && known.uptime.is_some();
        is_known.then(|| known.clone())
    }

    /// Returns a connection to this server, and whether it was kept from an earlier conversation.
    async fn take(
        &self,
        server: &Server,
        deadline: Deadline,
    ) -> Result<(Connection, bool), NoAnswer> {
        while let Some(mut connection) = self.find(server) {
            // An idle server says nothing, unless it ends the connection.
            if connection.next().now_or_never().is_none() {
                return Ok((connection, true));
            }
        }
        Ok((Connection::connect(server, deadline).await?, false))
    }

    fn find(&self, server: &Server) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let place = idle.iter().position(|(of, _)| is_same(of, server))?;
        Some(idle.remove(place).1)
    }

    /// Keeps a connection whose conversation has come to its end.
    pub(super) fn keep(&self, server: &Server, connection: Connection) {
        if !self.keeps || !connection.is_idle() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        // Of two that were needed at the same time the newer stays, and none that has shown what is not shown any more.
        idle.retain(|(of, _)| of.endpoint != server.endpoint);
        idle.push((server.clone(), connection));
        let surplus = idle.len().saturating_sub(MOST);
        idle.drain(..surplus);
    }

    /// Connects, asks all questions at once, and hands each answer to `take` as it comes; on a new connection again
    /// where a kept one turns out to have ended, so that nothing is to be asked here that changes something. Returns why not all were
    /// answered until then, if they were not.
    ///
    /// # Errors
    ///
    /// No connection.
    pub(super) async fn ask(
        &self,
        server: &Server,
        questions: &[Words],
        deadline: Deadline,
        mut take: impl FnMut(Result<Value, NoAnswer>),
    ) -> Result<Result<(), NoAnswer>, NoAnswer> {
        let (mut connection, was_kept) = self.take(server, deadline).await?;
        let mut is_silent = true;
        let note = |answer| {
            is_silent = false;
            take(answer);
        };
        let mut end = connection.converse_partly(questions, deadline, note).await;
        // It had ended, and this host did not know it yet.
        if was_kept && is_silent && matches!(end, Err(NoAnswer::Broken(_))) {
            let new = Connection::connect(server, deadline).await?;
            drop(mem::replace(&mut connection, new));
            end = connection.converse_partly(questions, deadline, take).await;
        }
        self.keep(server, connection);
        Ok(end)
    }

    /// [`Lines::ask`] that never asks again.
    ///
    /// # Errors
    ///
    /// No connection.
    pub(super) async fn ask_once(
        &self,
        server: &Server,
        questions: &[Words],
        deadline: Deadline,
        take: impl FnMut(Result<Value, NoAnswer>),
    ) -> Result<Result<(), NoAnswer>, NoAnswer> {
        let (mut connection, _) = self.take(server, deadline).await?;
        let end = connection.converse_partly(questions, deadline, take).await;
        self.keep(server, connection);
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::redis::words;

    const AT: &str = "127.0.0.1:6379";

    fn identity(run_id: &str, uptime: Option<u64>) -> Identity {
        Identity {
            role: Role::Replica,
            run_id: Some(run_id.into()),
            uptime: uptime.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_redis_that_is_watched_need_not_be_asked_until_it_starts_anew() {
        let (lines, at) = (Lines::keeping(), AT.parse().unwrap());
        let watched = |run_id: &str| lines.note(at, Role::Master, Some(run_id.into()));
        watched("a");
        // Nobody knows yet how long it has been running.
        assert_eq!(lines.watched(at), None);
        lines.learn(at, &identity("a", Some(60)));
        watched("a");
        let known = lines.watched(at).unwrap();
        assert_eq!(known.role, Role::Master);
        assert!(known.uptime >= Some(Duration::from_secs(60)));
        watched("b");
        assert_eq!(lines.watched(at), None);
        watched("a");
        lines.forget(at);
        assert_eq!(lines.watched(at), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_idle_connection_with_an_old_password_is_not_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Endpoint::Tcp(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let each = [(); 2].map(|()| {
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(b"+OK\r\n+PONG\r\n").unwrap();
                client
            });
            // Both stay open until they are closed at the other end.
            each.map(|mut client| client.read_to_end(&mut Vec::new()).map(drop))
        });
        let lines = Lines::keeping();
        for password in ["old", "new"] {
            let shown = Server {
                password: Some(password.to_owned()),
                ..Server::at(at.clone())
            };
            let deadline = Deadline::at(tokio::time::Instant::now() + Duration::from_secs(60));
            let ping = [words(&["PING"])];
            let asked = lines.ask(&shown, &ping, deadline, |answer| drop(answer.unwrap()));
            asked.await.unwrap().unwrap();
            let idle = lines.idle.borrow();
            let passwords: Vec<_> = idle.iter().map(|(of, _)| of.password.as_deref()).collect();
            assert_eq!(passwords, [Some(password)]);
        }
        drop(lines);
        for end in server.join().unwrap() {
            end.unwrap();
        }
    }
}
