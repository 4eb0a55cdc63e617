//! One run, from what was asked to what was done. Every command that changes anything goes
//! through here, and this page tells all of it:
//!
//! ```text
//! TO, kernel ─> decide ─> bind and announce, or release ─> settle and verify
//! ```
//!
//! Passing faults start it over with what is not done yet, from a fresh look at the kernel, until
//! [`PATIENCE`] is used up.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::announce::Senders;
use crate::config::Config;
use crate::exit::{Exit, Fault, Kind};
use crate::failover::Failover;
use crate::link::Link;
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::{self, Action, Call, ToIs, decide};
use crate::report::{Did, Outcome, Phases};
use crate::vip::{Binding, Chosen, Vip};
use crate::{errno, release, resolve, take_over};

/// How long passing faults are retried. Sentinel's own first retry is 30 s away, and it kills a
/// script after 60 s (sentinel.c, SENTINEL_SCRIPT_MAX_RUNTIME).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the last attempt may go on after that, if the kernel does not answer.
const GRACE: Duration = Duration::from_secs(10);

/// The pauses between attempts: short at first, as most faults pass at once, then doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Sentinel called.
    Follow(&'a Failover),
    /// An operator called.
    Operator(Call),
}

/// One VIP that it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its master's name.
    pub master: &'a str,
    /// The VIP.
    pub vip: Vip,
    /// The interface that the configuration names for it.
    pub interface: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Returns the VIPs of these masters, of every master if none is named.
    ///
    /// # Errors
    ///
    /// An unknown name is permanent.
    pub fn of(config: &'a Config, masters: &[impl AsRef<str>]) -> Result<Vec<Target<'a>>, Fault> {
        for name in masters {
            config.master(name.as_ref())?;
        }
        let wanted =
            |name: &str| masters.is_empty() || masters.iter().any(|one| one.as_ref() == name);
        let masters = config.masters.iter().filter(|(name, _)| wanted(name));
        let targets = masters.flat_map(|(name, master)| {
            let target = |&vip| Target {
                master: name,
                vip,
                interface: master.interface.as_deref(),
            };
            master.vips.iter().map(target)
        });
        Ok(targets.collect())
    }
}

/// A run: what is asked for, and what came of it so far.
pub struct Run<'a> {
    asked: Asked<'a>,
    config: &'a Config,
    targets: Vec<Target<'a>>,
    dry_run: bool,
    started: Instant,
    senders: Senders,
    /// What the call means, once that is known.
    pub call: Option<Call>,
    /// What came of each target, in their order.
    pub outcomes: Vec<Outcome>,
    /// What was measured.
    pub phases: Phases,
}

impl<'a> Run<'a> {
    /// Returns a run about `targets` that has done nothing yet. `started` is when the process
    /// was. A dry run plans and changes nothing.
    pub fn new(
        asked: Asked<'a>,
        config: &'a Config,
        targets: Vec<Target<'a>>,
        started: Instant,
        dry_run: bool,
    ) -> Self {
        let outcomes = targets.iter().map(|target| Outcome {
            master: target.master.to_owned(),
            vip: target.vip,
            result: Err(Fault::passing("not tried yet")),
        });
        Run {
            asked,
            config,
            outcomes: outcomes.collect(),
            targets,
            dry_run,
            started,
            senders: Senders::default(),
            call: None,
            phases: Phases {
                loaded: started.elapsed(),
                ..Phases::default()
            },
        }
    }

    /// Carries it out, and fills in `call`, `outcomes` and `phases`. Returns how it ended.
    pub fn carry_out(&mut self) -> Exit {
        match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime.block_on(self.retry()),
            Err(error) => self.fail_pending(&errno::open("the event loop", &error)),
        }
        self.phases.done = self.started.elapsed();
        Exit::of_all(
            self.outcomes
                .iter()
                .map(|outcome| outcome.result.as_ref().err().map(|fault| fault.kind)),
        )
    }

    async fn retry(&mut self) {
        let give_up = self.started + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            self.phases.tries += 1;
            match timeout_at((give_up + GRACE).into(), self.attempt()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.fail_pending(&fault),
                Err(_) => self.fail_pending(&Fault::passing("the kernel did not answer in time")),
            }
            if !self.outcomes.iter().any(is_pending) || Instant::now() + pause > give_up {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tries once what is not done yet. Every VIP is announced before any is settled.
    async fn attempt(&mut self) -> Result<(), Fault> {
        let netlink = Netlink::open()?;
        let kernel = Kernel::new(&netlink);
        // A socket of an earlier attempt may be on an interface that went and came back.
        self.senders = Senders::default();
        let call = self.meaning(&kernel).await?;
        self.call = Some(call);
        let mut unsettled = Vec::new();
        for place in 0..self.targets.len() {
            if !is_pending(&self.outcomes[place]) {
                continue;
            }
            let vip = self.targets[place].vip;
            self.outcomes[place].result = match self.plan(&kernel, call, place).await {
                Err(fault) => Err(fault),
                Ok(action) if self.dry_run => foresee(&netlink, call, action, vip).await,
                Ok(Action::TakeOver {
                    ifindex,
                    chosen,
                    stray,
                }) => {
                    let bound = self.take_over(&netlink, vip, ifindex, chosen).await;
                    bound.map(|(link, did)| {
                        unsettled.push((place, link, stray));
                        did
                    })
                }
                Ok(Action::Announce(bindings)) => self.announce(&netlink, vip, &bindings).await,
                Ok(Action::Release(bindings)) => release::release(&netlink, vip, &bindings)
                    .await
                    .map(Did::Released),
                Ok(Action::Nothing) => Ok(Did::Nothing(idle(call))),
            };
        }
        for (place, link, stray) in unsettled {
            self.settle(&netlink, place, &link, &stray).await;
        }
        Ok(())
    }

    /// Returns what was asked for, in the decision's terms: for Sentinel's call, where TO is.
    async fn meaning(&self, kernel: &Kernel<'_>) -> Result<Call, Fault> {
        let failover = match self.asked {
            Asked::Operator(call) => return Ok(call),
            Asked::Follow(failover) if !failover.carries_information() => return Ok(Call::NoNews),
            Asked::Follow(failover) => failover,
        };
        let addresses = resolve::addresses(&failover.to.host).await?;
        let refused = addresses
            .iter()
            .find_map(|&to| plan::refuse_to(to, &failover.to.host, self.config.vips()));
        match refused {
            Some(fault) => Err(fault),
            None => kernel.where_is(&addresses).await.map(Call::Follow),
        }
    }

    async fn plan(&self, kernel: &Kernel<'_>, call: Call, place: usize) -> Result<Action, Fault> {
        let target = &self.targets[place];
        let seen = kernel.see(call, target.vip, target.interface).await?;
        decide(call, &seen)
    }

    async fn take_over(
        &mut self,
        netlink: &Netlink,
        vip: Vip,
        ifindex: u32,
        chosen: Chosen,
    ) -> Result<(Link, Did), Fault> {
        let bound = take_over::bind_and_announce(netlink, &mut self.senders, vip, ifindex).await?;
        self.phases
            .announced
            .get_or_insert_with(|| self.started.elapsed());
        let did = Did::TookOver {
            interface: bound.link.name.clone(),
            chosen,
            already: bound.already,
            moved_from: Vec::new(),
            frames: bound.frames,
        };
        Ok((bound.link, did))
    }

    async fn announce(
        &mut self,
        netlink: &Netlink,
        vip: Vip,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let mut interfaces = Vec::new();
        let mut frames = 0;
        for binding in bindings {
            let (link, sent) =
                take_over::announce(netlink, &mut self.senders, vip, binding.ifindex).await?;
            self.phases
                .announced
                .get_or_insert_with(|| self.started.elapsed());
            interfaces.push(link.name);
            frames += sent;
        }
        Ok(Did::Announced { interfaces, frames })
    }

    async fn settle(&mut self, netlink: &Netlink, place: usize, link: &Link, stray: &[Binding]) {
        let settled = take_over::settle(netlink, self.targets[place].vip, link, stray).await;
        let result = &mut self.outcomes[place].result;
        match (settled, result) {
            (Err(fault), result) => *result = Err(fault),
            (Ok(removed), Ok(Did::TookOver { moved_from, .. })) => *moved_from = removed,
            (Ok(_), _) => {}
        }
    }

    fn fail_pending(&mut self, fault: &Fault) {
        for outcome in self
            .outcomes
            .iter_mut()
            .filter(|outcome| is_pending(outcome))
        {
            outcome.result = Err(fault.clone());
        }
    }
}

/// Whether there is still something to try.
fn is_pending(outcome: &Outcome) -> bool {
    outcome
        .result
        .as_ref()
        .is_err_and(|fault| fault.kind == Kind::Passing)
}

/// Why nothing is to be done.
fn idle(call: Call) -> &'static str {
    match call {
        Call::NoNews => {
            "FROM and TO are the same, which tells nothing (Sentinel could not resolve the new master's name)"
        }
        Call::Follow(ToIs::Elsewhere) => "the master is on another host, and the VIP is not here",
        _ => "it is not on this host",
    }
}

/// Returns what would be done, for `--dry-run`.
async fn foresee(netlink: &Netlink, call: Call, action: Action, vip: Vip) -> Result<Did, Fault> {
    Ok(match action {
        Action::TakeOver {
            ifindex,
            chosen,
            stray,
        } => {
            let bound = Kernel::new(netlink).bindings(vip.address).await?;
            Did::TookOver {
                interface: name(netlink, ifindex).await?,
                chosen,
                already: bound.iter().any(|binding| binding.ifindex == ifindex),
                moved_from: names(netlink, &stray).await?,
                frames: 0,
            }
        }
        Action::Announce(bindings) => Did::Announced {
            interfaces: names(netlink, &bindings).await?,
            frames: 0,
        },
        Action::Release(bindings) => Did::Released(names(netlink, &bindings).await?),
        Action::Nothing => Did::Nothing(idle(call)),
    })
}

async fn names(netlink: &Netlink, bindings: &[Binding]) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for binding in bindings {
        names.push(name(netlink, binding.ifindex).await?);
    }
    Ok(names)
}

async fn name(netlink: &Netlink, ifindex: u32) -> Result<String, Fault> {
    Ok(netlink
        .link(ifindex)
        .await?
        .map_or_else(|| format!("interface number {ifindex}"), |link| link.name))
}
