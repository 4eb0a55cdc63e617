//! The site on which all scenarios happen, and what is seen of it.

mod faults;
mod settings;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::now;
use crate::common::redis::{MASTER_8000, SENTINEL_PORT, SERVERS, SOON_DOWN, Site};
use crate::common::{eventually, executable, wait_for};
use crate::eye::{Eye, Seen};
use crate::history::{Change, History, State};
use crate::writer::Writer;

/// How long a state may take to come that every scenario ends in.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a leader tries, in milliseconds. Sentinel begins no failover within twice that after another one.
const FAILOVER_TIMEOUT: &str = "2000";

const REDIS: &str = "8000";

/// The longest pause of writes, whatever `down-after-milliseconds` is.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The servers, and what is seen of them.
pub struct Ground {
    eyes: Vec<Eye>,
    /// The client.
    pub writer: Writer,
    /// What has happened in this scenario.
    pub history: History,
    /// When the VIP left and came to each server last.
    pub left: [Duration; 3],
    pub came: [Duration; 3],
    /// How often a Redis was taken for down before this scenario.
    pub downs_before: usize,
    /// How long a master may be silent now, in milliseconds.
    down_after: u32,
    /// Whether a Redis has other settings than at first.
    is_changed: bool,
    /// Redis, Sentinels and agents.
    pub site: Site,
}

impl Ground {
    /// Starts everything.
    pub fn start() -> Ground {
        let site = Site::of_equals(MASTER_8000);
        site.count_as_down_after(&MASTER_8000, SOON_DOWN);
        let mut ground = Ground {
            eyes: SERVERS.iter().map(|one| Eye::start(&site, one)).collect(),
            writer: Writer::start(&site),
            history: History::default(),
            left: Default::default(),
            came: Default::default(),
            downs_before: 0,
            down_after: SOON_DOWN,
            is_changed: false,
            site,
        };
        ground.set("failover-timeout", FAILOVER_TIMEOUT);
        for server in 0..3 {
            ground.able(server, true);
        }
        ground.until("all is in its place", State::is_settled);
        ground
    }

    /// Sets an option of all Sentinels.
    fn set(&self, option: &str, value: &str) {
        let words = ["sentinel", "set", MASTER_8000.name, option, value];
        for server in SERVERS {
            eventually("a Sentinel takes an option", || {
                self.site.ask(server, SENTINEL_PORT, &words) == Some("OK".into())
            });
        }
    }

    /// Has the Sentinels call the hook, or not.
    pub fn call_the_hook(&self, wanted: bool) {
        let hook = match wanted {
            true => executable(),
            false => Path::new("/bin/true").to_owned(),
        };
        self.set("client-reconfig-script", hook.to_str().unwrap());
    }

    /// Takes in what the eyes have seen.
    pub fn look(&mut self) -> &State {
        for (server, eye) in self.eyes.iter().enumerate() {
            for (at, seen) in eye.news() {
                match seen {
                    Seen::Vip(true) => self.came[server] = at,
                    Seen::Vip(false) => self.left[server] = at,
                    _ => {}
                }
                self.history.take(at, server, Change::Saw(seen));
            }
        }
        &self.history.state
    }

    /// Waits until the state is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, so: impl Fn(&State) -> bool) {
        let came = wait_for(PATIENCE, || {
            thread::sleep(Duration::from_millis(10)); // poll
            so(self.look()).then_some(())
        });
        assert!(
            came.is_some(),
            "not within {PATIENCE:?}: {what}\n{}\n{:#?}",
            self.history.told(),
            self.agents()
        );
    }

    /// Waits until that is so, for so long at most. Returns whether it came.
    pub fn comes_within(&mut self, time: Duration, so: impl Fn(&mut Ground) -> bool) -> bool {
        let until = Instant::now() + time;
        loop {
            if so(self) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(10)); // poll
        }
    }

    /// Returns how often the Sentinels have agreed that a Redis is down.
    pub fn downs(&self) -> usize {
        let logs = SERVERS.map(|server| self.site.sentinel_log(server));
        logs.iter().map(|log| log.matches("+odown").count()).sum()
    }

    /// Returns whether no Redis was taken for down in this scenario.
    pub fn is_undisturbed(&self) -> bool {
        self.downs() == self.downs_before
    }

    /// Returns how many lines of the log contain this, of those after so many.
    pub fn logged_since(&self, logged: usize, part: &str) -> usize {
        let lines = self.site.log().into_iter().skip(logged);
        lines.filter(|line| line.contains(part)).count()
    }

    /// Returns how long a pause of writes may be.
    pub fn longest_pause(&self) -> Duration {
        let half = Duration::from_millis(u64::from(self.down_after) / 2);
        half.min(LONGEST_PAUSE)
    }

    /// Returns the run ids of all Redis that answer, as the writers note them.
    pub fn run_ids(&self) -> Vec<Option<String>> {
        let of = |server: &&str| self.site.run_id(&MASTER_8000, server);
        SERVERS.iter().map(of).collect()
    }

    /// Returns what every agent knows of the last failover.
    pub fn agents(&self) -> Vec<serde_json::Value> {
        let known = SERVERS.iter().map(|server| self.site.agent(server));
        known.map(Option::unwrap_or_default).collect()
    }

    /// Waits until everything is as good as new: what Sentinel needs for the next failover, and the agents, which lose
    /// nothing in a planned one as long as they hear of it.
    #[track_caller]
    pub fn until_well(&mut self) {
        // A failover that began late may still move it.
        eventually("every Sentinel knows all, and all are well", || {
            let master = self.look().decided();
            master.is_some_and(|master| self.site.all_are_well(&MASTER_8000, SERVERS[master]))
        });
        let hears_all = |agent: &serde_json::Value| {
            let sentinels = agent["sentinels"].as_array();
            sentinels
                .is_some_and(|all| all.len() == 3 && all.iter().all(|one| one["events"] == true))
        };
        eventually("every agent hears every Sentinel", || {
            self.agents().iter().all(hears_all)
        });
    }

    /// Returns the master's server.
    #[track_caller]
    pub fn master(&mut self) -> usize {
        self.until("there is a master", |state| state.decided().is_some());
        self.history.state.decided().unwrap()
    }

    /// Waits until another server than this is the master's.
    #[track_caller]
    pub fn until_moved_from(&mut self, server: usize) {
        self.until("another is the master", |state| {
            state.decided().is_some_and(|winner| winner != server)
        });
    }

    /// Waits until another Redis than this server's says that it is the master, and returns its server.
    #[track_caller]
    pub fn until_promoted_beside(&mut self, server: usize) -> usize {
        let promoted = |state: &State| {
            let is = |other: &usize| *other != server && state.role[*other] == "master";
            (0..3).find(is)
        };
        self.until("a replica is promoted", |state| promoted(state).is_some());
        promoted(&self.history.state).unwrap()
    }

    /// Notes whether a server's agent can act and be reached.
    pub fn able(&mut self, server: usize, able: bool) {
        self.history.take(now(), server, Change::Able(able));
    }
}
