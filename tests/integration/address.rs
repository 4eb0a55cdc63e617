//! In which form a VIP is bound: never so that it becomes a source address, never so that it expires, never where
//! only another VIP says that it belongs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::common::{
    BOTH, Host, ONLY_V4, V4, V4_BOUND, V6, V6_BOUND, eventually, executable, finish, guides_lab,
    wait_for,
};

const WIDE: &str = "192.168.56.250/24@eth1";

/// Returns what `ip` shows of an address on eth1, each of its bindings.
fn shown(host: &Host, address: &str) -> Vec<Value> {
    let links = host.json("addr show dev eth1");
    let all = links[0]["addr_info"].as_array().unwrap().iter();
    all.filter(|one| one["local"] == address).cloned().collect()
}

fn source(host: &Host, to: &str) -> Value {
    host.json(&format!("route get {to}"))[0]["prefsrc"].clone()
}

fn promote_secondaries(host: &Host, value: &str) {
    for whose in ["all", "eth1"] {
        let file = format!("/proc/sys/net/ipv4/conf/{whose}/promote_secondaries");
        host.run("sh", ["-c", &format!("echo {value} >{file}")]);
    }
}

#[test]
fn a_vip_never_becomes_the_source_address_when_the_hosts_own_comes_and_goes() {
    for promotes in ["1", "0"] {
        let lab = guides_lab(ONLY_V4);
        let server = lab.host("server1");
        promote_secondaries(&server, promotes);
        server.ok("bind");
        server.ip("addr del 192.168.56.101/24 dev eth1");
        server.ip("addr add 192.168.56.101/24 dev eth1");
        assert!(server.has(V4_BOUND), "{:?}", server.addresses());
        assert_eq!(source(&server, "192.168.56.103"), "192.168.56.101");
    }
}

#[test]
fn a_vip_that_is_the_source_address_is_mended_and_no_client_notices() {
    for (promotes, call) in [("1", "bind"), ("0", "hook"), ("0", "bind")] {
        let lab = guides_lab(ONLY_V4);
        let (server, client) = (lab.host("server1"), lab.host("client"));
        promote_secondaries(&server, promotes);
        server.ip("addr del 192.168.56.101/24 dev eth1");
        server.ip("addr add 192.168.56.250/24 dev eth1");
        server.ip("addr add 192.168.56.101/24 dev eth1");
        server.ip("addr add 192.168.56.25/24 dev eth1");
        server.ip("route add default via 192.168.56.103");
        assert_eq!(source(&server, "192.168.56.103"), V4);
        // An echo server, and a client that is connected to the VIP all the time.
        let mut echo = server.command("perl");
        echo.args(["-MIO::Socket::INET", "-e", ECHO])
            .stdout(Stdio::piped());
        let mut echo = echo.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(echo.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let mut caller = client.command("perl");
        caller.args(["-MIO::Socket::INET", "-e", CALLER]);
        caller.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut caller = caller.spawn().unwrap();
        let mut to = caller.stdin.take().unwrap();
        let mut from = BufReader::new(caller.stdout.take().unwrap());
        let mut say = |word: &str| {
            writeln!(to, "{word}").unwrap();
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            assert_eq!(line.trim(), word);
        };
        say("before");
        match call {
            "bind" => drop(server.ok("bind")),
            _ => drop(server.hook("m", "192.168.56.101").success()),
        }
        say("after");
        assert!(server.has(V4_BOUND) && !server.has(WIDE));
        assert!(server.has("192.168.56.101/24@eth1") && server.has("192.168.56.25/24@eth1"));
        assert_eq!(source(&server, "192.168.56.103"), "192.168.56.101");
        assert_eq!(
            server.json("route show default")[0]["gateway"],
            "192.168.56.103"
        );
        let knob = "/proc/sys/net/ipv4/conf/eth1/promote_secondaries";
        assert_eq!(server.run("cat", [knob]).trim(), promotes);
        lab.logged(&[
            "192.168.56.250/24 was already on eth1 as /32, no longer as /24",
            "already_here=",
        ]);
        say("later");
        drop(to);
        caller.wait().unwrap();
        echo.wait().unwrap();
    }
}

/// Answers every line of one connection with itself.
const ECHO: &str = r#"
    my $listener = IO::Socket::INET->new(LocalAddr => "192.168.56.250", LocalPort => 7777, Listen => 1) or die;
    $| = 1; print "ready\n";
    my $client = $listener->accept; $client->autoflush(1);
    while (<$client>) { print $client $_ }"#;

/// Sends each line through one connection, and prints what comes back.
const CALLER: &str = r#"
    $| = 1;
    my $server = IO::Socket::INET->new("192.168.56.250:7777") or die; $server->autoflush(1);
    while (<STDIN>) { print $server $_; print scalar <$server> }"#;

#[test]
fn a_mend_that_was_cut_short_is_finished_by_the_next_run() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    assert!(
        server
            .ok("bind --dry-run")
            .contains("would be no longer as /24")
    );
    assert!(server.has(WIDE));
    server.ok("bind");
    assert!(server.has(V4_BOUND) && !server.has(WIDE));
    assert!(!server.ok("bind").contains("no longer"));
}

#[test]
fn without_an_address_of_the_hosts_own_the_vip_makes_the_subnets_route() {
    let lab = guides_lab(
        "[masters.m]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\ninterface = \"eth1\"\n",
    );
    let server = lab.host("server1");
    server.ip("addr del 192.168.56.101/24 dev eth1");
    for _ in 0..2 {
        server.ok("bind");
        assert!(server.has(WIDE) && server.has("192.168.56.251/24@eth1"));
    }
    assert_eq!(source(&server, "192.168.56.103"), V4);
    // Once the host has one, they give way.
    server.ip("addr add 192.168.56.101/24 dev eth1");
    server.ok("bind");
    assert!(server.has(V4_BOUND) && server.has("192.168.56.251/32@eth1"));
    assert!(!server.has(WIDE) && !server.has("192.168.56.251/24@eth1"));
    assert_eq!(source(&server, "192.168.56.103"), "192.168.56.101");
}

#[test]
fn a_configured_interface_beside_another_of_the_same_subnet_is_judged_by_its_own_addresses() {
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth2\"\n");
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.201/24 dev eth2");
    server.hook("m", "192.168.56.101").success();
    assert!(
        server.has("192.168.56.250/32@eth2"),
        "{:?}",
        server.addresses()
    );
    server.ok("unbind");
    server.ip("addr del 192.168.56.201/24 dev eth2");
    server.hook("m", "192.168.56.101").success();
    assert!(
        server.has("192.168.56.250/24@eth2"),
        "{:?}",
        server.addresses()
    );
}

#[test]
fn a_vip_with_a_lifetime_is_made_to_stay() {
    for call in ["bind", "hook"] {
        let lab = guides_lab(BOTH);
        let server = lab.host("server1");
        server.ip("addr add 192.168.56.250/24 dev eth1 valid_lft 600 preferred_lft 600");
        server.ip("addr add fd00::250/64 dev eth1 nodad valid_lft 600 preferred_lft 300");
        match call {
            "bind" => drop(server.ok("bind")),
            _ => drop(server.hook("m", "192.168.56.101").success()),
        }
        let forever = Value::from(u32::MAX);
        let [v4] = shown(&server, V4).try_into().unwrap();
        assert_eq!(v4["valid_life_time"], forever, "{v4}");
        let [v6] = shown(&server, V6).try_into().unwrap();
        assert_eq!(
            (&v6["valid_life_time"], &v6["deprecated"]),
            (&forever, &true.into()),
            "{v6}"
        );
        assert_eq!(v6["preferred_life_time"], 0, "{v6}");
        assert!(server.has(V4_BOUND) && server.has(V6_BOUND));
        lab.logged(&["with no lifetime now", "already_here="]);
        assert!(!server.ok("bind").contains("lifetime"));
    }
}

#[test]
fn a_vip_that_has_its_final_form_and_a_lifetime_is_made_to_stay() {
    let lab = guides_lab("[masters.m]\nvip = [\"192.168.56.250\", \"fd00::250\"]\n");
    let server = lab.host("server1");
    // It is gone after four seconds unless the run sees to it.
    server.ip("addr add 192.168.56.250/32 dev eth1 valid_lft 4 preferred_lft 4");
    server.ip("addr add fd00::250/128 dev eth1 nodad valid_lft 4 preferred_lft 0");
    let said = server.ok("bind");
    assert_eq!(said.matches("with no lifetime now").count(), 2, "{said}");
    let over = wait_for(std::time::Duration::from_secs(6), || {
        (shown(&server, V4).len() + shown(&server, V6).len() < 2).then_some(())
    });
    assert_eq!(over, None, "{:?}", server.addresses());
    // One with a peer.
    server.ok("unbind");
    server.ip("addr add 192.168.56.250 peer 10.9.9.9/32 dev eth1 valid_lft 600 preferred_lft 600");
    server.ok("bind");
    let [v4] = shown(&server, V4).try_into().unwrap();
    assert_eq!(
        (&v4["valid_life_time"], &v4["address"]),
        (&u32::MAX.into(), &"10.9.9.9".into())
    );
}

#[test]
fn an_ipv6_vip_that_could_be_a_source_is_adopted_and_is_none() {
    let lab = guides_lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    server.ip("addr add fd00::250/64 dev eth1 nodad");
    assert_eq!(source(&server, "fd00::103"), V6);
    server.ok("bind");
    assert_eq!(source(&server, "fd00::103"), "fd00::101");
    // Also when the host's own comes and goes.
    server.ip("addr del fd00::101/64 dev eth1");
    server.ip("addr add fd00::101/64 dev eth1 nodad");
    assert_eq!(source(&server, "fd00::103"), "fd00::101");
}

#[test]
fn vips_on_the_wrong_interface_do_not_keep_each_other_there() {
    let config = "[masters.a]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n\
                  [masters.b]\nvip = [\"192.168.56.251/24\", \"fd00::251/64\"]\n";
    let moved = |host: &Host| {
        [
            "192.168.56.250/32",
            "192.168.56.251/32",
            "fd00::250/64",
            "fd00::251/64",
        ]
        .iter()
        .all(|vip| host.has(&format!("{vip}@eth1")))
            && !host
                .addresses()
                .iter()
                .any(|one| one.contains(".25") && one.ends_with("eth2"))
            && !host
                .addresses()
                .iter()
                .any(|one| one.contains("::25") && one.ends_with("eth2"))
    };
    for call in ["bind --all", "hook"] {
        let lab = guides_lab(config);
        lab.wire("server1", "eth2");
        let server = lab.host("server1");
        for vip in ["192.168.56.250/25", "192.168.56.251/25"] {
            server.ip(&format!("addr add {vip} dev eth2"));
        }
        for vip in ["fd00::250/80", "fd00::251/80"] {
            server.ip(&format!("addr add {vip} dev eth2 nodad"));
        }
        match call {
            "bind --all" => drop(server.ok(call)),
            _ => ["a", "b"].iter().for_each(|master| {
                server.hook(master, "192.168.56.101").success();
            }),
        }
        assert!(moved(&server), "{call}: {:?}", server.addresses());
    }
}

#[test]
fn another_vip_alone_says_nothing_about_an_interface() {
    let lab = guides_lab(
        "[masters.a]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n\
         [masters.b]\nvip = [\"192.168.56.251/25\", \"fd00::251/80\"]\n",
    );
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    // b's are on the wrong interface, a's are not here yet: eth2's subnet is the smaller one.
    server.ip("addr add 192.168.56.251/25 dev eth2");
    server.ip("addr add fd00::251/80 dev eth2 nodad");
    eventually("IPv6 has its route", || {
        server
            .json("-6 route show dev eth2")
            .to_string()
            .contains("fd00::/80")
    });
    server.hook("a", "192.168.56.101").success();
    assert!(
        server.has(V4_BOUND) && server.has(V6_BOUND),
        "{:?}",
        server.addresses()
    );
}

#[test]
fn the_gateway_is_asked_for_and_no_route_is_listed() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let batch = lab.file(
        "routes",
        (0..20_000)
            .map(|n| {
                format!(
                    "route add 10.{}.{}.0/24 via 192.168.56.102\n",
                    n / 256,
                    n % 256
                )
            })
            .collect::<String>()
            + "route add default via 192.168.56.103
",
    );
    server.run("ip", ["-batch".as_ref(), batch.as_os_str()]);
    server.ip("-6 route add default via fd00::103");
    let trace = lab.unique("trace");
    let mut strace = server.command("strace");
    strace.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-e",
        "trace=sendto,recvfrom,recvmsg,sendmsg",
        "-o",
    ]);
    strace.arg(&trace).arg(executable()).args(["bind", "-v"]);
    finish(strace).success();
    let trace = std::fs::read_to_string(&trace).unwrap();
    // Some versions of strace do not know RTM_GETROUTE by name.
    let trace = trace.replace("0x1a /* NLMSG_??? */", "RTM_GETROUTE");
    let mut asked = trace.lines().filter(|line| line.contains("RTM_GETROUTE"));
    assert!(asked.clone().count() > 2, "{trace}");
    assert!(!asked.any(|line| line.contains("NLM_F_DUMP")), "{trace}");
    // Both gateways have been asked and have answered.
    for vip in [V4, V6] {
        lab.logged(&[&format!("announced {vip}/"), "confirmed by "]);
    }
    assert!(
        lab.log().iter().any(|line| line.contains("192.168.56.103")),
        "{:?}",
        lab.log()
    );
}
