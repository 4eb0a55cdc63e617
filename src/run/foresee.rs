//! What a run would do: the plan in words, for `--dry-run`.

use super::{Run, idle};
use crate::deeds::release::Released;
use crate::exit::Fault;
use crate::kernel::Netlink;
use crate::kernel::Snapshot;
use crate::plan::{Action, Call};
use crate::report::{Did, Sent};
use crate::vip::Binding;

impl Run<'_> {
    /// Returns what would be done, for a dry run.
    pub(super) async fn foresee(
        &self,
        netlink: &Netlink,
        call: Call,
        action: Action,
        place: usize,
    ) -> Result<Did, Fault> {
        Ok(match action {
            Action::TakeOver(goal) => {
                let bound = Snapshot::new(netlink)
                    .bindings(self.targets[place].vip.address)
                    .await?;
                let stray: Vec<Binding> = bound
                    .into_iter()
                    .filter(|binding| binding.ifindex != goal.ifindex)
                    .collect();
                Did::TookOver {
                    interface: name(netlink, goal.ifindex).await?,
                    chosen: goal.chosen,
                    already: goal.adopt,
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
