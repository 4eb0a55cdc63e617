//! Watches one Redis of this host, on one connection that is read all the time: its end is the earliest sign of a
//! promotion, whose transaction holds CLIENT KILL (sentinel.c, `sentinelSendSlaveOf`).

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until, timeout};

use crate::evidence::Role;
use crate::redis::replication::{self, Follower};
use crate::redis::{Connection, NoAnswer, Server, Words, line, readers, text};

/// How long a Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How often it is asked, while all is quiet and while a promotion is expected.
const QUIET: Duration = Duration::from_secs(1);
const CLOSE: Duration = Duration::from_millis(20);

/// The pause before another try to connect: at first, and while a promotion is expected.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many orders may wait.
const ORDERS: usize = 16;

/// What it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Its role.
    pub role: Role,
    /// Its run id, where it may be asked for that.
    pub run_id: Option<String>,
    /// How far its stream has come, in bytes.
    pub offset: u64,
    /// Its replicas.
    pub replicas: Vec<Follower>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What it says, or why it says nothing.
    pub state: Result<State, NoAnswer>,
}

enum Order {
    Ask,
    Expect(Duration),
    Say(Words, oneshot::Sender<Result<(), NoAnswer>>),
}

/// A Redis that is watched as long as this is kept.
pub struct Watch {
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Watches from now on. What is seen goes to `to`.
    pub fn begin(server: Server, to: mpsc::Sender<Seen>) -> Watch {
        let (orders, taken) = mpsc::channel(ORDERS);
        let watcher = Watcher {
            server,
            to,
            orders: taken,
            closely_until: Instant::now(),
            run_id: None,
            version: None,
        };
        Watch {
            orders,
            task: spawn_local(watcher.work()).abort_handle(),
        }
    }

    /// Has it asked at once.
    pub fn ask_now(&self) {
        // Where so many orders wait it is asked anyway.
        let _ = self.orders.try_send(Order::Ask);
    }

    /// Has it looked at closely for so long: it is being promoted.
    pub fn expect(&self, time: Duration) {
        let _ = self.orders.try_send(Order::Expect(time));
    }

    /// Pauses writes for so long at most (Redis 6.2 and later).
    ///
    /// # Errors
    ///
    /// A Redis that does not know this, does not allow it, or does not answer.
    pub async fn pause(&self, longest: Duration) -> Result<(), NoAnswer> {
        let milliseconds = longest.as_millis().to_string();
        self.say(&["CLIENT", "PAUSE", &milliseconds, "WRITE"]).await
    }

    /// Allows writes again.
    ///
    /// # Errors
    ///
    /// As [`Watch::pause`].
    pub async fn unpause(&self) -> Result<(), NoAnswer> {
        self.say(&["CLIENT", "UNPAUSE"]).await
    }

    async fn say(&self, words: &[&str]) -> Result<(), NoAnswer> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let (answer, answered) = oneshot::channel();
        let silent = || Err(NoAnswer::Silent(ANSWER));
        if self.orders.try_send(Order::Say(words, answer)).is_err() {
            return silent();
        }
        match timeout(ANSWER, answered).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => silent(),
        }
    }
}

struct Watcher {
    server: Server,
    to: mpsc::Sender<Seen>,
    orders: mpsc::Receiver<Order>,
    closely_until: Instant,
    run_id: Option<String>,
    version: Option<String>,
}

/// Why an idle connection is left.
enum Woken {
    /// It is time to ask again.
    Due,
    /// The connection has ended.
    Ended,
    /// Somebody wants something.
    Order(Order),
    /// Nobody listens any more.
    Alone,
}

impl Watcher {
    async fn work(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let Err(no) = self.talk().await else { return };
            // Right after a promotion it accepts at once; then there is nothing to tell of this end.
            let was_good = began.elapsed() > QUIET / 2;
            if !was_good && self.to.send(Seen { state: Err(no) }).await.is_err() {
                return;
            }
            pause = match was_good || self.is_close() {
                true => FIRST_PAUSE,
                false => (pause * 2).min(LONGEST_PAUSE),
            };
            if !was_good && !self.wait(Instant::now() + pause).await {
                return;
            }
        }
    }

    fn is_close(&self) -> bool {
        Instant::now() < self.closely_until
    }

    /// Takes orders that cannot be carried out until then. Returns whether anybody listens.
    async fn wait(&mut self, until: Instant) -> bool {
        loop {
            let order = tokio::time::timeout_at(until, self.orders.recv()).await;
            match order {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(Order::Ask)) => return true,
                Ok(Some(Order::Expect(time))) => self.closely_until = Instant::now() + time,
                Ok(Some(Order::Say(_, answer))) => {
                    let text = "it cannot be reached".to_owned();
                    let _ = answer.send(Err(NoAnswer::Broken(text)));
                }
            }
        }
    }

    /// Talks on one connection until that ends. Returns nothing once nobody listens.
    async fn talk(&mut self) -> Result<(), NoAnswer> {
        let mut connection = Connection::open(&self.server, Instant::now() + ANSWER).await?;
        let mut is_new = true;
        loop {
            let state = self.ask(&mut connection, is_new).await?;
            is_new = false;
            if self.to.send(Seen { state: Ok(state) }).await.is_err() {
                return Ok(());
            }
            let next = Instant::now() + if self.is_close() { CLOSE } else { QUIET };
            match self.idle(&mut connection, next).await {
                Woken::Due | Woken::Order(Order::Ask) => {}
                Woken::Ended => return Err(NoAnswer::Broken("the connection ended".into())),
                Woken::Alone => return Ok(()),
                Woken::Order(Order::Expect(time)) => self.closely_until = Instant::now() + time,
                Woken::Order(Order::Say(words, answer)) => {
                    let said = self.say(&mut connection, words).await;
                    // Whoever asked may have given up.
                    let _ = answer.send(said);
                }
            }
        }
    }

    /// Reads an idle connection, so that its end is seen at once.
    async fn idle(&mut self, connection: &mut Connection, next: Instant) -> Woken {
        let end = pin!(async {
            // A Redis says nothing of its own here.
            while connection.next().await.is_ok() {}
        });
        let order = pin!(self.orders.recv());
        let due = pin!(sleep_until(next));
        match select(end, select(order, due)).await {
            Either::Left(((), _)) => Woken::Ended,
            Either::Right((Either::Left((Some(order), _)), _)) => Woken::Order(order),
            Either::Right((Either::Left((None, _)), _)) => Woken::Alone,
            Either::Right((Either::Right(((), _)), _)) => Woken::Due,
        }
    }

    async fn ask(&mut self, connection: &mut Connection, is_new: bool) -> Result<State, NoAnswer> {
        let mut questions = vec![words(&["ROLE"]), words(&["INFO", "replication"])];
        if is_new {
            questions.push(words(&["INFO", "server"]));
        }
        let answers = connection.ask(&questions, Instant::now() + ANSWER).await?;
        let [role, info, server @ ..] = answers.as_slice() else {
            return Err(NoAnswer::Unexpected("none".into()));
        };
        if let [Ok(server)] = server {
            let info = text(server).unwrap_or_default();
            self.run_id = line(&info, "run_id").map(str::to_owned);
            self.version = line(&info, "redis_version").map(str::to_owned);
        }
        let role = match (role, info) {
            (Ok(role), _) => readers::of_role(role)?,
            // ROLE may be renamed away, or not allowed.
            (Err(_), Ok(info)) => readers::of_info(info)?,
            (Err(no), Err(_)) => return Err(no.clone()),
        };
        let known = info.as_ref().map(replication::read).unwrap_or_default();
        Ok(State {
            role,
            run_id: self.run_id.clone(),
            offset: known.offset.unwrap_or_default(),
            replicas: known.replicas,
        })
    }

    async fn say(&self, connection: &mut Connection, words: Words) -> Result<(), NoAnswer> {
        if self.version.as_deref().is_some_and(is_old) {
            let text = "Redis before 6.2 cannot pause writes alone".to_owned();
            return Err(NoAnswer::UnknownCommand(text));
        }
        let answers = connection.ask(&[words], Instant::now() + ANSWER).await?;
        match answers.into_iter().next() {
            Some(answer) => answer.map(drop),
            None => Err(NoAnswer::Unexpected("none".into())),
        }
    }
}

/// CLIENT PAUSE knows WRITE, and CLIENT UNPAUSE exists, since 6.2. Before, a pause could not be ended.
fn is_old(version: &str) -> bool {
    let parts = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    parts.collect::<Vec<_>>() < vec![6, 2]
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|&word| word.to_owned()).collect()
}
