//! What happens to the servers of a site with agents: agents and hosts that die, stop and come back, cables that are
//! out; and clients that notice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{
    CLIENT, MASTER_8000, Master, NEVER_DOWN, Process, QUICK, SENTINEL_PORT, SERVERS, Site,
};
use crate::common::{Lab, end_of, eventually, wait_for};

impl Site {
    /// Returns a site with agents on these servers, whose Sentinels call this executable.
    pub fn with_agents_on(servers: &[&str], hook: &Path) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let mut site = Site::in_lab(lab, &SERVERS, &[MASTER_8000]);
        site.call(hook);
        site.configure_vips();
        site.start();
        servers.iter().for_each(|server| site.start_agent(server));
        site
    }

    /// Returns a site of which nothing runs yet, without hook, to be changed before its [`Site::start`].
    pub fn unstarted() -> Site {
        Site::unstarted_of(MASTER_8000)
    }

    /// Returns a site of another master of which nothing runs yet, likewise.
    pub fn unstarted_of(master: Master) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let mut site = Site::in_lab(lab, &SERVERS, &[master]);
        site.call(Path::new("/bin/true"));
        site.configure_vips();
        site
    }

    /// Returns a site with agents and this configuration of theirs, and no hook.
    pub fn with_agents_and(config: &str) -> Site {
        let site = Site::with_agents_on(&[], Path::new("/bin/true"));
        site.configure(config);
        SERVERS.iter().for_each(|server| site.start_agent(server));
        site
    }

    /// Forgets a process that was ended, and waits for its end.
    pub fn forget(&self, name: &str) {
        drop(self.take_process(name));
    }

    /// Waits until an agent's own clock has gone on for so many seconds, in each of which it asks the Sentinels.
    #[track_caller]
    pub fn seconds_pass(&self, server: &str, seconds: f64) {
        let uptime = || self.agent(server)?["uptime"].as_f64();
        let before = uptime().expect("the agent answers");
        eventually("time passes", || {
            uptime().is_some_and(|now| now >= before + seconds)
        });
    }

    /// Returns the agent's verdict: `here`, `elsewhere`, `stays` or `fault`.
    pub fn verdict(&self, server: &str) -> Option<String> {
        let known = self.agent(server)?;
        Some(known["masters"][0]["verdict"].as_str()?.to_owned())
    }

    /// Returns whether a Sentinel takes that of another server for down.
    pub fn says_down(&self, sentinel: &str, other: &str) -> bool {
        let others = self.sentinel(sentinel, "sentinels", &MASTER_8000).unwrap();
        let mut others = others.as_array().unwrap().iter();
        let address = self.own_address(other);
        others.any(|one| one["ip"] == address && one["flags"].as_str().unwrap().contains("s_down"))
    }

    /// Makes a Sentinel monitor another server's Redis under the master's name.
    pub fn monitor_anew(&self, sentinel: &str, master: &Master, server: &str) {
        let port = master.port.to_string();
        let address = self.own_address(server);
        for words in [
            &["sentinel", "remove", master.name][..],
            &["sentinel", "monitor", master.name, &address, &port, "2"],
        ] {
            assert_eq!(self.ask(sentinel, SENTINEL_PORT, words).unwrap(), "OK");
        }
    }

    /// Makes these Sentinels patient again.
    pub fn never_down_of(&self, sentinels: &[&str]) {
        let time = NEVER_DOWN.to_string();
        for server in sentinels {
            let words = [
                "sentinel",
                "set",
                MASTER_8000.name,
                "down-after-milliseconds",
                &time,
            ];
            assert_eq!(self.ask(server, SENTINEL_PORT, &words).unwrap(), "OK");
        }
    }

    /// Waits until every Sentinel knows that no replica may be promoted.
    pub fn wait_until_none_may_be_promoted(&self, master: &Master) {
        eventually("the Sentinels know the priorities", || {
            SERVERS.iter().all(|sentinel| {
                let replicas = self.sentinel(sentinel, "replicas", master).unwrap();
                let mut replicas = replicas.as_array().unwrap().iter();
                replicas.all(|one| one["slave-priority"] == "0")
            })
        });
    }

    /// Starts a server's agent, and waits for nothing.
    pub fn launch_agent(&self, server: &str) {
        let name = format!("{server}-agent");
        fs::create_dir_all(self.lab.dir().join(&name)).unwrap();
        let mut command = self.noting_its_pid(server, &name);
        command.arg(crate::common::executable()).arg("agent");
        let output = self.lab.dir().join(&name).join("output");
        let process = Process::start(command, output);
        self.processes.borrow_mut().insert(name, process);
    }

    /// Returns the number that a server's agent has in the lab.
    #[track_caller]
    pub fn agent_pid(&self, server: &str) -> String {
        self.agent(server).expect("the agent answers")["pid"].to_string()
    }

    /// Signals a process of the lab.
    pub fn signal(&self, pid: &str, signal: &str) {
        self.lab.run("kill", [&format!("-{signal}"), pid]);
    }

    /// Ends a server's agent by a signal, and waits for its end.
    #[track_caller]
    pub fn end_agent(&self, server: &str, signal: &str) {
        self.signal(&self.agent_pid(server), signal);
        drop(self.take_process(&format!("{server}-agent")));
    }

    /// Returns the number of the process that listens on a port of a server.
    pub fn listener(&self, server: &str, port: u16) -> String {
        let script = "ss -Hltnp \"sport = :$0\" | sed 's/.*pid=\\([0-9]*\\).*/\\1/;q'";
        let pid = self
            .host(server)
            .run("sh", ["-ec", script, &port.to_string()]);
        pid.trim().to_owned()
    }

    /// Returns the number of a server's Sentinel.
    pub fn sentinel_pid(&self, server: &str) -> String {
        self.listener(server, SENTINEL_PORT)
    }

    /// Lets a process that is stopped go on, and what waits for it outside of the lab.
    pub fn go_on(&self, pid: &str) {
        self.signal(pid, "CONT");
        self.thaw();
    }

    /// Makes every Sentinel take a master for down after so many milliseconds.
    pub fn down_after(&self, milliseconds: u32) {
        self.count_as_down_after(&MASTER_8000, milliseconds);
    }

    /// Takes a server's cable out.
    pub fn unplug(&self, server: &str) {
        let port = format!("{server}-eth1");
        self.lab.run("ip", ["link", "set", &port, "down"]);
    }

    /// Puts a server's cable in.
    pub fn plug(&self, server: &str) {
        let port = format!("{server}-eth1");
        self.lab.run("ip", ["link", "set", &port, "up"]);
    }

    /// Lets nothing pass between two hosts from now on, and nobody is told so.
    pub fn cut(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            let to = self.own_address(to);
            // Nobody has this hardware address.
            let entry =
                format!("neigh replace {to} lladdr 02:00:00:00:00:99 nud permanent dev eth1");
            self.host(from).ip(&entry);
        }
    }

    /// Lets everything pass between two hosts again.
    pub fn mend(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            let to = self.own_address(to);
            self.host(from).ip(&format!("neigh del {to} dev eth1"));
        }
    }

    fn own_address(&self, host: &str) -> String {
        // The client is the fourth host.
        let place = SERVERS.iter().position(|&one| one == host).unwrap_or(3);
        format!("192.168.56.{}", 101 + place)
    }

    /// Cuts a server off from all other servers, but from no client.
    pub fn isolate(&self, server: &str) {
        for other in SERVERS.into_iter().filter(|&other| other != server) {
            self.cut(server, other);
        }
    }

    /// Ends what [`Site::isolate`] has begun.
    pub fn rejoin(&self, server: &str) {
        for other in SERVERS.into_iter().filter(|&other| other != server) {
            self.mend(server, other);
        }
    }

    /// Cuts the power of a server: its link is gone, and all of its processes are.
    pub fn kill_host(&self, server: &str) {
        self.unplug(server);
        let script = "ip netns pids \"$0\" | xargs -r kill -KILL";
        self.lab.run("sh", ["-ec", script, server]);
        self.thaw();
        let prefix = format!("{server}-");
        let mut processes = self.processes.borrow_mut();
        processes.retain(|name, _| !name.starts_with(&prefix));
    }

    /// Begins to boot a server whose power was cut: it has its own addresses only.
    pub fn power_on(&self, server: &str) {
        let host = self.host(server);
        host.ip("addr flush dev eth1");
        let place = SERVERS.iter().position(|&one| one == server).unwrap();
        host.ip(&format!("addr add 192.168.56.{}/24 dev eth1", 101 + place));
        host.ip(&format!("addr add fd00::{}/64 dev eth1 nodad", 101 + place));
        self.plug(server);
    }

    /// Starts Redis on a server.
    pub fn start_redis(&self, server: &str) {
        for master in &self.masters {
            self.launch_redis(master, server);
        }
    }

    /// Starts a second Redis of a master on server1, and waits until the agents and the Sentinels know it as the replica
    /// that is promoted before all others.
    pub fn start_second(&self, master: &Master, (host, port): (&str, u16), bind: &str) {
        let first = self.known_as("server1");
        let conf = format!(
            "port {port}\nbind {bind}\nprotected-mode no\nsave \"\"\nrepl-diskless-sync-delay 0\n\
             repl-ping-replica-period 1\nreplica-priority 1\nreplica-announce-ip {host}\n\
             replicaof {first} {}\n",
            master.port
        );
        self.write_conf("server1-second", &conf);
        self.launch("server1", "redis-server", "second");
        let port = port.to_string();
        let is_it = |one: &serde_json::Value| {
            let is_ready = one["master-link-status"] == "ok" && one["slave-priority"] == "1";
            one["ip"] == host && one["port"] == port.as_str() && is_ready
        };
        eventually("the Sentinels know the second Redis", || {
            SERVERS.iter().all(|sentinel| {
                let replicas = self.sentinel(sentinel, "replicas", master).unwrap();
                replicas.as_array().unwrap().iter().any(is_it)
            })
        });
        self.wait_until_replicas_have_data("server1", 3);
    }

    /// Waits until every Sentinel names the Redis at this address and port.
    #[track_caller]
    pub fn wait_until_named_at(&self, master: &Master, (host, port): (&str, u16)) {
        let expected = serde_json::json!([host, port.to_string()]);
        let names = |sentinel: &str| self.sentinel(sentinel, "get-master-addr-by-name", master);
        eventually("every Sentinel names it", || {
            SERVERS
                .iter()
                .all(|sentinel| names(sentinel).is_some_and(|named| named == expected))
        });
    }

    /// Starts a server's Sentinel, from the file that it had.
    pub fn start_sentinel(&self, server: &str) {
        self.launch(server, "redis-sentinel", "sentinel");
        self.wait_for_ping(server, SENTINEL_PORT);
        self.tune(server, &QUICK);
    }

    /// Returns which hosts have an address.
    pub fn holders(&self, vip: &str) -> Vec<&'static str> {
        let hosts = SERVERS.into_iter().chain([CLIENT]);
        hosts.filter(|name| self.holds(name, vip)).collect()
    }

    /// Waits until this server alone holds the VIP, and every Sentinel names it; then a write through the VIP has to
    /// arrive, and all of that has to stay.
    #[track_caller]
    pub fn settles(&self, master: &Master, server: &str) {
        let mut holders = Vec::new();
        let settled = wait_for(crate::common::PATIENCE, || {
            holders = self.holders(master.vip);
            (holders == [server]).then_some(())
        });
        assert!(
            settled.is_some(),
            "{holders:?} and not {server} alone: {:#?}",
            self.views()
        );
        self.check_in_use(master, server);
        assert_eq!(self.holders(master.vip), [server]);
    }

    /// Waits until every Sentinel names the same server and this one alone holds the VIP, and checks the rest.
    #[track_caller]
    pub fn settles_anywhere(&self, master: &Master) -> &'static str {
        let agreed = || {
            let named = self.named_by("server1", master)?;
            let is_holder = self.holders(master.vip) == [named];
            (is_holder && self.all_name(master, named)).then_some(named)
        };
        let named = wait_for(crate::common::PATIENCE, agreed);
        let named = named.unwrap_or_else(|| panic!("no agreement: {:#?}", self.views()));
        self.settles(master, named);
        named
    }

    /// Returns what each agent thinks, for a test that has failed.
    fn views(&self) -> Vec<String> {
        let view = |server: &str| match self.agent(server) {
            Some(all) => format!("{server}: {}", all["masters"]),
            None => format!("{server}: no agent answers"),
        };
        SERVERS.map(view).to_vec()
    }

    /// Returns what a server's agent shows of the last failover.
    pub fn timeline(&self, server: &str) -> serde_json::Value {
        self.agent(server).expect("the agent answers")["masters"][0]["last_failover"].clone()
    }

    /// Returns a Redis' role, as its first word.
    pub fn role(&self, master: &Master, server: &str) -> Option<String> {
        Some(
            self.redis(master, server, &["role"])?[0]
                .as_str()?
                .to_owned(),
        )
    }

    /// Returns how many bytes the last of a master's two replicas lacks.
    pub fn behind(&self, master: &Master, server: &str) -> Option<u64> {
        let role = self.redis(master, server, &["role"])?;
        let number = |value: &serde_json::Value| match value.as_u64() {
            Some(number) => Some(number),
            None => value.as_str()?.parse().ok(),
        };
        let replicas = role[2].as_array().filter(|all| all.len() == 2)?;
        let slowest = replicas.iter().filter_map(|one| number(&one[2])).min()?;
        Some(number(&role[1])?.saturating_sub(slowest))
    }

    /// Returns whether a write on this Redis itself is answered with OK.
    pub fn takes_writes(&self, master: &Master, server: &str) -> bool {
        let mut set = self.host(server).command("timeout");
        set.args([
            "3",
            "redis-cli",
            "-p",
            &master.port.to_string(),
            "set",
            "own",
            "1",
        ]);
        crate::common::finish(set).stdout == "OK\n"
    }

    /// Returns the keys of a Redis that begin with `w`.
    pub fn written(&self, master: &Master, server: &str) -> BTreeSet<String> {
        let port = master.port.to_string();
        let all = self
            .host(server)
            .run("redis-cli", ["-p", &port, "keys", "w*"]);
        all.lines().map(str::to_owned).collect()
    }

    /// Starts clients that write through the VIP, each some thousand times a second.
    pub fn writers(&self, master: &Master, number: usize) -> Writers {
        let folder = self.lab.unique("writers");
        fs::create_dir(&folder).unwrap();
        let each = (0..number).map(|number| {
            let file = folder.join(number.to_string());
            let mut perl = self.host(CLIENT).command("perl");
            perl.args(["-e", WRITER, master.vip, &master.port.to_string()]);
            perl.arg(&file).arg(format!("w{number}:"));
            let output = folder.join(format!("{number}.output"));
            (file, Process::start(perl, output))
        });
        let (files, processes) = each.unzip();
        Writers {
            folder,
            files,
            processes,
        }
    }

    /// Lets a client block in a command on the VIP until the connection ends.
    pub fn blocked(&self, master: &Master, command: &str) -> Blocked {
        self.blocked_on(CLIENT, master, command)
    }

    /// The same for a client on one of the servers.
    pub fn blocked_on(&self, host: &str, master: &Master, command: &str) -> Blocked {
        let file = self.lab.unique("blocked");
        let mut perl = self.host(host).command("perl");
        perl.args(["-e", BLOCKED, master.vip, &master.port.to_string()]);
        perl.arg(&file).args(command.split(' '));
        let output = self.lab.unique("blocked");
        let process = Process::start(perl, output);
        eventually("the client is connected", || file.exists());
        Blocked { file, process }
    }
}

/// How many characters of a run id tell one Redis from another.
pub const RUN_ID: usize = 8;

/// A write that was answered with OK.
pub struct Write {
    /// What was written.
    pub key: String,
    /// When, in seconds since 1970.
    pub at: f64,
    /// Which Redis answered: the first characters of its run id.
    pub by: String,
}

/// Clients that write through the VIP until they are stopped.
pub struct Writers {
    folder: PathBuf,
    files: Vec<PathBuf>,
    processes: Vec<Process>,
}

impl Writers {
    /// Returns each write that was answered with OK: its key, and when, in seconds since 1970.
    pub fn acknowledged(&self) -> Vec<(String, f64)> {
        let writes = self.writes().into_iter();
        writes.map(|write| (write.key, write.at)).collect()
    }

    /// Returns each write that was answered with OK.
    pub fn writes(&self) -> Vec<Write> {
        let texts = self
            .files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        let mut all = Vec::new();
        for text in texts {
            // The last line may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            all.extend(whole.lines().map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let [key, at, by] = words[..] else {
                    panic!("{line:?}")
                };
                Write {
                    key: key.to_owned(),
                    at: at.parse().unwrap(),
                    by: by.to_owned(),
                }
            }));
        }
        all
    }

    /// Waits for so many more acknowledged writes.
    #[track_caller]
    pub fn wait_for(&self, number: usize) {
        let lines = || -> u64 {
            let sizes = self.files.iter().filter_map(|file| fs::metadata(file).ok());
            sizes.map(|size| size.len()).sum()
        };
        // A line has fewer than 50 characters.
        let (before, more) = (lines(), 50 * u64::try_from(number).unwrap());
        eventually("more writes are acknowledged", || lines() >= before + more);
    }

    /// Ends them, and returns what was acknowledged.
    pub fn stop(mut self) -> Vec<(String, f64)> {
        fs::write(self.folder.join("stop"), "").unwrap();
        // Each waits for its last answer.
        self.processes.clear();
        self.acknowledged()
    }

    /// Ends them, and returns each write that was answered with OK.
    pub fn finish(mut self) -> Vec<Write> {
        fs::write(self.folder.join("stop"), "").unwrap();
        self.processes.clear();
        self.writes()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = fs::write(self.folder.join("stop"), "");
    }
}

/// A client that waits in a command.
pub struct Blocked {
    file: PathBuf,
    process: Process,
}

impl Blocked {
    /// Waits for the end of its connection, and returns how that ended.
    #[track_caller]
    pub fn end(mut self) -> String {
        end_of(&mut self.process.0);
        fs::read_to_string(&self.file).unwrap()
    }

    /// Returns how its connection ended, if it has.
    pub fn ended(&self) -> Option<String> {
        Some(fs::read_to_string(&self.file).unwrap()).filter(|how| !how.is_empty())
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
    }
}

/// Perl: sets KEY1, KEY2 … one after the other, each on a connection that is made anew when it fails or says nothing
/// for a second. Notes each key that was answered with OK, when, and by which Redis.
const WRITER: &str = r#"
use IO::Socket::IP; use Time::HiRes qw(time sleep);
my ($vip, $port, $file, $key) = @ARGV;
my ($folder) = $file =~ m{(.*)/};
open my $notes, ">>", $file or die;
# A connection that was closed, and then reset, ends who writes to it.
$SIG{PIPE} = "IGNORE";
my ($number, $server, $who) = (0);
sub more {
    my $is = ""; vec($is, fileno $server, 1) = 1;
    return select($is, undef, undef, 1) && sysread $server, $_[0], 4096, length $_[0];
}
sub ask_who {
    my $answer = "";
    syswrite $server, "INFO server\r\n" or return;
    until ($answer =~ /^\$(\d+)\r\n/ && length $answer == $1 + 2 + length $&) { more($answer) or return }
    return $answer =~ /run_id:(\w{8})/ && $1;
}
until (-e "$folder/stop") {
    if (!$server) {
        $server = IO::Socket::IP->new(PeerAddr => $vip, PeerPort => $port, Timeout => 0.5);
        $who = $server && ask_who();
        if (!$who) { undef $server; sleep 0.005; next }
    }
    my $one = $key . ++$number;
    my $answer = "";
    syswrite $server, "SET $one x\r\n" or do { undef $server; next };
    while ($answer !~ /\n/) { last unless more($answer) }
    if ($answer eq "+OK\r\n") { syswrite $notes, sprintf "%s %.6f %s\n", "$one", time, $who; sleep 0.0003 }
    else { undef $server; sleep 0.002 }
}
"#;

/// Perl: sends a command, and notes how the connection ends.
const BLOCKED: &str = r#"
use IO::Socket::IP;
my ($vip, $port, $file, @words) = @ARGV;
my $server = IO::Socket::IP->new(PeerAddr => $vip, PeerPort => $port) or die;
syswrite $server, "PING\r\n"; sysread $server, my $pong, 99;
syswrite $server, "@words\r\n";
sysread $server, my $told, 999 if $words[0] eq "SUBSCRIBE";
open my $notes, ">", $file or die;
my $read = sysread $server, my $said, 999;
syswrite $notes, defined $read ? ($read ? "said $said" : "closed") : "$!";
"#;
