//! The last good addresses of names, for an owner that asks often: name servers may be out of reach just when it
//! matters where a name leads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Unresolved, look_up};
use crate::failover::Host;

/// How many names are kept at most: the one that was found longest ago goes. A forged hello can name any.
const MOST: usize = 256;

/// How long name servers are waited for about a name whose address is known: one that is silent must not hold up what a
/// failover waits for. Once in a while they are waited for in full all the same, as one may always take that long.
const KNOWN: Duration = Duration::from_millis(100);
const IN_FULL: Duration = Duration::from_secs(10);

/// How many addresses of a name are kept.
const MOST_ADDRESSES: usize = 16;

/// The last good addresses of names.
#[derive(Debug, Default)]
pub struct Kept {
    keeps: bool,
    found: RefCell<BTreeMap<String, Found>>,
}

#[derive(Debug)]
struct Found {
    addresses: Vec<IpAddr>,
    /// When that was.
    since: Instant,
    /// When name servers were waited for in full last.
    asked: Instant,
}

impl Kept {
    /// Returns one that keeps what is found. The default keeps nothing.
    pub fn keeping() -> Kept {
        Kept {
            keeps: true,
            ..Kept::default()
        }
    }

    /// Returns the addresses of a host. Those that it had last where no name server answers within this time, or mostly
    /// within 0.1 s; never in place of an answer, which may be that it has none any more.
    ///
    /// # Errors
    ///
    /// A name without an address, now.
    pub async fn look_up(&self, host: &Host, within: Duration) -> Result<Vec<IpAddr>, Unresolved> {
        let Host::Name(name) = host else {
            return look_up(host, within).await;
        };
        let within = self.patience(name, within, Instant::now());
        let found = look_up(host, within).await;
        self.or_before(name, found, Instant::now())
    }

    /// Returns how long name servers are waited for.
    fn patience(&self, name: &str, within: Duration, now: Instant) -> Duration {
        let mut all = self.found.borrow_mut();
        let Some(found) = all.get_mut(&lower(name)) else {
            return within;
        };
        match now.saturating_duration_since(found.asked) >= IN_FULL {
            true => {
                found.asked = now;
                within
            }
            false => within.min(KNOWN),
        }
    }

    /// Returns whether the addresses of a host are known, whatever the name servers do.
    pub fn has(&self, host: &Host) -> bool {
        match host {
            Host::Address(_) => true,
            Host::Name(name) => self.found.borrow().contains_key(&lower(name)),
        }
    }

    fn or_before(
        &self,
        name: &str,
        found: Result<Vec<IpAddr>, Unresolved>,
        now: Instant,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let name = lower(name);
        match found {
            Ok(found) => {
                self.keep(name, &found, now);
                Ok(found)
            }
            Err(unanswered @ Unresolved::Unanswered(_)) => {
                let all = self.found.borrow();
                let before = all.get(&name).map(|found| found.addresses.clone());
                before.ok_or(unanswered)
            }
            Err(unknown @ Unresolved::Unknown(_)) => {
                self.found.borrow_mut().remove(&name);
                Err(unknown)
            }
        }
    }

    fn keep(&self, name: String, found: &[IpAddr], now: Instant) {
        if !self.keeps {
            return;
        }
        let mut all = self.found.borrow_mut();
        if all.len() >= MOST && !all.contains_key(&name) {
            let oldest = all.iter().min_by_key(|(_, found)| found.since);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let addresses = found.iter().take(MOST_ADDRESSES).copied().collect();
        let found = Found {
            addresses,
            since: now,
            asked: now,
        };
        all.insert(name, found);
    }
}

/// Case does not matter in names.
fn lower(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Fault;

    fn at(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::from([10, 0, 0, last])]
    }

    fn unanswered() -> Result<Vec<IpAddr>, Unresolved> {
        Err(Unresolved::Unanswered(Fault::passing("silent")))
    }

    #[test]
    fn the_last_addresses_count_where_no_name_server_answers_and_never_against_an_answer() {
        let (kept, now) = (Kept::keeping(), Instant::now());
        assert!(kept.or_before("redis-2", unanswered(), now).is_err());
        assert_eq!(kept.or_before("redis-2", Ok(at(2)), now).unwrap(), at(2));
        assert_eq!(
            kept.or_before("Redis-2.", unanswered(), now).unwrap(),
            at(2)
        );
        assert_eq!(kept.or_before("redis-2", Ok(at(3)), now).unwrap(), at(3));
        assert_eq!(kept.or_before("redis-2", unanswered(), now).unwrap(), at(3));
        assert!(kept.or_before("redis-3", unanswered(), now).is_err());
        let unknown = Err(Unresolved::Unknown(Fault::passing("it has no address")));
        assert!(kept.or_before("redis-2", unknown, now).is_err());
        assert!(kept.or_before("redis-2", unanswered(), now).is_err());
    }

    #[test]
    fn a_silent_name_server_holds_up_once_in_a_while_only() {
        let (kept, now) = (Kept::keeping(), Instant::now());
        let second = Duration::from_secs(1);
        let after = |seconds: u32| kept.patience("redis-2", second, now + seconds * second);
        assert_eq!(after(0), second, "nothing is known");
        kept.or_before("Redis-2", Ok(at(2)), now).unwrap();
        assert_eq!([after(1), after(9)], [KNOWN; 2]);
        assert_eq!([after(10), after(11), after(19)], [second, KNOWN, KNOWN]);
        assert_eq!(after(20), second);
        let short = Duration::from_millis(50);
        assert_eq!(kept.patience("redis-2", short, now), short);
    }

    #[test]
    fn so_many_names_are_kept_and_the_oldest_goes() {
        let (kept, now) = (Kept::keeping(), Instant::now());
        for number in 0..=MOST {
            let later = now + Duration::from_millis(number.try_into().unwrap());
            let name = format!("redis-{number}");
            kept.or_before(&name, Ok(at(1)), later).unwrap();
        }
        assert_eq!(kept.found.borrow().len(), MOST);
        assert!(kept.or_before("redis-0", unanswered(), now).is_err());
        assert!(kept.or_before("redis-1", unanswered(), now).is_ok());
    }

    #[test]
    fn an_owner_that_asks_once_keeps_none() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.or_before("redis-2", Ok(at(2)), now).unwrap();
        assert!(kept.or_before("redis-2", unanswered(), now).is_err());
    }
}
