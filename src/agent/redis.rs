//! Watches one Redis of this host on one connection that is always read: its promotion ends it (Sentinel's CLIENT
//! KILL), and that end is the earliest sign of a promotion that there is. Pauses its writes on the same connection.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout, timeout_at};

use super::redis_connection::Watcher;
pub use super::sight::{Because, Seen};
use super::sight::{Command, Order, PATIENCE, Wish};
use crate::failover::Endpoint;
use crate::redis::{NoAnswer, Server};

/// The watch of a Redis of this host. It ends when this is dropped; a pause then ends by itself.
#[derive(Debug)]
pub struct Watch {
    wish: watch::Sender<Wish>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Starts to watch. What is seen goes to `to`: once a second, at once when the connection ends, and as asked
    /// for. A report for which there is no room is not waited for; the question is asked again.
    pub fn start<K: Clone + 'static, T: From<Seen<K>> + 'static>(
        server: Server,
        key: K,
        to: mpsc::Sender<T>,
    ) -> Watch {
        let (wish, wishes) = watch::channel(Wish::default());
        let (orders, ordered) = mpsc::channel(4);
        let task = spawn_local(Watcher::new(server, key, to, wishes, ordered).run());
        Watch { wish, orders, task }
    }

    /// Asks at once.
    pub fn ask_now(&self) {
        self.wish
            .send_modify(|wish| wish.asked = wish.asked.wrapping_add(1));
    }

    /// Expects a promotion for so long: asks every 20 ms, and connects anew every 5 ms.
    pub fn expect(&self, time: Duration) {
        let until = Instant::now() + time;
        self.wish.send_modify(|wish| {
            wish.asked = wish.asked.wrapping_add(1);
            wish.expected = Some(until);
        });
    }

    /// Expects one as another watch of the same Redis does.
    pub(super) fn expect_as(&self, other: &Watch) {
        let expected = other.wish.borrow().expected;
        self.wish.send_modify(|wish| wish.expected = expected);
    }

    /// Expects none any more.
    pub fn expect_nothing(&self) {
        self.wish.send_modify(|wish| wish.expected = None);
    }

    /// Stops the writes of all clients for so long (`CLIENT PAUSE ms WRITE`, Redis 6.2 and later).
    ///
    /// # Errors
    ///
    /// Why it did not stop them, within a second: an older Redis, a user that may not.
    pub async fn pause(&self, time: Duration) -> Result<(), NoAnswer> {
        self.order(Command::Pause(time)).await
    }

    /// Lets the writes go on.
    ///
    /// # Errors
    ///
    /// Why that is not known, within a second. The pause ends by itself.
    pub async fn unpause(&self) -> Result<(), NoAnswer> {
        self.order(Command::Unpause).await
    }

    /// Makes it a replica of another Redis (`REPLICAOF`): a pause of writes does not hold that up. What it needs to be
    /// let in there (`masterauth`) it has from its configuration.
    ///
    /// # Errors
    ///
    /// Why that is not known, within a second: a user that may not.
    pub async fn follow(&self, master: Endpoint) -> Result<(), NoAnswer> {
        self.order(Command::Follow(master)).await
    }

    /// Has it follow nobody: it takes writes again.
    ///
    /// # Errors
    ///
    /// Why it does not, or why that is not known, within a second.
    pub async fn lead(&self) -> Result<(), NoAnswer> {
        self.order(Command::Lead).await
    }

    async fn order(&self, command: Command) -> Result<(), NoAnswer> {
        let until = Instant::now() + PATIENCE;
        let (done, answer) = oneshot::channel();
        let ended = || NoAnswer::Broken("the watch ended before an answer".into());
        let given = timeout(PATIENCE, self.orders.send(Order { command, done })).await;
        given
            .map_err(|_| NoAnswer::Silent(PATIENCE))?
            .map_err(|_| ended())?;
        let answer = timeout_at(until, answer).await;
        answer
            .map_err(|_| NoAnswer::Silent(PATIENCE))?
            .map_err(|_| ended())?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
