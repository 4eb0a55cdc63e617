//! Asks this host's Sentinel what is true now. Says nothing about what follows from it.

use std::fmt;
use std::time::{Duration, Instant};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError};

use crate::config::Sentinel;
use crate::exit::Fault;
use crate::report::escape;
use crate::trusted;

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
    let deadline = Instant::now() + timeout;
    let client = client(sentinel)?;
    let ask = || {
        let mut connection = client.get_connection_with_timeout(timeout)?;
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        connection.set_read_timeout(Some(left))?;
        connection.set_write_timeout(Some(left))?;
        redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query(&mut connection)
    };
    let answer: Option<(String, u16)> = ask().map_err(|error| unanswered(sentinel, &error))?;
    Ok(answer.map(|(host, port)| MasterAddress { host, port }))
}

fn client(sentinel: &Sentinel) -> Result<Client, Fault> {
    let mut access = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &sentinel.username {
        access = access.set_username(username);
    }
    if let Some(file) = &sentinel.password_file {
        let text = trusted::read(file, "the password file")?;
        access = access.set_password(text.lines().next().unwrap_or_default());
    }
    let address = sentinel.address;
    ConnectionAddr::Tcp(address.ip().to_string(), address.port())
        .into_connection_info()
        .and_then(|info| Client::open(info.set_redis_settings(access)))
        .map_err(|error| unanswered(sentinel, &error))
}

fn unanswered(sentinel: &Sentinel, error: &RedisError) -> Fault {
    let remedy = match error.code() {
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
        escape(&error.to_string())
    ))
    .remedy(remedy)
}
