//! Clients that come back the instant they are reset: none hangs, whoever of the two holders is first, and
//! whenever they come.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::sniffer::{Frame, Sniffer};
use crate::common::{
    Host, Lab, NameHolder, ONLY_V4, V4, eventually, executable, finish, guides_lab, wait_for,
};

const SIX: &str = "fd00::250";

/// How long a client that hangs would have to hang to be one: much longer than any takes to be told.
const HANGS: Duration = Duration::from_secs(60);

/// Half of the time that a run waits for its interface.
const LOCK_IS_WAITED_FOR: Duration = Duration::from_secs(5);

/// Starts a listener on port 8000 of every address that says which server it is to whoever connects, and
/// not a word more, as Redis to a subscriber. With `mapped` IPv4 clients come to an IPv6 socket.
fn serve(host: &Host, name: &str, mapped: bool) {
    let script = r#"
use Socket qw(:all);
my ($name, $mapped) = @ARGV;
socket(my $server, AF_INET6, SOCK_STREAM, 0) or die;
setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
setsockopt($server, IPPROTO_IPV6, IPV6_V6ONLY, pack("l", $mapped ? 0 : 1));
bind($server, pack_sockaddr_in6(8000, inet_pton(AF_INET6, "::"))) or die $!;
listen($server, 4096);
unless ($mapped) {
    socket(my $four, AF_INET, SOCK_STREAM, 0) or die;
    bind($four, pack_sockaddr_in(8000, INADDR_ANY)) or die $!;
    listen($four, 4096);
    if (fork) { $server = $four }
}
$| = 1; print "r"; $SIG{PIPE} = "IGNORE";
my @kept;
while (accept(my $client, $server)) { push @kept, $client; syswrite $client, "$name\n" }
"#;
    let mut command = host.command("sh");
    // As many files as it may have: each client is one, and stays one when it has been reset.
    command.args(["-c", "ulimit -n $(ulimit -H -n); exec perl -e \"$@\"", "sh"]);
    command.args([script, name, if mapped { "1" } else { "" }]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    // It ends with the lab, whose first process reaps it.
    std::mem::forget(child);
}

/// So many clients: each connects, asks, waits for its server's name, and then waits for ever. Reset or closed, it
/// comes back after so long. Says `again` when one was answered twice, `N` when each was answered N times, and `home`
/// when all are on server2.
const CLIENTS: &str = r#"
use Socket qw(:all); use Errno qw(EINPROGRESS); use Time::HiRes qw(time);
my ($address, $number, $pause, $question) = @ARGV;
my $six = $address =~ /:/;
my $to = $six ? pack_sockaddr_in6(8000, inet_pton(AF_INET6, $address)) : pack_sockaddr_in(8000, inet_aton($address));
my (@client, @answers, %due, %connecting, %on, $min); $min = 0; $| = 1; $SIG{PIPE} = "IGNORE";
my ($readable, $writable) = ("", "");
sub start {
    my $i = shift;
    socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die $!;
    $s->blocking(0);
    $client[fileno $s] = [$i, $s];
    connect($s, $to) || $!{EINPROGRESS} || die $!;
    vec($writable, fileno $s, 1) = 1;
}
sub again {
    my ($n) = @_;
    my $i = $client[$n][0];
    vec($readable, $n, 1) = 0; vec($writable, $n, 1) = 0;
    close $client[$n][1]; $client[$n] = undef; delete $on{$i};
    $pause ? ($due{$i} = time + $pause / 1000) : start($i);
}
use IO::Handle;
$answers[$_] = 0, start($_) for 0 .. $number - 1;
for (;;) {
    my $left = %due ? 0.001 : undef;
    select(my $r = $readable, my $w = $writable, undef, $left);
    for my $n (0 .. $#client) {
        my $c = $client[$n] or next;
        if (vec($w, $n, 1)) {
            vec($writable, $n, 1) = 0;
            if (unpack "i", getsockopt($c->[1], SOL_SOCKET, SO_ERROR)) { again($n); next }
            syswrite $c->[1], $question; vec($readable, $n, 1) = 1;
        } elsif (vec($r, $n, 1)) {
            my $said;
            unless (sysread $c->[1], $said, 4096) { again($n); next }
            if ($said =~ /server(\d)/) { print "again\n" if ++$answers[$c->[0]] == 2; $on{$c->[0]} = $1 }
        } else { next }
        my $now = 1e9;
        for (@answers) { $now = $_ if $_ < $now }
        print "$now\n" if $now > $min; $min = $now;
        print "home\n" if $number == grep { $_ == 2 } values %on;
    }
    for (keys %due) { if ($due{$_} <= time) { delete $due{$_}; start($_) } }
}
"#;

/// How many clients one process has.
const EACH: usize = 125;

/// Clients of a VIP.
struct Clients {
    number: usize,
    children: Vec<Child>,
    said: Vec<Arc<Mutex<Vec<String>>>>,
}

impl Clients {
    /// Starts them, and waits until each has been answered.
    fn start(host: &Host, address: &str, number: usize, pause: u32) -> Clients {
        Clients::asking(host, address, number, pause, "hello\n")
    }

    fn asking(host: &Host, address: &str, number: usize, pause: u32, question: &str) -> Clients {
        let (mut children, mut said) = (Vec::new(), Vec::new());
        for first in (0..number).step_by(EACH) {
            let some = EACH.min(number - first).to_string();
            let mut command = host.command("perl");
            command.args(["-e", CLIENTS, address, &some, &pause.to_string(), question]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let lines = Arc::new(Mutex::new(Vec::new()));
            let (stdout, sink) = (child.stdout.take().unwrap(), Arc::clone(&lines));
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    sink.lock().unwrap().push(line);
                }
            });
            children.push(child);
            said.push(lines);
        }
        let clients = Clients {
            number,
            children,
            said,
        };
        clients.wait_for_answers(1);
        clients
    }

    /// Waits until each has been answered so many times.
    #[track_caller]
    fn wait_for_answers(&self, number: usize) {
        let enough = |line: &String| line.parse().is_ok_and(|answers: usize| answers >= number);
        eventually("all clients are answered", || self.all_said(enough));
    }

    /// Waits until each has been answered a second time. Of thousands, some are not even reset while the run waits for
    /// its interface, if the machine is busy: these are told of the move all the same.
    #[track_caller]
    fn slip_in(&self) {
        let came_again = |number: usize| {
            let is_again = |line: &&String| *line == "again";
            let each = self
                .said
                .iter()
                .map(|said| said.lock().unwrap().iter().filter(is_again).count());
            each.sum::<usize>() >= number
        };
        eventually("clients are answered again", || {
            came_again(self.number.min(EACH))
        });
        let _ = wait_for(LOCK_IS_WAITED_FOR, || came_again(self.number).then_some(()));
    }

    /// Waits until all are at server2.
    #[track_caller]
    fn are_home(&self, since: Instant) {
        let home = |line: &String| line == "home";
        let all = wait_for(HANGS, || self.all_said(home).then_some(()));
        let missing = self
            .said
            .iter()
            .filter(|said| !said.lock().unwrap().iter().any(home));
        assert!(
            all.is_some(),
            "clients of {} of {} hang",
            missing.count(),
            self.said.len()
        );
        println!("all {} ms after the release", since.elapsed().as_millis());
    }

    fn all_said(&self, what: impl Fn(&String) -> bool) -> bool {
        self.said
            .iter()
            .all(|said| said.lock().unwrap().iter().any(&what))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn config(vip: &str) -> String {
    let prefix = if vip.contains(':') { 64 } else { 24 };
    format!("[masters.m]\nvip = \"{vip}/{prefix}\"\n")
}

/// Makes two servers that serve, the first of which has the VIP.
fn lab(vip: &str, mapped: bool) -> Lab {
    let lab = guides_lab(&config(vip));
    serve(&lab.host("server1"), "server1", mapped);
    serve(&lab.host("server2"), "server2", mapped);
    lab.host("server1").ok("bind");
    lab
}

/// A release on server1 that all clients of one address have slipped into: they have come back, and the address
/// is still there.
struct Slipped<'a> {
    lock: NameHolder,
    run: Child,
    server: Host<'a>,
}

impl<'a> Slipped<'a> {
    fn begin(lab: &'a Lab, clients: &Clients) -> Slipped<'a> {
        let server = lab.host("server1");
        let index = server.json("link show eth1")[0]["ifindex"].to_string();
        // The removal waits for the interface.
        let lock = NameHolder::start(&server, &format!("interface/{index}"));
        let mut command = server.command(executable());
        let run = command.arg("unbind").stdout(Stdio::null()).spawn().unwrap();
        clients.slip_in();
        Slipped { lock, run, server }
    }

    /// Lets the address go, and returns when.
    fn end(mut self, vip: &str) -> Instant {
        self.lock.release();
        let ended = wait_for(HANGS, || self.run.try_wait().unwrap());
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        let holds = self
            .server
            .addresses()
            .iter()
            .any(|one| one.starts_with(vip));
        assert!(!holds, "the VIP is still here");
        Instant::now()
    }
}

/// Waits as long as Sentinel takes to call the hook on the next host: until then nobody has the VIP, and what clients are
/// told meanwhile leads nowhere. There is no state to wait for.
fn the_new_holder_is_later() {
    thread::sleep(Duration::from_millis(60));
}

/// All clients have slipped in; server2 takes over 60 ms after the release.
fn all_slip_in(vip: &str, number: usize, pause: u32, mapped: bool) {
    let lab = lab(vip, mapped);
    let clients = Clients::start(&lab.host("client"), vip, number, pause);
    let since = Slipped::begin(&lab, &clients).end(vip);
    the_new_holder_is_later();
    lab.host("server2").ok("bind");
    clients.are_home(since);
}

#[test]
fn one_client_that_slips_in_is_told() {
    for vip in [V4, SIX] {
        all_slip_in(vip, 1, 0, false);
    }
}

#[test]
fn fifty_clients_that_slip_in_are_told_however_late_they_come() {
    for (vip, pause) in [(V4, 0), (SIX, 1), (V4, 10), (SIX, 50)] {
        all_slip_in(vip, 50, pause, false);
    }
}

#[test]
fn ipv4_clients_of_an_ipv6_socket_are_told() {
    all_slip_in(V4, 50, 0, true);
}

#[test]
fn five_thousand_clients_that_slip_in_are_told() {
    all_slip_in(V4, 5000, 10, false);
}

#[test]
fn where_the_new_holder_is_there_already_clients_that_slip_in_are_told_at_once() {
    for vip in [V4, SIX] {
        let lab = lab(vip, false);
        let clients = Clients::start(&lab.host("client"), vip, 50, 0);
        let slipped = Slipped::begin(&lab, &clients);
        lab.host("server2").ok("bind");
        clients.are_home(slipped.end(vip));
    }
}

#[test]
fn a_release_that_nothing_holds_up_leaves_no_client_behind() {
    for vip in [V4, SIX] {
        for is_release_first in [true, false] {
            for pause in [0, 1, 10, 50] {
                let lab = lab(vip, false);
                let clients = Clients::start(&lab.host("client"), vip, 50, pause);
                let since = Instant::now();
                match is_release_first {
                    true => {
                        lab.host("server1").hook("m", "192.168.56.102").success();
                        the_new_holder_is_later();
                        lab.host("server2").hook("m", "192.168.56.102").success();
                    }
                    false => {
                        lab.host("server2").hook("m", "192.168.56.102").success();
                        lab.host("server1").hook("m", "192.168.56.102").success();
                    }
                }
                clients.are_home(since);
            }
        }
    }
}

#[test]
fn a_client_that_slips_in_while_the_vip_comes_back_is_not_disturbed() {
    // The removal is done by hand, and the run that finds what it has left ends before the VIP is back.
    let lab = lab(V4, false);
    let server = lab.host("server1");
    let clients = Clients::start(&lab.host("client"), V4, 5, 0);
    server.ip("addr del 192.168.56.250/32 dev eth1");
    server.ok("unbind");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    let line = || lab.log().into_iter().find(|line| line.contains("told "));
    eventually("the process that the run has left has ended", || {
        let look = "pgrep -f '[t]ickler' || true";
        lab.run("sh", ["-c", look]).is_empty()
    });
    assert_eq!(line(), None);
    assert!(clients.all_said(|_| true));
    assert!(!clients.all_said(|line| line == "2"));
}

#[test]
fn what_a_run_has_left_that_was_killed_after_the_removal_is_told_by_the_next() {
    for (vip, prefix) in [(V4, 32), (SIX, 64)] {
        let lab = lab(vip, false);
        let server = lab.host("server1");
        let clients = Clients::start(&lab.host("client"), vip, 50, 0);
        server.ip(&format!("addr del {vip}/{prefix} dev eth1"));
        lab.host("server2").ok("bind");
        let since = Instant::now();
        server.hook("m", "192.168.56.102").success();
        clients.are_home(since);
        let line = lab.logged(&["told 50 clients that", "has it now", " clients=50 "]);
        assert!(line.contains("master=m"), "{line}");
    }
}

#[test]
fn a_new_holder_that_comes_late_still_resets_the_clients() {
    let lab = lab(V4, false);
    let clients = Clients::start(&lab.host("client"), V4, 50, 0);
    let since = Slipped::begin(&lab, &clients).end(V4);
    // The time is what this is about: some of the rounds in which clients are told go nowhere.
    thread::sleep(Duration::from_secs(3));
    lab.host("server2").ok("bind");
    clients.are_home(since);
}

#[test]
fn a_new_holder_that_the_old_one_does_not_hear_still_resets_the_clients() {
    let lab = lab(V4, false);
    let (server, client) = (lab.host("server2"), lab.host("client"));
    let clients = Clients::start(&client, V4, 50, 0);
    let since = Slipped::begin(&lab, &clients).end(V4);
    server.ip("addr add 192.168.56.250/24 dev eth1");
    let mac = server.mac("eth1");
    client.ip(&format!("neigh replace {V4} lladdr {mac} dev eth1"));
    clients.are_home(since);
}

#[test]
fn clients_behind_a_router_are_told() {
    for vip in [V4, SIX] {
        let lab = lab(vip, false);
        lab.add_host("router");
        lab.add_host("far");
        lab.wire("router", "eth1");
        lab.run(
            "ip",
            "link add far0 type veth peer name eth0 netns far".split(' '),
        );
        lab.run("ip", "link set far0 netns router name eth0".split(' '));
        let (router, far) = (lab.host("router"), lab.host("far"));
        for (host, address) in [(&router, "10.8.0.1/24"), (&far, "10.8.0.2/24")] {
            host.ip(&format!("addr add {address} dev eth0"));
            let six = address.replace("10.8.0.", "fd08::").replace("/24", "/64");
            host.ip(&format!("addr add {six} dev eth0 nodad"));
            host.ip("link set eth0 up");
        }
        router.ip("addr add 192.168.56.1/24 dev eth1");
        router.ip("addr add fd00::1/64 dev eth1 nodad");
        router.run("sh", ["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
        far.ip("route add default via 10.8.0.1");
        far.ip("-6 route add default via fd08::1");
        for server in ["server1", "server2"] {
            lab.host(server).ip("route add default via 192.168.56.1");
            lab.host(server).ip("-6 route add default via fd00::1");
        }
        let clients = Clients::start(&far, vip, 50, 0);
        let since = Slipped::begin(&lab, &clients).end(vip);
        lab.host("server2").ok("bind");
        clients.are_home(since);
    }
}

#[test]
fn ipv4_clients_of_a_subnet_in_which_the_host_had_only_the_vip_are_told() {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    lab.config("[masters.m]\nvip = \"10.7.7.250/24\"\ninterface = \"eth1\"\n");
    for server in ["server1", "server2"] {
        serve(&lab.host(server), server, false);
    }
    lab.host("client").ip("addr add 10.7.7.9/24 dev eth1");
    lab.host("server1").ok("bind");
    let clients = Clients::start(&lab.host("client"), "10.7.7.250", 50, 0);
    let since = Slipped::begin(&lab, &clients).end("10.7.7.250");
    lab.host("server2").ok("bind");
    clients.are_home(since);
}

#[test]
fn a_host_that_takes_over_again_resets_the_clients_that_slipped_in() {
    for vip in [V4, SIX] {
        let lab = lab(vip, false);
        let clients = Clients::start(&lab.host("client"), vip, 50, 0);
        Slipped::begin(&lab, &clients).end(vip);
        // Their sockets are destroyed after half a second.
        let source = if vip == SIX {
            format!("[{vip}]")
        } else {
            vip.to_owned()
        };
        let server = lab.host("server1");
        let sockets = || server.run("ss", ["-Hnt", "src", &source]);
        eventually("the sockets are gone", || sockets().is_empty());
        server.ok("bind");
        clients.wait_for_answers(3);
    }
}

#[test]
fn a_release_without_such_clients_sends_nothing_and_leaves_no_process() {
    let lab = lab(V4, false);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let trace = lab.unique("trace");
    let mut strace = server.command("strace");
    strace.args(["-f", "-qq", "-e", "trace=execve", "-o"]);
    strace.arg(&trace).arg(executable()).args(["unbind", "-q"]);
    finish(strace).success();
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(
        trace.contains("unbind") && !trace.contains("tickler"),
        "{trace}"
    );
    let from_the_vip = [192, 168, 56, 250];
    let is_tickle =
        |frame: &Frame| frame.bytes[12..14] == [8, 0] && frame.bytes[26..30] == from_the_vip;
    assert!(!sniffer.frames().iter().any(is_tickle));
}

/// Runs the executable under strace, and returns how many bytes it received, and how often it asked for a
/// list of sockets.
fn received(lab: &Lab, host: &Host, words: &[&str]) -> (usize, usize) {
    let trace = lab.unique("trace");
    let mut strace = host.command("strace");
    strace.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-e",
        "trace=recvfrom,recvmsg,sendto",
        "-o",
    ]);
    strace.arg(&trace).arg(executable()).args(words);
    finish(strace).success();
    let trace = std::fs::read_to_string(trace).unwrap();
    let result = |line: &str| line.rsplit_once(" = ")?.1.parse::<usize>().ok();
    let bytes = trace
        .lines()
        .filter(|line| line.contains("recv"))
        .filter_map(result);
    // strace does not know the first message of a socket by name.
    let is_of = |line: &str, words: [&str; 2]| words.iter().any(|word| line.contains(word));
    let is_list = |line: &&str| {
        is_of(line, ["type=SOCK_DIAG_BY_FAMILY", "type=0x14 "])
            && is_of(line, ["NLM_F_DUMP", "|0x300"])
    };
    let lists = trace.lines().filter(|line| line.contains("sendto"));
    let lists = lists.filter(is_list);
    (bytes.sum(), lists.count())
}

#[test]
fn of_a_hosts_sockets_only_those_of_the_vips_are_listed() {
    let lab = lab(V4, false);
    let server = lab.host("server1");
    let (alone, _) = received(&lab, &server, &["unbind"]);
    let clients = Clients::start(&lab.host("client"), "192.168.56.101", 1000, 0);
    // A socket takes some hundred bytes of a list.
    let (away, lists) = received(&lab, &server, &["unbind"]);
    assert!(
        away < alone + 20_000 && lists == 2,
        "{alone}, {away}, {lists}"
    );
    server.ok("bind");
    let (here, _) = received(&lab, &server, &["unbind"]);
    assert!(here < alone + 20_000, "{alone}, {here}");
    // Each list takes the kernel as long as it has sockets.
    let many = (1..=60).map(|one| format!("[masters.m{one}]\nvip = \"192.168.57.{one}/24\"\n"));
    lab.config(&many.collect::<String>());
    let (_, lists) = received(&lab, &server, &["unbind", "--all"]);
    assert_eq!(lists, 2);
    assert!(
        !clients.all_said(|line| line == "2"),
        "one of another address was reset"
    );
}

#[test]
fn subscribers_of_a_real_redis_are_told() {
    let lab = guides_lab(ONLY_V4);
    for name in ["server1", "server2"] {
        let host = lab.host(name);
        let mut redis = host.command("redis-server");
        redis.args([
            "--port",
            "8000",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
        ]);
        redis.arg(lab.dir()).stdout(Stdio::null());
        // It ends with the lab.
        std::mem::forget(redis.spawn().expect("tests need redis-server"));
        let cli = |words: &[&str]| {
            let mut command = host.command("redis-cli");
            finish({
                command.args(["-p", "8000"]).args(words);
                command
            })
        };
        eventually("Redis answers", || {
            cli(&["set", "who", name]).stdout.contains("OK")
        });
    }
    lab.host("server1").ok("bind");
    let question = "GET who\r\nSUBSCRIBE news\r\n";
    let clients = Clients::asking(&lab.host("client"), V4, 200, 0, question);
    let since = Slipped::begin(&lab, &clients).end(V4);
    the_new_holder_is_later();
    lab.host("server2").hook("m", "192.168.56.102").success();
    clients.are_home(since);
    let mut count = lab.host("server2").command("redis-cli");
    count.args(["-p", "8000", "pubsub", "numsub", "news"]);
    assert!(finish(count).stdout.contains("200"), "all subscribe again");
}
