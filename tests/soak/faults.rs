//! What happens to the site, at random.

use std::thread;

use crate::common::redis::{MASTER_8000, SERVERS};
use crate::ground::Ground;
use crate::history::Judged;
use crate::kinds::Kind;
use crate::random::Random;
use crate::writer::Written;
use crate::{deaths, subscribers, verbs};

/// What is looked at once everything is in its place again: what must not be is returned.
pub type Afterwards = Box<dyn FnOnce(&mut Ground, &Judged, &Written) -> Vec<String>>;

/// What has happened.
#[derive(Default)]
pub struct Happened {
    /// What was done to whom.
    pub told: String,
    /// What must not have come of it.
    pub wrong: Vec<String>,
    /// Whether no acknowledged write may be lost, whatever others of this kind lose.
    pub loses_nothing: bool,
    /// What is to be looked at in the end.
    pub afterwards: Option<Afterwards>,
}

impl Happened {
    /// Returns what was done, of which nothing is wrong yet.
    pub fn told(told: String) -> Happened {
        Happened {
            told,
            ..Happened::default()
        }
    }

    /// Notes what must not be.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }
}

impl Kind {
    /// Does it, up to the moment from which everything may heal.
    pub fn happen(self, ground: &mut Ground, random: &mut Random) -> Happened {
        let master = ground.master();
        let mut happened = match self {
            Kind::Planned
            | Kind::AgentKilled
            | Kind::AgentStopped
            | Kind::AgentRestarted
            | Kind::Twice
            | Kind::NewCutOff
            | Kind::LeaderDies => Happened::told(self.planned(ground, random, master)),
            Kind::Killed | Kind::HostDead | Kind::Rebooted | Kind::Flap | Kind::CutOff => {
                Happened::told(self.dead(ground, random, master))
            }
            Kind::Sentinel
            | Kind::TwoSentinels
            | Kind::SentinelCut
            | Kind::Lies
            | Kind::Forged
            | Kind::Removed
            | Kind::Bound
            | Kind::ClientsCut => {
                let (told, stays) = self.odd(ground, random, master);
                let holders = ground.look().holders();
                let mut happened = Happened::told(told);
                if stays && holders != [master] {
                    happened.wrong(format!("the VIP did not stay: {holders:?}"));
                }
                happened
            }
            Kind::Dies => deaths::dies(ground, random, master),
            Kind::DiesTwice => deaths::dies_twice(ground, random, master),
            Kind::Command => deaths::command(ground, random, master),
            Kind::Verb => verbs::one(ground, random, master),
            Kind::VerbTwice => verbs::two(ground, random),
            Kind::VerbDies => verbs::one_and_a_death(ground, random, master),
            Kind::Leaves => verbs::leaves(ground, random, master),
            Kind::Subscribers => subscribers::lose_their_host(ground, random, master),
        };
        happened.told = format!("master on server{}{}", master + 1, happened.told);
        happened.loses_nothing |= self.loses_nothing();
        happened
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

/// Waits. A random moment is what the scenario is about.
pub fn pause(random: &mut Random, from: usize, to: usize) {
    thread::sleep(random.time(from, to));
}

/// Returns another server than this.
pub fn any_but(random: &mut Random, server: usize) -> usize {
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

/// Takes a server's cable out and ends all of its processes.
pub fn die(ground: &mut Ground, server: usize) {
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
