//! Listens to who is connected to the VIPs of a master whose holder is another host, at the Redis of this host.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Key, World, complain, remedy, vips};
use crate::agent::backoff::Backoff;
use crate::agent::clients::channel;
use crate::redis::{Connection, NoAnswer, Server, Value, text};

/// How long it may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long nothing may arrive. A holder says something every 5 s; where there is none, a connection that is made
/// anew costs nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How long after a refusal it is tried again: the user's rights, or the password, may have been mended.
const REFUSED: Duration = Duration::from_secs(60);

/// What each message costs at least in time, and how many bytes are read in a millisecond beyond that. A holder needs
/// a hundredth of it; a user who may PUBLISH must not keep this host busy.
const PAUSE: Duration = Duration::from_millis(1);
const IN_A_MILLISECOND: usize = 1 << 13;

/// Listens, until some time after a refusal.
pub(super) async fn listen(world: Rc<World>, server: Server, key: Key) {
    let mut backoff = Backoff::default();
    loop {
        let Err(no) = listen_once(&world, &server, &key, &mut backoff).await;
        complain(&world, &key, &no).await;
        match remedy(&no).is_some() {
            true => return sleep(REFUSED).await,
            false => sleep(backoff.wait()).await,
        }
    }
}

/// Listens on one connection. Returns why it was given up.
async fn listen_once(
    world: &World,
    server: &Server,
    key: &Key,
    backoff: &mut Backoff,
) -> Result<Infallible, NoAnswer> {
    let of = vips(world, &key.0).into_iter();
    let of: Vec<(String, IpAddr)> = of.map(|vip| (channel(vip), vip)).collect();
    let until = Instant::now() + PATIENCE;
    let mut connection = Connection::open(server, until).await?;
    let channels: Vec<&String> = of.iter().map(|(channel, _)| channel).collect();
    connection.subscribe(&channels, until).await?;
    backoff.reset();
    loop {
        let next = timeout(SILENCE, connection.next()).await;
        let value = next.map_err(|_| NoAnswer::Silent(SILENCE))??;
        let pause = PAUSE.mul_f64(1.0 + (value.size() / IN_A_MILLISECOND) as f64);
        if let Some((channel, said)) = message(&value)
            && let Some((_, vip)) = of.iter().find(|(one, _)| *one == channel)
        {
            world.clients.borrow_mut().learn(*vip, key.1.port(), &said);
        }
        sleep(pause).await;
    }
}

/// Returns the channel and the text of what was published.
pub(in crate::agent) fn message(value: &Value) -> Option<(String, String)> {
    let Value::Array(list) = value else {
        return None;
    };
    match list.as_slice() {
        [kind, channel, said] if text(kind)? == "message" => Some((text(channel)?, text(said)?)),
        _ => None,
    }
}
