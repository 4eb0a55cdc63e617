//! What a server was shown when it was connected to: passwords and certificates, as the files were then.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exit::Kind;
use crate::redis::{NoAnswer, Server};

/// How long somebody is tried with the same password and certificate who does not accept them. Then the files are read
/// again.
const RENEWED: Duration = Duration::from_secs(3);

/// How a server is asked, by what the files said when they were read.
pub(super) struct Shown {
    server: Server,
    read: Instant,
    /// How often the configuration had been read again by then.
    reloads: Cell<u64>,
    is_refused: Rc<Cell<bool>>,
}

impl Shown {
    pub(super) fn new(server: Server, reloads: u64) -> Shown {
        Shown {
            server,
            read: Instant::now(),
            reloads: Cell::new(reloads),
            is_refused: Rc::default(),
        }
    }

    /// Returns whether it is to be of the same users as `now`.
    pub(super) fn is_of_same_users(&self, now: &Server) -> bool {
        self.server.users == now.users
    }

    /// Returns what notes whether the server accepts it.
    pub(super) fn note(&self) -> impl Fn(Option<&NoAnswer>) + use<> {
        let is_refused = Rc::clone(&self.is_refused);
        move |no| is_refused.set(no.is_some_and(|no| no.kind() == Kind::Permanent))
    }

    fn is_to_be_renewed(&self) -> bool {
        self.is_refused.get() && self.read.elapsed() >= RENEWED
    }

    /// Returns whether the files need not be read again.
    pub(super) fn is_current(&self, reloads: u64) -> bool {
        self.reloads.get() >= reloads && !self.is_to_be_renewed()
    }

    /// Returns whether it is to be asked so still, by what a configuration says that was the last after so many reloads.
    pub(super) fn holds(&self, now: &Server, reloads: u64) -> bool {
        let is_same =
            self.is_current(reloads) || !self.is_to_be_renewed() && self.server.is_asked_like(now);
        self.reloads.set(self.reloads.get().max(reloads));
        is_same
    }
}
