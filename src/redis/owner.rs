//! Which user's server answers at the address of this host's Sentinel: while Sentinel is stopped, an ordinary user may take
//! its port.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::kernel::{listeners, who_answers};

/// The number of the first ordinary user (`UID_MIN` in login.defs(5), one more than systemd's `SYSTEM_UID_MAX`).
const ORDINARY: u32 = 1000;

/// Who Sentinel's user may be, and which one it was first; all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    before: Rc<Cell<Option<u32>>>,
}

impl Owner {
    /// Notes that Sentinel ran as this user before, if that is known.
    pub fn remember(&self, before: Option<u32>) {
        self.before.set(before.or(self.before.get()));
    }

    /// Returns as which user Sentinel was found running first, or was remembered to.
    pub fn before(&self) -> Option<u32> {
        self.before.get()
    }

    /// Returns whether Sentinel may run as this user: root, a user of the system, the user of this process, or the one
    /// that it had before. As long as none is known, any.
    pub fn may_be(&self, user: u32) -> bool {
        let is_own = user == nix::unistd::geteuid().as_raw();
        user < ORDINARY || is_own || self.before().is_none_or(|known| known == user)
    }

    /// Makes sure that the server of a connection may be Sentinel. Servers of other hosts, and of other network namespaces,
    /// are accepted: this host's kernel does not tell their users.
    ///
    /// # Errors
    ///
    /// It is another user's.
    pub(super) async fn check(&self, stream: &TcpStream) -> io::Result<()> {
        let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
        if !there.ip().is_loopback() && here.ip() != there.ip() {
            return Ok(());
        }
        let found = listeners(&[there.port()]).await.unwrap_or_default();
        let Some(user) = who_answers(&found, there) else {
            return Ok(());
        };
        if !self.may_be(user) {
            let before = self.before().unwrap_or_default();
            return Err(io::Error::other(format!(
                "user {user} listens there, and Sentinel ran as user {before} before"
            )));
        }
        self.remember(self.before().or(Some(user)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_has_to_be_the_one_from_before() {
        let own = nix::unistd::geteuid().as_raw();
        for (remembered, user, expected) in [
            (None, 1234, true),
            (Some(102), 1234, own == 1234),
            (Some(1234), 1234, true),
            (Some(1001), 102, true),
            (Some(1001), 0, true),
            (Some(102), own, true),
        ] {
            let owner = Owner::default();
            owner.remember(remembered);
            assert_eq!(owner.may_be(user), expected, "{user}");
        }
    }
}
