//! The site on which all scenarios happen, and what can be done to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::child::now;
use crate::common::redis::deaths::{KEYS, Keeps};
use crate::common::redis::{
    CLIENT, MASTER_8000, QUICK, SENTINEL_PORT, SERVERS, SOON_DOWN, Site, address,
};
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

/// Sends a command that kills its master, without end.
const KILLING: &str = r#"
until [ -e "$1" ]; do
    timeout 1 redis-cli -h "$0" -p 8000 shutdown nosave now force
    sleep 0.005
done
"#;

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

    // --- another site for a while -----------------------------------------------------------

    /// Begins a scenario.
    pub fn begin(&mut self) {
        self.downs_before = self.downs();
    }

    /// Has a master be silent for so long until its Sentinels take it for down, until the scenario ends.
    pub fn count_as_down_after(&mut self, milliseconds: u32) {
        self.set("down-after-milliseconds", &milliseconds.to_string());
        self.down_after = milliseconds;
    }

    /// Writes keys that all have, and has a server's Redis keep them so. Until the scenario ends it sends its data 5 s
    /// after a replica has asked for that, as Redis does by default.
    pub fn keep(&mut self, server: usize, keeps: Keeps) {
        self.is_changed = true;
        let server = SERVERS[server];
        let ask = |words: &[&str]| self.site.ask(server, MASTER_8000.port, words).unwrap();
        let script = "for i=0,ARGV[1]-1 do redis.call('del','wbase'..i) end";
        ask(&["eval", script, "0", &KEYS.to_string()]);
        // What an earlier scenario has left.
        ask(&["config", "set", "appendonly", "no"]);
        let folder = self.site.dir().join(format!("{server}-{REDIS}"));
        let _ = fs::remove_dir_all(folder.join("appendonlydir"));
        let _ = fs::remove_file(folder.join("dump.rdb"));
        self.site.send_late(&MASTER_8000, server);
        self.site.fill(&MASTER_8000, server, keeps);
    }

    /// Has all agents forget when the last failover was, so that the next is asked for.
    pub fn forget_failovers(&mut self) {
        self.site.forget_failovers();
        self.until_well();
    }

    /// Puts the settings back that a scenario has changed.
    pub fn restore(&mut self) {
        if std::mem::replace(&mut self.down_after, SOON_DOWN) != SOON_DOWN {
            self.set("down-after-milliseconds", &SOON_DOWN.to_string());
        }
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        for server in SERVERS {
            for words in [
                &["config", "set", "appendonly", "no"][..],
                &["config", "set", "repl-diskless-sync-delay", "0"],
                &["config", "rewrite"],
            ] {
                eventually("a Redis takes an option", || {
                    self.site.ask(server, MASTER_8000.port, words) == Some("OK".into())
                });
            }
        }
    }

    /// Starts a client that sends, again and again, a command that kills its master, until what is returned is dropped.
    pub fn killing_client(&self) -> impl Drop + use<> {
        let stop = self.site.lab().unique("stop");
        let mut client = self.site.host(CLIENT).command("sh");
        client.args(["-c", KILLING, MASTER_8000.vip]).arg(&stop);
        client.stdout(Stdio::null()).stderr(Stdio::null());
        KillingClient {
            process: client.spawn().unwrap(),
            stop,
        }
    }

    // --- faults ----------------------------------------------------------------------------

    /// Ends a server's Redis, Sentinel or agent by a signal.
    pub fn end(&self, server: usize, service: &str, signal: &str) {
        self.site.end_service(SERVERS[server], service, signal);
    }

    /// Ends a server's Redis at once.
    pub fn kill_redis(&self, server: usize) {
        self.end(server, REDIS, "KILL");
    }

    /// Ends everything on a server at once.
    pub fn kill_all(&self, server: usize) {
        for service in ["agent", "sentinel", REDIS] {
            self.end(server, service, "KILL");
        }
    }

    /// Draws a server's cable out, or puts it in.
    pub fn link(&self, server: usize, state: &str) {
        let port = format!("{}-eth1", SERVERS[server]);
        self.site.lab().run("ip", ["link", "set", &port, state]);
    }

    /// Adds or removes the VIP by hand.
    pub fn vip(&self, server: usize, what: &str, length: u8) {
        let words = format!("addr {what} {}/{length} dev eth1", MASTER_8000.vip);
        let mut ip = self.site.host(SERVERS[server]).command("ip");
        ip.args(words.split(' '));
        // It may have come or gone already.
        crate::common::finish(ip);
    }

    /// Cuts a server off from the other servers, not from the clients.
    pub fn cut_off(&self, server: usize) {
        let peers = "192.168.56.101-192.168.56.103";
        self.drop_all(
            server,
            &[
                &format!("in ip saddr {peers}"),
                &format!("out ip daddr {peers}"),
            ],
        );
    }

    /// Lets nothing pass between a server and the clients.
    pub fn cut_clients(&self, server: usize) {
        self.drop_all(
            server,
            &["in ip saddr 192.168.56.104", "out ip daddr 192.168.56.104"],
        );
    }

    /// Lets nobody elsewhere reach the Sentinel of a server, and nobody there a Sentinel elsewhere.
    pub fn cut_sentinel(&self, server: usize) {
        let port = SENTINEL_PORT;
        self.drop_all(
            server,
            &[
                &format!("in tcp dport {port}"),
                &format!("out tcp dport {port}"),
            ],
        );
    }

    /// Drops what these rules are about, unless it stays on the server. Nobody is told so.
    fn drop_all(&self, server: usize, rules: &[&str]) {
        let mut all = String::from(
            "add table inet soak
            add chain inet soak in { type filter hook input priority 0; }
            add chain inet soak out { type filter hook output priority 0; }
            add rule inet soak in iif lo accept
            add rule inet soak out oif lo accept
            ",
        );
        for rule in rules {
            all += &format!("add rule inet soak {rule} drop\n");
        }
        self.site.host(SERVERS[server]).run("nft", [all]);
    }

    /// Makes a Sentinel name this server, whatever it knew.
    pub fn lie(&self, sentinel: usize, server: usize) {
        let sentinel = SERVERS[sentinel];
        self.site
            .monitor_anew(sentinel, &MASTER_8000, SERVERS[server]);
        // What it knew of the master went with it.
        self.set("down-after-milliseconds", &SOON_DOWN.to_string());
        self.set("failover-timeout", FAILOVER_TIMEOUT);
    }

    /// Publishes the hello of a Sentinel that does not exist on a server's Redis, and waits until every Sentinel
    /// lists it.
    pub fn forge(&mut self, server: usize) {
        let master = MASTER_8000.name;
        let named = self.master();
        let phantom = "192.168.56.199";
        let hello = format!(
            "{phantom},{SENTINEL_PORT},{},0,{master},{},{},0",
            "f".repeat(40),
            address(SERVERS[named]),
            MASTER_8000.port
        );
        let publish = ["publish", "__sentinel__:hello", &hello];
        let lists = |site: &Site, sentinel: &str| {
            let all = site.ask(sentinel, SENTINEL_PORT, &["sentinel", "sentinels", master]);
            all.is_some_and(|all| all.to_string().contains(phantom))
        };
        eventually("every Sentinel lists the forged one", || {
            let asked = self.site.ask(SERVERS[server], MASTER_8000.port, &publish);
            asked.is_some() && SERVERS.iter().all(|one| lists(&self.site, one))
        });
    }

    /// Makes all Sentinels forget those that do not exist.
    pub fn forget_forged(&mut self) {
        for sentinel in SERVERS {
            let words = ["sentinel", "reset", MASTER_8000.name];
            assert!(self.site.ask(sentinel, SENTINEL_PORT, &words).is_some());
        }
    }

    /// Mends everything, in this order of the servers.
    pub fn heal(&mut self, order: &[usize]) {
        self.site.thaw();
        for &server in order {
            let name = SERVERS[server];
            self.link(server, "up");
            let mut nft = self.site.host(name).command("nft");
            nft.args(["delete", "table", "inet", "soak"]);
            crate::common::finish(nft);
            for service in [REDIS, "sentinel", "agent"] {
                self.site.signal_service_if_alive(name, service, "CONT");
                self.site.launch_service(name, service);
            }
            if !self.history.state.able[server] {
                self.able(server, true);
            }
            eventually("the Sentinel is quick", || {
                let words = [&["sentinel", "debug"], &QUICK[..]].concat();
                self.site.ask(name, SENTINEL_PORT, &words) == Some("OK".into())
            });
        }
    }
}

struct KillingClient {
    process: std::process::Child,
    stop: PathBuf,
}

impl Drop for KillingClient {
    fn drop(&mut self) {
        let _ = fs::write(&self.stop, "");
        let _ = self.process.wait();
    }
}
