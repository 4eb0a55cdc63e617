//! Announcers that live in a process that stays: a voice for each VIP that is here, for as long as it is. They
//! share the connections to the kernel, and a packet socket for each interface and address family.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use pnet_base::MacAddr;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::happenings::{Group, listen, watch};
use super::interface::Interface;
use super::kernel::Kernel;
use super::schedule::Schedule;
use super::truth::Truth;
use super::voice::{Tell, Voice};
use super::{Job, Outcome, Side, Summary};
use crate::exit::Fault;
use crate::kernel::events;

pub use super::truth::{Holder, Oracle};

/// How long an interface stays open on which nothing is announced any more: to close a packet socket takes the kernel
/// 8 ms, in which this thread stands still, and clients wait for the release that has ended the last announcement.
const LINGER: Duration = Duration::from_secs(1);

/// What a resident announcer notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// This hardware address claims the VIP, too; told once for each.
    Rival(IpAddr, MacAddr),
    /// This neighbour has answered the VIP; told once for each.
    Confirmed(IpAddr, IpAddr),
    /// The VIP or its interface is gone, and nobody had said that it would.
    Gone(IpAddr),
}

/// The announcers of this process.
pub struct Announcers {
    truth: Rc<Truth<'static>>,
    every: Cell<Duration>,
    tell: Tell<'static>,
    voices: RefCell<BTreeMap<IpAddr, Rc<Voice<'static>>>>,
    /// The voices that have not begun.
    new: RefCell<Vec<Rc<Voice<'static>>>>,
    came: Notify,
    ears: RefCell<BTreeMap<Side, Ear>>,
}

/// An open interface.
#[derive(Clone)]
struct Ear {
    interface: Rc<Interface>,
    /// Rung when nobody needs it any more.
    close: Rc<Notify>,
}

/// What goes on: voices and ears.
type Tasks<'t> = FuturesUnordered<LocalBoxFuture<'t, ()>>;

impl Announcers {
    /// Returns that nothing is announced. `truth` says at any moment where a master is, operator's orders included;
    /// after the rounds of a take-over a VIP is announced `every` so often, zero is never. `tell` is called with
    /// what is noticed, and must not call back.
    pub fn new(
        truth: impl Fn(&str) -> Holder + 'static,
        every: Duration,
        tell: impl Fn(Noticed) + 'static,
    ) -> Announcers {
        Announcers {
            truth: Rc::new(Truth::known(Box::new(truth))),
            every: Cell::new(every),
            tell: Rc::new(tell),
            voices: RefCell::default(),
            new: RefCell::default(),
            came: Notify::new(),
            ears: RefCell::default(),
        }
    }

    /// Announces, for ever. It may be dropped at any time and run again: then it goes on with the same VIPs.
    ///
    /// # Errors
    ///
    /// No connection to the kernel.
    pub async fn run(&self) -> Result<Infallible, Fault> {
        // Before anything is looked at, so that no change is missed.
        let changes = events()?.boxed();
        let kernel = Kernel::open().await?;
        self.ears.take();
        self.new.replace(self.all());
        let watching = watch(changes, &kernel, || self.groups());
        match select(pin!(watching), pin!(self.work(&kernel))).await {
            Either::Left((fault, _)) => Err(fault),
            Either::Right((never, _)) => match never {},
        }
    }

    /// Announces a VIP that was taken over now, anew if it is announced already.
    pub fn announce(&self, job: Job) {
        let vip = job.vip.address;
        let schedule = Schedule::for_ever(self.every.get());
        let voice = Voice::new(job, schedule, Rc::clone(&self.truth), Instant::now());
        let voice = Rc::new(voice.resident(Rc::clone(&self.tell)));
        let before = self.voices.borrow_mut().insert(vip, Rc::clone(&voice));
        if let Some(before) = before {
            before.end(Ok("it was taken over again"));
        }
        self.new.borrow_mut().push(voice);
        self.came.notify_one();
    }

    /// Announces each VIP so often from now on.
    pub fn announce_every(&self, time: Duration) {
        if self.every.replace(time) != time {
            self.all()
                .into_iter()
                .for_each(|voice| self.announce(voice.job.clone()));
        }
    }

    /// Announces a VIP at once, if it is announced at all and was not in the last second.
    pub fn again(&self, vip: IpAddr) {
        if let Some(voice) = self.voices.borrow().get(&vip) {
            voice.again();
        }
    }

    /// Announces all VIPs at once, except VIPs that were announced in the last second.
    pub fn all_again(&self) {
        self.voices
            .borrow()
            .values()
            .for_each(|voice| voice.again());
    }

    /// Says nothing more about a VIP: it is about to be released.
    pub fn stop(&self, vip: IpAddr) {
        if let Some(voice) = self.voices.borrow_mut().remove(&vip) {
            voice.end(Ok("the VIP was about to be released"));
        }
    }

    /// Returns whether a VIP is announced.
    pub fn has(&self, vip: IpAddr) -> bool {
        self.voices.borrow().contains_key(&vip)
    }

    /// Returns what was done and heard about a VIP since it was taken over, if it is announced.
    pub fn summary(&self, vip: IpAddr) -> Option<Summary> {
        self.voices.borrow().get(&vip).map(|voice| voice.summary())
    }

    fn all(&self) -> Vec<Rc<Voice<'static>>> {
        self.voices.borrow().values().cloned().collect()
    }

    fn on(&self, side: Side) -> Vec<Rc<Voice<'static>>> {
        let mut all = self.all();
        all.retain(|voice| Side::of(&voice.job) == side);
        all
    }

    fn groups(&self) -> Vec<Group<'static>> {
        let all = self.all();
        let ears = self.ears.borrow();
        ears.iter()
            .map(|(side, ear)| side.group(&ear.interface, &all))
            .collect()
    }

    async fn work(&self, kernel: &Kernel) -> Infallible {
        let mut tasks = Tasks::new();
        loop {
            for voice in self.new.take() {
                self.begin(voice, kernel, &tasks).await;
            }
            if tasks.is_empty() {
                self.came.notified().await;
            } else {
                select(pin!(self.came.notified()), tasks.next()).await;
            }
        }
    }

    /// Begins a voice, on an interface that is opened if it is not open.
    async fn begin<'t>(&'t self, voice: Rc<Voice<'static>>, kernel: &'t Kernel, tasks: &Tasks<'t>) {
        let side = Side::of(&voice.job);
        let open = self.ears.borrow().get(&side).cloned();
        let ear = match open {
            Some(ear) => Ok(ear),
            None => self.open(side, &voice.job, kernel, tasks).await,
        };
        tasks.push(Box::pin(async move {
            match ear {
                Ok(ear) => {
                    voice.stay(kernel, &ear.interface).await;
                }
                Err(outcome) => {
                    voice.give_up(outcome);
                }
            }
            self.ended(&voice);
            sleep(LINGER).await;
            self.close_if_unused(Side::of(&voice.job));
        }));
    }

    async fn open<'t>(
        &'t self,
        side: Side,
        job: &Job,
        kernel: &'t Kernel,
        tasks: &Tasks<'t>,
    ) -> Result<Ear, Outcome> {
        let interface = Interface::open(kernel, side.ifindex, job.vip.address).await?;
        let ear = Ear {
            interface: Rc::new(interface),
            close: Rc::default(),
        };
        self.ears.borrow_mut().insert(side, ear.clone());
        let Ear { interface, close } = ear.clone();
        tasks.push(Box::pin(async move {
            let listening = listen(&interface, |frame, mac| {
                let own = kernel.own_macs();
                for voice in self.on(side) {
                    voice.hear(frame, mac, &own);
                }
            });
            let (listening, closed) = (pin!(listening), pin!(close.notified()));
            if let Either::Left((fault, _)) = select(listening, closed).await {
                // A VIP that comes now needs another announcer.
                self.ears.borrow_mut().remove(&side);
                for voice in self.on(side) {
                    voice.end(Err(fault.clone()));
                }
            }
        }));
        Ok(ear)
    }

    /// Takes in that a voice has ended.
    fn ended(&self, voice: &Rc<Voice<'static>>) {
        let vip = voice.job.vip.address;
        let is_present = |present: &Rc<Voice<'static>>| Rc::ptr_eq(present, voice);
        let is_present = self.voices.borrow().get(&vip).is_some_and(is_present);
        if is_present {
            self.voices.borrow_mut().remove(&vip);
            (self.tell)(Noticed::Gone(vip));
        }
    }

    /// Closes an interface on which nothing is announced any more.
    fn close_if_unused(&self, side: Side) {
        if self.on(side).is_empty()
            && let Some(ear) = self.ears.borrow_mut().remove(&side)
        {
            ear.close.notify_one();
        }
    }
}
