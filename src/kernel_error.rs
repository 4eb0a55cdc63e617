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
        Some(Errno::EPERM) => privilege::missing(tried, Capability::NetAdmin),
        Some(errno) => classify(tried, errno),
        // Not the library's own words, which tell each kind of message in full: they are 0.1 MB of the executable.
        None => Fault::passing(format!("cannot {tried}: {}", without_number(error))),
    }
}

fn without_number(error: &rtnetlink::Error) -> &'static str {
    match error {
        rtnetlink::Error::RequestFailed => "the connection to the kernel broke",
        rtnetlink::Error::UnexpectedMessage(_) => "the kernel sent what was not asked for",
        _ => "the kernel's answer makes no sense",
    }
}

/// Returns the fault for something that was tried with a packet socket.
pub fn packet(tried: &str, errno: Errno) -> Fault {
    match errno {
        Errno::EPERM => privilege::missing(tried, Capability::NetRaw),
        Errno::EACCES => privilege::forbidden(tried),
        errno => classify(tried, errno),
    }
}

/// Returns the fault for something that needs no privilege and could not be opened.
pub fn open(what: &str, error: &io::Error) -> Fault {
    let tried = format!("open {what}");
    match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::EPERM | Errno::EACCES => privilege::forbidden(&tried),
        errno => classify(&tried, errno),
    }
}

/// The one table. An error that is not in it counts as passing, as a call that Sentinel drops
/// loses the VIP for good.
fn classify(tried: &str, errno: Errno) -> Fault {
    let text = format!("cannot {tried}: {}", errno.desc());
    match errno {
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => privilege::family_blocked(tried),
        // What addrconf says for an interface with disable_ipv6 (inet6_addr_add in the kernel's
        // net/ipv6/addrconf.c); rtnetlink says EPERM for a missing privilege.
        Errno::EACCES => Fault::permanent(text)
            .remedy("IPv6 is disabled there: see the sysctls net.ipv6.conf.*.disable_ipv6."),
        Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT | Errno::EADDRNOTAVAIL => {
            Fault::permanent(text)
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
            // The interface went meanwhile: the next attempt finds another interface, or says that no interface fits.
            (Errno::ENODEV, Passing),
            (Errno::EACCES, Permanent),
            (Errno::EINVAL, Permanent),
            (Errno::EAFNOSUPPORT, Permanent),
            (Errno::EOPNOTSUPP, Permanent),
        ] {
            assert_eq!(classify("x", errno).kind, kind, "{errno}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let said = |fault: Fault| {
            assert_eq!(fault.kind, Kind::Permanent);
            fault.to_string()
        };
        said(packet("x", Errno::EPERM));
        assert!(said(packet("x", Errno::EACCES)).contains("SELinux"));
        assert!(said(open("x", &io::Error::from_raw_os_error(13))).contains("SELinux"));
        assert!(
            said(open("x", &io::Error::from_raw_os_error(97))).contains("RestrictAddressFamilies")
        );
        assert!(said(classify("x", Errno::EACCES)).contains("disable_ipv6"));
    }
}
