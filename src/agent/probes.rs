//! Once a minute the network is asked who answers for each VIP: what counts is the effect, not this host's belief.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::world::World;
use crate::kernel::Snapshot;
use crate::log::{self, Level};
use crate::report::{pair, quote};
use crate::vip::choose_interface;

const MINUTE: Duration = Duration::from_secs(60);

/// Asks, for ever.
pub(super) async fn ask_every_minute(world: Rc<World>) {
    loop {
        sleep(MINUTE).await;
        for vip in world.config.vips() {
            if let Some(answers) = ask(&world, vip.address).await {
                note(&world, vip.address, answers).await;
            }
        }
    }
}
