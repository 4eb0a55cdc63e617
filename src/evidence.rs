//! What is known about one master at one moment, and who said it. Ages come in as durations: nothing
//! here asks, waits or looks at a clock. What follows from it is the verdict's to say.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::place::Place;

/// How long a minority with a higher epoch is waited for: three hello periods
/// (`SENTINEL_PUBLISH_PERIOD` in sentinel.c is 2 s). Until then the others may just not have heard of a
/// newer failover; after that the minority is cut off from them.
pub const HELLOS: Duration = Duration::from_secs(6);

/// How old evidence may be that is acted on, or announced by: nothing between the two takes so long, and who was stopped
/// there (by SIGSTOP, or with its machine) does not know who is the master by now.
pub const FRESH: Duration = Duration::from_secs(2);

/// All that is known about one master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What an operator wants, whatever anybody says.
    pub order: Option<Order>,
    /// A VIP of the configuration that is also the address of a Redis or a Sentinel, if there is one.
    pub vip_of_a_server: Option<IpAddr>,
    /// Sentinel's call of the hook.
    pub call: Option<Call>,
    /// What this host's Sentinel says about that call.
    pub word: Option<Word>,
    /// What all Sentinels say.
    pub ballot: Option<Ballot>,
    /// Every Redis of the master that this host's Sentinel names, or has named.
    pub known_redis: Vec<Site>,
    /// What each Redis of this master on this host says of itself.
    pub own_redis: Vec<OwnRedis>,
    /// A promotion that a failover's leader has published.
    pub promotion: Option<Promotion>,
    /// Whether this host is cut off from its peers, for so long that they can have made another Redis the master,
    /// and is to let go then.
    pub is_cut_off: bool,
    /// Whether the master's Redis on this host has died and its failover was asked for: it may be back, with old data.
    pub has_died: bool,
}

/// A replica that a failover's leader has chosen, and said so: about a second before any Sentinel names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Promotion {
    /// The replica.
    pub to: Site,
    /// What it said last; `None` where it was not asked, or gave no answer.
    pub role: Option<Role>,
    /// The highest number of a failover that any Sentinel told of when this one was published: the leader's own is
    /// higher (`sentinelStartFailover` in sentinel.c).
    pub epoch: u64,
    /// How long ago that was.
    pub age: Duration,
    /// How long the leader tries: `failover-timeout`.
    pub lasts: Duration,
}

impl Promotion {
    /// Returns whether it still tells where the master is: the leader may not have given up, and no Sentinel knows
    /// of another failover since.
    fn is_open(&self, ballot: Option<&Ballot>) -> bool {
        let votes = ballot
            .map(|ballot| ballot.votes.as_slice())
            .unwrap_or_default();
        let mut named = votes
            .iter()
            .filter_map(|vote| Some((vote.says.as_ref().ok()?, vote.epoch)));
        let is_another =
            |(site, epoch): (&Site, u64)| epoch > self.epoch && !site.is_same(&self.to);
        self.age < self.lasts && !named.any(is_another)
    }
}

impl Evidence {
    /// Returns the interface that carries the addresses of this host's Redis, where that is a single one.
    pub fn carrier(&self) -> Option<u32> {
        let own = self.own_redis.iter().map(|own| &own.site);
        let carriers = self.known_redis.iter().chain(own);
        let mut carriers = carriers.filter_map(|site| match site.place {
            Ok(Place::Here(carrier)) => carrier,
            _ => None,
        });
        let first = carriers.next()?;
        carriers.all(|other| other == first).then_some(first)
    }

    /// Returns the Redis of this host that a site is: the one with its run id. One that was just started has another than
    /// the Sentinels know, for as long as they do not ask it ([`crate::place::RUN_ID_AGE`]); where several may be meant
    /// then, nobody can tell which it is.
    pub fn own(&self, site: &Site) -> Option<&OwnRedis> {
        let mut may_be = self.own_redis.iter().filter(|own| own.site.is_same(site));
        let only = may_be.next().filter(|_| may_be.next().is_none());
        self.own_redis.iter().find(|own| own.is(site)).or(only)
    }

    /// Returns where the master is by a promotion that has happened: the chosen replica says that it is the
    /// master.
    pub fn promoted(&self) -> Option<&Site> {
        let promotion = self.promotion.as_ref()?;
        let has_turned = promotion.role == Some(Role::Master);
        (has_turned && promotion.is_open(self.ballot.as_ref())).then_some(&promotion.to)
    }
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The VIP here.
    Bind,
    /// The VIP gone from here.
    Unbind,
    /// The network told again of what is here.
    Announce,
}

/// A Redis as somebody names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// As it was named.
    pub endpoint: Endpoint,
    /// The addresses of its host; empty where the name does not resolve.
    pub addresses: Vec<IpAddr>,
    /// Its run id, where Sentinel knows it.
    pub run_id: Option<String>,
    /// Whether that is this host, or why that cannot be told.
    pub place: Result<Place, Fault>,
}

impl Site {
    /// Returns whether both name the same Redis: one run id, or one port and one host by name or by address.
    pub fn is_same(&self, other: &Site) -> bool {
        if self.run_id.is_some() && self.run_id == other.run_id {
            return true;
        }
        let same_host = self.endpoint.host == other.endpoint.host
            || self
                .addresses
                .iter()
                .any(|address| other.addresses.contains(address));
        self.endpoint.port == other.endpoint.port && same_host
    }

    /// Returns whether it is known to be on this host.
    pub fn is_here(&self) -> bool {
        matches!(self.place, Ok(Place::Here(_)))
    }
}

/// Sentinel's call of the hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The new master, as the call names it.
    pub to: Site,
    /// Whether it says that anything moved: Sentinel gives the new master for both where it cannot
    /// resolve its name.
    pub carries_information: bool,
}

/// What this host's Sentinel says now about a call that it may have queued long ago.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The same as the call.
    Agrees,
    /// Another host: the call is stale, or told nothing.
    Says(Site),
    /// It does not monitor this master.
    Unmonitored,
    /// It gave no answer, and why.
    Silent(String),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Agrees => f.write_str("agrees"),
            Word::Says(site) => write!(f, "says {}", site.endpoint.host),
            Word::Unmonitored => f.write_str("does not monitor it"),
            Word::Silent(why) => write!(f, "is silent: {why}"),
        }
    }
}

/// A Redis's role, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows another.
    Replica,
    /// Something else, a Sentinel for example.
    Other(String),
}

/// A replica, as a Sentinel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// The name that Sentinel has for it: where it is.
    pub name: String,
    /// Whether Sentinel reaches it.
    pub is_up: bool,
    /// Whether its link to the master is up, by its last INFO.
    pub is_linked: bool,
    /// Whether it may be promoted (`replica-priority`).
    pub may_lead: bool,
}

impl Standby {
    /// Returns whether it has what the master has, or gets it.
    pub fn is_connected(&self) -> bool {
        self.is_up && self.is_linked
    }
}

/// A Redis of this host.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnRedis {
    /// Where it is.
    pub site: Site,
    /// Where it is asked.
    pub at: SocketAddr,
    /// Whether it may be sent the credentials: this host's Sentinel names it, or root or Sentinel's user runs it.
    pub is_vouched_for: bool,
    /// What it says, or why it says nothing.
    pub role: Result<Role, Fault>,
    /// Its run id, where it may be asked for that.
    pub run_id: Option<String>,
}

impl OwnRedis {
    /// Returns whether it is this Redis, as far as that is known: another one that listens there has another run id.
    pub fn is(&self, named: &Site) -> bool {
        let mut ids = self.run_id.iter().zip(&named.run_id);
        self.site.is_same(named) && ids.all(|(own, named)| own == named)
    }
}

/// What one Sentinel says about a master.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Where it was asked.
    pub who: String,
    /// The master that it names, or why it names none.
    pub says: Result<Site, String>,
    /// How new that is: each failover has a number, and the highest is the newest (`config-epoch`;
    /// 0 where it was not told).
    pub epoch: u64,
    /// How many of the Sentinels that answer know it. A Sentinel that does not tell whom it knows counts
    /// as knowing it.
    pub known_to: usize,
    /// Whether the local Sentinel lists it: a Sentinel that was just started knows few others.
    pub listed_here: bool,
    /// Whether nothing at all was heard of its host. A host that refuses a connection is there.
    pub out_of_reach: bool,
}

/// What the Sentinels say about a master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ballot {
    /// What each says, this host's Sentinel first.
    pub votes: Vec<Vote>,
    /// The master's quorum, as this host's Sentinel has it.
    pub quorum: usize,
    /// How long they have not been of one mind.
    pub waited: Duration,
}

impl Ballot {
    /// Returns the master that a majority names: more than half of the members and no fewer than the
    /// quorum. While a Sentinel of the minority knows of a later failover, no master has won, for
    /// [`HELLOS`]: the leader knows of its own for a moment before the others hear of it (sentinel.c
    /// raises `config-epoch` just before it calls the hook).
    pub fn winner(&self) -> Option<&Site> {
        self.winner_after(self.waited)
    }

    fn winner_after(&self, waited: Duration) -> Option<&Site> {
        let most = self.sites().max_by_key(|site| self.number(site))?;
        let newest = |of_winner: bool| {
            let told = self
                .votes
                .iter()
                .filter_map(|vote| Some((vote.says.as_ref().ok()?, vote.epoch)));
            let told = told.filter(|(site, _)| site.is_same(most) == of_winner);
            told.map(|(_, epoch)| epoch).max()
        };
        let is_newest = newest(false) <= newest(true) || waited >= HELLOS;
        Some(most).filter(|most| self.number(most) >= self.needed() && is_newest)
    }

    /// Returns whether a majority is there but a Sentinel of the minority knows of a later failover.
    pub fn waits_for_a_minority(&self) -> bool {
        self.winner().is_none() && self.winner_after(HELLOS).is_some()
    }

    /// Returns whether the members that are out of reach are enough to elect a leader among themselves: then the
    /// master may be another one by now, and nobody here would know.
    pub fn could_elect_without(&self) -> bool {
        let members = self.votes.iter().filter(|vote| self.counts(vote));
        members.filter(|vote| vote.out_of_reach).count() >= self.needed()
    }

    /// Returns what this host's Sentinel says.
    pub fn own(&self) -> Option<&Site> {
        self.votes.first()?.says.as_ref().ok()
    }

    /// Returns how many Sentinels must name the same master.
    pub fn needed(&self) -> usize {
        (self.members() / 2 + 1).max(self.quorum)
    }

    /// Returns how many Sentinels count: those that answer, and each silent Sentinel that more than half of
    /// the answering ones know. A dead Sentinel that one list still has does not count. The local Sentinel
    /// has no say about a Sentinel that it does not list: two of five would be a majority to a local
    /// Sentinel that was just started.
    fn members(&self) -> usize {
        self.votes.iter().filter(|vote| self.counts(vote)).count()
    }

    fn counts(&self, vote: &Vote) -> bool {
        let answering = self.sites().count();
        let may_know = answering - usize::from(!vote.listed_here && answering > 0);
        // Where nobody answers, there is nobody to ask whom the others know.
        vote.says.is_ok() || answering == 0 || 2 * vote.known_to > may_know
    }

    fn sites(&self) -> impl Iterator<Item = &Site> {
        self.votes.iter().filter_map(|vote| vote.says.as_ref().ok())
    }

    fn number(&self, of: &Site) -> usize {
        self.sites().filter(|site| site.is_same(of)).count()
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(master) = self.winner() {
            let (number, all) = (self.number(master), self.votes.len());
            return write!(f, "{number} of {all} say {}", master.endpoint);
        }
        let answering = self.sites().count();
        for vote in self.votes.iter().take(SHOWN) {
            let Vote { who, known_to, .. } = vote;
            match &vote.says {
                Ok(site) => {
                    write!(
                        f,
                        "{who} says {} since failover {}, ",
                        site.endpoint, vote.epoch
                    )?;
                }
                Err(why) => {
                    let counts = if self.counts(vote) {
                        "counts"
                    } else {
                        "does not count"
                    };
                    write!(
                        f,
                        "{who} does not answer ({why}) and {counts}, as {known_to} of {answering} know it, "
                    )?;
                }
            }
        }
        if self.votes.len() > SHOWN {
            write!(f, "and {} more; ", self.votes.len() - SHOWN)?;
        }
        write!(
            f,
            "of the {} that count {} must agree",
            self.members(),
            self.needed()
        )
    }
}

/// How many Sentinels are named one by one.
const SHOWN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::Host;

    /// A Redis by the name of its host: `a` and `A` have the same address, `!` and `?` none.
    fn site(text: &str) -> Site {
        let addresses: Vec<IpAddr> = match text {
            "a" | "A" => vec!["10.0.0.1".parse().unwrap()],
            "b" => vec!["10.0.0.2".parse().unwrap()],
            _ => Vec::new(),
        };
        Site {
            endpoint: Endpoint {
                host: Host::Name(text.into()),
                port: 6379,
            },
            addresses,
            run_id: None,
            place: Ok(Place::Elsewhere),
        }
    }

    fn vote(who: usize, says: Option<&str>, epoch: u64, known_to: usize) -> Vote {
        Vote {
            who: format!("10.0.0.{who}:26379"),
            says: says.map(site).ok_or_else(|| "silent".into()),
            epoch,
            known_to,
            listed_here: true,
            out_of_reach: says.is_none(),
        }
    }

    fn ballot(says: &[Option<&str>], quorum: usize) -> Ballot {
        let known_to_all = says.len();
        let votes = says
            .iter()
            .enumerate()
            .map(|(who, says)| vote(who, *says, 7, known_to_all));
        Ballot {
            votes: votes.collect(),
            quorum,
            waited: Duration::ZERO,
        }
    }

    fn name(ballot: &Ballot) -> Option<String> {
        ballot.winner().map(|site| site.endpoint.host.to_string())
    }

    #[test]
    fn more_than_half_of_all_must_say_the_same() {
        let (a, b) = (Some("a"), Some("b"));
        for (says, quorum, winner) in [
            (&[a, a, b][..], 2, a),
            (&[b, a, a], 2, a),
            (&[a, a, None], 2, a),
            (&[a, None, None], 2, None),
            (&[a, b, None], 2, None),
            (&[a, b], 1, None),
            (&[a, a, b, b], 2, None),
            // By name and by address, and by two names.
            (&[a, Some("A"), b], 2, a),
            // Two names that do not resolve are two hosts.
            (&[Some("!"), Some("?"), None], 2, None),
            (&[Some("!"), Some("!"), None], 2, Some("!")),
            // A Sentinel that knows no other: alone by configuration, or because it has forgotten them.
            (&[a], 1, a),
            (&[a], 2, None),
            (&[None], 1, None),
            (&[], 1, None),
        ] {
            let ballot = ballot(says, quorum);
            let same = ballot
                .winner()
                .zip(winner)
                .map(|(site, name)| site.is_same(&self::site(name)));
            assert_eq!(same.unwrap_or(false), winner.is_some(), "{ballot}");
            assert_eq!(ballot.winner().is_some(), winner.is_some(), "{ballot}");
        }
    }

    #[test]
    fn a_dead_sentinel_that_one_list_still_has_does_not_count() {
        let mut forgotten = ballot(&[Some("a"), Some("a"), Some("a"), None, None, None], 2);
        assert_eq!(name(&forgotten), None);
        for vote in &mut forgotten.votes[3..] {
            vote.known_to = 1;
        }
        assert_eq!(name(&forgotten).as_deref(), Some("a"));
        // Known to more than half of those that answer, it counts.
        for vote in &mut forgotten.votes[3..] {
            vote.known_to = 2;
        }
        assert_eq!(name(&forgotten), None);
        assert!(
            forgotten.to_string().ends_with("4 must agree"),
            "{forgotten}"
        );
    }

    #[test]
    fn who_counts_and_why_is_told_in_bounded_words() {
        let mut some = ballot(&[Some("a"), Some("b"), None, None], 2);
        some.votes[2].known_to = 2;
        some.votes[3].known_to = 1;
        assert_eq!(
            some.to_string(),
            "10.0.0.0:26379 says a:6379 since failover 7, 10.0.0.1:26379 says b:6379 since failover 7, \
             10.0.0.2:26379 does not answer (silent) and counts, as 2 of 2 know it, \
             10.0.0.3:26379 does not answer (silent) and does not count, as 1 of 2 know it, \
             of the 3 that count 2 must agree"
        );
        let many = ballot(&[None; 500], 2).to_string();
        assert!(
            many.contains("and 491 more; of the 500 that count 251 must agree"),
            "{many}"
        );
        assert!(many.len() < 1500, "{many}");
    }

    #[test]
    fn a_local_sentinel_that_knows_few_others_does_not_make_them_a_majority() {
        let mut few = ballot(&[Some("a"), Some("a"), None, None, None], 2);
        for vote in &mut few.votes[2..] {
            (vote.known_to, vote.listed_here) = (1, false);
        }
        assert_eq!(name(&few), None);
        // One of two others still has dead Sentinels in its list.
        let mut old = ballot(&[Some("a"), Some("a"), Some("a"), None, None, None], 2);
        for vote in &mut old.votes[3..] {
            (vote.known_to, vote.listed_here) = (1, false);
        }
        assert_eq!(name(&old).as_deref(), Some("a"));
    }

    #[test]
    fn the_silent_ones_could_elect_another_where_they_are_a_majority_of_the_members() {
        let (a, none) = (Some("a"), None);
        for (says, quorum, expected) in [
            (&[a, none, none][..], 2, true),
            (&[a, a, none], 2, false),
            (&[none, none, none], 2, true),
            (&[a, a, none, none, none], 2, true),
            (&[a, a, a, none, none], 2, false),
            // The quorum of the configuration is higher than the majority.
            (&[a, a, none, none, none], 4, false),
            (&[a, none], 1, false),
        ] {
            let ballot = ballot(says, quorum);
            assert_eq!(ballot.could_elect_without(), expected, "{ballot}");
        }
        // Nobody answers, so that nobody tells whom the others know.
        let mut alone = ballot(&[none, none, none], 2);
        for vote in &mut alone.votes {
            vote.known_to = 0;
        }
        alone.votes[0].out_of_reach = false;
        assert!(alone.could_elect_without());
        // Stopped on hosts that are there: they refuse the connection.
        let mut refused = ballot(&[a, none, none], 2);
        refused.votes[1].out_of_reach = false;
        assert!(!refused.could_elect_without());
        // Two forged ones that one list has are no members.
        let mut forged = ballot(&[a, a, a, none, none, none, none], 2);
        for vote in &mut forged.votes[3..] {
            vote.known_to = 1;
        }
        assert!(!forged.could_elect_without());
    }

    #[test]
    fn one_that_knows_of_a_later_failover_is_waited_for_three_hellos() {
        let with = |place: usize, epoch: u64| {
            let mut ballot = ballot(&[Some("a"), Some("b"), Some("b")], 2);
            ballot.votes[place].epoch = epoch;
            ballot
        };
        let mut minority = with(0, 8);
        assert!(name(&minority).is_none() && minority.waits_for_a_minority());
        minority.waited = HELLOS;
        assert_eq!(name(&minority).as_deref(), Some("b"));
        // One with an old file, and one of the majority that is behind, change nothing.
        assert_eq!(name(&with(0, 6)).as_deref(), Some("b"));
        assert_eq!(name(&with(1, 6)).as_deref(), Some("b"));
        assert!(!with(1, 6).waits_for_a_minority());
    }

    #[test]
    fn who_answered_what_is_told() {
        assert_eq!(
            ballot(&[Some("a"), Some("a"), None], 2).to_string(),
            "2 of 3 say a:6379"
        );
        let split = Ballot {
            votes: vec![
                vote(0, Some("a"), 7, 2),
                vote(1, Some("b"), 7, 2),
                vote(2, None, 0, 2),
                vote(3, None, 0, 1),
            ],
            quorum: 2,
            waited: Duration::ZERO,
        };
        assert_eq!(
            split.to_string(),
            "10.0.0.0:26379 says a:6379 since failover 7, 10.0.0.1:26379 says b:6379 since failover 7, \
             10.0.0.2:26379 does not answer (silent) and counts, as 2 of 2 know it, \
             10.0.0.3:26379 does not answer (silent) and does not count, as 1 of 2 know it, \
             of the 3 that count 2 must agree"
        );
        let many = ballot(&[None; 500], 2).to_string();
        let end = "and 491 more; of the 500 that count 251 must agree";
        assert!(many.ends_with(end) && many.len() < 1500, "{many}");
    }
}
