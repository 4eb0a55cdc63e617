//! Whether the configuration's file says something else than what the agent has read.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::NO_MASTERS;
use crate::config::{self, Config};

/// Which state of a file it is.
type Stamp = (u64, u64, i64, i64);

/// What was found last. A long file is not read again in the midst of a failover, as often as somebody asks.
#[derive(Default)]
pub(super) struct Outdated {
    found: Cell<Option<(Stamp, u64, bool)>>,
}

impl Outdated {
    /// Returns whether the file says something else than this configuration, which is that of the reload with this number.
    /// A broken file changes nothing: `check` tells of it.
    pub(super) fn look(&self, config: &Config, reloads: u64) -> bool {
        let Ok(file) = fs::metadata(&config.path) else {
            return false;
        };
        let stamp = (file.ino(), file.size(), file.ctime(), file.ctime_nsec());
        if let Some((of, at, is_it)) = self.found.get()
            && (of, at) == (stamp, reloads)
        {
            return is_it;
        }
        let is_it = config::read(&config.path, &NO_MASTERS).is_ok_and(|file| file != *config);
        self.found.set(Some((stamp, reloads, is_it)));
        is_it
    }
}
