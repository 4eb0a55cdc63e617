//! What the executable says and how it exits, for good and for bad input.

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::{Finished, Host, Lab, executable, false_sentinel, finish, finish_within, is_root};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
    [masters.bind]\nvip = \"192.168.56.251/24\"\n";
const VIP: &str = "192.168.56.250/24@eth1";

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
            "no master \"master800\" in the configuration. Did you mean \"master8000\"?",
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
        (
            3,
            "192.168.56.256",
            "FROM-IP \"192.168.56.256\" is neither an address nor a host name",
        ),
        (4, "", "FROM-PORT \"\" is empty"),
        (4, "eight", "FROM-PORT \"eight\" is not a port number"),
        (4, "65536", "FROM-PORT \"65536\" is above 65535"),
        (5, "", "TO-IP \"\" is empty"),
        (5, "127.0.0.1", "TO-IP 127.0.0.1 is the same on every host"),
        (
            5,
            "192.168.56.250",
            "TO-IP 192.168.56.250 is itself a configured VIP, so that nobody can tell which host it is on",
        ),
        (
            5,
            "192.168.56.251",
            "TO-IP 192.168.56.251 is itself a configured VIP",
        ),
        (
            5,
            "::ffff:192.168.56.250",
            "TO-IP 192.168.56.250 is itself a configured VIP",
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
        call(&host, place, OsStr::from_bytes(b"a\xff\xfe")).fails(
            2,
            &[if place == 1 {
                "ROLE"
            } else {
                "is not valid UTF-8: \"a"
            }],
        );
        if place != 2 {
            let finished = call(&host, place, &long);
            assert_eq!(finished.code(), 2, "{finished}");
            assert!(finished.stderr.len() < 1000, "{finished}");
        }
    }
    assert_eq!(call(&host, 2, &long).code(), 0);
    let line = lab.logged(&["exit=0"]);
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
            if place == 2 { 0 } else { 2 },
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
    assert!((18..35).contains(&finished.took.as_secs()), "{finished}");
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
    let mut child = hook.spawn().unwrap();
    // It has failed at least once when it is still running after a failed look-up took place;
    // the name appears only then.
    assert!(common::wait_for(Duration::from_millis(300), || child.try_wait().unwrap()).is_none());
    lab.file("hosts", "192.168.56.101 redis-1\n");
    let status = common::wait_for(Duration::from_secs(20), || child.try_wait().unwrap());
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
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
    assert!(host.has("192.168.56.251/24@eth1") && host.has("192.168.56.252/24@eth1"));
    assert_eq!(host.ok("unbind bind --quiet"), "");
    assert!(!host.has("192.168.56.251/24@eth1") && host.has("192.168.56.252/24@eth1"));
}

#[test]
fn a_full_or_closed_stdout_and_stderr_change_nothing() {
    let lab = lab();
    let host = lab.host("server1");
    let shell = |script: &str| {
        let mut command = host.command("sh");
        command.args(["-c", script, "sh"]).arg(executable());
        finish(command)
    };
    for into in [
        ">/dev/full",
        ">&-",
        ">/dev/full 2>/dev/full",
        ">&- 2>&- <&-",
    ] {
        assert_eq!(
            shell(&format!("\"$1\" bind master8000 -v {into}")).code(),
            0,
            "{into}"
        );
        assert!(host.has(VIP), "{into}");
        assert_eq!(
            shell(&format!("\"$1\" unbind --json {into}")).code(),
            0,
            "{into}"
        );
        assert!(!host.has(VIP), "{into}");
        assert_eq!(
            shell(&format!(
                "\"$1\" master8000 leader start '' 1 192.168.56.101 1 {into}"
            ))
            .code(),
            0,
            "{into}"
        );
        assert!(host.has(VIP), "{into}");
        assert_eq!(
            shell(&format!("\"$1\" master8000 leader start '' 1 '' 1 {into}")).code(),
            2,
            "{into}"
        );
        assert_eq!(shell(&format!("\"$1\" bnid {into}")).code(), 2, "{into}");
    }
    // What is asked for is the text alone.
    for ask in ["status", "--help", "--version", "completions bash"] {
        shell(&format!("\"$1\" {ask} >/dev/full")).fails(1, &["cannot write to stdout"]);
    }
    assert_eq!(
        shell("\"$1\" --help | head -n 1; \"$1\" completions bash | true").code(),
        0
    );
}

#[test]
fn the_configuration_is_read_only_from_where_nobody_else_can_write() {
    let lab = lab();
    let host = lab.host("server1");
    let config = |path: &std::path::Path| {
        let mut command = host.command(executable());
        command.args(["status", "--config"]).arg(path);
        finish(command)
    };
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };

    config(&lab.dir().join("absent.toml")).fails(
        2,
        &[
            "absent.toml: No such file",
            "Create it, or name another file",
        ],
    );
    config(&lab.dir().join("absent/v.toml")).fails(2, &["No such file"]);
    config(&lab.file("empty.toml", "")).fails(2, &["empty.toml: it is empty"]);
    config(&lab.file("blank.toml", " \n\n")).fails(2, &["blank.toml: it is empty"]);
    config(&lab.file("latin1.toml", b"# caf\xe9\n")).fails(2, &["it is not valid UTF-8 at byte 5"]);
    config(&lab.file("large.toml", " ".repeat((1 << 20) + 1))).fails(2, &["larger than 1 MiB"]);
    config(lab.dir()).fails(2, &["it is not a regular file"]);
    config("/dev/zero".as_ref()).fails(2, &["it is not a regular file"]);
    let fifo = lab.dir().join("fifo.toml");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    config(&fifo).fails(2, &["it is not a regular file"]);

    let file = lab.file("writable.toml", CONFIG);
    mode(&file, 0o620);
    config(&file).fails(
        2,
        &["it can be written by others (mode 0620)", "chmod go-w"],
    );
    mode(&file, 0o602);
    config(&file).fails(2, &["it can be written by others (mode 0602)"]);
    mode(&file, 0o644);
    config(&file).success();

    let folder = lab.dir().join("shared");
    fs::create_dir(&folder).unwrap();
    let file = lab.file("shared/v.toml", CONFIG);
    mode(&folder, 0o777);
    config(&file).fails(2, &["its folder", "can be written by others"]);
    // The link itself is safe, what it points to is not.
    let link = lab.dir().join("link.toml");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    config(&link).fails(2, &["its folder", "can be written by others"]);
    // Nor is a link on the way there.
    let safe = lab.file("safe.toml", CONFIG);
    std::os::unix::fs::symlink(&safe, folder.join("hop.toml")).unwrap();
    let hops = lab.dir().join("hops.toml");
    std::os::unix::fs::symlink(folder.join("hop.toml"), &hops).unwrap();
    config(&hops).fails(2, &["its folder", "can be written by others"]);
    mode(&folder, 0o755);
    config(&hops).success();
    config(&link).success();
    config(&file).success();
}

#[test]
fn a_password_file_that_everyone_can_read_is_refused() {
    let lab = lab();
    let host = lab.host("server1");
    let password = lab.file("password", "secret\n");
    lab.config(&format!(
        "{CONFIG}[sentinel]\npassword_file = \"{}\"\n",
        password.display()
    ));
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let said = host.ok("status");
    assert!(
        said.contains("everyone can read it") && !said.contains("secret"),
        "{said}"
    );
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(host.ok("status").contains("did not answer"));
    fs::remove_file(&password).unwrap();
    assert!(
        host.ok("status")
            .contains("correct its path in the configuration")
    );
}

#[test]
fn a_configuration_of_another_user_is_refused() {
    let lab = lab();
    let host = lab.host("server1");
    let path = if is_root() {
        let path = lab.file("other.toml", CONFIG);
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        path
    } else {
        // In this user namespace the host's root is somebody else.
        "/etc/passwd".into()
    };
    let mut command = host.command(executable());
    command.args(["status", "--config"]).arg(&path);
    finish(command).fails(2, &["belongs to user id 65534"]);
}

#[test]
fn a_mistake_in_the_configuration_is_named_by_place_and_reaches_the_log() {
    let lab = lab();
    let host = lab.host("server1");
    let path = lab.config("[masters.master8000]\nvpi = \"192.168.56.250/24\"\n");
    let said = format!(
        "{}:2:1: unknown field `vpi`, expected one of `vip`, `interface`, `announce_to`, `redis_username`, `redis_password_file`, `on_take_over`, `on_release`. Did you mean `vip`?",
        path.display()
    );
    host.vipswitch(["bind"]).fails(2, &[&said]);
    host.hook("master8000", "192.168.56.101").fails(2, &[&said]);
    lab.logged(&["unknown field", "master=master8000", "exit=2"]);
}

#[test]
fn the_option_names_another_configuration_than_the_environment() {
    let lab = lab();
    let host = lab.host("server1");
    let other = lab.file(
        "other.toml",
        "[masters.other]\nvip = \"192.168.56.252/24\"\n",
    );
    host.ok(&format!("bind --config {}", other.display()));
    assert!(host.has("192.168.56.252/24@eth1") && !host.has(VIP));
    // An empty variable names nothing.
    let mut command = host.command(executable());
    command.arg("status").env("VIPSWITCH_CONFIG", "");
    finish(command).fails(2, &["/etc/vipswitch.toml"]);
}

#[test]
fn colours_are_for_a_terminal_and_never_with_no_color() {
    let lab = lab();
    let host = lab.host("server1");
    // An interface that is not there is a problem, and an error.
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth7\"\n");
    let shown = |command: &str, environment: [(&str, &str); 2]| {
        let mut terminal = host.command("script");
        let command = format!("{} {command}", executable().display());
        terminal.args(["-qec", &command, "/dev/null"]);
        terminal.envs(environment);
        finish(terminal).stdout
    };
    for (command, painted) in [("status", "PROBLEM: "), ("check", "ERROR")] {
        let red = format!("\x1b[31m{painted}");
        let colours = shown(command, [("TERM", "xterm"), ("NO_COLOR", "")]);
        assert!(colours.contains(&red), "{colours}");
        for environment in [
            [("TERM", "xterm"), ("NO_COLOR", "1")],
            [("TERM", "dumb"), ("NO_COLOR", "")],
        ] {
            let plain = shown(command, environment);
            assert!(
                plain.contains(painted) && !plain.contains('\x1b'),
                "{plain}"
            );
        }
        let mut piped = host.command(executable());
        piped.arg(command).env("TERM", "xterm");
        let plain = finish(piped).stdout;
        assert!(
            plain.contains(painted) && !plain.contains('\x1b'),
            "{plain}"
        );
    }
}

#[test]
fn sentinels_call_by_hand_tells_on_a_terminal_what_it_did() {
    let lab = lab();
    let host = lab.host("server1");
    let call = "master8000 observer start 192.168.56.109 8000 192.168.56.101 8000";
    let mut terminal = host.command("script");
    let command = format!("{} {call}", executable().display());
    terminal.args(["-qec", &command, "/dev/null"]);
    let shown = finish(terminal).success();
    assert!(shown.contains("took_over=") && host.has(VIP), "{shown}");
    // Sentinel has none.
    assert_eq!(host.hook("master8000", "192.168.56.101").success(), "");
}

#[test]
fn a_quiet_status_shows_what_is_wrong_and_nothing_else() {
    let lab = lab();
    let host = lab.host("server1");
    false_sentinel(&host, "6800", &common::says_master_is("192.168.56.101"));
    let more = "[sentinel]\naddress = \"127.0.0.1:6800\"\n";
    lab.config(&format!("{CONFIG}{more}"));
    assert!(
        host.ok("status -q")
            .contains("PROBLEM: the master is here and the VIP is not")
    );
    host.ok("bind");
    assert_eq!(host.ok("status -q"), "");
}

#[test]
fn mistyped_commands_options_and_masters_suggest_the_nearest() {
    let lab = lab();
    let host = lab.host("server1");
    host.vipswitch(["bnid"]).fails(2, &["bind"]);
    host.vipswitch(["--dry-run", "bnid", "master8000", "m"])
        .fails(2, &["bind"]);
    host.vipswitch(["bind", "--dry-rnu"])
        .fails(2, &["--dry-run"]);
    host.vipswitch(["bind", "master8001"])
        .fails(2, &["Did you mean \"master8000\"?"]);
    host.vipswitch(["status", "-q", "-v"])
        .fails(2, &["cannot be used with"]);
    assert_eq!(host.addresses().len(), 2);
}

#[test]
fn help_shows_the_ways_to_run_it_and_every_command_has_an_example() {
    let plain = |words: &[&str]| {
        let mut command = Command::new(executable());
        command.args(words);
        finish(command).success()
    };
    let help = plain(&["--help"]);
    for word in [
        "bind",
        "unbind",
        "announce",
        "status",
        "check",
        "sync",
        "completions",
        "--config",
        "--dry-run",
        "--json",
        "--quiet",
        "--verbose",
        "--version",
        "client-reconfig-script",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
    // A screen of the smallest usual size, with the prompt below it.
    let columns = help.lines().map(str::len).max();
    assert!(help.lines().count() < 24 && columns <= Some(80), "{help}");
    for verb in [
        "bind",
        "unbind",
        "announce",
        "status",
        "check",
        "sync",
        "completions",
    ] {
        assert!(
            plain(&[verb, "--help"]).contains(&format!("Example:\n  vipswitch {verb}")),
            "{verb}"
        );
    }
    assert_eq!(
        plain(&["--version"]),
        concat!("vipswitch ", env!("CARGO_PKG_VERSION"), "\n")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            plain(&["completions", shell]).contains("dry-run"),
            "{shell}"
        );
    }
}

#[test]
fn the_readme_documents_every_field_and_no_other() {
    let readme = include_str!("../README.md");
    let section = readme
        .split("### JSON")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let mut tables = section.split("`status`:");
    // What stands in backquotes in the first column.
    let documented = |table: &str| {
        let first = table
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split('|').next());
        let mut names: Vec<String> = first
            .flat_map(|cell| {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        names.sort();
        names
    };
    let (actions, status) = (
        documented(tables.next().unwrap()),
        documented(tables.next().unwrap()),
    );
    let lab = lab();
    let host = lab.host("server1");
    let keys = |words: &str| {
        let object: serde_json::Value =
            serde_json::from_str(host.ok(words).lines().next().unwrap()).unwrap();
        let mut keys: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys("bind --json"), actions);
    assert_eq!(keys("status --json"), status);
}

#[test]
fn the_completions_load_into_bash() {
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            "source <(\"$1\" completions bash) && complete -p vipswitch",
            "bash",
        ])
        .arg(executable());
    assert!(finish(command).success().contains("vipswitch"));
}

#[test]
fn output_is_for_people_for_machines_or_for_nobody() {
    let lab = lab();
    let host = lab.host("server1");
    let text = host.ok("bind");
    assert!(text.contains("master8000: took 192.168.56.250/24 over on eth1: its subnet holds the VIP (2 frames), in "), "{text}");
    assert_eq!(text.lines().count(), 2, "one line a VIP: {text}");
    assert_eq!(host.ok("bind -q"), "");
    let verbose = host.vipswitch(["bind", "-v", "master8000"]);
    assert!(
        verbose.stderr.contains(
            "master=master8000 why=bind already_here=192.168.56.250/24@eth1 frames=2 reset=0"
        ),
        "{verbose}"
    );
    let json = host.ok("bind --json master8000");
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["master"], "master8000");
    assert_eq!(object["vip"], "192.168.56.250");
    assert_eq!(object["prefix"], 24);
    assert_eq!(object["action"], "already_here");
    assert_eq!(object["interfaces"], serde_json::json!(["eth1"]));
    assert_eq!(object["frames"], 2);
    assert_eq!(object["dry_run"], false);
    assert!(object["error"].is_null() && object["took_ms"].as_f64().unwrap() > 0.0);
    let failed = lab.config("[masters.m]\nvip = \"10.9.9.9\"\n");
    let failed = host
        .vipswitch(["bind", "--json", "--config", failed.to_str().unwrap()])
        .fails(2, &["found no interface"]);
    let object: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(object["action"], "failed");
    assert!(
        object["error"]
            .as_str()
            .unwrap()
            .contains("found no interface for 10.9.9.9/32")
    );
}

#[test]
fn the_log_line_tells_a_person_and_a_machine_what_was_done() {
    let lab = lab();
    let host = lab.host("server1");
    host.hook("master8000", "192.168.56.101").success();
    let line = lab.logged(&["exit=0"]);
    // <30> is facility daemon (3), severity info (6): 3 * 8 + 6.
    assert!(line.starts_with("<30>"), "{line}");
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
    let finished = finish_within(command, Duration::from_secs(5));
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
    command.args(["panics", "--exact", "--ignored", "--nocapture"]);
    let finished = finish(command).fails(
        128 + 6,
        &[
            "msg=\"panic: on purpose",
            "at=tests/cli.rs",
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

#[test]
fn a_sentinel_that_does_not_answer_properly_is_part_of_the_status() {
    let lab = lab();
    let host = lab.host("server1");
    let cases = [
        ("sleep 60", "nothing within 300 ms"),
        (
            "while (1) { print $client '$'; select undef, undef, undef, 0.05 }",
            "did not answer",
        ),
        (
            "for my $byte (split //, \"*2\\r\\n\\$9\\r\\n10.0.0.1\") { print $client $byte; select undef, undef, undef, 0.05 }",
            "nothing within 300 ms",
        ),
        (
            "print $client \"HTTP/1.1 200 OK\\r\\n\\r\\n\"",
            "did not answer",
        ),
        ("", "did not answer"),
        (
            "print $client \"-NOAUTH Authentication required.\\r\\n\"; sleep 60",
            "Set username and password_file",
        ),
        (
            "print $client \"*2\\r\\n\\$8\\r\\n10.0.0.1\\r\\n\\$5\\r\\n99999\\r\\n\"; sleep 60",
            "did not answer",
        ),
        (
            "print $client \"*-1\\r\\n\"; sleep 60",
            "Sentinel does not monitor a master named",
        ),
    ];
    for (port, (script, said)) in (20_000..).zip(cases) {
        let port = port.to_string();
        lab.config(&format!(
            "{CONFIG}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        false_sentinel(&host, &port, script);
        let finished = host.vipswitch(["status"]);
        // 300 ms for Sentinel, 500 ms for the probe, and what the machine takes.
        assert!(
            finished.took < Duration::from_secs(4),
            "{script}: {finished}"
        );
        assert!(finished.stdout.contains(said), "{script}: {finished}");
        assert_eq!(finished.stdout.lines().count(), 2, "{script}: {finished}");
        finished.success();
    }
}
