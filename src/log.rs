//! What leaves this process as text: the log (one line per run to syslog, facility daemon, or to stderr
//! where there is no syslog), and the lines on stdout and stderr. None of them may hold the run up or end
//! it.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::panic::PanicHookInfo;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syslog::{Facility, Formatter3164, LogFormat as _, Severity};
use tokio::time::{Instant, sleep, timeout};

use crate::text::{escape, printable};

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is as it should be, and something was done or asked for.
    Notice,
    /// It will be tried again.
    Warning,
    /// It will not mend itself.
    Error,
}

/// Where a syslog daemon listens.
const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// How long a daemon, or a reader of stderr, that does not read may hold a line up.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a reader of stdout may make no room at all.
const STDOUT_PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked whether a reader has made room: a file or a terminal cannot be waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// What a pipe with room takes without blocking (pipe(7), on Linux).
const PIPE_BUF: usize = 4096;

/// Writes one line to syslog, to stderr if that cannot be done. Returns whether syslog has it.
/// Failure of both is not an error: the VIP matters more than the line.
pub async fn line(level: Level, text: &str) -> bool {
    let logged = to_syslog(level, text).await;
    if !logged {
        stderr(text).await;
    }
    logged
}

/// Writes one line to stderr, which may be closed, or full with nobody reading.
pub async fn stderr(text: &str) {
    stderr_lines(&[format!("vipswitch: {}", printable(text))]).await;
}

/// Writes lines that hold nothing but what prints to stderr.
pub async fn stderr_lines(lines: &[String]) {
    let text = format!("{}\n", lines.join("\n"));
    // A reader that has gone, or does not read, misses it.
    let _ = write(&mut io::stderr(), text.as_bytes(), PATIENCE).await;
}

/// Shows text on the terminal that stderr is, control sequences and all.
pub async fn terminal(text: &str) {
    let _ = write(&mut io::stderr(), text.as_bytes(), PATIENCE).await;
}

/// Writes text to stdout, and waits for a slow reader (a pager, a slow line), but not for one that has
/// stopped reading: a timer's run must end.
///
/// # Errors
///
/// Those of write(2), and a reader that makes no room for 5 s.
pub async fn stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    write(&mut stdout, text.as_bytes(), STDOUT_PATIENCE).await?;
    stdout.flush()
}

/// Writes all bytes as their reader makes room for them, for at most `patience` where one piece must wait.
async fn write<W: Write + AsFd>(to: &mut W, bytes: &[u8], patience: Duration) -> io::Result<()> {
    // A pipe that can be written to takes PIPE_BUF bytes at once.
    for piece in bytes.chunks(PIPE_BUF) {
        let give_up = Instant::now() + patience;
        while !has_room(to) {
            if Instant::now() > give_up {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(PAUSE).await;
        }
        to.write_all(piece)?;
    }
    Ok(())
}

fn has_room(of: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(of.as_fd(), PollFlags::POLLOUT)];
    // What cannot be polled (a closed descriptor) says why when it is written to.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready == 1)
}

/// Writes one line to syslog. Returns whether that could be done.
async fn to_syslog(level: Level, text: &str) -> bool {
    let Some(socket) = connect() else {
        return false;
    };
    let Ok(socket) = tokio::net::UnixDatagram::from_std(socket) else {
        return false;
    };
    // A daemon that has stopped reading does not hold the run up.
    timeout(PATIENCE, socket.send(&record(level, text)))
        .await
        .is_ok_and(|sent| sent.is_ok())
}

/// Returns a line as syslog takes it.
fn record(level: Level, text: &str) -> Vec<u8> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "vipswitch".into(),
        pid: std::process::id(),
    };
    let severity = match level {
        // Not info, as which systemd tells of each start and end of the timer's runs: the service keeps
        // that out of the journal by its level.
        Level::Notice => Severity::LOG_NOTICE,
        Level::Warning => Severity::LOG_WARNING,
        Level::Error => Severity::LOG_ERR,
    };
    let mut record = Vec::new();
    // Writing to memory does not fail.
    let _ = formatter.format(&mut record, severity, printable(text));
    record
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    SOCKETS
        .iter()
        .any(|path| socket.connect(path).is_ok())
        .then_some(socket)
}

/// Returns whether syslog takes lines.
pub fn is_reachable() -> bool {
    connect().is_some()
}

/// Writes one line to syslog and to stderr where they take it at once: before there is an event loop, and
/// when this process is about to end.
pub fn at_once(level: Level, text: &str) {
    if let Some(socket) = connect() {
        let _ = socket.send(&record(level, text));
    }
    let mut stderr = io::stderr();
    let line = format!("vipswitch: {}\n", printable(text));
    if has_room(&stderr) {
        let _ = stderr.write_all(line.as_bytes());
    }
}

/// Makes a panic leave its message in the log and on stderr, then abort: Sentinel retries a
/// death by signal and drops the exit code of an unwinding panic (101).
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        at_once(Level::Error, &describe(panic));
        std::process::abort();
    }));
}

fn describe(panic: &PanicHookInfo) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let message = escape(message).replace('"', "'");
    format!("msg=\"panic: {message}. This is a bug in vipswitch: please report it.\" at={place}")
}
