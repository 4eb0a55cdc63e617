//! The tickler's process: what [`crate::deeds::tickle::detach`] starts. Nobody else calls it.

use tokio::time::timeout;

use crate::cli::Tickler;
use crate::deeds::tickle::schedule::LIFE;
use crate::deeds::tickle::{self, GRACE, Job};
use crate::exit::Exit;

/// Looks after the clients of VIPs that are gone, and writes one line to the log at the end of each job.
///
/// # Errors
///
/// A job that [`tickle::detach`] has not written. What a job fails at is in its line.
pub(super) async fn run(of: &Tickler) -> anyhow::Result<Exit> {
    let read = |job: &String| serde_json::from_str(job);
    let jobs: Vec<Job> = of.jobs.iter().map(read).collect::<Result<_, _>>()?;
    // setsid(2) fails for a process-group leader; then there is no session to leave.
    let _ = nix::unistd::setsid();
    // Whatever hangs: it never lives longer.
    let _ = timeout(LIFE + GRACE, tickle::work(&jobs, tickle::log_end)).await;
    Ok(Exit::Done)
}
