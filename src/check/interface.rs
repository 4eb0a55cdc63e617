//! The interface that a VIP belongs on, as far as it may keep the network from hearing of the VIP.

use std::fs;
use std::net::IpAddr;

use crate::link::Link;
use crate::report::finding::{Findings, Verdict, error_if, warning};
use crate::vip::{Vip, bits};

pub fn judge(link: &Link, vip: &Vip, findings: &mut Findings) {
    let name = &link.name;
    let carrier = match link.mac {
        None if link.carrier => warning(
            "has no neighbours that could be told (loopback, tunnel or no ARP)",
            "Name another `interface`, or have routers told by `on_take_over`.",
        ),
        _ => error_if(
            !link.carrier,
            "is down or not connected: nobody would hear of the VIP",
            &format!("ip link set {name} up, and look at its cable or switch port."),
        ),
    };
    findings.add("carrier", name, carrier);
    findings.add("sysctl", name, sysctls(link, vip));
}

/// Judges the sysctls of the VIP's family. Of `all` and the interface's own the greater counts for IPv4
/// (IN_DEV_MAXCONF in include/linux/inetdevice.h); IPv6 has no such `all`.
fn sysctls(link: &Link, vip: &Vip) -> Verdict {
    let name = &link.name;
    let (family, sysctls, whose) = match vip.address {
        IpAddr::V4(_) => (
            "ipv4",
            ["arp_ignore", "drop_gratuitous_arp"],
            &["all", name][..],
        ),
        IpAddr::V6(_) => (
            "ipv6",
            ["disable_ipv6", "drop_unsolicited_na"],
            &[name.as_str()][..],
        ),
    };
    let value = |sysctl: &str| -> u32 {
        let path = |whose| format!("/proc/sys/net/{family}/conf/{whose}/{sysctl}");
        let values = whose
            .iter()
            .filter_map(|whose| fs::read_to_string(path(whose)).ok()?.trim().parse().ok());
        values.max().unwrap_or_default()
    };
    let is_whole = vip.prefix == bits(vip.address);
    let mut each = sysctls.iter().map(|sysctl| (*sysctl, value(sysctl)));
    let ((sysctl, value), why) = each.find_map(|it| Some((it, harm(it, is_whole)?)))?;
    warning(
        format!("{sysctl} is {value}: {why}"),
        format!("Set {sysctl} of all and of {name} to 0, in /etc/sysctl.d."),
    )
}

/// Returns what a sysctl does at a value that hurts (Documentation/networking/ip-sysctl.rst).
fn harm(sysctl: (&str, u32), is_whole: bool) -> Option<&'static str> {
    match sysctl {
        ("arp_ignore", 8) => Some("this host does not answer when it is asked for the VIP"),
        ("arp_ignore", 2) if is_whole => {
            Some("this host does not answer when it is asked for a VIP without a subnet")
        }
        ("drop_gratuitous_arp" | "drop_unsolicited_na", 1) => {
            Some("this host does not learn that the VIP has moved to another")
        }
        ("disable_ipv6", 1) => Some("an IPv6 VIP cannot be bound"),
        _ => None,
    }
}
