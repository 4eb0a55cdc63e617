//! What the kernel's error numbers mean for a VIP, and whether trying again can help.

use std::io;

use nix::errno::Errno;

use crate::exit::Fault;
use crate::privilege::{self, Capability};

/// Returns the error number in a netlink error, if the kernel sent one.
pub fn number(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(Errno::from_raw(message.raw_code().saturating_abs()))
        }
        _ => None,
    }
}

/// Returns the fault for a netlink request that failed. `tried` is what it was to do.
pub fn netlink(tried: &str, error: &rtnetlink::Error) -> Fault {
    match number(error) {
        Some(errno) => classify(tried, errno, Capability::NetAdmin),
        // The connection to the kernel broke: a lost reply, or a message that made no sense.
        None => Fault::passing(format!("cannot {tried}: {error}")),
    }
}

/// Returns the fault for a packet socket's failure.
pub fn packet(tried: &str, errno: Errno) -> Fault {
    classify(tried, errno, Capability::NetRaw)
}

/// Returns the fault for a socket that could not be opened.
pub fn open(socket: &str, error: &io::Error) -> Fault {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    classify(&format!("open {socket}"), errno, Capability::NetAdmin)
}

/// The one table. An error that is not in it counts as passing, as a call that Sentinel drops
/// loses the VIP for good.
fn classify(tried: &str, errno: Errno, needs: Capability) -> Fault {
    let text = format!("cannot {tried}: {}", errno.desc());
    match errno {
        Errno::EPERM => privilege::missing(tried, needs),
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => privilege::family_blocked(tried),
        // What the kernel says for an IPv6 address on an interface with disable_ipv6 (6.x: EACCES,
        // before: EACCES or EPERM after the capability was checked).
        Errno::EACCES => Fault::permanent(text)
            .remedy("Is IPv6 disabled there? See sysctl net.ipv6.conf.INTERFACE.disable_ipv6."),
        Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT | Errno::EADDRNOTAVAIL => {
            Fault::permanent(text)
        }
        Errno::ENETDOWN => {
            Fault::passing(text).remedy("Bring the interface up: ip link set INTERFACE up")
        }
        _ => Fault::passing(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    #[test]
    fn what_passes_by_itself_is_retried_and_what_does_not_is_not() {
        use Kind::{Passing, Permanent};
        for (errno, kind) in [
            (Errno::ENOBUFS, Passing),
            (Errno::EBUSY, Passing),
            (Errno::EAGAIN, Passing),
            (Errno::EINTR, Passing),
            (Errno::ENETDOWN, Passing),
            (Errno::ENOMEM, Passing),
            // The interface went meanwhile: the next look finds another one or says that there is none.
            (Errno::ENODEV, Passing),
            (Errno::EPERM, Permanent),
            (Errno::EACCES, Permanent),
            (Errno::EINVAL, Permanent),
            (Errno::EAFNOSUPPORT, Permanent),
            (Errno::EOPNOTSUPP, Permanent),
        ] {
            assert_eq!(
                classify("x", errno, Capability::NetAdmin).kind,
                kind,
                "{errno}"
            );
        }
    }
}
