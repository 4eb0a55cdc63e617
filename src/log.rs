//! The log: one line per run to syslog (facility daemon), to stderr where there is no syslog.
//! Neither may hold the run up or end it.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::panic::PanicHookInfo;
use std::time::Duration;

use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::report::{escape, printable};

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

/// How long a daemon that does not read may hold a line up.
const PATIENCE: Duration = Duration::from_millis(200);

/// Writes one line to syslog, to stderr if that cannot be done. Failure of both is no error:
/// the VIP matters more than the line.
pub fn line(level: Level, text: &str) {
    if !to_syslog(level, text) {
        stderr(text);
    }
}

/// Writes one line to stderr, which may be closed or full.
pub fn stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "vipswitch: {}", printable(text));
}

/// Writes one line to syslog. Returns whether that could be done.
pub fn to_syslog(level: Level, text: &str) -> bool {
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
    socket.set_write_timeout(Some(PATIENCE)).ok()?;
    SOCKETS
        .iter()
        .any(|path| socket.connect(path).is_ok())
        .then_some(socket)
}

/// Makes a panic leave its message in the log and on stderr, then abort: Sentinel retries a
/// death by signal and drops the exit code of an unwinding panic (101).
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let text = describe(panic);
        to_syslog(Level::Error, &text);
        stderr(&text);
        std::process::abort();
    }));
}

fn describe(panic: &PanicHookInfo) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!(
        "result=panic error=\"{}\" at={place} This is a bug in vipswitch: please report it.",
        escape(message)
    )
}
