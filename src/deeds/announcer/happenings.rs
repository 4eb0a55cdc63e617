//! What happens while voices speak, and which of them it concerns: events of the kernel, frames,
//! signals.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, join3};
use futures_util::stream::BoxStream;
use pnet_base::MacAddr;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::interface::{Interface, Look};
use super::kernel::Kernel;
use super::voice::Voice;
use super::{INTERFACE_GONE, Outcome};
use crate::exit::Fault;
use crate::kernel::{Event, events};

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_millis(20);

/// An interface and all voices of one address family on it.
#[derive(Clone)]
pub struct Group<'a> {
    /// The interface's number.
    pub ifindex: u32,
    /// The interface.
    pub interface: Rc<Interface>,
    /// Its voices.
    pub voices: Vec<Rc<Voice<'a>>>,
}

impl Group<'_> {
    fn end(&self, outcome: &Outcome) {
        for voice in &self.voices {
            voice.end(outcome.clone());
        }
    }

    async fn listen(&self, kernel: &Kernel) {
        let fault = listen(&self.interface, |frame, mac| {
            let own = kernel.own_macs();
            for voice in &self.voices {
                voice.hear(frame, mac, &own);
            }
        })
        .await;
        self.end(&Err(fault));
    }

    async fn look(&self, kernel: &Kernel) {
        match self.interface.look(kernel).await {
            Look::News => self.voices.iter().for_each(|voice| voice.begin_anew()),
            Look::NoNews => {}
            Look::Gone => self.end(&Ok(INTERFACE_GONE)),
        }
    }
}

/// Hands on each frame that is received, with the interface's own hardware address, for as long as the socket can
/// be watched. Returns why it cannot.
pub async fn listen(interface: &Interface, hear: impl Fn(&[u8], MacAddr)) -> Fault {
    let hear = |frame: &[u8]| {
        // Without a hardware address it is no neighbour of anybody.
        let mac = interface.link().mac;
        if let Some(mac) = mac {
            hear(frame, mac);
        }
    };
    loop {
        if let Err(fault) = interface.receive(hear).await {
            return fault;
        }
        // The network may never fall silent, and the voices are to have their turn.
        yield_now().await;
    }
}

/// Where it is heard of: the kernel's events, and the signals that end an announcer, those among
/// them that Sentinel lets its scripts ignore.
pub struct Happenings {
    changes: BoxStream<'static, Event>,
    signals: [Signal; 4],
}

impl Happenings {
    /// Watches from now on.
    ///
    /// # Errors
    ///
    /// A netlink fault, or a signal that cannot be watched for.
    pub fn watch() -> Result<Happenings, Fault> {
        let watch = |kind| {
            signal(kind)
                .map_err(|error| Fault::passing(format!("cannot watch for signals: {error}")))
        };
        Ok(Happenings {
            changes: events()?.boxed(),
            signals: [
                watch(SignalKind::hangup())?,
                watch(SignalKind::alarm())?,
                watch(SignalKind::terminate())?,
                watch(SignalKind::interrupt())?,
            ],
        })
    }

    /// Tells the voices what happens, for as long as there is something to hear of.
    pub async fn pass_on(self, kernel: &Kernel, groups: &[Group<'_>]) {
        let ears = groups.iter().map(|group| group.listen(kernel));
        let signals = end_at_signal(self.signals, groups);
        let watching = async {
            let fault = watch(self.changes, kernel, || groups.to_vec()).await;
            groups
                .iter()
                .for_each(|group| group.end(&Err(fault.clone())));
        };
        join3(watching, signals, join_all(ears)).await;
    }
}

/// Ends all voices at the first signal.
async fn end_at_signal(mut signals: [Signal; 4], groups: &[Group<'_>]) {
    poll_fn(|context| {
        let came = |signal: &mut Signal| signal.poll_recv(context).is_ready();
        match signals.iter_mut().any(came) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    for group in groups {
        group.end(&Ok("a signal ended it"));
    }
}

/// Passes the kernel's events on to those who are in `groups` then. A connection that breaks is opened anew; then
/// everything is looked at that may have changed. Returns why no other one can be opened.
pub async fn watch<'a>(
    mut changes: BoxStream<'static, Event>,
    kernel: &Kernel,
    groups: impl Fn() -> Vec<Group<'a>>,
) -> Fault {
    loop {
        while let Some(event) = changes.next().await {
            react(event, kernel, &groups()).await;
        }
        sleep(REOPEN).await;
        match events() {
            Ok(again) => changes = again.boxed(),
            Err(_) => return Fault::passing("the connection to the kernel broke"),
        }
        react(Event::Lost, kernel, &groups()).await;
    }
}

async fn react(event: Event, kernel: &Kernel, groups: &[Group<'_>]) {
    match event {
        Event::AddressGone(address, ifindex) => {
            let voices = groups.iter().flat_map(|group| &group.voices);
            let is_its = |voice: &&Rc<Voice>| {
                (voice.job.vip.address, voice.job.ifindex) == (address, ifindex)
            };
            voices.filter(is_its).for_each(|voice| voice.doubt());
        }
        // Every voice looks before it speaks.
        Event::AddressNew(..) => {}
        Event::LinkGone(ifindex) => {
            let its = groups.iter().filter(|group| group.ifindex == ifindex);
            its.for_each(|group| group.end(&Ok(INTERFACE_GONE)));
        }
        Event::Link(ifindex, carrier) => {
            if !groups.iter().any(|group| group.ifindex == ifindex) {
                return;
            }
            kernel.refresh_own_macs().await;
            for group in groups.iter().filter(|group| group.ifindex == ifindex) {
                if !carrier {
                    group.interface.lost_carrier();
                }
                group.look(kernel).await;
            }
        }
        Event::Lost => {
            kernel.refresh_own_macs().await;
            for group in groups {
                group.voices.iter().for_each(|voice| voice.doubt());
                group.look(kernel).await;
            }
        }
    }
}
