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
    /// The new master is cut off from its peers after a planned failover.
    NewCutOff,
    /// The leader dies between the promotion and its word of it.
    LeaderDies,
    /// All hosts lose their power, and boot in any order.
    Rebooted,
    /// The clients cannot reach the master.
    ClientsCut,
    /// A Sentinel's port cannot be reached, and it reaches no other's.
    SentinelCut,
    /// A Sentinel names a replica.
    Lies,
    /// Somebody publishes the hello of a Sentinel that does not exist.
    Forged,
}

/// All of them.
pub const KINDS: [Kind; 20] = [
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
    Kind::NewCutOff,
    Kind::LeaderDies,
    Kind::Rebooted,
    Kind::ClientsCut,
    Kind::SentinelCut,
    Kind::Lies,
    Kind::Forged,
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
            Kind::NewCutOff => "planned, the new master cut off",
            Kind::LeaderDies => "planned, the leader killed",
            Kind::Rebooted => "all hosts rebooted",
            Kind::ClientsCut => "clients cut off from the master",
            Kind::SentinelCut => "a Sentinel cut off",
            Kind::Lies => "a Sentinel lies",
            Kind::Forged => "a forged hello",
        }
    }

    /// Whether no acknowledged write may be lost, as long as no Redis is taken for down.
    pub fn loses_nothing(self) -> bool {
        match self {
            Kind::Planned
            | Kind::Sentinel
            | Kind::TwoSentinels
            | Kind::Removed
            | Kind::Bound
            | Kind::ClientsCut
            | Kind::SentinelCut
            | Kind::Lies
            | Kind::Forged => true,
            Kind::Killed
            | Kind::HostDead
            | Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::AgentRestarted
            | Kind::Flap
            | Kind::CutOff
            | Kind::Twice
            | Kind::NewCutOff
            | Kind::LeaderDies
            | Kind::Rebooted => false,
        }
    }

    /// Does it, up to the moment from which everything may heal. Returns what was done to whom, and what must not
    /// have come of it.
    pub fn happen(self, ground: &mut Ground, random: &mut Random) -> (String, Option<String>) {
        let master = ground.master();
        let told = format!("master on server{}", master + 1);
        let (more, stays) = match self {
            Kind::Planned
            | Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::AgentRestarted
            | Kind::Twice
            | Kind::NewCutOff
            | Kind::LeaderDies => (self.planned(ground, random, master), false),
            Kind::Killed | Kind::HostDead | Kind::Rebooted | Kind::Flap | Kind::CutOff => {
                (self.dead(ground, random, master), false)
            }
            Kind::Sentinel
            | Kind::TwoSentinels
            | Kind::SentinelCut
            | Kind::Lies
            | Kind::Forged
            | Kind::Removed
            | Kind::Bound
            | Kind::ClientsCut => self.odd(ground, random, master),
        };
        let holders = ground.look().holders();
        let wrong = stays && holders != [master];
        let wrong = wrong.then(|| format!("the VIP did not stay: {holders:?}"));
        (told + &more, wrong)
    }

    /// Somebody asks for a failover, and more happens in its midst.
    fn planned(self, ground: &mut Ground, random: &mut Random, master: usize) -> String {
        let any = random.below(3);
        match self {
            Kind::Twice => {
                begin(ground, random.below(3));
                pause(random, 0, 1500);
                let second = ground.look().role.iter().rposition(|role| role == "master");
                let second = second.unwrap_or(master);
                ground.kill_redis(second);
                ground.until_moved_from(second);
                format!(", server{} killed", second + 1)
            }
            Kind::NewCutOff => {
                // Its leader is not the one that is cut off: the others would decide in the same epoch, which is
                // Sentinel's own fault.
                begin(ground, master);
                let second = ground.until_promoted_beside(master);
                pause(random, 0, 1500);
                ground.able(second, false);
                ground.cut_off(second);
                ground.until_moved_from(second);
                format!(", server{} cut off", second + 1)
            }
            Kind::LeaderDies => {
                begin(ground, any);
                ground.until_promoted_beside(master);
                ground.end(any, "sentinel", "KILL");
                pause(random, 0, 3000);
                format!(", leader on server{}", any + 1)
            }
            Kind::AgentKilled | Kind::AgentStopped | Kind::AgentRestarted => {
                begin(ground, any_but(random, any));
                pause(random, 0, 1500);
                self.disturb(ground, any);
                pause(random, 0, 2000);
                format!(", agent of server{}", any + 1)
            }
            _ => {
                fail_over(ground, random, master);
                String::new()
            }
        }
    }

    /// Something of the master dies, or cannot be reached.
    fn dead(self, ground: &mut Ground, random: &mut Random, master: usize) -> String {
        match self {
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
            Kind::Rebooted => {
                for server in 0..3 {
                    die(ground, server);
                    ground.vip(server, "del", 32);
                }
            }
            Kind::CutOff => {
                ground.able(master, false);
                ground.cut_off(master);
                ground.until_moved_from(master);
                pause(random, 0, 2000);
            }
            _ => {
                let any = random.below(3);
                ground.able(any, false);
                ground.link(any, "down");
                pause(random, 100, 4000);
                return format!(", cable of server{}", any + 1);
            }
        }
        String::new()
    }

    /// What moves no VIP, or none for long. Returns whether the VIP must be where it was.
    fn odd(self, ground: &mut Ground, random: &mut Random, master: usize) -> (String, bool) {
        let any = random.below(3);
        let mut told = format!(", Sentinel of server{}", any + 1);
        match self {
            Kind::Sentinel => {
                stop_sentinel(ground, random, any);
                let planned = random.one_in(2);
                if planned {
                    told += ", planned failover";
                    begin(ground, any_but(random, any));
                }
                pause(random, 500, 3000);
                return (told, false);
            }
            Kind::TwoSentinels => {
                told = format!(", all but that of server{}", any + 1);
                for server in (0..3).filter(|server| *server != any) {
                    stop_sentinel(ground, random, server);
                }
            }
            Kind::SentinelCut => ground.cut_sentinel(any),
            Kind::ClientsCut => {
                told.clear();
                ground.cut_clients(master);
            }
            Kind::Lies => {
                let lie = any_but(random, master);
                told += &format!(", names server{}", lie + 1);
                ground.lie(any, lie);
            }
            Kind::Forged => ground.forge(random.below(3)),
            Kind::Removed => {
                ground.vip(master, "del", 32);
                pause(random, 500, 1000);
                return (String::new(), false);
            }
            _ => {
                let wrong_host = any_but(random, master);
                ground.vip(wrong_host, "add", random.any(&[24, 32]));
                pause(random, 500, 1000);
                return (format!(", bound on server{}", wrong_host + 1), false);
            }
        }
        // Longer than `down-after`, which is how long silence has to last until it counts.
        pause(random, 2500, 4000);
        match self {
            Kind::Forged => ground.forget_forged(),
            // Where all are in their first epoch nobody sets it right.
            Kind::Lies => ground.lie(any, master),
            _ => {}
        }
        (told, true)
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
