//! The replica that a leader promotes, on another host: asked until it says master.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::{Config, Master};
use crate::evidence::{Role, Site};
use crate::exit::Kind;
use crate::failover::Host;
use crate::hosts;
use crate::kernel::is_own_address;
use crate::place::Place;
use crate::redis::{Connection, NoAnswer, Server, State};

/// How often it is asked, and how often a connection is tried.
const POLL: Duration = Duration::from_millis(5);

/// How often it is asked once it has had the time to turn.
const SELDOM: Duration = Duration::from_millis(50);

/// For how long nobody listens there until it is given up. Its leader asks it every second while it fails over
/// (`sentinelSendPeriodicCommands` in sentinel.c), and a majority names it soon after that, if it still was the master.
const REFUSED: Duration = Duration::from_secs(2);

/// How long it says nothing, after a question of up to a second, until it is given up: a majority that could ask it names it
/// within half of that, and its own host has let go by then where it is cut off (`core::master::PROVISIONAL`).
pub const SILENT: Duration = Duration::from_secs(4);

/// How long one try may take. No more of it is silence: this agent, or the machine, may have been stopped in it.
const TRY: Duration = Duration::from_secs(1);

/// How long after the end of a connection the next is made: a server that ends each must not keep this host busy.
const AGAIN: Duration = Duration::from_millis(1);

/// What a replica says once it is master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// How many bytes of the old master's stream it had then, where it may be asked for that (Redis 4.0 and later).
    pub promoted_at: Option<u64>,
    /// Whether it said before that it is a replica.
    pub was_replica: bool,
    /// All that it says.
    pub state: State,
}

/// How a Redis is asked, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Until when.
    pub until: Instant,
    /// For how long every 5 ms; then every 50 ms.
    pub closely: Duration,
    /// Whether it is given up where nobody listens there for 2 s, or it says nothing for [`SILENT`].
    pub gives_up: bool,
}

/// Asks a Redis every 5 ms, and at once when it ends the connection, until it says master.
///
/// # Errors
///
/// It did not say so until then, and why; at once where it cannot be asked at all.
pub async fn turned_master(server: &Server, until: Instant) -> Result<Promotion, NoAnswer> {
    let asking = Asking {
        until,
        closely: until.saturating_duration_since(Instant::now()),
        gives_up: false,
    };
    says(server, asking, |role| *role == Role::Master).await
}

/// Asks a Redis, and at once when it ends the connection, until it says a role that is waited for.
///
/// # Errors
///
/// It did not say so until then, or it was given up, and why; at once where it cannot be asked at all.
pub async fn says(
    server: &Server,
    asking: Asking,
    is_it: fn(&Role) -> bool,
) -> Result<Promotion, NoAnswer> {
    let mut asks = Asks {
        asking,
        is_it,
        began: Instant::now(),
        silence: Silence::default(),
    };
    let mut last = NoAnswer::Silent(asking.until.saturating_duration_since(asks.began));
    let mut was_replica = false;
    while !asks.is_over() {
        let began = Instant::now();
        let no = match Connection::open(server, asks.deadline()).await {
            Err(no) => no,
            Ok(mut connection) => match asks.go_on(&mut connection).await {
                Ok(promotion) => {
                    return Ok(Promotion {
                        was_replica: was_replica || promotion.was_replica,
                        ..promotion
                    });
                }
                // The promotion ends the connection: little time may be lost.
                Err(Ended::Later(no)) => {
                    was_replica = true;
                    last = no;
                    sleep(AGAIN).await;
                    continue;
                }
                Err(Ended::AtOnce(no)) => no,
            },
        };
        if no.kind() == Kind::Permanent {
            return Err(no);
        }
        sleep(asks.pause()).await;
        asks.silence.heard(&no, began.elapsed());
        last = no;
    }
    Err(last)
}

/// For how long a Redis has said nothing: as long as it was asked.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    silent: Duration,
    /// For how long nobody listens there.
    refused: Duration,
}

impl Silence {
    /// Notes a try that took so long.
    fn heard(&mut self, no: &NoAnswer, took: Duration) {
        let took = took.min(TRY + SELDOM);
        self.silent += took;
        self.refused = match no.is_refused() {
            true => self.refused + took,
            false => Duration::ZERO,
        };
    }

    /// Returns whether it is given up.
    fn is_over(&self) -> bool {
        self.silent >= SILENT || self.refused >= REFUSED
    }
}

/// When a connection ended.
enum Ended {
    /// Before a first answer.
    AtOnce(NoAnswer),
    /// After it had answered otherwise.
    Later(NoAnswer),
}

/// Who asks.
struct Asks {
    asking: Asking,
    is_it: fn(&Role) -> bool,
    began: Instant,
    silence: Silence,
}

impl Asks {
    /// Returns until when an answer is waited for.
    fn deadline(&self) -> Instant {
        match self.asking.gives_up {
            true => (Instant::now() + TRY).min(self.asking.until),
            false => self.asking.until,
        }
    }

    fn is_over(&self) -> bool {
        let is_given_up = self.asking.gives_up && self.silence.is_over();
        is_given_up || Instant::now() >= self.asking.until
    }

    fn pause(&self) -> Duration {
        match self.began.elapsed() < self.asking.closely {
            true => POLL,
            false => SELDOM,
        }
    }

    async fn go_on(&mut self, connection: &mut Connection) -> Result<Promotion, Ended> {
        let mut known = None;
        loop {
            let state = match State::ask(connection, known.as_ref(), self.deadline()).await {
                Ok(state) => state,
                Err(no) if known.is_some() => return Err(Ended::Later(no)),
                Err(no) => return Err(Ended::AtOnce(no)),
            };
            self.silence = Silence::default();
            if (self.is_it)(&state.role) {
                let promoted_at = state.promoted_at;
                return Ok(Promotion {
                    promoted_at,
                    was_replica: known.is_some(),
                    state,
                });
            }
            let said = word(&state.role).to_owned();
            known = Some(state);
            let pause = timeout(self.pause(), connection.next()).await;
            if let Ok(Err(no)) = pause
                && connection.has_ended()
            {
                return Err(Ended::Later(no));
            }
            if self.is_over() {
                let still = format!("it still says {said}");
                return Err(Ended::Later(NoAnswer::Unexpected(still)));
            }
        }
    }
}

/// Returns what a Redis says that it is.
pub fn word(role: &Role) -> &str {
    match role {
        Role::Master => "master",
        Role::Replica => "replica",
        Role::Other(role) => role,
    }
}

/// Returns whether a Redis on this host (as it was named, and its addresses) may be asked with the user, the password
/// and the certificate of this master. Where there is neither password nor certificate anybody may be; else only the
/// hosts of `peers` and `[hosts]`: anybody who may publish on a monitored Redis can have forged another.
pub fn may_be_asked(config: &Config, master: &Master, named: &[Host]) -> bool {
    if !config.has_secrets_of(master) {
        return true;
    }
    let peers = config.sentinel.peers.iter().map(|peer| &peer.host);
    let mut known = peers.chain(config.hosts.values().flatten());
    let is_at = |host: &Host| {
        let addresses = hosts::at_hand(host).into_iter().map(Host::Address);
        addresses
            .into_iter()
            .any(|address| named.contains(&address))
    };
    known.any(|host| named.contains(host) || is_at(host))
}

/// [`may_be_asked`] of a Redis that is known to this address: also where an interface of this host has that, the loopback
/// interface among them. That it is here by its run id alone is no reason: anybody can tell the same one.
pub fn site_may_be_asked(config: &Config, master: &Master, site: &Site, at: SocketAddr) -> bool {
    let is_own = match site.place {
        Ok(Place::Here(Some(_))) => true,
        Ok(Place::Here(None)) => is_own_address(at.ip()),
        _ => at.ip().is_loopback(),
    };
    is_own || address_may_be_asked(config, master, at.ip())
}

/// [`may_be_asked`] of an address.
pub fn address_may_be_asked(config: &Config, master: &Master, address: IpAddr) -> bool {
    may_be_asked(config, master, &[Host::Address(address.to_canonical())])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn may(master: &str, rest: &str, address: &str) -> bool {
        let text = format!("[masters.m]\nvip = '10.0.0.9'\n{master}\n{rest}");
        let config = config::parse(&text, Path::new("/x")).unwrap();
        let master = config.master("m").unwrap();
        address_may_be_asked(&config, master, address.parse().unwrap())
    }

    #[test]
    fn one_that_is_refused_or_silent_for_long_is_given_up() {
        let refused = || NoAnswer::Unreachable("connection refused".into());
        let broken = || NoAnswer::Broken("reset".into());
        let second = Duration::from_secs(1);
        let after = |all: &[(NoAnswer, Duration)]| {
            let mut silence = Silence::default();
            all.iter().for_each(|(no, took)| silence.heard(no, *took));
            silence.is_over()
        };
        assert!(!after(&[(refused(), second)]));
        assert!(after(&[(refused(), second), (refused(), second)]));
        assert!(!after(&[
            (refused(), second),
            (broken(), second),
            (refused(), second)
        ]));
        assert!(!after(&vec![(broken(), second); 3]));
        assert!(after(&vec![(broken(), second); 4]));
        // This agent was stopped in it.
        assert!(!after(&[(refused(), 60 * second)]));
        assert!(!after(&[(broken(), 60 * second), (broken(), second)]));
    }

    #[test]
    fn a_password_goes_to_the_hosts_of_the_configuration_only() {
        let password = "redis_password_file = '/etc/secret'";
        let peers = "[sentinel]\npeers = ['10.0.0.2:26379']";
        let hosts = "[hosts]\nredis3 = ['fd00::3']";
        let both = format!("{peers}\n{hosts}");
        assert!(may(password, &both, "10.0.0.2"));
        assert!(may(password, &both, "::ffff:10.0.0.2"));
        assert!(may(password, &both, "fd00::3"));
        assert!(!may(password, &both, "10.0.0.66"));
        assert!(!may(password, "", "10.0.0.2"));
    }

    #[test]
    fn without_password_and_certificate_any_may_be_asked() {
        assert!(may("", "", "10.0.0.66"));
        let files = "[tls]\nca_file = '/ca'\ncert_file = '/c'\nkey_file = '/k'";
        assert!(may("", files, "10.0.0.66"));
        assert!(!may("tls = true", files, "10.0.0.66"));
        assert!(may("tls = true", "[tls]\nca_file = '/ca'", "10.0.0.66"));
    }
}
