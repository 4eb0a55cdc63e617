//! What systemd and the agent tell each other, signals, and the privileges that systemd gave it. Without systemd
//! nothing is told.

use std::fs;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use futures_util::{Stream, stream};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Fault;
use crate::privilege::{self, Capability};

/// How many messages wait for systemd at most. A message that finds no place is lost: a systemd that hangs must
/// not hold the agent up.
const WAITING: usize = 16;

/// What gives the agent its privileges, and no more.
const UNIT: &str = "Start it by vipswitch-agent.service, which gives the user vipswitch exactly \
    AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW.";

/// Returns each request to read the configuration again, from now on. Of several that come while nobody looks there is one.
///
/// # Errors
///
/// A signal that cannot be watched for.
pub fn hangups() -> Result<impl Stream<Item = ()> + Unpin, Fault> {
    watch(SignalKind::hangup())
}

/// Returns each request to end, from now on.
///
/// # Errors
///
/// A signal that cannot be watched for.
pub fn ends() -> Result<impl Stream<Item = ()> + Unpin, Fault> {
    let all = [SignalKind::terminate(), SignalKind::interrupt()].map(watch);
    Ok(stream::select_all(
        all.into_iter().collect::<Result<Vec<_>, Fault>>()?,
    ))
}

fn watch(kind: SignalKind) -> Result<impl Stream<Item = ()> + Unpin, Fault> {
    let watched = signal(kind);
    let mut watched =
        watched.map_err(|error| Fault::passing(format!("cannot watch for signals: {error}")))?;
    Ok(stream::poll_fn(move |context| watched.poll_recv(context)))
}

/// Tells systemd that the agent is ready: it has asked the Sentinels once.
pub fn ready() {
    tell("READY=1".into());
}

/// Tells systemd how the agent stands, in one line for `systemctl status`.
pub fn status(text: &str) {
    let line = text.replace(['\n', '\r'], " ");
    tell(format!("STATUS={line}"));
}

/// Tells systemd that the event loop turns.
pub fn alive() {
    tell("WATCHDOG=1".into());
}

/// Tells systemd that the agent is about to end. Waits until systemd has it, as the process ends next.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Returns how long systemd waits for [`alive`] before it kills the agent, if it does (`WatchdogSec=`).
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Hands a message to the thread that tells systemd: a full socket of systemd's blocks.
fn tell(message: String) {
    static TO: OnceLock<Option<SyncSender<String>>> = OnceLock::new();
    let start = || {
        let (to, messages) = sync_channel::<String>(WAITING);
        let pass_on = move || {
            for message in messages {
                let _ = sd_notify::notify(&[NotifyState::Custom(&message)]);
            }
        };
        let thread = thread::Builder::new().name("notify".into()).spawn(pass_on);
        thread.is_ok().then_some(to)
    };
    if let Some(to) = TO.get_or_init(start) {
        let _ = to.try_send(message);
    }
}

/// Returns what the agent may do that it has no need of, as warnings.
pub fn privileges() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    surplus(nix::unistd::geteuid().is_root(), &status)
}

fn surplus(is_root: bool, status: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_root {
        warnings.push(format!(
            "the agent runs as root, and needs a user of its own only. {UNIT}"
        ));
    }
    let needed = [Capability::NetAdmin, Capability::NetRaw];
    let needed = needed.iter().fold(0, |set, one| set | 1 << *one as u64);
    match privilege::set("CapPrm", status).map(|set| set & !needed) {
        None | Some(0) => {}
        Some(more) => warnings.push(format!(
            "the agent has {} more than CAP_NET_ADMIN and CAP_NET_RAW, which capsh --decode={more:016x} names. {UNIT}",
            match more.count_ones() {
                1 => "a capability".to_owned(),
                count => format!("{count} capabilities"),
            }
        )),
    }
    warnings
}

/// Makes sure that the agent may do what it is for.
///
/// # Errors
///
/// A capability that is missing is permanent, and named.
pub fn missing() -> Result<(), Fault> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    lacks(&status)
}

fn lacks(status: &str) -> Result<(), Fault> {
    let lacking = privilege::lacking("CapEff", status);
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(Fault::permanent(format!(
            "the agent cannot move a VIP: {} {} missing",
            lacking.join(" and "),
            if lacking.len() == 1 { "is" } else { "are" }
        ))
        .remedy(UNIT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(permitted: &str) -> String {
        format!("Name:\tx\nCapPrm:\t{permitted}\nCapEff:\t{permitted}\n")
    }

    #[test]
    fn exactly_two_capabilities_are_no_more_and_no_less_than_needed() {
        let both = status("0000000000003000");
        assert_eq!(surplus(false, &both), [""; 0]);
        assert_eq!(lacks(&both), Ok(()));
    }

    #[test]
    fn what_is_given_beyond_the_two_is_said() {
        let said = surplus(false, &status("0000000000203000"));
        assert!(said[0].contains("a capability more"), "{said:?}");
        assert!(said[0].contains("--decode=0000000000200000"), "{said:?}");
        let said = surplus(true, &status("000001ffffffffff"));
        assert!(said[0].contains("runs as root"), "{said:?}");
        assert!(said[1].contains("39 capabilities more"), "{said:?}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        for (permitted, named) in [
            ("0000000000002000", "CAP_NET_ADMIN is missing"),
            ("0000000000001000", "CAP_NET_RAW is missing"),
            (
                "0000000000000000",
                "CAP_NET_ADMIN and CAP_NET_RAW are missing",
            ),
        ] {
            let fault = lacks(&status(permitted)).unwrap_err();
            assert!(fault.cause().contains(named), "{fault}");
            assert!(
                fault.to_string().contains("vipswitch-agent.service"),
                "{fault}"
            );
        }
    }
}
