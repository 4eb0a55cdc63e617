//! The chosen replica dies, or hangs, before a majority of the Sentinels names it: its leader waits for it for
//! `failover-timeout`, and the VIP does not.

use std::time::Duration;

use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};
use crate::common::{end_of, eventually, executable};

const M: Master = MASTER_8000;

/// How many writes are acknowledged before and after.
const BETWEEN: usize = 200;

/// How often a moment is tried that a busy machine may miss.
const TRIES: usize = 5;

/// Longer than a test waits for anything, in milliseconds.
const FAILOVER_TIMEOUT: &str = "3600000";

fn site() -> Site {
    let site = Site::with_agents(&[M]);
    site.down_after(NEVER);
    for server in SERVERS {
        let words = [
            "sentinel",
            "set",
            M.name,
            "failover-timeout",
            FAILOVER_TIMEOUT,
        ];
        assert_eq!(site.ask(server, SENTINEL_PORT, &words).unwrap(), "OK");
    }
    site.wait_until_well(&M, "server1");
    site
}

/// Waits until the old master has its VIP again, and takes writes. Returns false where a Sentinel has seen the promotion
/// first.
fn comes_back(site: &Site) -> bool {
    let is_seen = || {
        let mut names = SERVERS.iter().map(|server| site.named_by(server, &M));
        names.any(|named| named == Some("server2"))
    };
    let is_back = || site.takes_writes(&M, "server1") && site.holders(M.vip) == ["server1"];
    eventually("the old master leads again", || is_back() || is_seen());
    if is_seen() {
        return false;
    }
    // Its leader waits for it still.
    let is_waiting = |server: &&str| {
        let words = ["sentinel", "master", M.name];
        let told = site.ask(server, SENTINEL_PORT, &words).unwrap();
        told.to_string().contains("failover_in_progress")
    };
    assert!(SERVERS.iter().any(is_waiting));
    true
}

fn new_master_dies(kills_agent: bool) -> bool {
    let site = site();
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    let mut strike = site.strike(&M, ("server2", "KILL"), "role", "0.1");
    let mut verb = site.host("server1").command(executable());
    verb.args(["failover", "--now", "--force", "--quiet"]);
    let mut verb = verb.spawn().unwrap();
    end_of(&mut strike);
    site.forget("server2-8000");
    if kills_agent {
        // What it has told its Redis is kept for the next one.
        eventually("it was told to follow", || {
            site.role(&M, "server1").as_deref() == Some("slave")
        });
        site.end_agent("server1", "KILL");
        site.start_agent("server1");
    }
    let is_shown = comes_back(&site);
    end_of(&mut verb);
    if !is_shown {
        return false;
    }
    writers.wait_for(BETWEEN);
    site.settles(&M, "server1");
    drop(writers.finish());
    true
}

#[test]
fn a_new_master_that_dies_at_once_is_replaced_by_the_old_one() {
    assert!((0..TRIES).any(|_| new_master_dies(false)));
}

#[test]
fn the_next_agent_has_the_old_master_lead_again() {
    assert!((0..TRIES).any(|_| new_master_dies(true)));
}

/// Its clients may be cut off with it: it lets go before the old master's host takes the VIP back, whatever
/// `down-after-milliseconds` is.
fn new_master_is_cut_off() -> bool {
    let site = site();
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    site.begin_fail_over(&M, "server3");
    eventually("it is promoted", || {
        site.role(&M, "server2").as_deref() == Some("master")
    });
    site.unplug("server2");
    if !comes_back(&site) {
        return false;
    }
    writers.wait_for(BETWEEN);
    // Its own Sentinel, or its leader, decides what it is then.
    site.plug("server2");
    eventually("one has the VIP", || site.holders(M.vip).len() == 1);
    drop(writers.finish());
    true
}

#[test]
fn a_new_master_that_is_cut_off_lets_go_and_the_old_one_leads_again() {
    assert!((0..TRIES).any(|_| new_master_is_cut_off()));
}

/// The other hosts, and the clients, see it: nobody else may be the master.
fn old_masters_host_loses_sight_of_it() -> bool {
    let site = site();
    // The leader does not see it either.
    site.begin_fail_over(&M, "server1");
    eventually("it is promoted", || {
        site.role(&M, "server2").as_deref() == Some("master")
    });
    site.cut("server1", "server2");
    eventually("it has the VIP", || site.holders(M.vip) == ["server2"]);
    let watch = site.watch("server1");
    // Twice as long as it is asked in vain.
    site.seconds_pass("server1", 12.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    assert_eq!(site.holders(M.vip), ["server2"]);
    let mut named = SERVERS.iter().map(|server| site.named_by(server, &M));
    let is_shown = !named.any(|named| named == Some("server2"));
    site.mend("server1", "server2");
    is_shown
}

#[test]
fn a_new_master_that_only_the_old_ones_host_does_not_see_keeps_the_vip() {
    assert!((0..TRIES).any(|_| old_masters_host_loses_sight_of_it()));
}

/// The master dies and is back, and the chosen one gets a signal in the moment of the choice.
fn chosen_is_lost(signal: &str) -> bool {
    let site = site();
    site.send_late(&M, "server1");
    let writers = site.writers(&M, 1);
    writers.wait_for(BETWEEN);
    let choice = "+failover-state-send-slaveof-noone";
    let mut strike = site.strike(&M, ("server2", signal), choice, "0");
    site.kill_and_restart(&M, "server1", Duration::from_millis(100));
    if !site.was_asked() {
        // Nothing was chosen.
        strike.kill().unwrap();
        strike.wait().unwrap();
        return false;
    }
    end_of(&mut strike);
    let is_shown = comes_back(&site);
    if is_shown {
        writers.wait_for(BETWEEN);
        site.settles(&M, "server1");
    }
    site.thaw();
    is_shown
}

#[test]
fn a_reborn_master_gets_its_vip_again_where_the_chosen_replica_has_died() {
    assert!((0..TRIES).any(|_| chosen_is_lost("KILL")));
}

#[test]
fn a_reborn_master_gets_its_vip_again_where_the_chosen_replica_hangs() {
    assert!((0..TRIES).any(|_| chosen_is_lost("STOP")));
}
