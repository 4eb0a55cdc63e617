//! Each VIP and its interface: where it would be bound, and whether anyone would hear of it
//! there. Looks, changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use pnet_base::MacAddr;

use super::finding::Findings;
use super::{claims, host};
use crate::config::Config;
use crate::exit::Fault;
use crate::frames::PacketSocket;
use crate::kernel::Snapshot;
use crate::kernel::{Address, Netlink};
use crate::link::Link;
use crate::plan::ToIs;
use crate::privilege;
use crate::vip::{Binding, Vip, bits, choose_interface};

/// The checks that need netlink's answers.
pub const CHECKS: [&str; 10] = [
    "interface",
    "subnet",
    "own-address",
    "carrier",
    "neighbours",
    "packet-socket",
    "sysctl",
    "network-manager",
    "claimed",
    "holder",
];

/// The addresses of one master's Redis, as Sentinel tells them.
#[derive(Clone, Debug, Default)]
pub struct Redises {
    /// Where the master is.
    pub master: Vec<IpAddr>,
    /// Where any of them is, the master included.
    pub all: Vec<IpAddr>,
    /// Where each listens.
    pub endpoints: Vec<SocketAddr>,
}

/// One VIP and what the kernel says about it.
pub struct Place<'a> {
    pub(super) master: &'a str,
    pub(super) vip: Vip,
    /// Where it belongs.
    link: Result<Link, Fault>,
    /// Whether the interface is the configured one.
    configured: bool,
    /// The addresses of this host, of its family.
    addresses: Vec<Address>,
    pub(super) bound: Vec<Binding>,
    /// Whether the master's, and any, Redis is on this host; unknown without Sentinel.
    pub(super) master_here: Option<bool>,
    redis_here: Option<bool>,
    /// Where the master is, to know its hardware address.
    pub(super) master_at: Vec<IpAddr>,
}

/// Returns what the kernel says about every configured VIP.
///
/// # Errors
///
/// A netlink fault.
pub async fn look<'a>(
    netlink: &Netlink,
    config: &'a Config,
    redises: &BTreeMap<&str, Redises>,
) -> Result<Vec<Place<'a>>, Fault> {
    let kernel = Snapshot::new(netlink);
    let mut places = Vec::new();
    for (name, master) in &config.masters {
        let known = redises.get(name.as_str());
        let (mut master_here, mut redis_here, mut carries) = (None, None, None);
        if let Some(known) = known {
            master_here = Some(is_here(&kernel, &known.master).await?.is_some());
            let here = is_here(&kernel, &known.all).await?;
            redis_here = Some(here.is_some());
            carries = here.flatten();
        }
        for vip in &master.vips {
            let seen = kernel
                .see_all(vip.address, master.interface.as_deref())
                .await?;
            let link = match choose_interface(vip, &seen, carries) {
                Ok((ifindex, _)) => netlink
                    .link(ifindex)
                    .await?
                    .ok_or_else(|| Fault::passing("the interface has gone meanwhile")),
                Err(fault) => Err(fault),
            };
            places.push(Place {
                master: name,
                vip: *vip,
                link,
                configured: master.interface.is_some(),
                addresses: netlink.addresses(vip.address).await?,
                bound: seen.bound,
                master_here,
                redis_here,
                master_at: known.map(|known| known.master.clone()).unwrap_or_default(),
            });
        }
    }
    Ok(places)
}

/// Returns the interface of the first of these that is this host's, where that has one.
async fn is_here(
    kernel: &Snapshot<'_>,
    addresses: &[IpAddr],
) -> Result<Option<Option<u32>>, Fault> {
    for address in addresses {
        if let ToIs::Here(carrier) = kernel.where_is(&[*address]).await? {
            return Ok(Some(carrier));
        }
    }
    Ok(None)
}

/// Judges all VIPs and their interfaces. Asks the network who claims them.
pub fn judge(places: &[Place], own: &[MacAddr], findings: &mut Findings) {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = host::default_interface(&routes);
    // Once for each interface and family, and for each interface.
    let mut judged: Vec<(u32, Option<bool>)> = Vec::new();
    let mut is_new = |what| {
        let is_new = !judged.contains(&what);
        if is_new {
            judged.push(what);
        }
        is_new
    };
    for place in places {
        let vip = place.vip.to_string();
        if findings.has_error("announced-address", &vip) {
            let why = "its address is a server's own";
            findings.unknown(&["interface", "subnet", "own-address"], &vip, why);
        } else {
            place.judge_interface(&vip, findings);
        }
        let Ok(link) = &place.link else { continue };
        let elsewhere = default.is_some_and(|default| default != link.name);
        if is_new((link.index, Some(place.vip.address.is_ipv4()))) {
            host::judge_sysctls(&place.vip, &link.name, elsewhere, findings);
        }
        if is_new((link.index, None)) {
            judge_link(link, findings);
            judge_socket(link, findings);
            host::judge_managers(&link.name, link.index, findings);
        }
    }
    claims::judge(places, own, findings);
}

fn judge_link(link: &Link, findings: &mut Findings) {
    if link.carrier {
        findings.ok("carrier", &link.name, "is up and connected");
    } else {
        findings.error(
            "carrier",
            &link.name,
            "is down or not connected: nobody would hear of the VIP",
            format!(
                "ip link set {} up, and look at its cable or switch port.",
                link.name
            ),
        );
    }
    if link.mac.is_some() {
        findings.ok(
            "neighbours",
            &link.name,
            "has a hardware address to announce",
        );
    } else {
        findings.warn(
            "neighbours",
            &link.name,
            "has no neighbours that could be told (loopback, tunnel or no ARP)",
            "Name another `interface`, or have routers told by `on_take_over`.",
        );
    }
}

fn judge_socket(link: &Link, findings: &mut Findings) {
    match PacketSocket::sender(link) {
        Ok(_) => findings.ok("packet-socket", &link.name, "can be opened"),
        Err(_) if !privilege::is_there(privilege::Capability::NetRaw) => {
            findings.unknown(&["packet-socket"], &link.name, super::NOT_ROOT);
        }
        Err(fault) => findings.fault("packet-socket", &link.name, &fault),
    }
}

impl Place<'_> {
    /// Returns the interface's name, if there is one.
    pub fn interface(&self) -> Option<&Link> {
        self.link.as_ref().ok()
    }

    fn judge_interface(&self, vip: &str, findings: &mut Findings) {
        let link = match &self.link {
            Ok(link) => link,
            // A Sentinel alone never takes a VIP over.
            Err(_) if self.redis_here == Some(false) => {
                return findings.ok(
                    "interface",
                    vip,
                    "none is needed: no Redis of its master is on this host",
                );
            }
            Err(fault) => return findings.fault("interface", vip, fault),
        };
        findings.ok("interface", vip, format!("belongs on {}", link.name));
        self.judge_subnet(vip, link, findings);
        self.judge_binding(vip, findings);
    }

    fn judge_subnet(&self, vip: &str, link: &Link, findings: &mut Findings) {
        let holds = |one: &&Address| {
            let whole = bits(one.local) == one.subnet.prefix;
            one.ifindex == link.index
                && one.local != self.vip.address
                && !whole
                && one.subnet.holds(self.vip.address)
        };
        let subnet = self
            .addresses
            .iter()
            .filter(holds)
            .map(|one| one.subnet.prefix)
            .max();
        let whole = self.vip.prefix == bits(self.vip.address);
        match subnet {
            Some(prefix) if !whole && prefix != self.vip.prefix => findings.warn(
                "subnet",
                vip,
                format!("the subnet of {} is a /{prefix}: with another prefix length other hosts are looked for in the wrong place", link.name),
                format!("Write {}/{prefix}, or without a prefix length.", self.vip.address),
            ),
            None if self.configured || !whole => findings.warn(
                "subnet",
                vip,
                format!("no subnet of {} holds it: the hosts there will not ask for it", link.name),
                "Correct `vip` or `interface`, or see to it that a router sends it there.",
            ),
            _ => findings.ok("subnet", vip, "fits the interface's"),
        }
    }

    /// An address that something else has bound comes back with every restart of the network.
    fn judge_binding(&self, vip: &str, findings: &mut Findings) {
        let mut foreign = self
            .addresses
            .iter()
            .filter(|one| one.local == self.vip.address && !one.is_ours);
        if foreign.next().is_some() && has_marks() {
            findings.warn(
                "own-address",
                vip,
                "it is bound here and not by vipswitch: what bound it will bind it again after a reboot, wherever the master is",
                "Take it out of the network's configuration; bound by hand, let vipswitch do it: vipswitch unbind, then bind.",
            );
        } else {
            findings.ok("own-address", vip, "nothing else has bound it here");
        }
    }
}

/// Whether the kernel keeps the mark of who added an address (since Linux 5.18).
fn has_marks() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(18))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::finding::Level::Error;
    use super::*;

    /// A place of 10.0.0.9/24 without an interface.
    pub fn place(bound: bool, master_here: Option<bool>) -> Place<'static> {
        let vip = Vip::parse("10.0.0.9/24").unwrap();
        let binding = Binding {
            ifindex: 2,
            prefix: 24,
            peer: vip.address,
            usable: true,
        };
        Place {
            master: "m",
            vip,
            link: Err(Fault::passing("x")),
            configured: false,
            addresses: Vec::new(),
            bound: if bound { vec![binding] } else { Vec::new() },
            master_here,
            redis_here: master_here,
            master_at: Vec::new(),
        }
    }

    #[test]
    fn an_interface_is_needed_only_where_a_redis_is() {
        for (redis_here, wrong) in [
            (Some(false), vec![]),
            (Some(true), vec![("interface", Error)]),
            (None, vec![("interface", Error)]),
        ] {
            let mut findings = Findings::default();
            place(false, redis_here).judge_interface("10.0.0.9/24", &mut findings);
            assert_eq!(findings.wrong(), wrong);
        }
    }
}
