//! The site's own commands, run after a take-over or a release: where gratuitous ARP moves nothing
//! (most clouds) or a router must be told. Argument lists, no shell; nothing of this process's
//! environment. A command runs under a process of its own, so that no run has to wait for it, and stays
//! pending until it has succeeded.

pub mod job;
pub mod memory;
pub mod owed;
mod script;
mod stderr;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::exit::Fault;
use crate::trusted_file;
use stderr::Stderr;

/// Where programs that it starts are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a command is looked at while it runs.
const PAUSE: Duration = Duration::from_millis(2);

/// What to do about a command that failed by itself.
const REMEDY: &str = "The VIP itself is where it should be; `vipswitch check` tells whether Sentinel can run the command.";

/// Runs a command with these variables in its environment, and waits for its end, for `patience` at most.
///
/// # Errors
///
/// All are passing: a program that cannot be started, that fails, or that takes too long and is
/// killed. The end of its stderr is in the text.
async fn run(argv: &[String], variables: &[(&str, &str)], patience: Duration) -> Result<(), Fault> {
    let [program, arguments @ ..] = argv else {
        return Ok(());
    };
    let path = Path::new(program);
    let failed = |why: &str| Fault::passing(format!("the command {program} failed: {why}"));
    trusted_file::check_program(path).map_err(|why| failed(&why).remedy(REMEDY))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/");
    command.envs(variables.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // A group of its own, so that what it starts ends with it.
    command.process_group(0);
    // Sentinel has its scripts ignore these. What this process catches, its children do not
    // ignore (execve(2)).
    let _caught = [SignalKind::hangup(), SignalKind::alarm()].map(signal);
    let mut child = command
        .spawn()
        .map_err(|error| match script::refused(path, &error) {
            Some(trouble) => failed(&trouble.why).remedy(trouble.remedy),
            None => failed(&error.to_string()).remedy(REMEDY),
        })?;
    let mut stderr = Stderr::of(child.stderr.take());
    let status = wait(child, &mut stderr, patience).await;
    let last = stderr.last_lines();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(match script::trouble(path) {
            Some(trouble) => {
                failed(&format!("{status}: {}{last}", trouble.why)).remedy(trouble.remedy)
            }
            None => failed(&format!("{status}{last}")).remedy(REMEDY),
        }),
        None => {
            let seconds = patience.as_secs();
            let why = format!("it took longer than {seconds} s and was killed{last}");
            Err(failed(&why).remedy(REMEDY))
        }
    }
}

/// Waits for a child's end, and reads its stderr. A child that takes too long is killed with all of its
/// group; then this is `None`.
async fn wait(mut child: Child, stderr: &mut Stderr, patience: Duration) -> Option<ExitStatus> {
    let give_up = Instant::now() + patience;
    while Instant::now() < give_up {
        let status = child.try_wait();
        stderr.read();
        if let Ok(Some(status)) = status {
            return Some(status);
        }
        sleep(PAUSE).await;
    }
    // Not waited for: a process that even SIGKILL does not end at once must not hold anything up.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    stderr.read();
    None
}
