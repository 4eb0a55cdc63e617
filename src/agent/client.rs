//! Asks a living agent, and tells where there is none within a tenth of a millisecond: a hook without an agent has
//! its own first frame to send.

use std::io;
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout_at};

use super::request::{LONGEST, Reply, Request, Telling, Verb};
use super::snapshot::Snapshot;
use super::socket_path::{believe_folder, socket_path};
use crate::abstract_lock::is_trusted;
use crate::report::to_json;
use crate::text::escape;

/// How long an agent may take to show that it is there: to accept, and to have read the request.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// The pause before another try where too many others wait at the socket.
const PAUSE: Duration = Duration::from_millis(20);

/// Why no agent has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// No agent is running on this host.
    NoAgent,
    /// This user may not connect to it.
    NotAllowed,
    /// Somebody may have put another program in its place; why.
    Untrusted(String),
    /// It has shown no sign of life in time.
    Hung,
    /// It has the request, and no answer yet.
    Late,
    /// The connection failed, or the answer made no sense; how.
    Broken(String),
    /// It does not do this; why.
    Refused(String),
}

impl std::fmt::Display for Unserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unserved::NoAgent => f.write_str("no agent is running on this host"),
            Unserved::NotAllowed => f.write_str("this user may not connect to the agent's socket"),
            Unserved::Untrusted(why) => write!(f, "the agent's socket is not believed: {why}"),
            Unserved::Hung => f.write_str("the agent does not answer"),
            Unserved::Late => f.write_str("the agent is still at work on it"),
            Unserved::Broken(why) => write!(f, "asking the agent failed: {why}"),
            Unserved::Refused(why) => write!(f, "the agent refuses: {why}"),
        }
    }
}

impl Unserved {
    /// Returns what to do so that the agent answers next time, if that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Unserved::NoAgent => Some("Start it: systemctl enable --now vipswitch-agent"),
            Unserved::NotAllowed => Some(
                "Name the group of Sentinel's user, socket_group under [agent], and restart the agent.",
            ),
            Unserved::Hung => Some("Look at it: systemctl status vipswitch-agent"),
            Unserved::Untrusted(_)
            | Unserved::Late
            | Unserved::Broken(_)
            | Unserved::Refused(_) => None,
        }
    }

    /// Returns whether the agent that is there may answer another time.
    pub fn may_pass(&self) -> bool {
        match self {
            Unserved::Hung | Unserved::Late | Unserved::Broken(_) | Unserved::Refused(_) => true,
            Unserved::NoAgent | Unserved::NotAllowed | Unserved::Untrusted(_) => false,
        }
    }
}

/// Asks the agent of this host, and waits for its answer until `until`, for a sign of life no longer than
/// [`SIGN_OF_LIFE`].
///
/// # Errors
///
/// See [`Unserved`]. Nothing is retried but a connection for which there is no room in the kernel's queue.
pub async fn ask(request: &Request, until: Instant) -> Result<Reply, Unserved> {
    let path = socket_path().map_err(|fault| Unserved::Broken(fault.to_string()))?;
    ask_at(&path, request, until).await
}

/// Asks the agent what it knows of these masters, of every one if none is named. `config` is the file of the
/// configuration.
///
/// # Errors
///
/// See [`ask`].
pub async fn snapshot(
    masters: &[String],
    config: &Path,
    until: Instant,
) -> Result<Snapshot, Unserved> {
    let request = Request {
        verb: Verb::Status,
        masters: masters.to_vec(),
        config: absolute(config),
        telling: Telling::default(),
    };
    let reply = ask(&request, until).await?;
    serde_json::from_str(&reply.out).map_err(senseless)
}

/// Returns the path of a configuration as an agent compares it: as it is where the working directory is gone, and then
/// it is no file of the agent's.
pub fn absolute(config: &Path) -> PathBuf {
    path::absolute(config).unwrap_or_else(|_| config.to_owned())
}

/// As [`ask`], at this socket.
///
/// # Errors
///
/// See [`ask`].
pub async fn ask_at(path: &Path, request: &Request, until: Instant) -> Result<Reply, Unserved> {
    let alive = until.min(Instant::now() + SIGN_OF_LIFE).into();
    let hung = |_| Unserved::Hung;
    let mut stream = timeout_at(alive, connect(path)).await.map_err(hung)??;
    believe(path, &stream)?;
    let question = to_json(request) + "\n";
    // An agent that refuses at once reads nothing, and its answer is there all the same.
    let _ = timeout_at(alive, stream.write_all(question.as_bytes()))
        .await
        .map_err(hung)?;
    let mut reader = BufReader::new(stream.take(LONGEST as u64 + 1));
    timeout_at(alive, reader.fill_buf())
        .await
        .map_err(hung)?
        .map_err(broken)?;
    let mut text = Vec::new();
    timeout_at(until.into(), reader.read_until(b'\n', &mut text))
        .await
        .map_err(|_| Unserved::Late)?
        .map_err(broken)?;
    if text.last() != Some(&b'\n') {
        return Err(Unserved::Broken("it ended before its answer did".into()));
    }
    let reply: Reply = serde_json::from_slice(&text).map_err(senseless)?;
    match reply.refused {
        Some(why) => Err(Unserved::Refused(escape(&why))),
        None => Ok(reply),
    }
}

fn senseless(error: serde_json::Error) -> Unserved {
    let why = escape(&error.to_string());
    Unserved::Broken(format!("its answer makes no sense: {why}"))
}

fn broken(error: io::Error) -> Unserved {
    Unserved::Broken(error.to_string())
}

async fn connect(path: &Path) -> Result<UnixStream, Unserved> {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied, WouldBlock};
    loop {
        let error = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        match error.kind() {
            // A socket that was left by an agent that was killed.
            NotFound | NotADirectory | ConnectionRefused => return Err(Unserved::NoAgent),
            PermissionDenied => return Err(Unserved::NotAllowed),
            WouldBlock => sleep(PAUSE).await,
            _ => return Err(broken(error)),
        }
    }
}

/// Makes sure that the socket is in a place of root's, and that who answers there is root, this user, the
/// folder's owner, or a process that a service manager has given CAP_NET_ADMIN.
fn believe(path: &Path, stream: &UnixStream) -> Result<(), Unserved> {
    let owner = believe_folder(path).map_err(Unserved::Untrusted)?;
    let peer = getsockopt(stream, sockopt::PeerCredentials)
        .map_err(|errno| Unserved::Broken(errno.to_string()))?;
    // Under PrivateUsers= both are the overflow uid, as the agent's user is not known there: then the folder is
    // all that counts.
    match peer.uid() == owner || is_trusted(stream) {
        true => Ok(()),
        false => Err(Unserved::Untrusted(format!(
            "the user with the number {} answers there",
            peer.uid()
        ))),
    }
}
