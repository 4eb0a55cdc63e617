//! Private hosts for one test: network namespaces on one bridge, in a mount and pid namespace
//! that die with the test process however that dies. Works as root, and as an ordinary user
//! through a user namespace.
#![allow(dead_code, reason = "the tests and each benchmark use their part")]

pub mod redis;
pub mod sniffer;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The VIP of most tests, and as [`Host::has`] takes it.
pub const V4: &str = "192.168.56.250";
pub const V4_BOUND: &str = "192.168.56.250/32@eth1";
/// The same in IPv6.
pub const V6: &str = "fd00::250";
pub const V6_BOUND: &str = "fd00::250/64@eth1";

/// A configuration with the IPv4 VIP.
pub const ONLY_V4: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
/// A configuration with both VIPs.
pub const BOTH: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Makes a lab with server1, server2 and a client that looks on, and this configuration.
pub fn guides_lab(config: &str) -> Lab {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    lab.config(config);
    lab
}

/// The executable under test.
pub fn executable() -> PathBuf {
    std::env::var_os("VIPSWITCH_TEST_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_vipswitch").into(), PathBuf::from)
}

/// How long anything may take before a test gives up on it: much longer than it ever takes, also on a
/// machine that has ten times too much to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How long Sentinel lets its script run: whatever hangs, a run has to end in less.
pub const SENTINELS_PATIENCE: Duration = Duration::from_secs(60);

/// What the pid 1 of a lab does: /run, /var/lib and /dev become its own, so that `ip netns` and syslog
/// are; then it waits for the test to end.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/dev
mount -t tmpfs -o mode=755 tmpfs /var/lib
for device in null zero full random urandom tty; do
    touch /run/dev/$device
    mount --bind /dev/$device /run/dev/$device
done
mkdir /run/dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
ln -s "$1/log" /run/dev/log
ln -s /proc/self/fd /run/dev/fd
mount --rbind /run/dev /dev
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/resolv.conf" "$(readlink -f /etc/resolv.conf)"
ip link set lo up
ip link add br0 type bridge mcast_snooping 0
ip link set br0 up
echo ready
# Not by exec: the shell, as pid 1, reaps what others leave behind.
cat >/dev/null
exit 0
"#;

/// A private world of hosts.
pub struct Lab {
    init: Child,
    stdin: Option<ChildStdin>,
    dir: TempDir,
    log: Arc<Mutex<Vec<String>>>,
}

impl Lab {
    /// Makes an empty one.
    pub fn new() -> Lab {
        let dir = tempfile::Builder::new()
            .prefix("vipswitch-test-")
            .tempdir()
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        // Nobody listens there, so that asking fails at once.
        fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let log = listen_to_syslog(&dir.path().join("log"));
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let mut init = unshare
            .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "--"])
            .args(["sh", "-c", INIT, "init"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests need util-linux's unshare");
        let mut first = String::new();
        let stdout = init.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut first).unwrap();
        assert_eq!(
            first, "ready\n",
            "cannot make namespaces: run as root, or as a user who may make user namespaces"
        );
        let stdin = init.stdin.take();
        Lab {
            init,
            stdin,
            dir,
            log,
        }
    }

    /// Makes a lab of hosts with `eth1` on one bridge, at 192.168.56.101 and fd00::101, then
    /// .102 and so on.
    pub fn with_hosts<const N: usize>(names: [&str; N]) -> Lab {
        let lab = Lab::new();
        for (number, name) in (101..).zip(names) {
            lab.add_host(name);
            lab.plug_in(name, "eth1");
            let host = lab.host(name);
            host.ip(&format!("addr add 192.168.56.{number}/24 dev eth1"));
            host.ip(&format!("addr add fd00::{number}/64 dev eth1 nodad"));
        }
        lab.wait_until_bridged(&names.map(|name| port(name, "eth1")));
        lab
    }

    /// Adds a host that is connected to nothing.
    pub fn add_host(&self, name: &str) {
        self.run("ip", ["netns", "add", name]);
        self.host(name).ip("link set lo up");
    }

    /// Gives a host an interface on the bridge.
    pub fn wire(&self, host: &str, interface: &str) {
        self.plug_in(host, interface);
        self.wait_until_bridged(&[port(host, interface)]);
    }

    /// Waits until these ports of the bridge forward: on a busy machine that takes seconds after they came up, and what comes
    /// in before that is lost.
    fn wait_until_bridged(&self, ports: &[String]) {
        eventually("the bridge forwards", || {
            let all = self.run("ip", ["-json", "-details", "link", "show", "master", "br0"]);
            let all: Vec<Value> = serde_json::from_str(&all).unwrap();
            let forwards = |one: &&Value| {
                let state = &one["linkinfo"]["info_slave_data"]["state"];
                state == "forwarding" && ports.iter().any(|port| one["ifname"] == **port)
            };
            all.iter().filter(forwards).count() == ports.len()
        });
    }

    fn plug_in(&self, host: &str, interface: &str) {
        let port = port(host, interface);
        self.run(
            "ip",
            [
                "link", "add", &port, "type", "veth", "peer", "name", interface, "netns", host,
            ],
        );
        self.run("ip", ["link", "set", &port, "master", "br0", "up"]);
        self.host(host).ip(&format!("link set {interface} up"));
    }

    /// Returns a host, to act and look there.
    pub fn host<'a>(&'a self, name: &str) -> Host<'a> {
        Host {
            lab: self,
            name: name.to_owned(),
        }
    }

    /// Returns the folder for the test's files, which only their owner can read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into [`Lab::dir`] and returns its path.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the configuration that every vipswitch in this lab reads.
    pub fn config(&self, text: &str) -> PathBuf {
        self.file("vipswitch.toml", text)
    }

    /// Returns a path in [`Lab::dir`] where nothing is yet.
    pub fn unique(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        self.dir()
            .join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// Returns the lines that syslog has received so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Returns the lines of runs that syslog has received so far, without those of announcers.
    pub fn runs(&self) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| line.contains(" exit="))
            .collect()
    }

    /// Waits until syslog has received the lines of so many runs, and returns all of them.
    #[track_caller]
    pub fn log_of(&self, number: usize) -> Vec<String> {
        let enough = || Some(self.runs()).filter(|lines| lines.len() >= number);
        wait_for(PATIENCE, enough).unwrap_or_else(|| panic!("no {number} lines: {:#?}", self.log()))
    }

    /// Repeats Sentinel's call until Sentinel has answered it in time, which it may not on a busy
    /// machine, and returns its line.
    #[track_caller]
    pub fn heard(&self, mut call: impl FnMut() -> Finished) -> String {
        let calls = || {
            let lines = self.runs().into_iter();
            Vec::from_iter(lines.filter(|line| line.contains(" role=")))
        };
        let answered = || {
            let before = calls().len();
            call().success();
            let line = || calls().into_iter().nth(before);
            wait_for(PATIENCE, line).filter(|line| !is_late(line))
        };
        wait_for(PATIENCE, answered).expect("Sentinel answers in time")
    }

    /// Waits for a line in syslog that contains all `parts`, and returns it.
    pub fn logged(&self, parts: &[&str]) -> String {
        let find = || {
            self.log()
                .into_iter()
                .find(|line| parts.iter().all(|part| line.contains(part)))
        };
        wait_for(PATIENCE, find)
            .unwrap_or_else(|| panic!("no log line with {parts:?} in {:#?}", self.log()))
    }

    /// Returns a command that will run in the lab, on no host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let pid = self.init.id();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--mount", "--net"]);
        command.arg(format!("--pid=/proc/{pid}/ns/pid_for_children"));
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program.as_ref());
        let path = std::env::var("PATH").unwrap();
        command
            .env("VIPSWITCH_CONFIG", self.dir().join("vipswitch.toml"))
            .env("PATH", format!("{}/bin:{path}", self.dir().display()))
            .stdin(Stdio::null());
        command
    }

    /// Puts an executable file into the lab, which is found there before the machine's own of this name.
    pub fn program(&self, name: &str, text: &str) {
        let bin = self.dir().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a command to its end, which must be success, and returns what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command(program);
        command.args(args);
        finish(command).success()
    }
}

/// The bridge's end of the wire to a host's interface.
fn port(host: &str, interface: &str) -> String {
    format!("{host}-{interface}")
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.init.wait();
    }
}

/// One host of a lab.
pub struct Host<'a> {
    lab: &'a Lab,
    name: String,
}

impl Host<'_> {
    /// Returns a command that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.lab.command("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref())
            .env("VIPSWITCH_AGENT_SOCKET", self.agent_socket());
        let own = self.lab.dir().join(format!("{}.toml", self.name));
        if own.exists() {
            command.env("VIPSWITCH_CONFIG", own);
        }
        command
    }

    /// Writes a configuration that every vipswitch on this host alone reads: the hosts of a lab share all files.
    pub fn config(&self, text: &str) -> PathBuf {
        self.lab.file(&format!("{}.toml", self.name), text)
    }

    /// Returns where this host's agent listens: the hosts of a lab share /run.
    pub fn agent_socket(&self) -> String {
        format!("/run/vipswitch/{}.sock", self.name)
    }

    /// Runs a command to its end, which must be success, and returns what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command(program);
        command.args(args);
        finish(command).success()
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) -> String {
        self.run("ip", words.split(' '))
    }

    /// Runs the executable under test.
    pub fn vipswitch<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        let mut command = self.command(executable());
        command.args(args);
        finish(command)
    }

    /// Runs `vipswitch` with these words, which must exit 0, and returns its stdout.
    pub fn ok(&self, words: &str) -> String {
        self.vipswitch(words.split(' ')).success()
    }

    /// Returns the objects of `vipswitch status --json` that are about a VIP.
    pub fn status(&self) -> Vec<Value> {
        let text = self.ok("status --json");
        let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
        objects
            .filter(|object: &Value| object["vip"].is_string())
            .collect()
    }

    /// Makes Sentinel's call: `master` is now at `to`.
    pub fn hook(&self, master: &str, to: &str) -> Finished {
        self.vipswitch([
            master,
            "observer",
            "start",
            "192.168.56.109",
            "8000",
            to,
            "8000",
        ])
    }

    /// Returns `ip -j` with these words, parsed.
    pub fn json(&self, words: &str) -> Value {
        let text = self.run("ip", ["-j"].into_iter().chain(words.split(' ')));
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).expect(&text)
    }

    /// Returns the addresses of the host, as `ADDRESS/PREFIX@INTERFACE`, without the loopback's
    /// and the link-local ones.
    pub fn addresses(&self) -> Vec<String> {
        let mut all = Vec::new();
        for link in self.json("addr show").as_array().unwrap() {
            for address in link["addr_info"].as_array().unwrap() {
                if address["scope"] == "global" {
                    let text = |value: &Value| value.to_string().trim_matches('"').to_owned();
                    all.push(format!(
                        "{}/{}@{}",
                        text(&address["local"]),
                        text(&address["prefixlen"]),
                        text(&link["ifname"])
                    ));
                }
            }
        }
        all
    }

    /// Whether the host has this `ADDRESS/PREFIX@INTERFACE`.
    pub fn has(&self, address: &str) -> bool {
        self.addresses().iter().any(|one| one == address)
    }

    /// Returns the hardware address of an interface.
    pub fn mac(&self, interface: &str) -> String {
        self.json(&format!("link show {interface}"))[0]["address"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns the hardware address that this host knows for a neighbour.
    pub fn neighbour(&self, address: &str) -> Option<String> {
        let all = self.json("neigh show");
        let entry = all
            .as_array()?
            .iter()
            .find(|entry| entry["dst"] == address)?;
        entry["lladdr"].as_str().map(str::to_owned)
    }

    /// Returns the file with the host's network namespace, as a process in the lab sees it.
    pub fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

/// A command that has ended.
pub struct Finished {
    argv: Vec<OsString>,
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}\n{} after {:?}\nstdout: {}\nstderr: {}",
            self.argv, self.status, self.took, self.stdout, self.stderr
        )
    }
}

impl Finished {
    /// Returns the exit code; death by a signal is 128 and its number.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Returns stdout of a command that must have succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// Checks the exit code and that stderr contains all `parts`.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Finished {
        assert_eq!(self.code(), code, "{self}");
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} in stderr of {self}"
            );
        }
        self
    }
}

/// Runs a command to its end, within [`PATIENCE`].
#[track_caller]
pub fn finish(command: Command) -> Finished {
    finish_within(command, PATIENCE)
}

/// Runs a command to its end, within a deadline.
#[track_caller]
pub fn finish_within(mut command: Command, patience: Duration) -> Finished {
    let argv: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsString::from)
        .collect();
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = wait_for(patience, || child.try_wait().unwrap());
    let took = started.elapsed();
    if status.is_none() {
        let _ = child.kill();
    }
    let status = status.unwrap_or_else(|| panic!("{argv:?} did not end within {patience:?}"));
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    Finished {
        argv,
        status,
        stdout,
        stderr,
        took,
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of a process, within [`PATIENCE`], and returns how it ended.
#[track_caller]
pub fn end_of(child: &mut Child) -> ExitStatus {
    let ended = wait_for(PATIENCE, || child.try_wait().unwrap());
    if ended.is_none() {
        let _ = child.kill();
    }
    ended.unwrap_or_else(|| panic!("a process did not end within {PATIENCE:?}"))
}

/// Whether the line of a run says that Sentinel did not answer it in time.
pub fn is_late(line: &str) -> bool {
    line.contains("nothing within ") || line.contains("timed out")
}

/// Polls until there is something or the deadline has passed. A look that starts processes is taken less often: it has
/// the processor from what it waits for, and that of every other test.
pub fn wait_for<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let since = Instant::now();
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        let pause = 3 * since.elapsed();
        thread::sleep(pause.clamp(Duration::from_millis(2), Duration::from_millis(100))); // poll
    }
}

/// Polls until `look` is true; a deadline that passes fails the test with `what`.
#[track_caller]
pub fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    assert!(
        wait_for(PATIENCE, || look().then_some(())).is_some(),
        "not within {PATIENCE:?}: {what}"
    );
}

/// Starts a false Sentinel on a port of a host's loopback, or at an `ADDRESS:PORT`: `script`, in Perl, has
/// the connection as `$client`. It ends with the lab.
pub fn false_sentinel(host: &Host, port: &str, script: &str) {
    false_server(host.command("perl"), port, script);
}

/// The number of an ordinary user.
pub const STRANGER: u32 = 65534;

/// The same by an ordinary user. Who starts it has to be root.
pub fn strangers_server(host: &Host, at: &str, script: &str) {
    server_of(host, STRANGER, at, script);
}

/// The same by the user of this number.
pub fn server_of(host: &Host, user: u32, at: &str, script: &str) {
    false_server(by(host, user), at, script);
}

/// The same by an ordinary user whose server listens to nobody as soon as it has accepted a connection, for so many seconds;
/// and on the loopback interface alone.
pub fn fleeting_server(host: &Host, at: &str, (seconds, script): (&str, &str)) {
    let mut stranger = by(host, STRANGER);
    stranger.env("FLEETING", seconds);
    false_server(stranger, at, script);
}

fn by(host: &Host, user: u32) -> Command {
    let mut command = host.command("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}")]);
    command.args(["--clear-groups", "perl"]);
    command
}

#[expect(
    clippy::zombie_processes,
    reason = "it ends with the lab, whose first process reaps it"
)]
fn false_server(mut command: Command, port: &str, script: &str) {
    command.args(["-e", FALSE_SENTINEL, port, script]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
}

const FALSE_SENTINEL: &str = r#"
use IO::Socket::IP; use Socket;
my $at = $ARGV[0] =~ /:/ ? $ARGV[0] : "127.0.0.1:$ARGV[0]";
# SO_BINDTODEVICE: without naming that interface the kernel does not find such a socket.
my @more = $ENV{FLEETING} ? (Sockopts => [[Socket::SOL_SOCKET, 25, "lo"]]) : ();
sub listens { IO::Socket::IP->new(LocalHost => $at, Listen => 128, ReuseAddr => 1, @more) or die }
my $server = listens();
$| = 1; $SIG{PIPE} = $SIG{CHLD} = "IGNORE"; print "r";
my $unread = "";
# The next question from $client, as it was sent; several may come at once.
sub question {
    for (;;) {
        if ($unread =~ /^\*(\d+)\r\n/) {
            my $words = $1;
            return $1 if $unread =~ s/^(\*\d+\r\n(?:\$\d+\r\n[^\r]*\r\n){$words})//;
        }
        sysread $_[0], $unread, 4096, length $unread or return;
    }
}
while (my $client = $server->accept) {
    close $server if $ENV{FLEETING};
    if (fork) {
        close $client;
        if ($ENV{FLEETING}) { select undef, undef, undef, $ENV{FLEETING}; $server = listens(); }
        next;
    }
    $client->autoflush(1);
    eval $ARGV[1];
    exit;
}
"#;

/// What such a Sentinel has to do to answer every question with this address.
pub fn says_master_is(address: &str) -> String {
    format!(
        "sysread $client, my $question, 4096; print $client \"*2\\r\\n\\${}\\r\\n{address}\\r\\n\\$4\\r\\n8000\\r\\n\"; sysread $client, $question, 1",
        address.len()
    )
}

/// Somebody who has a name in a host's network namespace, such as a run's lock, until told to
/// release it.
pub struct NameHolder(Child);

impl NameHolder {
    /// Takes the name, as root.
    pub fn start(host: &Host, name: &str) -> NameHolder {
        NameHolder::start_by(host.command("perl"), name)
    }

    /// Takes the name by a command that starts perl. With `SILENT` in its environment nobody can
    /// connect to it.
    pub fn start_by(mut perl: Command, name: &str) -> NameHolder {
        let script = r#"
use Socket;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die $!;
bind($s, pack_sockaddr_un("\0vipswitch/$ARGV[0]")) or die $!;
$ENV{SILENT} or listen($s, 99) or die $!;
$| = 1; print "held"; <STDIN>;
"#;
        perl.args(["-e", script, name]);
        perl.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = perl.spawn().unwrap();
        let mut held = [0; 4];
        let stdout = child.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut held).unwrap();
        NameHolder(child)
    }

    /// Gives the name back.
    pub fn release(mut self) {
        drop(self.0.stdin.take());
        let ended = wait_for(PATIENCE, || self.0.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

/// Perl that adds an IPv4 address with vipswitch's mark to an interface: `ADDRESS PREFIX-LENGTH INTERFACE`. The
/// `ip` of Debian 12 knows of no marks.
pub const ADD_MARKED: &str = r#"
use Socket;
my ($address, $length, $interface) = @ARGV;
my ($index) = qx(ip -o link show $interface) =~ /^(\d+)/;
my $ip = inet_aton($address);
my $body = pack("CCCCL", 2, $length, 0, 0, $index) . pack("SSa4SSa4SSCx3", 8, 1, $ip, 8, 2, $ip, 5, 11, 118);
socket(my $s, 16, 3, 0) or die $!;
send($s, pack("LSSLL", 16 + length $body, 20, 0x605, 1, 0) . $body, 0, pack("SSLL", 16, 0, 0, 0)) or die $!;
recv($s, my $answer, 999, 0) // die $!;
my $error = unpack("x16l", $answer) and die "cannot add it: $error";
"#;

/// Whether this process is root where it runs.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn listen_to_syslog(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(path).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::downgrade(&lines);
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Some(lines) = sink.upgrade() {
            if let Ok(length) = socket.recv(&mut buffer) {
                lines
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
    });
    lines
}
