//! The announcer's process: what [`crate::deeds::announcer::detach`] starts. Nobody else calls it.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::level;
use crate::cli::Announcer;
use crate::config::{self, Config};
use crate::deeds::announcer::schedule::Schedule;
use crate::deeds::announcer::{self, Ended, Job, LIFE};
use crate::exit::{Exit, Fault};
use crate::log;
use crate::report::{pair, quote};
use crate::text::escape;

/// It needs no master in particular.
const NO_MASTERS: [&str; 0] = [];

/// How long an announcer may take to begin and to end.
const GRACE: Duration = Duration::from_secs(2);

/// Announces, and writes one line to the log at the end of each job.
///
/// # Errors
///
/// A job that [`announcer::detach`] has not written, a VIP that is not in the configuration, and a
/// configuration that cannot be used. What a job fails at is in its line.
pub(super) async fn run(of: &Announcer) -> anyhow::Result<Exit> {
    let read = |job: &String| serde_json::from_str(job);
    let jobs: Vec<Job> = of.jobs.iter().map(read).collect::<Result<_, _>>()?;
    // setsid(2) fails for a process-group leader; then there is no session to leave.
    let _ = nix::unistd::setsid();
    let config = config::load(&of.config, &NO_MASTERS, Instant::now()).await?;
    let jobs = configured(jobs, &config)?;
    // Whatever hangs: it never lives longer.
    let schedule = Schedule::new(LIFE);
    let work = announcer::work(&jobs, &schedule, Some(&config), log_end);
    let _ = timeout(LIFE + GRACE, work).await;
    Ok(Exit::Done)
}

/// Returns the jobs if all are of VIPs of the configuration: a user who may start vipswitch as root could start
/// this process, for any address.
fn configured(jobs: Vec<Job>, config: &Config) -> Result<Vec<Job>, Fault> {
    let is_known = |job: &&Job| config.vips().any(|vip| vip.address == job.vip.address);
    match jobs.iter().find(|job| !is_known(job)) {
        None => Ok(jobs),
        Some(job) => Err(Fault::permanent(format!(
            "cannot announce {}: it is no VIP of the configuration",
            job.vip
        ))),
    }
}

/// Writes a job's line to the log.
async fn log_end(job: &Job, ended: &Ended) {
    let level = level(match ended {
        Ended {
            fault: None,
            summary,
        } if summary.rivals.is_empty() => Exit::Done,
        _ => Exit::Passing,
    });
    log::line(level, &line(job, ended)).await;
}

/// Returns a job's line.
fn line(job: &Job, ended: &Ended) -> String {
    let Job { master, vip, .. } = job;
    let summary = &ended.summary;
    let sentence = format!(
        "announced {vip} until {}, confirmed by {}",
        summary.ended,
        summary.confirmed()
    );
    let rivals = match summary.rivals.as_slice() {
        [] => "none".to_owned(),
        rivals => rivals.join(","),
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(master));
    pair(&mut line, "vip", &vip.to_string());
    pair(&mut line, "frames", &summary.frames.to_string());
    pair(&mut line, "rivals", &rivals);
    line
}
