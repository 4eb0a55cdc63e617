//! Which user's server answers at the address of this host's Sentinel: while Sentinel is stopped, an ordinary user may take
//! its port.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::kernel::{OtherEnd, other_end};

/// The number of the first ordinary user (`UID_MIN` in login.defs(5), one more than systemd's `SYSTEM_UID_MAX`).
const ORDINARY: u32 = 1000;

/// How soon it is looked whether a connection was accepted, and then ever more rarely.
const SOON: Duration = Duration::from_millis(1);
const RARELY: Duration = Duration::from_millis(50);

/// How long a connection may be on its way to who listens there. After that it was led to another network namespace.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// Who Sentinel's user may be; all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    known: Rc<Cell<Known>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// As the configuration says.
    configured: Option<u32>,
    /// As whom Sentinel has answered last.
    before: Option<u32>,
    /// As whom a server runs that was connected to last, and may be Sentinel.
    connected: Option<u32>,
}

impl Owner {
    /// Returns it if anybody is known.
    pub fn if_known(self) -> Option<Owner> {
        self.known().is_some().then_some(self)
    }

    /// Notes as whom Sentinel runs by the configuration, and as whom it has answered before, where that is known.
    pub fn remember(&self, configured: Option<u32>, before: Option<u32>) {
        let known = self.known.get();
        self.known.set(Known {
            configured,
            before: before.or(known.before),
            ..known
        });
    }

    /// Returns as which user Sentinel runs by the configuration, or has answered last, or was remembered to.
    pub fn known(&self) -> Option<u32> {
        let known = self.known.get();
        known.configured.or(known.before)
    }

    /// Returns as which user it has answered last, or was remembered to.
    pub fn answered(&self) -> Option<u32> {
        self.known.get().before
    }

    /// Returns whether Sentinel may run as this user: root, a user of the system, the user of this process, or the one
    /// that is known. As long as none is known, any.
    pub fn may_be(&self, user: u32) -> bool {
        is_trusted(user) || self.known().is_none_or(|known| known == user)
    }

    /// Notes that what was connected to last has answered as Sentinel does. A user of the system takes the place of an
    /// ordinary one, who may have been there by chance; not the other way round.
    pub fn has_answered(&self) {
        let known = self.known.get();
        let news = known.connected.filter(|user| *user < ORDINARY);
        self.known.set(Known {
            before: news.or(known.before).or(known.connected),
            ..known
        });
    }

    pub(super) fn note(&self, connected: Option<u32>) {
        self.known.set(Known {
            connected,
            ..self.known.get()
        });
    }

    /// Makes sure that the server of a connection may be Sentinel, and returns its user. Servers of other hosts, and of other
    /// network namespaces, are accepted: this host's kernel does not tell their users. It waits until the connection is
    /// accepted: by then it is known who does that, whoever may have listened.
    ///
    /// # Errors
    ///
    /// It is another user's; or the kernel does not tell whose it is, and a user is known.
    pub(super) async fn of_tcp(&self, stream: &TcpStream) -> io::Result<Option<u32>> {
        let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
        let (began, mut pause) = (Instant::now(), SOON);
        // Whoever connects to an address of this host does so from that very address, but for a secondary one.
        let is_own = there.ip().is_loopback() || here.ip() == there.ip();
        loop {
            match other_end(here, there).await {
                Ok(OtherEnd::Accepted(user)) => return self.admit(user).map(Some),
                Ok(OtherEnd::NotAccepted) => {}
                Ok(OtherEnd::Listens(user)) if is_own => {
                    self.admit(user)?;
                    if began.elapsed() >= ON_ITS_WAY {
                        return Ok(None);
                    }
                }
                Ok(OtherEnd::Listens(_) | OtherEnd::Elsewhere) => return Ok(None),
                Err(_) if self.known().is_none() => return Ok(None),
                Err(why) => {
                    let text = format!("the kernel does not tell whose server it is: {why}");
                    return Err(io::Error::other(text));
                }
            }
            sleep(pause).await;
            pause = RARELY.min(2 * pause);
        }
    }

    /// The same where it is a Unix socket: of who has begun to listen there.
    pub(super) fn of_unix(&self, stream: &UnixStream) -> io::Result<Option<u32>> {
        self.admit(stream.peer_cred()?.uid()).map(Some)
    }

    fn admit(&self, user: u32) -> io::Result<u32> {
        match (self.may_be(user), self.known()) {
            (false, Some(known)) => Err(io::Error::other(Stranger { user, known })),
            _ => Ok(user),
        }
    }
}

/// Whether servers of this user are trusted, whoever Sentinel's user is: root's, those of a user of the system, and of the
/// user of this process.
pub fn is_trusted(user: u32) -> bool {
    user < ORDINARY || user == nix::unistd::geteuid().as_raw()
}

/// A server of a user who is not Sentinel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    user: u32,
    known: u32,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stranger { user, known } = self;
        write!(
            f,
            "user {user} listens there, and Sentinel ran as user {known}"
        )
    }
}

impl Error for Stranger {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_has_to_be_the_one_that_is_known() {
        let own = nix::unistd::geteuid().as_raw();
        for (configured, before, user, expected) in [
            (None, None, 1234, true),
            (None, Some(102), 1234, own == 1234),
            (None, Some(1234), 1234, true),
            (None, Some(1001), 102, true),
            (None, Some(1001), 0, true),
            (None, Some(102), own, true),
            (Some(1234), Some(102), 1234, true),
            (Some(1234), Some(1235), 1235, own == 1235),
        ] {
            let owner = Owner::default();
            owner.remember(configured, before);
            assert_eq!(owner.may_be(user), expected, "{user}");
        }
    }

    #[test]
    fn who_has_answered_last_is_known_and_an_ordinary_one_only_as_long_as_nobody_is() {
        let owner = Owner::default();
        owner.note(Some(1234));
        assert_eq!(owner.known(), None, "it has not answered");
        owner.has_answered();
        assert_eq!(owner.known(), Some(1234));
        for (connected, expected) in [
            (Some(102), 102),
            (None, 102),
            (Some(1234), 102),
            (Some(0), 0),
        ] {
            owner.note(connected);
            owner.has_answered();
            assert_eq!(owner.known(), Some(expected));
        }
        owner.remember(None, None);
        assert_eq!(owner.known(), Some(0));
    }
}
