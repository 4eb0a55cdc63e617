//! Questions to a server that speaks the Redis protocol, each with a deadline that nothing
//! outlasts.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, Value};

/// A Sentinel or a Redis, and who asks it.
#[derive(Clone)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The ACL user, where it needs one.
    pub username: Option<String>,
    /// The password, where it needs one.
    pub password: Option<String>,
}

/// Why a server gave no answer, or none that helps.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    /// In words.
    pub why: String,
    /// The first word of the server's error, if it gave one.
    pub code: Option<String>,
}

/// What a server answered to each question, in their order.
pub type Answers = Result<Vec<Result<Value, NoAnswer>>, NoAnswer>;

/// Asks one server these questions on one connection, within `timeout` in all. Blocks.
///
/// # Errors
///
/// A server that cannot be reached, or does not answer in time.
pub fn ask(server: &Server, questions: Vec<Vec<String>>, timeout: Duration) -> Answers {
    let told = begin(server.clone(), questions, timeout);
    answer(&told, Instant::now() + timeout, timeout)
}

/// Asks several servers the same questions at the same time, within `timeout` in all. Blocks.
pub fn ask_each(servers: &[Server], questions: &[Vec<String>], timeout: Duration) -> Vec<Answers> {
    let until = Instant::now() + timeout;
    let asked = servers
        .iter()
        .map(|server| begin(server.clone(), questions.to_vec(), timeout));
    let asked: Vec<Receiver<Answers>> = asked.collect();
    asked
        .iter()
        .map(|told| answer(told, until, timeout))
        .collect()
}

fn begin(server: Server, questions: Vec<Vec<String>>, timeout: Duration) -> Receiver<Answers> {
    let (tell, told) = mpsc::channel();
    let failed = tell.clone();
    // The client's own timeouts are for each read, so that a server that sends a byte now and
    // then would hold it for ever. The thread, if it stays behind, ends with the process.
    let started = thread::Builder::new().spawn(move || {
        let _ = tell.send(converse(&server, &questions, timeout));
    });
    if let Err(error) = started {
        let why = format!("cannot start a thread to ask: {error}");
        let _ = failed.send(Err(NoAnswer { why, code: None }));
    }
    told
}

fn answer(told: &Receiver<Answers>, until: Instant, timeout: Duration) -> Answers {
    let left = until.saturating_duration_since(Instant::now());
    told.recv_timeout(left).unwrap_or_else(|_| {
        Err(NoAnswer {
            why: format!("nothing within {} ms", timeout.as_millis()),
            code: None,
        })
    })
}

fn converse(server: &Server, questions: &[Vec<String>], timeout: Duration) -> Answers {
    let mut access = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &server.username {
        access = access.set_username(username);
    }
    if let Some(password) = &server.password {
        access = access.set_password(password);
    }
    let mut connection =
        ConnectionAddr::Tcp(server.address.ip().to_string(), server.address.port())
            .into_connection_info()
            .and_then(|info| Client::open(info.set_redis_settings(access)))
            .and_then(|client| client.get_connection_with_timeout(timeout))
            .map_err(no_answer)?;
    connection
        .set_read_timeout(Some(timeout))
        .and_then(|()| connection.set_write_timeout(Some(timeout)))
        .map_err(no_answer)?;
    let mut answers = Vec::with_capacity(questions.len());
    for words in questions {
        let mut command = redis::Cmd::new();
        command.arg(words);
        match command.query(&mut connection) {
            Err(error) if error.is_io_error() => return Err(no_answer(error)),
            answer => answers.push(answer.map_err(no_answer)),
        }
    }
    Ok(answers)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn no_answer(error: redis::RedisError) -> NoAnswer {
    let why = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) if !error.is_io_error() => {
            format!("{code} {}", detail.trim_end_matches('.'))
        }
        _ => error.to_string(),
    };
    NoAnswer {
        why,
        code: error.code().map(str::to_owned),
    }
}

/// Returns a value as text, if it is one.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the value of a field in a flat list of names and values, as Sentinel describes an
/// instance.
pub fn field(value: &Value, name: &str) -> Option<String> {
    let Value::Array(list) = value else {
        return None;
    };
    list.chunks_exact(2)
        .find(|pair| text(&pair[0]).as_deref() == Some(name))
        .and_then(|pair| text(&pair[1]))
}
