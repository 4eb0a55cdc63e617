//! The part of an attempt that binds and announces: everything that can be done before the evidence is
//! complete is done by then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::{Engine, Expected, Task, still_true};
use crate::config::Target;
use crate::deeds::announcer::Job;
use crate::deeds::take_over::{self, Prepared};
use crate::exit::{Fault, Halted};
use crate::few;
use crate::kernel::{Netlink, Snapshot};
use crate::lock::Lock;
use crate::outcome::{Did, Mended, Sent};
use crate::plan::Goal;
use crate::site_command::memory;
use crate::vip::{Binding, Candidates, choose_interface};

/// A take-over whose frames are out.
pub(super) struct Bound {
    /// Its place in the task.
    pub(super) place: usize,
    goal: Goal,
    prepared: Prepared,
    sent: Sent,
}

impl Engine {
    /// Gets everything ready for the take-overs that are likely to follow, as far as the routing table alone
    /// tells where a VIP belongs. What cannot be made ready is looked at again once the evidence is there.
    pub(super) async fn get_ready<'b>(
        &self,
        netlink: &Netlink,
        snapshot: &Snapshot<'_>,
        task: &Task<'b>,
    ) -> BTreeMap<usize, (Candidates<'b>, Prepared)> {
        let mut ready = BTreeMap::new();
        let is_likely = match task.expected {
            _ if self.dry_run => false,
            Expected::Unknown => false,
            Expected::Here => true,
            Expected::At(address) => {
                matches!(
                    snapshot.carriers(&[address]).await.as_deref(),
                    Ok([(_, Some(_))])
                )
            }
        };
        if !is_likely {
            return ready;
        }
        for place in task.places() {
            let Target { vip, master, .. } = task.targets[place];
            let Ok(Some(seen)) = snapshot
                .see_subnet(vip.address, master.interface.as_deref())
                .await
            else {
                continue;
            };
            let Ok((ifindex, _)) = choose_interface(&vip, &seen, None) else {
                continue;
            };
            if let Ok(prepared) = Prepared::new(netlink, &self.senders, vip, ifindex).await {
                ready.insert(place, (seen, prepared));
            }
        }
        ready
    }

    /// Binds a VIP and announces it, by what was known then.
    pub(super) async fn take_over(
        &self,
        (netlink, known_at): (&Netlink, Instant),
        task: &mut Task<'_>,
        place: usize,
        goal: Goal,
        prepared: Option<Prepared>,
    ) -> Result<Bound, Fault> {
        let vip = task.targets[place].vip;
        let prepared = match prepared.filter(|prepared| prepared.link.index == goal.ifindex) {
            Some(prepared) => prepared,
            None => Prepared::new(netlink, &self.senders, vip, goal.ifindex).await?,
        };
        if goal.adopt.is_none() {
            memory::before_take_over(&task.targets[place]);
            self.stranded.borrow_mut().insert(vip.address);
        }
        let changes = &mut task.outcomes[place].so_far;
        let before = changes.added;
        // Noted first: an attempt that is dropped in the midst has bound it all the same.
        changes.added |= goal.adopt.is_none();
        let phases = &mut task.phases;
        let bound = || {
            phases.bound.get_or_insert_with(|| self.started.elapsed());
            still_true(known_at)
        };
        match prepared.bind_and_announce(netlink, &goal, bound).await {
            Ok((added, sent)) => {
                changes.added = before | added;
                let lasts = goal.adopt.is_none_or(|there| there.lasts);
                changes.mended.extend((!lasts).then_some(Mended::Lifetime));
                task.phases
                    .announced
                    .get_or_insert_with(|| self.started.elapsed());
                Ok(Bound {
                    place,
                    goal,
                    prepared,
                    sent,
                })
            }
            Err(Halted { fault, done: added }) => {
                changes.added = before | added;
                Err(fault)
            }
        }
    }

    /// Does what a take-over has to do once every VIP is announced.
    pub(super) async fn finish(
        &self,
        (netlink, known_at): (&Netlink, Instant),
        lock: &Lock,
        task: &mut Task<'_>,
        bound: Bound,
    ) -> Result<Did, Fault> {
        let Bound {
            place,
            goal,
            prepared,
            sent,
        } = bound;
        let target = task.targets[place];
        let link = &prepared.link;
        // Only a proof of delivery, for which the announcer asks again.
        let peers = self.peers(netlink, link.index, &target, &task.peers).await;
        let asked = still_true(known_at).and_then(|()| prepared.ask(&peers));
        let changes = &mut task.outcomes[place].so_far;
        let (done, fault) = match take_over::settle(netlink, lock, target.vip, link, &goal).await {
            Ok(done) => (done, None),
            Err(Halted { fault, done }) => (done, Some(fault)),
        };
        changes.moved_from.extend(done.removed);
        changes.mended.extend(done.narrowed.map(Mended::Subnet));
        if let Some(fault) = fault {
            return Err(fault);
        }
        // Not before it is sure that the VIP stays here: an earlier attempt may have bound it, or another run that was killed.
        // Who looks every half minute would end again and again what is well and only looks otherwise.
        if self.stranded.borrow_mut().remove(&target.vip.address) || !task.is_routine {
            task.stranded.push(target.vip.address);
        }
        // `sync` runs every half minute: that it has announced the VIP once more is enough.
        if link.mac.is_some() && (changes.is_news() || !task.is_routine) {
            task.jobs.push(Job {
                master: target.name.to_owned(),
                vip: target.vip,
                ifindex: link.index,
                peers,
                is_ordered: task
                    .evidence
                    .as_ref()
                    .is_some_and(|known| known.order.is_some()),
            });
        }
        Ok(Did::TookOver {
            already: Some(goal.prefix).filter(|_| !changes.added),
            moved_from: changes.moved_from.clone(),
            mended: changes.mended.clone(),
            interface: prepared.link.name,
            chosen: goal.chosen,
            sent: sent.and(asked.unwrap_or(0)),
        })
    }

    /// Returns the neighbours whose answers prove that the network delivers to a VIP here. The
    /// gateways are looked up once for all VIPs of an interface.
    async fn peers(
        &self,
        netlink: &Netlink,
        ifindex: u32,
        target: &Target<'_>,
        known: &[IpAddr],
    ) -> Vec<IpAddr> {
        let vip = target.vip;
        let known: Vec<IpAddr> = known
            .iter()
            .chain(&target.master.announce_to)
            .copied()
            .collect();
        let key = (ifindex, vip.address.is_ipv4());
        let found = self.gateways.borrow().get(&key).cloned();
        let gateways = match found {
            Some(gateways) => gateways,
            None => {
                let found = netlink
                    .gateways(ifindex, vip.address, &known)
                    .await
                    .unwrap_or_default();
                self.gateways.borrow_mut().insert(key, found.clone());
                found
            }
        };
        take_over::peers(vip, &known, &gateways)
    }

    /// Announces a VIP where it is bound.
    pub(super) async fn announce(
        &self,
        (netlink, known_at): (&Netlink, Instant),
        task: &mut Task<'_>,
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let vip = task.targets[place].vip;
        let each: BTreeSet<u32> = few::set(bindings.iter().map(|binding| binding.ifindex));
        let (mut interfaces, mut sent) = (Vec::new(), Vec::new());
        for ifindex in each {
            let prepared = Prepared::new(netlink, &self.senders, vip, ifindex).await?;
            still_true(known_at)?;
            sent.push(prepared.announce()?);
            task.phases
                .announced
                .get_or_insert_with(|| self.started.elapsed());
            interfaces.push(prepared.link.name);
        }
        Ok(Did::Announced { interfaces, sent })
    }
}
