//! Connections that stay open for an owner that asks often: one to each server, whatever the number of masters. An
//! owner that asks once keeps none.

use std::cell::RefCell;
use std::mem;

use futures_util::FutureExt as _;

use super::Words;
use super::connection::{Connection, Deadline};
use super::no_answer::NoAnswer;
use super::reply::Value;
use super::server::{Endpoint, Server};

/// How many connections are kept at most: the oldest goes.
const MOST: usize = 256;

/// To whom a connection leads, and what was shown there.
type Key = (Endpoint, Option<String>, Option<String>, bool);

fn key(of: &Server) -> Key {
    (
        of.endpoint.clone(),
        of.username.clone(),
        of.password.clone(),
        of.tls.is_some(),
    )
}

/// The idle connections.
#[derive(Default)]
pub struct Lines {
    keeps: bool,
    idle: RefCell<Vec<(Key, Connection)>>,
}

impl Lines {
    /// Returns lines that are kept. The default keeps none.
    pub fn keeping() -> Lines {
        Lines {
            keeps: true,
            idle: RefCell::default(),
        }
    }

    /// Returns a connection to this server, and whether it was kept from an earlier conversation.
    async fn take(
        &self,
        server: &Server,
        deadline: Deadline,
    ) -> Result<(Connection, bool), NoAnswer> {
        while let Some(mut connection) = self.find(&key(server)) {
            // An idle server says nothing, unless it ends the connection.
            if connection.next().now_or_never().is_none() {
                return Ok((connection, true));
            }
        }
        Ok((Connection::connect(server, deadline).await?, false))
    }

    fn find(&self, key: &Key) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let place = idle.iter().position(|(of, _)| of == key)?;
        Some(idle.remove(place).1)
    }

    /// Keeps a connection whose conversation has come to its end.
    pub(super) fn keep(&self, server: &Server, connection: Connection) {
        if !self.keeps || !connection.is_idle() {
            return;
        }
        let key = key(server);
        let mut idle = self.idle.borrow_mut();
        // Of two that were needed at the same time the newer stays.
        idle.retain(|(of, _)| *of != key);
        idle.push((key, connection));
        let surplus = idle.len().saturating_sub(MOST);
        idle.drain(..surplus);
    }

    /// Connects, asks all questions at once, and returns what was answered until then; where that is not all, why.
    ///
    /// # Errors
    ///
    /// No connection.
    pub(super) async fn ask(
        &self,
        server: &Server,
        questions: &[Words],
        deadline: Deadline,
    ) -> Result<(Vec<Result<Value, NoAnswer>>, Result<(), NoAnswer>), NoAnswer> {
        let (mut connection, was_kept) = self.take(server, deadline).await?;
        let mut said = connection.converse_partly(questions, deadline).await;
        // It had ended, and this host did not know it yet.
        if was_kept && said.0.is_empty() && matches!(said.1, Err(NoAnswer::Broken(_))) {
            let new = Connection::connect(server, deadline).await?;
            drop(mem::replace(&mut connection, new));
            said = connection.converse_partly(questions, deadline).await;
        }
        self.keep(server, connection);
        Ok(said)
    }
}
