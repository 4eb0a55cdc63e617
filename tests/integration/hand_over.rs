//! The clients at a hand-over: their connections are reset before the VIP goes, and no other
//! connection is.

use std::process::{Child, Stdio};

use crate::common::{self, BOTH, Host, V4, V4_BOUND, executable, finish, guides_lab};

/// Listens on a port of every address, IPv4 in IPv6 sockets if `mapped`, and keeps every connection
/// without a word, as Redis keeps a subscriber.
fn listen(host: &Host, port: u16, mapped: bool) {
    let script = r#"
use Socket qw(:all);
my ($port, $mapped) = @ARGV;
socket(my $server, AF_INET6, SOCK_STREAM, 0) or die;
setsockopt($server, IPPROTO_IPV6, IPV6_V6ONLY, pack("l", $mapped ? 0 : 1));
bind($server, pack_sockaddr_in6($port, inet_pton(AF_INET6, "::"))) or die $!;
listen($server, 99);
unless ($mapped) {
    socket(my $four, AF_INET, SOCK_STREAM, 0) or die;
    bind($four, pack_sockaddr_in($port, INADDR_ANY)) or die $!;
    listen($four, 99);
    if (fork) { $server = $four }
}
$| = 1; print "r"; $SIG{PIPE} = "IGNORE";
my @kept;
while (accept(my $client, $server)) { push @kept, $client; syswrite $client, "+" }
"#;
    let mut command = host.command("perl");
    command.args([
        "-e",
        script,
        &port.to_string(),
        if mapped { "1" } else { "" },
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
    // It ends with the lab, whose first process reaps it.
    std::mem::forget(child);
}

/// Connects, waits for the greeting, then for the end, and tells how that came.
fn subscribe(host: &Host, address: &str, port: u16) -> Child {
    let script = r#"
use Socket qw(:all);
my ($address, $port) = @ARGV;
my $six = $address =~ /:/;
socket(my $server, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die;
my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
connect($server, $to) or die $!;
$| = 1;
sysread $server, my $greeting, 1; print $greeting;
my $read = sysread $server, my $more, 1;
print defined $read ? "end" : $!{ECONNRESET} ? "reset" : $!;
"#;
    let mut command = host.command("perl");
    command.args(["-e", script, address, &port.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut greeting).unwrap();
    assert_eq!(&greeting, b"+");
    child
}

/// Waits for the end of a subscription, and returns how it ended.
fn end_of(mut child: Child) -> String {
    common::end_of(&mut child);
    let mut said = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    said
}

#[test]
fn a_blocked_client_is_reset_before_the_vip_goes() {
    // After the VIP a reset no longer reaches the client, which then hangs: a client that is reset
    // was reset before.
    let lab = guides_lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, false);
    for (round, release) in [
        ["unbind"].as_slice(),
        &["m", "leader", "start", "", "1", "192.168.56.102", "1"],
    ]
    .into_iter()
    .enumerate()
    {
        server.ok("bind -q");
        let clients: Vec<Child> = [V4, "fd00::250", V4]
            .into_iter()
            .map(|address| subscribe(&client, address, 8000))
            .collect();
        let released = server.vipswitch(release);
        released.success();
        for child in clients {
            assert_eq!(end_of(child), "reset");
        }
        assert!(!server.has(V4_BOUND));
        let line = lab.log_of(2 * round + 3 - 1).pop().unwrap();
        assert!(
            line.contains("(2 connections reset)") && line.contains(" reset=3 "),
            "{line}"
        );
    }
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_reset_as_well() {
    let lab = guides_lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, true);
    let child = subscribe(&client, V4, 8000);
    server.ok("unbind");
    assert_eq!(end_of(child), "reset");
}

#[test]
fn connections_of_other_addresses_and_servers_that_listen_go_on() {
    let lab = guides_lab(BOTH);
    let (server, client) = (lab.host("server1"), lab.host("client"));
    server.ok("bind");
    listen(&server, 8000, false);
    let mut others: Vec<Child> = ["192.168.56.101", "fd00::101"]
        .into_iter()
        .map(|address| subscribe(&client, address, 8000))
        .collect();
    let through_the_vip = subscribe(&client, V4, 8000);
    server.ok("unbind");
    assert_eq!(end_of(through_the_vip), "reset");
    for other in &mut others {
        assert!(other.try_wait().unwrap().is_none());
    }
    // The same server takes clients again when the VIP is back.
    server.ok("bind");
    let again = subscribe(&client, V4, 8000);
    for mut child in others.into_iter().chain([again]) {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_kernel_that_cannot_reset_is_no_reason_to_keep_the_vip() {
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    let unbind = |more: &[&str]| {
        let mut command = server.command("strace");
        command.args(["-f", "-b", "execve", "-qq", "-e", "trace=socket"]);
        command.args(more).arg(executable()).arg("unbind");
        finish(command)
    };
    server.ok("bind");
    let trace = unbind(&[]).stderr;
    let sockets = trace.lines().filter(|line| line.contains("socket("));
    let sweeps: Vec<usize> = sockets
        .enumerate()
        .filter(|(_, line)| line.contains("SOCK_DIAG") || line.contains("INET_DIAG"))
        .map(|(place, _)| place + 1)
        .collect();
    // Before the removal, and after it.
    assert!(sweeps.len() >= 2, "{trace}");
    for nth in &sweeps[..2] {
        server.ok("bind");
        let fault = format!("inject=socket:error=EPROTONOSUPPORT:when={nth}");
        let said = unbind(&["-o", "/dev/null", "-e", &fault]).success();
        assert!(
            said.contains("its connections could not be reset: Protocol not supported"),
            "{said}"
        );
        assert!(!server.has(V4_BOUND));
    }
}
