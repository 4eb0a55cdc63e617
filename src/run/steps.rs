//! The steps of one attempt: what was asked for, in the decision's terms, and what carries each
//! decision out.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use super::after::known_peers;
use super::{Asked, Run, Target, idle};
use crate::config::SENTINEL_TIMEOUT;
use crate::deeds::announcer::Job;
use crate::deeds::release;
use crate::deeds::take_over::{self, Bound};
use crate::exit::Fault;
use crate::failover::Host;
use crate::hosts;
use crate::kernel::Snapshot;
use crate::kernel::{Netlink, reset_connections};
use crate::lock::Lock;
use crate::plan::{self, Action, Call, Goal, ToIs, decide};
use crate::report::Did;
use crate::sentinel::{self, Truth, majority};
use crate::text::escape;
use crate::vip::Binding;

impl Run<'_> {
    /// Returns what was asked for, in the decision's terms: for Sentinel's call, where the
    /// master is. What Sentinel says now wins over what it said when it queued the call.
    pub(super) async fn meaning(&mut self, kernel: &Snapshot<'_>) -> Result<Call, Fault> {
        let failover = match self.asked {
            Asked::Operator(call) => return Ok(call),
            Asked::Follow(failover) => failover,
            Asked::Sync => return self.what_is_true(kernel).await,
        };
        let to = &failover.to.host;
        let truth = sentinel::truth(
            &self.config.sentinel,
            &failover.master,
            to,
            SENTINEL_TIMEOUT,
        );
        // Its word of a moment ago is better than none.
        if !matches!(
            (&self.truth, &truth),
            (Some(Truth::Says(_) | Truth::Agrees), Truth::Silent(_))
        ) {
            self.truth = Some(truth);
        }
        let to = match self.truth.as_ref().unwrap_or(&Truth::Unmonitored) {
            Truth::Says(host) => host,
            Truth::Agrees => to,
            Truth::Unmonitored | Truth::Silent(_) if failover.carries_information() => to,
            Truth::Unmonitored | Truth::Silent(_) => return Ok(Call::NoNews),
        };
        let addresses = self.addresses(to).await?;
        kernel.where_is(&addresses).await.map(Call::Follow)
    }

    /// Returns where the master is by the word of a majority of the Sentinels; where they name this
    /// host, its Redis must agree.
    async fn what_is_true(&mut self, kernel: &Snapshot<'_>) -> Result<Call, Fault> {
        let (Some(&Target { master, .. }), Some(votes)) = (self.targets.first(), &self.votes)
        else {
            return Ok(Call::NoNews);
        };
        // A hook may have come first, while this run waited for the lock.
        let sentinel = &self.config.sentinel;
        if sentinel::master_address(sentinel, master, SENTINEL_TIMEOUT)?.as_ref() != votes.own() {
            return Err(Fault::passing(format!(
                "Sentinel at {} has changed its mind meanwhile",
                sentinel.address
            )));
        }
        let Some(winner) = votes.winner() else {
            let text = format!(
                "no majority of the Sentinels names a master, so that nothing was changed: {votes}"
            );
            return Err(Fault::passing(text).remedy(
                "Each Sentinel must reach the others; one that is gone for good is forgotten by SENTINEL RESET.",
            ));
        };
        let (said, port) = (escape(&winner.host), winner.port);
        let Some(host) = Host::read(&winner.host) else {
            return Err(Fault::passing(format!(
                "the Sentinels name \"{said}\", which is no host"
            )));
        };
        let mut vips = self.targets.iter().map(|target| target.vip);
        let mistaken = vips.find(|vip| votes.is_a_servers(vip.address));
        let addresses = self.addresses(&host).await?;
        if let Some(vip) = mistaken {
            let text =
                format!("{vip} is the address of a Redis or a Sentinel, as Sentinel knows it");
            return Err(Fault::permanent(text).remedy(plan::NO_VIP));
        }
        let is = kernel.where_is(&addresses).await?;
        if let ToIs::Here(_) = is {
            let of = self.config.master(master)?;
            // A name may have addresses on which its Redis does not listen, such as 127.0.1.1.
            let asked = addresses
                .iter()
                .map(|address| majority::check_is_master(*address, port, of));
            asked.reduce(|one, next| one.or(next)).unwrap_or(Ok(()))?;
        }
        Ok(Call::Follow(is))
    }

    /// Asks the Sentinels, where their majority decides. Not under the lock: a hook must not have to
    /// wait until a Sentinel that is out of reach is given up.
    pub(super) async fn ask_sentinels(&mut self) -> Result<(), Fault> {
        if let (Asked::Sync, Some(target)) = (self.asked, self.targets.first()) {
            self.votes = Some(majority::votes(&self.config.sentinel, target.master).await?);
        }
        Ok(())
    }

    /// Returns the addresses of a master's host.
    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Fault> {
        let addresses = hosts::addresses(host).await?;
        let own_name = match host {
            Host::Name(name) => plan::is_own_name(name, &hosts::own_name()),
            Host::Address(_) => false,
        };
        let refused = |&to| plan::refuse_to(to, own_name, self.config.vips());
        match addresses.iter().find_map(refused) {
            Some(fault) => Err(fault),
            None => Ok(addresses),
        }
    }

    pub(super) async fn plan(
        &self,
        kernel: &Snapshot<'_>,
        call: Call,
        place: usize,
    ) -> Result<Action, Fault> {
        let Target { vip, interface, .. } = self.targets[place];
        let seen = kernel.see(call, vip.address, interface).await?;
        decide(call, &vip, &seen)
    }

    pub(super) async fn take_over(
        &mut self,
        netlink: &Netlink,
        place: usize,
        goal: Goal,
    ) -> Result<Bound, Fault> {
        let vip = self.targets[place].vip;
        let (senders, added) = (&mut self.senders, &mut self.changes[place].added);
        let there = goal.adopt.is_some();
        let bound =
            take_over::bind_and_announce(netlink, senders, vip, goal.ifindex, there, added).await?;
        self.phases
            .announced
            .get_or_insert_with(|| self.started.elapsed());
        Ok(bound)
    }

    /// What a take-over has to do once every VIP is announced.
    pub(super) async fn settle(
        &mut self,
        netlink: &Netlink,
        lock: &Lock,
        place: usize,
        bound: Bound,
        goal: Goal,
    ) -> Result<Did, Fault> {
        let vip = self.targets[place].vip;
        let link = &bound.link;
        // Only a proof of delivery, for which the announcer asks again.
        let peers = self.peers(netlink, link.index, place).await;
        let asked = take_over::ask(&mut self.senders, vip, link, &peers);
        let changes = &mut self.changes[place];
        take_over::settle(netlink, lock, vip, link, &mut changes.moved_from).await?;
        let already = goal.adopt.or(Some(vip.prefix)).filter(|_| !changes.added);
        let moved_from = changes.moved_from.clone();
        // Whoever looks every half minute has said it again, and that is enough.
        let is_news = changes.is_news();
        if link.mac.is_some() && (is_news || !matches!(self.asked, Asked::Sync)) {
            self.jobs.push(Job {
                master: self.targets[place].master.to_owned(),
                vip,
                ifindex: link.index,
                peers,
            });
        }
        Ok(Did::TookOver {
            interface: bound.link.name,
            chosen: goal.chosen,
            already,
            moved_from,
            sent: bound.sent.and(asked.unwrap_or(0)),
        })
    }

    /// Returns the neighbours whose answers prove that the network delivers to a VIP here. The
    /// gateways are looked up once for all VIPs of an interface: a router has many routes.
    async fn peers(&mut self, netlink: &Netlink, ifindex: u32, place: usize) -> Vec<IpAddr> {
        let vip = self.targets[place].vip;
        let known = known_peers(&self.asked, &self.targets[place]);
        let key = (ifindex, vip.address.is_ipv4());
        let gateways = match self.gateways.entry(key) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(none) => {
                let found = netlink.gateways(ifindex, vip.address).await;
                none.insert(found.unwrap_or_default())
            }
        };
        take_over::peers(vip, &known, gateways)
    }

    pub(super) async fn announce(
        &mut self,
        netlink: &Netlink,
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let vip = self.targets[place].vip;
        let mut interfaces = Vec::new();
        let mut sent = Vec::new();
        let mut interfaces_done = BTreeSet::new();
        for binding in bindings {
            if !interfaces_done.insert(binding.ifindex) {
                continue;
            }
            let bound =
                take_over::announce(netlink, &mut self.senders, vip, binding.ifindex).await?;
            self.phases
                .announced
                .get_or_insert_with(|| self.started.elapsed());
            interfaces.push(bound.link.name);
            sent.push(bound.sent);
        }
        Ok(Did::Announced { interfaces, sent })
    }

    pub(super) async fn release(
        &mut self,
        netlink: &Netlink,
        lock: &Lock,
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let vip = self.targets[place].vip;
        let released = &mut self.changes[place].released;
        release::release(netlink, lock, vip, bindings, released).await?;
        Ok(Did::Released(released.clone()))
    }

    pub(super) async fn nothing(&self, call: Call, place: usize) -> Did {
        let released = &self.changes[place].released;
        if !released.interfaces.is_empty() {
            return Did::Released(released.clone());
        }
        if matches!(call, Call::Follow(ToIs::Elsewhere) | Call::Unbind) {
            // What a run has left that was killed before its last sweep.
            let _ = reset_connections(self.targets[place].vip.address).await;
        }
        Did::Nothing(idle(call))
    }
}
