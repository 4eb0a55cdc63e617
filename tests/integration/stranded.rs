//! This host's own connections to the last holder of a VIP, which nobody else can end, and those that only look like them.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};
use vipswitch::deeds::stranded::Stranded;

use crate::common::redis::{MASTER_8000, Master, Site, address};
use crate::common::{BOTH, PATIENCE, V4_BOUND, eventually, guides_lab, wait_for};
use crate::redis_client::{Process, block_on, inside};

const M: Master = MASTER_8000;
const PORT: u16 = 8000;

/// Each VIP with the prefix length that it is bound with, and this host's and the other's own address beside it.
const VIPS: [(&str, &str, &str, &str); 2] = [
    ("192.168.56.250", "32", "192.168.56.101", "192.168.56.102"),
    ("fd00::250", "64", "fd00::101", "fd00::102"),
];

/// Perl: accepts on a port of every address, and keeps what it has.
const SERVER: &str = r#"
use IO::Socket::IP;
my $server = IO::Socket::IP->new(LocalHost => "::", LocalPort => $ARGV[0], Listen => 9, V6Only => 0) or die $!;
$| = 1; print "r";
my @all; while (my $client = $server->accept) { push @all, $client }
"#;

fn run(program: &str, words: &str) {
    let status = Command::new(program).args(words.split(' ')).status();
    assert!(status.unwrap().success(), "{program} {words}");
}

fn ip(words: &str) {
    run("ip", words);
}

fn nft(rules: &str) {
    let status = Command::new("nft").arg(rules).status();
    assert!(status.unwrap().success(), "{rules}");
}

/// Another host, `far`, on the link of this one, with a server.
fn make_far() -> Process {
    ip("netns add far");
    ip("link add eth1 type veth peer name eth1 netns far");
    ip("link set eth1 up");
    for words in ["link set lo up", "link set eth1 up"] {
        ip(&format!("-n far {words}"));
    }
    for (_, _, here, far) in VIPS {
        let (length, nodad) = if here.contains(':') {
            (64, " nodad")
        } else {
            (24, "")
        };
        ip(&format!("addr add {here}/{length} dev eth1{nodad}"));
        ip(&format!("-n far addr add {far}/{length} dev eth1{nodad}"));
    }
    let mut server = Command::new("ip");
    server.args(["netns", "exec", "far", "perl", "-e", SERVER]);
    let mut server = server
        .arg(PORT.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0])
        .unwrap();
    Process(server)
}

/// Adds a VIP here (`""`) or there (`-n far `), or removes it.
fn change(at: &str, what: &str, (vip, length, ..): (&str, &str, &str, &str)) {
    let nodad = if what == "add" && vip.contains(':') {
        " nodad"
    } else {
        ""
    };
    ip(&format!("{at}addr {what} {vip}/{length} dev eth1{nodad}"));
}

/// Connects from an address that the kernel chooses, or from this one.
fn connect(to: SocketAddr, from: Option<IpAddr>) -> TcpStream {
    // On a busy machine the kernel has no answer to three ARP requests within their 3 s, now and then.
    let is_late = |error: &std::io::Error| error.kind() == ErrorKind::HostUnreachable;
    let connected = wait_for(PATIENCE, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        }
        match socket.connect(&to.into()) {
            Err(error) if is_late(&error) => None,
            tried => {
                tried.unwrap();
                Some(socket)
            }
        }
    });
    let socket = connected.expect("the far end answers");
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// Returns how a connection has ended, if it has.
fn end(mut client: &TcpStream) -> Option<ErrorKind> {
    match client.read(&mut [0]) {
        Ok(_) => panic!("nobody says anything, or closes"),
        Err(error) => Some(error.kind()).filter(|kind| *kind != ErrorKind::WouldBlock),
    }
}

fn reset(vip: &str) {
    let vip = vip.parse().unwrap();
    block_on(async { Stranded::default().reset(vec![vip]).await });
}

#[test]
fn a_client_of_the_last_holder_is_reset_once_the_vip_is_here_and_not_while_it_is_with_that() {
    let name = "stranded::a_client_of_the_last_holder_is_reset_once_the_vip_is_here_and_not_while_it_is_with_that";
    inside(name, |_| {
        let _far = make_far();
        for vip in VIPS {
            change("-n far ", "add", vip);
            let at = SocketAddr::new(vip.0.parse().unwrap(), PORT);
            let clients = [None, Some(vip.2.parse().unwrap())].map(|from| connect(at, from));
            reset(vip.0);
            for client in &clients {
                assert_eq!(end(client), None, "{}: it is well", vip.0);
            }
            change("-n far ", "del", vip);
            change("", "add", vip);
            reset(vip.0);
            for client in &clients {
                assert_eq!(end(client), Some(ErrorKind::ConnectionAborted), "{}", vip.0);
            }
        }
    });
}

#[test]
fn a_client_that_has_connected_while_the_vip_was_here_is_well_wherever_its_other_end_is() {
    let name = "stranded::a_client_that_has_connected_while_the_vip_was_here_is_well_wherever_its_other_end_is";
    inside(name, |_| {
        let _far = make_far();
        let _server = TcpListener::bind(("::", PORT)).unwrap();
        for vip in VIPS {
            let (address, _, own, container) = vip;
            let (family, brackets) = match address.contains(':') {
                true => ("ip6", ("[", "]")),
                false => ("ip", ("", "")),
            };
            let (open, close) = brackets;
            nft(&format!(
                "add table {family} t
                add chain {family} t out {{ type nat hook output priority -100; }}
                add rule {family} t out {family} daddr {address} tcp dport 98 dnat to {open}{container}{close}:{PORT}
                add rule {family} t out {family} daddr {address} tcp dport 99 redirect to :{PORT}"
            ));
            change("", "add", vip);
            let to = |port: u16| SocketAddr::new(address.parse().unwrap(), port);
            let clients = [
                connect(to(PORT), None),
                connect(to(PORT), Some(own.parse().unwrap())),
                // In a container, and at another port.
                connect(to(98), None),
                connect(to(99), None),
            ];
            reset(address);
            // It is removed and comes back.
            change("", "del", vip);
            change("", "add", vip);
            reset(address);
            let ends: Vec<_> = clients.iter().map(end).collect();
            assert_eq!(ends, [None; 4], "{address}");
        }
    });
}

/// A run was killed when it had bound the VIP.
#[test]
fn clients_that_a_killed_run_has_left_stranded_are_reset_by_the_next() {
    let lab = guides_lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let mut server = two.command("perl");
    server.args(["-e", SERVER, "8000"]).stdout(Stdio::piped());
    let mut server = Process(server.spawn().unwrap());
    let ready = server.0.stdout.as_mut().unwrap();
    ready.read_exact(&mut [0]).unwrap();
    two.ok("bind");
    let script = r#"
use IO::Socket::IP;
my @all = map { IO::Socket::IP->new(PeerHost => $_, PeerPort => 8000) or die $! } "192.168.56.250", "fd00::250";
$| = 1; print "r";
for (@all) { defined sysread $_, my $byte, 1 and die "not reset" }
"#;
    let mut client = one.command("perl");
    client.args(["-e", script]).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0])
        .unwrap();
    for (words, host) in [("del", &two), ("add", &one)] {
        let nodad = if words == "add" { " nodad" } else { "" };
        host.ip(&format!("addr {words} 192.168.56.250/32 dev eth1"));
        host.ip(&format!("addr {words} fd00::250/64 dev eth1{nodad}"));
    }
    assert!(one.has(V4_BOUND));
    one.ok("bind");
    assert!(crate::common::end_of(&mut client).success());
}

#[test]
fn clients_that_a_killed_agent_has_left_stranded_are_reset_by_the_next() {
    let site = Site::with_agents(&[M]);
    let two = site.host("server2");
    let client = site.blocked_on("server2", &M, "SUBSCRIBE none");
    // An acknowledgement that is late would reach this host's own Redis, which resets the client.
    eventually("it has acknowledged all that it was sent", || {
        let to = format!("dst {} src {}", address("server2"), M.vip);
        let sockets = site.host("server1").run("ss", ["-Hnt", &to]);
        let mut fields = sockets.split_whitespace();
        (fields.nth(2), fields.count()) == (Some("0"), 2)
    });
    site.end_agent("server2", "KILL");
    // As that had done in the moment of the promotion.
    two.ip("addr add 192.168.56.250/32 dev eth1");
    site.fail_over(&M, "server3", "server2");
    eventually("server1 has released it", || {
        site.holders(M.vip) == ["server2"]
    });
    site.seconds_pass("server1", 2.0);
    assert_eq!(client.ended(), None, "nobody else can reset it");
    site.start_agent("server2");
    assert_eq!(client.end(), "Software caused connection abort");
    site.settles(&M, "server2");
}

#[test]
fn a_client_that_is_redirected_stays_when_the_vip_is_removed_and_comes_back() {
    let site = Site::with_agents(&[M]);
    let one = site.host("server1");
    let rules = "add table ip t
        add chain ip t out { type nat hook output priority -100; }
        add rule ip t out ip daddr 192.168.56.250 tcp dport 9999 redirect to :8000";
    one.run("nft", [rules]);
    let redirected = Master { port: 9999, ..M };
    let clients = [M, redirected].map(|at| site.blocked_on("server1", &at, "SUBSCRIBE none"));
    for _ in 0..3 {
        one.ip("addr del 192.168.56.250/32 dev eth1");
        eventually("the VIP is back", || one.has(M.bound));
        site.seconds_pass("server1", 1.0);
    }
    site.settles(&M, "server1");
    assert!(clients.iter().all(|client| client.ended().is_none()));
}
