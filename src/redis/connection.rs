//! One connection. What was sent and received stays with it, so that a question may be dropped at
//! any await: its replies are skipped when the next one is asked.

use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::no_answer::NoAnswer;
use super::reply::{ANSWER_LIMIT, Decoder, Value};
use super::server::{Endpoint, Server};
use super::socket::connect;
use super::stream::{Stream, words};
use super::tls::{self, Tls};
use super::what_listens::{speaks_plain_text, speaks_tls};
use super::{Answers, Words};

/// How much is read at once, in bytes, once an answer is longer than what is waited with: the agent waits at several
/// connections for each master.
const CHUNK: usize = 1 << 14;
const FIRST: usize = 1 << 9;

/// How many bytes each answer of a conversation may have on the average, where there are many: a Sentinel
/// that describes 25 others needs as much.
const FOR_EACH: usize = 1 << 15;

/// How long a server that ended the connection may take to show whether it wants TLS.
const A_LOOK: Duration = Duration::from_millis(200);

/// A connection to a server.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// What is still to be sent.
    unsent: Vec<u8>,
    /// What has arrived and belongs to no complete reply.
    received: Vec<u8>,
    /// How far `received` is decoded.
    decoder: Decoder,
    /// How many replies will come, that to AUTH included.
    expected: usize,
    /// Whether the next reply is that to AUTH.
    authenticates: bool,
    /// The password, which no error text may show: a server that does not know AUTH repeats it.
    secret: Option<String>,
    /// Why nothing can be asked any more.
    ended: Option<NoAnswer>,
    /// The server, where it is asked in plain text and nothing has arrived: a server that wants TLS ends a connection so.
    may_want_tls: Option<Server>,
}

impl Connection {
    /// Connects and agrees on TLS. AUTH is sent with the first questions, and its refusal is the
    /// answer to all of them.
    ///
    /// # Errors
    ///
    /// A server that cannot be reached until then, or does not agree on TLS.
    pub async fn open(server: &Server, until: Instant) -> Result<Connection, NoAnswer> {
        Connection::connect(server, Deadline::at(until)).await
    }

    /// Asks all questions at once. Returns what each was answered, in their order.
    ///
    /// # Errors
    ///
    /// A conversation that did not come to its end until then.
    pub async fn ask(&mut self, questions: &[Words], until: Instant) -> Answers {
        self.converse(questions, Deadline::at(until)).await
    }

    /// Subscribes to these channels. Returns what the first of them was answered: the answers of the others come as if
    /// they were messages.
    ///
    /// # Errors
    ///
    /// A server that refuses it, or does not answer until then.
    pub async fn subscribe(
        &mut self,
        channels: &[impl AsRef<str>],
        until: Instant,
    ) -> Result<Value, NoAnswer> {
        let channels = channels.iter().map(AsRef::as_ref);
        let question: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(channels).collect();
        let mut answers = self.ask(&[super::words(&question)], until).await?;
        let none = || Err(NoAnswer::Unexpected("none".into()));
        answers.pop().unwrap_or_else(none)
    }

    /// Waits for what the server sends of its own, after a subscription. There is no deadline.
    ///
    /// # Errors
    ///
    /// A connection that has ended, or what is no event.
    pub async fn next(&mut self) -> Result<Value, NoAnswer> {
        self.send().await;
        while self.expected > 0 {
            let _ = self.reply().await?;
        }
        read(self.value().await?)
    }

    /// Sends a command whose answer is not waited for: [`Connection::next`] returns it among what the server sends of
    /// its own. For a connection on which no question is open.
    pub async fn say(&mut self, words: &[&str]) {
        self.queue(words);
        self.expected -= 1;
        self.send().await;
    }

    /// Returns whether the connection has ended: an error that [`Connection::next`] returned before that was an
    /// answer.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns whether nothing is expected from the other end, and it has not ended.
    pub(super) fn is_idle(&self) -> bool {
        self.ended.is_none()
            && self.expected == 0
            && self.unsent.is_empty()
            && self.received.is_empty()
    }

    /// [`Connection::open`].
    pub(super) async fn connect(
        server: &Server,
        deadline: Deadline,
    ) -> Result<Connection, NoAnswer> {
        let mut stream = deadline.keep(connect(server)).await?;
        if let Some(tls) = &server.tls {
            stream = deadline.agree(server, tls, stream).await?;
        }
        let mut connection = Connection {
            stream,
            unsent: Vec::new(),
            received: Vec::new(),
            decoder: Decoder::default(),
            expected: 0,
            authenticates: false,
            secret: server
                .password
                .clone()
                .filter(|password| !password.is_empty()),
            ended: None,
            may_want_tls: Some(server.clone()).filter(|server| {
                server.tls.is_none() && matches!(server.endpoint, Endpoint::Tcp(_))
            }),
        };
        if let Some(password) = &server.password {
            let mut words = vec!["AUTH"];
            words.extend(server.username.as_deref());
            words.push(password);
            connection.queue(&words);
            connection.authenticates = true;
        }
        Ok(connection)
    }

    /// [`Connection::ask`].
    pub(super) async fn converse(&mut self, questions: &[Words], deadline: Deadline) -> Answers {
        let mut answers = Vec::with_capacity(questions.len());
        self.converse_partly(questions, deadline, |answer| answers.push(answer))
            .await?;
        Ok(answers)
    }

    /// Asks all questions at once. Returns what each was answered as far as the conversation came; where it
    /// ended early, why. After the `first` answers the others have the time `rest`.
    pub(super) async fn converse_in_part(
        &mut self,
        questions: &[Words],
        first: usize,
        deadline: Deadline,
        rest: Duration,
    ) -> Vec<Result<Value, NoAnswer>> {
        let mut answers = Vec::with_capacity(questions.len());
        let asked = async {
            self.send_all(questions).await?;
            self.read(first, |answer| answers.push(answer)).await
        };
        let mut heard = deadline.keep(asked).await;
        if heard.is_ok() {
            let others = self.read(questions.len() - first, |answer| answers.push(answer));
            heard = Deadline::within(rest).keep(others).await;
        }
        if let Err(no) = heard {
            answers.resize(questions.len(), Err(no));
        }
        answers
    }

    /// Asks all questions at once, and hands each answer to `take` as it comes: many long ones are not kept at the same
    /// time.
    ///
    /// # Errors
    ///
    /// Why not all were answered until then.
    pub(super) async fn converse_partly(
        &mut self,
        questions: &[Words],
        deadline: Deadline,
        take: impl FnMut(Result<Value, NoAnswer>),
    ) -> Result<(), NoAnswer> {
        let asked = async {
            self.send_all(questions).await?;
            self.read(questions.len(), take).await
        };
        deadline.keep(asked).await
    }

    /// Sends questions, and reads the replies to AUTH and to questions that were dropped.
    async fn send_all(&mut self, questions: &[Words]) -> Result<(), NoAnswer> {
        let earlier = self.expected;
        for words in questions {
            self.queue(words);
        }
        self.send().await;
        for _ in 0..earlier {
            let _ = self.reply().await?;
        }
        Ok(())
    }

    /// Reads so many answers, and hands on each at once, as this may be dropped before the last.
    async fn read(
        &mut self,
        number: usize,
        mut take: impl FnMut(Result<Value, NoAnswer>),
    ) -> Result<(), NoAnswer> {
        let limit = ANSWER_LIMIT.max(FOR_EACH * number);
        let mut size = 0;
        let mut refused = None;
        for _ in 0..number {
            match self.reply().await {
                Ok(answer) => {
                    size += answer.as_ref().map_or(0, Value::size);
                    if size > limit {
                        self.ended = Some(NoAnswer::TooLong);
                        return Err(NoAnswer::TooLong);
                    }
                    refused = answer.as_ref().err().cloned();
                    take(answer);
                }
                // "DENIED", "max number of clients reached": the error says why it was the last.
                Err(no @ NoAnswer::Broken(_)) => return Err(refused.unwrap_or(no)),
                Err(no) => return Err(no),
            }
        }
        Ok(())
    }

    /// Adds a question to what is still to be sent.
    fn queue<W: AsRef<str>>(&mut self, words: &[W]) {
        let mut add = |text: &str| self.unsent.extend_from_slice(text.as_bytes());
        add(&format!("*{}\r\n", words.len()));
        for word in words {
            let word = word.as_ref();
            add(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.expected += 1;
    }

    /// Sends what is still to be sent. Where that fails, what the server said before it closed the
    /// connection says more than the error.
    async fn send(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent).await {
                Ok(sent) if sent > 0 => drop(self.unsent.drain(..sent)),
                _ => self.unsent.clear(),
            }
        }
        let _ = self.stream.flush().await;
    }

    /// Returns the next reply that was asked for.
    async fn reply(&mut self) -> Result<Result<Value, NoAnswer>, NoAnswer> {
        let mut value = self.value().await?;
        if let (Value::Error(text), Some(secret)) = (&mut value, &self.secret) {
            *text = text.replace(secret.as_str(), "…");
        }
        let reply = read(value);
        self.expected -= 1;
        if mem::take(&mut self.authenticates)
            && let Err(no) = &reply
        {
            self.ended = Some(no.clone());
            return Err(no.clone());
        }
        Ok(reply)
    }

    /// Returns the next value that arrives.
    async fn value(&mut self) -> Result<Value, NoAnswer> {
        if let Some(no) = &self.ended {
            return Err(no.clone());
        }
        let value = self.receive().await;
        if let Err(no) = &value {
            self.ended = Some(no.clone());
        }
        value
    }

    async fn receive(&mut self) -> Result<Value, NoAnswer> {
        loop {
            if let Some(value) = self.decoder.decode(&self.received)? {
                self.received.drain(..mem::take(&mut self.decoder).used());
                self.received.shrink_to(FIRST);
                return Ok(value);
            }
            // Exactly, or the buffer doubles beyond the limit.
            let more = if self.received.is_empty() {
                FIRST
            } else {
                CHUNK
            };
            self.received.reserve_exact(more);
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Err(self.broken("the connection ended").await),
                Ok(_) => self.may_want_tls = None,
                Err(error) => {
                    return Err(match tls::no_agreement(&error) {
                        Some(no) => no,
                        None => self.broken(&words(&error)).await,
                    });
                }
            }
        }
    }

    async fn broken(&mut self, what: &str) -> NoAnswer {
        if let Some(server) = self.may_want_tls.take()
            && let Ok(true) = timeout(A_LOOK, speaks_tls(&server)).await
        {
            return NoAnswer::WantsTls;
        }
        let when = match self.received.is_empty() {
            true => "before an answer",
            false => "in the middle of an answer",
        };
        NoAnswer::Broken(format!("{what} {when}"))
    }
}

fn read(value: Value) -> Result<Value, NoAnswer> {
    match value {
        Value::Error(text) => Err(NoAnswer::of_error(&text)),
        value => Ok(value),
    }
}

/// When a conversation is over, whatever has happened by then.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    began: Instant,
    until: Instant,
}

impl Deadline {
    pub(super) fn at(until: Instant) -> Deadline {
        let began = Instant::now();
        Deadline { began, until }
    }

    pub(super) fn within(time: Duration) -> Deadline {
        let began = Instant::now();
        let until = began + time;
        Deadline { began, until }
    }

    /// Returns the time for the whole conversation.
    fn all(self) -> Duration {
        self.until.saturating_duration_since(self.began)
    }

    /// Agrees on TLS. A Redis without TLS waits for the end of a line: where an agreement takes long, it is
    /// asked in plain text beside.
    async fn agree(
        self,
        server: &Server,
        tls: &Tls,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, NoAnswer> {
        let agreement = pin!(self.keep(tls.connect(stream)));
        let doubt = pin!(async {
            sleep_until(self.began + self.all() / 2).await;
            speaks_plain_text(server).await
        });
        let agreed = match select(agreement, doubt).await {
            Either::Left((agreed, _)) => agreed,
            Either::Right((true, _)) => return Err(NoAnswer::NoTls),
            Either::Right((false, agreement)) => agreement.await,
        };
        match agreed {
            Ok(agreed) => Ok(Box::new(agreed)),
            Err(NoAnswer::Silent(_)) => Err(tls::not_in_time(self.all())),
            Err(no) => Err(no),
        }
    }

    async fn keep<T>(
        self,
        conversation: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Result<T, NoAnswer> {
        timeout_at(self.until, conversation)
            .await
            .unwrap_or_else(|_| Err(NoAnswer::Silent(self.all())))
    }
}
