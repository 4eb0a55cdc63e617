//! What an attempt would do: the plan as data, for `--dry-run`.

use super::Engine;
use crate::config::Target;
use crate::deeds::release;
use crate::exit::Fault;
use crate::kernel::{Netlink, Snapshot};
use crate::outcome::{Did, Mended, Released, Sent};
use crate::plan::Action;
use crate::verdict::Verdict;
use crate::vip::Binding;

impl Engine {
    /// Returns what would be done about a VIP.
    pub(super) async fn foresee(
        &self,
        netlink: &Netlink,
        verdict: &Verdict,
        action: Action,
        target: &Target<'_>,
    ) -> Result<Did, Fault> {
        Ok(match action {
            Action::TakeOver(goal) => {
                let bound = Snapshot::new(netlink).bindings(target.vip.address).await?;
                let (here, stray): (Vec<Binding>, Vec<Binding>) = bound
                    .into_iter()
                    .partition(|binding| binding.ifindex == goal.ifindex);
                let expires = goal.adopt.is_some_and(|there| !there.lasts);
                let wide = here.iter().find(|binding| goal.is_too_wide(binding));
                let mended = expires.then_some(Mended::Lifetime).into_iter();
                let mended = mended.chain(wide.map(|binding| Mended::Subnet(binding.prefix)));
                Did::TookOver {
                    interface: name(netlink, goal.ifindex).await?,
                    chosen: goal.chosen,
                    already: goal.adopt.map(|_| goal.prefix),
                    moved_from: names(netlink, &stray).await?,
                    mended: mended.collect(),
                    sent: Sent::Frames(0),
                }
            }
            Action::Announce(bindings) => Did::Announced {
                interfaces: names(netlink, &bindings).await?,
                sent: Vec::new(),
            },
            Action::Release(bindings) => {
                let vips = self.vips.borrow().clone();
                release::refuse(netlink, target.vip, &bindings, &vips).await?;
                Did::Released(Released {
                    interfaces: names(netlink, &bindings).await?,
                    ..Released::default()
                })
            }
            Action::Nothing => Did::Nothing(verdict.idle()),
        })
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
    let link = netlink.link(ifindex).await?;
    Ok(link.map_or_else(|| format!("interface number {ifindex}"), |link| link.name))
}
