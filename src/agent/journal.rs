//! What the agent writes to the log beside what the engine has done: changes of state, none twice.

use crate::log::{self, Level};
use crate::report::{pair, quote};
use crate::text::escape;

/// Writes a sentence.
pub(super) async fn say(level: Level, sentence: &str) {
    log::line(level, &format!("msg={} by=agent", quote(sentence))).await;
}

/// Writes a sentence about a master.
pub(super) async fn say_of(master: &str, level: Level, sentence: &str) {
    let mut line = format!("msg={}", quote(sentence));
    pair(&mut line, "master", &escape(master));
    pair(&mut line, "by", "agent");
    log::line(level, &line).await;
}
