//! The log line of a run, with syslog, without it, and with one that hangs.

use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::common::{Finished, Lab, eventually, executable, finish, guides_lab};

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
    [masters.bind]\nvip = \"192.168.56.251/24\"\n";

const VIP: &str = "192.168.56.250/32@eth1";

/// One host, 192.168.56.101, with a configuration.
fn lab() -> Lab {
    let lab = Lab::with_hosts(["server1"]);
    lab.config(CONFIG);
    lab
}

#[test]
fn the_log_line_tells_a_person_and_a_machine_what_was_done() {
    let lab = lab();
    let host = lab.host("server1");
    host.hook("master8000", "192.168.56.101").success();
    let line = lab.logged(&["exit=0"]);
    // <28> is facility daemon (3), severity warning (4): 3 * 8 + 4. There is no Sentinel to agree.
    assert!(line.starts_with("<28>"), "{line}");
    let (_, line) = line.split_once(" vipswitch[").expect(&line);
    let (pid, line) = line.split_once("]: ").unwrap();
    assert!(pid.parse::<u32>().is_ok());
    for part in [
        "msg=\"took 192.168.56.250/24 over on eth1: its subnet holds the VIP (3 frames)\"",
        " master=master8000 role=observer state=start from=192.168.56.109:8000 to=192.168.56.101:8000 why=to_is_here sentinel=",
        " took_over=192.168.56.250/24@eth1 frames=3 reset=0 tries=1 exit=0 load_ms=",
        " announced_ms=",
        " total_ms=",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    host.hook("master8000", "192.168.56.102").success();
    lab.logged(&[
        "released 192.168.56.250/24 from eth1",
        "why=to_is_elsewhere",
        "released=192.168.56.250/24@eth1",
    ]);
    host.hook("master8000", "").fails(2, &[]);
    // Severity error (3).
    assert!(lab.logged(&["exit=2"]).starts_with("<27>"));
}

#[test]
fn without_syslog_the_line_is_on_stderr() {
    let lab = lab();
    let host = lab.host("server1");
    fs::remove_file(lab.dir().join("log")).unwrap();
    let says = |finished: Finished, said: &str| {
        assert_eq!(finished.stderr.matches("msg=").count(), 1, "{finished}");
        assert!(finished.stderr.contains(said), "{said} in {finished}");
        finished.success();
    };
    says(
        host.hook("master8000", "192.168.56.101"),
        "vipswitch: msg=\"took 192.168.56.250/24 over",
    );
    says(
        host.vipswitch(["unbind", "master8000"]),
        "vipswitch: msg=\"released 192.168.56.250/24",
    );
    says(
        host.vipswitch(["bind", "-v", "master8000"]),
        "vipswitch: msg=\"took 192.168.56.250/24 over",
    );
}

#[test]
fn a_syslog_that_has_stopped_reading_holds_nothing_up() {
    let lab = lab();
    let host = lab.host("server1");
    let path = lab.dir().join("log");
    fs::remove_file(&path).unwrap();
    let _stuck = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    filler.connect(&path).unwrap();
    while filler.send(&[b'x'; 1000]).is_ok() {}
    let mut command = host.command(executable());
    command.args([
        "master8000",
        "leader",
        "start",
        "",
        "8000",
        "192.168.56.101",
        "8000",
    ]);
    let finished = finish(command);
    assert!(finished.stderr.contains("msg=\"took"), "{finished}");
    finished.success();
    assert!(host.has(VIP));
}

#[test]
fn a_panic_is_logged_and_aborts_so_that_sentinel_retries() {
    let lab = lab();
    let mut command = lab
        .host("server1")
        .command(std::env::current_exe().unwrap());
    command.args(["log::panics", "--exact", "--ignored", "--nocapture"]);
    let finished = finish(command).fails(
        128 + 6,
        &[
            "msg=\"panic: on purpose",
            "at=tests/integration/log.rs",
            "please report it",
        ],
    );
    assert!(!finished.stderr.contains("stack backtrace"), "{finished}");
    assert!(lab.logged(&["panic: on purpose"]).starts_with("<27>"));
}

#[test]
#[ignore = "no test: the process that panics in the test above"]
fn panics() {
    vipswitch::log::install_panic_hook();
    panic!("on purpose");
}

/// The pairs of a line, in which a value in double quotes may hold anything but such a quote.
fn pairs(line: &str) -> Vec<(String, String)> {
    let (_, mut rest) = line.split_once("msg=").expect(line);
    let mut pairs = Vec::new();
    let mut key = "msg".to_owned();
    loop {
        let (value, left) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect(line),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        pairs.push((key, value.to_owned()));
        if left.is_empty() {
            return pairs;
        }
        let (next, value) = left.trim_start().split_once('=').expect(line);
        (key, rest) = (next.to_owned(), value);
    }
}

#[test]
fn no_masters_name_makes_a_pair_or_a_line_of_its_own() {
    let names = ["a exit=0 b", "a\" exit=0 frames=7 \"b", "a=b", "a\\"];
    for name in names {
        let toml = name.replace('\\', "\\\\").replace('"', "\\\"");
        let lab = guides_lab(&format!(
            "[masters.\"{toml}\"]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n"
        ));
        let one = lab.host("server1");
        one.hook(name, "192.168.56.101").success();
        for verb in ["bind", "announce", "status", "check", "unbind"] {
            one.vipswitch([verb, "--verbose"]);
        }
        if name == names[0] {
            // Without Sentinel it tries again for 20 s.
            one.vipswitch(["sync", "--verbose"]);
        }
        one.vipswitch([name, "leader", "start", "x", "1", "x y", "x"]);
        eventually("the announcers have told", || {
            let log = lab.log();
            log.iter()
                .filter(|line| line.contains("msg=\"announced "))
                .count()
                >= 2
        });
        check(&lab.log());
    }
    // Names that no configuration has.
    let lab = guides_lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    for name in [
        "a\n<3>vipswitch: msg=\"x\" exit=0",
        "\u{202e}exit=0 \u{1b}[m",
        "a\" exit=0 \"",
    ] {
        lab.host("server1")
            .hook(name, "192.168.56.101")
            .fails(2, &[]);
    }
    check(&lab.log_of(3));
}

/// Checks that each line is one, and has each key once.
fn check(lines: &[String]) {
    for line in lines {
        let pairs = pairs(line.trim_end());
        let mut keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        let number = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), number, "{line}");
        assert!(keys.contains(&"master"), "{line}");
        assert!(!line.trim_end().contains(char::is_control), "{line}");
    }
}
