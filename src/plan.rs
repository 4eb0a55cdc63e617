//! The decision: what was asked and what the kernel says, to what is to be done. Pure, and the
//! only place that decides; the hook and every operator command go through it.

use std::net::{IpAddr, Ipv4Addr};

use crate::exit::Fault;
use crate::vip::{Binding, Candidates, Chosen, Vip, choose_interface};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Sentinel's call: the master is now at TO.
    Follow(ToIs),
    /// Sentinel's call with FROM equal to TO, which tells nothing.
    NoNews,
    /// An operator wants the VIP here, whatever Sentinel says.
    Bind,
    /// An operator wants the VIP gone from here.
    Unbind,
    /// An operator wants the network told again of what is here.
    Announce,
}

/// Where TO is, seen from this host. Never judged by role or by comparing text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToIs {
    /// An address of this host. The interface that carries it, unless that is the loopback.
    Here(Option<u32>),
    /// No address of this host.
    Elsewhere,
}

/// Where a VIP is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The interface that it belongs on.
    pub ifindex: u32,
    /// Why that one.
    pub chosen: Chosen,
    /// The prefix length with which it is there already, adopted as it is.
    pub adopt: Option<u8>,
}

/// What is to be done about one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have it there and announce it, then remove it from where it does not belong.
    TakeOver(Goal),
    /// Announce it where it is.
    Announce(Vec<Binding>),
    /// Remove these bindings.
    Release(Vec<Binding>),
    /// Leave this host as it is.
    Nothing,
}

/// Returns what to do about one VIP, given what the kernel says about it. The whole policy:
///
/// | call | VIP bound here | VIP not bound here |
/// |---|---|---|
/// | TO is here, or `bind` | take over (announce again) | take over |
/// | TO is elsewhere, or `unbind` | release | nothing |
/// | `announce` | announce | nothing |
/// | no news | nothing | nothing |
///
/// # Errors
///
/// A VIP that has to be bound but belongs on no interface is a permanent fault.
pub fn decide(call: Call, vip: &Vip, seen: &Candidates) -> Result<Action, Fault> {
    let bound = seen.bound.clone();
    Ok(match call {
        Call::Follow(ToIs::Here(carries_to)) => take_over(vip, seen, carries_to)?,
        Call::Bind => take_over(vip, seen, None)?,
        _ if bound.is_empty() => Action::Nothing,
        Call::Follow(ToIs::Elsewhere) | Call::Unbind => Action::Release(bound),
        Call::Announce => Action::Announce(bound),
        Call::NoNews => Action::Nothing,
    })
}

fn take_over(vip: &Vip, seen: &Candidates, carries_to: Option<u32>) -> Result<Action, Fault> {
    let (ifindex, chosen) = choose_interface(vip, seen, carries_to)?;
    let there = seen
        .bound
        .iter()
        .find(|binding| binding.ifindex == ifindex && binding.usable);
    Ok(Action::TakeOver(Goal {
        ifindex,
        chosen,
        adopt: there.map(|binding| binding.prefix),
    }))
}

/// What to do where an address is a VIP and a server's own.
pub const NO_VIP: &str = "Either `vip` is mistyped in the configuration, or Redis announces the VIP as its own: set replica-announce-ip and sentinel announce-ip to the host's own address, and monitor that address in sentinel.conf.";

/// Returns why `to` cannot be where a master is reached, if it cannot. `own_name` is whether the
/// call named this very host: it may know its own name by a loopback address (Debian writes
/// 127.0.1.1 into /etc/hosts), which then says truly that TO is here.
pub fn refuse_to<'a>(
    to: IpAddr,
    own_name: bool,
    mut vips: impl Iterator<Item = &'a Vip>,
) -> Option<Fault> {
    if vips.any(|vip| vip.address == to) {
        return Some(
            Fault::permanent(format!(
                "TO-IP {to} is itself a configured VIP, so that nobody can tell which host it is on"
            ))
            .remedy(NO_VIP),
        );
    }
    let broadcast = to == IpAddr::V4(Ipv4Addr::BROADCAST);
    if to.is_loopback() && !own_name || to.is_unspecified() || to.is_multicast() || broadcast {
        return Some(Fault::permanent(format!(
            "TO-IP {to} is the same on every host, so that each would think the master is here, or none"
        ))
        .remedy("Monitor the master in sentinel.conf by an address that the other hosts reach."));
    }
    None
}

/// Returns whether a name in Sentinel's call is this host's own, `own`: both may be with or
/// without their domain.
pub fn is_own_name(name: &str, own: &str) -> bool {
    let short = |name: &str| {
        name.split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let (name, own) = (name.trim_end_matches('.'), own.trim_end_matches('.'));
    let both_full = name.contains('.') && own.contains('.');
    let same = if both_full {
        name.eq_ignore_ascii_case(own)
    } else {
        short(name) == short(own)
    };
    same && !own.is_empty() && short(own) != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    const HERE: Call = Call::Follow(ToIs::Here(Some(3)));
    const AWAY: Call = Call::Follow(ToIs::Elsewhere);
    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 250));
    const ON_2: Binding = Binding {
        ifindex: 2,
        prefix: 24,
        peer: PEER,
        usable: true,
    };
    const ON_9: Binding = Binding {
        ifindex: 9,
        prefix: 32,
        peer: PEER,
        usable: true,
    };
    const DAD_FAILED: Binding = Binding {
        ifindex: 2,
        prefix: 24,
        peer: PEER,
        usable: false,
    };

    fn take_over(ifindex: u32, chosen: Chosen, adopt: Option<u8>) -> Option<Action> {
        Some(Action::TakeOver(Goal {
            ifindex,
            chosen,
            adopt,
        }))
    }

    /// call, bound where, configured interface, interface by subnet -> action; `None` is a
    /// permanent fault.
    #[test]
    fn the_policy() {
        use Chosen::{BoundThere, CarriesTo, Configured, Subnet};
        let eth2 = Some(("eth2", Some(2)));
        let gone = Some(("eth7", None));
        let table = [
            (HERE, &[][..], None, Some(2), take_over(2, Subnet, None)),
            (HERE, &[ON_2], None, Some(2), take_over(2, Subnet, Some(24))),
            (HERE, &[ON_9], None, Some(2), take_over(2, Subnet, None)),
            (HERE, &[ON_9], None, Some(9), take_over(9, Subnet, Some(32))),
            (
                HERE,
                &[ON_2, ON_9],
                None,
                Some(2),
                take_over(2, Subnet, Some(24)),
            ),
            (
                HERE,
                &[DAD_FAILED],
                None,
                Some(2),
                take_over(2, Subnet, None),
            ),
            (HERE, &[], None, None, take_over(3, CarriesTo, None)),
            (HERE, &[ON_9], None, None, take_over(3, CarriesTo, None)),
            (HERE, &[], eth2, Some(9), take_over(2, Configured, None)),
            (HERE, &[ON_9], eth2, Some(9), take_over(2, Configured, None)),
            (HERE, &[], gone, Some(9), None),
            (HERE, &[ON_9], gone, Some(9), None),
            (Call::Follow(ToIs::Here(None)), &[], None, None, None),
            (AWAY, &[], None, Some(2), Some(Action::Nothing)),
            (
                AWAY,
                &[ON_2],
                None,
                Some(2),
                Some(Action::Release(vec![ON_2])),
            ),
            (
                AWAY,
                &[ON_2, ON_9],
                None,
                None,
                Some(Action::Release(vec![ON_2, ON_9])),
            ),
            (
                AWAY,
                &[DAD_FAILED],
                None,
                None,
                Some(Action::Release(vec![DAD_FAILED])),
            ),
            (AWAY, &[ON_9], gone, None, Some(Action::Release(vec![ON_9]))),
            (Call::NoNews, &[], None, Some(2), Some(Action::Nothing)),
            (Call::NoNews, &[ON_2], None, Some(2), Some(Action::Nothing)),
            (Call::Bind, &[], None, Some(2), take_over(2, Subnet, None)),
            (Call::Bind, &[], eth2, None, take_over(2, Configured, None)),
            (
                Call::Bind,
                &[ON_9],
                None,
                None,
                take_over(9, BoundThere, Some(32)),
            ),
            (Call::Bind, &[], None, None, None),
            (Call::Unbind, &[], None, Some(2), Some(Action::Nothing)),
            (
                Call::Unbind,
                &[ON_9],
                gone,
                None,
                Some(Action::Release(vec![ON_9])),
            ),
            (Call::Announce, &[], None, Some(2), Some(Action::Nothing)),
            (
                Call::Announce,
                &[ON_9],
                gone,
                None,
                Some(Action::Announce(vec![ON_9])),
            ),
        ];
        let vip = Vip::parse("10.0.0.250/24").unwrap();
        for (call, bound, configured, subnet, action) in table {
            let seen = Candidates {
                configured,
                subnets: subnet.into_iter().collect(),
                bound: bound.to_vec(),
            };
            let decided = decide(call, &vip, &seen);
            let row = format!("{call:?} {seen:?}: {decided:?}");
            match action {
                Some(action) => assert_eq!(decided.as_ref(), Ok(&action), "{row}"),
                None => assert_eq!(decided.as_ref().unwrap_err().kind, Kind::Permanent, "{row}"),
            }
        }
    }

    #[test]
    fn a_vip_or_an_address_that_every_host_has_is_no_place_for_a_master() {
        let vips = [Vip::parse("10.0.0.250/24").unwrap()];
        let refuse = |to: &str| refuse_to(to.parse().unwrap(), false, vips.iter());
        assert!(
            refuse("10.0.0.250")
                .unwrap()
                .to_string()
                .contains("is itself a configured VIP")
        );
        for to in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(
                refuse(to)
                    .unwrap()
                    .to_string()
                    .contains("same on every host"),
                "{to}"
            );
        }
        assert_eq!(refuse("10.0.0.25"), None);
        assert_eq!(
            refuse_to("127.0.1.1".parse().unwrap(), true, vips.iter()),
            None
        );
    }

    #[test]
    fn a_name_is_this_hosts_own_with_or_without_its_domain() {
        for (name, own, is) in [
            ("server1", "server1", true),
            ("SERVER1.example.com.", "server1", true),
            ("server1", "server1.example.com", true),
            ("server1.example.com", "Server1.Example.Com", true),
            ("server1.example.org", "server1.example.com", false),
            ("server2", "server1", false),
            ("server", "server1", false),
            ("localhost", "localhost", false),
            ("LOCALHOST", "server1", false),
            ("ip6-localhost", "server1", false),
            ("", "", false),
        ] {
            assert_eq!(is_own_name(name, own), is, "{name} {own}");
        }
    }
}
