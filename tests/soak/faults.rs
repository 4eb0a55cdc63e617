//! What happens to the site, at random.

use std::thread;

use crate::common::redis::{MASTER_8000, SERVERS};
use crate::ground::Ground;
use crate::random::Random;

/// A kind of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Planned failover.
    Planned,
    /// The master's Redis is killed.
    Killed,
    /// The master's host dies and comes back.
    HostDead,
    /// An agent is killed in a planned failover, and started again later.
    AgentKilled,
    /// An agent hangs in a planned failover.
    AgentStopped,
    /// An agent is restarted in a planned failover.
    AgentRestarted,
    /// One Sentinel dies or hangs, perhaps with a planned failover.
    Sentinel,
    /// Two Sentinels die or hang.
    TwoSentinels,
    /// The VIP is removed by hand.
    Removed,
    /// The VIP is bound on another host by hand.
    Bound,
    /// A cable is out for a while.
    Flap,
    /// The master is cut off from its peers.
    CutOff,
    /// The new master is killed in a planned failover.
    Twice,
}

/// All of them.
pub const KINDS: [Kind; 13] = [
    Kind::Planned,
    Kind::Killed,
    Kind::HostDead,
    Kind::AgentKilled,
    Kind::AgentStopped,
    Kind::AgentRestarted,
    Kind::Sentinel,
    Kind::TwoSentinels,
    Kind::Removed,
    Kind::Bound,
    Kind::Flap,
    Kind::CutOff,
    Kind::Twice,
];

impl Kind {
    /// Returns its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Planned => "planned failover",
            Kind::Killed => "Redis killed",
            Kind::HostDead => "host dead",
            Kind::AgentKilled => "planned, an agent killed",
            Kind::AgentStopped => "planned, an agent stopped",
            Kind::AgentRestarted => "planned, an agent restarted",
            Kind::Sentinel => "a Sentinel killed or stopped",
            Kind::TwoSentinels => "two Sentinels killed or stopped",
            Kind::Removed => "VIP removed by hand",
            Kind::Bound => "VIP bound on a wrong host",
            Kind::Flap => "link flap",
            Kind::CutOff => "master cut off from its peers",
            Kind::Twice => "planned, the new master killed",
        }
    }

    /// Whether no acknowledged write may be lost, as long as no Redis is taken for down.
    pub fn loses_nothing(self) -> bool {
        match self {
            Kind::Planned | Kind::Sentinel | Kind::TwoSentinels | Kind::Removed | Kind::Bound => {
                true
            }
            Kind::Killed
            | Kind::HostDead
            | Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::AgentRestarted
            | Kind::Flap
            | Kind::CutOff
            | Kind::Twice => false,
        }
    }

    /// Does it, up to the moment from which everything may heal. Returns what was done to whom, and what must not
    /// have come of it.
    pub fn happen(self, ground: &mut Ground, random: &mut Random) -> (String, Option<String>) {
        let master = ground.master();
        let any = random.below(3);
        let mut told = format!("master on server{}", master + 1);
        let mut wrong = None;
        match self {
            Kind::Planned => fail_over(ground, random, master),
            Kind::Killed => {
                ground.kill_redis(master);
                ground.until_moved_from(master);
                pause(random, 0, 2000);
            }
            Kind::HostDead => {
                die(ground, master);
                ground.until_moved_from(master);
                pause(random, 0, 2000);
                // An address does not outlive its host.
                ground.vip(master, "del", 32);
            }
            Kind::AgentKilled | Kind::AgentStopped | Kind::AgentRestarted => {
                told += &format!(", agent of server{}", any + 1);
                begin(ground, any_but(random, any));
                pause(random, 0, 1500);
                self.disturb(ground, any);
                pause(random, 0, 2000);
            }
            Kind::Sentinel => {
                told += &format!(", Sentinel of server{}", any + 1);
                stop_sentinel(ground, random, any);
                if random.one_in(2) {
                    told += ", planned failover";
                    begin(ground, any_but(random, any));
                }
                pause(random, 500, 3000);
            }
            Kind::TwoSentinels => {
                for server in (0..3).filter(|server| *server != any) {
                    stop_sentinel(ground, random, server);
                }
                pause(random, 2500, 4000);
                let holders = ground.look().holders();
                if holders != [master] {
                    wrong = Some(format!("the VIP did not stay: {holders:?}"));
                }
            }
            Kind::Removed => {
                ground.vip(master, "del", 32);
                pause(random, 500, 1000);
            }
            Kind::Bound => {
                let wrong_host = any_but(random, master);
                told += &format!(", bound on server{}", wrong_host + 1);
                ground.vip(wrong_host, "add", random.any(&[24, 32]));
                pause(random, 500, 1000);
            }
            Kind::Flap => {
                told += &format!(", cable of server{}", any + 1);
                ground.able(any, false);
                ground.link(any, "down");
                pause(random, 100, 4000);
            }
            Kind::CutOff => {
                ground.able(master, false);
                ground.cut_off(master);
                ground.until_moved_from(master);
                pause(random, 0, 2000);
            }
            Kind::Twice => {
                begin(ground, random.below(3));
                pause(random, 0, 1500);
                let second = ground.look().role.iter().rposition(|role| role == "master");
                let second = second.unwrap_or(master);
                told += &format!(", server{} killed", second + 1);
                ground.kill_redis(second);
                ground.until_moved_from(second);
            }
        }
        (told, wrong)
    }

    fn disturb(self, ground: &mut Ground, server: usize) {
        ground.able(server, false);
        match self {
            Kind::AgentKilled => ground.end(server, "agent", "KILL"),
            Kind::AgentStopped => ground.site.signal_service(SERVERS[server], "agent", "STOP"),
            _ => {
                ground.end(server, "agent", "TERM");
                ground.site.launch_service(SERVERS[server], "agent");
                ground.able(server, true);
            }
        }
    }
}

/// A random moment is what the scenario is about.
fn pause(random: &mut Random, from: usize, to: usize) {
    thread::sleep(random.time(from, to));
}

fn any_but(random: &mut Random, server: usize) -> usize {
    (server + 1 + random.below(2)) % 3
}

fn begin(ground: &Ground, asking: usize) {
    ground.site.begin_fail_over(&MASTER_8000, SERVERS[asking]);
}

fn fail_over(ground: &mut Ground, random: &mut Random, master: usize) {
    let asking = SERVERS[random.below(3)];
    let site = &ground.site;
    site.fail_over_from(&MASTER_8000, asking, SERVERS[master]);
    ground.until_moved_from(master);
}

fn die(ground: &mut Ground, server: usize) {
    ground.able(server, false);
    ground.link(server, "down");
    ground.kill_all(server);
}

fn stop_sentinel(ground: &Ground, random: &mut Random, server: usize) {
    match random.one_in(2) {
        true => ground.end(server, "sentinel", "KILL"),
        false => ground
            .site
            .signal_service(SERVERS[server], "sentinel", "STOP"),
    }
}
