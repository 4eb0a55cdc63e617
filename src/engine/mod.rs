//! One attempt to make this host agree with what is true about one group of VIPs. Every command that
//! changes anything goes through [`Engine::settle`], and this page tells all of it:
//!
//! ```text
//! lock ─> evidence  ─> verdict ─> plan ─> bind and announce, or release ─> settle and verify
//!         and the kernel, at the same time
//! ```
//!
//! An attempt has no deadline, no retry and no runtime of its own, and prints nothing. It can be dropped at
//! any await and repeated at any time.

mod foresee;
mod left_behind;
mod take_over;
mod task;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::sync::OnceCell;

use crate::config::Target;
use crate::dated::dated;
use crate::deeds::release::{self, Leaving};
use crate::deeds::take_over::Prepared;
use crate::deeds::tickle;
use crate::evidence::{Evidence, FRESH};
use crate::exit::{Fault, Halted};
use crate::frames::Senders;
use crate::kernel::{Netlink, Snapshot, SourceRoute};
use crate::lock::{self, Lock};
use crate::outcome::{Did, State};
use crate::plan::{Action, plan};
use crate::site_command::memory;
use crate::verdict::{Verdict, verdict};
use crate::vip::{Binding, Candidates};

use left_behind::LeftBehind;
pub use task::{Expected, Task};

/// How long the release of one VIP may take: resetting and listing its connections, 3 s each.
const LONG_RELEASE: Duration = Duration::from_secs(6);

const STOPPED: &str = "this process was stopped, or the machine very busy, after the evidence was gathered: nothing was done by what may not be true any more";

/// The evidence, and when it was there.
struct Gathered {
    evidence: Evidence,
    at: Instant,
}

/// What attempts have in common: packet sockets, and what was looked up once.
pub struct Engine {
    started: Instant,
    dry_run: bool,
    /// All VIPs of the configuration: none is an interface's own address.
    vips: RefCell<BTreeSet<IpAddr>>,
    senders: Senders,
    /// Key: the number of the interface, and true for IPv4.
    gateways: RefCell<BTreeMap<(u32, bool), Vec<IpAddr>>>,
    /// The routes that have a source.
    source_routes: RefCell<Rc<OnceCell<Vec<SourceRoute>>>>,
    left_behind: LeftBehind,
    /// The VIPs that were bound, and of whose clients on this host none was looked for yet.
    stranded: RefCell<BTreeSet<IpAddr>>,
}

impl Engine {
    /// Returns an engine whose owner was started at `started`. A dry run plans and changes nothing.
    /// `vips` are the VIPs of the coming attempts, as far as is known.
    pub fn new(started: Instant, dry_run: bool, vips: Vec<IpAddr>) -> Engine {
        Engine {
            started,
            dry_run,
            vips: RefCell::default(),
            senders: Senders::default(),
            gateways: RefCell::default(),
            source_routes: RefCell::default(),
            left_behind: LeftBehind::by(vips),
            stranded: RefCell::default(),
        }
    }

    /// Returns it with these VIPs, all of the configuration: none of them is an interface's own address.
    #[must_use]
    pub fn knowing(self, vips: impl Iterator<Item = IpAddr>) -> Engine {
        self.know(vips);
        self
    }

    /// Notes that these are all VIPs of the configuration now.
    pub fn know(&self, vips: impl Iterator<Item = IpAddr>) {
        self.vips.replace(vips.collect());
    }

    /// Forgets what may have changed since the last attempt.
    pub fn begin(&self) {
        // A socket may be on an interface that went and came back.
        self.senders.clear();
        self.look_anew();
    }

    /// Forgets what was looked up, and keeps the packet sockets: closing one waits for the kernel, about 11 ms.
    pub fn look_anew(&self) {
        self.gateways.borrow_mut().clear();
        self.source_routes.take();
    }

    /// Tries once what is not done yet. Every VIP is announced before any is settled. `gather` gives the
    /// evidence, and is asked under the lock: between the answer and what follows from it no other run
    /// about these VIPs may act on an older one.
    ///
    /// # Errors
    ///
    /// A fault that keeps all VIPs from being tried: no lock, no evidence, no kernel.
    pub async fn settle(
        &self,
        task: &mut Task<'_>,
        gather: impl AsyncFnOnce(&Snapshot<'_>) -> Result<Evidence, Fault>,
    ) -> Result<(), Fault> {
        let lock = self.lock(task).await?;
        let netlink = Netlink::open()?;
        let snapshot = Snapshot::knowing(&netlink, self.vips.borrow().clone());
        let gathered = dated(gather(&snapshot));
        let ((evidence, known_at), ready) =
            join(gathered, self.get_ready(&netlink, &snapshot, task)).await;
        let known = Gathered {
            evidence: evidence?,
            at: known_at,
        };
        self.act(task, known, ready, (&netlink, &snapshot), lock)
            .await;
        Ok(())
    }

    /// Does what follows from the evidence. Apart from the above, which is compiled for each kind of evidence.
    async fn act<'b>(
        &self,
        task: &mut Task<'b>,
        mut known: Gathered,
        mut ready: BTreeMap<usize, (Candidates<'b>, Prepared)>,
        (netlink, snapshot): (&Netlink, &Snapshot<'_>),
        lock: Option<Lock>,
    ) {
        let evidence = task.evidence.insert(std::mem::take(&mut known.evidence));
        let verdict = task.verdict.insert(verdict(evidence)).clone();
        let mut bound = Vec::new();
        for place in task.places() {
            let ready = ready.remove(&place);
            let Target { vip, master, .. } = task.targets[place];
            let seen = match &ready {
                Some((seen, _)) if matches!(verdict, Verdict::Here(..)) => Ok(seen.clone()),
                _ => snapshot.see(vip.address, master.interface.as_deref()).await,
            };
            let action = still_true(known.at)
                .and(seen)
                .and_then(|seen| plan(&verdict, &vip, &seen));
            let begun = Instant::now();
            let result = match (action, &lock) {
                (Err(fault), _) => Err(fault),
                (Ok(action), None) => {
                    self.foresee(netlink, &verdict, action, &task.targets[place])
                        .await
                }
                (Ok(Action::TakeOver(goal)), _) => {
                    let prepared = ready.map(|(_, prepared)| prepared);
                    let taken = self.take_over((netlink, known.at), task, place, goal, prepared);
                    match taken.await {
                        Ok(done) => {
                            bound.push(done);
                            continue;
                        }
                        Err(fault) => Err(fault),
                    }
                }
                (Ok(Action::Announce(at)), _) => {
                    self.announce((netlink, known.at), task, place, &at).await
                }
                (Ok(Action::Release(from)), Some(lock)) => {
                    memory::before_release(&task.targets[place]);
                    self.release(netlink, lock, task, place, &from).await
                }
                (Ok(Action::Nothing), _) => Ok(self.nothing(&verdict, task, place).await),
            };
            task.outcomes[place].state = result.map_or_else(State::from, State::Done);
            // All that follows for the next VIP is another release, which must not wait because this one took long: its
            // clients would be without an answer.
            if matches!(verdict, Verdict::Elsewhere(_)) {
                known.at += begun.elapsed().min(LONG_RELEASE);
            }
        }
        // A dry run has nothing to settle.
        let Some(lock) = &lock else { return };
        for bound in bound {
            let place = bound.place;
            let result = self.finish((netlink, known.at), lock, task, bound).await;
            task.outcomes[place].state = result.map_or_else(State::from, State::Done);
        }
        // What goes wrong here is no VIP's fault, and the next run tries again.
        let _ = release::mend(netlink, lock).await;
    }

    /// Waits until no other run is about what is still to be tried. A dry run changes nothing, and
    /// waits for nobody.
    async fn lock(&self, task: &mut Task<'_>) -> Result<Option<Lock>, Fault> {
        if self.dry_run {
            return Ok(None);
        }
        let vips = task
            .places()
            .into_iter()
            .map(|place| task.targets[place].vip.address);
        let lock = lock::vips(vips).await?;
        task.unlocked |= !lock.is_held();
        Ok(Some(lock))
    }

    async fn nothing(&self, verdict: &Verdict, task: &mut Task<'_>, place: usize) -> Did {
        let vip = task.targets[place].vip.address;
        let so_far = &task.outcomes[place].so_far;
        let done = so_far
            .released_here
            .then(|| Did::Released(so_far.released.clone()));
        // What a run has left that was killed, or an attempt that was dropped, before its clients were told.
        if matches!(verdict, Verdict::Elsewhere(_))
            && self.left_behind.has(vip, so_far.released_here).await
        {
            tell_clients(task, place, None);
        }
        done.unwrap_or_else(|| Did::Nothing(verdict.idle()))
    }

    async fn release(
        &self,
        netlink: &Netlink,
        lock: &Lock,
        task: &mut Task<'_>,
        place: usize,
        bindings: &[Binding],
    ) -> Result<Did, Fault> {
        let vip = task.targets[place].vip;
        let vips = self.vips.borrow().clone();
        let leaving = Leaving {
            vip,
            bindings,
            vips: &vips,
            routes: self.routes_from(netlink, vip.address).await,
        };
        let changes = &mut task.outcomes[place].so_far;
        // Noted first: who drops this in the midst must not find later that nothing was done.
        changes.released_here = true;
        let (done, fault) = match release::release(netlink, lock, leaving).await {
            Ok(done) => (done, None),
            Err(Halted { fault, done }) => (done, Some(fault)),
        };
        let all = &mut changes.released;
        all.interfaces.extend(done.interfaces);
        all.routes.extend(done.routes);
        all.reset = std::mem::take(&mut all.reset).and(done.reset);
        let did = match fault {
            None => Ok(Did::Released(all.clone())),
            Some(fault) => Err(fault),
        };
        if done.left_behind {
            tell_clients(task, place, bindings.first().map(|binding| binding.ifindex));
        }
        did
    }

    /// Returns the routes that have a VIP as their source. All VIPs share one list: it may be long.
    async fn routes_from(&self, netlink: &Netlink, vip: IpAddr) -> Result<Vec<SourceRoute>, Fault> {
        if vip.is_ipv6() {
            return Ok(Vec::new());
        }
        let list = Rc::clone(&self.source_routes.borrow());
        let all = list.get_or_try_init(|| netlink.source_routes()).await?;
        let has = |route: &&SourceRoute| route.source().map(IpAddr::V4) == Some(vip);
        Ok(all.iter().filter(has).cloned().collect())
    }
}

/// Makes sure that evidence from then may still be acted on.
fn still_true(known_at: Instant) -> Result<(), Fault> {
    match known_at.elapsed() > FRESH {
        true => Err(Fault::passing(STOPPED)),
        false => Ok(()),
    }
}

/// Has the clients of a VIP's connections told that it is gone.
fn tell_clients(task: &mut Task<'_>, place: usize, ifindex: Option<u32>) {
    let target = &task.targets[place];
    task.left_behind.push(tickle::Job {
        master: target.name.to_owned(),
        vip: target.vip,
        ifindex,
    });
}
