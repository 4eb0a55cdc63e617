//! From the verdict and what the kernel says about one VIP to what is to be done on this host. Pure: where
//! the VIP belongs is decided already.

use crate::exit::Fault;
use crate::verdict::{Verdict, Why};
use crate::vip::{Binding, Candidates, Chosen, Vip, choose_interface};

/// Where a VIP is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The interface that it belongs on.
    pub ifindex: u32,
    /// Why that one.
    pub chosen: Chosen,
    /// The prefix length that it is to have.
    pub prefix: u8,
    /// How it is there already.
    pub adopt: Option<Binding>,
}

impl Goal {
    /// Returns whether it is there as it is to be.
    pub fn is_met(&self) -> bool {
        self.adopt
            .is_some_and(|there| there.prefix == self.prefix && there.lasts)
    }

    /// Returns whether a binding of the VIP on its interface is one too many: with a subnet, beside the one
    /// without.
    pub fn is_too_wide(&self, binding: &Binding) -> bool {
        binding.peer.is_ipv4() && self.prefix == WHOLE && binding.prefix < WHOLE
    }
}

/// The prefix length of an IPv4 address without a subnet.
const WHOLE: u8 = 32;

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

/// Returns what to do about one VIP:
///
/// | verdict | VIP bound here | VIP not bound here |
/// |---|---|---|
/// | here | take over (announce again) | take over |
/// | elsewhere | release | nothing |
/// | stays, and an operator wants it announced | announce | nothing |
/// | stays | nothing | nothing |
///
/// # Errors
///
/// A VIP that has to be bound but belongs on no interface is a permanent fault. A verdict that could not
/// be reached is the fault that it says.
pub fn plan(verdict: &Verdict, vip: &Vip, seen: &Candidates) -> Result<Action, Fault> {
    let bound = seen.bound.clone();
    Ok(match verdict {
        Verdict::Undecided(fault) => return Err(fault.clone()),
        Verdict::Here(carries_to, _) => take_over(vip, seen, *carries_to)?,
        _ if bound.is_empty() => Action::Nothing,
        Verdict::Elsewhere(_) => Action::Release(bound),
        Verdict::Stays(Why::Ordered) => Action::Announce(bound),
        Verdict::Stays(_) => Action::Nothing,
    })
}

fn take_over(vip: &Vip, seen: &Candidates, carries_to: Option<u32>) -> Result<Action, Fault> {
    let (ifindex, chosen) = choose_interface(vip, seen, carries_to)?;
    let usable = |binding: &&Binding| binding.ifindex == ifindex && binding.usable;
    let there = || seen.bound.iter().filter(usable);
    // With a subnet of its own it can become the address from which this host speaks to that subnet, for as long
    // as it is there: the kernel takes the first of a subnet (`inet_insert_ifa` in net/ipv4/devinet.c), and the
    // host's own comes and goes. Without the host's own, it is the one that makes the subnet's route. An IPv6 VIP
    // is deprecated, and so never chosen while there is another.
    let is_whole = vip.address.is_ipv4() && seen.subnets.contains(&ifindex);
    let adopt = match is_whole {
        true => there().find(|binding| binding.prefix == WHOLE),
        false => None,
    };
    let adopt = adopt.or(there().next()).copied();
    let prefix = match adopt {
        _ if is_whole => WHOLE,
        Some(there) => there.prefix,
        None => vip.prefix,
    };
    Ok(Action::TakeOver(Goal {
        ifindex,
        chosen,
        prefix,
        adopt,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    const HERE: Verdict = Verdict::Here(Some(3), Why::Called);
    const AWAY: Verdict = Verdict::Elsewhere(Why::Called);
    const NO_NEWS: Verdict = Verdict::Stays(Why::NoNews);
    const BIND: Verdict = Verdict::Here(None, Why::Ordered);
    const UNBIND: Verdict = Verdict::Elsewhere(Why::Ordered);
    const ANNOUNCE: Verdict = Verdict::Stays(Why::Ordered);
    const PEER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 250));
    const ON_2: Binding = Binding {
        ifindex: 2,
        prefix: 24,
        peer: PEER,
        usable: true,
        lasts: true,
        is_ours: true,
    };
    const ON_9: Binding = Binding {
        ifindex: 9,
        prefix: 32,
        peer: PEER,
        usable: true,
        lasts: true,
        is_ours: true,
    };
    const DAD_FAILED: Binding = Binding {
        ifindex: 2,
        prefix: 24,
        peer: PEER,
        usable: false,
        lasts: true,
        is_ours: true,
    };
    const WHOLE_ON_2: Binding = Binding { prefix: 32, ..ON_2 };

    /// Where it is to be, with which prefix length, and what is there.
    fn take_over(at: (u32, u8), chosen: Chosen, adopt: Option<Binding>) -> Option<Action> {
        Some(Action::TakeOver(Goal {
            ifindex: at.0,
            prefix: at.1,
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
        let new = |ifindex, prefix, chosen| take_over((ifindex, prefix), chosen, None);
        let there = |binding: Binding, prefix, chosen| {
            take_over((binding.ifindex, prefix), chosen, Some(binding))
        };
        let table = [
            (HERE, &[][..], None, Some(2), new(2, 32, Subnet)),
            (HERE, &[ON_2], None, Some(2), there(ON_2, 32, Subnet)),
            (HERE, &[ON_9], None, Some(2), new(2, 32, Subnet)),
            (HERE, &[ON_9], None, Some(9), there(ON_9, 32, Subnet)),
            (HERE, &[ON_2, ON_9], None, Some(2), there(ON_2, 32, Subnet)),
            (
                HERE,
                &[ON_2, WHOLE_ON_2],
                None,
                Some(2),
                there(WHOLE_ON_2, 32, Subnet),
            ),
            (HERE, &[DAD_FAILED], None, Some(2), new(2, 32, Subnet)),
            (HERE, &[], None, None, new(3, 24, CarriesTo)),
            (HERE, &[ON_9], None, None, new(3, 24, CarriesTo)),
            // The host has no address of its own there: the VIP makes the route of its subnet.
            (HERE, &[], eth2, Some(9), new(2, 24, Configured)),
            (HERE, &[ON_2], eth2, Some(9), there(ON_2, 24, Configured)),
            (HERE, &[ON_9], eth2, Some(9), new(2, 24, Configured)),
            (HERE, &[], gone, Some(9), None),
            (HERE, &[ON_9], gone, Some(9), None),
            (BIND, &[], None, None, None),
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
            (NO_NEWS, &[], None, Some(2), Some(Action::Nothing)),
            (NO_NEWS, &[ON_2], None, Some(2), Some(Action::Nothing)),
            (BIND, &[], None, Some(2), new(2, 32, Subnet)),
            (BIND, &[], eth2, None, new(2, 24, Configured)),
            (BIND, &[ON_9], None, None, there(ON_9, 32, BoundThere)),
            (BIND, &[], None, None, None),
            (UNBIND, &[], None, Some(2), Some(Action::Nothing)),
            (
                UNBIND,
                &[ON_9],
                gone,
                None,
                Some(Action::Release(vec![ON_9])),
            ),
            (ANNOUNCE, &[], None, Some(2), Some(Action::Nothing)),
            (
                ANNOUNCE,
                &[ON_9],
                gone,
                None,
                Some(Action::Announce(vec![ON_9])),
            ),
        ];
        let vip = Vip::parse("10.0.0.250/24").unwrap();
        for (verdict, bound, configured, subnet, action) in table {
            let seen = Candidates {
                configured,
                subnets: subnet.into_iter().collect(),
                bound: bound.to_vec(),
            };
            let decided = plan(&verdict, &vip, &seen);
            let row = format!("{verdict:?} {seen:?}: {decided:?}");
            match action {
                Some(action) => assert_eq!(decided.as_ref(), Ok(&action), "{row}"),
                None => assert_eq!(decided.as_ref().unwrap_err().kind, Kind::Permanent, "{row}"),
            }
        }
    }
}
