//! One run, from what was asked to what was done. Every command that changes anything goes
//! through here, and this page tells all of it:
//!
//! ```text
//! lock ─> truth, TO, kernel ─> decide ─> bind and announce, or release ─> settle and verify
//! ```
//!
//! Passing faults start it over with what is not done yet, from a fresh look at the kernel, until
//! [`PATIENCE`] is used up.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::announce::Senders;
use crate::announcer::Job;
use crate::config::{Config, SENTINEL_TIMEOUT};
use crate::exit::{Exit, Fault, Kind};
use crate::failover::{Failover, Host};
use crate::netlink::Netlink;
use crate::observe::Kernel;
use crate::plan::{self, Action, Call, ToIs, decide};
use crate::release::Released;
use crate::report::{Did, Outcome, Phases, Sent};
use crate::sentinel::{self, Truth};
use crate::take_over::Bound;
use crate::vip::{Binding, Chosen, Vip};
use crate::{announcer, errno, lock, release, resolve, take_over};

/// How long passing faults are retried. Sentinel's own first retry is 30 s away, and it kills a
/// script after 60 s (sentinel.c, SENTINEL_SCRIPT_MAX_RUNTIME).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long the last attempt may go on after that, if the kernel does not answer.
const GRACE: Duration = Duration::from_secs(10);

/// When the last of the site's own commands has to have ended, since the start: Sentinel kills the
/// run after 60 s.
const COMMANDS_UNTIL: Duration = Duration::from_secs(50);

/// The pauses between attempts: short at first, as most faults pass at once, then doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Tries until it succeeds, its fault is permanent, or the patience of a process that was started
/// at `started` is used up.
///
/// # Errors
///
/// Those of the last attempt.
pub fn patiently<T>(
    started: Instant,
    mut attempt: impl FnMut() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Err(fault) if fault.kind == Kind::Passing && started.elapsed() + pause < PATIENCE => {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

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
    /// The neighbours that the configuration names.
    pub announce_to: &'a [IpAddr],
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
                announce_to: &master.announce_to,
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
    changes: Vec<Changes>,
    jobs: Vec<Job>,
    /// Why further announcements could not be arranged.
    pub unannounced: Option<Fault>,
    /// Why the site's own commands failed, and whether each is required.
    pub command_failed: Vec<(Fault, bool)>,
    /// What Sentinel said about its call.
    pub truth: Option<Truth>,
    /// What the call means, once that is known.
    pub call: Option<Call>,
    /// What came of each target, in their order.
    pub outcomes: Vec<Outcome>,
    /// What was measured.
    pub phases: Phases,
}

/// What all attempts together changed for one target: a later one, that finishes what an earlier
/// one began, must not say that it found it so.
#[derive(Clone, Default)]
struct Changes {
    added: bool,
    moved_from: Vec<String>,
    released: Released,
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
            changes: vec![Changes::default(); targets.len()],
            targets,
            dry_run,
            started,
            senders: Senders::default(),
            jobs: Vec::new(),
            unannounced: None,
            command_failed: Vec::new(),
            truth: None,
            call: None,
            phases: Phases {
                loaded: started.elapsed(),
                ..Phases::default()
            },
        }
    }

    /// Carries it out, and fills in `call`, `outcomes` and `phases`. `waiting` is told, once,
    /// which fault is being waited out. Returns how it ended.
    pub fn carry_out(&mut self, waiting: impl FnMut(&Fault)) -> Exit {
        let runtime = patiently(self.started, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.map_err(|error| errno::open("the event loop", &error))
        });
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.retry(waiting));
                self.phases.done = self.started.elapsed();
                self.detach_announcers();
                runtime.block_on(self.run_site_commands());
            }
            Err(fault) => self.fail_pending(&fault),
        }
        let faults = self
            .outcomes
            .iter()
            .map(|outcome| outcome.result.as_ref().err());
        let required = self
            .command_failed
            .iter()
            .filter(|(_, required)| *required)
            .map(|(fault, _)| Some(fault));
        Exit::of_all(
            faults
                .chain(required)
                .map(|fault| fault.map(|fault| fault.kind)),
        )
    }

    /// The rest of announcing must not hold up what Sentinel has in its queue.
    fn detach_announcers(&mut self) {
        for job in &self.jobs {
            if let Err(fault) = announcer::detach(job) {
                self.unannounced.get_or_insert(fault);
            }
        }
    }

    /// Runs what the configuration wants run after each VIP that was taken over or released, once
    /// the network knows; after a release also where an earlier run has released it, as its command
    /// may have failed. Another run may have moved the VIP on meanwhile: then it is not this one's.
    async fn run_site_commands(&mut self) {
        if self.dry_run {
            return;
        }
        for (target, outcome) in self.targets.iter().zip(&self.outcomes) {
            let Some(master) = self.config.masters.get(target.master) else {
                continue;
            };
            let away = matches!(self.call, Some(Call::Follow(ToIs::Elsewhere)));
            let (command, here, interface) = match &outcome.result {
                Ok(Did::TookOver { interface, .. }) => {
                    (&master.on_take_over, true, interface.clone())
                }
                Ok(Did::Released(released)) => {
                    (&master.on_release, false, released.interfaces.join(" "))
                }
                Ok(Did::Nothing(_)) if away => (&master.on_release, false, String::new()),
                _ => continue,
            };
            let Some(command) = command else { continue };
            let left = (self.started + COMMANDS_UNTIL).saturating_duration_since(Instant::now());
            if left.is_zero() || is_bound(target.vip).await.is_ok_and(|bound| bound != here) {
                continue;
            }
            let variables = variables(&self.asked, self.truth.as_ref(), target, interface);
            if let Err(fault) = command.run(&variables, left) {
                self.command_failed.push((fault, command.required));
            }
        }
    }

    async fn retry(&mut self, mut waiting: impl FnMut(&Fault)) {
        let give_up = self.started + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            self.phases.tries += 1;
            match timeout_at((give_up + GRACE).into(), self.attempt()).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.fail_pending(&fault),
                Err(_) => self.fail_pending(&Fault::passing("the kernel did not answer in time")),
            }
            let pending = self.outcomes.iter().find(|outcome| is_pending(outcome));
            let Some(Err(fault)) = pending.map(|outcome| &outcome.result) else {
                return;
            };
            if Instant::now() + pause > give_up {
                return;
            }
            // What passes within some tries is not worth a word.
            if pause > LONGEST_PAUSE / 8 && pause <= LONGEST_PAUSE / 4 {
                waiting(fault);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tries once what is not done yet. Every VIP is announced before any is settled.
    async fn attempt(&mut self) -> Result<(), Fault> {
        let _lock = if self.dry_run {
            None
        } else {
            lock::acquire().await?
        };
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
            let result = match self.plan(&kernel, call, place).await {
                Err(fault) => Err(fault),
                Ok(action) if self.dry_run => self.foresee(&netlink, call, action, place).await,
                Ok(Action::TakeOver {
                    ifindex,
                    chosen,
                    adopt,
                }) => match self.take_over(&netlink, place, ifindex, adopt).await {
                    Ok(bound) => {
                        unsettled.push((place, bound, chosen, adopt));
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
                Ok(Action::Announce(bindings)) => self.announce(&netlink, place, &bindings).await,
                Ok(Action::Release(bindings)) => self.release(&netlink, place, &bindings).await,
                Ok(Action::Nothing) => Ok(self.nothing(call, place)),
            };
            self.outcomes[place].result = result;
        }
        for (place, bound, chosen, adopt) in unsettled {
            self.outcomes[place].result = self.settle(&netlink, place, bound, chosen, adopt).await;
        }
        Ok(())
    }

    /// Returns what was asked for, in the decision's terms: for Sentinel's call, where the
    /// master is. What Sentinel says now wins over what it said when it queued the call.
    async fn meaning(&mut self, kernel: &Kernel<'_>) -> Result<Call, Fault> {
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

    async fn plan(&self, kernel: &Kernel<'_>, call: Call, place: usize) -> Result<Action, Fault> {
        let Target { vip, interface, .. } = self.targets[place];
        let seen = kernel.see(call, vip.address, interface).await?;
        decide(call, &vip, &seen)
    }

    async fn take_over(
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

    async fn settle(
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

    async fn announce(
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

    async fn release(
        &mut self,
        netlink: &Netlink,
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let released = &mut self.changes[place].released;
        release::release(netlink, self.targets[place].vip, bindings, released).await?;
        Ok(Did::Released(released.clone()))
    }

    fn nothing(&self, call: Call, place: usize) -> Did {
        match &self.changes[place].released {
            Released { interfaces, .. } if interfaces.is_empty() => Did::Nothing(idle(call)),
            released => Did::Released(released.clone()),
        }
    }

    /// Returns what would be done, for a dry run.
    async fn foresee(
        &self,
        netlink: &Netlink,
        call: Call,
        action: Action,
        place: usize,
    ) -> Result<Did, Fault> {
        Ok(match action {
            Action::TakeOver {
                ifindex,
                chosen,
                adopt,
            } => {
                let bound = Kernel::new(netlink)
                    .bindings(self.targets[place].vip.address)
                    .await?;
                let stray: Vec<Binding> = bound
                    .into_iter()
                    .filter(|binding| binding.ifindex != ifindex)
                    .collect();
                Did::TookOver {
                    interface: name(netlink, ifindex).await?,
                    chosen,
                    already: adopt,
                    moved_from: names(netlink, &stray).await?,
                    sent: Sent::Frames(0),
                }
            }
            Action::Announce(bindings) => Did::Announced {
                interfaces: names(netlink, &bindings).await?,
                sent: Vec::new(),
            },
            Action::Release(bindings) => Did::Released(Released {
                interfaces: names(netlink, &bindings).await?,
                ..Released::default()
            }),
            Action::Nothing => Did::Nothing(idle(call)),
        })
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

/// Whether a VIP is bound on this host now.
async fn is_bound(vip: Vip) -> Result<bool, Fault> {
    let netlink = Netlink::open()?;
    Ok(!Kernel::new(&netlink)
        .bindings(vip.address)
        .await?
        .is_empty())
}

/// What a site's own command finds in its environment. TO is where the master is by Sentinel's
/// word of now.
fn variables(
    asked: &Asked,
    truth: Option<&Truth>,
    target: &Target,
    interface: String,
) -> [(&'static str, String); 6] {
    let (from, to) = match asked {
        Asked::Follow(failover) => (
            failover
                .from
                .as_ref()
                .map(|from| from.host.to_string())
                .unwrap_or_default(),
            match truth {
                Some(Truth::Says(host)) => host.to_string(),
                _ => failover.to.host.to_string(),
            },
        ),
        Asked::Operator(_) => (String::new(), String::new()),
    };
    [
        ("VIPSWITCH_MASTER", target.master.to_owned()),
        ("VIPSWITCH_VIP", target.vip.address.to_string()),
        ("VIPSWITCH_PREFIX", target.vip.prefix.to_string()),
        ("VIPSWITCH_INTERFACE", interface),
        ("VIPSWITCH_FROM", from),
        ("VIPSWITCH_TO", to),
    ]
}

/// The neighbours that are known without asking the kernel: the old master's host, and those that
/// the configuration names.
fn known_peers(asked: &Asked, target: &Target) -> Vec<IpAddr> {
    let from = match asked {
        Asked::Follow(Failover {
            from: Some(from), ..
        }) => Some(&from.host),
        _ => None,
    };
    let from = from.and_then(|host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    });
    from.into_iter()
        .chain(target.announce_to.iter().copied())
        .collect()
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
