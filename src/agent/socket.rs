//! The agent's socket: takes requests, hands them to the loop, and sends its answers back. Who may ask for what is
//! decided here, by the credentials that the kernel has noted; what is done is the loop's.
//!
//! A uid is seen as it is in the agent's user namespace: Sentinel's user under `PrivateUsers=yes` as itself, and
//! a "root" of an ordinary user's namespace as that user.

mod file;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use self::file::{File, Unlocked};
use super::request::{LONGEST, Reply, Request, Verb, failover};
use super::socket_path::socket_path;
use crate::config::Config;
use crate::exit::Fault;
use crate::report::to_json;
use crate::text::escape;

/// So many are served at the same time: Sentinel runs 16 scripts at once (sentinel.c,
/// SENTINEL_SCRIPT_MAX_RUNNING).
const AT_ONCE: usize = 32;

/// How long another asker waits for its turn.
const TURN: Duration = Duration::from_millis(200);

/// How long an asker may take for its request, or to take its answer.
const PEER: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// The pause after a connection that could not be accepted: too many open files, for example.
const PAUSE: Duration = Duration::from_millis(100);

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What is asked. The arguments of [`Verb::Hook`] are known to make sense.
    pub request: Request,
    /// Takes the answer. If the asker has gone it goes nowhere.
    pub answer: oneshot::Sender<Reply>,
}

/// The socket, which is this agent's until it is dropped.
pub struct Server {
    files: Rc<Files>,
    config: PathBuf,
    /// Why Sentinel's user cannot ask, if it cannot. The agent does its work without.
    pub warning: Option<Fault>,
}

/// The files of the socket, as long as it is served.
pub struct Files {
    file: RefCell<File>,
    /// Rung when the socket is another one.
    anew: Notify,
}

/// What came of a look at the files of the socket.
#[derive(Debug)]
pub enum Look {
    /// They are in place.
    InPlace,
    /// They were not, and are again; and why Sentinel's user cannot ask, if it cannot.
    Anew(Option<Fault>),
    /// They are not, and cannot be made.
    Gone(Fault),
    /// They are another agent's.
    Another(Fault),
}

impl Files {
    fn new(file: File) -> Rc<Files> {
        Rc::new(Files {
            file: RefCell::new(file),
            anew: Notify::new(),
        })
    }

    /// Looks whether they are in place, and makes them anew where something else has removed them. Does not block.
    pub fn look(&self) -> Look {
        let file = &mut *self.file.borrow_mut();
        if file.is_in_place() {
            return Look::InPlace;
        }
        match file.make_anew() {
            Ok(warning) => {
                self.anew.notify_one();
                Look::Anew(warning)
            }
            Err(Unlocked::Another(fault)) => Look::Another(fault),
            Err(Unlocked::Failed(fault)) => Look::Gone(fault),
        }
    }

    fn listener(&self) -> Rc<UnixListener> {
        Rc::clone(&self.file.borrow().listener)
    }
}

impl Server {
    /// Makes the socket, in the place of a former agent's. `config` says which group may connect.
    ///
    /// # Errors
    ///
    /// Another agent at work on this host, with its process's number; those of making a file.
    pub fn open(config: &Config) -> Result<Server, Fault> {
        let group = config.agent.socket_group.as_deref();
        let (file, warning) = File::make(&socket_path()?, group)?;
        Ok(Server {
            files: Files::new(file),
            config: config.path.clone(),
            warning,
        })
    }

    /// Returns the files of the socket, which are to be looked after.
    pub fn files(&self) -> Rc<Files> {
        Rc::clone(&self.files)
    }

    /// Serves until the loop has gone. Runs within a `LocalSet`.
    pub async fn serve(self, to: mpsc::Sender<Asked>) {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let config: Rc<Path> = self.config.as_path().into();
        loop {
            let listener = self.files.listener();
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.files.anew.notified() => continue,
                () = to.closed() => return,
            };
            let Ok((stream, _)) = accepted else {
                sleep(PAUSE).await;
                continue;
            };
            // Further askers wait in the kernel's queue meanwhile.
            match timeout(TURN, Arc::clone(&turns).acquire_owned()).await {
                Ok(Ok(turn)) => {
                    let (to, config) = (to.clone(), Rc::clone(&config));
                    spawn_local(async move {
                        serve_one(stream, &config, &to).await;
                        drop(turn);
                    });
                }
                _ => refuse_at_once(&stream),
            }
        }
    }
}

/// The answer fits the socket's buffer, so this does not block; if the asker is gone it is lost.
fn refuse_at_once(stream: &UnixStream) {
    let reply = Reply::refusing(format!("it serves {AT_ONCE} others already"));
    let _ = stream.try_write(line(&reply).as_bytes());
}

async fn serve_one(mut stream: UnixStream, config: &Path, to: &mpsc::Sender<Asked>) {
    let reply = match timeout(PEER, read(&mut stream)).await {
        Ok(Ok(request)) => match refusal(&request, &stream, config) {
            Some(reply) => reply,
            None => {
                // The asker knows now that somebody is there. One that has gone was told that nobody is: this agent was
                // stopped meanwhile.
                match timeout(PEER, stream.write_all(b" ")).await {
                    Ok(Ok(())) => answer(request, to).await,
                    _ => return,
                }
            }
        },
        Ok(Err(why)) => Reply::refusing(why),
        Err(_) => Reply::refusing(format!("no request came within {} s", PEER.as_secs())),
    };
    let _ = timeout(PEER, stream.write_all(line(&reply).as_bytes())).await;
}

/// Reads the line of a request.
async fn read(stream: &mut UnixStream) -> Result<Request, String> {
    let mut text = Vec::new();
    let limited = stream.take(LONGEST as u64);
    let mut reader = BufReader::new(limited);
    let read = reader.read_until(b'\n', &mut text).await;
    read.map_err(|error| format!("cannot read the request: {error}"))?;
    if text.last() != Some(&b'\n') {
        return Err(format!("the request is no line of at most {LONGEST} bytes"));
    }
    Request::read(&text)
}

/// Returns the answer to what the loop is not to see.
fn refusal(request: &Request, stream: &UnixStream, config: &Path) -> Option<Reply> {
    let own = nix::unistd::geteuid().as_raw();
    let peer = getsockopt(stream, sockopt::PeerCredentials).map(|peer| peer.uid());
    if !peer.is_ok_and(|uid| may_ask(uid, own, &request.verb)) {
        let why = "only root and the agent's own user may ask for this";
        return Some(Reply::refusing(why));
    }
    let is_anybodys = request.verb == Verb::Status && request.config.as_os_str().is_empty();
    if !is_anybodys && !is_same_file(&request.config, config) {
        let [theirs, ours] = [&request.config, config].map(|path| escape(&path.to_string_lossy()));
        return Some(Reply::refusing(format!(
            "its configuration is {ours}, not {theirs}"
        )));
    }
    let Verb::Hook(arguments) = &request.verb else {
        return None;
    };
    failover(arguments)
        .err()
        .map(|fault| Reply::failing(&fault))
}

/// Returns whether this user may ask an agent of the user `own` for that. Others that could connect are of the
/// socket's group: Sentinel's user, whose call is a hint only.
fn may_ask(uid: u32, own: u32, verb: &Verb) -> bool {
    [0, own].contains(&uid) || matches!(verb, Verb::Hook(_) | Verb::Status)
}

/// Compares files, not names: a configuration is often a symlink to the file of a configuration tool.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

/// Has the loop answer.
async fn answer(request: Request, to: &mpsc::Sender<Asked>) -> Reply {
    let asking = async {
        let (answer, answered) = oneshot::channel();
        to.send(Asked { request, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(ANSWER, asking).await {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::refusing("it is about to end"),
        Err(_) => Reply::refusing(format!("it had no answer within {} s", ANSWER.as_secs())),
    }
}

/// An answer that is too long becomes an error, and is not cut: half an object cannot be read.
fn line(reply: &Reply) -> String {
    let text = to_json(reply) + "\n";
    match text.len() <= LONGEST {
        true => text,
        false => {
            to_json(&Reply::refusing(format!(
                "its answer has more than {LONGEST} bytes"
            ))) + "\n"
        }
    }
}

#[cfg(test)]
mod tests;
