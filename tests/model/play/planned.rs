//! Planned failovers of healthy sites with agents, and of one whose leader is lost.

use super::{Game, World};
use crate::audit::master;
use crate::cluster::{HOSTS, Link, Role, ms};
use crate::sentinel::FAILOVER_TIMEOUT;
use crate::steps::{Act, Status, act};

/// Plays that many healthy sites with agents, and three planned failovers in each. Returns how many there were.
///
/// # Errors
///
/// What was wrong first.
pub fn plan_failovers(game: Game, cases: u64) -> Result<u64, String> {
    let mut failovers = 0;
    for case in 0..cases {
        // Agents on all hosts.
        let mut world = World::new(game, &Status::healthy(case * 8, [100; HOSTS]));
        for after in [26_000, 40_000, 40_000, 20_000] {
            world.run(ms(after + case));
            let by = world.cluster.random(3).as_millis() as usize;
            let _ = world.cluster.force_failover(by);
            if let Some(wrong) = world.audit.wrong {
                return Err(wrong);
            }
        }
        failovers += world.audit.of_agents.planned_failovers;
    }
    Ok(failovers)
}

/// How a leader's word of a promotion never comes.
#[derive(Clone, Copy, Debug)]
pub enum Lost {
    /// Its process is killed.
    Killed,
    /// It does not reach the promoted Redis, and gives up.
    CutOff,
}

/// Plays a site with agents, and a planned failover whose leader dies or gives up as soon as the chosen replica is the
/// master. Returns how often an old master that had been told to follow was made a master again.
///
/// # Errors
///
/// What was wrong.
pub fn lose_a_leader(game: Game, case: u64, lost: Lost) -> Result<u64, String> {
    let mut world = World::new(game, &Status::healthy(case * 8, [100, 100, 0]));
    world.audit.keeps_log = true;
    world.run(ms(26_000 + case * 17));
    let leader = 2;
    world.cluster.force_failover(leader).expect("accepted");
    let promoted = |world: &World| world.cluster.machines[1].redis == Some(Role::Master);
    while !promoted(&world) {
        world.run(ms(1));
    }
    match lost {
        Lost::Killed => act(Act::KillSentinel(leader), &mut world.cluster),
        Lost::CutOff => act(
            Act::Link {
                one: leader,
                other: 1,
                is: Link::Cut,
            },
            &mut world.cluster,
        ),
    }
    // Longer than a leader tries.
    world.run(FAILOVER_TIMEOUT + ms(3_000));
    let holders = world.cluster.holders();
    let is_served = master(&world.cluster).is_some_and(|master| holders == [master]);
    if world.audit.wrong.is_none() && !is_served {
        world.audit.wrong = Some(format!(
            "there is no master with the VIP, which is on {holders:?}"
        ));
    }
    if world.audit.wrong.is_none() {
        world.settle();
    }
    match world.audit.wrong {
        Some(wrong) => Err(format!("{wrong}\n{}", world.audit.log.join("\n"))),
        None => Ok(world.audit.of_agents.leads),
    }
}
