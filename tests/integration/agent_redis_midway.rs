//! The master's Redis dies in the midst of a planned failover.

use std::process::Stdio;

use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, Site};
use crate::common::{end_of, executable};

const M: Master = MASTER_8000;

/// How many writes are acknowledged before and after.
const BETWEEN: usize = 200;

/// How a failover is asked for.
#[derive(Clone, Copy)]
enum Asked {
    /// Of a Sentinel, without votes.
    ByHand,
    /// `vipswitch failover` on the master's server.
    ByVerb,
}

/// One master is left, which a majority names, and it has every write that it has acknowledged.
fn dies(asked: Asked, event: &str, after: &str) {
    let site = Site::with_agents(&[M]);
    site.down_after(NEVER);
    site.wait_until_well(&M, "server1");
    let id = site.run_id(&M, "server2").unwrap();
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    let mut strike = site.strike(&M, ("server1", "KILL"), event, after);
    let verb = match asked {
        Asked::ByHand => {
            site.begin_fail_over(&M, "server3");
            None
        }
        Asked::ByVerb => {
            let mut verb = site.host("server1").command(executable());
            verb.args(["failover", "--now"]).stdout(Stdio::null());
            Some(verb.spawn().unwrap())
        }
    };
    end_of(&mut strike);
    site.forget("server1-8000");
    site.settles(&M, "server2");
    writers.wait_for(BETWEEN);
    site.restart(&M, "server1");
    site.wait_until_follows(&M, "server1", "server2");
    site.wait_until_follows(&M, "server3", "server2");
    site.settles(&M, "server2");
    assert_eq!(site.masters(&M), ["server2"]);
    if let Some(mut verb) = verb {
        end_of(&mut verb);
    }
    let writes = writers.finish();
    let kept = site.written(&M, "server2");
    let by_heir = writes.iter().filter(|write| write.by == id);
    let lost: Vec<_> = by_heir.filter(|write| !kept.contains(&write.key)).collect();
    assert!(lost.is_empty(), "{} writes of the new master", lost.len());
}

#[test]
fn it_may_die_before_the_choice() {
    dies(Asked::ByHand, "+try-failover", "0");
}

#[test]
fn it_may_die_before_the_choice_of_an_elected_sentinel() {
    dies(Asked::ByVerb, "+vote-for-leader", "0");
}

#[test]
fn it_may_die_while_writes_are_paused() {
    dies(Asked::ByHand, "+failover-state-send-slaveof-noone", "0.02");
}

#[test]
fn it_may_die_while_writes_are_paused_for_an_elected_sentinel() {
    dies(Asked::ByVerb, "+failover-state-send-slaveof-noone", "0.02");
}

#[test]
fn it_may_die_in_the_moment_of_the_promotion() {
    dies(Asked::ByHand, "role", "0");
}

#[test]
fn it_may_die_when_the_vip_has_moved() {
    dies(Asked::ByVerb, "+promoted-slave", "0");
}
