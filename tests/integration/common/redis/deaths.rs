//! A Redis that dies, and may be back a moment later; and what came of it.

use std::process::Child;
use std::time::Duration;

use super::agents::Write;
use super::{Master, Process, SENTINEL_PORT, SERVERS, Site, address, field, redis_name};
use crate::common::{PATIENCE, eventually, finish, wait_for};

/// What a Redis has left when it starts again.
#[derive(Clone, Copy, Debug)]
pub enum Keeps {
    /// Nothing.
    Nothing,
    /// What it had half a thousand keys ago.
    Snapshot,
    /// All but the last second.
    Log,
}

/// How long a writer may take to note an answer, in seconds.
const TOLD: f64 = 1.0;

/// So long, in milliseconds, that no failover within the patience of a test is Sentinel's own.
pub const NEVER: u32 = 300_000;

/// How many keys every Redis has before one of them dies.
pub const KEYS: usize = 1000;

/// Perl: sends a signal to a process so many seconds after a Sentinel has published an event, or else after server2's
/// Redis says that it is the master.
const STRIKE: &str = r#"
use IO::Socket::INET; use Time::HiRes qw(sleep);
my ($signal, $pid, $event, $after, $ready, $replica, $port, @sentinels) = @ARGV;
sub to { IO::Socket::INET->new(PeerAddr => $_[0], PeerPort => $_[1]) }
sub ready { open my $file, ">", $ready or die }
my ($said, $is) = ("", ""); $SIG{PIPE} = "IGNORE";
if ($event eq "role") {
    ready();
    for (;;) {
        my $redis = to($replica, $port) or next;
        syswrite $redis, "ROLE\r\n"; sysread $redis, $said, 999;
        last if $said =~ /master/;
        sleep 0.001;
    }
} else {
    my @on = map { to($_, 6800) or die } @sentinels;
    for (@on) { syswrite $_, "SUBSCRIBE $event\r\n"; sysread $_, $said, 999; vec($is, fileno $_, 1) = 1 }
    ready();
    select $is, undef, undef, undef;
}
sleep $after;
kill $signal => $pid;
"#;

impl Site {
    /// Writes [`KEYS`] keys that begin with `w` and that both replicas have; the master keeps them so.
    pub fn fill(&self, master: &Master, server: &str, keeps: Keeps) {
        let redis = |words: &[&str]| self.ask(server, master.port, words).unwrap();
        let half = KEYS / 2;
        let write = |from: usize| {
            let script = "for i=ARGV[1],ARGV[2] do redis.call('set','wbase'..i,'x') end";
            let (from, to) = (from.to_string(), (from + half - 1).to_string());
            redis(&["eval", script, "0", &from, &to]);
        };
        let on = |yes: bool| match yes {
            true => "yes",
            false => "no",
        };
        redis(&[
            "config",
            "set",
            "appendonly",
            on(matches!(keeps, Keeps::Log)),
        ]);
        redis(&["config", "rewrite"]);
        write(0);
        if matches!(keeps, Keeps::Snapshot) {
            redis(&["save"]);
        }
        write(half);
        eventually("both replicas have the keys", || {
            redis(&["wait", "2", "1000"]) == 2
        });
    }

    /// Kills a Redis by SIGKILL, and does not wait.
    pub fn kill_redis(&self, master: &Master, server: &str) {
        let port = master.port.to_string();
        self.signal_service(server, &port, "KILL");
        self.forget(&format!("{server}-{port}"));
    }

    /// Kills a Redis by SIGKILL, and starts it again so long after it has ended, as systemd does.
    pub fn kill_and_restart(&self, master: &Master, server: &str, after: Duration) {
        let script = r#"
my ($folder, $after) = @ARGV;
open my $file, "<", "$folder/pid" or die; chomp(my $pid = <$file>); close $file;
kill KILL => $pid or die $!;
select undef, undef, undef, 0.0005 while kill 0, $pid;
select undef, undef, undef, $after;
open $file, ">", "$folder/pid" or die; print $file "$$\n"; close $file;
exec "redis-server", "$folder/conf";
"#;
        let name = redis_name(master, server);
        let folder = self.lab.dir().join(&name);
        let mut perl = self.host(server).command("perl");
        perl.args(["-e", script]).arg(&folder);
        perl.arg(after.as_secs_f64().to_string());
        let process = Process::start(perl, folder.join("output"));
        let before = self.processes.borrow_mut().insert(name, process);
        drop(before);
    }

    /// Has a signal sent to a Redis of a server so many seconds after a Sentinel has published `event`, or with `role` after
    /// server2's Redis says that it is the master. The process ends once it was.
    #[track_caller]
    pub fn strike(
        &self,
        master: &Master,
        (server, signal): (&str, &str),
        event: &str,
        after: &str,
    ) -> Child {
        let ready = self.lab.unique("ready");
        let mut perl = self.host(super::CLIENT).command("perl");
        perl.args(["-e", STRIKE, signal, &self.listener(server, master.port)]);
        perl.args([event, after]).arg(&ready);
        perl.args([address("server2"), master.port.to_string()]);
        perl.args(SERVERS.map(address));
        let child = perl.spawn().unwrap();
        eventually("it waits for the moment", || ready.exists());
        child
    }

    /// Kills the Redis of several masters on a server by SIGKILL, all at the same moment.
    pub fn kill_all(&self, masters: &[Master], server: &str) {
        let folder = |master: &Master| self.lab.dir().join(redis_name(master, server));
        let pids = masters.iter().map(|master| {
            let pid = std::fs::read_to_string(folder(master).join("pid")).unwrap();
            pid.trim().to_owned()
        });
        let words = ["-KILL".to_owned()].into_iter().chain(pids);
        self.lab.run("kill", words);
        for master in masters {
            self.forget(&redis_name(master, server));
        }
    }

    /// Has the master's Redis on server1 killed, and waits until a Sentinel that was elected for it has made that on
    /// server2 the master, once, long before any would by itself.
    #[track_caller]
    pub fn is_failed_over_at_once(&self, master: &Master) {
        self.count_as_down_after(master, NEVER);
        self.wait_until_well(master, "server1");
        // The agents ask each second.
        SERVERS
            .iter()
            .for_each(|server| self.seconds_pass(server, 2.0));
        self.wait_until_replicas_have_data("server1", 2);
        self.kill_redis(master, "server1");
        self.settles(master, "server2");
        assert_eq!((self.promotions(), self.asked()), (1, 1));
    }

    /// Has each Sentinel vote in this epoch, about the master on server1, for one that does not exist.
    #[track_caller]
    pub fn vote_for_nobody(&self, master: &Master, epoch: u64) {
        self.vote_for(master, epoch, &"a".repeat(40));
    }

    /// Has each Sentinel vote in this epoch, about the master on server1, for that of another server, which is not asked
    /// for anything.
    #[track_caller]
    pub fn vote_for_sentinel(&self, master: &Master, epoch: u64, server: &str) {
        let id = self.ask(server, SENTINEL_PORT, &["sentinel", "myid"]);
        self.vote_for(master, epoch, id.unwrap().as_str().unwrap());
    }

    #[track_caller]
    fn vote_for(&self, master: &Master, epoch: u64, somebody: &str) {
        let named = address("server1");
        let (port, epoch_word) = (master.port.to_string(), epoch.to_string());
        for server in SERVERS {
            let vote = [
                "is-master-down-by-addr",
                &named,
                &port,
                &epoch_word,
                somebody,
            ];
            let words: Vec<&str> = std::iter::once("sentinel").chain(vote).collect();
            let voted = self.ask(server, SENTINEL_PORT, &words).unwrap();
            let given = (&voted[1], &voted[2]);
            assert_eq!(given, (&somebody.into(), &epoch.into()));
        }
    }

    /// Returns the servers whose Redis says that it is the master.
    pub fn masters(&self, master: &Master) -> Vec<&'static str> {
        let says_so = |server: &&str| self.role(master, server).as_deref() == Some("master");
        SERVERS.into_iter().filter(says_so).collect()
    }

    /// Waits until another Redis than on those servers is the master, and returns its server.
    #[track_caller]
    pub fn heir(&self, master: &Master, but: &[&str]) -> &'static str {
        let other = || {
            let mut masters = self.masters(master).into_iter();
            masters.find(|server| !but.contains(server))
        };
        wait_for(PATIENCE, other).expect("another Redis is the master")
    }

    /// Waits until an agent has told why Sentinel decides.
    #[track_caller]
    pub fn sentinel_decides(&self, why: &str) {
        self.lab.logged(&["Sentinel decides: ", why]);
    }

    /// Returns how many replicas the Sentinels have promoted so far.
    pub fn promotions(&self) -> usize {
        let logs = SERVERS.iter().map(|server| self.sentinel_log(server));
        logs.map(|log| log.matches(" +promoted-slave ").count())
            .sum()
    }

    /// Returns how often an agent has had a Sentinel elected and asked so far.
    pub fn asked(&self) -> usize {
        self.asked_in().len()
    }

    /// Returns the epochs in which an agent has had a Sentinel elected and asked so far.
    pub fn asked_in(&self) -> Vec<u64> {
        let epoch = |line: &String| {
            let (before, _) = line.split_once(" and asked to fail over")?;
            let (_, epoch) = before.rsplit_once(" elected in epoch ")?;
            Some(epoch.parse().unwrap())
        };
        self.log().iter().filter_map(epoch).collect()
    }

    /// Waits until every Sentinel knows of the same last failover, and names the same server.
    #[track_caller]
    pub fn wait_until_all_have_one_view(&self, master: &Master) {
        eventually("all Sentinels have one view", || {
            let view = |sentinel: &str| {
                let says = self.sentinel(sentinel, "master", master)?;
                Some((says["config-epoch"].clone(), says["ip"].clone()))
            };
            let views = SERVERS.map(view);
            views[0].is_some() && views.iter().all(|view| *view == views[0])
        });
    }

    /// Lets a master of this server begin to send its data 5 s after a replica has asked for that, as Redis 7 does by
    /// default: one that is back without data then empties no replica before the other one is promoted.
    pub fn send_late(&self, master: &Master, server: &str) {
        self.send_after(master, server, Duration::from_secs(5));
    }

    /// Lets a master of this server begin to send its data so long after a replica has asked for that, also once it is
    /// back.
    pub fn send_after(&self, master: &Master, server: &str, delay: Duration) {
        let delay = delay.as_secs().to_string();
        for words in [
            &["config", "set", "repl-diskless-sync-delay", &delay][..],
            &["config", "rewrite"],
        ] {
            assert_eq!(self.ask(server, master.port, words).unwrap(), "OK");
        }
    }

    /// Returns the writes that a Redis has acknowledged which is none of these, after the agent of its host had
    /// released the VIP. On a busy machine it may be back sooner than the agent gets a turn.
    pub fn after_the_release<'a>(
        &self,
        server: &str,
        ids: &[String],
        writes: &'a [Write],
    ) -> Vec<&'a Write> {
        let seen = self.timeline(server);
        let released = seen["released"].as_f64();
        let released = released.unwrap_or_else(|| panic!("nothing was released: {seen}"));
        let from = seen["began"].as_f64().unwrap() + released / 1e3 + TOLD;
        let by_another = writes.iter().filter(|write| !ids.contains(&write.by));
        by_another.filter(|write| write.at > from).collect()
    }

    /// Returns the first characters of a Redis' run id.
    pub fn run_id(&self, master: &Master, server: &str) -> Option<String> {
        let port = master.port.to_string();
        let mut info = self.host(server).command("redis-cli");
        info.args(["-p", &port, "info", "server"]);
        let info = finish(info).stdout;
        let id = field(&info, "run_id")?;
        Some(id[..super::agents::RUN_ID].to_owned())
    }

    /// Waits until a Sentinel was asked to fail over, and returns true; or until Sentinel was left to decide, as the
    /// votes came too late on a busy machine.
    #[track_caller]
    pub fn was_asked(&self) -> bool {
        let is_left = || {
            let log = self.log();
            log.iter().any(|line| line.contains("Sentinel decides: "))
        };
        eventually("the death is noticed", || self.asked() > 0 || is_left());
        self.asked() > 0
    }

    /// Has all agents forget when the last failover was, so that the next is asked for.
    #[track_caller]
    pub fn forget_failovers(&self) {
        for server in SERVERS {
            self.end_agent(server, "TERM");
        }
        let script = "rm -f /run/vipswitch/*.failover.json";
        self.lab.run("sh", ["-c", script]);
        for server in SERVERS {
            self.start_agent(server);
        }
    }

    /// Returns whether a process of this host listens on the master's port.
    pub fn listens(&self, master: &Master, server: &str) -> bool {
        !self.listener(server, master.port).is_empty()
    }
}
