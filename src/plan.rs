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
            (BIND, &[], None, Some(2), take_over(2, Subnet, None)),
            (BIND, &[], eth2, None, take_over(2, Configured, None)),
            (
                BIND,
                &[ON_9],
                None,
                None,
                take_over(9, BoundThere, Some(32)),
            ),
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
