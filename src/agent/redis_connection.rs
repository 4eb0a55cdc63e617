//! The task behind a [`Watch`](super::redis::Watch): one connection, made anew whenever it ends.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::redis_process::Process;
use super::sight::{Because, Command, Order, PATIENCE, Seen, Wish};
use crate::failover::Endpoint;
use crate::redis::{Connection, NoAnswer, Server, State, words};

/// How often it is asked.
const TICK: Duration = Duration::from_secs(1);
/// How often it is asked while it may be promoted. The end of the connection tells earlier, except where the
/// connection was just being made when it was promoted.
const EXPECTED: Duration = Duration::from_millis(20);
/// How often a connection is tried while it may be promoted.
const RECONNECT: Duration = Duration::from_millis(5);
/// How long after the end of a connection it is tried at once again and again, as long as it is not certain what it ended
/// with: a process that is killed closes its connections and its port one after another, and some of it is left then.
const UNCERTAIN: Duration = Duration::from_millis(200);
const AT_ONCE: Duration = Duration::from_millis(1);
/// A connection that ended sooner after an answer was no good one: then the next waits for a moment.
const SHORT: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_millis(5);

/// Watches one Redis.
pub(super) struct Watcher<K, T> {
    server: Server,
    key: K,
    to: mpsc::Sender<T>,
    wishes: watch::Receiver<Wish>,
    orders: mpsc::Receiver<Order>,
    backoff: Backoff,
    /// Why the next question is asked.
    why: Because,
    /// What this connection has said.
    known: Option<State>,
    /// Its process, as it said itself.
    process: Option<Process>,
    /// When a connection ended on which it was well, until it is certain what it ended with.
    ended: Option<Instant>,
    /// Whether there was no room for the last report: why it was asked then still counts.
    untold: bool,
}

/// What ends a wait.
enum Woken {
    Time,
    Wish,
    Order(Order),
    Ended(NoAnswer),
    /// The watch was dropped.
    NobodyListens,
}

impl<K: Clone, T: From<Seen<K>>> Watcher<K, T> {
    pub(super) fn new(
        server: Server,
        key: K,
        to: mpsc::Sender<T>,
        wishes: watch::Receiver<Wish>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Watcher {
            server,
            key,
            to,
            wishes,
            orders,
            backoff: Backoff::up_to(TICK),
            why: Because::Connected,
            known: None,
            process: None,
            ended: None,
            untold: false,
        }
    }

    /// Watches until nobody wants to know any more.
    pub(super) async fn run(mut self) {
        loop {
            self.known = None;
            let began = Instant::now();
            let until = Instant::now() + PATIENCE;
            let no = match Connection::open(&self.server, until).await {
                Err(no) => no,
                Ok(mut connection) => match self.watch(&mut connection).await {
                    None => return,
                    Some(no) => no,
                },
            };
            if self.known.is_some() {
                // It was well until now: its promotion, or its end. That is asked in this millisecond.
                self.why = Because::Ended;
                self.ended = Some(Instant::now());
                // A Redis that ends every connection must not keep this host busy.
                if began.elapsed() < SHORT {
                    sleep(AGAIN).await;
                }
                continue;
            }
            self.report(Err(no.clone()));
            if self.to.is_closed() || !self.rest(&no).await {
                return;
            }
        }
    }

    /// Asks on a connection until it ends. Returns why it ended, `None` where nobody wants to know any more.
    async fn watch(&mut self, connection: &mut Connection) -> Option<NoAnswer> {
        loop {
            self.wishes.mark_unchanged();
            let asked = Instant::now();
            let until = asked + PATIENCE;
            match self.ask(connection, until).await {
                Ok(state) => {
                    self.backoff.reset();
                    self.ended = None;
                    self.note_process(state.process);
                    self.known = Some(state.clone());
                    let next = match self.report(Ok(state)) {
                        true => asked + self.interval(),
                        false => asked + EXPECTED,
                    };
                    if let Some(end) = self.wait(connection, next).await {
                        return end;
                    }
                }
                Err(no) if connection.has_ended() => return Some(no),
                Err(no @ NoAnswer::Broken(_)) => return Some(no),
                Err(no @ NoAnswer::Silent(_)) => {
                    self.known = None;
                    return Some(no);
                }
                // It answered, and says nothing of its role: LOADING, NOPERM.
                Err(no) => {
                    self.report(Err(no));
                    if let Some(end) = self.wait(connection, asked + self.interval()).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Asks, unless its process ends meanwhile.
    async fn ask(&self, connection: &mut Connection, until: Instant) -> Result<State, NoAnswer> {
        let process = self.process.as_ref().filter(|_| self.known.is_some());
        let answer = pin!(State::ask(connection, self.known.as_ref(), until));
        match select(answer, pin!(end_of(process))).await {
            Either::Left((answer, _)) => answer,
            Either::Right((no, _)) => Err(no),
        }
    }

    /// Keeps what is known of the same process: that it has ended is told once.
    fn note_process(&mut self, number: Option<u32>) {
        if self.process.as_ref().map(Process::number) != number {
            self.process = number.map(Process::of);
        }
    }

    /// Waits until the next question is to be asked, and carries out orders. Returns `Some` where the connection is
    /// to be left, and why.
    async fn wait(
        &mut self,
        connection: &mut Connection,
        until: Instant,
    ) -> Option<Option<NoAnswer>> {
        loop {
            match self.woken(Some(&mut *connection), until).await {
                Woken::NobodyListens => return Some(None),
                Woken::Ended(no) => return Some(Some(no)),
                Woken::Order(order) => {
                    self.carry_out(connection, order).await;
                    if connection.has_ended() {
                        let broken = "the connection ended before an answer";
                        return Some(Some(NoAnswer::Broken(broken.into())));
                    }
                }
                Woken::Wish => return self.ask_because(Because::Asked),
                Woken::Time => return self.ask_because(Because::Tick),
            }
        }
    }

    /// Lets the next question be asked, on the same connection.
    fn ask_because(&mut self, why: Because) -> Option<Option<NoAnswer>> {
        if !self.untold {
            self.why = match self.expects() {
                true => Because::Expected,
                false => why,
            };
        }
        None
    }

    /// Waits before the next connection. Orders are answered with the reason why no connection is there. Returns
    /// whether anybody still wants to know.
    async fn rest(&mut self, no: &NoAnswer) -> bool {
        let began = Instant::now();
        let is_uncertain = self.ended.is_some_and(|at| at.elapsed() < UNCERTAIN);
        let wait = match is_uncertain {
            true => AT_ONCE,
            false => self.backoff.wait(),
        };
        self.why = Because::Connected;
        loop {
            let until = match self.expects() {
                true => began + wait.min(RECONNECT),
                false => began + wait,
            };
            match self.woken(None, until).await {
                Woken::NobodyListens => return false,
                Woken::Order(order) => drop(order.done.send(Err(no.clone()))),
                Woken::Time | Woken::Ended(_) => return true,
                Woken::Wish => {
                    self.wishes.mark_unchanged();
                    if !self.expects() {
                        return true;
                    }
                }
            }
        }
    }

    /// Waits for the first of all that can happen.
    async fn woken(&mut self, connection: Option<&mut Connection>, until: Instant) -> Woken {
        let wish = pin!(async {
            match self.wishes.changed().await {
                Ok(()) => Woken::Wish,
                Err(_) => Woken::NobodyListens,
            }
        });
        let order = pin!(async {
            match self.orders.recv().await {
                Some(order) => Woken::Order(order),
                None => Woken::NobodyListens,
            }
        });
        let process = self.process.as_ref().filter(|_| self.known.is_some());
        let ended = pin!(async {
            let Some(connection) = connection else {
                return pending().await;
            };
            let connection = pin!(async {
                loop {
                    // What it sends unasked means nothing here.
                    if let Err(no) = connection.next().await
                        && connection.has_ended()
                    {
                        return no;
                    }
                }
            });
            let process = pin!(end_of(process));
            Woken::Ended(select(connection, process).await.factor_first().0)
        });
        let time = pin!(async {
            sleep_until(until).await;
            Woken::Time
        });
        // The end of the connection first: it is the sign of a promotion.
        let either = select(select(ended, order), select(wish, time)).await;
        match either {
            Either::Left((Either::Left((woken, _)) | Either::Right((woken, _)), _)) => woken,
            Either::Right((Either::Left((woken, _)) | Either::Right((woken, _)), _)) => woken,
        }
    }

    async fn carry_out(&mut self, connection: &mut Connection, order: Order) {
        let question = match order.command {
            // Whoever asked for it has given up by now: a pause nobody lifts is worse than none.
            Command::Pause(_) if order.done.is_closed() => return,
            Command::Pause(_) if self.is_too_old() => {
                let old = "CLIENT PAUSE WRITE needs Redis 6.2";
                return drop(order.done.send(Err(NoAnswer::Refused(old.into()))));
            }
            Command::Pause(time) => words(&["CLIENT", "PAUSE", &milliseconds(time), "WRITE"]),
            Command::Unpause => words(&["CLIENT", "UNPAUSE"]),
            Command::Lead => words(&["REPLICAOF", "NO", "ONE"]),
            Command::Follow(Endpoint { host, port }) => {
                words(&["REPLICAOF", &host.to_string(), &port.to_string()])
            }
        };
        let answers = connection.ask(&[question], Instant::now() + PATIENCE).await;
        let none = || Err(NoAnswer::Unexpected("none".into()));
        let answer = answers.and_then(|mut answers| answers.pop().unwrap_or_else(none));
        drop(order.done.send(answer.map(|_| ())));
    }

    fn is_too_old(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|state| !state.can_pause_writes())
    }

    fn expects(&self) -> bool {
        let expected = self.wishes.borrow().expected;
        expected.is_some_and(|until| Instant::now() < until)
    }

    fn interval(&self) -> Duration {
        match self.expects() {
            true => EXPECTED,
            false => TICK,
        }
    }

    /// Returns whether there was room.
    fn report(&mut self, state: Result<State, NoAnswer>) -> bool {
        let (key, why) = (self.key.clone(), self.why);
        let is_refused = state.as_ref().is_err_and(NoAnswer::is_refused);
        // It has started a moment ago, and so has ended before.
        let is_loading = state.as_ref().is_err_and(NoAnswer::is_loading);
        // One that listens no more may be at the end of its shutdown, or listen elsewhere now.
        let lives = |process: &Process| process.is_a_living_redis();
        let is_gone = is_loading || is_refused && !self.process.as_ref().is_some_and(lives);
        self.ended.take_if(|_| is_gone);
        let seen = Seen {
            key,
            why,
            is_gone,
            state,
        };
        self.untold = self.to.try_send(seen.into()).is_err();
        !self.untold
    }
}

/// Waits for the end of a process, for ever where that is not seen. Returns why its connection tells nothing more.
async fn end_of(process: Option<&Process>) -> NoAnswer {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
    NoAnswer::Broken("its process has ended".into())
}

/// At least one: a pause of none is an error to Redis.
fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
