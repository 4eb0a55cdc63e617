//! The guide's servers for one round: real Redis, real Sentinels that call one of the contenders, agents
//! where that is one, the VIPs on the first server, and a client that captures what is said about them.
//! Sentinel's times are Redis' own, as a user has them; only how soon it counts a server as down is set.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, now};
use crate::common::sniffer::Sniffer;
use crate::common::{Host, Lab, PATIENCE, executable};
use crate::{Contender, SNIFFER};

const SERVERS: [(&str, &str); 3] = [
    ("server1", "192.168.56.101"),
    ("server2", "192.168.56.102"),
    ("server3", "192.168.56.103"),
];
/// The one to which Sentinel promotes.
const HEIR: &str = "server2";
const CLIENT: &str = "client";
const SENTINEL_PORT: u16 = 6800;

/// Until the measurement begins, no stall of the machine may look like a death.
const NEVER_DOWN: u32 = 60_000;
/// With 1,000 and less Sentinel takes the fresh master for down now and then, and fails over twice.
pub const DOWN_AFTER: u32 = 2_000;

const GUIDE: &str = include_str!("../fixtures/guide.sh");
const DAY: u64 = 86_400;

/// So many VIPs have room in the servers' own subnet, beside the servers.
const IN_THE_SUBNET: u16 = 100;

/// A master that Sentinel monitors.
pub struct Master {
    name: String,
    port: u16,
    vip: String,
}

/// A lab in which all runs, for one round.
pub struct Site {
    sniffer: Sniffer,
    heir_mac: Vec<u8>,
    /// What Sentinel monitors.
    pub masters: Vec<Master>,
    lab: Lab,
}

impl Site {
    /// Starts one master and two replicas, and waits until each Sentinel knows all.
    pub fn guides(contender: Contender) -> Site {
        let master = Master {
            name: "master8000".to_owned(),
            port: 8000,
            vip: "192.168.56.250".to_owned(),
        };
        Site::start(contender, 3, vec![master])
    }

    /// Starts so many masters on the first server, each with a replica on the second.
    pub fn with_masters(contender: Contender, number: u16) -> Site {
        let master = |place| Master {
            name: format!("master{}", 8000 + place),
            port: 8000 + place,
            vip: match number {
                ..=IN_THE_SUBNET => format!("192.168.56.{}", 151 + place),
                _ => format!("192.168.{}.{}", 57 + place / 250, 1 + place % 250),
            },
        };
        Site::start(contender, 2, (0..number).map(master).collect())
    }

    fn start(contender: Contender, with_redis: usize, masters: Vec<Master>) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let sniffer = Sniffer::with_child(&lab.host(CLIENT), [SNIFFER]);
        let heir_mac = lab.host(HEIR).mac("eth1");
        let hex = |octet| u8::from_str_radix(octet, 16).unwrap();
        let site = Site {
            sniffer,
            heir_mac: heir_mac.split(':').map(hex).collect(),
            masters,
            lab,
        };
        site.configure();
        for (server, _) in &SERVERS[..with_redis] {
            site.start_redis(server);
        }
        for (server, _) in &SERVERS[1..with_redis] {
            site.wait_for_replicas(server);
        }
        site.bind_vips();
        for (server, address) in SERVERS {
            site.start_sentinel(contender, server, address);
        }
        for (server, _) in SERVERS {
            site.wait_for_sentinel(server, with_redis);
        }
        if contender == Contender::Agent {
            for (server, _) in SERVERS {
                site.start_agent(server);
            }
            for (server, _) in SERVERS {
                site.wait_for_agent(server);
            }
        }
        // The replicas' priorities and whatever else a first INFO brings.
        thread::sleep(Duration::from_secs(1));
        site
    }

    // --- what happens ----------------------------------------------------------------------

    /// From now on a server that does not answer is soon counted as down.
    pub fn arm(&self) {
        let command = |master: &Master| {
            let Master { name, .. } = master;
            format!("SENTINEL SET {name} down-after-milliseconds {DOWN_AFTER}\n")
        };
        let commands: String = self.masters.iter().map(command).collect();
        let path = self.lab.file("arm", commands);
        for (server, _) in SERVERS {
            let arm = format!("redis-cli -p {SENTINEL_PORT} < {}", path.display());
            let answers = self.shell(server, &arm);
            assert_eq!(answers.matches("OK").count(), self.masters.len());
        }
        thread::sleep(Duration::from_millis(500));
    }

    /// Kills all Redis on the first server at once.
    pub fn kill(&self) {
        let kill = format!("kill -KILL $(cat {}/server1-8*.pid)", self.dir().display());
        self.shell("server1", &kill);
    }

    /// Takes the cable out of the first server.
    pub fn unplug(&self) {
        self.lab.host("server1").ip("link set eth1 down");
    }

    /// Asks a Sentinel for a planned failover of the first master.
    pub fn fail_over(&self) {
        let ask = format!(
            "redis-cli -p {SENTINEL_PORT} sentinel failover {}",
            self.masters[0].name
        );
        until("the failover is accepted", || {
            self.shell("server3", &ask).starts_with("OK")
        });
    }

    /// Has `vipswitch failover` do it, from the third server.
    pub fn fail_over_by_verb(&self) {
        let verb = format!(
            "{} failover {} --json",
            executable().display(),
            self.masters[0].name
        );
        until("the failover is done", || {
            self.shell("server3", &verb).contains("\"done\":true")
        });
    }

    /// Starts a client of the first VIP. `key` is where a writer writes.
    pub fn client(&self, role: &str, key: &str) -> Client {
        let master = &self.masters[0];
        let server = format!("{}:{}", master.vip, master.port);
        Client::start(&self.lab.host(CLIENT), role, &server, key)
    }

    /// Returns where the new Redis of the first master is.
    pub fn heir(&self) -> String {
        format!("{}:{}", SERVERS[1].1, self.masters[0].port)
    }

    // --- what can be seen ------------------------------------------------------------------

    /// Returns when the first Sentinel published that this master's replica is promoted or that
    /// the master is another one, to the millisecond of its log.
    pub fn decision(&self, master: &Master) -> Option<Duration> {
        self.decisions().get(&master.name).copied()
    }

    /// Returns that of every master that has one.
    pub fn decisions(&self) -> HashMap<String, Duration> {
        let mut decisions = HashMap::new();
        for (server, _) in SERVERS {
            let path = self.dir().join(format!("{server}-sentinel.log"));
            let log = fs::read_to_string(path).unwrap_or_default();
            for (time, name) in log.lines().filter_map(decision) {
                let first = decisions.entry(name.to_owned()).or_insert(time);
                *first = time.min(*first);
            }
        }
        decisions
    }

    /// Returns when the heir's Redis of this master turned master, to the millisecond of its log.
    pub fn promotion(&self, master: &Master) -> Option<Duration> {
        let path = self.dir().join(format!("{HEIR}-{}.log", master.port));
        let log = fs::read_to_string(path).ok()?;
        // "MASTER MODE", in Valkey "PRIMARY MODE".
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(" MODE enabled (user request"))?;
        time_of(line)
    }

    /// Returns what a file of /proc says about the agent of the first server.
    pub fn of_agent(&self, file: &str) -> String {
        let pid = format!("{}/server1-agent.pid", self.dir().display());
        self.shell("server1", &format!("cat /proc/$(cat {pid})/{file}"))
    }

    /// Returns how many bytes of the old master's stream the new one lacked, by the word of the old one's agent.
    pub fn bytes_behind(&self) -> Option<f64> {
        let status = format!("{} status --json", executable().display());
        let said = self.shell("server1", &status);
        let (_, behind) = said.split_once("\"bytes_behind\":")?;
        let end = behind.find(|c: char| !c.is_ascii_digit())?;
        behind[..end].parse().ok()
    }

    /// Returns the time from each promotion to the first frame about that VIP which the client received
    /// from the new host.
    pub fn first_frames(&self) -> Vec<Duration> {
        let mut frames = self.sniffer.frames();
        frames.retain(|frame| frame.is_arp() && frame.bytes[6..12] == self.heir_mac);
        let first = |master: &Master| {
            let promoted = self.promotion(master)?;
            let mut after = frames.iter().filter(|frame| frame.time >= promoted);
            let frame = after.find(|frame| frame.is_about(&master.vip))?;
            Some(frame.time - promoted)
        };
        self.masters.iter().filter_map(first).collect()
    }

    // --- files and processes ---------------------------------------------------------------

    fn dir(&self) -> &Path {
        self.lab.dir()
    }

    fn shell(&self, server: &str, script: &str) -> String {
        let host: Host = self.lab.host(server);
        let mut command = host.command("sh");
        command.args(["-c", script]).env("TZ", "UTC");
        crate::common::finish(command).stdout
    }

    fn configure(&self) {
        let section = |one: &Master| format!("[masters.{}]\nvip = \"{}/24\"\n", one.name, one.vip);
        let sections: String = self.masters.iter().map(section).collect();
        let sentinel = format!("[sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\n");
        self.lab.config(&(sections + &sentinel));
    }

    fn bind_vips(&self) {
        let add = |one: &Master| format!("addr add {}/24 dev eth1\n", one.vip);
        let batch: String = self.masters.iter().map(add).collect();
        let batch = self.lab.file("vips", batch);
        let batch = batch.to_str().unwrap();
        self.lab.host("server1").run("ip", ["-batch", batch]);
    }

    fn start_redis(&self, server: &str) {
        let mut start = String::new();
        for Master { port, .. } in &self.masters {
            let name = format!("{server}-{port}");
            let mut conf = format!(
                "port {port}\nbind 0.0.0.0\nprotected-mode no\nsave \"\"\n\
                 repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
            );
            if server != "server1" {
                conf += &format!("replicaof {} {port}\n", SERVERS[0].1);
            }
            if server != HEIR {
                conf += "replica-priority 0\n";
            }
            start += &self.service("redis-server", &name, &conf);
        }
        self.shell(server, &start);
    }

    fn start_sentinel(&self, contender: Contender, server: &str, address: &str) {
        let mut conf = format!("port {SENTINEL_PORT}\nbind 0.0.0.0\nprotected-mode no\n");
        for master in &self.masters {
            let Master { name, port, .. } = master;
            let script = match contender {
                Contender::Agent | Contender::Hook => executable().to_str().unwrap().to_owned(),
                Contender::Script => self.guide(server, address, master),
            };
            conf += &format!(
                "sentinel monitor {name} {} {port} 2\n\
                 sentinel down-after-milliseconds {name} {NEVER_DOWN}\n\
                 sentinel failover-timeout {name} 4000\n\
                 sentinel client-reconfig-script {name} {script}\n",
                SERVERS[0].1
            );
        }
        let start = self.service("redis-sentinel", &format!("{server}-sentinel"), &conf);
        self.shell(server, &start);
    }

    /// Writes the guide's script for one server and one master, and returns its path.
    fn guide(&self, server: &str, address: &str, master: &Master) -> String {
        let text = GUIDE
            .replace("MY_IP='192.168.56.101'", &format!("MY_IP='{address}'"))
            .replace("VIP='192.168.56.250'", &format!("VIP='{}'", master.vip));
        let path = self.lab.file(&format!("{server}-{}.sh", master.name), text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes a server's configuration and returns the shell line that starts it.
    fn service(&self, program: &str, name: &str, conf: &str) -> String {
        let dir = self.dir().display();
        let common = format!(
            "daemonize yes\ndir {dir}\npidfile {dir}/{name}.pid\nlogfile {dir}/{name}.log\n"
        );
        let path = self
            .lab
            .file(&format!("{name}.conf"), conf.to_owned() + &common);
        format!("{program} {}\n", path.display())
    }

    fn start_agent(&self, server: &str) {
        let name = self.dir().join(format!("{server}-agent"));
        let (program, name) = (executable(), name.display());
        let program = program.display();
        let start = format!("{program} agent >>{name}.log 2>&1 </dev/null & echo $! >{name}.pid");
        self.shell(server, &start);
    }

    fn wait_for_agent(&self, server: &str) {
        let known = if server == "server1" {
            r#""verdict":"here""#
        } else {
            r#""verdict":"elsewhere""#
        };
        let status = format!("{} status --json", executable().display());
        until("an agent knows where all VIPs belong", || {
            self.shell(server, &status).matches(known).count() == self.masters.len()
        });
    }

    fn wait_for_replicas(&self, server: &str) {
        let info = |one: &Master| format!("redis-cli -p {} info replication\n", one.port);
        let infos: String = self.masters.iter().map(info).collect();
        until("the replicas follow", || {
            let up = self.shell(server, &infos);
            up.matches("master_link_status:up").count() == self.masters.len()
        });
    }

    fn wait_for_sentinel(&self, server: &str, with_redis: usize) {
        let well = format!(",slaves={},sentinels=3", with_redis - 1);
        let info = format!("redis-cli -p {SENTINEL_PORT} info sentinel");
        until("a Sentinel knows all", || {
            let info = self.shell(server, &info);
            let is_well = |line: &&str| line.contains("status=ok") && line.contains(&well);
            info.lines().filter(is_well).count() == self.masters.len()
        });
    }
}

/// Reads a line of Sentinel's log: when it published which master's move.
fn decision(line: &str) -> Option<(Duration, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = match words.get(6..)? {
        ["+promoted-slave", _, _, _, _, "@", name, ..] | ["+switch-master", name, ..] => name,
        _ => return None,
    };
    Some((time_of(line)?, name))
}

/// Reads the time of a line of a log of Redis or Sentinel.
fn time_of(line: &str) -> Option<Duration> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let numbers: Vec<u64> = words
        .get(4)?
        .split([':', '.'])
        .map_while(|number| number.parse().ok())
        .collect();
    let [hours, minutes, seconds, milliseconds] = numbers[..] else {
        return None;
    };
    let seconds = (hours * 60 + minutes) * 60 + seconds;
    let now = now();
    let midnight = Duration::from_secs(now.as_secs() / DAY * DAY);
    let time = midnight + Duration::from_secs(seconds) + Duration::from_millis(milliseconds);
    // The log does not outlive a round, but midnight may pass in it.
    Some(if time > now {
        time - Duration::from_secs(DAY)
    } else {
        time
    })
}

/// Waits until it is so, and fails if that does not come.
#[track_caller]
pub fn until(what: &str, so: impl FnMut() -> bool) {
    assert!(within(PATIENCE, so), "not within {PATIENCE:?}: {what}");
}

/// Waits until it is so, and returns whether that came. Looks seldom: the machine is measured.
pub fn within(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if so() {
            return true;
        }
        if started.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
}
