//! The guide's servers in a lab: real Redis and real Sentinels, which call the executable under
//! test, and a client that writes through the VIP. redis-cli commands and looks.

pub mod agents;
pub mod crowd;
pub mod deaths;
pub mod services;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Host, Lab, PATIENCE, eventually, executable, finish, is_late, wait_for};

/// The hosts that may run Redis, in the order of their addresses.
pub const SERVERS: [&str; 3] = ["server1", "server2", "server3"];

/// The host that writes through the VIPs.
pub const CLIENT: &str = "client";
/// The port of every Sentinel.
pub const SENTINEL_PORT: u16 = 6800;

/// Replicas are promoted on server2, else on server1: Sentinel never promotes priority 0.
const PRIORITIES: [&str; 3] = ["100", "100", "0"];

/// Replicas are promoted on server2, from there on server3: the lowest priority wins.
const CHAIN: [&str; 3] = ["100", "1", "2"];

/// Any replica may be promoted.
const EQUAL: [&str; 3] = ["100", "100", "100"];

/// So long that no stall of the machine looks like a death. [`Site::kill`] shortens it.
const NEVER_DOWN: u32 = 60_000;
/// With 1,000 and less Sentinel takes the fresh master for down now and then, too.
pub const SOON_DOWN: u32 = 2_000;

/// When a VIP that is in its place must be of use, at the latest. Without an announcement the
/// client's neighbour entry would need 38 s to follow.
const USABLE: Duration = Duration::from_secs(30);

/// Sentinel's own knobs: what it does every few seconds it does at once, and a stall of the
/// machine does not keep it from acting for 30 s.
pub const QUICK: [&str; 6] = [
    "info-period",
    "500",
    "publish-period",
    "300",
    "tilt-period",
    "1000",
];

/// A master that Sentinel monitors, and its VIP.
#[derive(Clone, Copy)]
pub struct Master {
    /// Its master-name.
    pub name: &'static str,
    /// Its port, on every server.
    pub port: u16,
    /// Its VIP, without the prefix length.
    pub vip: &'static str,
    /// `VIP/PREFIX@INTERFACE`, as [`Host::has`] takes it.
    pub bound: &'static str,
}

impl Master {
    /// Returns so many masters with ports, names and VIPs one after another.
    pub fn numbered(many: u16) -> Vec<Master> {
        let one = |number: u16| {
            let vip: &'static str = format!("192.168.56.{}", 120 + number).leak();
            Master {
                name: format!("master{}", 8000 + number).leak(),
                port: 8000 + number,
                vip,
                bound: format!("{vip}/32@eth1").leak(),
            }
        };
        (0..many).map(one).collect()
    }
}

/// The guide's one.
pub const MASTER_8000: Master = Master {
    name: "master8000",
    port: 8000,
    vip: "192.168.56.250",
    bound: "192.168.56.250/32@eth1",
};

/// Another one on the same servers.
pub const MASTER_8001: Master = Master {
    name: "master8001",
    port: 8001,
    vip: "192.168.56.251",
    bound: "192.168.56.251/32@eth1",
};

/// Returns a server's own address.
pub fn address(server: &str) -> String {
    format!("192.168.56.{}", 101 + place(server))
}

fn place(server: &str) -> usize {
    SERVERS.iter().position(|&one| one == server).unwrap()
}

/// Three servers, all with a Sentinel, and a client. The first master is on server1, with its VIP.
pub struct Site {
    // First, so that all processes are dead when the next field waits for them.
    lab: Lab,
    processes: RefCell<HashMap<String, Process>>,
    masters: Vec<Master>,
    with_redis: &'static [&'static str],
    priorities: [&'static str; 3],
    hook: PathBuf,
    more_conf: [String; 2],
    known_as: [String; 3],
    writes: Cell<u32>,
}

impl Site {
    /// Starts all of it with Redis on every server, and waits until each Sentinel knows all.
    pub fn new(masters: &[Master]) -> Site {
        Site::with_redis_on(&SERVERS, masters)
    }

    /// Starts all of it with Redis on these servers only.
    pub fn with_redis_on(servers: &'static [&'static str], masters: &[Master]) -> Site {
        let site = Site::in_lab(
            Lab::with_hosts(["server1", "server2", "server3", CLIENT]),
            servers,
            masters,
        );
        site.configure_vips();
        site.start();
        site
    }

    /// Starts all of it; the failover from server1 goes to server2, the next one to server3.
    pub fn in_chain(master: Master) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let mut site = Site::in_lab(lab, &SERVERS, &[master]);
        site.priorities = CHAIN;
        site.configure_vips();
        site.start();
        site
    }

    /// Returns a site in which nothing runs yet and which has no configuration.
    pub fn in_lab(lab: Lab, with_redis: &'static [&'static str], masters: &[Master]) -> Site {
        Site {
            lab,
            processes: RefCell::default(),
            masters: masters.to_vec(),
            with_redis,
            priorities: PRIORITIES,
            hook: executable(),
            more_conf: Default::default(),
            known_as: SERVERS.map(address),
            writes: Cell::new(0),
        }
    }

    /// Writes the configuration with each master's VIP and nothing else that is not needed.
    pub fn configure_vips(&self) {
        let section = |one: &Master| format!("[masters.{}]\nvip = \"{}/24\"\n", one.name, one.vip);
        self.configure(&self.masters.iter().map(section).collect::<String>());
    }

    /// Writes the configuration that the vipswitch of every server reads from now on.
    pub fn configure(&self, masters: &str) {
        let sentinel = format!("[sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\n");
        self.lab.config(&format!("{masters}{sentinel}"));
    }

    /// Starts Redis and Sentinels, binds the VIPs on server1 and waits until all is well.
    pub fn start(&self) {
        for program in ["redis-server", "redis-sentinel", "redis-cli"] {
            let mut version = self.lab.command(program);
            version.arg("--version");
            let version = finish(version);
            assert!(
                version.status.success(),
                "these tests need {program}: {version}"
            );
        }
        for master in &self.masters {
            for &server in self.with_redis {
                self.write_redis_conf(master, server);
                self.launch_redis(master, server);
            }
        }
        for master in &self.masters {
            self.wait_for_replicas(master, "server1");
            self.host("server1").ok(&format!("bind {}", master.name));
        }
        for server in SERVERS {
            self.write_sentinel_conf(server);
            self.launch(server, "redis-sentinel", "sentinel");
        }
        for server in SERVERS {
            self.wait_for_ping(server, SENTINEL_PORT);
            self.tune(server, &QUICK);
        }
        for master in &self.masters {
            self.wait_until_well(master, "server1");
            // From now on the client has a neighbour entry for the VIP.
            self.check_in_use(master, "server1");
        }
    }

    /// Returns a host, to act and look there.
    pub fn host(&self, name: &str) -> Host<'_> {
        self.lab.host(name)
    }

    /// Returns the lab that they are in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns the lab's folder, in which each process has one of its own.
    pub fn dir(&self) -> &Path {
        self.lab.dir()
    }

    /// Makes the Sentinels that are not started yet call this executable.
    pub fn call(&mut self, hook: &Path) {
        hook.clone_into(&mut self.hook);
    }

    /// Adds lines to the configurations of each Redis and of each Sentinel that are not started yet. `{n}` in them is
    /// the server's number, and `{host}` how it is known.
    pub fn add_conf(&mut self, redis: &str, sentinel: &str) {
        self.more_conf = [redis, sentinel].map(|lines| format!("{lines}\n"));
    }

    /// Has the servers that are not started yet be known by these hosts, which is what the Sentinels will tell.
    pub fn know_as(&mut self, hosts: [&str; 3]) {
        self.known_as = hosts.map(str::to_owned);
    }

    fn known_as(&self, server: &str) -> &str {
        &self.known_as[place(server)]
    }

    fn more_conf(&self, of: usize, server: &str) -> String {
        let number = (place(server) + 1).to_string();
        let lines = self.more_conf[of].replace("{n}", &number);
        lines.replace("{host}", self.known_as(server))
    }

    /// Returns a site with agents, and no hook.
    pub fn with_agents(masters: &[Master]) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let mut site = Site::in_lab(lab, &SERVERS, masters);
        site.call(Path::new("/bin/true"));
        site.configure_vips();
        site.start();
        for server in SERVERS {
            site.start_agent(server);
        }
        site.wait_until_replicas_have_data("server1", 2);
        site
    }

    /// Starts a server's agent, and waits until it answers and knows where every VIP belongs.
    #[track_caller]
    pub fn start_agent(&self, server: &str) {
        self.launch_agent(server);
        self.wait_for_agent(server);
    }

    /// Waits until a server's agent knows of so many replicas of each master that they have its data: until they
    /// acknowledge, which they do once a second, none is failed over to at once.
    #[track_caller]
    pub fn wait_until_replicas_have_data(&self, server: &str, number: usize) {
        eventually("the replicas have data", || {
            let known = self.agent(server).expect("the agent answers");
            let mut masters = known["masters"].as_array().unwrap().iter();
            masters.all(|master| {
                let replicas = master["replicas"].as_array().unwrap().iter();
                replicas.filter(|one| one["online"] == true).count() >= number
            })
        });
    }

    /// Waits until a server's agent answers and knows where every VIP belongs.
    #[track_caller]
    pub fn wait_for_agent(&self, server: &str) {
        eventually("the agent knows where every VIP belongs", || {
            let known = self.agent(server);
            known.is_some_and(|known| {
                let masters = known["masters"].as_array().unwrap();
                masters
                    .iter()
                    .all(|one| one["verdict"] == "here" || one["verdict"] == "elsewhere")
            })
        });
    }

    /// Returns what a server's agent knows; `None` if it does not answer.
    pub fn agent(&self, server: &str) -> Option<Value> {
        let script = r#"
use IO::Socket::UNIX;
my $agent = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
print $agent "{\"verb\":\"status\",\"config\":\"$ENV{VIPSWITCH_CONFIG}\"}\n";
print while <$agent>;
"#;
        let mut ask = self.host(server).command("perl");
        ask.args(["-e", script, &self.host(server).agent_socket()]);
        let answer = finish(ask).stdout;
        let reply: Value = serde_json::from_str(&answer).ok()?;
        serde_json::from_str(reply["out"].as_str()?).ok()
    }

    /// Sets `SENTINEL DEBUG` times of one Sentinel, in milliseconds.
    pub fn tune(&self, server: &str, times: &[&str]) {
        let words = [&["sentinel", "debug"], times].concat();
        let answer = self.ask(server, SENTINEL_PORT, &words);
        let answer = answer.expect("these tests need SENTINEL DEBUG: Redis 7, or Valkey");
        assert_eq!(answer, "OK");
    }

    // --- faults and commands ---------------------------------------------------------------

    /// Kills a Redis with SIGKILL. The Sentinels find out soon; nothing else can seem dead to
    /// them once they agree that `heir` is the master.
    #[track_caller]
    pub fn kill(&self, master: &Master, server: &str, heir: &str) {
        let port = master.port.to_string();
        let on = self.host(server);
        let info = on.run("redis-cli", ["-p", &port, "info", "server"]);
        let pid = field(&info, "process_id").unwrap();
        let process = self.take_process(&redis_name(master, server));
        on.run("sh", ["-c", "kill -KILL \"$0\"", pid]);
        drop(process);
        self.count_as_down_after(master, SOON_DOWN);
        self.wait_until_named(master, heir);
        self.count_as_down_after(master, NEVER_DOWN);
    }

    /// Lets all processes go on that were stopped by SIGSTOP. Outside of the lab each has an nsenter that
    /// stops with it, and then reaps nobody.
    pub fn thaw(&self) {
        for process in self.processes.borrow().values() {
            let pid = process.0.id().to_string();
            let _ = Command::new("kill").args(["-CONT", &pid]).status();
        }
    }

    /// Starts a Redis again that was killed, from the file that it had.
    pub fn restart(&self, master: &Master, server: &str) {
        self.launch_redis(master, server);
    }

    /// Asks the Sentinel on a server for a failover, and waits until all of them name `heir`.
    #[track_caller]
    pub fn fail_over(&self, master: &Master, asking: &str, heir: &str) {
        let aborted = || self.sentinel_log(asking).matches("-failover-abort").count();
        let mut accepted = None;
        eventually("the planned failover", || {
            // Once is enough, unless it came to nothing.
            let before = Some(aborted());
            if accepted != before && self.ask_for_failover(master, asking) {
                accepted = before;
            }
            self.all_name(master, heir)
        });
    }

    /// Asks the Sentinel on a server for a failover until it accepts.
    #[track_caller]
    pub fn begin_fail_over(&self, master: &Master, asking: &str) {
        eventually("the planned failover is accepted", || {
            self.ask_for_failover(master, asking)
        });
    }

    /// Asks the Sentinel on a server for a failover as soon as it names `from`, and waits until
    /// all Sentinels name the same other server, which it returns.
    #[track_caller]
    pub fn fail_over_from(&self, master: &Master, asking: &str, from: &str) -> &'static str {
        eventually("the Sentinel names the one to leave", || {
            self.named_by(asking, master) == Some(from)
        });
        let other = || {
            let heir = self.named_by(asking, master)?;
            (heir != from && self.all_name(master, heir)).then_some(heir)
        };
        let aborted = || self.sentinel_log(asking).matches("-failover-abort").count();
        let mut accepted = None;
        let decided = wait_for(PATIENCE, || {
            let before = Some(aborted());
            if accepted != before && self.ask_for_failover(master, asking) {
                accepted = before;
            }
            other()
        });
        decided.unwrap_or_else(|| panic!("no failover from {from} within {PATIENCE:?}"))
    }

    // --- what must come true ---------------------------------------------------------------

    /// Waits until every Sentinel knows all the others and all of Redis, and all are well.
    #[track_caller]
    pub fn wait_until_well(&self, master: &Master, on: &str) {
        let all_well = || self.all_are_well(master, on);
        eventually("every Sentinel knows all, and all are well", all_well);
    }

    /// Returns whether every Sentinel knows all the others and all of Redis, and all are well.
    pub fn all_are_well(&self, master: &Master, on: &str) -> bool {
        SERVERS.iter().all(|one| self.is_well(one, master, on))
    }

    /// Waits until every Sentinel names this server.
    #[track_caller]
    pub fn wait_until_named(&self, master: &Master, server: &str) {
        let what = format!("every Sentinel names {server} for {}", master.name);
        eventually(&what, || self.all_name(master, server));
    }

    /// Waits until so many runs that say that the master is now on `server` have ended like
    /// this, and returns their log lines.
    #[track_caller]
    pub fn wait_for_runs(
        &self,
        master: &Master,
        server: &str,
        exit: u8,
        number: usize,
    ) -> Vec<String> {
        let enough = || Some(self.runs(master, server, exit)).filter(|runs| runs.len() >= number);
        let Some(runs) = wait_for(PATIENCE, enough) else {
            panic!("no {number} runs for {server} with exit {exit} within {PATIENCE:?}");
        };
        runs
    }

    /// Checks what every failover must end with. Every Sentinel names `server`; each has run the
    /// hook with success, and agreed with its call unless it was too late to answer; the VIP is
    /// there and nowhere else; a write of the client through the VIP is answered, by that server.
    #[track_caller]
    pub fn check_settled(&self, master: &Master, server: &str) {
        for run in self.wait_for_runs(master, server, 0, SERVERS.len()) {
            let agrees = run.contains(" sentinel=agrees ");
            assert!(agrees || is_late(&run), "{run}");
        }
        self.check_in_use(master, server);
    }

    /// Waits until no Sentinel has a run of the hook left, now or later.
    #[track_caller]
    pub fn wait_until_no_run_is_left(&self) {
        eventually("every Sentinel is done with its hooks", || {
            SERVERS.iter().all(|server| self.pending(server).is_empty())
        });
    }

    /// Checks that the VIP is on the server that every Sentinel names, only there, and of use.
    #[track_caller]
    pub fn check_in_use(&self, master: &Master, server: &str) {
        self.wait_until_named(master, server);
        self.check_held_by(master, Some(server));
        let arrives = || self.write_arrives(master, server).then_some(());
        let arrived = wait_for(USABLE, arrives).is_some();
        let vip = master.vip;
        assert!(
            arrived,
            "no write through {vip} answered by {server} within {USABLE:?}"
        );
        self.check_held_by(master, Some(server));
    }

    /// Checks that the VIP is on this host alone, or nowhere.
    #[track_caller]
    pub fn check_held_by(&self, master: &Master, server: Option<&str>) {
        let hosts = SERVERS.into_iter().chain([CLIENT]);
        let holders: Vec<&str> = hosts.filter(|&name| self.holds(name, master.vip)).collect();
        assert_eq!(holders, Vec::from_iter(server), "holders of {}", master.vip);
        if let Some(server) = server {
            let addresses = self.host(server).addresses();
            assert!(self.host(server).has(master.bound), "{addresses:?}");
        }
    }

    // --- what can be seen ------------------------------------------------------------------

    /// Returns the log lines of the runs that ended like this, of those that say that the
    /// master is now on `server`. A run may still be writing its line.
    pub fn runs(&self, master: &Master, server: &str, exit: u8) -> Vec<String> {
        let parts = [
            format!(" master={} ", master.name),
            format!(" to={}:{} ", address(server), master.port),
            format!(" exit={exit}"),
        ];
        let mut runs = self.lab.log();
        runs.retain(|line| parts.iter().all(|part| line.contains(part)));
        runs
    }

    /// Returns the hook's runs that a Sentinel has queued: running, or to be tried again.
    pub fn pending(&self, server: &str) -> Vec<Value> {
        let answer = self.ask(server, SENTINEL_PORT, &["sentinel", "pending-scripts"]);
        answer.unwrap().as_array().unwrap().clone()
    }

    /// Returns which server a Sentinel names.
    pub fn named_by(&self, sentinel: &str, master: &Master) -> Option<&'static str> {
        let answer = self.sentinel(sentinel, "get-master-addr-by-name", master)?;
        SERVERS
            .into_iter()
            .find(|one| answer[0] == self.known_as(one))
    }

    /// Returns what vipswitch has logged so far, on all servers.
    pub fn log(&self) -> Vec<String> {
        self.lab.log()
    }

    /// Returns everything that a Sentinel has logged so far.
    pub fn sentinel_log(&self, server: &str) -> String {
        fs::read_to_string(self.lab.dir().join(format!("{server}-sentinel/log"))).unwrap()
    }

    /// Starts to watch a host's addresses.
    pub fn watch(&self, server: &str) -> Watch<'_> {
        Watch::start(self, server)
    }

    /// Asks a Redis or Sentinel; `None` if it does not answer, or with an error.
    pub fn ask(&self, server: &str, port: u16, words: &[&str]) -> Option<Value> {
        let mut command = self.host(server).command("redis-cli");
        command.args(["--json", "-p", &port.to_string()]);
        command.args(words);
        serde_json::from_str(finish(command).stdout.trim()).ok()
    }

    fn redis(&self, master: &Master, server: &str, words: &[&str]) -> Option<Value> {
        self.ask(server, master.port, words)
    }

    fn sentinel(&self, server: &str, subcommand: &str, master: &Master) -> Option<Value> {
        let words = ["sentinel", subcommand, master.name];
        self.ask(server, SENTINEL_PORT, &words)
    }

    fn holds(&self, server: &str, vip: &str) -> bool {
        let prefix = format!("{vip}/");
        let addresses = self.host(server).addresses();
        addresses.iter().any(|one| one.starts_with(&prefix))
    }

    fn all_name(&self, master: &Master, server: &str) -> bool {
        let expected = serde_json::json!([self.known_as(server), master.port.to_string()]);
        SERVERS.iter().all(|sentinel| {
            self.sentinel(sentinel, "get-master-addr-by-name", master)
                .is_some_and(|answer| answer == expected)
        })
    }

    fn ask_for_failover(&self, master: &Master, asking: &str) -> bool {
        // Not accepted: INPROG, or NOGOODSLAVE while its knowledge of the replicas is stale.
        let answer = self.sentinel(asking, "failover", master);
        answer.is_some_and(|answer| answer == "OK")
    }

    fn is_well(&self, sentinel: &str, master: &Master, on: &str) -> bool {
        let sees = || {
            let seen = self.sentinel(sentinel, "master", master)?;
            let replicas = self.sentinel(sentinel, "replicas", master)?;
            let others = self.sentinel(sentinel, "sentinels", master)?;
            Some((seen, replicas, others))
        };
        let Some((seen, replicas, others)) = sees() else {
            return false;
        };
        let (replicas, others) = (replicas.as_array().unwrap(), others.as_array().unwrap());
        seen["ip"] == self.known_as(on)
            && seen["flags"] == "master"
            && seen["role-reported"] == "master"
            && replicas.len() == self.with_redis.len() - 1
            && replicas.iter().all(|one| self.is_good_replica(one, on))
            && others.len() == SERVERS.len() - 1
            && others.iter().all(|one| one["flags"] == "sentinel")
    }

    fn is_good_replica(&self, seen: &Value, master_on: &str) -> bool {
        let server = SERVERS
            .iter()
            .position(|one| seen["ip"] == self.known_as(one));
        server.is_some_and(|place| seen["slave-priority"] == self.priorities[place])
            && seen["flags"] == "slave"
            && seen["role-reported"] == "slave"
            && seen["master-link-status"] == "ok"
            && seen["master-host"] == self.known_as(master_on)
    }

    fn wait_for_replicas(&self, master: &Master, on: &str) {
        for server in self.with_redis {
            self.wait_for_ping(server, master.port);
        }
        for server in self.with_redis.iter().filter(|&&one| one != on) {
            self.wait_until_follows(master, server, on);
        }
    }

    /// Waits until the Redis on `server` is a replica of the one on `on`, with the link up.
    #[track_caller]
    pub fn wait_until_follows(&self, master: &Master, server: &str, on: &str) {
        eventually("a Redis follows its master", || {
            let role = self.redis(master, server, &["role"]);
            role.is_some_and(|role| {
                role[0] == "slave" && role[1] == self.known_as(on) && role[3] == "connected"
            })
        });
    }

    fn wait_for_ping(&self, server: &str, port: u16) {
        let what = format!("{server} answers PING on {port}");
        eventually(&what, || {
            self.ask(server, port, &["ping"])
                .is_some_and(|answer| answer == "PONG")
        });
    }

    /// Sets how long a Redis may be silent until a Sentinel takes it for down.
    pub fn count_as_down_after(&self, master: &Master, milliseconds: u32) {
        let milliseconds = milliseconds.to_string();
        for server in SERVERS {
            let words = [
                "sentinel",
                "set",
                master.name,
                "down-after-milliseconds",
                &milliseconds,
            ];
            assert_eq!(self.ask(server, SENTINEL_PORT, &words).unwrap(), "OK");
        }
    }

    /// Lets the client write once through the VIP, and returns whether the write was answered
    /// and has arrived on this server.
    fn write_arrives(&self, master: &Master, server: &str) -> bool {
        self.writes.set(self.writes.get() + 1);
        let (key, value) = (format!("write{}", self.writes.get()), "arrived");
        let mut set = self.host(CLIENT).command("timeout");
        set.args(["3", "redis-cli", "-h", master.vip, "-p"]);
        set.args([&master.port.to_string(), "set", &key, value]);
        let read = || self.redis(master, server, &["get", &key]);
        finish(set).stdout == "OK\n" && read().is_some_and(|read| read == value)
    }

    // --- processes and their files ---------------------------------------------------------

    fn launch_redis(&self, master: &Master, server: &str) {
        self.launch(server, "redis-server", &master.port.to_string());
    }

    /// Starts `PROGRAM FOLDER/conf` in the folder's name.
    fn launch(&self, server: &str, program: &str, service: &str) {
        let name = format!("{server}-{service}");
        let dir = self.lab.dir().join(&name);
        let mut command = self.noting_its_pid(server, &name);
        command.arg(program).arg(dir.join("conf"));
        self.processes
            .borrow_mut()
            .insert(name, Process::start(command, dir.join("output")));
    }

    fn take_process(&self, name: &str) -> Process {
        self.processes.borrow_mut().remove(name).unwrap()
    }

    fn write_redis_conf(&self, master: &Master, server: &str) {
        let mut conf = format!(
            "port {}\nbind 0.0.0.0\nprotected-mode no\nsave \"\"\nrepl-diskless-sync-delay 0\n\
             repl-ping-replica-period 1\nreplica-priority {}\n",
            master.port,
            self.priorities[place(server)]
        );
        if server != "server1" {
            conf += &format!("replicaof {} {}\n", self.known_as("server1"), master.port);
        }
        conf += &self.more_conf(0, server);
        self.write_conf(&redis_name(master, server), &conf);
    }

    fn write_sentinel_conf(&self, server: &str) {
        let mut conf = format!(
            "port {SENTINEL_PORT}\nbind 0.0.0.0\nprotected-mode no\n\
             sentinel deny-scripts-reconfig no\n"
        );
        for Master { name, port, .. } in &self.masters {
            conf += &format!(
                "sentinel monitor {name} {} {port} 2\n\
                 sentinel down-after-milliseconds {name} {NEVER_DOWN}\n\
                 sentinel failover-timeout {name} 4000\n\
                 sentinel client-reconfig-script {name} {}\n",
                self.known_as("server1"),
                self.hook.display()
            );
        }
        conf += &self.more_conf(1, server);
        self.write_conf(&format!("{server}-sentinel"), &conf);
    }

    fn write_conf(&self, folder: &str, conf: &str) {
        let dir = self.lab.dir().join(folder);
        fs::create_dir(&dir).unwrap();
        let (path, dir) = (dir.join("conf"), dir.display());
        fs::write(path, format!("{conf}dir {dir}\nlogfile {dir}/log\n")).unwrap();
    }

    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn explain(&self) {
        let show = |name: &str| {
            for file in ["log", "output"] {
                let path = self.lab.dir().join(name).join(file);
                let text = fs::read(&path).unwrap_or_default();
                eprintln!("--- {name}/{file}\n{}", String::from_utf8_lossy(&text));
            }
        };
        for server in SERVERS {
            for master in &self.masters {
                show(&redis_name(master, server));
            }
            show(&format!("{server}-sentinel"));
            let mut addresses = self.host(server).command("ip");
            addresses.args(["-brief", "address"]);
            eprintln!("--- {server}\n{}", finish(addresses).stdout);
        }
        eprintln!("--- vipswitch\n{:#?}", self.lab.log());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.thaw();
        if std::thread::panicking() {
            self.explain();
        }
    }
}

/// A process that ends with its lab.
struct Process(Child);

impl Process {
    fn start(mut command: Command, output: PathBuf) -> Process {
        let output = File::options()
            .create(true)
            .append(true)
            .open(output)
            .unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        command.stdin(Stdio::null());
        Process(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if wait_for(PATIENCE, || self.0.try_wait().unwrap()).is_none() {
            let _ = self.0.kill();
        }
    }
}

/// The comings and goings of a host's addresses, all of them, told by `ip monitor`.
pub struct Watch<'a> {
    host: Host<'a>,
    file: PathBuf,
    markers: Cell<u16>,
    monitor: Process,
}

impl<'a> Watch<'a> {
    fn start(site: &'a Site, server: &str) -> Watch<'a> {
        let host = site.host(server);
        let file = site.lab.unique("watch");
        let mut monitor = host.command("ip");
        monitor.args(["-oneline", "monitor", "address"]);
        let watch = Watch {
            monitor: Process::start(monitor, file.clone()),
            host,
            file,
            markers: Cell::new(0),
        };
        eventually("the watch begins", || {
            let marker = watch.mark();
            watch.told().contains(&marker)
        });
        watch
    }

    /// Returns what has happened to this address since the watch began, a line each.
    pub fn events(&self, address: &str) -> Vec<String> {
        let marker = self.mark();
        eventually("the watch has told all", || self.told().contains(&marker));
        let about = format!(" {address}/");
        let told = self.told();
        let lines = told.lines().filter(|line| line.contains(&about));
        lines.map(str::to_owned).collect()
    }

    /// Adds an address that nobody else uses, and returns what the watch will tell of it.
    fn mark(&self) -> String {
        self.markers.set(self.markers.get() + 1);
        let [high, low] = self.markers.get().to_be_bytes();
        let marker = format!("198.18.{high}.{low}/32");
        self.host.ip(&format!("addr add {marker} dev lo"));
        format!(" {marker} ")
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = self.monitor.0.kill();
    }
}

fn redis_name(master: &Master, server: &str) -> String {
    format!("{server}-{}", master.port)
}

/// Returns a field of what INFO answers.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
