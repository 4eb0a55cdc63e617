//! The seven arguments of Sentinel's call, good and bad: addresses, names, escapes.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Finished, Host, Lab, SENTINELS_PATIENCE, end_of, executable};

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
    [masters.bind]\nvip = \"192.168.56.251/24\"\n";

const VIP: &str = "192.168.56.250/32@eth1";

/// One host, 192.168.56.101, with a configuration.
fn lab() -> Lab {
    let lab = Lab::with_hosts(["server1"]);
    lab.config(CONFIG);
    lab
}

/// Sentinel's call with one argument replaced.
fn call(host: &Host, place: usize, value: impl AsRef<OsStr>) -> Finished {
    let mut arguments: Vec<OsString> = [
        "master8000",
        "leader",
        "start",
        "192.168.56.109",
        "8000",
        "192.168.56.101",
        "8000",
    ]
    .map(Into::into)
    .into();
    arguments[place] = value.as_ref().to_owned();
    host.vipswitch(arguments)
}

#[test]
fn a_wrong_number_of_arguments_is_permanent_and_tells_what_a_call_looks_like() {
    let lab = lab();
    let host = lab.host("server1");
    let words = [
        "m",
        "leader",
        "start",
        "192.168.56.109",
        "8000",
        "192.168.56.101",
        "8000",
        "more",
    ];
    for number in [2, 3, 4, 5, 6, 8] {
        let said = format!("Sentinel's call has seven arguments, this one has {number}");
        host.vipswitch(&words[..number])
            .fails(2, &[&said, "STATE FROM-IP FROM-PORT TO-IP TO-PORT"]);
        lab.logged(&[&said, "exit=2"]);
    }
    host.vipswitch(&words[..1])
        .fails(2, &["unrecognized subcommand 'm'"]);
    let no_words: [&str; 0] = [];
    host.vipswitch(no_words)
        .fails(2, &["Usage: vipswitch", "client-reconfig-script"]);
}

#[test]
fn bad_arguments_of_the_call_are_permanent_and_named() {
    let lab = lab();
    let host = lab.host("server1");
    for (place, value, said) in [
        (0, "", "MASTER \"\" is empty"),
        (
            0,
            "master800",
            "vipswitch.toml. Did you mean \"master8000\"?",
        ),
        (
            1,
            "sentinel",
            "ROLE \"sentinel\" is neither leader nor observer",
        ),
        (
            1,
            "Leader",
            "ROLE \"Leader\" is neither leader nor observer",
        ),
        (5, "", "TO-IP \"\" is empty"),
        (5, "127.0.0.1", "TO-IP 127.0.0.1 is the same on every host"),
        (
            5,
            "192.168.56.250",
            "192.168.56.250 is a VIP in the configuration and the address of a Redis or a Sentinel, so that nobody can tell which host it is on",
        ),
        (
            5,
            "192.168.56.251",
            "192.168.56.251 is a VIP in the configuration",
        ),
        (
            5,
            "::ffff:192.168.56.250",
            "192.168.56.250 is a VIP in the configuration",
        ),
        (6, "", "TO-PORT \"\" is empty"),
        (6, "0", "TO-PORT \"0\" is 0"),
        (6, "-1", "TO-PORT \"-1\" is not a port number"),
        (6, "65536", "TO-PORT \"65536\" is above 65535"),
    ] {
        let finished = call(&host, place, value).fails(2, &[said]);
        assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
        assert_eq!(finished.stdout, "");
    }
    assert!(!host.has(VIP));
}

#[test]
fn arguments_that_are_no_text_or_too_long_are_escaped_and_cut() {
    let lab = lab();
    let host = lab.host("server1");
    let long = "x".repeat(4096);
    for place in 0..7 {
        let no_text = call(&host, place, OsStr::from_bytes(b"a\xff\xfe"));
        // FROM decides nothing.
        if matches!(place, 3 | 4) {
            no_text.success();
        } else {
            let said = match place {
                1 => "ROLE",
                _ => "is not valid UTF-8: \"a",
            };
            no_text.fails(2, &[said]);
        }
        if !matches!(place, 2..=4) {
            let finished = call(&host, place, &long);
            assert_eq!(finished.code(), 2, "{finished}");
            assert!(finished.stderr.len() < 1000, "{finished}");
        }
    }
    assert_eq!(call(&host, 2, &long).code(), 0);
    let line = lab.logged(&["state=\"xxx", "exit=0"]);
    assert!(line.len() < 1200 && line.contains("xxx…"), "{line}");
}

#[test]
fn control_characters_reach_neither_the_log_nor_the_terminal() {
    let lab = lab();
    let host = lab.host("server1");
    let nasty = "a\nresult=done\u{1b}[31m\u{202e}\"";
    for place in 0..7 {
        let finished = call(&host, place, nasty);
        assert_eq!(
            finished.code(),
            if matches!(place, 2..=4) { 0 } else { 2 },
            "{finished}"
        );
        assert!(
            !finished
                .stderr
                .trim_end()
                .contains(['\n', '\u{1b}', '\u{202e}']),
            "{finished}"
        );
    }
    let lines = lab.log_of(7);
    assert_eq!(lines.len(), 7);
    for line in lines {
        assert!(!line.contains(['\n', '\u{1b}', '\u{202e}']), "{line:?}");
        assert!(
            line.contains(r"a\nresult=done\u{1b}[31m\u{202e}"),
            "{line:?}"
        );
    }
}

#[test]
fn an_empty_from_and_any_state_are_fine() {
    let lab = lab();
    let host = lab.host("server1");
    call(&host, 3, "").success();
    assert!(host.has(VIP));
    for state in ["", "end", "abort", "failover"] {
        call(&host, 2, state).success();
    }
}

#[test]
fn a_from_that_cannot_be_read_moves_the_vip_all_the_same_and_is_in_the_log() {
    let lab = lab();
    let host = lab.host("server1");
    for (place, value) in [
        (3, "fe80::1%eth0"),
        (3, "192.168.56.256"),
        (4, ""),
        (4, "eight"),
        (4, "65536"),
    ] {
        call(&host, place, value).success();
        assert!(host.has(VIP), "{value}");
        host.ok("unbind master8000");
    }
    lab.logged(&["took_over=", "from=\"fe80::1%eth0 8000\"", "exit=0"]);
}

#[test]
fn from_equal_to_to_changes_nothing_and_says_so() {
    let lab = lab();
    let host = lab.host("server1");
    for to in ["192.168.56.101", "192.168.56.102"] {
        host.vipswitch(["master8000", "leader", "start", to, "8000", to, "8000"])
            .success();
        assert!(!host.has(VIP));
    }
    lab.logged(&["tells nothing", "why=no_news", "exit=0"]);
}

#[test]
fn mapped_addresses_and_names_in_the_call_are_addresses() {
    let lab = lab();
    let host = lab.host("server1");
    lab.file(
        "hosts",
        "127.0.0.1 localhost\n192.168.56.101 redis-1\n192.168.56.102 redis-2\nfd00::101 six-1\n",
    );
    for (here, away) in [
        ("::ffff:192.168.56.101", "::ffff:192.168.56.102"),
        ("redis-1", "redis-2"),
        ("six-1", "fd00::102"),
    ] {
        host.hook("master8000", here).success();
        assert!(host.has(VIP), "{here}");
        host.hook("master8000", away).success();
        assert!(!host.has(VIP), "{away}");
    }
}

#[test]
fn a_name_that_its_own_host_knows_by_a_loopback_address_is_here() {
    let lab = lab();
    let host = lab.host("server1");
    let own = host.run("uname", ["-n"]);
    let own = own.trim();
    lab.file(
        "hosts",
        format!("127.0.0.1 localhost\n127.0.1.1 {own} redis-9\n127.0.0.1 localhost-db\n"),
    );
    host.hook("master8000", own).success();
    assert!(host.has(VIP));
    // Any other name could be one that every host knows so.
    for name in ["localhost", "LOCALHOST", "localhost-db", "redis-9"] {
        host.hook("master8000", name)
            .fails(2, &["the same on every host"]);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_passing_fault() {
    let lab = lab();
    let host = lab.host("server1");
    let finished = host.hook("master8000", "redis-9.example");
    assert_eq!(finished.code(), 1, "{finished}");
    // It has tried for some time, and has left Sentinel's patience time to spare.
    assert!(finished.took >= Duration::from_secs(18), "{finished}");
    assert!(finished.took < SENTINELS_PATIENCE, "{finished}");
    lab.logged(&["cannot resolve the name redis-9.example", "exit=1"]);
}

#[test]
fn a_name_that_resolves_after_a_while_is_waited_for() {
    let lab = lab();
    let host = lab.host("server1");
    let mut hook = host.command(executable());
    hook.args([
        "master8000",
        "leader",
        "start",
        "",
        "8000",
        "redis-1",
        "8000",
    ]);
    // A name server that tells of a question, and does not answer: the file had no such name then.
    let script = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp') or die; $| = 1; print 'r'; recv $s, my $q, 999, 0; print 'q'; sleep 600";
    let mut server = host.command("perl");
    let mut server = server
        .args(["-e", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = || server.stdout.as_mut().unwrap().read_exact(&mut [0; 1]);
    told().unwrap();
    let mut child = hook.spawn().unwrap();
    told().unwrap();
    lab.file("hosts", "192.168.56.101 redis-1\n");
    let status = end_of(&mut child);
    assert!(status.success(), "{status:?}");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(host.has(VIP));
    assert!(!lab.logged(&["exit=0"]).contains("tries=1 "));
}

#[test]
fn a_name_of_two_hosts_is_a_passing_fault() {
    let lab = lab();
    let host = lab.host("server1");
    lab.file("hosts", "192.168.56.102 both\n192.168.56.101 both\n");
    let finished = host.hook("master8000", "both");
    assert_eq!(finished.code(), 1, "{finished}");
    lab.logged(&[
        "which is this host's, and 192.168.56.102, which is not",
        "exit=1",
    ]);
    assert!(!host.has(VIP));
}

#[test]
fn a_master_named_like_a_command_is_moved_by_sentinels_call() {
    let lab = lab();
    lab.config("[masters.bind]\nvip = \"192.168.56.251/24\"\n[masters.status]\nvip = \"192.168.56.252/24\"\n");
    let host = lab.host("server1");
    host.hook("bind", "192.168.56.101").success();
    host.hook("status", "192.168.56.101").success();
    assert!(host.has("192.168.56.251/32@eth1") && host.has("192.168.56.252/32@eth1"));
    assert_eq!(host.ok("unbind bind --quiet"), "");
    assert!(!host.has("192.168.56.251/32@eth1") && host.has("192.168.56.252/32@eth1"));
}
