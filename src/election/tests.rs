use std::net::IpAddr;
use std::time::Duration;

use super::look::{Candidate, Listed, Look, Vote, Voted};
use super::rules::{Plan, Refusal, Round, Terms, is_elected, plan};
use crate::redis::MasterAddress;

const IDS: [&str; 3] = ["cc", "aa", "bb"];

fn terms() -> Terms {
    Terms {
        needed: 2,
        leaving: vec!["10.0.0.2".parse().unwrap()],
        is_here: false,
        near: Some(vec!["10.0.0.1:6379".into(), "10.0.0.3:6379".into()]),
        ahead: Some(Duration::from_millis(500)),
        over: Vec::new(),
        stood: Vec::new(),
        taken: 0,
    }
}

fn replica(host: usize) -> Candidate {
    Candidate {
        at: format!("10.0.0.{host}:6379"),
        run_id: format!("r{host}"),
        flags: vec!["slave".into()],
        link_is_up: true,
        priority: 100,
        offset: 1000,
        follows: true,
        answered: Duration::from_millis(400),
        told: Duration::from_secs(8),
    }
}

/// The Sentinel of host 1, 2 or 3; the master is on host 2.
fn look(host: usize) -> Look {
    let other = |host: usize| Listed {
        at: format!("10.0.0.{host}:26379"),
        run_id: Some(IDS[host - 1].into()),
    };
    Look {
        who: format!("10.0.0.{host}:26379"),
        address: format!("10.0.0.{host}").parse().ok(),
        run_id: Some(IDS[host - 1].into()),
        names_it: true,
        master: MasterAddress {
            host: "10.0.0.2".into(),
            port: 6379,
        },
        flags: vec!["master".into()],
        config_epoch: 4,
        highest_epoch: 6,
        vote: Vote::new("aa", 4),
        tilt: Some(false),
        replicas: vec![replica(1), replica(3)],
        sentinels: (1..=3).filter(|one| *one != host).map(other).collect(),
        down_after: Duration::from_secs(5),
        silent: Duration::from_millis(900),
    }
}

fn looks() -> Vec<Option<Look>> {
    (1..=3).map(|host| Some(look(host))).collect()
}

fn with(change: impl Fn(&mut Terms, &mut [Option<Look>])) -> Result<Plan, Refusal> {
    let (mut terms, mut looks) = (terms(), looks());
    change(&mut terms, &mut looks);
    plan(&terms, &looks)
}

fn each(looks: &mut [Option<Look>], change: impl Fn(&mut Look)) {
    looks.iter_mut().flatten().for_each(change);
}

#[test]
fn a_sentinel_of_another_host_is_elected_in_an_epoch_that_is_new_to_all() {
    let plan = with(|_, _| {}).unwrap();
    // "aa" is on the master's host.
    assert_eq!((plan.asked, plan.run_id.as_str()), (2, "bb"));
    assert_eq!((plan.epoch, plan.config_epoch), (7, 4));
    let of = |change: &dyn Fn(&mut Look)| with(|_, looks| each(looks, change)).unwrap();
    assert_eq!(of(&|look| look.highest_epoch = 2).epoch, 5);
    // Before Redis 6.2 only the others tell its run id.
    assert_eq!(of(&|look| look.run_id = None).run_id, "bb");
    let alone = with(|terms, _| {
        terms
            .leaving
            .extend(["10.0.0.1", "10.0.0.3"].map(|at| at.parse::<IpAddr>().unwrap()))
    });
    assert_eq!(alone.unwrap().run_id, "aa");
    let here = with(|terms, looks| {
        terms.is_here = true;
        looks[2].as_mut().unwrap().address = None;
    });
    assert_eq!(here.unwrap().run_id, "cc");
}

#[test]
fn the_sentinel_of_the_masters_host_is_known_by_any_address_of_that_host() {
    // Each host has two addresses; the Sentinels are asked on the second, and "bb" is on the master's host.
    let second = |look: &mut Look| {
        let at = |text: &str| text.replace("10.0.0.", "10.9.0.");
        look.address = Some(at(&look.address.unwrap().to_string()).parse().unwrap());
        look.who = at(&look.who);
    };
    let elected = |leaving: &[&str], listed: &str| {
        let plan = with(|terms, looks| {
            terms.leaving = leaving.iter().map(|at| at.parse().unwrap()).collect();
            each(looks, |look| {
                second(look);
                for one in &mut look.sentinels {
                    one.at = match one.run_id.as_deref() {
                        Some("aa") => listed.to_owned(),
                        _ => one.at.replace("10.0.0.", "10.9.0."),
                    };
                }
            });
        });
        plan.unwrap().run_id
    };
    // Nothing tells that it is there.
    assert_eq!(elected(&["10.0.0.2"], "10.9.0.2:26379"), "aa");
    // The kernel or the configuration does, or the others know it by the first address.
    assert_eq!(elected(&["10.0.0.2", "10.9.0.2"], "10.9.0.2:26379"), "bb");
    assert_eq!(elected(&["10.0.0.2"], "10.0.0.2:26379"), "bb");
}

#[test]
fn whatever_speaks_against_it_leaves_the_failover_to_sentinel() {
    let refused = |change: &dyn Fn(&mut Terms, &mut [Option<Look>])| with(change).unwrap_err();
    let of_one =
        |change: &dyn Fn(&mut Look)| refused(&|_, looks| change(looks[0].as_mut().unwrap()));
    let of_replicas = |change: &dyn Fn(&mut Candidate)| {
        refused(&|_, looks| each(looks, |look| look.replicas.iter_mut().for_each(change)))
    };
    let no_sentinel = |refusal: &Refusal| matches!(refusal, Refusal::NoSentinel(_));
    assert_eq!(
        refused(&|_, looks| (looks[0], looks[1]) = (None, None)),
        Refusal::TooFew(1, 2)
    );
    assert_eq!(
        refused(&|_, looks| each(looks, |look| look.names_it = false)),
        Refusal::OtherMaster
    );
    for flag in ["s_down", "o_down", "failover_in_progress"] {
        let refusal = of_one(&|look| look.flags.push(flag.into()));
        assert_eq!(refusal, Refusal::Busy("10.0.0.1:26379".into(), flag.into()));
    }
    assert!(matches!(
        of_one(&|look| look.tilt = Some(true)),
        Refusal::Busy(..)
    ));
    let late = of_one(&|look| look.silent = Duration::from_millis(4500));
    assert_eq!(late, Refusal::TooLate("10.0.0.1:26379".into()));
    assert_eq!(of_one(&|look| look.vote.epoch = 5), Refusal::Voted(5));
    assert!(no_sentinel(&refused(&|_, looks| each(looks, |look| {
        look.tilt = None
    }))));
    assert!(no_sentinel(&refused(&|_, looks| each(looks, |look| look
        .replicas
        .clear()))));
    assert!(no_sentinel(&refused(
        &|terms, _| terms.near = Some(Vec::new())
    )));
    for flag in ["s_down", "o_down", "disconnected"] {
        assert!(no_sentinel(&of_replicas(&|one| one
            .flags
            .push(flag.into()))));
    }
    assert!(no_sentinel(&of_replicas(&|one| one.priority = 0)));
    // What keeps each of them from it is named.
    let said = refused(&|_, looks| {
        each(looks, |look| {
            look.replicas[0].flags.push("s_down".into());
            look.replicas[1].priority = 0;
        });
    });
    let said = said.to_string();
    assert!(
        said.contains("has the flag s_down, ") && said.contains("has priority 0"),
        "{said}"
    );
    assert!(no_sentinel(&of_replicas(
        &|one| one.answered = Duration::from_secs(6)
    )));
    assert!(no_sentinel(&of_replicas(
        &|one| one.told = Duration::from_secs(31)
    )));
}

#[test]
fn an_election_that_is_known_to_be_over_does_not_count() {
    let plan = with(|terms, looks| {
        terms.over = vec![Vote::new("cc", 8)];
        each(looks, |look| look.vote = Vote::new("cc", 8));
    });
    assert_eq!(plan.unwrap().epoch, 9);
    // Another requester's, in the same epoch, is not.
    let plan = with(|terms, looks| {
        terms.over = vec![Vote::new("cc", 8)];
        each(looks, |look| look.vote = Vote::new("cc", 8));
        looks[1].as_mut().unwrap().vote = Vote::new("bb", 8);
    });
    assert_eq!(plan, Err(Refusal::Voted(8)));
}

#[test]
fn an_election_of_others_that_has_stood_for_long_is_over_where_its_sentinel_answers() {
    let stood = |leader: &'static str, silent: usize| {
        with(move |terms, looks| {
            terms.stood = vec![Vote::new(leader, 8)];
            each(looks, |look| look.vote = Vote::new(leader, 8));
            looks[silent] = None;
            terms.end_stood(looks);
        })
    };
    assert_eq!(stood("bb", 0).unwrap().epoch, 9);
    // It may have begun, and nobody knows who that is.
    assert_eq!(stood("bb", 2), Err(Refusal::Voted(8)));
    assert_eq!(stood("zz", 0), Err(Refusal::Voted(8)));
    // It has begun.
    let plan = with(|terms, looks| {
        terms.stood = vec![Vote::new("bb", 8)];
        each(looks, |look| look.vote = Vote::new("bb", 8));
        let flags = &mut looks[2].as_mut().unwrap().flags;
        flags.push("failover_in_progress".into());
        terms.end_stood(looks);
    });
    assert!(matches!(plan, Err(Refusal::Busy(..))), "{plan:?}");
}

#[test]
fn the_replica_that_sentinel_would_select_must_lack_little() {
    let nearer = |terms: &mut Terms, looks: &mut [Option<Look>]| {
        terms.near = Some(vec!["10.0.0.3:6379".into()]);
        each(looks, |look| look.replicas[1].offset += 1);
    };
    assert_eq!(with(nearer).unwrap().replicas[0], "10.0.0.3:6379");
    let preferred = |terms: &mut Terms, looks: &mut [Option<Look>]| {
        nearer(terms, looks);
        each(looks, |look| look.replicas[0].priority = 1);
    };
    assert!(matches!(with(preferred), Err(Refusal::NoSentinel(_))));
}

#[test]
fn of_equal_priorities_any_may_be_selected_and_the_best_of_now_comes_first() {
    let selected = |change: &dyn Fn(&mut Candidate, &mut Candidate)| {
        let plan = with(|_, looks| {
            each(looks, |look| {
                let (first, second) = look.replicas.split_at_mut(1);
                change(&mut first[0], &mut second[0]);
            });
        });
        let hosts = plan.unwrap().replicas.into_iter();
        hosts.map(|at| at[7..8].to_owned()).collect::<String>()
    };
    assert_eq!(selected(&|_, _| {}), "13");
    assert_eq!(selected(&|_, three| three.offset += 1), "31");
    // As strcasecmp has it; and where there is none it comes last.
    assert_eq!(
        selected(&|one, three| {
            (one.run_id, three.run_id) = ("b".into(), "A".into());
        }),
        "31"
    );
    assert_eq!(
        selected(&|one, three| {
            (one.run_id, three.run_id) = ("B".into(), "a".into());
        }),
        "31"
    );
    assert_eq!(selected(&|one, _| one.run_id = String::new()), "31");
    // The priority comes before all, and is no matter of a moment.
    assert_eq!(
        selected(&|one, three| {
            (one.priority, three.offset) = (99, 9999);
        }),
        "1"
    );
    // One that could not be selected is none of them.
    assert_eq!(selected(&|_, three| three.flags.push("s_down".into())), "1");
    // Nor one that has no link to the master, unless that itself says that it has all.
    let first = "10.0.0.1:6379";
    let unlinked = |near: Option<Vec<String>>| {
        let plan = with(|terms, looks| {
            terms.near = near.clone();
            each(looks, |look| look.replicas[1].link_is_up = false);
        });
        plan.unwrap().replicas
    };
    assert_eq!(unlinked(Some(vec![first.into()])), [first]);
    assert_eq!(unlinked(None), [first]);
    assert_eq!(unlinked(terms().near).len(), 2);
}

#[test]
fn the_link_to_a_master_that_has_died_is_down_and_that_to_one_that_lives_must_be_up() {
    let without_link = |near: Option<Vec<String>>| {
        with(|terms, looks| {
            terms.near = near.clone();
            each(looks, |look| {
                for one in &mut look.replicas {
                    one.link_is_up = false;
                }
            });
        })
    };
    assert!(without_link(terms().near).is_ok());
    assert!(matches!(without_link(None), Err(Refusal::NoSentinel(_))));
}

fn voted(before: Vote, now: Vote) -> Voted {
    Voted {
        who: "10.0.0.1:26379".into(),
        before,
        now,
        flags: vec!["master".into()],
        config_epoch: 4,
    }
}

fn first() -> Vec<Option<Voted>> {
    let one = || Some(voted(Vote::new("aa", 4), Vote::new("bb", 7)));
    vec![one(), one(), one()]
}

fn second() -> Vec<Option<Voted>> {
    let other = || Some(voted(Vote::new("bb", 7), Vote::new("bb", 8)));
    let own = || Some(voted(Vote::new("bb", 7), Vote::new("bb", 7)));
    vec![other(), other(), own()]
}

#[test]
fn votes_that_are_not_new_any_more_must_stand() {
    let plan = with(|_, _| {}).unwrap();
    let stand = |change: &dyn Fn(&mut Voted)| {
        let one = |epoch: u64| Some(voted(Vote::new("bb", epoch), Vote::new("bb", epoch)));
        let mut votes = vec![one(8), one(8), one(7)];
        votes.iter_mut().flatten().for_each(change);
        is_elected(&terms(), &plan, Round::Still, &votes)
    };
    assert_eq!(stand(&|_| {}), Ok(()));
    let newer = stand(&|vote| vote.now = Vote::new("cc", 9));
    assert_eq!(newer, Err(Refusal::Lost(0, 2)));
    let began = stand(&|vote| vote.flags.push("o_down".into()));
    assert!(matches!(began, Err(Refusal::Busy(..))));
    assert_eq!(
        stand(&|vote| vote.config_epoch = 5),
        Err(Refusal::OtherMaster)
    );
}

#[test]
fn a_majority_must_vote_twice_for_the_one_that_is_asked_and_so_must_that_one() {
    let plan = with(|_, _| {}).unwrap();
    for (round, votes) in [(Round::First, first()), (Round::Second, second())] {
        let count = |votes: &[Option<Voted>]| is_elected(&terms(), &plan, round, votes);
        assert_eq!(count(&votes), Ok(()));
        let without = |silent: &[usize]| {
            let mut votes = votes.clone();
            silent.iter().for_each(|place| votes[*place] = None);
            count(&votes)
        };
        assert_eq!(without(&[0]), Ok(()));
        assert_eq!(without(&[0, 1]), Err(Refusal::Lost(1, 2)));
        assert_eq!(without(&[2]), Err(Refusal::Lost(2, 2)));
        let with = |change: &dyn Fn(&mut Voted)| {
            let mut votes = votes.clone();
            votes.iter_mut().take(2).flatten().for_each(change);
            count(&votes)
        };
        assert_eq!(with(&|vote| vote.now.epoch += 1), Err(Refusal::Lost(1, 2)));
        assert_eq!(
            with(&|vote| vote.now.leader = "cc".into()),
            Err(Refusal::Lost(1, 2))
        );
        // It had voted for another one meanwhile, which can have been asked by now.
        let meanwhile = |vote: &mut Voted| vote.before = Vote::new("cc", 6);
        assert_eq!(with(&meanwhile), Err(Refusal::Lost(1, 2)));
        let began = |vote: &mut Voted| vote.flags.push("failover_in_progress".into());
        assert!(matches!(with(&began), Err(Refusal::Busy(..))));
        assert_eq!(
            with(&|vote| vote.config_epoch = 5),
            Err(Refusal::OtherMaster)
        );
    }
}

#[test]
fn an_epoch_that_this_requester_has_taken_for_another_master_is_not_tried_again() {
    // No failover has come of it yet, so that no Sentinel tells it.
    let of = |taken: u64| with(|terms, _| terms.taken = taken).unwrap().epoch;
    assert_eq!((of(5), of(9)), (7, 10));
}
