//! Agents that are killed, stopped, ended and told to read their configuration again.

use crate::common::redis::{MASTER_8000, MASTER_8001, Master, Site};
use crate::common::{NameHolder, eventually};

const M: Master = MASTER_8000;

/// So long, in milliseconds, that an agent can be stopped within this time.
const LONG: u32 = 10_000;

/// What is done to an agent in the midst of a failover.
#[derive(Clone, Copy)]
enum Blow {
    Killed,
    Stopped,
    Restarted,
    Reloaded,
}

/// A planned failover to server2 in which an agent dies, or stands still, at a stage; then it is there again.
fn struck(server: &str, blow: Blow, stage: impl Fn(&Site) -> bool) {
    let site = Site::with_agents(&[M]);
    let pid = site.agent_pid(server);
    site.begin_fail_over(&M, "server3");
    eventually("the stage", || stage(&site));
    match blow {
        Blow::Killed => {
            site.signal(&pid, "KILL");
            site.forget(&format!("{server}-agent"));
        }
        Blow::Stopped => site.signal(&pid, "STOP"),
        Blow::Restarted => {
            site.signal(&pid, "TERM");
            site.forget(&format!("{server}-agent"));
            site.launch_agent(server);
        }
        Blow::Reloaded => site.signal(&pid, "HUP"),
    }
    site.wait_until_named(&M, "server2");
    // A pause ends by itself: the old master is still one, or a replica by now.
    eventually("writes are not paused", || {
        site.takes_writes(&M, "server1") || site.role(&M, "server1").as_deref() == Some("slave")
    });
    match blow {
        Blow::Killed => site.start_agent(server),
        Blow::Stopped => site.go_on(&pid),
        Blow::Restarted => site.wait_for_agent(server),
        Blow::Reloaded => assert_eq!(site.agent_pid(server), pid),
    }
    site.settles(&M, "server2");
}

fn chosen(site: &Site) -> bool {
    site.sentinel_log("server3")
        .contains("+failover-state-send-slaveof-noone")
}

fn promoted(site: &Site) -> bool {
    site.role(&M, "server2").as_deref() == Some("master")
}

fn at_once(_: &Site) -> bool {
    true
}

#[test]
fn the_old_masters_agent_may_be_killed_before_the_promotion() {
    struck("server1", Blow::Killed, at_once);
}

#[test]
fn the_old_masters_agent_may_be_killed_while_writes_are_paused() {
    struck("server1", Blow::Killed, chosen);
}

#[test]
fn the_old_masters_agent_may_be_stopped_while_writes_are_paused() {
    struck("server1", Blow::Stopped, chosen);
}

#[test]
fn the_new_masters_agent_may_be_killed_before_the_promotion() {
    struck("server2", Blow::Killed, chosen);
}

#[test]
fn the_new_masters_agent_may_be_stopped_when_its_redis_turns_master() {
    struck("server2", Blow::Stopped, promoted);
}

#[test]
fn the_new_masters_agent_may_be_killed_after_the_promotion() {
    struck("server2", Blow::Killed, promoted);
}

#[test]
fn the_old_masters_agent_may_be_restarted_while_writes_are_paused() {
    struck("server1", Blow::Restarted, chosen);
}

#[test]
fn the_old_masters_agent_may_be_restarted_after_the_promotion() {
    struck("server1", Blow::Restarted, promoted);
}

#[test]
fn the_old_masters_agent_may_be_reloaded_while_writes_are_paused() {
    struck("server1", Blow::Reloaded, chosen);
}

#[test]
fn the_old_masters_agent_may_be_reloaded_after_the_promotion() {
    struck("server1", Blow::Reloaded, promoted);
}

#[test]
fn the_new_masters_agent_may_be_restarted_while_writes_are_paused() {
    struck("server2", Blow::Restarted, chosen);
}

#[test]
fn the_new_masters_agent_may_be_restarted_after_the_promotion() {
    struck("server2", Blow::Restarted, promoted);
}

#[test]
fn the_new_masters_agent_may_be_reloaded_while_writes_are_paused() {
    struck("server2", Blow::Reloaded, chosen);
}

#[test]
fn the_new_masters_agent_may_be_reloaded_after_the_promotion() {
    struck("server2", Blow::Reloaded, promoted);
}

#[test]
fn an_agent_that_is_started_in_the_midst_of_a_failover_hands_over_before_a_majority_tells() {
    let site = Site::with_agents(&[M]);
    site.begin_fail_over(&M, "server3");
    eventually("the choice", || chosen(&site));
    let of_others = ["server1", "server2"].map(|server| site.sentinel_pid(server));
    site.signal(&site.agent_pid("server1"), "KILL");
    site.forget("server1-agent");
    // The leader alone tells of it.
    of_others.iter().for_each(|pid| site.signal(pid, "STOP"));
    site.launch_agent("server1");
    eventually("the new master alone has the VIP", || {
        site.holders(M.vip) == ["server2"]
    });
    of_others.iter().for_each(|pid| site.go_on(pid));
    site.settles(&M, "server2");
}

#[test]
fn an_agent_that_was_stopped_does_not_count_that_time_as_a_cut() {
    let site = Site::with_agents(&[M]);
    site.down_after(LONG);
    let watch = site.watch("server1");
    let first = |site: &Site| site.agent("server1").unwrap()["masters"][0].clone();
    let seconds = f64::from(LONG) / 1000.0;
    // No replica acknowledges any more, for long enough.
    let replicas = ["server2", "server3"].map(|server| site.listener(server, M.port));
    replicas.iter().for_each(|pid| site.signal(pid, "STOP"));
    eventually("the replicas are silent", || {
        let known = first(&site);
        let mut replicas = known["replicas"].as_array().unwrap().iter();
        replicas.all(|one| one["lag"].as_f64().is_some_and(|lag| lag > seconds + 2.0))
    });
    // Then the Sentinels are out of reach, but not for so long.
    site.isolate("server1");
    eventually("no other Sentinel answers", || {
        let known = first(&site);
        let mut others = known["votes"].as_array().unwrap().iter().skip(1);
        others.all(|vote| vote["says"].is_null())
    });
    let pid = site.agent_pid("server1");
    site.signal(&pid, "STOP");
    site.rejoin("server1");
    site.seconds_pass("server2", seconds + 1.0);
    // The replicas are silent still, as after a stop of the whole machine.
    site.signal(&pid, "CONT");
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    // Nor did it think so until the next answer.
    let log = site.log();
    let is_cut_off = |line: &&String| line.contains("cut off from its peers");
    assert_eq!(log.iter().find(is_cut_off), None, "{log:#?}");
    replicas.iter().for_each(|pid| site.go_on(pid));
    site.settles(&M, "server1");
}

#[test]
fn an_agent_that_ends_leaves_its_vips_and_finds_them() {
    let site = Site::with_agents(&[M]);
    let watch = site.watch("server1");
    site.end_agent("server1", "TERM");
    assert_eq!(site.holders(M.vip), ["server1"]);
    site.start_agent("server1");
    site.end_agent("server1", "KILL");
    site.start_agent("server1");
    site.settles(&M, "server1");
    assert!(watch.events(M.vip).is_empty());
}

#[test]
fn an_agent_that_is_told_so_releases_its_vips_when_it_ends() {
    let site = Site::with_agents_and(
        "[agent]\nrelease_on_stop = true\n[masters.master8000]\nvip = \"192.168.56.250/24\"\n",
    );
    site.end_agent("server1", "TERM");
    assert!(site.holders(M.vip).is_empty());
    site.start_agent("server1");
    site.settles(&M, "server1");
}

/// Another run holds its lock for longer than the agent waits for it.
#[test]
fn a_vip_that_leaves_the_configuration_and_cannot_be_released_is_tried_again() {
    let site = Site::with_agents(&[M]);
    let pid = site.agent_pid("server1");
    let reload = |masters: &str| {
        site.configure(masters);
        site.signal(&pid, "HUP");
    };
    reload("[masters.master8000]\nvip = [\"192.168.56.250/24\", \"192.168.56.252/24\"]\n");
    let other = "192.168.56.252";
    eventually("the second VIP is bound", || {
        site.holders(other) == ["server1"]
    });
    let holder = NameHolder::start(&site.host("server1"), "vip/192.168.56.252");
    reload("[masters.master8000]\nvip = \"192.168.56.250/24\"\n");
    site.lab().logged(&["by=agent", other, "holds the lock"]);
    assert_eq!(site.holders(other), ["server1"]);
    holder.release();
    eventually("the second VIP is released", || {
        site.holders(other).is_empty()
    });
    site.settles(&M, "server1");
}

#[test]
fn a_configuration_is_read_again_and_a_broken_one_changes_nothing() {
    let site = Site::with_agents(&[M]);
    let pids = ["server1", "server2", "server3"].map(|server| site.agent_pid(server));
    let reload = |masters: &str| {
        site.configure(masters);
        pids.iter().for_each(|pid| site.signal(pid, "HUP"));
    };
    let both = "[masters.master8000]\nvip = [\"192.168.56.250/24\", \"192.168.56.252/24\"]\n";
    reload(both);
    eventually("the second VIP is bound", || {
        site.holders("192.168.56.252") == ["server1"]
    });
    reload("[masters.master8000]\nvip = \n");
    let refused = || {
        let lines = site.log();
        lines
            .iter()
            .filter(|line| line.contains("the configuration stays as it was"))
            .count()
    };
    eventually("all refuse it", || refused() == 3);
    site.host("server1")
        .ip("addr del 192.168.56.252/32 dev eth1");
    eventually("the VIPs of before hold", || {
        site.holders("192.168.56.252") == ["server1"]
    });
    reload("[masters.master8000]\nvip = \"192.168.56.250/24\"\n");
    eventually("the second VIP is released", || {
        site.holders("192.168.56.252").is_empty()
    });
    assert_eq!(site.holders(MASTER_8001.vip), Vec::<&str>::new());
    site.settles(&M, "server1");
    for (server, pid) in ["server1", "server2", "server3"].iter().zip(&pids) {
        assert_eq!(&site.agent_pid(server), pid);
    }
}
