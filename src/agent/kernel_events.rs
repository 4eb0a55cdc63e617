//! What changes in the kernel: an address that something removed or bound, an interface that came back.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::sleep;

use super::core;
use super::world::World;
use crate::kernel::{Event, events};

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_millis(100);

/// Tells the core, for ever.
pub(super) async fn pass_on(world: Rc<World>) {
    loop {
        if let Ok(changes) = events() {
            // What happened until now is found by the next round of questions.
            world.tell(core::Event::Changed).await;
            let changes = changes.map(|change| told(&world, change));
            pass_on_all(changes, &world.to).await;
        }
        sleep(REOPEN).await;
    }
}

/// Passes on what there is room for. The changes are taken as they come, or they would pile up in this process: where
/// there is no room they are dropped, and once there is the core is told that some were.
async fn pass_on_all(
    mut changes: impl Stream<Item = core::Event> + Unpin,
    to: &mpsc::Sender<core::Event>,
) {
    let mut has_lost = false;
    loop {
        let change = match has_lost {
            false => changes.next().await,
            true => match select(changes.next(), pin!(to.reserve())).await {
                Either::Left((change, _)) => change,
                Either::Right((room, _)) => {
                    // It is closed only when this world ends.
                    let Ok(room) = room else { return };
                    room.send(core::Event::Lost);
                    has_lost = false;
                    continue;
                }
            },
        };
        let Some(change) = change else { return };
        match to.try_send(change) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => has_lost = true,
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

fn told(world: &World, change: Event) -> core::Event {
    match change {
        Event::AddressGone(address, _) => core::Event::AddressGone(address),
        Event::AddressNew(address, _) => core::Event::AddressNew(address),
        Event::Link(..) => core::Event::LinkChanged,
        Event::LinkGone(_) => {
            // Its packet sockets are of no use any more.
            world.engine.begin();
            core::Event::LinkChanged
        }
        Event::Lost => {
            world.engine.begin();
            core::Event::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::iter;

    use futures_util::stream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn changes_are_taken_while_the_core_is_busy_and_then_it_looks_at_everything() {
        let (to, mut heard) = mpsc::channel(4);
        let flood = iter::repeat_n(core::Event::LinkChanged, 100_000);
        let quiet = stream::pending();
        let taken = Cell::new(0);
        let count = |_: &core::Event| taken.set(taken.get() + 1);
        let changes = stream::iter(flood).inspect(count).chain(quiet);
        let listens = async {
            // Nobody has listened until all were taken.
            tokio::task::yield_now().await;
            let mut all = Vec::new();
            while !matches!(all.last(), Some(core::Event::Lost)) {
                all.extend(heard.recv().await);
            }
            all.len()
        };
        let passed_on = pin!(pass_on_all(changes, &to));
        let listens = pin!(listens);
        let both = select(passed_on, listens);
        let Ok(Either::Right((number, _))) = timeout(Duration::from_secs(60), both).await else {
            panic!("it is not told that some were lost");
        };
        assert_eq!((number, taken.get()), (5, 100_000));
    }
}
