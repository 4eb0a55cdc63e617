//! Many deaths of a master's Redis, each at another moment, and how long a writer was without an answer.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::eventually;
use crate::common::redis::agents::Write;
use crate::common::redis::deaths::{KEYS, Keeps};
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};

const M: Master = MASTER_8000;

/// When an agent may have a Sentinel elected again, if nothing has come of the first.
const NOTHING_CAME: Duration = Duration::from_secs(5);

/// How many writes are acknowledged before and after each.
const BETWEEN: usize = 200;

/// Numbers that look random, for moments and choices.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's MMIX: the upper bits are good enough.
        self.0 = self.0.wrapping_mul(6364136223846793005);
        self.0 = self.0.wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

/// How it dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// For good.
    Stays,
    /// It is back after so many milliseconds.
    Back(Keeps, u64),
}

impl Death {
    fn any(random: &mut Random) -> Death {
        let after = [10, 20, 50, 100, 200, 300][random.below(6) as usize];
        match random.below(6) {
            0..=2 => Death::Stays,
            3 => Death::Back(Keeps::Nothing, after),
            4 => Death::Back(Keeps::Snapshot, after),
            _ => Death::Back(Keeps::Log, after),
        }
    }
}

/// How long a master that is back waits before it sends its data to a replica, as in Redis 7's default.
const SENDS_AFTER: Duration = Duration::from_secs(5);

/// What came of one.
struct Round {
    death: Death,
    /// The writer's longest time without an answer, in milliseconds.
    outage: f64,
    /// Until all Sentinels agreed.
    agreed: Duration,
    promotions: usize,
    /// In which epochs a Sentinel was asked to fail over.
    asked: Vec<u64>,
    /// Keys that every replica had, and the new master has not.
    missing: usize,
    /// Writes that the Redis acknowledged that had come back, and those of them after the VIP was released.
    by_reborn: usize,
    late: usize,
    /// Writes that the new master acknowledged, and has not.
    lost: usize,
}

fn outage(writes: &[Write]) -> f64 {
    let gaps = writes.windows(2).map(|pair| pair[1].at - pair[0].at);
    gaps.fold(0.0, f64::max) * 1e3
}

impl Round {
    /// Returns whether the failover came before the Redis that was back could send its data to the others: on a busy
    /// machine it may empty them first. With its log it has all keys itself.
    fn nobody_was_emptied(&self) -> bool {
        let has_all = matches!(self.death, Death::Stays | Death::Back(Keeps::Log, _));
        has_all || self.agreed < SENDS_AFTER
    }

    /// Returns whether a Sentinel was asked more often than once for each epoch, or again although something had come
    /// of the first request within [`NOTHING_CAME`].
    fn was_asked_too_often(&self) -> bool {
        let epochs: BTreeSet<&u64> = self.asked.iter().collect();
        let is_again = self.asked.len() > 1 && self.agreed < NOTHING_CAME;
        epochs.len() < self.asked.len() || is_again
    }
}

/// How often Sentinel was left to decide so far.
fn left_to_sentinel(site: &Site) -> usize {
    let log = site.log();
    let lines = log
        .iter()
        .filter(|line| line.contains("Sentinel decides: "));
    lines.count()
}

/// Kills the master's Redis on `from`; the one on `to` follows. Returns `None` where Sentinel was left to decide, as on a
/// busy machine its votes may come too late.
fn round(
    site: &Site,
    (from, to): (&str, &str),
    death: Death,
    random: &mut Random,
) -> Option<Round> {
    site.wait_until_well(&M, from);
    let keeps = match death {
        Death::Stays => Keeps::Nothing,
        Death::Back(keeps, _) => keeps,
    };
    site.send_after(&M, to, Duration::ZERO);
    site.send_after(&M, from, SENDS_AFTER);
    site.fill(&M, from, keeps);
    let ids = [from, to].map(|server| site.run_id(&M, server).unwrap());
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    let before = (site.promotions(), site.asked_in().len());
    let left = left_to_sentinel(site);
    // No state to wait for: the phase is what differs from death to death.
    thread::sleep(Duration::from_millis(random.below(1000)));
    let died = Instant::now();
    match death {
        Death::Stays => site.kill_redis(&M, from),
        Death::Back(_, after) => site.kill_and_restart(&M, from, Duration::from_millis(after)),
    }
    eventually("the failover, or that there is none", || {
        left_to_sentinel(site) > left
            || SERVERS.iter().all(|one| site.named_by(one, &M) == Some(to))
    });
    if left_to_sentinel(site) > left {
        if let Death::Stays = death {
            site.restart(&M, from);
        }
        return None;
    }
    let agreed = died.elapsed();
    site.settles(&M, to);
    writers.wait_for(BETWEEN);
    if let Death::Stays = death {
        site.restart(&M, from);
    }
    site.wait_until_follows(&M, from, to);
    site.wait_until_follows(&M, "server3", to);
    let writes = writers.finish();
    site.settles(&M, to);
    site.wait_until_all_have_one_view(&M);
    let kept = site.written(&M, to);
    let base = kept.iter().filter(|key| key.starts_with("wbase")).count();
    let of_heir = writes.iter().filter(|write| write.by == ids[1]);
    Some(Round {
        death,
        outage: outage(&writes),
        agreed,
        promotions: site.promotions() - before.0,
        asked: site.asked_in().split_off(before.1),
        missing: KEYS - base,
        by_reborn: writes
            .iter()
            .filter(|write| !ids.contains(&write.by))
            .count(),
        late: site.after_the_release(from, &ids, &writes).len(),
        lost: of_heir.filter(|write| !kept.contains(&write.key)).count(),
    })
}

/// What is promised of each: that every Sentinel has the same view in the end, and that all keys and the VIP are where
/// it says, each round has waited for.
type Promise = (&'static str, fn(&Round) -> bool);
const BROKEN: &[Promise] = &[
    ("writes to the reborn", |round| round.by_reborn > 0),
    ("writes of the new master", |round| round.lost > 0),
    ("promotions", |round| round.promotions != 1),
    ("asked too often", Round::was_asked_too_often),
    ("keys that replicas had", |round| {
        round.nobody_was_emptied() && round.missing > 0
    }),
];

#[test]
#[ignore = "takes a quarter of a minute for each: VIPSWITCH_DEATHS=200 cargo test --test integration agent_redis_kills -- --ignored"]
fn kills_at_random_moments() {
    let number = std::env::var("VIPSWITCH_DEATHS").map_or(3, |text| text.parse().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut random = Random(now.as_nanos() as u64);
    let site = Site::with_agents(&[M]);
    let mut rounds = Vec::new();
    for place in 0..number {
        let down_after = if place % 2 == 0 { 5_000 } else { 30_000 };
        site.down_after(down_after);
        site.forget_failovers();
        // Where Sentinel was left to decide it may be any of the two.
        let from = site.settles_anywhere(&M);
        let to = if from == "server1" {
            "server2"
        } else {
            "server1"
        };
        let death = Death::any(&mut random);
        let Some(seen) = round(&site, (from, to), death, &mut random) else {
            print(&format!(
                "{place}: down-after {down_after}, {death:?}: Sentinel was left to decide"
            ));
            continue;
        };
        print(&format!(
            "{place}: down-after {down_after}, {death:?}: outage {:.0} ms, agreed after {:.0} ms, {} promoted, {} asked, \
             {} keys missing, {} by the reborn, {} of them late, {} lost",
            seen.outage,
            seen.agreed.as_secs_f64() * 1e3,
            seen.promotions,
            seen.asked.len(),
            seen.missing,
            seen.by_reborn,
            seen.late,
            seen.lost
        ));
        rounds.push(seen);
        let emptied = || site.ask(to, M.port, &["flushall"]);
        eventually("the keys are gone", || emptied().is_some());
    }
    tell("outage", rounds.iter().map(|round| round.outage));
    tell(
        "agreed",
        rounds.iter().map(|round| round.agreed.as_secs_f64() * 1e3),
    );
    let count = |what: fn(&Round) -> bool| rounds.iter().filter(|round| what(round)).count();
    print(&format!(
        "{} of {} promoted once, {} were asked for, {} lost keys that replicas had, {} reached the reborn",
        count(|round| round.promotions == 1),
        rounds.len(),
        count(|round| round.asked.len() == 1),
        count(|round| round.missing > 0),
        count(|round| round.by_reborn > 0),
    ));
    // Not asserted, as a scheduler can break it: the outage; that a Sentinel was asked at all (the votes may be late, and
    // an answer, too); what a Redis kept that Sentinel was left to decide about.
    for (what, is_broken) in BROKEN {
        assert_eq!(count(*is_broken), 0, "{what}");
    }
}

fn tell(what: &str, values: impl Iterator<Item = f64>) {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    print(&format!(
        "{what}: least {:.0}, 10 % {:.0}, median {:.0}, 90 % {:.0}, 99 % {:.0}, most {:.0} ms",
        at(0),
        at(10),
        at(50),
        at(90),
        at(99),
        at(100)
    ));
}

/// Prints a line that the test harness does not hold back.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
