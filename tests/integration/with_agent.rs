//! The hook and the operator's commands beside an agent: what they leave to it, and what they do themselves where
//! it hangs, refuses, or is not there.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{
    Finished, Host, Lab, ONLY_V4, SENTINELS_PATIENCE, V4_BOUND, eventually, executable, finish,
    guides_lab,
};

/// A program in the agent's place: it writes each request down and answers with the same line, or never.
const FALSE_AGENT: &str = r#"
use IO::Socket::UNIX;
my ($path, $answer) = @ARGV;
my $server = IO::Socket::UNIX->new(Local => $path, Listen => 9) or die "$path: $!";
$| = 1; print "r"; my @held;
while (my $client = $server->accept) {
    push @held, $client and next if $answer eq "";
    my $request = <$client>;
    open my $file, ">>", "$path.asked" or die $!;
    print $file $request; close $file;
    print $client " ", $answer, "\n";
}
"#;

struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// Starts one in its place, on a host of the lab, with which it ends. Without an answer it hangs.
    #[expect(
        clippy::zombie_processes,
        reason = "it ends with the lab, whose first process reaps it"
    )]
    fn start(lab: &Lab, host: &Host, answer: Option<Value>) -> Agent {
        let socket = lab.unique("agent.sock");
        let answer = answer.map(|answer| answer.to_string()).unwrap_or_default();
        let mut command = host.command("perl");
        command.args(["-e", FALSE_AGENT]).arg(&socket).arg(answer);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 1];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        Agent { socket }
    }

    /// What it was asked so far.
    fn asked(&self) -> Vec<Value> {
        let mut path = self.socket.clone().into_os_string();
        path.push(".asked");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs `vipswitch` with these words beside it.
    fn beside(&self, host: &Host, words: &str) -> Finished {
        let mut command = host.command(executable());
        command.args(words.split(' '));
        self.run(command)
    }

    /// The same without any capability: as Sentinel runs it in Debian's own unit.
    fn without_privilege(&self, host: &Host, words: &str) -> Finished {
        let mut command = host.command("setpriv");
        command.args([
            "--bounding-set",
            "-all",
            "--inh-caps",
            "-all",
            "--no-new-privs",
        ]);
        command.arg(executable()).args(words.split(' '));
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Finished {
        command.env("VIPSWITCH_AGENT_SOCKET", &self.socket);
        finish(command)
    }
}

const CALL: &str = "m observer start 192.168.56.109 8000 192.168.56.101 8000";

#[test]
fn a_hook_beside_an_agent_needs_no_privilege_and_no_configuration() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let answer = json!({"exit": 1, "out": "", "err": ["m: it \"will\" be tried again\u{1b}[31m"]});
    let agent = Agent::start(&lab, &server, Some(answer));
    fs::remove_file(lab.dir().join("vipswitch.toml")).unwrap();
    let run = agent.without_privilege(&server, CALL);
    let run = run.fails(1, &["m: it \"will\" be tried again\\u{1b}[31m"]);
    assert_eq!(run.stdout, "");
    let asked = agent.asked();
    let words: Vec<&str> = CALL.split(' ').collect();
    assert_eq!(asked[0]["verb"], json!({ "hook": words }));
    let config = lab.dir().join("vipswitch.toml");
    assert_eq!(asked[0]["config"], json!(config));
    assert_eq!(asked.len(), 1);
    let line = lab.logged(&["by=agent", "exit=1", "master=m", "to=192.168.56.101:8000"]);
    assert!(line.contains("msg=\"m: it 'will' be tried again"), "{line}");
    assert!(!server.has(V4_BOUND));
}

#[test]
fn a_hook_beside_an_agent_that_hangs_does_its_own_work_in_time() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let agent = Agent::start(&lab, &server, None);
    let run = agent.beside(&server, CALL);
    assert!(run.took < SENTINELS_PATIENCE, "{run}");
    run.success();
    assert!(server.has(V4_BOUND));
    lab.logged(&[
        "took_over=",
        "agent=\"the agent does not answer\"",
        "exit=0",
    ]);
    server.ok("unbind");
    // The agent may answer another time: Sentinel is to call again.
    agent.without_privilege(&server, CALL).fails(1, &[]);
    lab.logged(&[
        "CAP_NET_RAW is missing",
        "agent=\"the agent does not answer\"",
        "exit=1",
    ]);
}

#[test]
fn an_order_beside_an_agent_that_hangs_is_done_with_force_only() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let agent = Agent::start(&lab, &server, None);
    for order in ["bind m", "unbind m"] {
        let run = agent.beside(&server, order);
        let said = run
            .fails(1, &["the agent does not answer", "--force"])
            .stderr;
        assert!(!said.contains("going on"), "{said}");
        assert!(!server.has(V4_BOUND));
    }
    agent.beside(&server, "bind m --force").success();
    assert!(server.has(V4_BOUND));
    agent.beside(&server, "unbind m").fails(1, &[]);
    assert!(server.has(V4_BOUND));
}

#[test]
fn a_hook_without_configuration_is_called_again_while_there_is_an_agent_that_has_one() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    fs::remove_file(lab.dir().join("vipswitch.toml")).unwrap();
    let refused = json!({"exit": 0, "refused": "it serves 32 others already"});
    let agent = Agent::start(&lab, &server, Some(refused));
    agent.without_privilege(&server, CALL).fails(1, &[]);
    lab.logged(&[
        "cannot use the configuration",
        "The agent has not done it either: the agent refuses: it serves 32 others",
        "exit=1",
    ]);
}

#[test]
fn a_hook_that_an_agent_refuses_does_its_own_work() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let answer = json!({"exit": 0, "refused": "it is about to end"});
    let agent = Agent::start(&lab, &server, Some(answer));
    agent.beside(&server, CALL).success();
    assert!(server.has(V4_BOUND));
    lab.logged(&[
        "took_over=",
        "agent=\"the agent refuses: it is about to end\"",
    ]);
}

#[test]
fn without_agent_and_privilege_a_hook_names_both() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let nobody = Agent {
        socket: lab.unique("agent.sock"),
    };
    nobody.without_privilege(&server, CALL).fails(
        2,
        &[
            "CAP_NET_RAW is missing",
            "no agent is running on this host",
            "systemctl enable --now vipswitch-agent",
        ],
    );
    lab.logged(&["exit=2", "agent=\"no agent is running on this host\""]);
    // With its privilege there is no word of an agent that nobody wants.
    nobody.beside(&server, CALL).success();
    let line = lab.logged(&["took_over=", "exit=0"]);
    assert!(!line.contains("agent="), "{line}");
}

#[test]
fn the_operators_commands_are_the_agents_to_carry_out() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let answer = json!({
        "exit": 2, "out": "m: told\n", "err": ["m: the master is 192.168.56.102. Give --force."],
    });
    let agent = Agent::start(&lab, &server, Some(answer));
    for (words, verb) in [
        ("bind m", json!({"bind": {"force": false}})),
        ("bind --force", json!({"bind": {"force": true}})),
        ("unbind --all", json!({"unbind": {"force": false}})),
        ("announce m", json!("announce")),
        ("sync --json", json!("sync")),
    ] {
        let run = agent.beside(&server, words);
        let run = run.fails(
            2,
            &["vipswitch: m: the master is 192.168.56.102. Give --force."],
        );
        assert_eq!(run.stdout, "m: told\n");
        // Whether it has the same configuration is asked afterwards.
        let mut asked = agent.asked().into_iter().rev();
        let asked = asked.find(|asked| asked["verb"] != "status").unwrap();
        assert_eq!(asked["verb"], verb, "{words}");
        let masters = if words.ends_with(" m") {
            json!(["m"])
        } else {
            json!([])
        };
        assert_eq!(asked["masters"], masters, "{words}");
        assert_eq!(asked["telling"]["json"], json!(words.ends_with("--json")));
    }
    assert!(!server.has(V4_BOUND));
    // What changes nothing, and what has to collect its answers itself.
    let before = agent.asked().len();
    agent.beside(&server, "bind --dry-run").success();
    agent.beside(&server, "announce --for 1s").success();
    let asked = agent.asked().split_off(before);
    let verbs: Vec<&Value> = asked.iter().map(|request| &request["verb"]).collect();
    assert_eq!(verbs, ["status"], "whether the agent would refuse it");
}

#[test]
fn where_several_masters_are_configured_the_agent_is_not_asked_about_all_by_oversight() {
    let lab = guides_lab(&format!(
        "{ONLY_V4}[masters.n]\nvip = \"192.168.56.251/24\"\n"
    ));
    let server = lab.host("server1");
    let agent = Agent::start(&lab, &server, Some(json!({"exit": 0})));
    agent.beside(&server, "bind").fails(2, &["several masters"]);
    assert!(agent.asked().is_empty());
    agent.beside(&server, "bind --all").success();
    let asked = agent.asked().into_iter();
    let orders = asked.filter(|asked| asked["verb"] != "status");
    assert_eq!(orders.count(), 1);
}

#[test]
fn an_order_that_the_agent_refuses_is_carried_out_without_it() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let answer = json!({"exit": 0, "refused": "its configuration is /a, not /b"});
    let agent = Agent::start(&lab, &server, Some(answer));
    let run = agent.beside(&server, "bind --force");
    assert!(
        run.stderr
            .contains("the agent refuses: its configuration is /a, not /b; going on without it"),
        "{run}"
    );
    assert!(run.success().contains("took 192.168.56.250"));
    assert!(server.has(V4_BOUND));
    assert_eq!(agent.beside(&server, "unbind -q").stderr, "");
    assert!(!server.has(V4_BOUND));
}

/// What an agent knows that has just taken a VIP over.
fn snapshot() -> Value {
    json!({
        "version": "9.9.9", "pid": 7, "uptime": 61.0, "drift_repaired": 0, "pending_commands": 0,
        "sentinels": [{"at": "192.168.56.101:26379", "events": true, "in_reach": true},
                      {"at": "192.168.56.102:26379", "events": false, "in_reach": false}],
        "masters": [{
            "name": "m", "verdict": "here", "why": "2 of 3 name this host", "reason": "majority_here",
            "master": "192.168.56.101:8000", "vips": [{"address": "192.168.56.250", "here": true, "rivals": [], "claims": 0,
                      "frames": 9, "answered_by": "nobody"}],
            "forced": null, "cut_off": null,
            "known_clients": 0, "maintenance": null, "death": null,
            "redis": [{"at": "127.0.0.1:8000", "role": "master", "refuses": false, "run_id": "abc"}],
            "replicas": [{"at": "192.168.56.102:8000", "lag": 1, "behind": 14, "online": true}],
            "votes": [{"who": "192.168.56.102:26379", "says": null, "silent": "timed out", "epoch": 0}],
            "last_failover": null, "failovers": 1, "paused_seconds": 0.0, "take_over_seconds": [],
            "take_overs": 1,
        }],
    })
}

#[test]
fn status_tells_what_the_agent_knows() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let answer = json!({"exit": 0, "out": snapshot().to_string()});
    let agent = Agent::start(&lab, &server, Some(answer));
    let text = agent.beside(&server, "status").success();
    for part in [
        "agent 9.9.9 (pid 7)",
        "1 of 2 Sentinels in reach, events from 1",
        "m: here (majority_here): 2 of 3 name this host; a majority names 192.168.56.101:8000",
        "127.0.0.1:8000 is master, run id abc",
        "192.168.56.102:8000 acknowledged 1 s ago, 14 bytes behind",
        "192.168.56.102:26379 is silent: timed out",
        "192.168.56.250 by this host alone",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let text = agent.beside(&server, "status --json").success();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let row: Option<Value> = { rows }.rfind(|row: &Value| row["agent"].is_object());
    assert_eq!(row.expect(&text)["agent"]["masters"], snapshot()["masters"]);
}

#[test]
fn status_believes_the_agent_while_it_knows_of_a_failover_before_the_sentinels() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind m");
    for (reason, problem) in [
        ("promoted_elsewhere", true),
        ("redis_has_died", true),
        ("promoted_here", false),
        ("majority_here", false),
    ] {
        let mut known = snapshot();
        known["masters"][0]["reason"] = json!(reason);
        let answer = json!({"exit": 0, "out": known.to_string()});
        let agent = Agent::start(&lab, &server, Some(answer));
        let text = agent.beside(&server, "status").success();
        let told = text.contains("the VIP is here and the master is on another host");
        assert_eq!(told, problem, "{reason}: {text}");
    }
}

#[test]
fn status_tells_what_is_done_about_a_redis_that_has_died_and_which_replica_lacks_its_data() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let mut known = snapshot();
    known["masters"][0]["death"] = json!("its Redis has died, and Sentinel decides: it is meant");
    known["masters"][0]["replicas"][0]["online"] = json!(false);
    let answer = json!({"exit": 0, "out": known.to_string()});
    let agent = Agent::start(&lab, &server, Some(answer));
    let text = agent.beside(&server, "status").success();
    for part in [
        "DEATH: its Redis has died, and Sentinel decides: it is meant",
        "192.168.56.102:8000 has not all of the master's data, 14 bytes behind",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn an_agent_that_hangs_or_was_killed_is_a_problem_and_one_that_is_not_meant_is_none() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let agent = Agent::start(&lab, &server, None);
    let run = agent.beside(&server, "status --json --exit-code");
    let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["agent"], Value::Null, "{run}");
    let problem = last["problem"].as_str().unwrap();
    assert!(problem.contains("the agent does not answer"), "{run}");
    assert_ne!(run.code(), 0, "{run}");
    // Where none is meant to run that is told, and no problem.
    let missing = server.vipswitch(["status", "--json"]).success();
    let last: Value = serde_json::from_str(missing.lines().last().unwrap()).unwrap();
    let told = [&last["agent"], &last["problem"]];
    assert_eq!(told, [&Value::Null; 2], "{missing}");
    let note = last["note"].as_str().unwrap();
    assert!(note.contains("about 1 s later than an agent"), "{missing}");
    let text = server.ok("status");
    assert!(text.contains("agent: none runs on this host: "), "{text}");
    // An agent that was killed leaves its socket.
    let mut killed = server.command(executable());
    let socket = lab.dir().join("killed.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    killed
        .args(["status", "--exit-code", "--quiet"])
        .env("VIPSWITCH_AGENT_SOCKET", &socket);
    let run = finish(killed);
    let problem = "agent: PROBLEM: none runs on this host, although one has left its socket";
    assert!(run.stdout.contains(problem), "{run}");
    assert_ne!(run.code(), 0, "{run}");
    // Also where the Sentinel has died, too.
    let mut killed = server.command(executable());
    killed.arg("check").env("VIPSWITCH_AGENT_SOCKET", &socket);
    let run = finish(killed);
    let warning = "no agent answers, although one has left its socket";
    assert!(run.stdout.contains(warning), "{run}");
}

#[test]
fn a_watched_status_is_told_again_until_nobody_reads() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    let watch = format!("{} status --watch | head -n 3", quoted(&executable()));
    let mut sh = server.command("sh");
    sh.args(["-c", &watch]);
    // It ends because its reader has: by itself it never would.
    let text = finish(sh).success();
    let told = text.lines().filter(|line| line.starts_with("m: "));
    assert!(told.count() >= 2, "{text}");
    // No terminal is cleared that is none.
    assert!(!text.contains('\u{1b}'), "{text}");
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn without_agent_force_is_what_bind_does_anyway() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    server.ok("bind m --force");
    assert!(server.has(V4_BOUND));
    server.ok("unbind m --force");
    eventually("it is gone", || !server.has(V4_BOUND));
}
