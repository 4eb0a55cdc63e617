//! Which user's server answers at the address of this host's Sentinel: while Sentinel is stopped, an ordinary user may take
//! its port.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::kernel::{OtherEnd, is_own_address, listeners, other_end, who_answers};

/// The number of the first ordinary user (`UID_MIN` in login.defs(5), one more than systemd's `SYSTEM_UID_MAX`).
const ORDINARY: u32 = 1000;

/// How soon it is looked whether a connection was accepted, and then ever more rarely.
const SOON: Duration = Duration::from_millis(1);

/// How long a connection may be on its way to who listens there. After that it was led to another network namespace.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// How long a connection may wait to be accepted. A frozen server accepts none, and some proxies only those that send first.
const ACCEPTED: Duration = Duration::from_millis(200);

/// Who Sentinel's user may be; all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    known: Rc<RefCell<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Where Sentinel is.
    at: String,
    /// As whom it runs by the configuration, if that says it.
    configured: Vec<u32>,
    /// As whom it has answered last.
    before: Option<u32>,
    /// As whom a server runs that was connected to last, and may be Sentinel.
    connected: Option<u32>,
}

impl Owner {
    /// Notes where Sentinel is, as whom it runs by the configuration, and as whom it has answered before, where that is
    /// known.
    pub fn remember(&self, at: &str, configured: &[u32], before: Option<u32>) {
        let known = &mut *self.known.borrow_mut();
        if known.at != at {
            *known = Known {
                at: at.to_owned(),
                ..Known::default()
            };
        }
        configured.clone_into(&mut known.configured);
        known.before = before.or(known.before);
    }

    /// Returns whether it is known as whom Sentinel runs.
    pub fn is_known(&self) -> bool {
        let known = self.known.borrow();
        known.before.is_some() || !known.configured.is_empty()
    }

    /// Returns it if that is known.
    pub fn if_known(self) -> Option<Owner> {
        self.is_known().then_some(self)
    }

    /// Returns whether Sentinel is known to run as this user: by the configuration, or, where that says nothing, as it has
    /// answered.
    pub fn is(&self, user: u32) -> bool {
        let known = self.known.borrow();
        match known.configured.as_slice() {
            [] => known.before == Some(user),
            configured => configured.contains(&user),
        }
    }

    /// Returns where Sentinel is, and as which user it has answered last, or was remembered to.
    pub fn answered(&self) -> Option<(String, u32)> {
        let known = self.known.borrow();
        known.before.map(|user| (known.at.clone(), user))
    }

    /// Returns whether Sentinel may run as this user: root, a user of the system, the user of this process, or Sentinel's
    /// known user. While that is not known, any user may be.
    pub fn may_be(&self, user: u32) -> bool {
        is_trusted(user) || self.is(user) || !self.is_known()
    }

    /// Notes that what was connected to last has answered as Sentinel does. A user of the system takes the place of an
    /// ordinary one, who may have been there by chance; not the other way round.
    pub fn has_answered(&self) {
        let known = &mut *self.known.borrow_mut();
        let news = known.connected.filter(|user| *user < ORDINARY);
        known.before = news.or(known.before).or(known.connected);
    }

    pub(super) fn note(&self, connected: Option<u32>) {
        self.known.borrow_mut().connected = connected;
    }

    /// Makes sure that the server of a connection may be Sentinel, and returns its user, if that is known. Servers of other
    /// hosts, and of other network namespaces, are accepted: this host's kernel does not tell their users. Both count, who
    /// listens there and who has accepted the connection: either may be over in a moment.
    ///
    /// # Errors
    ///
    /// It is another user's; or the kernel does not tell whose it is, and a user is known.
    pub(super) async fn of_tcp(&self, stream: &TcpStream) -> io::Result<Option<u32>> {
        let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
        // A connection to this host's own address comes from the same address, or from the primary one of a secondary.
        if here.ip() != there.ip() && !is_own_address(there.ip()) {
            return Ok(None);
        }
        let untold = |why: String| match self.is_known() {
            true => Err(io::Error::other(format!(
                "nobody knows whose server it is: {why}"
            ))),
            false => Ok(None),
        };
        let found = match listeners(&[there.port()]).await {
            Ok(found) => found,
            Err(why) => return untold(why),
        };
        let listens = who_answers(&found, there);
        if let Some(user) = listens {
            self.admit(user)?;
        }
        let (began, mut pause) = (Instant::now(), SOON);
        loop {
            let patience = match other_end(here, there).await {
                Ok(OtherEnd::Accepted(user)) => return self.admit(user).map(Some),
                // The bytes that it sent can still be read, and nobody knows the sender.
                Ok(OtherEnd::Closed) => {
                    return untold("it has closed the connection at once, as one does that has as many as its `maxclients` allows".into());
                }
                // It leads to another network namespace, such as a container's, or was reset. Sentinel does not speak first.
                Ok(OtherEnd::Elsewhere) => {
                    return match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                        _ => untold("it has reset the connection at once".into()),
                    };
                }
                Ok(OtherEnd::NotAccepted) => ACCEPTED,
                Ok(OtherEnd::Listens) => ON_ITS_WAY,
                Err(why) => return untold(why),
            };
            if began.elapsed() >= patience {
                // A reset connection has bytes to read, too.
                return match (listens, stream.peer_addr()) {
                    (Some(_), Ok(_)) => Ok(None),
                    _ => untold("nobody listens there any more".into()),
                };
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// The same where it is a Unix socket: of who has begun to listen there.
    pub(super) fn of_unix(&self, stream: &UnixStream) -> io::Result<Option<u32>> {
        self.admit(stream.peer_cred()?.uid()).map(Some)
    }

    fn admit(&self, user: u32) -> io::Result<u32> {
        if self.may_be(user) {
            return Ok(user);
        }
        let known = self.known.borrow();
        let before = known.before.filter(|_| known.configured.is_empty());
        Err(io::Error::other(Stranger { user, before }))
    }
}

/// Returns whether servers of this user are trusted, also where Sentinel has another one: root, a user of the system, and the
/// user of this process.
pub fn is_trusted(user: u32) -> bool {
    user < ORDINARY || user == nix::unistd::geteuid().as_raw()
}

/// A server of a user who is not Sentinel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    user: u32,
    /// As whom Sentinel has answered, where the configuration does not say as whom it runs.
    before: Option<u32>,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} listens there, and Sentinel ", self.user)?;
        match self.before {
            Some(before) => write!(f, "ran as user {before}"),
            None => f.write_str("is another user's by the configuration"),
        }
    }
}

impl Error for Stranger {}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const AT: &str = "127.0.0.1:26379";

    #[test]
    fn an_ordinary_user_has_to_be_the_one_that_is_known() {
        let own = nix::unistd::geteuid().as_raw();
        for (configured, before, user, expected) in [
            (&[][..], None, 1234, true),
            (&[], Some(102), 1234, own == 1234),
            (&[], Some(1234), 1234, true),
            (&[], Some(1001), 102, true),
            (&[], Some(1001), 0, true),
            (&[], Some(102), own, true),
            (&[1233, 1234], Some(102), 1234, true),
            (&[1234], Some(1235), 1235, own == 1235),
        ] {
            let owner = Owner::default();
            owner.remember(AT, configured, before);
            assert_eq!(owner.may_be(user), expected, "{user}");
        }
    }

    #[test]
    fn who_has_answered_last_is_known_and_an_ordinary_one_only_as_long_as_nobody_is() {
        let owner = Owner::default();
        owner.remember(AT, &[], None);
        owner.note(Some(1234));
        assert!(!owner.is_known(), "it has not answered");
        owner.has_answered();
        assert!(owner.is(1234));
        for (connected, expected) in [
            (Some(102), 102),
            (None, 102),
            (Some(1234), 102),
            (Some(0), 0),
        ] {
            owner.note(connected);
            owner.has_answered();
            assert!(owner.is(expected));
        }
        owner.remember(AT, &[], None);
        assert_eq!(owner.answered(), Some((AT.to_owned(), 0)));
        // Another one.
        owner.remember("127.0.0.1:26380", &[], None);
        assert!(!owner.is_known());
        owner.has_answered();
        assert!(!owner.is_known());
    }

    /// What it has sent before it was gone can be read.
    #[tokio::test(flavor = "current_thread")]
    async fn a_server_that_is_gone_at_once_is_believed_only_as_long_as_nobody_is_known() {
        #[derive(Clone, Copy, PartialEq)]
        enum End {
            Closed,
            Reset,
            Stays,
        }
        for (known, end) in [
            (false, End::Closed),
            (true, End::Closed),
            (true, End::Reset),
            (true, End::Stays),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let stream = TcpStream::connect(at).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            drop(listener);
            accepted.try_write(b"+OK\r\n").unwrap();
            stream.readable().await.unwrap();
            if end == End::Reset {
                let now = Some(Duration::ZERO);
                SockRef::from(&accepted).set_linger(now).unwrap();
            }
            let accepted = Some(accepted).filter(|_| end == End::Stays);
            let owner = Owner::default();
            owner.remember(AT, &[], known.then_some(102));
            let own = nix::unistd::geteuid().as_raw();
            match owner.of_tcp(&stream).await {
                Ok(user) if end == End::Stays => assert_eq!(user, Some(own)),
                Ok(user) => assert!(!known && user.is_none()),
                Err(why) => assert!(known && end != End::Stays, "{why}"),
            }
            drop(accepted);
        }
    }

    #[test]
    fn a_stranger_is_told_of_as_far_as_is_known() {
        let said = |configured: &[u32]| {
            let owner = Owner::default();
            owner.remember(AT, configured, Some(102));
            owner.admit(4_000_000_000).unwrap_err().to_string()
        };
        let who = "user 4000000000 listens there, and Sentinel";
        assert_eq!(said(&[]), format!("{who} ran as user 102"));
        let other = "is another user's by the configuration";
        assert_eq!(said(&[1234]), format!("{who} {other}"));
    }
}
