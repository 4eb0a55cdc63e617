//! Why the kernel refused: which privilege is missing, and where it is to be had. Privileges are
//! checked by trying; this only explains a refusal, because a capability bit alone proves
//! nothing (it may count in a user namespace only).

mod process;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;

pub use self::process::{Process, is_in_our_user_namespace, lacking};

use crate::exit::Fault;
use crate::failover::Failover;

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
const DROP_IN: &str = "Beside an agent Sentinel needs none: systemctl enable --now vipswitch-agent. Without one give the Sentinel unit CAP_NET_ADMIN and CAP_NET_RAW in AmbientCapabilities= and in CapabilityBoundingSet=.";

/// What gives an operator's command its privileges. It says nothing of Sentinel, which needs none beside an agent.
const AS_ROOT: &str = "Run it as root.";

/// What gives the agent its privileges.
const BY_ITS_UNIT: &str = "Start the agent by its unit, vipswitch-agent.service, which gives it CAP_NET_ADMIN and CAP_NET_RAW.";

/// Returns whether this process has the capability, in its own user namespace.
pub fn is_there(capability: Capability) -> bool {
    has(
        capability,
        "CapEff",
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
    )
}

/// Returns the fault for an operation that the kernel did not permit.
pub fn missing(tried: &str, capability: Capability) -> Fault {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (status, uid_map) = (read("/proc/self/status"), read("/proc/self/uid_map"));
    explain(tried, (capability, remedy(&arguments)), &status, &uid_map)
}

/// Returns how a process that was started with these arguments gets its privileges.
fn remedy(arguments: &[OsString]) -> &'static str {
    if Failover::is_call(arguments) {
        return DROP_IN;
    }
    match arguments.first() {
        Some(verb) if verb == "agent" => BY_ITS_UNIT,
        _ => AS_ROOT,
    }
}

/// As [`missing`], with what to do where the capability is not there at all.
fn explain(
    tried: &str,
    (capability, remedy): (Capability, &str),
    status: &str,
    uid_map: &str,
) -> Fault {
    if !has(capability, "CapEff", status) {
        let text = format!("cannot {tried}: not permitted: {capability} is missing");
        return Fault::permanent(text)
            .remedy(remedy)
            .for_lack_of_privilege();
    }
    if is_initial(uid_map) {
        return forbidden(tried);
    }
    Fault::permanent(format!(
        "cannot {tried}: not permitted: {capability} is there, but only within a user namespace that does not own this network"
    ))
    .remedy("Under systemd set PrivateUsers=no for the Sentinel unit.")
    .for_lack_of_privilege()
}

/// Returns the fault for what something else than a missing capability forbids.
pub fn forbidden(tried: &str) -> Fault {
    Fault::permanent(format!("cannot {tried}: a security module or a seccomp filter forbids it"))
        .remedy("Look for denials of SELinux (ausearch -m avc) or AppArmor (journalctl -k), and at SystemCallFilter= of the Sentinel unit.")
        .for_lack_of_privilege()
}

/// Returns the fault for an address family that this process may not use.
pub fn family_blocked(tried: &str) -> Fault {
    Fault::permanent(format!("cannot {tried}: the address family is blocked for this process"))
        .remedy("Under systemd set RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET for the Sentinel unit.")
        .for_lack_of_privilege()
}

/// Returns whether this /proc/PID/uid_map is of the first user namespace, which maps every id
/// to itself.
fn is_initial(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns whether /proc/PID/status lists the capability in this set of its: `CapEff`, `CapAmb`.
pub fn has(capability: Capability, name: &str, status: &str) -> bool {
    set(name, status).is_some_and(|set| set >> capability as u64 & 1 == 1)
}

/// Returns a set of capabilities in /proc/PID/status, as bits: `CapEff`, `CapAmb`.
pub fn set(name: &str, status: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_there_and_does_not_count_points_to_the_user_namespace() {
        let with = "Name:\tx\nCapEff:\t0000000000003000\n";
        let without = "Name:\tx\nCapEff:\t0000000000001000\n";
        let (first, inner) = ("         0          0 4294967295\n", "0 1000 1\n");
        for (capability, status, uid_map, said) in [
            (Capability::NetRaw, with, inner, "PrivateUsers=no"),
            (Capability::NetRaw, with, first, "SELinux"),
            (Capability::NetRaw, without, inner, "CAP_NET_RAW is missing"),
            (Capability::NetRaw, without, first, "AmbientCapabilities"),
            (Capability::NetAdmin, without, inner, "PrivateUsers=no"),
            (Capability::NetAdmin, "", "", "CAP_NET_ADMIN is missing"),
        ] {
            let fault = explain("x", (capability, DROP_IN), status, uid_map).to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }

    #[test]
    fn who_was_started_how_is_told_where_its_privileges_are_had() {
        let call = ["m", "leader", "start", "10.0.0.1", "1", "10.0.0.2", "1"];
        for (arguments, told) in [
            (call.as_slice(), DROP_IN),
            (&["agent"], BY_ITS_UNIT),
            (&["bind", "agent"], AS_ROOT),
            (&[], AS_ROOT),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(remedy(&arguments), told, "{arguments:?}");
        }
    }
}
