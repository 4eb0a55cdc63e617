//! Asks this host's Sentinel what is true now. Says nothing about what follows from it.

use std::fmt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};

use crate::config::Sentinel;
use crate::exit::{Fault, Kind};
use crate::failover::Host;
use crate::report::escape;

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
///
/// # Errors
///
/// A password file that cannot be used is permanent. Sentinel's silence is none.
pub fn truth(
    sentinel: &Sentinel,
    name: &str,
    to: &Host,
    timeout: Duration,
) -> Result<Truth, Fault> {
    match master_address(sentinel, name, timeout) {
        Ok(None) => Ok(Truth::Unmonitored),
        Ok(Some(MasterAddress { host, .. })) => Ok(match Host::read(&host) {
            Some(host) if host == *to => Truth::Agrees,
            Some(host) => Truth::Says(host),
            None => Truth::Silent(format!("it answers \"{}\"", escape(&host))),
        }),
        Err(fault) if fault.kind == Kind::Passing => Ok(Truth::Silent(fault.cause().to_owned())),
        Err(fault) => Err(fault),
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
    let client = client(sentinel)?;
    let name = name.to_owned();
    let (tell, told) = mpsc::channel();
    // The client's own timeouts are for each read, so that a Sentinel that sends a byte now and
    // then would hold it for ever. The thread, if it stays behind, ends with the process.
    thread::Builder::new()
        .spawn(move || tell.send(ask(&client, &name, timeout)))
        .map_err(|error| {
            Fault::passing(format!("cannot start a thread to ask Sentinel: {error}"))
        })?;
    match told.recv_timeout(timeout) {
        Ok(answer) => {
            answer.map_err(|error| unanswered(sentinel, &error.to_string(), error.code()))
        }
        Err(_) => {
            let late = format!("nothing within {} ms", timeout.as_millis());
            Err(unanswered(sentinel, &late, None))
        }
    }
}

fn ask(client: &Client, name: &str, timeout: Duration) -> RedisResult<Option<MasterAddress>> {
    let mut connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    connection.set_write_timeout(Some(timeout))?;
    let mut command = redis::cmd("SENTINEL");
    let answer: Option<(String, u16)> = command
        .arg("get-master-addr-by-name")
        .arg(name)
        .query(&mut connection)?;
    Ok(answer.map(|(host, port)| MasterAddress { host, port }))
}

fn client(sentinel: &Sentinel) -> Result<Client, Fault> {
    let mut access = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &sentinel.username {
        access = access.set_username(username);
    }
    if let Some(password) = &sentinel.password {
        access = access.set_password(password.read()?);
    }
    let address = sentinel.address;
    ConnectionAddr::Tcp(address.ip().to_string(), address.port())
        .into_connection_info()
        .and_then(|info| Client::open(info.set_redis_settings(access)))
        .map_err(|error| unanswered(sentinel, &error.to_string(), error.code()))
}

fn unanswered(sentinel: &Sentinel, why: &str, code: Option<&str>) -> Fault {
    let lower = why.to_ascii_lowercase();
    let remedy = match code {
        _ if lower.contains("unknown command") => {
            "What listens there is no Sentinel: correct `address` under [sentinel] in the configuration."
        }
        _ if lower.contains("authentication failed") => {
            "It refused the password: correct username and password_file under [sentinel] in the configuration."
        }
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
            "Set username and password_file under [sentinel] in the configuration."
        }
        _ => {
            "Is Sentinel running, and is `address` under [sentinel] in the configuration where it listens?"
        }
    };
    Fault::passing(format!(
        "Sentinel at {} did not answer: {}",
        sentinel.address,
        escape(why)
    ))
    .remedy(remedy)
}
