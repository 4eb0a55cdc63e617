//! The tickler's process: what [`crate::deeds::tickle::detach`] starts. Nobody else calls it.

use std::time::Duration;

use tokio::time::timeout;

use super::level;
use crate::cli::Tickler;
use crate::deeds::tickle::schedule::LIFE;
use crate::deeds::tickle::{self, Holder, Job, Told};
use crate::exit::{Exit, Fault};
use crate::log;
use crate::report::{pair, quote};
use crate::text::escape;

/// How long it may take beyond its schedule, with so many clients that a round takes a while.
const GRACE: Duration = Duration::from_secs(60);

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
    let _ = timeout(LIFE + GRACE, tickle::work(&jobs, log_end)).await;
    Ok(Exit::Done)
}

/// Writes a job's line to the log.
async fn log_end(job: &Job, told: &Result<Told, Fault>) {
    let exit = match told {
        Ok(told) if told.holder.is_some() => Exit::Done,
        _ => Exit::Passing,
    };
    log::line(level(exit), &line(job, told)).await;
}

/// Returns a job's line.
fn line(job: &Job, told: &Result<Told, Fault>) -> String {
    let Job { master, vip, .. } = job;
    let sentence = match told {
        Ok(told) => {
            let holder = match told.holder {
                Some(Holder::ThisHost) => "this host has it again".to_owned(),
                Some(Holder::Other(mac)) => format!("{mac} has it now"),
                None => "nobody was heard to take it over".to_owned(),
            };
            let clients = match told.clients {
                1 => "1 client that".to_owned(),
                number => format!("{number} clients that"),
            };
            format!("told {clients} came in just before {vip} went: {holder}")
        }
        Err(fault) => {
            format!("cannot tell the clients that came in just before {vip} went: {fault}")
        }
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(master));
    pair(&mut line, "vip", &vip.to_string());
    if let Ok(told) = told {
        pair(&mut line, "clients", &told.clients.to_string());
        pair(&mut line, "packets", &told.packets.to_string());
    }
    line
}
