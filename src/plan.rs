//! The decision: what was asked and what the kernel says, to what is to be done. Pure, and the
//! only place that decides; the hook and every operator command go through it.

use std::net::IpAddr;

use crate::exit::Fault;
use crate::failover::Host;
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

/// A VIP, and what the kernel says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The VIP as configured.
    pub vip: Vip,
    /// Where on this host it is bound.
    pub bound: Vec<Binding>,
    /// The interface that the configuration names, and its number if there is such a one.
    pub configured: Option<(&'a str, Option<u32>)>,
    /// The interface whose subnet holds the VIP.
    pub subnet: Option<u32>,
}

/// What is to be done about one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bind it on this interface and announce it, then remove it from where it does not belong.
    TakeOver {
        /// The interface that it belongs on.
        ifindex: u32,
        /// Why that one.
        chosen: Chosen,
        /// Bindings on other interfaces.
        stray: Vec<Binding>,
    },
    /// Announce it where it is.
    Announce(Vec<Binding>),
    /// Remove these bindings.
    Release(Vec<Binding>),
    /// Leave this host as it is.
    Nothing,
}

/// Returns what to do about one VIP. The whole policy:
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
pub fn decide(call: Call, seen: &Seen) -> Result<Action, Fault> {
    let bound = || seen.bound.clone();
    Ok(match call {
        Call::Follow(ToIs::Here(carries_to)) => take_over(seen, carries_to)?,
        Call::Bind => take_over(seen, None)?,
        Call::Follow(ToIs::Elsewhere) | Call::Unbind if !seen.bound.is_empty() => {
            Action::Release(bound())
        }
        Call::Announce if !seen.bound.is_empty() => Action::Announce(bound()),
        Call::Follow(ToIs::Elsewhere) | Call::Unbind | Call::Announce | Call::NoNews => {
            Action::Nothing
        }
    })
}

fn take_over(seen: &Seen, carries_to: Option<u32>) -> Result<Action, Fault> {
    let candidates = Candidates {
        configured: seen.configured,
        subnet: seen.subnet,
        carries_to,
    };
    let (ifindex, chosen) = match (choose_interface(&seen.vip, candidates), seen.bound.first()) {
        (Ok(choice), _) => choice,
        // Bound by hand where nothing speaks for or against it: moving it needs a reason.
        (Err(_), Some(binding)) if seen.configured.is_none() => {
            (binding.ifindex, Chosen::BoundThere)
        }
        (Err(fault), _) => return Err(fault),
    };
    let stray = seen
        .bound
        .iter()
        .filter(|binding| binding.ifindex != ifindex)
        .copied()
        .collect();
    Ok(Action::TakeOver {
        ifindex,
        chosen,
        stray,
    })
}

/// Returns why `to` cannot be where a master is reached, if it cannot.
///
/// `host` is what the call named: a host may know its own *name* by a loopback address (Debian
/// writes 127.0.1.1 into /etc/hosts), which then says truly that it is here.
pub fn refuse_to<'a>(
    to: IpAddr,
    host: &Host,
    mut vips: impl Iterator<Item = &'a Vip>,
) -> Option<Fault> {
    let own_name = matches!(host, Host::Name(name) if !name.starts_with("localhost"));
    if vips.any(|vip| vip.address == to) {
        return Some(Fault::permanent(format!(
            "TO-IP {to} is itself a configured VIP: Redis announces the VIP as its own address, so that nobody can tell which host it is on"
        ))
        .remedy("Set replica-announce-ip (and sentinel announce-ip) to the host's own address, and monitor that address in sentinel.conf."));
    }
    if to.is_loopback() && !own_name || to.is_unspecified() || to.is_multicast() {
        return Some(
            Fault::permanent(format!(
                "TO-IP {to} is the same on every host, so that each would think the master is here"
            ))
            .remedy(
                "Monitor the master in sentinel.conf by an address that the other hosts reach.",
            ),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    const HERE: Call = Call::Follow(ToIs::Here(Some(3)));
    const AWAY: Call = Call::Follow(ToIs::Elsewhere);
    const ON_2: Binding = Binding {
        ifindex: 2,
        prefix: 24,
    };
    const ON_9: Binding = Binding {
        ifindex: 9,
        prefix: 32,
    };

    fn seen(
        bound: &[Binding],
        configured: Option<(&'static str, Option<u32>)>,
        subnet: Option<u32>,
    ) -> Seen<'static> {
        Seen {
            vip: Vip::parse("10.0.0.250/24").unwrap(),
            bound: bound.to_vec(),
            configured,
            subnet,
        }
    }

    fn take_over(ifindex: u32, chosen: Chosen, stray: &[Binding]) -> Option<Action> {
        Some(Action::TakeOver {
            ifindex,
            chosen,
            stray: stray.to_vec(),
        })
    }

    /// call, bound where, configured interface, interface by subnet -> action; `None` is a
    /// permanent fault.
    #[test]
    fn the_policy() {
        use Chosen::{BoundThere, CarriesTo, Configured, Subnet};
        let eth2 = Some(("eth2", Some(2)));
        let gone = Some(("eth7", None));
        let table = [
            (HERE, &[][..], None, Some(2), take_over(2, Subnet, &[])),
            (HERE, &[ON_2], None, Some(2), take_over(2, Subnet, &[])),
            (HERE, &[ON_9], None, Some(2), take_over(2, Subnet, &[ON_9])),
            (
                HERE,
                &[ON_2, ON_9],
                None,
                Some(2),
                take_over(2, Subnet, &[ON_9]),
            ),
            (HERE, &[], None, None, take_over(3, CarriesTo, &[])),
            (HERE, &[ON_9], None, None, take_over(3, CarriesTo, &[ON_9])),
            (HERE, &[], eth2, Some(9), take_over(2, Configured, &[])),
            (
                HERE,
                &[ON_9],
                eth2,
                Some(9),
                take_over(2, Configured, &[ON_9]),
            ),
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
            (AWAY, &[ON_9], gone, None, Some(Action::Release(vec![ON_9]))),
            (Call::NoNews, &[], None, Some(2), Some(Action::Nothing)),
            (Call::NoNews, &[ON_2], None, Some(2), Some(Action::Nothing)),
            (Call::Bind, &[], None, Some(2), take_over(2, Subnet, &[])),
            (Call::Bind, &[], eth2, None, take_over(2, Configured, &[])),
            (
                Call::Bind,
                &[ON_9],
                None,
                None,
                take_over(9, BoundThere, &[]),
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
        for (call, bound, configured, subnet, action) in table {
            let decided = decide(call, &seen(bound, configured, subnet));
            let row = format!("{call:?} {bound:?} {configured:?} {subnet:?}: {decided:?}");
            match action {
                Some(action) => assert_eq!(decided.as_ref(), Ok(&action), "{row}"),
                None => assert_eq!(decided.as_ref().unwrap_err().kind, Kind::Permanent, "{row}"),
            }
        }
    }

    #[test]
    fn a_vip_or_an_address_that_every_host_has_is_no_place_for_a_master() {
        let vips = [Vip::parse("10.0.0.250/24").unwrap()];
        let refuse = |to: &str| {
            let to = to.parse().unwrap();
            refuse_to(to, &Host::Address(to), vips.iter())
        };
        assert!(
            refuse("10.0.0.250")
                .unwrap()
                .to_string()
                .contains("announces the VIP as its own address")
        );
        for to in ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"] {
            assert!(
                refuse(to)
                    .unwrap()
                    .to_string()
                    .contains("same on every host"),
                "{to}"
            );
        }
        assert_eq!(refuse("10.0.0.25"), None);
        let named = |name: &str| {
            refuse_to(
                "127.0.1.1".parse().unwrap(),
                &Host::Name(name.into()),
                vips.iter(),
            )
        };
        assert_eq!(named("server2"), None);
        assert!(named("localhost").is_some());
    }
}
