//! Asks Sentinels, this host's or all of them, and Redis what is true now. Says nothing about what
//! follows from it.

pub mod ask;
pub mod majority;

use std::fmt;
use std::time::Duration;

use redis::Value;

use self::ask::{NoAnswer, Server};
use crate::config::{Password, Sentinel};
use crate::exit::Fault;
use crate::failover::Host;
use crate::text::escape;

/// Where Sentinel says that a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterAddress {
    /// Its announced address, or its name under `announce-hostnames yes`.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What Sentinel says now about a call that it may have queued long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The same as the call.
    Agrees,
    /// Another host: the call is stale, or told nothing.
    Says(Host),
    /// It does not monitor this master.
    Unmonitored,
    /// It gave no answer, and why.
    Silent(String),
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Truth::Agrees => f.write_str("agrees"),
            Truth::Says(host) => write!(f, "says {host}"),
            Truth::Unmonitored => f.write_str("does not monitor it"),
            Truth::Silent(why) => write!(f, "is silent: {why}"),
        }
    }
}

/// Returns what Sentinel says about a call that says that the master is on `to`.
pub fn truth(sentinel: &Sentinel, name: &str, to: &Host, timeout: Duration) -> Truth {
    match master_address(sentinel, name, timeout) {
        Ok(None) => Truth::Unmonitored,
        Ok(Some(MasterAddress { host, .. })) => match Host::read(&host) {
            Some(host) if host == *to => Truth::Agrees,
            Some(host) => Truth::Says(host),
            None => Truth::Silent(format!("it answers \"{}\"", escape(&host))),
        },
        // A password file that cannot be used, too: the VIP is not to stay behind for that.
        Err(fault) => Truth::Silent(fault.cause().to_owned()),
    }
}

/// Returns what `SENTINEL get-master-addr-by-name` answers within `timeout`, connecting
/// included; `None` if that Sentinel does not monitor the master. Blocks.
///
/// This is the one question whose answer is already the new master inside the hook, on leader
/// and observers alike.
///
/// # Errors
///
/// A Sentinel that cannot be asked is passing; a password file that cannot be read permanent.
pub fn master_address(
    sentinel: &Sentinel,
    name: &str,
    timeout: Duration,
) -> Result<Option<MasterAddress>, Fault> {
    let question = ["SENTINEL", "get-master-addr-by-name", name].map(String::from);
    let answers = ask_all(sentinel, vec![question.to_vec()], timeout)?;
    match answers.as_slice() {
        [Ok(Value::Nil)] => Ok(None),
        [Ok(value)] => read(value)
            .map(Some)
            .ok_or_else(|| unanswered(sentinel, "it answers something else", None)),
        [Err(no)] => Err(unanswered(sentinel, &no.why, no.code.as_deref())),
        _ => Err(unanswered(sentinel, "too few answers", None)),
    }
}

/// Asks several questions on one connection, within `timeout` in all, and returns what each was
/// answered. Blocks.
///
/// # Errors
///
/// As [`master_address`].
pub fn ask_all(
    sentinel: &Sentinel,
    questions: Vec<Vec<String>>,
    timeout: Duration,
) -> Result<Vec<Result<Value, NoAnswer>>, Fault> {
    ask::ask(&server(sentinel)?, questions, timeout)
        .map_err(|no| unanswered(sentinel, &no.why, no.code.as_deref()))
}

/// Reads the answer to `get-master-addr-by-name`: a list of host and port.
fn read(value: &Value) -> Option<MasterAddress> {
    let Value::Array(list) = value else {
        return None;
    };
    match list.iter().map(ask::text).collect::<Vec<_>>().as_slice() {
        [Some(host), Some(port)] => Some(MasterAddress {
            host: host.clone(),
            port: port.parse().ok()?,
        }),
        _ => None,
    }
}

fn server(sentinel: &Sentinel) -> Result<Server, Fault> {
    Ok(Server {
        address: sentinel.address,
        username: sentinel.username.clone(),
        password: sentinel.password.as_ref().map(Password::read).transpose()?,
    })
}

/// Returns the fault of a Sentinel that has not answered a question, by why it has not.
pub fn unanswered(sentinel: &Sentinel, why: &str, code: Option<&str>) -> Fault {
    let lower = why.to_ascii_lowercase();
    let text = format!(
        "Sentinel at {} did not answer: {}",
        sentinel.address,
        escape(why)
    );
    let remedy = match code {
        _ if lower.contains("unknown command") => {
            "What listens there is no Sentinel: correct `address` under [sentinel] in the configuration."
        }
        _ if lower.contains("authentication failed") => {
            return Fault::permanent(format!("Sentinel at {} refused the password", sentinel.address))
                .remedy("Correct username and password, or password_file, under [sentinel] in the configuration; without a password there, leave them out.");
        }
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
            return Fault::permanent(text)
                .remedy("Set username and password_file under [sentinel] in the configuration.");
        }
        _ => {
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens?"
        }
    };
    Fault::passing(text).remedy(remedy)
}
