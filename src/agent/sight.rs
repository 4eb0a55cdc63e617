//! What is seen of a Redis of this host, and what is wanted of its watcher.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::failover::Endpoint;
use crate::redis::{NoAnswer, State};

/// How long a Redis may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What a Redis was seen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<K> {
    /// Which Redis.
    pub key: K,
    /// What it says, or why it says nothing. [`NoAnswer::is_refused`]: it does not run.
    pub state: Result<State, NoAnswer>,
    /// Why it was asked.
    pub why: Because,
    /// Whether it certainly has ended, even if it has just started again.
    pub is_gone: bool,
}

/// Why a Redis was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It was time.
    Tick,
    /// The agent wanted to know.
    Asked,
    /// It may be promoted at any moment.
    Expected,
    /// The connection was made after it could not be made before, or for the first time.
    Connected,
    /// The connection ended: a promotion, or the end of that Redis.
    Ended,
}

/// What is wanted of a watcher, the newest only.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// How often it was asked for.
    pub(super) asked: u64,
    /// Until when a promotion is expected.
    pub(super) expected: Option<Instant>,
}

/// A command to that Redis.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) done: oneshot::Sender<Result<(), NoAnswer>>,
}

/// Which command.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Pause(Duration),
    Unpause,
    Follow(Endpoint),
    Lead,
}
