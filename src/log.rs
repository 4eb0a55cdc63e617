//! The log: one line per run to syslog (facility daemon), to stderr where there is no syslog.
//! Neither may hold the run up or end it.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::panic::PanicHookInfo;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::text::{escape, printable};

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is as it should be.
    Info,
    /// It will be tried again.
    Warning,
    /// It will not mend itself.
    Error,
}

/// Where a syslog daemon listens.
const SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// How long a daemon, or a reader of stderr, that does not read may hold a line up.
const PATIENCE_MS: u16 = 200;

/// What a pipe with room takes without blocking (pipe(7), on Linux).
const PIPE_BUF: usize = 4096;

/// Writes one line to syslog, to stderr if that cannot be done. Returns whether syslog has it.
/// Failure of both is no error: the VIP matters more than the line.
pub fn line(level: Level, text: &str) -> bool {
    let logged = to_syslog(level, text);
    if !logged {
        stderr(text);
    }
    logged
}

/// Writes one line to stderr, which may be closed, or full with nobody reading.
pub fn stderr(text: &str) {
    write_stderr(&format!("vipswitch: {}\n", printable(text)));
}

/// Writes lines that hold nothing but what prints to stderr.
pub fn stderr_lines(lines: &[String]) {
    write_stderr(&format!("{}\n", lines.join("\n")));
}

fn write_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    // A pipe that can be written to takes PIPE_BUF bytes at once.
    for piece in text.as_bytes().chunks(PIPE_BUF) {
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let has_room = poll(&mut fds, PATIENCE_MS).is_ok_and(|ready| ready == 1);
        if !has_room || stderr.write_all(piece).is_err() {
            return;
        }
    }
}

/// Writes one line to syslog. Returns whether that could be done.
fn to_syslog(level: Level, text: &str) -> bool {
    let Some(socket) = connect() else {
        return false;
    };
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "vipswitch".into(),
        pid: std::process::id(),
    };
    let text = printable(text);
    let mut logger = Logger::new(LoggerBackend::Unix(socket), formatter);
    let written = match level {
        Level::Info => logger.info(text),
        Level::Warning => logger.warning(text),
        Level::Error => logger.err(text),
    };
    written.is_ok()
}

/// Not by `syslog::unix`, whose socket waits for ever for a daemon that has stopped reading.
fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    let patience = Duration::from_millis(PATIENCE_MS.into());
    socket.set_write_timeout(Some(patience)).ok()?;
    SOCKETS
        .iter()
        .any(|path| socket.connect(path).is_ok())
        .then_some(socket)
}

/// Returns whether syslog takes lines.
pub fn is_reachable() -> bool {
    connect().is_some()
}

/// Makes a panic leave its message in the log and on stderr, then abort: Sentinel retries a
/// death by signal and drops the exit code of an unwinding panic (101).
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let text = describe(panic);
        if line(Level::Error, &text) {
            stderr(&text);
        }
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
