//! One VIP's voice: frames when they are due, and an end as soon as the VIP goes. What happens
//! meanwhile is told to it, and changes its state at once: nothing queues.

use std::cell::RefCell;
use std::future::pending;
use std::mem;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use pnet_base::MacAddr;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};

use super::interface::Interface;
use super::kernel::Kernel;
use super::presence::{self, Wish};
use super::schedule::Schedule;
use super::truth::{Leave, Truth};
use super::{Ended, Job, Outcome, Summary, record};
use crate::exit::Fault;
use crate::frames::{Heard, directed, hear, round};

/// How much longer than its schedule a voice may take, whatever hangs.
const GRACE: Duration = Duration::from_secs(1);

const GONE: &str = "the VIP is gone";
const ELSEWHERE: &str = "the master was on another host";

/// The voice of one VIP on its interface.
pub struct Voice<'a> {
    /// What it announces.
    pub job: &'a Job,
    truth: &'a Truth<'a>,
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
    /// It has been told to end.
    end: Option<Outcome>,
}

impl<'a> Voice<'a> {
    /// Returns a voice that has said nothing yet. Its schedule's times are since `started`.
    pub fn new(job: &'a Job, schedule: Schedule, truth: &'a Truth<'a>, started: Instant) -> Self {
        let summary = Summary {
            asked: job.peers.len(),
            ..Summary::default()
        };
        Voice {
            job,
            truth,
            started,
            state: RefCell::new(State {
                schedule,
                summary,
                is_in_doubt: false,
                end: None,
            }),
            bell: Notify::new(),
        }
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
        let Some(place) = place else {
            return pending().await;
        };
        loop {
            match presence::wish(place).await {
                Wish::Leave => self.end(Ok("another run ended it")),
                Wish::Tell(to) => presence::tell(&to, &self.state.borrow().summary),
            }
        }
    }

    async fn speak(&self, kernel: &Kernel, interface: &Interface) -> Outcome {
        if self.job.is_ordered {
            // Whether the order is against what is true.
            self.truth.want(&self.job.master);
        }
        loop {
            if let Some(outcome) = self.state.borrow().end.clone() {
                return outcome;
            }
            let is_in_doubt = mem::take(&mut self.state.borrow_mut().is_in_doubt);
            if is_in_doubt && !kernel.has(self.job).await.unwrap_or(true) {
                return Ok(GONE);
            }
            let now = self.started.elapsed();
            if self.state.borrow().schedule.is_over(now) {
                return Ok("its time was up");
            }
            match self.leave(now) {
                Leave::Granted => {}
                Leave::RoundsOnly => self.state.borrow_mut().schedule.forget_answer(),
                Leave::Refused => return Ok(ELSEWHERE),
                // One forged claim must not silence the rounds for as long as the Sentinels are silent.
                Leave::Asked if self.may_go_on(now) => {}
                Leave::Asked => {
                    self.wait_for_a_round(now).await;
                    continue;
                }
            }
            if let Some(peers) = self.due(now)
                && !self.announce(kernel, interface, peers).await
            {
                return Ok(GONE);
            }
            let wake = self.started + self.state.borrow().schedule.next();
            let _ = timeout_at(wake.into(), self.bell.notified()).await;
        }
    }

    /// Returns whether it may say what is due now. Where nobody else claims the VIP nothing has to be asked.
    fn leave(&self, now: Duration) -> Leave {
        let state = self.state.borrow();
        let is_contested = !state.summary.rivals.is_empty();
        match is_contested && state.schedule.is_anything_due(now) {
            true => self.truth.leave(self.job),
            false => Leave::Granted,
        }
    }

    /// Returns whether a round is due that may go out while it is being asked what is true.
    fn may_go_on(&self, now: Duration) -> bool {
        self.state.borrow().schedule.is_round_due(now) && !self.truth.was_against(self.job)
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
        let _ = timeout_at((self.started + until).into(), self.bell.notified()).await;
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

    /// Sends one round, and asks these peers. Returns false, and sends nothing more, once the VIP is
    /// not here: a late frame would steal it back from the host that has it now. An interface that is
    /// down has nobody to be told, and comes up again or goes.
    async fn announce(&self, kernel: &Kernel, interface: &Interface, peers: &[IpAddr]) -> bool {
        let vip = self.job.vip.address;
        let mut frames = round(&interface.link(), vip);
        frames.extend(directed(&interface.link(), vip, peers));
        for frame in frames {
            match kernel.has(self.job).await {
                Ok(true) => {}
                Ok(false) => return false,
                // Not to be known now: no frame, and the next round asks again.
                Err(_) => return true,
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
                state.summary.rival(&rival.to_string());
                self.bell.notify_one();
            }
            Some(Heard::Answer(peer)) if self.job.peers.contains(&peer) => {
                state.summary.confirm(peer, self.started.elapsed());
            }
            Some(_) | None => {}
        }
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

    /// Has it end so. The first end counts.
    pub fn end(&self, outcome: Outcome) {
        self.state.borrow_mut().end.get_or_insert(outcome);
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::vip::Vip;

    #[test]
    fn while_it_is_asked_what_is_true_due_rounds_go_out_and_answers_do_not() {
        let text = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
        let config = config::parse(text, Path::new("/x")).unwrap();
        let truth = Truth::new(Some(&config));
        let job = Job {
            master: "m".into(),
            vip: Vip::parse("192.168.56.250/24").unwrap(),
            ifindex: 2,
            peers: Vec::new(),
            is_ordered: false,
        };
        let seconds = Duration::from_secs;
        let voice = Voice::new(&job, Schedule::new(seconds(15)), &truth, Instant::now());
        {
            let mut state = voice.state.borrow_mut();
            state.summary.rival("02:00:00:00:00:01");
            assert!(state.schedule.is_due(Duration::from_millis(100)));
            state.schedule.owe_answer();
        }
        // An answer alone waits.
        let now = Duration::from_millis(200);
        assert_eq!(voice.leave(now), Leave::Asked);
        assert!(!voice.may_go_on(now));
        let now = Duration::from_millis(1200);
        assert_eq!(voice.leave(now), Leave::Asked);
        assert!(voice.may_go_on(now) && voice.due(now).is_some());
        assert!(!voice.may_go_on(now), "once");
        // What was known last is old, and was no leave.
        truth.note_elsewhere("m");
        assert!(!voice.may_go_on(seconds(3)));
    }
}
