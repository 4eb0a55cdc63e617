//! The operator's command line: its help, its output for people, for machines and for nobody.

use std::process::Command;

use crate::common::{Lab, executable, false_sentinel, finish};

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
            shell(&format!("\"$1\" unbind --all --json {into}")).code(),
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
    for ask in [
        "status",
        "--help",
        "--version",
        "completions bash",
        "bind master8000 --dry-run",
        "unbind master8000 --dry-run --json",
    ] {
        shell(&format!("\"$1\" {ask} >/dev/full")).fails(1, &["cannot write to stdout"]);
    }
    assert_eq!(
        shell("\"$1\" --help | head -n 1; \"$1\" completions bash | true").code(),
        0
    );
}

/// A timer's run whose output nobody reads ends, and as it would have.
#[test]
fn a_stdout_that_nobody_reads_holds_nothing_up_for_good() {
    let lab = lab();
    let host = lab.host("server1");
    let fifo = lab.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "exec 3<>\"$2\"; dd if=/dev/zero of=\"$2\" oflag=nonblock bs=4096 count=999 2>/dev/null; \
                  exec \"$1\" bind master8000 >&3";
    let mut command = host.command("sh");
    command
        .args(["-c", script, "sh"])
        .arg(executable())
        .arg(&fifo);
    finish(command).success();
    assert!(host.has(VIP));
}

#[test]
fn an_order_without_a_name_is_for_the_only_master_or_needs_all() {
    let lab = lab();
    let host = lab.host("server1");
    for verb in ["bind", "unbind", "bind --dry-run"] {
        host.vipswitch(verb.split(' ')).fails(
            2,
            &[
                "several masters are configured and none is named",
                "of bind, master8000, or give --all",
            ],
        );
        assert_eq!(host.addresses().len(), 2);
    }
    host.vipswitch(["bind", "--all", "master8000"])
        .fails(2, &["cannot be used with"]);
    assert_eq!(host.ok("bind --all").lines().count(), 2);
    assert_eq!(host.ok("announce").lines().count(), 2);
    assert_eq!(host.ok("unbind --all").lines().count(), 2);
    lab.config("[masters.master8000]\nvip = \"192.168.56.250/24\"\n");
    assert_eq!(host.ok("bind").lines().count(), 1);
    assert!(host.has(VIP));
}

#[test]
fn help_and_version_are_commands_too() {
    let plain = |words: &[&str]| {
        let mut command = Command::new(executable());
        command.args(words);
        finish(command)
    };
    let version = concat!("vipswitch ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(plain(&["version"]).success(), version);
    assert_eq!(plain(&["help"]).success(), plain(&["--help"]).success());
    assert_eq!(
        plain(&["help", "bind"]).success(),
        plain(&["bind", "--help"]).success()
    );
    plain(&["help", "bnid"]).fails(2, &["unrecognized subcommand"]);
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
        "failover",
        "maintenance",
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
        "failover",
        "maintenance",
        "completions",
    ] {
        assert!(
            plain(&[verb, "--help"]).contains(&format!("Example:\n  vipswitch {verb}")),
            "{verb}"
        );
        if verb != "completions" {
            let codes = plain(&[verb, "--help"]);
            assert!(codes.contains("Exit codes: 0 "), "{verb}");
        }
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

/// The fields of docs/json.md: what stands in backquotes in the first column, below a heading of a table
/// or a line such as "`announcer`:".
fn documented(heading: &str) -> Vec<String> {
    let text = include_str!("../../docs/json.md");
    let (_, below) = text.split_once(&format!("\n{heading}\n")).expect(heading);
    let mut lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let mut names: Vec<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn fields(object: &serde_json::Value) -> Vec<String> {
    let mut fields: Vec<String> = object.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    fields
}

#[test]
fn the_documents_have_every_field_and_no_other() {
    let lab = lab();
    let host = lab.host("server1");
    let told = |words: &str| -> Vec<serde_json::Value> {
        let text = host.vipswitch(words.split(' ')).stdout;
        let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.collect()
    };
    let outcome = documented("## bind, unbind, sync");
    for words in ["bind", "announce", "unbind"].map(|verb| format!("{verb} --json master8000")) {
        assert_eq!(fields(&told(&words)[0]), outcome, "{words}");
    }
    host.ok("bind master8000");
    let announced = told("announce --for 1s --json master8000");
    assert_eq!(fields(&announced[0]), outcome);
    assert_eq!(fields(announced.last().unwrap()), documented("## announce"));
    let status = &told("status --json master8000")[0];
    assert_eq!(fields(status), documented("## status"));
    assert_eq!(fields(&status["announcer"]), documented("`announcer`:"));
    let finding = &told("check --json")[0];
    assert_eq!(fields(finding), documented("## check"));
    // A fault that no other try mends: `sync` tells at once.
    let unwilling = "while (question($client)) { print $client \"-NOAUTH no password\\r\\n\" }";
    false_sentinel(&host, "26379", unwilling);
    assert_eq!(fields(&told("sync --json")[0]), outcome);
    let text = include_str!("../../docs/json.md");
    for binding in fields(&status["bindings"][0]) {
        assert!(text.contains(&format!("`{binding}`")), "{binding}");
    }
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
    let text = host.ok("bind --all");
    assert!(text.contains("master8000: took 192.168.56.250/24 over on eth1: its subnet holds the VIP (2 frames), in "), "{text}");
    assert_eq!(text.lines().count(), 2, "one line a VIP: {text}");
    assert_eq!(host.ok("bind --all -q"), "");
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
