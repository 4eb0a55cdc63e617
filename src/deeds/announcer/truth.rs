//! What is true about the masters whose VIPs are announced. It is asked only while another host claims a VIP, or
//! after a stop, for all masters at once, and a few times a second at most, however many claims are heard.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::mem;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::Job;
use super::kernel::Kernel;
use crate::config::Config;
use crate::gather;
use crate::kernel::Snapshot;
use crate::verdict::{Verdict, verdict};

/// How long an answer is acted on: so long a host may go on contesting a claim after the truth has changed.
const FRESH: Duration = Duration::from_millis(500);

/// The pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(200);

/// What a voice may do about a VIP that another host claims, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Answer no claim yet: it is being asked what is true; the voice is woken then.
    Asked,
    /// Contest the claim: the master is here, or an operator wants the VIP here.
    Granted,
    /// Go on with the rounds of the schedule and answer no claim: nobody can tell where the master is, and the
    /// other host may be the rightful holder.
    RoundsOnly,
    /// Say nothing more: the master is elsewhere, or may be.
    Refused,
}

/// Where a master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// On this host: its VIP belongs here.
    Here,
    /// On another host.
    Elsewhere,
    /// Nobody can tell.
    Unknown,
    /// Nobody has told since this process was stopped: another host may have taken the VIP over meanwhile.
    NotTold,
}

/// Says where a master is, by its name.
pub type Oracle<'a> = Box<dyn Fn(&str) -> Holder + 'a>;

/// Whence it is known where the masters are.
enum Source<'a> {
    /// From nowhere.
    Nothing,
    /// The Sentinels of this configuration are asked.
    Sentinels(&'a Config),
    /// This process knows it at any moment.
    Known(Oracle<'a>),
}

impl From<Verdict> for Holder {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Here(..) => Holder::Here,
            Verdict::Elsewhere(_) => Holder::Elsewhere,
            Verdict::Stays(_) | Verdict::Undecided(_) => Holder::Unknown,
        }
    }
}

/// What is known of one master.
#[derive(Clone, Copy, Debug)]
struct Known {
    holder: Holder,
    /// The first answer that told anything: an order may be against it.
    first: Option<Holder>,
    at: Instant,
}

/// What is known of the masters, and of which of them more is wanted.
pub struct Truth<'a> {
    source: Source<'a>,
    known: RefCell<BTreeMap<String, Known>>,
    wanted: RefCell<BTreeSet<String>>,
    came: Notify,
}

impl<'a> Truth<'a> {
    /// Returns that nothing is known yet. Without a configuration it stays so.
    pub fn new(config: Option<&'a Config>) -> Self {
        Truth::from(config.map_or(Source::Nothing, Source::Sentinels))
    }

    /// Returns what this process knows at any moment: nobody is asked.
    pub fn known(oracle: Oracle<'a>) -> Self {
        Truth::from(Source::Known(oracle))
    }

    fn from(source: Source<'a>) -> Self {
        Truth {
            source,
            known: RefCell::default(),
            wanted: RefCell::default(),
            came: Notify::new(),
        }
    }

    /// Has it found out where a master is.
    pub fn want(&self, master: &str) {
        self.wanted.borrow_mut().insert(master.to_owned());
        self.came.notify_one();
    }

    /// Returns what may be done about a job's VIP that another host claims, too.
    pub fn leave(&self, job: &Job) -> Leave {
        match &self.source {
            Source::Nothing => return leave(Holder::Unknown, None, job.is_ordered),
            // It knows of an operator's orders, too, and of their end.
            Source::Known(oracle) => return leave(oracle(&job.master), None, false),
            Source::Sentinels(_) => {}
        }
        match self.fresh(&job.master) {
            Some(known) => leave(known.holder, known.first, job.is_ordered),
            None => {
                self.want(&job.master);
                Leave::Asked
            }
        }
    }

    /// Returns whether what was last known of a job's master, however old, says that its VIP belongs elsewhere.
    pub fn was_against(&self, job: &Job) -> bool {
        let known = self.known.borrow();
        known
            .get(&job.master)
            .is_some_and(|known| leave(known.holder, known.first, job.is_ordered) == Leave::Refused)
    }

    fn fresh(&self, master: &str) -> Option<Known> {
        let known = self.known.borrow().get(master).copied();
        known.filter(|known| known.at.elapsed() < FRESH)
    }

    /// Finds out what is wanted, for ever. `told` is called for each master of which something is known then.
    pub async fn find_out(&self, kernel: &Kernel, told: impl Fn(&str)) {
        let Source::Sentinels(config) = self.source else {
            return pending().await;
        };
        loop {
            self.came.notified().await;
            let wanted = mem::take(&mut *self.wanted.borrow_mut());
            let stale = wanted.iter().filter(|name| self.fresh(name).is_none());
            let names: Vec<&str> = stale.map(String::as_str).collect();
            if !names.is_empty() {
                let netlink = kernel.netlink();
                let evidence = gather::newest(config, &names, &Snapshot::new(&netlink)).await;
                for (name, evidence) in names.iter().zip(evidence) {
                    self.note(name, verdict(&evidence).into());
                }
            }
            wanted.iter().for_each(|name| told(name));
            sleep(PAUSE).await;
        }
    }

    #[cfg(test)]
    pub(super) fn note_elsewhere(&self, master: &str) {
        self.note(master, Holder::Elsewhere);
    }

    fn note(&self, master: &str, holder: Holder) {
        let mut all = self.known.borrow_mut();
        let before = all.get(master).and_then(|known| known.first);
        let first = before.or(Some(holder).filter(|holder| *holder != Holder::Unknown));
        let at = Instant::now();
        all.insert(master.to_owned(), Known { holder, first, at });
    }
}

/// Returns what may be done, by where the master is now, where it was `first`, and whether an operator wants
/// the VIP here. An order that was against the truth from the beginning is obeyed.
fn leave(holder: Holder, first: Option<Holder>, is_ordered: bool) -> Leave {
    match holder {
        Holder::Here => Leave::Granted,
        Holder::Elsewhere if is_ordered && first == Some(Holder::Elsewhere) => Leave::Granted,
        Holder::Elsewhere | Holder::NotTold => Leave::Refused,
        Holder::Unknown if is_ordered => Leave::Granted,
        Holder::Unknown => Leave::RoundsOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::Vip;

    fn job(is_ordered: bool) -> Job {
        Job {
            master: "m".into(),
            vip: Vip::parse("192.168.56.250/24").unwrap(),
            ifindex: 2,
            peers: Vec::new(),
            is_ordered,
        }
    }

    #[test]
    fn a_claim_is_contested_while_the_master_is_here_or_an_operator_wants_it() {
        use Holder::{Elsewhere, Here, Unknown};
        for (holder, first, is_ordered, expected) in [
            (Here, Some(Here), false, Leave::Granted),
            (Elsewhere, Some(Here), false, Leave::Refused),
            (Elsewhere, Some(Elsewhere), false, Leave::Refused),
            (Unknown, None, false, Leave::RoundsOnly),
            (Unknown, Some(Here), false, Leave::RoundsOnly),
            (Here, Some(Here), true, Leave::Granted),
            (Unknown, None, true, Leave::Granted),
            // Against the truth from the beginning; a failover afterwards.
            (Elsewhere, Some(Elsewhere), true, Leave::Granted),
            (Elsewhere, Some(Here), true, Leave::Refused),
        ] {
            let found = leave(holder, first, is_ordered);
            assert_eq!(found, expected, "{holder:?} {first:?} {is_ordered}");
        }
    }

    #[test]
    fn what_this_process_knows_is_not_asked_and_counts_more_than_an_old_order() {
        use Holder::{Elsewhere, Here, Unknown};
        for (holder, expected) in [
            (Here, Leave::Granted),
            (Unknown, Leave::RoundsOnly),
            (Elsewhere, Leave::Refused),
        ] {
            let truth = Truth::known(Box::new(move |_| holder));
            assert_eq!(truth.leave(&job(true)), expected);
            assert!(truth.wanted.borrow().is_empty());
        }
    }

    #[test]
    fn without_a_configuration_nothing_is_asked() {
        let truth = Truth::new(None);
        assert_eq!(truth.leave(&job(false)), Leave::RoundsOnly);
        assert_eq!(truth.leave(&job(true)), Leave::Granted);
        assert!(truth.wanted.borrow().is_empty());
    }

    #[test]
    fn the_first_answer_that_tells_anything_is_remembered() {
        let truth = Truth::new(None);
        for holder in [Holder::Unknown, Holder::Elsewhere, Holder::Here] {
            truth.note("m", holder);
        }
        let known = truth.fresh("m").unwrap();
        assert_eq!(
            (known.holder, known.first),
            (Holder::Here, Some(Holder::Elsewhere))
        );
    }
}
