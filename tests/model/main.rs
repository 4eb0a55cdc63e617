//! A model of three hosts with a Redis and a Sentinel each, in memory, and vipswitch's real `gather::count`,
//! `verdict` and `plan` on each of them. Random faults happen to it; then everything comes back, and the
//! VIP has to be where the Sentinels say.
//!
//! | room | what it holds |
//! |---|---|
//! | `cluster` | time, network, Redis, addresses; no Sentinel's mind, no vipswitch |
//! | `sentinel` | one Sentinel's mind: epochs, hellos, votes, failovers, calls of the hook (sentinel.c 7.0) |
//! | `driver` | who acts on the hosts: `OneShot` is the hook and `sync` |
//! | `agent` | `Agents`: the shipped core on all or some of the hosts, killed and stopped at any time |
//! | `requests` | an agent's election of the Sentinel that is to fail over from its dead Redis |
//! | `audit` | the invariants |
//! | `agent_audit` | what agents must not do |
//! | `steps` | what can happen, and when |
//! | `play` | one case from its steps to its rest, and many cases |
//! | `parity` | the model's Sentinel held against real ones, and against field-notes sections 1 and 6 |
//!
//! What is real and what is not: `gather::count` and `Poll::evidence` (what a poll amounts to), `verdict` and
//! `plan` are the shipped functions. The questions, the pauses between attempts, the lock and the deeds are
//! `driver`'s, after `once` and `engine`.
//!
//! The invariants:
//!
//! 1. At rest (everything up and connected, nothing has changed for [`play::REST`]) the VIP has exactly one
//!    holder: the host that the majority names and whose Redis is master. Where the Sentinels themselves
//!    have split a failover (below) and a majority names a replica, it has no holder. And where a majority
//!    names a master, the VIP is there a tick and a run after the last change.
//! 2. Never a holder whose Redis has said replica: a `sync` that hears it lets go in that same run, unless the
//!    kernel refuses. And a host hears of it within a tick, the 30 s from one `sync` to the next, and one
//!    run: where its local Sentinel answers it does not hold the VIP beside a replica for longer, whatever
//!    the other Sentinels say or do not say. Without its local Sentinel `sync` knows no Redis to ask.
//! 3. A minority moves nothing: `sync` binds only what two of three Sentinels name and its Redis confirms,
//!    and releases only what two of three name elsewhere, or what its own Redis gives up by being a replica;
//!    and only while its local Sentinel still says what it said in the poll.
//!    The hook follows a decision that was elected by two of three or forced by an operator, and never
//!    against what the local Sentinel says at that moment.
//!
//! Where agents run (`the_agents_keep_the_invariants`):
//!
//! 4. With agents on all hosts and nothing wrong the VIP is where a majority names a master within 12 s.
//! 5. An agent moves a VIP only on ground that the model knows, too: a majority that it asked, a promotion that was
//!    published, its own Redis' role, or silence of its peers for `down-after`, in which it was not stopped.
//! 6. A pause of writes is no longer than half of `down-after`, and ends after the release once the chosen replica
//!    has said master.
//! 7. No planned failover of healthy hosts lets the old master take writes through the VIP once the new one is
//!    promoted.
//! 8. No agent turns without end, or is busy for nothing.
//! 9. An agent that has a Sentinel elected and asked, as its Redis has died, is never the cause of two masters of one
//!    epoch, asks no sooner than 60 s after the last such failover, and lets no client reach the Redis that is back.
//!
//! Two decisions can have one epoch: `SENTINEL FAILOVER` raises it without votes (field-notes section 6), a
//! Sentinel with an old file may vote twice, and a leader that is still reconfiguring replicas when it hears
//! of a later failover back to the old master goes on with its own choice under the later epoch
//! (sentinelProcessHelloMessage compares with the old master). Sentinel then promises nothing: two masters,
//! or none, until a later failover. In those cases (they are counted) invariants 2 and 3 hold as
//! they are, and of the first: at most one holder, which is the host that the majority names if its Redis
//! is master. A forced failover at a Sentinel that is cut off from the others moves the VIP on its side by the
//! hook's call: an operator's order, not a minority's.
//!
//! `VIPSWITCH_MODEL_CASES` is how many cases are played, 10,000 without it, in batches of 100 on all
//! processors; the seed of the first batch is printed, the next has the next number. A failure prints its
//! batch's seed, the smallest sequence of steps that fails, and what happens in it:
//!
//! ```sh
//! VIPSWITCH_MODEL_CASES=1000000 cargo test --test model the_policy -- --nocapture
//! VIPSWITCH_MODEL_SEED=17 VIPSWITCH_MODEL_CASES=100 cargo test --test model the_policy
//! ```
//!
//! Another kind of actor on the hosts implements [`driver::Driver`]: it is told every signal of the cluster
//! (a Redis that turned, what a Sentinel published, a call, a boot, a death), asks for times to go on, and
//! asks and acts through [`cluster::Cluster`]. `World::add` puts it beside or instead of the others.

mod agent;
mod agent_audit;
mod audit;
mod cluster;
#[path = "../integration/common/mod.rs"]
mod common;
mod driver;
mod elections;
mod parity;
mod play;
mod requests;
mod sentinel;
mod steps;

use vipswitch::evidence::{Evidence, Role};
use vipswitch::verdict::{Verdict, Why, verdict};

use agent::Flaw;
use play::planned::{self, Lost};
use play::{Found, Game, hunt};

/// The hook and `sync`.
const ONE_SHOT: Game = Game {
    policy: verdict,
    agents: None,
};

/// Agents, beside the hook.
const AGENTS: Game = Game {
    policy: verdict,
    agents: Some(Flaw::None),
};

#[test]
fn the_policy_keeps_the_invariants() {
    let cases = number("VIPSWITCH_MODEL_CASES").unwrap_or(10_000);
    let seed = number("VIPSWITCH_MODEL_SEED").unwrap_or_else(play::any_seed);
    println!("VIPSWITCH_MODEL_SEED={seed} VIPSWITCH_MODEL_CASES={cases}");
    match hunt(ONE_SHOT, cases, seed, true) {
        Ok(seen) => println!("{seen}"),
        Err(found) => panic!("{found}"),
    }
}

#[test]
fn the_agents_keep_the_invariants() {
    // Ten batches. The same cases each time: no run of the tests may fail now and then, and a hunt is somebody's work.
    let cases = number("VIPSWITCH_MODEL_CASES").unwrap_or(1_000);
    let seed = number("VIPSWITCH_MODEL_SEED").unwrap_or(1);
    println!("VIPSWITCH_MODEL_SEED={seed} VIPSWITCH_MODEL_CASES={cases}");
    match hunt(AGENTS, cases, seed, true) {
        Ok(seen) => println!("{seen}"),
        Err(found) => panic!("{found}"),
    }
}

/// Returns what a flawed agent is caught at.
fn caught_agent(flaw: Flaw) -> Found {
    caught_agent_from(flaw, 1)
}

/// The same, with another seed: from 1 on what some flaws do comes only after a thousand cases.
fn caught_agent_from(flaw: Flaw, seed: u64) -> Found {
    let game = Game {
        policy: verdict,
        agents: Some(flaw),
    };
    match hunt(game, 3_000, seed, false) {
        Ok(seen) => panic!("not caught: {seen}"),
        Err(found) => found,
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Returns what a broken policy is caught at.
fn caught(policy: driver::Policy) -> Found {
    let game = Game {
        policy,
        agents: None,
    };
    match hunt(game, 3_000, 1, false) {
        Ok(seen) => panic!("not caught: {seen}"),
        Err(found) => found,
    }
}

#[test]
fn a_case_is_a_function_of_its_seed() {
    let (first, again) = (play::twice(AGENTS, 9), play::twice(AGENTS, 9));
    assert_eq!(first, again);
    for [one, other] in first {
        assert!(!one.is_empty());
        assert_eq!(one, other);
    }
}

#[test]
fn a_policy_that_listens_to_one_sentinel_is_caught() {
    let found = caught(|evidence| {
        let mut evidence = evidence.clone();
        if let Some(ballot) = &mut evidence.ballot {
            ballot.votes.truncate(1);
            ballot.quorum = 1;
        }
        verdict(&evidence)
    });
    assert!(found.what.contains("minority"), "{found}");
}

#[test]
fn a_policy_that_follows_stale_calls_is_caught() {
    let found = caught(|evidence| {
        verdict(&Evidence {
            word: None,
            ..evidence.clone()
        })
    });
    // What is stale is a release, or a take-over on a host whose Redis has become a replica.
    let is_caught = ["stale", "took the VIP over beside a replica"];
    assert!(
        is_caught.iter().any(|what| found.what.contains(what)),
        "{found}"
    );
}

#[test]
fn a_policy_that_does_not_hear_a_replica_is_caught() {
    let found = caught(|evidence| {
        let mut evidence = evidence.clone();
        evidence
            .own_redis
            .retain(|redis| redis.role != Ok(Role::Replica));
        verdict(&evidence)
    });
    assert!(found.what.contains("replica"), "{found}");
}

#[test]
fn a_policy_that_lets_go_without_a_majority_is_caught() {
    let found = caught(|evidence| match (verdict(evidence), &evidence.ballot) {
        (Verdict::Undecided(_), Some(ballot)) if ballot.winner().is_none() => {
            Verdict::Elsewhere(Why::Majority)
        }
        (other, _) => other,
    });
    assert!(found.what.contains("minority"), "{found}");
}

#[test]
fn a_policy_that_never_binds_after_a_boot_is_caught() {
    let found = caught(|evidence| match verdict(evidence) {
        Verdict::Here(_, why @ Why::Majority) => Verdict::Stays(why),
        other => other,
    });
    assert!(found.what.contains("after a tick"), "{found}");
}

#[test]
fn an_agent_that_allows_writes_before_the_release_is_caught() {
    let found = caught_agent(Flaw::UnpausesFirst);
    let is_caught = ["allowed writes before", "they are lost"];
    let what = &found.what;
    assert!(is_caught.iter().any(|it| what.contains(it)), "{found}");
}

#[test]
fn an_agent_that_does_not_see_its_vip_removed_is_caught() {
    let found = caught_agent(Flaw::BlindToRemovals);
    assert!(found.what.contains("the VIP"), "{found}");
}

#[test]
fn an_agent_that_takes_a_refusal_for_silence_is_caught() {
    let found = caught_agent(Flaw::RefusedIsSilence);
    assert!(found.what.contains("without ground"), "{found}");
}

#[test]
fn an_agent_that_leaves_the_vip_to_a_reborn_redis_is_caught() {
    let found = caught_agent_from(Flaw::KeepsTheReborn, 16);
    assert!(found.what.contains("reborn"), "{found}");
}

#[test]
fn an_agent_that_asks_a_sentinel_nobody_voted_for_is_caught() {
    let found = caught_agent_from(Flaw::AsksWithoutVotes, 11);
    assert!(found.what.contains("because of an agent"), "{found}");
}

#[test]
fn planned_failovers_lose_no_write() {
    let failovers = planned::plan_failovers(AGENTS, 100);
    assert!(
        failovers.as_ref().is_ok_and(|number| *number > 100),
        "{failovers:?}"
    );
    let flawed = Game {
        agents: Some(Flaw::UnpausesFirst),
        ..AGENTS
    };
    let caught = planned::plan_failovers(flawed, 100).unwrap_err();
    assert!(caught.contains("before it released"), "{caught}");
}

#[test]
fn a_failover_whose_leader_is_lost_after_the_promotion_leaves_one_master_with_the_vip() {
    for lost in [Lost::Killed, Lost::CutOff] {
        let mut leads = 0;
        for case in 0..40 {
            let ended = planned::lose_a_leader(AGENTS, case, lost);
            leads += ended.unwrap_or_else(|wrong| panic!("{lost:?}, {case}: {wrong}"));
        }
        assert!(leads > 0, "{lost:?}");
    }
}
