//! Who has each VIP, by asking the network, and whether that is who should.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use pnet_base::MacAddr;

use super::finding::Findings;
use super::network::Place;
use crate::frames::{Question, claimants};
use crate::link::Link;

/// How long neighbours may take to answer the probe.
const PROBE: Duration = Duration::from_millis(500);

/// Asks the network who claims each VIP, and judges the answers.
pub fn judge(places: &[Place], own: &[MacAddr], findings: &mut Findings) {
    let silent = |link: &Link| link.mac.is_none() || !link.carrier;
    let mut asked = Vec::new();
    for place in places {
        let vip = place.vip.to_string();
        match place.interface() {
            _ if findings.has_error("announced-address", &vip) => {
                let why = "its address is a server's own";
                findings.unknown(&["claimed", "holder"], &vip, why);
            }
            Some(link) if !silent(link) => asked.push((place, link)),
            _ => findings.unknown(
                &["claimed", "holder"],
                &vip,
                "there is no interface to ask on",
            ),
        }
    }
    let questions: Vec<Question> = asked
        .iter()
        .map(|(place, link)| Question {
            vip: place.vip.address,
            link,
        })
        .collect();
    let arp = fs::read_to_string("/proc/net/arp").unwrap_or_default();
    for ((place, link), answer) in asked.iter().zip(claimants(&questions, own, PROBE)) {
        match answer {
            Ok(macs) => {
                let mut at = place.master_at.iter();
                let expected = at.find_map(|at| neighbour(&arp, *at, &link.name));
                place.judge_claim(&macs, expected, findings);
            }
            // Why, the packet socket's check has told.
            Err(_) => findings.unknown(
                &["claimed", "holder"],
                &place.vip.to_string(),
                "the network could not be asked",
            ),
        }
    }
}

impl Place<'_> {
    /// Judges who answered for the VIP; `expected` is the hardware address of the master's host.
    fn judge_claim(&self, macs: &[MacAddr], expected: Option<MacAddr>, findings: &mut Findings) {
        let vip = self.vip.to_string();
        let bound = !self.bound.is_empty();
        let list = || {
            macs.iter()
                .map(MacAddr::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let remedy = "Find the machine by its hardware address; on a second holder: vipswitch unbind. Anything else must not have this address.";
        if bound && !macs.is_empty() || macs.len() > 1 {
            let here = if bound { "this host and " } else { "" };
            findings.error(
                "claimed",
                &vip,
                format!("it is claimed by {here}{}", list()),
                remedy,
            );
            return findings.unknown(&["holder"], &vip, "it has several");
        }
        if let (Some(expected), [mac]) = (expected, macs)
            && *mac != expected
        {
            let text = format!("it is claimed by {mac}, and the master's host is {expected}");
            findings.warn("claimed", &vip, text, remedy);
            return findings.unknown(
                &["holder"],
                &vip,
                "another than the master's host claims it",
            );
        }
        findings.ok(
            "claimed",
            &vip,
            if bound {
                "by this host alone"
            } else {
                "by one host at most"
            },
        );
        match (self.master_here, bound) {
            (Some(true), false) if macs.is_empty() => findings.warn(
                "holder",
                &vip,
                "the master is on this host and nobody has the VIP",
                format!("vipswitch sync {}", self.master),
            ),
            (Some(false), false) if macs.is_empty() => findings.warn(
                "holder",
                &vip,
                "nobody has it",
                format!("On the master's host: vipswitch sync {}", self.master),
            ),
            (Some(true), false) => findings.warn(
                "holder",
                &vip,
                format!("the master is on this host, and {} has the VIP", list()),
                "There, then here: vipswitch sync.",
            ),
            (Some(false), true) => findings.warn(
                "holder",
                &vip,
                "it is here, and the master is on another host",
                "Here, then there: vipswitch sync.",
            ),
            (None, _) => findings.unknown(
                &["holder"],
                &vip,
                "Sentinel did not tell where the master is",
            ),
            _ => findings.ok("holder", &vip, "the master's host"),
        }
    }
}

/// Returns the hardware address of an IPv4 neighbour on an interface, from the text of
/// /proc/net/arp.
fn neighbour(arp: &str, address: IpAddr, interface: &str) -> Option<MacAddr> {
    arp.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, flags, mac, _, device] = fields.as_slice() else {
            return None;
        };
        let complete = *flags != "0x0" && *device == interface;
        (complete && ip.parse() == Ok(address)).then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Error, Unknown, Warning};
    use super::super::network::tests::place;
    use super::*;

    const A: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const B: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);

    #[test]
    fn who_claims_a_vip_is_weighed_against_who_should() {
        let (here, away) = (Some(true), Some(false));
        let several = vec![("claimed", Error), ("holder", Unknown)];
        let stranger = vec![("claimed", Warning), ("holder", Unknown)];
        let holder = vec![("holder", Warning)];
        for (place, macs, expected, wrong) in [
            (place(true, here), vec![], None, vec![]),
            (place(false, away), vec![A], Some(A), vec![]),
            (place(false, away), vec![A], None, vec![]),
            (place(true, here), vec![A], None, several.clone()),
            (place(false, away), vec![A, B], Some(A), several),
            (place(false, away), vec![B], Some(A), stranger),
            (place(false, here), vec![], None, holder.clone()),
            (place(false, here), vec![A], None, holder.clone()),
            (place(false, away), vec![], Some(A), holder.clone()),
            (place(true, away), vec![], Some(A), holder),
            (place(true, None), vec![], None, vec![("holder", Unknown)]),
            (place(false, None), vec![], None, vec![("holder", Unknown)]),
        ] {
            let mut findings = Findings::default();
            place.judge_claim(&macs, expected, &mut findings);
            assert_eq!(findings.wrong(), wrong, "{macs:?} {:?}", place.master_here);
        }
    }

    #[test]
    fn a_neighbour_counts_on_its_interface_only() {
        let arp = "IP address HW type Flags HW address Mask Device\n\
            10.0.0.1 0x1 0x2 02:00:00:00:00:01 * eth1\n10.0.0.2 0x1 0x0 00:00:00:00:00:00 * eth1\n";
        let asked = |ip: &str, interface| neighbour(arp, ip.parse().unwrap(), interface);
        assert_eq!(asked("10.0.0.1", "eth1"), Some(A));
        assert_eq!(asked("10.0.0.1", "eth0"), None);
        assert_eq!(asked("10.0.0.2", "eth1"), None);
    }
}
