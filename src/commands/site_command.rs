//! The process of a command of the site's own: what [`crate::site_command::job::Job::start`] starts. Nobody
//! else calls it.

use std::time::Instant;

use super::level;
use crate::cli::SiteCommand;
use crate::config;
use crate::exit::Exit;
use crate::log;
use crate::once::PATIENCE;
use crate::report::{milliseconds, pair, quote};
use crate::site_command::job::{Ended, Job};
use crate::text::escape;

/// Runs the command that the configuration has for the job, answers the run that wants it, and writes one line to the log.
///
/// # Errors
///
/// A job that this program has not written. What a command fails at, or why it is refused, is in its line.
pub(super) async fn run(of: &SiteCommand, started: Instant) -> anyhow::Result<Exit> {
    let job: Job = serde_json::from_str(&of.job)?;
    // setsid(2) fails for a process-group leader; then there is no session to leave.
    let _ = nix::unistd::setsid();
    let config = config::load(&of.config, &[&job.master], started + PATIENCE).await;
    let config = config.as_ref();
    let found = config.map_err(Clone::clone);
    let found = found.and_then(|config| job.clone().find(config));
    let ended = match &found {
        Ok((job, command)) => job.work(command).await,
        Err(fault) => Ended::not_run(Err(fault.clone())),
    };
    let program = found.as_ref().map_or("", |(_, command)| command.program());
    // The run that started this may not wait for it any more.
    let _ = log::stdout(&ended.answer()).await;
    if ended.has_run || ended.result.is_err() {
        let exit = if ended.result.is_ok() {
            Exit::Done
        } else {
            Exit::Passing
        };
        log::line(level(exit), &line(&job, program, &ended, started)).await;
    }
    Ok(Exit::Done)
}

/// Returns a job's line.
fn line(job: &Job, program: &str, ended: &Ended, started: Instant) -> String {
    let sentence = match &ended.result {
        Ok(()) => format!("ran {program} for {}", job.vip),
        Err(fault) => fault.to_string(),
    };
    let mut line = format!("msg={}", quote(&sentence));
    pair(&mut line, "master", &escape(&job.master));
    pair(&mut line, "vip", &job.vip.to_string());
    pair(&mut line, "command", job.name());
    pair(&mut line, "try", &ended.tries.to_string());
    if let Some(why) = &ended.not_kept {
        pair(&mut line, "not_remembered", why);
    }
    let took = milliseconds(started.elapsed());
    pair(&mut line, "took_ms", &format!("{took:.3}"));
    line
}
