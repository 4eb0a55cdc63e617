//! What systemd and signals tell.

use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Fault;

/// A signal that concerns the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Reload,
    /// End.
    Stop,
}

/// Returns the signals from now on.
///
/// # Errors
///
/// A signal that cannot be watched for.
pub fn signals() -> Result<impl Stream<Item = Signal> + Unpin, Fault> {
    let watch = |kind| {
        signal(kind).map_err(|error| Fault::passing(format!("cannot watch for signals: {error}")))
    };
    let all = [
        (watch(SignalKind::hangup())?, Signal::Reload),
        (watch(SignalKind::terminate())?, Signal::Stop),
        (watch(SignalKind::interrupt())?, Signal::Stop),
    ];
    let each = all.map(|(mut signal, means)| {
        Box::pin(stream::poll_fn(move |context| {
            signal.poll_recv(context).map(|came| came.map(|()| means))
        }))
    });
    Ok(stream::select_all(each))
}

/// x
pub fn privileges() -> Vec<String> {
    Vec::new()
}
/// x
pub fn missing() -> Result<(), Fault> {
    Ok(())
}
/// x
pub fn ready() {}
/// x
pub fn status(_text: &str) {}
/// x
pub fn alive() {}
/// x
pub fn stopping() {}
/// x
pub fn watchdog_every() -> Option<Duration> {
    None
}
