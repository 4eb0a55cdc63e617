//! What changes in the kernel: an address that something removed or bound, an interface that came back.

use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::core;
use super::world::World;
use crate::kernel::{Event, events};

/// How long after a broken connection to the kernel another one is opened.
const REOPEN: Duration = Duration::from_millis(100);

/// Tells the core, for ever.
pub(super) async fn pass_on(world: Rc<World>) {
    loop {
        if let Ok(mut changes) = events() {
            // What happened until now is found by the next round of questions.
            world.tell(core::Event::Changed).await;
            while let Some(change) = changes.next().await {
                pass_on_one(&world, change).await;
            }
        }
        sleep(REOPEN).await;
    }
}

async fn pass_on_one(world: &World, change: Event) {
    let event = match change {
        Event::AddressGone(address, _) => core::Event::AddressGone(address),
        Event::AddressNew(address, _) => core::Event::AddressNew(address),
        Event::Link(_) => core::Event::LinkChanged,
        Event::LinkGone(_) => {
            // Its packet sockets are of no use any more.
            world.engine.begin();
            core::Event::LinkChanged
        }
        Event::Lost => core::Event::Changed,
    };
    world.tell(event).await;
}
