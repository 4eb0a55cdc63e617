//! What follows a run, and may not hold it up: the announcers that go on, and the site's own
//! commands.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Asked, Run, Target};
use crate::config::SiteCommand;
use crate::deeds::announcer;
use crate::exit::Fault;
use crate::failover::{Failover, Host};
use crate::kernel::Netlink;
use crate::kernel::Snapshot;
use crate::lock;
use crate::plan::{Call, ToIs};
use crate::report::Did;
use crate::sentinel::Truth;
use crate::vip::Vip;
use crate::{hosts, site_command};

/// When the last of the site's own commands has to have ended, since the start: Sentinel kills the
/// run after 60 s.
const COMMANDS_UNTIL: Duration = Duration::from_secs(50);

impl Run<'_> {
    /// Leaves the rest of announcing to processes of their own: it must not hold up what Sentinel
    /// has in its queue, nor wait for the VIPs that are still to be tried.
    pub(super) fn detach_announcers(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            match announcer::detach(&job) {
                Err(fault) => {
                    self.unannounced.get_or_insert(fault);
                }
                Ok(()) if job.peers.is_empty() => {}
                Ok(()) => self.detached.push((job.vip.address, job.ifindex)),
            }
        }
    }

    /// Runs what the configuration wants run after each VIP that was taken over or released, once
    /// the network knows; after a release also where FROM is this host and an earlier run has
    /// released it, as its command may have failed.
    pub(super) async fn run_site_commands(&mut self) {
        if self.dry_run {
            return;
        }
        let owes_release = self.has_left_this_host().await;
        for place in 0..self.targets.len() {
            let Some((command, here, interface)) = self.site_command(place, owes_release) else {
                continue;
            };
            let target = self.targets[place];
            let left = (self.started + COMMANDS_UNTIL).saturating_duration_since(Instant::now());
            let required = command.required;
            let run = self.run_one(command, target, here, interface, left).await;
            self.phases.commands = Some(self.started.elapsed());
            self.outcomes[place].command_failed = run.err().map(|fault| (fault, required));
        }
    }

    /// Returns which command a VIP needs now, whether it is one for a VIP that is here, and where
    /// the VIP is or was.
    fn site_command(
        &self,
        place: usize,
        owes_release: bool,
    ) -> Option<(&SiteCommand, bool, String)> {
        let master = self.config.masters.get(self.targets[place].master)?;
        let (command, here, interface) = match &self.outcomes[place].result {
            // Whoever looks every half minute has told the site once.
            Ok(Did::TookOver { .. })
                if matches!(self.asked, Asked::Sync) && !self.changes[place].is_news() =>
            {
                return None;
            }
            Ok(Did::TookOver { interface, .. }) => (&master.on_take_over, true, interface.clone()),
            Ok(Did::Released(released)) => {
                (&master.on_release, false, released.interfaces.join(" "))
            }
            Ok(Did::Nothing(_)) if owes_release => (&master.on_release, false, String::new()),
            _ => return None,
        };
        Some((command.as_ref()?, here, interface))
    }

    /// Whether Sentinel's call says that the master was on this host and is not any more.
    async fn has_left_this_host(&self) -> bool {
        let from = match self.asked {
            Asked::Follow(Failover {
                from: Some(from), ..
            }) => addresses_at_hand(&from.host),
            _ => return false,
        };
        let Ok(netlink) = Netlink::open() else {
            return false;
        };
        let is = Snapshot::new(&netlink).where_is(&from).await;
        self.call == Some(Call::Follow(ToIs::Elsewhere)) && matches!(is, Ok(ToIs::Here(_)))
    }

    /// Runs a command, unless another run has moved the VIP on meanwhile: then it is not this one's.
    /// One at a time for each VIP, so that what a router is told last is what is true.
    async fn run_one(
        &self,
        command: &SiteCommand,
        target: Target<'_>,
        here: bool,
        interface: String,
        left: Duration,
    ) -> Result<(), Fault> {
        let until = Instant::now() + left;
        let _alone = lock::command(target.vip.address, left).await?;
        if is_bound(target.vip).await.is_ok_and(|bound| bound != here) {
            return Ok(());
        }
        let variables = variables(&self.asked, self.truth.as_ref(), &target, interface);
        let left = until.saturating_duration_since(Instant::now());
        site_command::run(command, &variables, left)
    }
}

/// Whether a VIP is bound on this host now.
async fn is_bound(vip: Vip) -> Result<bool, Fault> {
    let netlink = Netlink::open()?;
    Ok(!Snapshot::new(&netlink)
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
        Asked::Operator(_) | Asked::Sync => (String::new(), String::new()),
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
pub(super) fn known_peers(asked: &Asked, target: &Target) -> Vec<IpAddr> {
    let from = match asked {
        Asked::Follow(Failover {
            from: Some(from), ..
        }) => addresses_at_hand(&from.host),
        _ => Vec::new(),
    };
    from.into_iter()
        .chain(target.announce_to.iter().copied())
        .collect()
}

/// Returns the addresses of a host as far as they are known here without asking anybody.
fn addresses_at_hand(host: &Host) -> Vec<IpAddr> {
    match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => hosts::in_hosts(name).unwrap_or_default(),
    }
}
