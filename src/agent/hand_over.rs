//! The part of a planned failover that the old master's host has: writes wait, and the old master follows the new one, or
//! leads again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::core::{Event, Master, Stands};
use super::journal::say_of;
use super::redis::Watch;
use super::world::World;
use crate::failover::Endpoint;
use crate::kernel::{connections, reset_these};
use crate::log::Level;
use crate::redis::NoAnswer;

impl World {
    fn watch_of(&self, name: &str, at: SocketAddr, is_paused: bool) -> Option<Rc<Watch>> {
        let watched = self.watched.borrow();
        let watched = watched.get(&(name.to_owned(), at))?;
        Some(watched.watch(is_paused))
    }

    /// Pauses writes, and tells the core whether they are.
    pub(super) async fn pause(&self, name: String, at: SocketAddr, longest: Duration) {
        let paused = match self.watch_of(&name, at, true) {
            Some(watch) => {
                let paused = match watch.pause(longest).await {
                    // It may be in force all the same, and is ended like one.
                    Ok(()) | Err(NoAnswer::Silent(_) | NoAnswer::Broken(_)) => Ok(()),
                    Err(no) => Err(no.to_string()),
                };
                // How many bytes it has sent by now, and no more come.
                watch.ask_now();
                paused
            }
            None => Err("its Redis is not watched".to_owned()),
        };
        if let Err(why) = &paused {
            let text = format!("writes could not be paused, so that some may be lost: {why}");
            say_of(&name, Level::Warning, &text).await;
        }
        self.tell(Event::Paused(name, paused)).await;
    }

    /// Allows writes again, after the Redis was told to follow its heir, if it has one: nobody may write to it who
    /// waited. A pause whose end cannot be asked for ends by itself.
    pub(super) async fn unpause(&self, name: String, at: SocketAddr, heir: Option<Endpoint>) {
        if let Some(watch) = self.watch_of(&name, at, false) {
            if let Some(heir) = heir {
                self.reset_clients_of(&name, at).await;
                self.follow_heir(&name, (at, &watch), heir).await;
            }
            let _ = watch.unpause().await;
        }
        self.tell(Event::Unpaused(name)).await;
    }

    /// Resets the clients of an old master that has its VIP still, as its heir is of this host, too.
    async fn reset_clients_of(&self, name: &str, at: SocketAddr) {
        let stands = self.core.borrow().master(name).and_then(Master::stands);
        let config = self.config();
        let master = config.masters.get(name);
        let Some(master) = master.filter(|_| stands == Some(Stands::Here)) else {
            return;
        };
        let vips: Vec<IpAddr> = master.vips.iter().map(|vip| vip.address).collect();
        // A client that cannot be reset is told that it writes to a replica.
        let mut all = connections(&vips).await.unwrap_or_default();
        all.retain(|one| one.local.port() == at.port());
        let _ = reset_these(&all).await;
    }

    /// Has an old master follow its heir. Sentinel does so 10 s later, so that a refusal is said once and changes
    /// nothing.
    async fn follow_heir(&self, name: &str, (at, watch): (SocketAddr, &Watch), heir: Endpoint) {
        let text = format!("{at} follows {heir} now");
        let (level, text) = match watch.follow(heir).await {
            Ok(()) => (Level::Notice, text),
            Err(no) if self.has_refused_to_follow.borrow_mut().insert(at) => {
                let text = format!("{at} stays a master until Sentinel says otherwise: {no}");
                (Level::Warning, text)
            }
            Err(_) => return,
        };
        say_of(name, level, &text).await;
    }

    /// Has an old master that was told to follow be a master again: nothing came of the promotion.
    pub(super) async fn lead(&self, name: String, at: SocketAddr) {
        let Some(watch) = self.watch_of(&name, at, false) else {
            return;
        };
        let (level, text) = match watch.lead().await {
            Ok(()) => (
                Level::Notice,
                format!("{at} is a master again: nothing came of the promotion"),
            ),
            Err(no) => (
                Level::Warning,
                format!(
                    "{at} could not be made a master again: {no}. REPLICAOF NO ONE there does it."
                ),
            ),
        };
        say_of(&name, level, &text).await;
    }
}
