//! The steps of one attempt: what was asked for, in the decision's terms, and what carries each
//! decision out.

use std::net::IpAddr;

use super::after::known_peers;
use super::{Asked, Run, Target, idle};
use crate::announcer::Job;
use crate::config::SENTINEL_TIMEOUT;
use crate::exit::Fault;
use crate::failover::Host;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::{self, Action, Call, ToIs, decide};
use crate::release::{self, Released};
use crate::report::{Did, escape};
use crate::resolve;
use crate::sentinel::{self, Truth, majority};
use crate::take_over::{self, Bound};
use crate::vip::{Binding, Chosen};

impl Run<'_> {
    /// Returns what was asked for, in the decision's terms: for Sentinel's call, where the
    /// master is. What Sentinel says now wins over what it said when it queued the call.
    pub(super) async fn meaning(&mut self, kernel: &Kernel<'_>) -> Result<Call, Fault> {
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
        let addresses = self.addresses(to).await?;
        kernel.where_is(&addresses).await.map(Call::Follow)
    }

    /// Returns where the master is by the word of a majority of the Sentinels; where they name this
    /// host, its Redis must agree.
    async fn what_is_true(&mut self, kernel: &Kernel<'_>) -> Result<Call, Fault> {
        let Some(&Target { master, .. }) = self.targets.first() else {
            return Ok(Call::NoNews);
        };
        let votes = majority::votes(&self.config.sentinel, master).await?;
        let votes = self.votes.insert(votes);
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
        let addresses = self.addresses(&host).await?;
        let is = kernel.where_is(&addresses).await?;
        if let (ToIs::Here(_), Some(address)) = (is, addresses.first()) {
            majority::check_is_master(*address, port, self.config.master(master)?)?;
        }
        Ok(Call::Follow(is))
    }

    /// Returns the addresses of a master's host.
    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Fault> {
        let addresses = resolve::addresses(host).await?;
        let own_name = match host {
            Host::Name(name) => plan::is_own_name(name, &resolve::own_name()),
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
        // Whoever looks every half minute has said it again, and that is enough.
        let is_news = changes.added || !changes.moved_from.is_empty();
        if bound.link.mac.is_some() && (is_news || !matches!(self.asked, Asked::Sync)) {
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
