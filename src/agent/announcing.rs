//! Announces the VIPs that are here, as long as they are.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::journal::say;
use crate::deeds::announcer::resident::{Announcers, Holder, Noticed};
use crate::evidence::Evidence;
use crate::log::Level;
use crate::place::Place;
use crate::verdict::{Verdict, verdict};

/// Returns the announcers, which contest a claim while the core knows that the VIP belongs here, and is to stay; and
/// which say nothing after this agent was stopped, until the core knows that again.
pub(super) fn announcers(
    core: &Rc<RefCell<Core>>,
    started: Instant,
    every: Duration,
) -> Announcers {
    let core = Rc::clone(core);
    let truth = move |master: &str| {
        let (core, now) = (core.borrow(), started.elapsed());
        match core.has_to_learn(master, now) {
            true => Holder::NotTold,
            false => holder(&core.evidence(master, now)),
        }
    };
    Announcers::new(truth, every, note)
}

/// Returns where a master is. While a leader promotes another Redis nobody knows it: the promoted one's host takes
/// over some milliseconds before this host lets go, and its claim, contested, would cost clients another tenth of a
/// second.
fn holder(known: &Evidence) -> Holder {
    let promotion = known.promotion.as_ref();
    let leaves = promotion.is_some_and(|it| matches!(it.to.place, Ok(Place::Elsewhere)));
    match verdict(known) {
        Verdict::Here(..) if leaves => Holder::Unknown,
        verdict => Holder::from(verdict),
    }
}

/// Writes to the log that another host claims a VIP, once for each.
fn note(noticed: Noticed) {
    if let Noticed::Rival(vip, mac) = noticed {
        let sentence = format!("{mac} claims {vip}, too");
        tokio::task::spawn_local(async move { say(Level::Warning, &sentence).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Order, Promotion, Site};
    use crate::failover::{Endpoint, Host};

    fn promotion(place: Place) -> Promotion {
        let endpoint = Endpoint {
            host: Host::Address("10.0.0.2".parse().unwrap()),
            port: 6379,
        };
        Promotion {
            to: Site {
                endpoint,
                addresses: Vec::new(),
                run_id: None,
                place: Ok(place),
            },
            role: None,
            epoch: 1,
            age: Duration::ZERO,
            lasts: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_claim_is_not_contested_while_another_redis_is_being_promoted() {
        let ordered = Evidence {
            order: Some(Order::Bind),
            ..Evidence::default()
        };
        assert_eq!(holder(&ordered), Holder::Here);
        for (place, expected) in [
            (Place::Elsewhere, Holder::Unknown),
            (Place::Here(None), Holder::Here),
        ] {
            let known = Evidence {
                promotion: Some(promotion(place)),
                ..ordered.clone()
            };
            assert_eq!(holder(&known), expected);
        }
    }
}
