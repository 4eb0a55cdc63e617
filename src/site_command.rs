//! The site's own commands, run after a take-over or a release: where gratuitous ARP moves nothing
//! (most clouds) or a router must be told. Argument lists, no shell; nothing of this process's
//! environment.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::config::SiteCommand;
use crate::exit::Fault;
use crate::trusted_file;

/// Where programs that it starts are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a command is looked at while it runs.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a command with these variables in its environment, and waits for its end, for its own time and
/// no longer than `left`.
///
/// # Errors
///
/// All are passing: a program that cannot be started, that fails, or that takes too long and is
/// killed.
pub async fn run(
    of: &SiteCommand,
    variables: &[(&str, String)],
    left: Duration,
) -> Result<(), Fault> {
    let [program, arguments @ ..] = of.argv.as_slice() else {
        return Ok(());
    };
    let failed = |why: String| {
        Fault::passing(format!("the command {program} failed: {why}"))
            .remedy("The VIP itself is where it should be; `vipswitch check` tells whether Sentinel can run the command.")
    };
    let timeout = of.timeout.min(left);
    if timeout.is_zero() {
        return Err(failed("no time was left for it".into()));
    }
    trusted_file::check_program(Path::new(program)).map_err(&failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A group of its own, so that what it starts ends with it.
    command.process_group(0);
    // Sentinel has its scripts ignore these. What this process catches, its children do not
    // ignore (execve(2)).
    let _caught = [SignalKind::hangup(), SignalKind::alarm()].map(signal);
    let child = command.spawn().map_err(|error| failed(error.to_string()))?;
    match wait(child, timeout).await {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(status.to_string())),
        None => Err(failed(format!(
            "it took longer than {} s and was killed",
            timeout.as_secs()
        ))),
    }
}

/// Waits for a child's end. A child that takes too long is killed with all of its group; then this is `None`.
async fn wait(mut child: Child, timeout: Duration) -> Option<ExitStatus> {
    let give_up = Instant::now() + timeout;
    while Instant::now() < give_up {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        sleep(PAUSE).await;
    }
    // Not waited for: a process that even SIGKILL does not end at once must not hold the run up.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    None
}
