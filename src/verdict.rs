//! The whole policy: from what is known about a master to where its VIP belongs. Pure, and the only place
//! that decides: hook, `sync` and the operator's commands go through it. What is then to be done on this host
//! is the plan's to say.

use crate::evidence::{Evidence, Order, OwnRedis, Role, Site, Word};
use crate::exit::{Fault, Kind};
use crate::place::Place;

/// Where a VIP belongs.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// On this host. The interface that carries the master's address, where that is known.
    Here(Option<u32>, Why),
    /// On another host.
    Elsewhere(Why),
    /// It stays as it is.
    Stays(Why),
    /// Nothing can be decided now (a passing fault), or as it stands (a permanent one). The VIP stays as it
    /// is.
    Undecided(Fault),
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// An operator wants it so.
    Ordered,
    /// Sentinel's call says so, and this host's Sentinel says nothing else.
    Called,
    /// This host's Sentinel says so, against the call.
    Told,
    /// A majority of the Sentinels says so.
    Majority,
    /// This host's Redis says that it is a replica: it takes no writes.
    Replica,
    /// A failover's leader has promoted it, and it says that it is the master; no majority names it yet.
    Promoted,
    /// This host is cut off from its peers, which have another master by now.
    CutOff,
    /// The Redis of this host has died as the master, and its failover was asked for.
    Died,
    /// The call names the same Redis twice, which tells nothing.
    NoNews,
    /// Nobody has said anything.
    NothingKnown,
}

/// The rows of the policy, the first that applies decides:
///
/// | evidence | verdict |
/// |---|---|
/// | the VIP is a server's own address | undecided, permanent |
/// | an operator's order | as ordered |
/// | this host's Redis says that it is a replica | elsewhere |
/// | a promotion was published, and that Redis says master: of this host's, which is not cut off | here, until a majority says so |
/// | a promotion was published, and that Redis says master: of another host's | elsewhere |
/// | this host's Redis has died as the master, and its failover was asked for | elsewhere |
/// | a majority names this host's Redis, and it says master | here |
/// | a majority names this host's Redis, it is there and refuses to tell, and the hook's call and this host's Sentinel name this host, too | here |
/// | a majority names this host's Redis, and it says nothing | undecided |
/// | a majority names another host | elsewhere |
/// | this host is cut off from its peers | elsewhere |
/// | the hook's call, this host's Sentinel says another | as Sentinel says: the call is stale |
/// | the hook's call, this host's Sentinel agrees, or is silent and nobody else was asked | as the call says |
/// | the Sentinels were asked and have no majority | undecided |
/// | the hook's call tells nothing, nor does this host's Sentinel | stays |
/// | none of these | stays |
///
/// A promotion stands above the majority, which follows it by about a second: sentinel.c publishes the choice,
/// promotes, and names the new master once INFO shows its new role. A later failover, or the leader's time, ends
/// it (see [`Evidence::promoted`]).
const ROWS: [fn(&Evidence) -> Option<Verdict>; 10] = [
    vip_of_a_server,
    ordered,
    replica_here,
    promoted,
    died,
    by_majority,
    cut_off,
    told_by_the_local_sentinel,
    called,
    without_majority,
];

/// Returns where the VIPs of a master belong, by what is known.
///
/// ```
/// use vipswitch::evidence::{Evidence, Order};
/// use vipswitch::verdict::{Verdict, Why, verdict};
/// // Without evidence nothing is moved: a VIP is not released because nobody answers.
/// assert_eq!(verdict(&Evidence::default()), Verdict::Stays(Why::NothingKnown));
/// let ordered = Evidence { order: Some(Order::Unbind), ..Evidence::default() };
/// assert_eq!(verdict(&ordered), Verdict::Elsewhere(Why::Ordered));
/// ```
pub fn verdict(evidence: &Evidence) -> Verdict {
    let decided = ROWS.iter().find_map(|row| row(evidence));
    decided.unwrap_or(Verdict::Stays(Why::NothingKnown))
}

/// What to do where an address is a VIP and a server's own.
pub const NO_VIP: &str = "Either `vip` is mistyped in the configuration, or Redis announces the VIP as its own: set replica-announce-ip and sentinel announce-ip to the host's own address, and monitor that address in sentinel.conf.";

fn vip_of_a_server(evidence: &Evidence) -> Option<Verdict> {
    let address = evidence.vip_of_a_server?;
    let text = format!(
        "{address} is a VIP in the configuration and the address of a Redis or a Sentinel, so that nobody can tell which host it is on"
    );
    Some(Verdict::Undecided(Fault::permanent(text).remedy(NO_VIP)))
}

fn ordered(evidence: &Evidence) -> Option<Verdict> {
    Some(match evidence.order? {
        Order::Bind => Verdict::Here(evidence.carrier(), Why::Ordered),
        Order::Unbind => Verdict::Elsewhere(Why::Ordered),
        Order::Announce => Verdict::Stays(Why::Ordered),
    })
}

/// A majority that names a Redis of this host is about that one, and so is a promotion of one that is the master by now;
/// a host may have several, on other ports.
fn replica_here(evidence: &Evidence) -> Option<Verdict> {
    let winner = evidence
        .ballot
        .as_ref()
        .and_then(|ballot| ballot.winner())
        .filter(|site| site.is_here());
    let promoted = evidence.promoted().filter(|site| site.is_here());
    let named = promoted.or(winner);
    let one = named.and_then(|named| evidence.own(named));
    let may_be = |redis: &&OwnRedis| match (one, named) {
        (Some(one), _) => *redis == one,
        (None, Some(named)) => redis.site.is_same(named),
        (None, None) => true,
    };
    let mut meant = evidence.own_redis.iter().filter(may_be).peekable();
    meant.peek()?;
    // A Redis that does not answer may be the master.
    meant
        .all(|redis| redis.role == Ok(Role::Replica))
        .then_some(Verdict::Elsewhere(Why::Replica))
}

fn promoted(evidence: &Evidence) -> Option<Verdict> {
    match &evidence.promoted()?.place {
        // Its leader may not reach it either, and have the old one go on.
        Ok(Place::Here(_)) if evidence.is_cut_off => None,
        Ok(Place::Here(carrier)) => Some(Verdict::Here(*carrier, Why::Promoted)),
        Ok(Place::Elsewhere) => Some(Verdict::Elsewhere(Why::Promoted)),
        Err(_) => None,
    }
}

/// A Redis that is restarted may have lost data, which the new master has.
fn died(evidence: &Evidence) -> Option<Verdict> {
    evidence.has_died.then_some(Verdict::Elsewhere(Why::Died))
}

fn by_majority(evidence: &Evidence) -> Option<Verdict> {
    let winner = evidence.ballot.as_ref()?.winner()?;
    let own = evidence.own(winner);
    Some(match (&winner.place, own.map(|redis| &redis.role)) {
        (Err(fault), _) => Verdict::Undecided(fault.clone()),
        (Ok(Place::Elsewhere), _) => Verdict::Elsewhere(Why::Majority),
        (Ok(Place::Here(carrier)), Some(Ok(Role::Master))) => {
            Verdict::Here(*carrier, Why::Majority)
        }
        (Ok(Place::Here(_)), Some(Err(fault))) => {
            let called = called_too(evidence).filter(|_| fault.kind == Kind::Permanent);
            called.unwrap_or_else(|| Verdict::Undecided(fault.clone()))
        }
        (Ok(Place::Here(_)), role) => Verdict::Undecided(says_otherwise(winner, role)),
    })
}

/// Where this host's Redis is there and does not tell its role, for want of a password for example, Sentinel's call
/// decides, as it does where nobody but this host's Sentinel is asked.
fn called_too(evidence: &Evidence) -> Option<Verdict> {
    called(evidence).filter(|verdict| matches!(verdict, Verdict::Here(..)))
}

fn cut_off(evidence: &Evidence) -> Option<Verdict> {
    evidence
        .is_cut_off
        .then_some(Verdict::Elsewhere(Why::CutOff))
}

fn without_majority(evidence: &Evidence) -> Option<Verdict> {
    let ballot = evidence.ballot.as_ref()?;
    let text = format!(
        "no majority of the Sentinels names a master, so that nothing is changed: {ballot}"
    );
    let remedy = "Start the Sentinels that do not answer; each must reach the others. One that is gone for good is forgotten by SENTINEL RESET MASTER at every other one, half a minute apart.";
    Some(Verdict::Undecided(Fault::passing(text).remedy(remedy)))
}

fn says_otherwise(winner: &Site, role: Option<&Result<Role, Fault>>) -> Fault {
    let role = match role {
        Some(Ok(Role::Other(role))) => format!("says that it is {role}"),
        _ => "was not asked".into(),
    };
    let text = format!(
        "the Sentinels name the Redis at {} of this host, and that one {role}",
        winner.endpoint
    );
    Fault::passing(text).remedy("While a failover goes on this passes.")
}

fn told_by_the_local_sentinel(evidence: &Evidence) -> Option<Verdict> {
    match evidence.word.as_ref()? {
        Word::Says(site) => Some(as_named(site, Why::Told)),
        Word::Agrees | Word::Unmonitored | Word::Silent(_) => None,
    }
}

fn called(evidence: &Evidence) -> Option<Verdict> {
    let call = evidence.call.as_ref()?;
    let agrees = evidence.word == Some(Word::Agrees);
    // Where all Sentinels were asked, a call that this host's does not confirm may be anybody's.
    if evidence.ballot.is_some() && !agrees {
        return None;
    }
    let is_news = call.carries_information || agrees;
    Some(match is_news {
        true => as_named(&call.to, Why::Called),
        false => Verdict::Stays(Why::NoNews),
    })
}

fn as_named(site: &Site, why: Why) -> Verdict {
    match &site.place {
        Ok(Place::Here(carrier)) => Verdict::Here(*carrier, why),
        Ok(Place::Elsewhere) => Verdict::Elsewhere(why),
        Err(fault) => Verdict::Undecided(fault.clone()),
    }
}

impl Verdict {
    /// Returns the stable name of what the run acted on, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Here(_, Why::Ordered) => "bind",
            Verdict::Elsewhere(Why::Ordered) => "unbind",
            Verdict::Stays(Why::Ordered) => "announce",
            Verdict::Here(_, Why::Promoted) => "promoted_here",
            Verdict::Here(..) => "to_is_here",
            Verdict::Elsewhere(Why::Replica) => "redis_is_replica",
            Verdict::Elsewhere(Why::CutOff) => "cut_off",
            Verdict::Elsewhere(Why::Died) => "redis_has_died",
            Verdict::Elsewhere(Why::Promoted) => "promoted_elsewhere",
            Verdict::Elsewhere(_) => "to_is_elsewhere",
            Verdict::Stays(Why::NoNews) => "no_news",
            Verdict::Stays(_) | Verdict::Undecided(_) => "unknown",
        }
    }

    /// Returns why nothing is done about a VIP that is not on this host, or that stays.
    pub fn idle(&self) -> &'static str {
        match self {
            Verdict::Stays(Why::NoNews) => {
                "FROM and TO are the same, which tells nothing (Sentinel could not resolve the new master's name)"
            }
            Verdict::Elsewhere(Why::Replica) => {
                "the Redis of this host is a replica, and the VIP is not here"
            }
            Verdict::Elsewhere(Why::Died) => {
                "the Redis of this host has died, and the VIP is not here"
            }
            Verdict::Elsewhere(Why::CutOff) => {
                "this host is cut off from its peers, and the VIP is not here"
            }
            Verdict::Elsewhere(Why::Called | Why::Told | Why::Majority | Why::Promoted) => {
                "the master is on another host, and the VIP is not here"
            }
            _ => "it is not on this host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use crate::evidence::{Ballot, Call, HELLOS, OwnRedis, Promotion, Vote};
    use crate::exit::Kind;
    use crate::failover::{Endpoint, Host};

    const HERE: &str = "10.0.0.1";
    const AWAY: &str = "10.0.0.2";
    const VIP: &str = "10.0.0.250";

    fn site(host: &str) -> Site {
        let address: IpAddr = host.parse().unwrap();
        Site {
            endpoint: Endpoint {
                host: Host::Address(address),
                port: 6379,
            },
            addresses: vec![address],
            run_id: None,
            place: Ok(if host == HERE {
                Place::Here(Some(3))
            } else {
                Place::Elsewhere
            }),
        }
    }

    /// Three Sentinels; `-` is silent.
    fn ballot(says: [&str; 3]) -> Option<Ballot> {
        let vote = |host: &str| Vote {
            who: "s".into(),
            says: if host == "-" {
                Err("silent".into())
            } else {
                Ok(site(host))
            },
            epoch: 7,
            known_to: 3,
            listed_here: true,
            out_of_reach: host == "-",
        };
        let votes = says.map(vote).to_vec();
        Some(Ballot {
            votes,
            quorum: 2,
            waited: Duration::ZERO,
        })
    }

    fn own(role: Result<Role, Fault>) -> Vec<OwnRedis> {
        vec![OwnRedis {
            site: site(HERE),
            at: SocketAddr::new(HERE.parse().unwrap(), 6379),
            is_vouched_for: true,
            role,
            run_id: None,
        }]
    }

    fn unresolved(kind: Kind) -> Site {
        let fault = match kind {
            Kind::Passing => Fault::passing("no"),
            Kind::Permanent => Fault::permanent("no"),
        };
        Site {
            place: Err(fault),
            addresses: Vec::new(),
            ..site(AWAY)
        }
    }

    /// What a row is to say: the verdict's name, or the kind of the fault.
    fn said(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Undecided(fault) => format!("{:?}", fault.kind),
            verdict => verdict.name().into(),
        }
    }

    /// Holds a table of evidence against the names of the verdicts, or the kinds of the faults.
    fn check(table: Vec<(&str, Evidence, &str)>) {
        for (row, evidence, expected) in table {
            let verdict = verdict(&evidence);
            assert_eq!(said(&verdict), expected, "{row}: {verdict:?}");
        }
    }

    fn ordered(order: Order) -> Evidence {
        Evidence {
            order: Some(order),
            ..Evidence::default()
        }
    }

    /// A VIP that is also the address of a server.
    fn clash(evidence: Evidence) -> Evidence {
        Evidence {
            vip_of_a_server: Some(VIP.parse().unwrap()),
            ..evidence
        }
    }

    fn called(to: Site, carries_information: bool, word: Option<Word>) -> Evidence {
        let call = Call {
            to,
            carries_information,
        };
        Evidence {
            call: Some(call),
            word,
            ..Evidence::default()
        }
    }

    fn polled(says: [&str; 3], own_redis: Vec<OwnRedis>) -> Evidence {
        Evidence {
            ballot: ballot(says),
            own_redis,
            ..Evidence::default()
        }
    }

    fn replica() -> Vec<OwnRedis> {
        own(Ok(Role::Replica))
    }

    #[test]
    fn an_operators_order_goes_before_all_but_a_mistake() {
        let against = |order| Evidence {
            order: Some(order),
            ..polled([AWAY; 3], replica())
        };
        check(vec![
            ("nothing", Evidence::default(), "unknown"),
            ("bind", ordered(Order::Bind), "bind"),
            ("unbind", ordered(Order::Unbind), "unbind"),
            ("announce", ordered(Order::Announce), "announce"),
            ("bind against all", against(Order::Bind), "bind"),
            ("a mistake", clash(ordered(Order::Bind)), "Permanent"),
            ("a mistake", clash(ordered(Order::Unbind)), "Permanent"),
        ]);
    }

    #[test]
    fn a_call_is_believed_unless_this_hosts_sentinel_or_redis_says_otherwise() {
        let (here, away) = (|| site(HERE), || site(AWAY));
        let agrees = || Some(Word::Agrees);
        let says = |host: &str| Some(Word::Says(site(host)));
        let silent = || Some(Word::Silent("no".into()));
        let with = |own_redis| Evidence {
            own_redis,
            ..called(here(), true, agrees())
        };
        let deaf = own(Err(Fault::passing("refused")));
        check(vec![
            ("here", called(here(), true, agrees()), "to_is_here"),
            ("away", called(away(), true, agrees()), "to_is_elsewhere"),
            ("silent", called(here(), true, silent()), "to_is_here"),
            ("not asked", called(away(), true, None), "to_is_elsewhere"),
            (
                "unknown to Sentinel",
                called(here(), true, Some(Word::Unmonitored)),
                "to_is_here",
            ),
            ("stale", called(here(), true, says(AWAY)), "to_is_elsewhere"),
            ("stale", called(away(), true, says(HERE)), "to_is_here"),
            ("no news", called(here(), false, silent()), "no_news"),
            ("told", called(away(), false, says(HERE)), "to_is_here"),
            ("agreed", called(here(), false, agrees()), "to_is_here"),
            (
                "a name that does not resolve now",
                called(unresolved(Kind::Passing), true, None),
                "Passing",
            ),
            (
                "an address that every host has",
                called(unresolved(Kind::Permanent), true, None),
                "Permanent",
            ),
            ("a replica here", with(replica()), "redis_is_replica"),
            ("no Redis here answers", with(deaf), "to_is_here"),
            ("the VIP", clash(called(here(), true, None)), "Permanent"),
        ]);
    }

    #[test]
    fn a_majority_decides_and_the_redis_of_this_host_must_agree() {
        let master = || own(Ok(Role::Master));
        let deaf = own(Err(Fault::passing("refused")));
        let denied = own(Err(Fault::permanent("NOAUTH")));
        let sentinel = own(Ok(Role::Other("sentinel".into())));
        check(vec![
            ("here", polled([HERE, HERE, AWAY], master()), "to_is_here"),
            ("away", polled([AWAY, AWAY, "-"], vec![]), "to_is_elsewhere"),
            (
                "away, and a master here still",
                polled([AWAY, AWAY, HERE], master()),
                "to_is_elsewhere",
            ),
            (
                "a replica",
                polled([HERE; 3], replica()),
                "redis_is_replica",
            ),
            ("its Redis is down", polled([HERE; 3], deaf), "Passing"),
            ("its Redis refuses", polled([HERE; 3], denied), "Permanent"),
            ("another program", polled([HERE; 3], sentinel), "Passing"),
            ("not asked", polled([HERE; 3], vec![]), "Passing"),
            ("none", polled([HERE, AWAY, "-"], master()), "Passing"),
            (
                "none, and a replica here",
                polled([HERE, "-", "-"], replica()),
                "redis_is_replica",
            ),
            ("the VIP", clash(polled([VIP; 3], vec![])), "Permanent"),
        ]);
    }

    /// The Sentinels still name `old`, since failover 7; the promotion of `to` was published after that.
    fn promotion(old: &str, to: &str, role: Option<Role>) -> Evidence {
        let own_role = match (to == HERE, &role) {
            (true, Some(role)) => role.clone(),
            _ if old == HERE => Role::Master,
            _ => Role::Replica,
        };
        Evidence {
            promotion: Some(Promotion {
                to: site(to),
                role,
                epoch: 7,
                age: Duration::from_secs(1),
                lasts: Duration::from_secs(180),
            }),
            ..polled([old; 3], own(Ok(own_role)))
        }
    }

    #[test]
    fn a_promotion_that_has_happened_goes_before_the_majority_until_something_speaks_against_it() {
        let here = || promotion(AWAY, HERE, Some(Role::Master));
        let away = || promotion(HERE, AWAY, Some(Role::Master));
        let with = |mut evidence: Evidence, change: &dyn Fn(&mut Promotion)| {
            change(evidence.promotion.as_mut().unwrap());
            evidence
        };
        let vote = |mut evidence: Evidence, says: &str, epoch: u64| {
            let vote = &mut evidence.ballot.as_mut().unwrap().votes[2];
            (vote.says, vote.epoch) = (Ok(site(says)), epoch);
            evidence
        };
        let late = |promotion: &mut Promotion| promotion.age = promotion.lasts;
        let nowhere = |promotion: &mut Promotion| promotion.to.place = Err(Fault::passing("no"));
        check(vec![
            ("here", here(), "promoted_here"),
            ("away", away(), "promoted_elsewhere"),
            (
                "not yet",
                promotion(AWAY, HERE, Some(Role::Replica)),
                "redis_is_replica",
            ),
            (
                "it was not asked",
                promotion(HERE, AWAY, None),
                "to_is_here",
            ),
            (
                "it is a replica again",
                promotion(HERE, AWAY, Some(Role::Replica)),
                "to_is_here",
            ),
            (
                "the leader's time is over",
                with(here(), &late),
                "to_is_elsewhere",
            ),
            (
                "the leader's time is over",
                with(away(), &late),
                "to_is_here",
            ),
            (
                "nobody knows where it is",
                with(away(), &nowhere),
                "to_is_here",
            ),
            (
                "a later failover to it",
                vote(here(), HERE, 8),
                "promoted_here",
            ),
            (
                "a later failover to another",
                vote(here(), AWAY, 8),
                "to_is_elsewhere",
            ),
            (
                "the failover that was known before",
                vote(here(), AWAY, 7),
                "promoted_here",
            ),
            (
                "the old master has died, and is back",
                Evidence {
                    has_died: true,
                    ..away()
                },
                "promoted_elsewhere",
            ),
            ("a mistake", clash(here()), "Permanent"),
            (
                "an order against it",
                Evidence {
                    order: Some(Order::Unbind),
                    ..here()
                },
                "unbind",
            ),
        ]);
    }

    #[test]
    fn a_redis_that_has_died_gets_no_client_until_its_failover_has_ended() {
        let died = |evidence: Evidence| Evidence {
            has_died: true,
            ..evidence
        };
        let deaf = own(Err(Fault::passing("refused")));
        let back = || own(Ok(Role::Master));
        check(vec![
            ("dead", died(polled([HERE; 3], deaf)), "redis_has_died"),
            ("back", died(polled([HERE; 3], back())), "redis_has_died"),
            ("back", died(polled(["-"; 3], back())), "redis_has_died"),
            (
                "a replica",
                died(polled([HERE; 3], replica())),
                "redis_is_replica",
            ),
            ("over", polled([HERE; 3], back()), "to_is_here"),
        ]);
    }

    #[test]
    fn a_host_that_is_cut_off_lets_go_unless_a_majority_still_names_it() {
        let cut = |evidence: Evidence| Evidence {
            is_cut_off: true,
            ..evidence
        };
        let master = || own(Ok(Role::Master));
        check(vec![
            ("alone", cut(polled([HERE, "-", "-"], master())), "cut_off"),
            (
                "in reach",
                cut(polled([HERE, HERE, "-"], master())),
                "to_is_here",
            ),
            (
                "alone, and not for long",
                polled([HERE, "-", "-"], master()),
                "Passing",
            ),
            (
                "alone, and promoted a moment ago",
                cut(Evidence {
                    own_redis: master(),
                    ballot: ballot([AWAY, "-", "-"]),
                    ..promotion(AWAY, HERE, Some(Role::Master))
                }),
                "cut_off",
            ),
            (
                "another one was promoted",
                cut(promotion(HERE, AWAY, Some(Role::Master))),
                "promoted_elsewhere",
            ),
        ]);
    }

    /// With `[hosts]`, and behind NAT, a port is no sign: the run id is.
    #[test]
    fn another_masters_redis_of_this_host_does_not_speak_for_the_one_that_is_named() {
        let redis = |id: &str, at: &str, role: Role| OwnRedis {
            site: site(HERE),
            at: at.parse().unwrap(),
            is_vouched_for: true,
            role: Ok(role),
            run_id: Some(id.into()),
        };
        let named = |ours: Role, theirs: Role| {
            let theirs = redis("theirs", "10.0.0.9:6379", theirs);
            let ours = redis("ours", "10.0.0.1:6379", ours);
            let mut told = polled([HERE; 3], vec![theirs, ours]);
            for vote in &mut told.ballot.as_mut().unwrap().votes {
                vote.says.as_mut().unwrap().run_id = Some("ours".into());
            }
            told
        };
        use Role::{Master, Replica};
        let unknown = |mut told: Evidence| {
            told.own_redis[1].run_id = Some("new".into());
            told
        };
        check(vec![
            ("ours follows", named(Replica, Master), "redis_is_replica"),
            ("theirs follows", named(Master, Replica), "to_is_here"),
            ("not told apart", unknown(named(Replica, Master)), "Passing"),
        ]);
    }

    #[test]
    fn a_call_counts_where_this_hosts_redis_does_not_tell_its_role() {
        let asked = |role: Result<Role, Fault>, says: [&str; 3], word: Word| Evidence {
            ballot: ballot(says),
            own_redis: own(role),
            ..called(site(HERE), true, Some(word))
        };
        let denied = || Err(Fault::permanent("NOAUTH"));
        let deaf = || Err(Fault::passing("refused"));
        let silent = || Word::Silent("no".into());
        let (all, agrees) = ([HERE; 3], || Word::Agrees);
        check(vec![
            ("denied", asked(denied(), all, agrees()), "to_is_here"),
            ("deaf", asked(deaf(), all, agrees()), "Passing"),
            ("unconfirmed", asked(denied(), all, silent()), "Permanent"),
            (
                "replica",
                asked(Ok(Role::Replica), all, agrees()),
                "redis_is_replica",
            ),
            (
                "away",
                asked(denied(), [AWAY; 3], agrees()),
                "to_is_elsewhere",
            ),
            (
                "died",
                Evidence {
                    has_died: true,
                    ..asked(deaf(), all, agrees())
                },
                "redis_has_died",
            ),
        ]);
    }

    #[test]
    fn a_call_counts_where_there_is_no_majority_and_this_hosts_sentinel_agrees() {
        let asked = |word: Word, says: [&str; 3]| Evidence {
            ballot: ballot(says),
            own_redis: own(Ok(Role::Master)),
            ..called(site(HERE), true, Some(word))
        };
        let silent = || Word::Silent("no".into());
        check(vec![
            (
                "agrees",
                asked(Word::Agrees, [HERE, "-", "-"]),
                "to_is_here",
            ),
            ("silent", asked(silent(), ["-", HERE, "-"]), "Passing"),
            (
                "unknown to it",
                asked(Word::Unmonitored, ["-", HERE, "-"]),
                "Passing",
            ),
            (
                "says another",
                asked(Word::Says(site(AWAY)), [AWAY, "-", "-"]),
                "to_is_elsewhere",
            ),
            (
                "a majority says another",
                asked(Word::Agrees, [HERE, AWAY, AWAY]),
                "to_is_elsewhere",
            ),
        ]);
    }

    #[test]
    fn of_two_redis_of_one_host_the_one_that_is_named_counts() {
        let other = |port: u16| {
            let mut site = site(HERE);
            site.endpoint.port = port;
            site
        };
        let both = |first: Role, second: Result<Role, Fault>| {
            vec![
                OwnRedis {
                    site: other(6380),
                    at: SocketAddr::new(HERE.parse().unwrap(), 6380),
                    is_vouched_for: true,
                    role: Ok(first),
                    run_id: None,
                },
                OwnRedis {
                    site: other(6379),
                    at: SocketAddr::new(HERE.parse().unwrap(), 6379),
                    is_vouched_for: true,
                    role: second,
                    run_id: None,
                },
            ]
        };
        let named = |own_redis| Evidence {
            ballot: ballot([HERE; 3]),
            own_redis,
            ..Evidence::default()
        };
        let master = verdict(&named(both(Role::Replica, Ok(Role::Master))));
        assert_eq!(master, Verdict::Here(Some(3), Why::Majority));
        // The named Redis is down: the other does not make this host let go.
        let down = verdict(&named(both(Role::Replica, Err(Fault::passing("refused")))));
        assert_eq!(said(&down), "Passing");
    }

    #[test]
    fn a_minority_with_a_newer_failover_is_waited_for_and_then_outvoted() {
        let mut evidence = Evidence {
            ballot: ballot([AWAY, HERE, HERE]),
            own_redis: own(Ok(Role::Master)),
            ..Evidence::default()
        };
        let at = |evidence: &mut Evidence, waited| {
            let ballot = evidence.ballot.as_mut().unwrap();
            ballot.votes[0].epoch = 8;
            ballot.waited = waited;
            said(&verdict(evidence))
        };
        assert_eq!(at(&mut evidence, Duration::ZERO), "Passing");
        assert_eq!(at(&mut evidence, HELLOS), "to_is_here");
    }
}
