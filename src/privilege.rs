//! Why the kernel refused: which privilege is missing, and where it is to be had. Privileges are
//! checked by trying; this only explains a refusal, because a capability bit alone proves
//! nothing (it may count in a user namespace only).

use std::fmt;
use std::fs;

use crate::exit::Fault;

/// A capability that moving a VIP needs. The numbers are of include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// To add and remove addresses.
    NetAdmin = 12,
    /// To send ARP and neighbor discovery frames.
    NetRaw = 13,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
        })
    }
}

/// What gives the hook its privileges under systemd.
const DROP_IN: &str = "Run it as root; under systemd give the Sentinel unit \
    AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW (and the same CapabilityBoundingSet=).";

/// Returns the fault for an operation that the kernel did not permit.
pub fn missing(tried: &str, capability: Capability) -> Fault {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    explain(tried, capability, &status)
}

fn explain(tried: &str, capability: Capability, status: &str) -> Fault {
    if has(capability, status) {
        return Fault::permanent(format!(
            "cannot {tried}: not permitted: {capability} is there, but only within a user namespace that does not own this network"
        ))
        .remedy("Under systemd set PrivateUsers=no for the Sentinel unit.");
    }
    Fault::permanent(format!(
        "cannot {tried}: not permitted: {capability} is missing"
    ))
    .remedy(DROP_IN)
}

/// Returns the fault for an address family that this process may not use.
pub fn family_blocked(tried: &str) -> Fault {
    Fault::permanent(format!("cannot {tried}: the address family is blocked for this process"))
        .remedy("Under systemd set RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET for the Sentinel unit.")
}

/// Returns whether /proc/PID/status lists the capability as effective.
fn has(capability: Capability, status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability as u64 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_there_and_does_not_count_points_to_the_user_namespace() {
        let with = "Name:\tx\nCapEff:\t0000000000003000\n";
        let without = "Name:\tx\nCapEff:\t0000000000001000\n";
        assert!(
            explain("x", Capability::NetRaw, with)
                .to_string()
                .contains("PrivateUsers=no")
        );
        let fault = explain("x", Capability::NetRaw, without).to_string();
        assert!(fault.contains("CAP_NET_RAW is missing") && fault.contains("AmbientCapabilities"));
        assert!(
            explain("x", Capability::NetAdmin, without)
                .to_string()
                .contains("PrivateUsers=no")
        );
        assert!(
            explain("x", Capability::NetAdmin, "")
                .to_string()
                .contains("CAP_NET_ADMIN is missing")
        );
    }
}
