//! A Redis of this host that has died as the master: a Sentinel is elected and asked to fail over, and clients are
//! refused in its place.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;

use super::core::Event;
use super::journal::say_of;
use super::world::World;
use crate::deeds::refuse::{Job, refuse};
use crate::election::look::Vote;
use crate::election::{self, Progress, QUICK, Request, Terms};
use crate::evidence::{Ballot, Site};
use crate::kernel::Snapshot;
use crate::log::Level;

/// How long the elected Sentinel takes at most until it has begun: a tick of its timer, and a request that was late.
const AHEAD: Duration = Duration::from_millis(500);

impl World {
    /// Has a Sentinel elected and asked to fail over from a master that has died, and tells the core what came of it.
    /// `near` are the replicas of which one may be selected; of the votes `over` nothing came, and the others have stood for
    /// long.
    pub(super) async fn elect(
        self: Rc<Self>,
        name: String,
        dead: Site,
        near: Vec<String>,
        (over, stood): (Vec<Vote>, Vec<Vote>),
    ) {
        self.urgent.over().await;
        // It is never closed, so that this does not fail.
        let _turn = self.elections.acquire().await;
        let ways = self.ways.borrow().get(&name).cloned().unwrap_or_default();
        let known = self.core.borrow().evidence(&name, self.now());
        let needed = known.ballot.as_ref().map(Ballot::needed);
        // How many votes would be a majority is not known any more: one alone must not be.
        let needed = needed.ok_or_else(|| "the Sentinels could not be asked meanwhile".to_owned());
        let too_late = self.is_too_late(&name);
        let needed = match needed.and_then(|needed| too_late.map_or(Ok(needed), Err)) {
            Ok(needed) => needed,
            Err(why) => {
                let told = Event::Elected(name, Err((why, false)), Vec::new());
                return self.tell(told).await;
            }
        };
        let request = Request {
            name: &name,
            master: &dead,
            ways: &ways,
            terms: Terms {
                needed,
                leaving: election::leaving(&dead, &ways, &self.config(), &self.netlink).await,
                is_here: true,
                near: Some(near),
                ahead: Some(AHEAD),
                over,
                stood,
                taken: self.taken.get(),
            },
            step: QUICK,
        };
        let began = self.now();
        let asked = election::hold(&request, &self.lines, async |_: Progress| Ok(())).await;
        let asked = match asked {
            Ok((plan, votes)) => {
                let who = ways[plan.asked].endpoint.to_string();
                let took = (self.now() - began).as_secs_f64() * 1000.0;
                let text = format!(
                    "the Sentinel at {who} was elected in epoch {} and asked to fail over, in {took:.1} ms",
                    plan.epoch
                );
                say_of(&name, Level::Notice, &text).await;
                (Ok(who), votes)
            }
            Err(failed) => {
                let was_asked = failed.why.was_asked();
                (Err((failed.why.to_string(), was_asked)), failed.votes)
            }
        };
        let (asked, votes) = asked;
        let epochs = votes.iter().map(|vote| vote.epoch);
        self.taken.set(epochs.fold(self.taken.get(), u64::max));
        self.tell(Event::Elected(name, asked, votes)).await;
    }

    fn is_too_late(&self, name: &str) -> Option<String> {
        let core = self.core.borrow();
        core.master(name)?.is_too_late(self.now())
    }

    /// Has clients refused in place of a dead Redis whose VIP is not bound here any more, or ends that.
    pub(super) fn refuse(self: &Rc<Self>, name: String, wanted: bool) {
        let before = self.refusing.borrow_mut().remove(&name);
        if let Some(before) = before {
            before.abort();
        }
        if wanted {
            let (world, of) = (Rc::clone(self), name.clone());
            let task = spawn_local(async move { world.refuse_clients(&of).await });
            let mut refusing = self.refusing.borrow_mut();
            refusing.insert(name, task.abort_handle());
        }
    }

    async fn refuse_clients(&self, name: &str) {
        let config = self.config();
        let master = config.masters.get(name).into_iter();
        let vips: Vec<_> = master
            .flat_map(|it| &it.vips)
            .map(|vip| vip.address)
            .collect();
        let here = Snapshot::new(&self.netlink).carriers(&vips).await;
        let jobs: Vec<Job> = here
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(vip, ifindex)| {
                Some(Job {
                    vip,
                    ifindex: ifindex?,
                })
            })
            .collect();
        for (job, ended) in jobs.iter().zip(refuse(&jobs).await) {
            let (level, text) = match ended {
                Ok(refused) => (
                    Level::Notice,
                    format!(
                        "{} segments for {} were refused until {}",
                        refused.segments, job.vip, refused.end
                    ),
                ),
                Err(fault) => (Level::Warning, format!("clients are not refused: {fault}")),
            };
            say_of(name, level, &text).await;
        }
    }
}

#[cfg(test)]
mod tests;
