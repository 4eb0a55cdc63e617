//! Faults and deaths at each system call of a take-over and of a release: whatever happens to one
//! run, the next one that nothing disturbs brings the right state, and nothing is left over.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{
    ADD_MARKED, Finished, Host, Lab, executable, false_sentinel, finish, finish_within,
    says_master_is,
};

const CONFIG: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n\
                      [sentinel]\naddress = \"127.0.0.1:6800\"\n";

/// Sentinel gives up a script after 60 s, and its next try is 30 s away.
const LONGEST_RUN: Duration = Duration::from_secs(50);

/// What may fail on the way to the network, the kernel and the files, and how.
const FAULTS: [(&str, &[&str]); 20] = [
    (
        "sendto",
        &["ENOBUFS", "EBUSY", "EINTR", "ENETDOWN", "EAGAIN", "ENOMEM"],
    ),
    ("recvfrom", &["ENOBUFS", "EINTR", "EAGAIN", "ENOMEM", "EIO"]),
    ("sendmsg", &["ENOBUFS", "EINTR"]),
    ("recvmsg", &["ENOBUFS", "EINTR"]),
    ("socket", &["ENOBUFS", "EMFILE", "ENOMEM"]),
    ("bind", &["ENOBUFS", "EBUSY", "ENETDOWN"]),
    ("connect", &["ECONNREFUSED", "ENETDOWN", "EAGAIN"]),
    ("getsockname", &["ENOBUFS"]),
    ("setsockopt", &["ENOMEM"]),
    ("getsockopt", &["ENOBUFS"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM"]),
    ("epoll_wait", &["EINTR"]),
    ("eventfd2", &["EMFILE"]),
    ("openat", &["EMFILE", "ENOMEM", "EIO", "EINTR"]),
    ("fcntl", &["EMFILE"]),
    ("flock", &["EAGAIN", "EINTR", "ENOMEM"]),
    ("read", &["EINTR", "EIO"]),
    ("clone3", &["EAGAIN"]),
    ("write", &["EAGAIN"]),
];

/// Calls that change nothing but the process: a death there is one before the next other call.
const OF_THE_PROCESS: [&str; 10] = [
    "brk",
    "execve",
    "futex",
    "getrandom",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "rt_sigprocmask",
    "sigaltstack",
];

/// What a host looks like: what decides over the addresses that depend on a primary one, the
/// addresses, and whether the lock is held.
const LOOK: &str = "cat /proc/sys/net/ipv4/conf/eth1/promote_secondaries
ip -o -4 address show; ip -o -6 address show scope global
grep -q @vipswitch/vip/ /proc/net/unix && echo locked || echo unlocked";

/// What a run takes for its lock.
const LOCK: &str = "@\"vipswitch/vip/";

/// How a host is put into the state before a call. The route to an IPv6 address comes some time
/// after it.
const PREPARE: &str = "
echo 0 >/proc/sys/net/ipv4/conf/eth1/promote_secondaries
ip -4 address flush dev eth1
ip -6 address del fd00::250/64 dev eth1 2>/dev/null
with_vips() {
    ip address add fd00::250/64 dev eth1 nodad
    perl -e \"$ADD_MARKED\" 192.168.56.250 24 eth1
    ip address add 192.168.56.101/24 dev eth1
    until ip -6 route get fd00::250 | grep -q local; do :; done
    perl -e \"$CLIENTS\" 192.168.56.250 fd00::250
}
";

/// Neither VIP is here.
const WITHOUT: &str = "ip address add 192.168.56.101/24 dev eth1";

/// Both are here, each with a client. The IPv4 one is the primary address: the host's own one
/// depends on it. It bears the mark: without it nothing would tell it from the host's own.
const WITH: &str = "with_vips";

/// Connects each address to itself, and ends with the last connection.
const CLIENTS: &str = r#"
use IO::Socket::IP;
my @ends;
for my $vip (@ARGV) {
    my $server = IO::Socket::IP->new(LocalHost => $vip, Listen => 1, V6Only => 1) or die $!;
    my $client = IO::Socket::IP->new(PeerHost => $vip, PeerPort => $server->sockport) or die $!;
    push @ends, $client, scalar $server->accept;
}
exit if fork;
close STDOUT; close STDERR;
sysread $_, my $byte, 1 for @ends;
"#;

/// A call on a host, the state before it, and the state that it has to bring.
struct Case {
    lab: Lab,
    prepare: &'static str,
    arguments: [&'static str; 7],
    right: String,
    calls: BTreeMap<String, Times>,
}

impl Case {
    fn take_over() -> Case {
        Case::new(WITHOUT, "192.168.56.101")
    }

    fn release() -> Case {
        Case::new(WITH, "192.168.56.102")
    }

    fn new(prepare: &'static str, to: &'static str) -> Case {
        let lab = Lab::with_hosts(["server1", "server2"]);
        lab.config(CONFIG);
        false_sentinel(&lab.host("server1"), "6800", &says_master_is(to));
        let mut case = Case {
            lab,
            prepare,
            arguments: ["m", "leader", "start", "", "8000", to, "8000"],
            right: String::new(),
            calls: BTreeMap::new(),
        };
        let run = case.disturbed(&[]);
        assert_eq!(run.finished.code(), 0, "{run}");
        case.calls = run.calls();
        assert!(case.calls.contains_key("sendto"), "{run}");
        case.right = case.look();
        let here = prepare == WITHOUT;
        for vip in ["192.168.56.250/", "fd00::250/64"] {
            assert_eq!(case.right.contains(vip), here, "{}", case.right);
        }
        case
    }

    fn host(&self) -> Host<'_> {
        self.lab.host("server1")
    }

    fn look(&self) -> String {
        self.host().run("sh", ["-c", LOOK])
    }

    /// Prepares the host and runs the call under strace with these words.
    fn disturbed(&self, words: &[&str]) -> Run {
        let host = self.host();
        let mut prepare = host.command("sh");
        let script = format!("{PREPARE}{}", self.prepare);
        prepare
            .args(["-c", &script])
            .env("CLIENTS", CLIENTS)
            .env("ADD_MARKED", ADD_MARKED);
        finish(prepare).success();
        let trace = self.lab.unique("trace");
        let mut command = host.command("strace");
        // What the run leaves behind on purpose, another process, is not disturbed.
        command.args(["-f", "-b", "execve", "-qq", "-o"]);
        command.arg(&trace).args(words);
        command.arg(executable()).args(self.arguments);
        Run {
            finished: finish_within(command, LONGEST_RUN),
            trace,
        }
    }

    /// Returns what is wrong with what a disturbed run has left, or with what one that nothing
    /// disturbs made of it.
    fn wrong(&self, disturbed: &Run) -> Option<String> {
        let script = format!("{LOOK}\necho ---\n\"$@\"\necho exit $?\n{LOOK}");
        let mut mend = self.host().command("sh");
        mend.args(["-c", &script, "mend"]).arg(executable());
        mend.args(self.arguments);
        let mended = finish(mend);
        let (left, after) = mended.stdout.split_once("---\n").expect(&mended.stdout);
        let why = if !left.ends_with("unlocked\n") {
            "the lock is held"
        } else if disturbed.finished.code() == 0 && left != self.right {
            "exit 0, and the state is wrong"
        } else if after.strip_prefix("exit 0\n") != Some(&self.right) {
            "the next run does not mend it"
        } else {
            return None;
        };
        let right = &self.right;
        Some(format!(
            "{why}: {disturbed}\nthen {mended}\nright:\n{right}"
        ))
    }

    /// Lets each of these calls that is in the table fail, wherever it is made.
    fn check_faults(&self, which: fn(&str) -> bool, least: usize) {
        let (mut injected, mut wrong) = (0, Vec::new());
        for (call, errors) in FAULTS.into_iter().filter(|(call, _)| which(call)) {
            let number = self.calls.get(call).map_or(0, |times| times.all);
            for nth in 1..=number {
                for error in errors_of(call, errors, nth) {
                    let run =
                        self.disturbed(&["-e", &format!("inject={call}:error={error}:when={nth}")]);
                    injected += usize::from(run.trace().contains("(INJECTED)"));
                    // Between fork and exec std reads from its own child, which cannot fail like this.
                    let is_stds = run.finished.stderr.contains("the CLOEXEC pipe failed");
                    if !matches!(run.finished.code(), 0..=2) && !is_stds {
                        wrong.push(format!("neither 0, 1 nor 2: {run}"));
                    }
                    wrong.extend(self.wrong(&run));
                }
            }
        }
        println!("{injected} faults");
        assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n\n"));
        assert!(
            injected >= least,
            "only {injected} faults in {:?}",
            self.calls
        );
    }

    /// Lets a run die at each of these of its system calls, in turn by SIGKILL and SIGTERM.
    fn check_deaths(&self, which: fn(&str) -> bool, least: usize) {
        let (mut deaths, mut wrong) = (0, Vec::new());
        let calls = self.calls.iter().filter(|(call, _)| which(call));
        for (call, &Times { early, all }) in calls {
            // Before the lock nothing can be left over: one of each kind is enough there. After it
            // every other one is, but of those that change something.
            let step = if matters(call) { 1 } else { 2 };
            for nth in (early.max(1)..=all).step_by(step) {
                for &(signal, number) in signals(call, nth) {
                    let fault = format!("inject={call}:signal={signal}:when={nth}");
                    let run = self.disturbed(&["-e", &fault]);
                    let code = run.finished.code();
                    // How often it waits is not the same each time.
                    if code != 0 && code != 128 + number {
                        wrong.push(format!("exit {code}: {run}"));
                    }
                    deaths += usize::from(code != 0);
                    wrong.extend(self.wrong(&run));
                }
            }
        }
        println!("{deaths} deaths");
        assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n\n"));
        assert!(deaths >= least, "only {deaths} deaths in {:?}", self.calls);
    }
}

/// How often a run makes a system call, in one thread at most.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// Before it opens the lock.
    early: usize,
    all: usize,
}

/// A run under strace.
struct Run {
    finished: Finished,
    trace: PathBuf,
}

impl Run {
    fn trace(&self) -> String {
        fs::read_to_string(&self.trace).unwrap_or_default()
    }

    fn calls(&self) -> BTreeMap<String, Times> {
        let trace = self.trace();
        let mut calls: BTreeMap<String, Times> = BTreeMap::new();
        let mut by_thread: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut early = true;
        for line in trace.lines() {
            early &= !line.contains(LOCK);
            let (thread, rest) = line.split_once(' ').unwrap();
            let Some((call, _)) = rest.trim_start().split_once('(') else {
                continue;
            };
            // The second half of a call, or a signal.
            if call.contains(['<', '-', ' ']) || OF_THE_PROCESS.contains(&call) {
                continue;
            }
            let number = by_thread.entry((thread, call)).or_default();
            *number += 1;
            let times = calls.entry(call.to_owned()).or_default();
            times.all = times.all.max(*number);
            times.early += usize::from(early);
        }
        assert!(!early, "{self}");
        calls
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.trace();
        let lines = Vec::from_iter(trace.lines().map(|line| line.get(..200).unwrap_or(line)));
        let end = lines[lines.len().saturating_sub(12)..].join("\n");
        write!(f, "{}\nend of its trace:\n{end}", self.finished)
    }
}

/// Returns which of a call's errors its nth one meets: the next one, where all depends on the call
/// the next two.
fn errors_of<'a>(call: &str, errors: &'a [&'a str], nth: usize) -> impl Iterator<Item = &'a str> {
    let number = if matters(call) { 2 } else { 1 };
    let next = errors.iter().copied().cycle().skip(nth - 1);
    next.take(number.min(errors.len()))
}

/// Returns by which signals a run dies at the nth one of a call.
fn signals(call: &str, nth: usize) -> &'static [(&'static str, i32)] {
    const BOTH: &[(&str, i32)] = &[("KILL", 9), ("TERM", 15)];
    match nth / 2 % 2 {
        _ if matters(call) => BOTH,
        0 => &BOTH[..1],
        _ => &BOTH[1..],
    }
}

/// Whether the call is the one by which a run changes the kernel's state.
fn matters(call: &str) -> bool {
    call == "sendto"
}

#[test]
fn a_fault_in_a_take_over_is_mended() {
    Case::take_over().check_faults(|_| true, 60);
}

#[test]
fn a_fault_in_a_release_is_mended() {
    Case::release().check_faults(|_| true, 100);
}

#[test]
fn a_take_over_that_dies_is_mended_by_the_next_run() {
    Case::take_over().check_deaths(|_| true, 40);
}

#[test]
fn a_release_that_dies_is_mended_by_the_next_run() {
    Case::release().check_deaths(|_| true, 60);
}
