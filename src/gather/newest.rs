//! The newest that can be heard about masters now, within a short time: who must not be misled for the
//! seconds in which a failover spreads among the Sentinels asks this, and waits for no majority.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::patience::ROUND;
use super::remembered::Memory;
use super::sites::Finder;
use super::{Patience, Poll, master_site, poll};
use crate::config::Config;
use crate::evidence::{Evidence, OwnRedis, Word};
use crate::exit::Fault;
use crate::kernel::Snapshot;
use crate::redis::Lines;

/// How long all Sentinels together may take: two rounds of questions, of which a host that is down uses all
/// the time.
const SENTINELS: Duration = Duration::from_secs(2);

/// How many masters are looked at at the same time: each has some files open.
const AT_ONCE: usize = 8;

/// Returns what is known about each of these masters: the word of the Sentinel that knows of the latest
/// failover, and the role of the Redis of this host that it names. Where the other Sentinels cannot be asked it is
/// the local Sentinel's word. Takes three seconds at most, some milliseconds where all answer.
pub async fn newest(config: &Config, names: &[&str], snapshot: &Snapshot<'_>) -> Vec<Evidence> {
    let polls = match timeout(
        SENTINELS,
        poll(
            config,
            names,
            &Memory::read(),
            Patience::Full,
            &Lines::default(),
        ),
    )
    .await
    {
        Ok(Ok(polls)) => polls,
        Ok(Err(silent)) => {
            let word = || Some(Word::Silent(silent.cause().to_owned()));
            let evidence = |_| Evidence {
                word: word(),
                ..Evidence::default()
            };
            return names.iter().map(evidence).collect();
        }
        Err(_) => vec![Err(Fault::passing("the Sentinels did not answer in time")); names.len()],
    };
    let each = names.iter().zip(polls);
    let each = each.map(|(name, poll)| of_newest(config, name, poll, snapshot));
    stream::iter(each).buffered(AT_ONCE).collect().await
}

async fn of_newest(
    config: &Config,
    name: &str,
    poll: Result<Poll, Fault>,
    snapshot: &Snapshot<'_>,
) -> Evidence {
    let (word, own_redis) = match &poll {
        Ok(poll) => of_poll(config, name, poll, snapshot).await,
        Err(_) => (of_local(config, name, snapshot).await, Vec::new()),
    };
    Evidence {
        word: Some(word),
        own_redis,
        ..Evidence::default()
    }
}

/// Returns the newest word, and what the Redis of this host says that it names.
async fn of_poll(
    config: &Config,
    name: &str,
    poll: &Poll,
    snapshot: &Snapshot<'_>,
) -> (Word, Vec<OwnRedis>) {
    let silent = |why: &str| (Word::Silent(why.to_owned()), Vec::new());
    let Ok(master) = config.master(name) else {
        return silent("it is not configured any more");
    };
    let named = poll.named();
    let newest = poll.newest();
    let newest = newest.and_then(|endpoint| named.iter().position(|one| one.endpoint == *endpoint));
    let Some(newest) = newest else {
        return silent("no Sentinel names a master");
    };
    let finder = Finder::new(config, name, master, snapshot, ROUND);
    let (mut sites, own_redis) = finder.find(&named, |place| place == newest).await;
    (Word::Says(sites.swap_remove(newest)), own_redis)
}

async fn of_local(config: &Config, name: &str, snapshot: &Snapshot<'_>) -> Word {
    match master_site(config, name, snapshot).await {
        Ok(Some(site)) => Word::Says(site),
        Ok(None) => Word::Unmonitored,
        Err(fault) => Word::Silent(fault.cause().to_owned()),
    }
}
