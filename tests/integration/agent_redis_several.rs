//! Several masters on one host, whose Redis die at once, or one of them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::common::eventually;
use crate::common::redis::deaths::NEVER;
use crate::common::redis::{Master, SERVERS, Site};

/// How often a death is tried that a busy machine leaves to Sentinel.
const TRIES: usize = 5;

fn site(masters: &[Master]) -> Site {
    let site = Site::with_agents(masters);
    for master in masters {
        site.count_as_down_after(master, NEVER);
    }
    for master in masters {
        site.wait_until_well(master, "server1");
    }
    SERVERS
        .iter()
        .for_each(|server| site.seconds_pass(server, 2.0));
    site
}

/// Returns how often a Sentinel has promoted a replica of this master, and how often one was asked to.
fn counts(site: &Site, master: &Master) -> (usize, usize) {
    let logs = SERVERS.map(|server| site.sentinel_log(server));
    let about = format!(" @ {} ", master.name);
    let is_promotion = |line: &&str| line.contains(" +promoted-slave ") && line.contains(&about);
    let promoted = logs.iter().flat_map(|log| log.lines());
    let named = format!("master={} ", master.name);
    let log = site.log();
    let is_asked =
        |line: &&String| line.contains(" and asked to fail over") && line.contains(&named);
    (
        promoted.filter(is_promotion).count(),
        log.iter().filter(is_asked).count(),
    )
}

/// All that are on server1 die at the same moment, and each is failed over once. Returns how long that took until the
/// last VIP was in its place, and whether no vote was asked for in vain, as on a busy machine they come too late.
fn all_die(number: u16) -> (Duration, bool) {
    let masters = Master::numbered(number);
    let site = site(&masters);
    let died = Instant::now();
    site.kill_all(&masters, "server1");
    eventually("all VIPs are there", || {
        let there = site.host("server2").addresses();
        masters
            .iter()
            .all(|one| there.iter().any(|at| at == one.bound))
    });
    let took = died.elapsed();
    for master in &masters {
        site.settles(master, "server2");
    }
    let done: Vec<_> = masters.iter().map(|master| counts(&site, master)).collect();
    assert!(done.iter().all(|&it| it == (1, 1)), "{done:?}");
    let log = site.log();
    let is_left = log.iter().any(|line| line.contains("Sentinel decides"));
    // An election takes two epochs, and a Sentinel that finds one taken is asked again for one far above.
    let epochs = log.iter().filter_map(|line| {
        let (_, rest) = line.split_once(" was elected in epoch ")?;
        rest.split(' ').next()?.parse().ok()
    });
    let newest: u16 = epochs.max().expect("an election");
    (took, !is_left && newest < 2 * number)
}

/// More than there are tries of an epoch where nobody tells which ones are taken.
#[test]
fn six_that_die_at_the_same_moment_are_failed_over_once_each_without_a_vote_in_vain() {
    assert!((0..TRIES).any(|_| all_die(6).1), "never without one");
}

#[test]
#[ignore = "180 Redis, some minutes: cargo test --test integration agent_redis_several -- --ignored"]
fn sixty_that_die_at_the_same_moment_are_failed_over_once_each() {
    let (took, is_smooth) = all_die(60);
    let text = format!("60 masters: the last VIP after {took:?}; no vote in vain: {is_smooth}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[test]
fn one_of_four_that_dies_takes_no_other_with_it_and_holds_no_other_back() {
    let masters = Master::numbered(4);
    let site = site(&masters);
    let watch = site.watch("server1");
    let [first, second, others @ ..] = masters.as_slice() else {
        unreachable!()
    };
    // No other failover of the same master is asked for within a minute.
    for dies in [first, second] {
        site.kill_redis(dies, "server1");
        site.settles(dies, "server2");
        assert_eq!(counts(&site, dies), (1, 1));
    }
    for other in others {
        site.settles(other, "server1");
        assert_eq!(counts(&site, other), (0, 0));
        assert!(watch.events(other.vip).is_empty(), "{:#?}", site.log());
    }
}
