//! The newest that can be heard about masters now, within a short time: who must not be misled for the
//! seconds in which a failover spreads among the Sentinels asks this, and waits for no majority.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{Poll, master_of, place, poll, role, site, unplaced};
use crate::config::Config;
use crate::evidence::{Evidence, Site, Word};
use crate::exit::Fault;
use crate::kernel::Snapshot;

/// How long all Sentinels together may take: two rounds of questions, of which a host that is down uses all
/// the time.
const SENTINELS: Duration = Duration::from_secs(2);

/// How many masters are looked at at the same time: each has some files open.
const AT_ONCE: usize = 8;

/// Returns what is known about each of these masters: the word of the Sentinel that knows of the latest
/// failover, and the role of the Redis of this host that it names. Where the other Sentinels cannot be asked it is
/// the local Sentinel's word. Takes three seconds at most, some milliseconds where all answer.
pub async fn newest(config: &Config, names: &[&str], snapshot: &Snapshot<'_>) -> Vec<Evidence> {
    let polls = match timeout(SENTINELS, poll(config, names)).await {
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
    let word = match &poll {
        Ok(poll) => of_poll(poll, snapshot).await,
        Err(_) => of_local(config, name, snapshot).await,
    };
    let own_redis = match (&word, config.master(name)) {
        (Word::Says(site), Ok(master)) if site.is_here() => {
            vec![role(config, name, master, site).await]
        }
        _ => Vec::new(),
    };
    Evidence {
        word: Some(word),
        own_redis,
        ..Evidence::default()
    }
}

async fn of_poll(poll: &Poll, snapshot: &Snapshot<'_>) -> Word {
    let Some(endpoint) = poll.newest() else {
        return Word::Silent("no Sentinel names a master".into());
    };
    let site: Site = match poll.addresses(endpoint) {
        Ok(addresses) => place(snapshot, endpoint, addresses).await,
        Err(fault) => unplaced(endpoint, fault),
    };
    Word::Says(site)
}

async fn of_local(config: &Config, name: &str, snapshot: &Snapshot<'_>) -> Word {
    match master_of(config, name).await {
        Ok(Some(endpoint)) => Word::Says(site(snapshot, &endpoint).await),
        Ok(None) => Word::Unmonitored,
        Err(fault) => Word::Silent(fault.cause().to_owned()),
    }
}
