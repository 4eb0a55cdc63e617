//! Asks the replica that a leader promotes, on another host: it tells first that it is the master.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::evidence::Role;
use crate::failover::Host;
use crate::hosts;
use crate::redis::replication;
use crate::redis::{Connection, NoAnswer, Server, Words, readers};

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(5);

/// A replica that has turned master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// How far the stream of its old master had come that it had, in bytes.
    pub offset: Option<u64>,
}

/// Asks until it says that it is the master.
///
/// # Errors
///
/// It does not say so until then, or may not be asked.
pub async fn turned_master(server: Server, until: Instant) -> Result<Promoted, NoAnswer> {
    loop {
        let asked = ask_on_one_connection(&server, until).await;
        match asked {
            Ok(promoted) => return Ok(promoted),
            Err(no) if Instant::now() >= until => return Err(no),
            Err(
                no
                @ (NoAnswer::AuthMissing(_) | NoAnswer::AuthRefused(_) | NoAnswer::NotAllowed(_)),
            ) => {
                return Err(no);
            }
            // The promotion itself ends the connection.
            Err(_) => sleep(EVERY).await,
        }
    }
}

async fn ask_on_one_connection(server: &Server, until: Instant) -> Result<Promoted, NoAnswer> {
    let mut connection = Connection::open(server, Instant::now() + ANSWER).await?;
    loop {
        let questions = [words(&["ROLE"]), words(&["INFO", "replication"])];
        let answers = connection.ask(&questions, Instant::now() + ANSWER).await?;
        let [role, info] = answers.as_slice() else {
            return Err(NoAnswer::Unexpected("none".into()));
        };
        let role = match (role, info) {
            (Ok(role), _) => readers::of_role(role)?,
            (Err(_), Ok(info)) => readers::of_info(info)?,
            (Err(no), Err(_)) => return Err(no.clone()),
        };
        if role == Role::Master {
            let known = info.as_ref().map(replication::read).unwrap_or_default();
            return Ok(Promoted {
                offset: known.promoted_at,
            });
        }
        if Instant::now() >= until {
            return Err(NoAnswer::Silent(ANSWER));
        }
        // Its end is the first sign.
        let end = async { while connection.next().await.is_ok() {} };
        if timeout(EVERY, end).await.is_ok() {
            return Err(NoAnswer::Broken("the connection ended".into()));
        }
    }
}

/// Returns whether the configuration vouches for an address, so that it may be sent the credentials of Redis: the
/// address of a leader's choice may be forged.
pub fn may_be_asked(config: &Config, address: IpAddr) -> bool {
    let named = |host: &Host| match host {
        Host::Address(known) => *known == address,
        Host::Name(_) => hosts::at_hand(host).contains(&address),
    };
    let peers = config.sentinel.peers.iter().map(|peer| &peer.host);
    peers.chain(config.hosts.values().flatten()).any(named)
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|&word| word.to_owned()).collect()
}
