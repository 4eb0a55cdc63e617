//! The elections of one run: one after another, as the Sentinels have one epoch for all masters.

use std::cell::Cell;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::election::look::Vote;
use crate::election::{Request, Terms};
use crate::exit::Fault;

/// What they have in common.
pub(super) struct Elections {
    turn: Semaphore,
    /// Up to which epoch votes were asked for.
    taken: Cell<u64>,
    /// Until when one may begin.
    until: Option<Instant>,
}

/// One of them, and no other at the same time.
pub(super) struct Turn<'a> {
    of: &'a Elections,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Elections {
    /// Returns those of a run that begins none later.
    pub(super) fn until(until: Option<Instant>) -> Elections {
        Elections {
            turn: Semaphore::new(1),
            taken: Cell::new(0),
            until,
        }
    }

    /// Waits for the turn of the next.
    ///
    /// # Errors
    ///
    /// It is too late for one.
    pub(super) async fn next(&self) -> Result<Turn<'_>, Fault> {
        // It is never closed, so that there always is a permit.
        let permit = self.turn.acquire().await.ok();
        match self.until.is_some_and(|until| Instant::now() >= until) {
            // Voters that have voted hold back, and whoever is cut off in the midst helps nobody.
            true => Err(Fault::passing("there is no time left for an election")),
            false => Ok(Turn {
                of: self,
                _permit: permit,
            }),
        }
    }
}

impl Turn<'_> {
    /// Returns the request for votes in epochs that none of the last has taken.
    pub(super) fn request<'a>(&self, request: &Request<'a>) -> Request<'a> {
        let taken = self.of.taken.get();
        let terms = Terms {
            taken,
            ..request.terms.clone()
        };
        Request { terms, ..*request }
    }

    /// Notes the votes that were asked for.
    pub(super) fn note(&self, votes: &[Vote]) {
        let epochs = votes.iter().map(|vote| vote.epoch);
        let taken = &self.of.taken;
        taken.set(epochs.fold(taken.get(), u64::max));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_whose_turn_comes_when_the_time_is_over_is_not_held() {
        let over = Elections::until(Some(Instant::now()));
        let why = over.next().await.err().map(|why| why.to_string());
        assert!(why.is_some_and(|why| why.contains("no time left for an election")));
        let hour = Duration::from_secs(3600);
        for until in [None, Some(Instant::now() + hour)] {
            assert!(Elections::until(until).next().await.is_ok());
        }
    }
}
