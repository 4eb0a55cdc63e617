//! Publishes who is connected to the VIPs of a master, at the Redis of this host. On a connection of its own: while
//! writes are paused (CLIENT PAUSE … WRITE) PUBLISH waits, too, and the watch's connection has to lift the pause.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Clients, Key, World, complain, remedy};
use crate::agent::backoff::Backoff;
use crate::agent::clients::{Published, channel};
use crate::redis::{Connection, NoAnswer, Server, Words};

/// How long Redis may take for what a second has brought: a pause of writes is shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long after a refusal it is tried again: the user's rights, or the password, may have been mended.
const REFUSED: Duration = Duration::from_secs(60);

/// Publishes what each second brings, until nobody sends that any more, or some time after a refusal.
pub(super) async fn publish(
    world: Rc<World>,
    server: Server,
    key: Key,
    mut clients: mpsc::Receiver<Clients>,
) {
    let mut speaker = Speaker {
        server,
        port: key.1.port(),
        connection: None,
        published: BTreeMap::new(),
    };
    let mut backoff = Backoff::default();
    while let Some(now) = clients.recv().await {
        match speaker.say(now).await {
            Ok(()) => backoff.reset(),
            Err(no) => {
                complain(&world, &key, &no).await;
                // Nobody knows what has arrived: it begins anew.
                speaker.published.clear();
                match remedy(&no).is_some() {
                    true => return sleep(REFUSED).await,
                    false => sleep(backoff.wait()).await,
                }
            }
        }
    }
}

struct Speaker {
    server: Server,
    port: u16,
    connection: Option<Connection>,
    published: BTreeMap<IpAddr, Published>,
}

impl Speaker {
    /// Publishes what has changed, and what is due beside.
    async fn say(&mut self, now: Clients) -> Result<(), NoAnswer> {
        let mut questions: Vec<Words> = Vec::new();
        for (vip, clients) in now {
            let published = self
                .published
                .entry(vip)
                .or_insert_with(|| Published::new(vip));
            questions.extend(published.next(&clients).iter().map(|message| {
                let text = message.text(vip, self.port);
                vec!["PUBLISH".to_owned(), channel(vip), text]
            }));
        }
        if questions.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + PATIENCE;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.server, until).await?,
        };
        for answer in connection.ask(&questions, until).await? {
            answer?;
        }
        self.connection = Some(connection);
        Ok(())
    }
}
