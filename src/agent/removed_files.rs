//! The agent's files, which something else may remove while it is at work (`rm -rf /run/vipswitch`): without its socket
//! nobody finds it, without its lock another agent could start, and what it keeps for the next agent is lost.

use std::time::Duration;

use tokio::time::sleep;

use super::journal::say;
use super::socket::{Files, Look};
use super::world::World;
use crate::exit::Fault;
use crate::log::Level;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

const ANEW: &str = "something has removed this agent's socket or its lock: both are made anew, and what it keeps for the \
    next agent";

const REMEDY: &str = "Until then neither Sentinel's calls nor `vipswitch status` reach this agent, which goes on without. \
    `systemctl restart vipswitch-agent` makes the folder and ends maintenance and forced orders; without systemd, make the \
    folder for this agent's user.";

/// Looks whether the files are in place, and makes anew what is not, by what this agent knows; until another agent has
/// begun meanwhile. Returns that one.
pub(super) async fn watch(world: &World, files: &Files) -> Fault {
    // Why they cannot be made, as it was said.
    let mut said = None;
    loop {
        sleep(EVERY).await;
        match files.look() {
            Look::InPlace => {}
            Look::Anew(warning) => {
                world.keep_anew();
                said = None;
                say(Level::Warning, ANEW).await;
                if let Some(warning) = warning {
                    say(Level::Warning, &warning.to_string()).await;
                }
            }
            Look::Gone(fault) => {
                let text = gone(&fault).to_string();
                if said.as_ref() != Some(&text) {
                    say(Level::Error, &text).await;
                    said = Some(text);
                }
            }
            Look::Another(fault) => return fault,
        }
    }
}

/// The fault's own remedy is for an agent that starts.
fn gone(fault: &Fault) -> Fault {
    let text =
        "something has removed this agent's socket or its lock, and they cannot be made anew";
    Fault::passing(format!("{text}: {}", fault.cause())).remedy(REMEDY)
}
