//! The refusal: what clients of a VIP meet that is nowhere, until another host has it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use vipswitch::deeds::refuse::{End, Job, Refusal, Refused};

use crate::common::sniffer::Sniffer;
use crate::common::{BOTH, Host, Lab, PATIENCE, V4, V6, eventually, guides_lab};
use crate::redis_client::block_on;

/// Says to the child which VIPs it refuses, and for how long.
const VIPS: &str = "VIPSWITCH_TEST_REFUSE";
const LASTS: &str = "VIPSWITCH_TEST_REFUSE_FOR";

/// A process on a host that refuses the clients of some VIPs, each on eth1.
struct Refuser {
    child: Child,
    lines: Receiver<String>,
}

/// Longer than a test takes on a busy machine.
const LONGER: Duration = Duration::from_mins(10);

impl Refuser {
    /// Starts it. It has opened all when this returns.
    fn start(host: &Host, vips: &[&str]) -> Refuser {
        Refuser::lasting(host, vips, LONGER)
    }

    fn lasting(host: &Host, vips: &[&str], life: Duration) -> Refuser {
        let mut command = host.command(std::env::current_exe().unwrap());
        command.args(["refuse::child", "--exact", "--ignored", "--nocapture"]);
        command.env(VIPS, vips.join(","));
        command.env(LASTS, life.as_millis().to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once("refuse: ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        let refuser = Refuser { child, lines };
        for _ in vips {
            assert_eq!(refuser.line(), "open");
        }
        refuser
    }

    #[track_caller]
    fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.expect("the refuser says something")
    }

    /// Stops it, where it runs.
    fn stop(&self, host: &Host) {
        let pid = host.run("pgrep", ["-f", "[r]efuse::child"]);
        host.run("kill", ["-STOP", pid.trim()]);
    }

    /// Lets it go on. Outside of the lab an nsenter has stopped with it, and takes it along.
    fn go_on(&self, host: &Host) {
        let pid = host.run("pgrep", ["-f", "[r]efuse::child"]);
        host.run("kill", ["-CONT", pid.trim()]);
        let nsenter = self.child.id().to_string();
        let _ = Command::new("kill").args(["-CONT", &nsenter]).status();
    }

    /// Waits until one VIP's part has ended, and returns how.
    #[track_caller]
    fn end(&self) -> String {
        self.line()
    }
}

impl Drop for Refuser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "no test: the process that refuses"]
fn child() {
    let Ok(vips) = std::env::var(VIPS) else {
        return;
    };
    let life = Duration::from_millis(std::env::var(LASTS).unwrap().parse().unwrap());
    let ifindex = std::fs::read_to_string("/sys/class/net/eth1/ifindex");
    let ifindex: u32 = ifindex.unwrap().trim().parse().unwrap();
    let each = vips.split(',').map(async |vip| {
        let vip: IpAddr = vip.parse().unwrap();
        let refusal = Refusal::open(Job { vip, ifindex }).await.unwrap().unwrap();
        println!("refuse: open");
        let refused = refusal.work(life).await.unwrap();
        println!("refuse: {}", told(&refused));
    });
    block_on(futures_util::future::join_all(each));
}

fn told(refused: &Refused) -> String {
    match refused.end {
        End::Claimed(mac) => format!("claimed by {mac}"),
        other => format!("{other:?}"),
    }
}

/// Perl that connects to a port at an address, up to so many times one after another, until one of them is not
/// refused. Says what became of it.
const CONNECT: &str = r#"
use Socket qw(:all); use Errno;
my ($address, $port, $number) = @ARGV;
my $six = $address =~ /:/;
my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
for (1 .. $number) {
    socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die $!;
    connect($s, $to) and do { print "connected"; sysread $s, my $said, 99; print " to $said"; exit };
    $!{ECONNREFUSED} or do { print "$!"; exit };
}
print "refused";
"#;

/// Connects, at most so many times, and returns what became of it.
#[track_caller]
fn connect(host: &Host, address: &str, number: usize) -> String {
    // Nobody answers: said after three seconds instead of two minutes.
    host.run("sysctl", ["-qw", "net.ipv4.tcp_syn_retries=1"]);
    let number = number.to_string();
    host.run("perl", ["-e", CONNECT, address, "8000", &number])
}

/// Starts a server on port 8000 of every address, old and new, that says its name to whoever connects.
fn serve(host: &Host, name: &str) {
    let script = r#"
use Socket qw(:all);
socket(my $server, AF_INET6, SOCK_STREAM, 0) or die;
setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
setsockopt($server, IPPROTO_IPV6, IPV6_V6ONLY, pack("l", 0));
bind($server, pack_sockaddr_in6(8000, inet_pton(AF_INET6, "::"))) or die $!;
listen($server, 128);
$| = 1; print "r"; $SIG{PIPE} = "IGNORE";
my @kept;
while (accept(my $client, $server)) { push @kept, $client; syswrite $client, $ARGV[0] }
"#;
    let mut command = host.command("perl");
    command.args(["-e", script, name]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    // It ends with the lab, whose first process reaps it.
    std::mem::forget(child);
}

/// A client that has been answered once, and then waits for more.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Client {
    /// Connects to port 8000 of an address and waits for the server's name.
    fn start(host: &Host, address: &str) -> Client {
        let script = r#"
use Socket qw(:all); use IO::Handle;
my ($address) = @ARGV;
my $six = $address =~ /:/;
my $to = $six ? pack_sockaddr_in6(8000, inet_pton(AF_INET6, $address)) : pack_sockaddr_in(8000, inet_aton($address));
socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die $!;
connect($s, $to) or die $!;
sysread $s, my $said, 99 or die $!; $| = 1; print "$said\n"; $SIG{PIPE} = "IGNORE";
while (my $line = <STDIN>) {
    defined(syswrite $s, $line) or do { print "$!\n"; next };
    if ($line =~ /wait/) { print defined(sysread $s, $said, 99) ? "closed\n" : "$!\n" } else { print "sent\n" }
}
"#;
        let mut command = host.command("perl");
        command.args(["-e", script, address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let client = Client {
            child,
            stdin,
            lines,
        };
        assert_eq!(client.line(), "server1");
        client
    }

    #[track_caller]
    fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.expect("the client is told something")
    }

    /// Sends a word.
    #[track_caller]
    fn send(&mut self) {
        self.stdin.write_all(b"word\n").unwrap();
        assert_eq!(self.line(), "sent");
    }

    /// Sends a word, waits for an answer, and returns what came instead.
    #[track_caller]
    fn ask(&mut self) -> String {
        self.stdin.write_all(b"wait\n").unwrap();
        self.line()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two servers, both of which serve and the first of which has the VIPs, and a client that knows them there.
fn lab() -> Lab {
    let lab = guides_lab(BOTH);
    for name in ["server1", "server2"] {
        serve(&lab.host(name), name);
    }
    let (server, client) = (lab.host("server1"), lab.host("client"));
    bind(&server, "add");
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "connected to server1");
    }
    lab
}

/// Adds or deletes both VIPs, and nothing else: connections are not reset, nothing is announced.
fn bind(host: &Host, verb: &str) {
    host.ip(&format!("addr {verb} {V4}/32 dev eth1"));
    let nodad = if verb == "add" { " nodad" } else { "" };
    host.ip(&format!("addr {verb} {V6}/64 dev eth1{nodad}"));
}

#[test]
fn a_client_of_a_vip_that_is_gone_is_refused_and_never_reaches_who_listens_there() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for vip in [V4, V6] {
        let all = connect(&client, vip, 300);
        assert_eq!(all, "refused", "{vip}");
    }
    // The server is there all the same.
    let own = connect(&client, "192.168.56.101", 1);
    assert_eq!(own, "connected to server1");
}

#[test]
fn a_client_that_is_connected_is_reset_as_soon_as_it_says_something() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let mut clients = [V4, V6].map(|vip| Client::start(&client, vip));
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for client in &mut clients {
        assert_eq!(client.ask(), "Connection reset by peer");
    }
}

#[test]
fn while_the_vip_is_there_its_kernel_answers_alone() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let mut clients = [V4, V6].map(|vip| Client::start(&client, vip));
    let refuser = Refuser::start(&server, &[V4, V6]);
    for client in &mut clients {
        client.send();
    }
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "connected to server1");
    }
    // A reset would have come before the answers to those connects.
    for client in &mut clients {
        client.send();
    }
    bind(&server, "del");
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "refused");
    }
    bind(&server, "add");
    for _ in [V4, V6] {
        assert_eq!(refuser.end(), "Bound");
    }
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "connected to server1");
    }
}

#[test]
fn a_neighbour_that_has_forgotten_the_vip_is_told_and_nobody_else() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    // Else a network card could keep back what is sent to the group of an address that is not here.
    let groups = server.ip("maddr show dev eth1");
    assert!(groups.contains("ff02::1:ff00:250"), "{groups}");
    let sniffer = Sniffer::start(&lab.host("server2"));
    for vip in [V4, V6] {
        client.ip("neigh flush dev eth1");
        assert_eq!(connect(&client, vip, 1), "refused", "{vip}");
        assert_eq!(client.neighbour(vip), Some(server.mac("eth1")));
    }
    let own = server.mac("eth1");
    let frames = sniffer.settled(&server, V4);
    let by_server = |frame: &&crate::common::sniffer::Frame| {
        crate::common::sniffer::mac(&frame.bytes[6..12]) == own
    };
    let seen: Vec<_> = frames.iter().filter(by_server).collect();
    assert!(seen.is_empty(), "{seen:02x?}");
    let advertised = sniffer.about(V6);
    let seen: Vec<_> = advertised.iter().filter(by_server).collect();
    assert!(seen.is_empty(), "{seen:02x?}");
}

/// Its questions have waited in the socket of a process that was stopped, and another host may have the VIP by now.
#[test]
fn who_was_stopped_answers_no_neighbour_any_more() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "refused", "{vip}");
    }
    refuser.stop(&server);
    client.ip("neigh flush dev eth1");
    // Each ends without an answer from anybody, seconds later.
    for vip in [V4, V6] {
        let end = connect(&client, vip, 1);
        let is_unanswered = ["No route to host", "Connection timed out"].contains(&end.as_str());
        assert!(is_unanswered, "{vip}: {end}");
    }
    let sniffer = Sniffer::start(&client);
    refuser.go_on(&server);
    for _ in [V4, V6] {
        assert_eq!(refuser.end(), "Stopped");
    }
    for vip in [V4, V6] {
        let told = sniffer.settled(&server, vip);
        assert!(told.is_empty(), "{told:02x?}");
    }
}

#[test]
fn a_client_behind_a_router_is_refused_without_a_route_to_it() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    lab.add_host("far");
    lab.run(
        "ip",
        "link add near netns client type veth peer name eth1 netns far".split(' '),
    );
    let far = lab.host("far");
    for (host, words) in [
        (&client, "link set near up"),
        (&client, "addr add 10.9.0.1/24 dev near"),
        (&client, "addr add fd09::1/64 dev near nodad"),
        (&far, "link set eth1 up"),
        (&far, "addr add 10.9.0.2/24 dev eth1"),
        (&far, "addr add fd09::2/64 dev eth1 nodad"),
        (&far, "route add default via 10.9.0.1"),
        (&far, "-6 route add default via fd09::1"),
    ] {
        host.ip(words);
    }
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        client.run("sysctl", ["-qw", &format!("net.{setting}")]);
    }
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for vip in [V4, V6] {
        assert_eq!(connect(&far, vip, 10), "refused", "{vip}");
    }
}

#[test]
fn it_ends_as_soon_as_another_host_has_the_vip() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    let refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 1), "refused");
    }
    let other = lab.host("server2");
    other.ok("bind");
    for _ in [V4, V6] {
        assert_eq!(refuser.end(), format!("claimed by {}", other.mac("eth1")));
    }
    for vip in [V4, V6] {
        eventually("clients reach the new holder", || {
            connect(&client, vip, 1) == "connected to server2"
        });
    }
}

#[test]
fn the_vip_of_another_master_is_left_alone() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ip("addr add 192.168.56.251/32 dev eth1");
    server.ip("addr add fd00::251/64 dev eth1 nodad");
    let others = ["192.168.56.251", "fd00::251"];
    let mut clients = others.map(|vip| Client::start(&client, vip));
    let refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for _ in 0..20 {
        for client in &mut clients {
            client.send();
        }
        assert_eq!(connect(&client, V4, 5), "refused");
        assert_eq!(connect(&client, V6, 5), "refused");
        for vip in others {
            assert_eq!(connect(&client, vip, 1), "connected to server1");
        }
    }
    for client in &mut clients {
        client.send();
    }
    // Nor does an announcement of another VIP end it.
    let other = lab.host("server2");
    other.ip("addr add 192.168.56.251/32 dev eth1");
    other.run("arping", "-U -c1 -Ieth1 192.168.56.251".split(' '));
    eventually("the client has heard it", || {
        client.neighbour("192.168.56.251") == Some(other.mac("eth1"))
    });
    assert_eq!(connect(&client, V4, 1), "refused");
    assert!(refuser.lines.try_recv().is_err());
}

#[test]
fn a_host_that_forwards_refuses_all_the_same() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        server.run("sysctl", ["-qw", &format!("net.{setting}")]);
    }
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    for vip in [V4, V6] {
        assert_eq!(connect(&client, vip, 50), "refused", "{vip}");
    }
    let other = lab.host("server2");
    other.ok("bind");
    for vip in [V4, V6] {
        eventually("clients reach the new holder", || {
            connect(&client, vip, 1) == "connected to server2"
        });
    }
}

#[test]
fn the_kernel_tells_that_the_address_is_gone_before_it_removes_the_route() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    // A second route stands for the one that the kernel has not removed yet, as when it is busy in between. It says
    // that the kernel made it, as that one does.
    let routes = routes("proto kernel");
    for route in &routes {
        server.ip(&route.replace("VERB", "add"));
    }
    for vip in [V4, V6] {
        // For a route alone the kernel answers no neighbor solicitation.
        know(&client, vip, &server);
    }
    server.ip("addr add 192.168.56.251/32 dev eth1");
    assert_eq!(
        connect(&client, "192.168.56.251", 1),
        "connected to server1"
    );
    let mut clients = [V4, V6].map(|vip| Client::start(&client, vip));
    let _refuser = Refuser::start(&server, &[V4, V6, "192.168.56.251"]);
    bind(&server, "del");
    // The refuser hears of this one last, so that it knows of the others, too.
    server.ip("addr del 192.168.56.251/32 dev eth1");
    eventually("the refuser is at work", || {
        connect(&client, "192.168.56.251", 1) == "refused"
    });
    for (vip, other) in [V4, V6].iter().zip(&mut clients) {
        for _ in 0..20 {
            let reached = connect(&client, vip, 1);
            assert_eq!(
                reached, "connected to server1",
                "{vip}: the kernel answers alone"
            );
        }
        // A reset would have come before the answers to those connects.
        other.send();
        other.send();
    }
    for route in &routes {
        server.ip(&route.replace("VERB", "del"));
    }
    for (vip, other) in [V4, V6].iter().zip(&mut clients) {
        eventually("clients are refused", || {
            connect(&client, vip, 1) == "refused"
        });
        assert_eq!(other.ask(), "Connection reset by peer");
    }
}

#[test]
fn a_route_of_the_sites_own_keeps_no_client_here() {
    let lab = lab();
    let (server, client) = (lab.host("server1"), lab.host("client"));
    for route in routes("proto static") {
        server.ip(&route.replace("VERB", "add"));
    }
    for vip in [V4, V6] {
        know(&client, vip, &server);
    }
    let mut clients = [V4, V6].map(|vip| Client::start(&client, vip));
    let _refuser = Refuser::start(&server, &[V4, V6]);
    bind(&server, "del");
    // The kernel answers, too: whoever connects is connected for a moment.
    for client in &mut clients {
        assert_eq!(client.ask(), "Connection reset by peer");
    }
}

/// Returns the words that add or delete a local route to each VIP beside that of its address.
fn routes(more: &str) -> [String; 2] {
    [V4, V6].map(|vip| format!("route VERB local {vip} dev lo table local metric 9 {more}"))
}

/// Has a client know for good where an address is.
fn know(client: &Host, address: &str, server: &Host) {
    let mac = server.mac("eth1");
    client.ip(&format!(
        "neigh replace {address} lladdr {mac} nud permanent dev eth1"
    ));
}

#[test]
fn it_ends_after_a_while_whatever_happens() {
    let lab = lab();
    let server = lab.host("server1");
    let refuser = Refuser::lasting(&server, &[V4], Duration::from_millis(300));
    bind(&server, "del");
    assert_eq!(refuser.end(), "Over");
}
