//! What the site was told last about a VIP, kept where a later run finds it. A VIP that is here and of which
//! nothing is kept counts as not told: so a run notes that a take-over begins by removing what is kept.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::owed::Told;
use crate::config::Target;
use crate::runtime_folder::{self, About};

const ABOUT: About = About::SiteCommand;

/// Notes that a VIP is about to be bound. What was told before no longer holds, whatever becomes of this run.
pub fn before_take_over(target: &Target<'_>) {
    if has_commands(target) {
        runtime_folder::remove(ABOUT, target.vip.address);
    }
}

/// Notes that a VIP is about to be released, so that its command runs whatever becomes of this run. Where
/// that cannot be noted only a death of this run can lose the command.
pub fn before_release(target: &Target<'_>) {
    let vip = target.vip.address;
    if target.master.on_release.is_none() {
        // A later take-over must not find that the site was told already.
        return before_take_over(target);
    }
    let before = read(vip).map(|(told, _)| told);
    let before = before.filter(|told| told.master == target.name);
    if before.as_ref().is_some_and(|told| !told.here && !told.done) {
        return;
    }
    let circumstances = before.map(|told| told.circumstances.only_interface());
    let pending = Told {
        master: target.name.to_owned(),
        circumstances: circumstances.unwrap_or_default(),
        ..Told::default()
    };
    let _ = write(vip, &pending);
}

fn has_commands(target: &Target<'_>) -> bool {
    target.master.on_take_over.is_some() || target.master.on_release.is_some()
}

/// Returns what the site was told last about the VIP of a master, if that is known.
///
/// # Errors
///
/// Nothing can be remembered on this host, by this user.
pub fn recall(target: &Target<'_>) -> io::Result<Option<Told>> {
    runtime_folder::get_ready()?;
    let told = read(target.vip.address).map(|(told, _)| told);
    Ok(told.filter(|told| told.master == target.name))
}

/// Returns what is kept of a VIP, and how long ago it was written.
pub fn read(vip: IpAddr) -> Option<(Told, Duration)> {
    let (told, age): (Told, _) = runtime_folder::read(ABOUT, vip)?;
    told.circumstances.are_plain().then_some((told, age))
}

/// Keeps it.
///
/// # Errors
///
/// As [`recall`], and those of writing.
pub(super) fn write(vip: IpAddr, told: &Told) -> io::Result<()> {
    runtime_folder::write(ABOUT, vip, told)
}

/// A command that has not succeeded yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// The configuration's name of it.
    pub command: &'static str,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed, if one has ended.
    pub failed: Option<String>,
    /// Since that was written down; `None` where nothing is known of a try.
    pub seconds_ago: Option<u64>,
}

/// Returns the command that is pending for a VIP that is here, or is not.
pub fn pending(target: &Target<'_>, here: bool) -> Option<Pending> {
    let (command, configured) = match here {
        true => ("on_take_over", &target.master.on_take_over),
        false => ("on_release", &target.master.on_release),
    };
    configured.as_ref()?;
    let kept = read(target.vip.address).filter(|(told, _)| told.master == target.name);
    match kept.filter(|(told, _)| told.here == here) {
        Some((told, _)) if told.done => None,
        Some((told, age)) => Some(Pending {
            command,
            tries: told.tries,
            failed: told.failed,
            seconds_ago: Some(age.as_secs()),
        }),
        // Nobody has told the site that it is here. Without the folder nobody knows.
        None if here && runtime_folder::is_there() => Some(Pending {
            command,
            tries: 0,
            failed: None,
            seconds_ago: None,
        }),
        None => None,
    }
}
