//! One VIP's voice: frames when they are due, and an end as soon as the VIP goes. What happens
//! meanwhile is told to it, and changes its state at once: nothing queues.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::mem;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use pnet_base::MacAddr;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout, timeout_at};

use super::interface::Interface;
use super::kernel::Kernel;
use super::presence::{self, Wish};
use super::resident::Noticed;
use super::schedule::Schedule;
use super::truth::{Leave, Truth};
use super::{Ended, Job, Outcome, Summary, record};
use crate::evidence::FRESH;
use crate::exit::Fault;
use crate::frames::{Heard, directed, hear, round};

/// How much longer than its schedule a voice may take, whatever hangs.
const GRACE: Duration = Duration::from_secs(1);

/// How often a resident voice that was asked to leave looks whether the VIP has an announcer.
const LOOK: Duration = Duration::from_secs(1);

/// How soon a resident voice looks again whether it may say what it could not.
const SOON: Duration = Duration::from_millis(200);

/// How often a voice that is not resident sees at least that it is not stopped.
const MOMENT: Duration = Duration::from_secs(1);

const GONE: &str = "the VIP is gone";
const ELSEWHERE: &str = "the master was on another host";
const STOPPED: &str = "it was stopped for a while, and nobody could tell where the master was then";

/// The voice of one VIP on its interface.
pub struct Voice<'a> {
    /// What it announces.
    pub job: Job,
    truth: Rc<Truth<'a>>,
    /// Who is told what it hears; a resident voice has somebody.
    resident: Option<Tell<'a>>,
    started: Instant,
    state: RefCell<State>,
    /// Rung when the state has changed. It is a flag: rung twice, it wakes once.
    bell: Notify,
}

struct State {
    schedule: Schedule,
    summary: Summary,
    /// The VIP may be gone.
    is_in_doubt: bool,
    /// Another process announces the VIP.
    is_aside: bool,
    /// Something that was due was not said, as it was not known then that the master is here.
    is_unsaid: bool,
    /// When it was to look again at the latest.
    wake_at: Duration,
    /// It was stopped until long after that, and was not told since that the master is here.
    was_stopped: bool,
    /// It has been told to end.
    end: Option<Outcome>,
}

/// Is told what a resident voice notices.
pub type Tell<'a> = Rc<dyn Fn(Noticed) + 'a>;

impl<'a> Voice<'a> {
    /// Returns a voice that has said nothing yet. Its schedule's times are since `started`.
    pub fn new(job: Job, schedule: Schedule, truth: Rc<Truth<'a>>, started: Instant) -> Self {
        let summary = Summary {
            asked: job.peers.len(),
            ..Summary::default()
        };
        Voice {
            job,
            truth,
            resident: None,
            started,
            state: RefCell::new(State {
                schedule,
                summary,
                is_in_doubt: false,
                is_aside: false,
                is_unsaid: false,
                wake_at: Duration::MAX,
                was_stopped: false,
                end: None,
            }),
            bell: Notify::new(),
        }
    }

    /// Returns the same voice for as long as the VIP is here. Where the master is elsewhere it is silent and waits.
    pub fn resident(self, tell: Tell<'a>) -> Self {
        Voice {
            resident: Some(tell),
            ..self
        }
    }

    /// Announces until the VIP is gone or it is told to end, and leaves the result for `status`. The place of the
    /// VIP's announcer is this one's, except while a process announces that began later.
    pub async fn stay(&self, kernel: &Kernel, interface: &Interface) -> Ended {
        let speak = pin!(self.speak(kernel, interface));
        let spoken = match select(speak, pin!(self.keep_place())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => match never {},
        };
        self.ended(spoken)
    }

    async fn keep_place(&self) -> Infallible {
        let (vip, ifindex) = (self.job.vip.address, self.job.ifindex);
        loop {
            let place = presence::take(vip, ifindex).await;
            record::remove(vip);
            self.step_aside(false);
            self.serve(place.as_ref()).await;
            self.step_aside(true);
            drop(place);
            // A one-shot announcer ends within seconds; a release ends this voice.
            loop {
                sleep(LOOK).await;
                if !presence::is_held(vip, ifindex) {
                    break;
                }
            }
        }
    }

    fn step_aside(&self, is_aside: bool) {
        self.state.borrow_mut().is_aside = is_aside;
        self.bell.notify_one();
    }

    /// Announces in the place of the VIP's present announcer, until the schedule is over, the VIP is
    /// gone or it is told to end, and leaves the result for `status`.
    pub async fn work(&self, kernel: &Kernel, interface: Result<&Interface, &Outcome>) -> Ended {
        let vip = self.job.vip.address;
        let place = presence::take(vip, self.job.ifindex).await;
        // The record of an earlier announcer no longer holds.
        record::remove(vip);
        let longest = self.state.borrow().schedule.end() + GRACE;
        let spoken = match interface {
            Ok(interface) => {
                let speak = pin!(timeout(longest, self.speak(kernel, interface)));
                match select(speak, pin!(self.attend(place.as_ref()))).await {
                    Either::Left((Ok(outcome), _)) => outcome,
                    Either::Left((Err(_), _)) | Either::Right(_) => {
                        Err(Fault::passing("its time was long up: something hung"))
                    }
                }
            }
            Err(outcome) => outcome.clone(),
        };
        // Before the place is free: the next announcer removes the record.
        self.ended(spoken)
    }

    /// Ends it before it has begun.
    pub fn refuse(&self, fault: &Fault) -> Ended {
        record::remove(self.job.vip.address);
        self.ended(Err(fault.clone()))
    }

    /// Ends it so before it has begun.
    pub fn give_up(&self, outcome: Outcome) -> Ended {
        self.ended(outcome)
    }

    fn ended(&self, outcome: Outcome) -> Ended {
        let mut summary = self.state.borrow().summary.clone();
        summary.ended = match &outcome {
            Ok(why) => (*why).to_owned(),
            Err(fault) => fault.to_string(),
        };
        record::write(self.job.vip.address, &summary);
        Ended {
            summary,
            fault: outcome.err(),
        }
    }

    /// Answers others who reach it at its `place`, for ever.
    async fn attend(&self, place: Option<&UnixListener>) {
        loop {
            self.serve(place).await;
            self.end(Ok("another run ended it"));
        }
    }

    /// Answers others who reach it at its `place`, until it is asked to leave.
    async fn serve(&self, place: Option<&UnixListener>) {
        let Some(place) = place else {
            return pending().await;
        };
        while let Wish::Tell(to) = presence::wish(place).await {
            presence::tell(&to, &self.state.borrow().summary);
        }
    }

    async fn speak(&self, kernel: &Kernel, interface: &Interface) -> Outcome {
        if self.job.is_ordered && self.resident.is_none() {
            // Whether the order is against what is true.
            self.truth.want(&self.job.master);
        }
        loop {
            if let Some(outcome) = self.state.borrow().end.clone() {
                return outcome;
            }
            let is_in_doubt = mem::take(&mut self.state.borrow_mut().is_in_doubt);
            if is_in_doubt && !kernel.has(&self.job).await.unwrap_or(true) {
                return Ok(GONE);
            }
            let now = self.started.elapsed();
            if self.state.borrow().schedule.is_over(now) {
                return Ok("its time was up");
            }
            let was_stopped = self.was_stopped(now);
            match self.leave(now) {
                Leave::Granted => self.catch_up(),
                Leave::RoundsOnly if was_stopped => return Ok(STOPPED),
                Leave::RoundsOnly => self.leave_unanswered(now),
                Leave::Refused if self.resident.is_some() => self.keep_silent(now),
                Leave::Refused => return Ok(ELSEWHERE),
                // One forged claim must not silence the rounds for as long as the Sentinels are silent.
                Leave::Asked if self.may_go_on(now) => {}
                Leave::Asked => {
                    self.wait_for_a_round(now).await;
                    continue;
                }
            }
            if let Some(peers) = self.due(now)
                && !self.announce(kernel, interface, (peers, now)).await
            {
                return Ok(GONE);
            }
            self.wait_until(self.wake_at(now)).await;
        }
    }

    /// Waits until then, or until something has happened. Who has nobody to say that it was stopped looks up in between: a
    /// stop that ends before the next round is one, too.
    async fn wait_until(&self, wake: Duration) {
        let wake = match self.resident {
            Some(_) => wake,
            None => wake.min(self.started.elapsed().saturating_add(MOMENT)),
        };
        self.state.borrow_mut().wake_at = wake;
        let _ = timeout_at((self.started + wake).into(), self.bell.notified()).await;
    }

    /// Returns whether it was stopped, and was not told since that the master is here: another host may have taken the
    /// VIP over meanwhile. A resident voice is told so by who knows.
    fn was_stopped(&self, now: Duration) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_late = now > state.wake_at.saturating_add(FRESH);
        state.was_stopped |= is_late && self.resident.is_none();
        state.was_stopped
    }

    /// Returns when it is to look again at the latest.
    fn wake_at(&self, now: Duration) -> Duration {
        let state = self.state.borrow();
        let next = state.schedule.next();
        match state.is_unsaid {
            true => next.min(now + SOON),
            false => next,
        }
    }

    /// Has it say at once what it could not say before: of two hosts that both believed that they are the holder,
    /// the one that the truth names is to announce last.
    fn catch_up(&self) {
        let state = &mut *self.state.borrow_mut();
        state.was_stopped = false;
        if mem::take(&mut state.is_unsaid) {
            state.schedule.owe_round();
            // The round is the answer, and has a second one.
            state.schedule.owe_answer();
        }
    }

    fn leave_unanswered(&self, now: Duration) {
        let state = &mut *self.state.borrow_mut();
        state.is_unsaid |= self.resident.is_some() && state.schedule.owes_answer(now);
        state.schedule.forget_answer(now);
    }

    fn keep_silent(&self, now: Duration) {
        let state = &mut *self.state.borrow_mut();
        state.is_unsaid |= state.schedule.keep_silent(now);
    }

    /// Returns whether it may say what is due now. Where nobody else claims the VIP nothing has to be asked, unless it
    /// was stopped.
    fn leave(&self, now: Duration) -> Leave {
        let state = self.state.borrow();
        // A resident voice need not ask to know.
        let matters =
            !state.summary.rivals.is_empty() || state.was_stopped || self.resident.is_some();
        match matters && (state.schedule.is_anything_due(now) || state.is_unsaid) {
            _ if state.is_aside => Leave::Refused,
            true => self.truth.leave(&self.job),
            false => Leave::Granted,
        }
    }

    /// Returns whether a round is due that may go out while it is being asked what is true.
    fn may_go_on(&self, now: Duration) -> bool {
        let state = self.state.borrow();
        state.schedule.is_round_due(now) && !state.was_stopped && !self.truth.was_against(&self.job)
    }

    /// Waits for what was asked, at most until the next round is due that is not due yet.
    async fn wait_for_a_round(&self, now: Duration) {
        let until = {
            let schedule = &self.state.borrow().schedule;
            match schedule.is_round_due(now) {
                true => schedule.end(),
                false => schedule.next_round(),
            }
        };
        self.wait_until(until).await;
    }

    /// Returns the peers that are to be asked beside what is due now, if anything is.
    fn due(&self, now: Duration) -> Option<&[IpAddr]> {
        let schedule = &mut self.state.borrow_mut().schedule;
        match (schedule.is_due(now), schedule.is_answer_due(now)) {
            (true, _) => Some(&self.job.peers),
            (false, true) => Some(&[]),
            (false, false) => None,
        }
    }

    /// Sends one round, and asks these peers, by what was true then. Returns false, and sends nothing more, once the VIP
    /// is not here: a late frame would steal it back from the host that has it now. An interface that is down has nobody
    /// to be told, and comes up again or goes.
    async fn announce(
        &self,
        kernel: &Kernel,
        interface: &Interface,
        (peers, then): (&[IpAddr], Duration),
    ) -> bool {
        let vip = self.job.vip.address;
        let mut frames = round(&interface.link(), vip);
        frames.extend(directed(&interface.link(), vip, peers));
        for frame in frames {
            match kernel.has(&self.job).await {
                Ok(true) => {}
                Ok(false) => return false,
                // Not to be known now: no frame, and the next round asks again.
                Err(_) => return true,
            }
            // This process was stopped in between, and the master may be elsewhere by now: it is asked again.
            if self.started.elapsed() > then + FRESH {
                self.state.borrow_mut().was_stopped |= self.resident.is_none();
                self.hurry();
                return true;
            }
            let mut state = self.state.borrow_mut();
            // A release is about to remove the VIP.
            if state.end.is_some() {
                return true;
            }
            // A frame that is not taken (a full queue) does not keep back the others.
            if interface.send(&frame) {
                state.summary.frames += 1;
            }
        }
        true
    }

    /// Takes in a frame that this host has received at the hardware address `mac`.
    pub fn hear(&self, frame: &[u8], mac: MacAddr, own: &[MacAddr]) {
        let mut state = self.state.borrow_mut();
        match hear(frame, mac, self.job.vip.address) {
            Some(Heard::Rival(rival)) if !own.contains(&rival) => {
                state.schedule.owe_answer();
                if state.summary.rival(&rival.to_string()) {
                    self.tell(Noticed::Rival(self.job.vip.address, rival));
                }
                self.bell.notify_one();
            }
            Some(Heard::Answer(peer)) if self.job.peers.contains(&peer) => {
                if state.summary.confirm(peer, self.started.elapsed()) {
                    self.tell(Noticed::Confirmed(self.job.vip.address, peer));
                }
            }
            Some(_) | None => {}
        }
    }

    fn tell(&self, noticed: Noticed) {
        if let Some(tell) = &self.resident {
            tell(noticed);
        }
    }

    /// Returns what it has done and heard so far.
    pub fn summary(&self) -> Summary {
        self.state.borrow().summary.clone()
    }

    /// Has it send a round at once, unless it sent one in the last second.
    pub fn again(&self) {
        let now = self.started.elapsed();
        let schedule = &mut self.state.borrow_mut().schedule;
        schedule.owe_round_unless_recent(now);
        self.bell.notify_one();
    }

    /// Has it look at what has changed.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// Has it look whether the VIP is still here.
    pub fn doubt(&self) {
        self.state.borrow_mut().is_in_doubt = true;
        self.bell.notify_one();
    }

    /// Has it send a round at once.
    pub fn hurry(&self) {
        self.state.borrow_mut().schedule.owe_round();
        self.bell.notify_one();
    }

    /// Has it send all rounds of a take-over again: its link came up.
    pub fn begin_anew(&self) {
        let now = self.started.elapsed();
        self.state.borrow_mut().schedule.owe_rounds(now);
        self.bell.notify_one();
    }

    /// Has it end so. The first end counts.
    pub fn end(&self, outcome: Outcome) {
        self.state.borrow_mut().end.get_or_insert(outcome);
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests;
