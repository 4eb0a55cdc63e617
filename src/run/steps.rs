//! The steps of one attempt: what was asked for, in the decision's terms, and what carries each
//! decision out.

use super::after::known_peers;
use super::{Asked, Run, Target, idle};
use crate::announcer::Job;
use crate::config::SENTINEL_TIMEOUT;
use crate::exit::Fault;
use crate::failover::Host;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::{self, Action, Call, decide};
use crate::release::{self, Released};
use crate::report::Did;
use crate::resolve;
use crate::sentinel::{self, Truth};
use crate::take_over::{self, Bound};
use crate::vip::{Binding, Chosen};

impl Run<'_> {
    /// Returns what was asked for, in the decision's terms: for Sentinel's call, where the
    /// master is. What Sentinel says now wins over what it said when it queued the call.
    pub(super) async fn meaning(&mut self, kernel: &Kernel<'_>) -> Result<Call, Fault> {
        let failover = match self.asked {
            Asked::Operator(call) => return Ok(call),
            Asked::Follow(failover) => failover,
        };
        let to = &failover.to.host;
        let truth = sentinel::truth(
            &self.config.sentinel,
            &failover.master,
            to,
            SENTINEL_TIMEOUT,
        )?;
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
        let addresses = resolve::addresses(to).await?;
        let own_name = match to {
            Host::Name(name) => plan::is_own_name(name, &resolve::own_name()),
            Host::Address(_) => false,
        };
        let refused = |&to| plan::refuse_to(to, own_name, self.config.vips());
        match addresses.iter().find_map(refused) {
            Some(fault) => Err(fault),
            None => kernel.where_is(&addresses).await.map(Call::Follow),
        }
    }

    pub(super) async fn plan(
        &self,
        kernel: &Kernel<'_>,
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
        ifindex: u32,
        adopt: Option<u8>,
    ) -> Result<Bound, Fault> {
        let vip = self.targets[place].vip;
        let added = &mut self.changes[place].added;
        let bound = take_over::bind_and_announce(
            netlink,
            &mut self.senders,
            vip,
            ifindex,
            adopt.is_some(),
            added,
        )
        .await?;
        self.phases
            .announced
            .get_or_insert_with(|| self.started.elapsed());
        Ok(bound)
    }

    pub(super) async fn settle(
        &mut self,
        netlink: &Netlink,
        place: usize,
        bound: Bound,
        chosen: Chosen,
        adopt: Option<u8>,
    ) -> Result<Did, Fault> {
        let vip = self.targets[place].vip;
        let changes = &mut self.changes[place];
        take_over::settle(netlink, vip, &bound.link, &mut changes.moved_from).await?;
        let known = known_peers(&self.asked, &self.targets[place]);
        // Only a proof of delivery: the announcer asks again.
        let asked =
            take_over::ask_peers(netlink, &mut self.senders, vip, &bound.link, &known).await;
        let (peers, frames) = asked.unwrap_or((known, 0));
        let sent = bound.sent.and(frames);
        let master = self.targets[place].master.to_owned();
        let ifindex = bound.link.index;
        let already = adopt.or(Some(vip.prefix)).filter(|_| !changes.added);
        let moved_from = changes.moved_from.clone();
        if bound.link.mac.is_some() {
            self.jobs.push(Job {
                master,
                vip,
                ifindex,
                peers,
            });
        }
        Ok(Did::TookOver {
            interface: bound.link.name,
            chosen,
            already,
            moved_from,
            sent,
        })
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
        for binding in bindings {
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
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let released = &mut self.changes[place].released;
        release::release(netlink, self.targets[place].vip, bindings, released).await?;
        Ok(Did::Released(released.clone()))
    }

    pub(super) fn nothing(&self, call: Call, place: usize) -> Did {
        match &self.changes[place].released {
            Released { interfaces, .. } if interfaces.is_empty() => Did::Nothing(idle(call)),
            released => Did::Released(released.clone()),
        }
    }
}
