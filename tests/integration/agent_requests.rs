//! What the real agent does of what is asked of it over its socket, beside real Sentinels.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::common::redis::{MASTER_8000, Site};
use crate::common::{Finished, end_of, eventually, executable, finish};

/// An agent on a server, until this is dropped.
struct Agent<'a> {
    site: &'a Site,
    server: &'static str,
    socket: PathBuf,
    process: Child,
}

impl<'a> Agent<'a> {
    /// Starts it, and waits until it has asked the Sentinels.
    fn start(site: &'a Site, server: &'static str) -> Agent<'a> {
        let socket = site.lab().unique("agent");
        let mut command = site.host(server).command(executable());
        command.arg("agent").env("VIPSWITCH_AGENT_SOCKET", &socket);
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let agent = Agent {
            site,
            server,
            socket,
            process,
        };
        eventually("the agent knows its master", || {
            agent.master().is_some_and(|master| {
                let verdict = master["verdict"].as_str();
                matches!(verdict, Some("here" | "elsewhere"))
            })
        });
        agent
    }

    fn command(&self, program: &[&str]) -> Command {
        let words: Vec<PathBuf> = program.iter().map(PathBuf::from).collect();
        let mut words = words.into_iter().chain([executable()]);
        let mut command = self.site.host(self.server).command(words.next().unwrap());
        command
            .args(words)
            .env("VIPSWITCH_AGENT_SOCKET", &self.socket);
        command
    }

    /// Runs `vipswitch` with these words beside it.
    fn beside(&self, words: &str) -> Finished {
        let mut command = self.command(&[]);
        command.args(words.split(' '));
        finish(command)
    }

    /// What it knows of the master.
    fn master(&self) -> Option<Value> {
        let text = self.beside("status --json").success();
        let mut rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let row: Value = rows.rfind(|row: &Value| row["agent"].is_object())?;
        Some(row["agent"]["masters"][0].clone())
    }

    fn holds(&self) -> bool {
        self.site.host(self.server).has(MASTER_8000.bound)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // The number is that of `nsenter`, which waits for the agent.
        let children = format!("pkill -TERM -P {}", self.process.id());
        let _ = Command::new("sh").args(["-c", &children]).status();
        end_of(&mut self.process);
    }
}

#[test]
fn a_call_without_privilege_is_the_agents_to_follow() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server1");
    let mut hook = agent.command(&[
        "setpriv",
        "--bounding-set",
        "-all",
        "--inh-caps",
        "-all",
        "--no-new-privs",
    ]);
    hook.args("master8000 observer start 192.168.56.102 8000 192.168.56.101 8000".split(' '));
    finish(hook).success();
    site.lab().logged(&["by=agent", "role=observer", "exit=0"]);
    assert!(agent.holds());
    // A call that is not true is a hint, too: the VIP stays where the Sentinels want it.
    let stale = "master8000 observer start 192.168.56.101 8000 192.168.56.102 8000";
    agent.beside(stale).success();
    assert!(agent.holds());
}

#[test]
fn an_order_against_the_truth_has_to_be_forced_and_lasts_until_the_opposite_one() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server2");
    agent.beside("bind master8000").fails(2, &["--force"]);
    let told = agent
        .beside("bind master8000 --json")
        .fails(2, &["--force"]);
    let row: Value = serde_json::from_str(told.stdout.trim()).unwrap();
    assert_eq!(row["action"], "failed", "{row}");
    assert!(row["error"].as_str().unwrap().contains("truth"), "{row}");
    agent
        .beside("bind master8000 --dry-run")
        .fails(2, &["would be refused", "--force"]);
    agent.beside("bind master8000 --dry-run --force").success();
    assert!(!agent.holds());
    agent.beside("bind master8000 --force").success();
    assert!(agent.holds());
    assert_eq!(agent.master().unwrap()["forced"], "bind");
    agent.beside("sync").success();
    assert!(agent.holds());
    let text = agent.beside("status").success();
    assert!(
        text.contains("forced: bind, until the next failover"),
        "{text}"
    );
    agent.beside("unbind").success();
    assert!(!agent.holds());
    assert_eq!(agent.master().unwrap()["forced"], Value::Null);
    // The other way round.
    let holder = Agent::start(&site, "server1");
    holder.beside("unbind").fails(2, &["--force"]);
    assert!(holder.holds());
    holder.beside("unbind --force").success();
    assert!(!holder.holds());
    // Nobody is sent from `status` to `sync` and back.
    let text = holder.beside("status").success();
    let problem = "an operator's `unbind --force` holds. `vipswitch bind` ends that and brings it.";
    assert!(text.contains(problem), "{text}");
    let sync = holder.beside("sync");
    assert!(
        sync.stderr.contains("`vipswitch bind master8000` does"),
        "{sync}"
    );
    let sync = holder.beside("sync --quiet");
    assert_eq!((sync.code(), sync.stderr.as_str()), (0, ""));
    assert!(!holder.holds());
    holder.beside("bind").success();
    assert!(holder.holds());
}

/// It is done, as an operator may know more than the Sentinels; but not without a word.
#[test]
fn an_order_of_which_nobody_knows_whether_it_is_right_says_so() {
    let site = Site::with_agents(&[MASTER_8000]);
    let unknown = "nobody knows whether this is right: no majority";
    let unbind = || site.host("server1").vipswitch(["unbind"]);
    for server in ["server2", "server3"] {
        site.end_service(server, "sentinel", "KILL");
    }
    eventually("no majority answers", || {
        site.verdict("server1").as_deref() == Some("fault")
    });
    let told = unbind();
    assert!(told.stderr.contains(unknown), "{told}");
    assert!(site.holders(MASTER_8000.vip).is_empty());
    let told = site.host("server1").vipswitch(["bind", "--quiet"]);
    assert!(!told.stderr.contains(unknown), "{told}");
    assert_eq!(site.holders(MASTER_8000.vip), ["server1"]);
}

#[test]
fn maintenance_is_shown_outlives_the_agent_and_ends_by_itself_or_when_it_is_ended() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server1");
    let maintenance = |agent: &Agent| agent.master().unwrap()["maintenance"].clone();
    let left = |agent: &Agent| maintenance(agent)["left"].as_f64();
    assert_eq!(maintenance(&agent), Value::Null);
    let told = agent
        .beside("maintenance master8000 on --for 30m")
        .success();
    assert_eq!(told, "master8000: in maintenance for 30 min\n");
    assert!(left(&agent).is_some_and(|left| (1700.0..=1800.0).contains(&left)));
    let text = agent.beside("status").success();
    assert!(text.contains("in MAINTENANCE: for another"), "{text}");
    agent
        .beside("maintenance master8000 on --dry-run")
        .success();
    assert!(left(&agent).is_some(), "a dry run changes nothing");
    drop(agent);
    let agent = Agent::start(&site, "server1");
    assert!(left(&agent).is_some_and(|left| (1000.0..=1800.0).contains(&left)));
    let told = agent.beside("maintenance master8000 off --json").success();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["maintenance"], false);
    assert_eq!(maintenance(&agent), Value::Null);
    // Without an end of its own.
    agent.beside("maintenance master8000 on").success();
    drop(agent);
    let agent = Agent::start(&site, "server1");
    assert_eq!(maintenance(&agent)["until"], Value::Null);
    assert!(maintenance(&agent).is_object());
    agent.beside("maintenance master8000 on --for 1s").success();
    eventually("it ends by itself", || maintenance(&agent) == Value::Null);
    drop(agent);
    let agent = Agent::start(&site, "server1");
    assert_eq!(maintenance(&agent), Value::Null);
}

#[test]
fn maintenance_outlives_a_change_of_the_vip() {
    let site = Site::with_agents(&[MASTER_8000]);
    let server = site.host("server1");
    server.ok("maintenance master8000 on");
    site.configure("[masters.master8000]\nvip = \"192.168.56.249/24\"\n");
    site.signal(&site.agent_pid("server1"), "HUP");
    eventually("the agent has the new VIP", || {
        site.holders("192.168.56.249") == ["server1"]
    });
    let status = server.ok("status");
    assert!(status.contains("MAINTENANCE"), "{status}");
}

#[test]
fn what_cannot_be_kept_for_the_next_agent_is_said_to_end_with_this_one() {
    let site = Site::with_agents(&[MASTER_8000]);
    let server = site.host("server1");
    // Nothing can be renamed to these.
    let script = "net=$(readlink /proc/self/ns/net | tr -dc 0-9); \
                  for what in maintenance order; do mkdir /run/vipswitch/$net-master-master8000.$what.json; done";
    server.run("sh", ["-c", script]);
    for words in ["maintenance master8000 on", "unbind master8000 --force"] {
        let run = server.vipswitch(words.split(' '));
        run.fails(1, &["ends with this agent", "cannot be kept"]);
    }
    server.ok("maintenance master8000 off");
    server.ok("bind master8000");
    site.settles(&MASTER_8000, "server1");
}

#[test]
fn what_was_asked_by_somebody_who_has_gone_is_not_done() {
    let site = Site::with_agents(&[MASTER_8000]);
    let (server, pid) = (site.host("server1"), site.agent_pid("server1"));
    eventually("the agent is stopped, and somebody asks it in vain", || {
        site.signal(&pid, "STOP");
        let run = server.vipswitch(["maintenance", "master8000", "on"]);
        let in_vain = run.stderr.contains("does not answer");
        if !in_vain {
            server.vipswitch(["maintenance", "master8000", "off"]);
        }
        in_vain
    });
    site.go_on(&pid);
    // Its requests are taken one after another.
    eventually("the agent answers", || {
        server
            .vipswitch(["announce", "master8000"])
            .status
            .success()
    });
    let status = server.ok("status");
    assert!(!status.contains("MAINTENANCE"), "{status}");
}

#[test]
fn maintenance_elsewhere_without_an_agent_or_of_no_master_says_so() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server2");
    let elsewhere = agent.beside("maintenance master8000 on");
    let said = "on another host, 192.168.56.101:8000";
    assert!(elsewhere.stderr.contains(said), "{elsewhere}");
    elsewhere.success();
    agent
        .beside("maintenance master8001 on")
        .fails(2, &["no master \"master8001\""]);
    agent
        .beside("maintenance master8000 off --for 1m")
        .fails(2, &["--for goes with on"]);
    // The only one need not be named; of several they are.
    let only = agent.beside("maintenance on --json").success();
    assert!(
        only.contains(r#""master":"master8000","maintenance":true"#),
        "{only}"
    );
    let lab = site.lab();
    let several =
        "[masters.a]\nvip = \"192.168.56.251/24\"\n[masters.b]\nvip = \"192.168.56.252/24\"\n";
    let file = lab.file("several.toml", several).display().to_string();
    let several = agent.beside(&format!("maintenance on --config {file}"));
    several.fails(2, &["none is named", "of a, b."]);
    let alone = site
        .host("server1")
        .vipswitch(["maintenance", "master8000", "on"]);
    alone.fails(2, &["no agent is running", "Sentinel decides"]);
}

#[test]
fn an_order_by_another_configuration_about_a_vip_of_the_agents_is_refused_and_says_so_before() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server1");
    let sentinel = "[sentinel]\naddress = \"127.0.0.1:6800\"\n";
    let file = |name: &str, vip: &str| {
        let text = format!("[masters.master8000]\nvip = \"{vip}/24\"\n{sentinel}");
        site.lab().file(name, text).display().to_string()
    };
    let host = site.host("server1");
    // The same VIP: the agent would undo it within a second, --force or not.
    let same = file("same.toml", MASTER_8000.vip);
    for words in ["unbind", "unbind --force", "unbind --dry-run"] {
        let run = agent.beside(&format!("{words} --config {same}"));
        run.fails(
            2,
            &[
                "the agent of this host serves 192.168.56.250 by ",
                "--config ",
            ],
        );
        assert!(host.has(MASTER_8000.bound), "{words}");
    }
    let check = agent.beside(&format!("check --config {same}"));
    assert!(
        check
            .stdout
            .contains("Check with the agent's configuration: --config FILE"),
        "{check}"
    );
    // A VIP that it does not have is none of its business.
    let other = file("other.toml", "192.168.56.251");
    let run = agent.beside(&format!("bind --config {other}"));
    assert!(run.stderr.contains("; going on without it"), "{run}");
    assert!(host.has("192.168.56.251/32@eth1"), "{run}");
    agent.beside(&format!("unbind --config {other}")).success();
    let text = agent.beside(&format!("status --config {other}")).success();
    assert!(
        text.contains("agent: the agent refuses: its configuration is "),
        "{text}"
    );
}

#[test]
fn an_agent_that_was_not_reloaded_is_said_to_be_so_wherever_it_shows() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server1");
    site.configure("[masters.master8000]\nvip = [\"192.168.56.250/24\", \"192.168.56.251/24\"]\n");
    let older = "the agent has an older configuration: it lacks 192.168.56.251 of master8000";
    let reload = "systemctl reload vipswitch-agent";
    for words in ["sync", "bind", "announce master8000"] {
        agent.beside(words).fails(1, &[older, reload]);
    }
    let problem =
        "the agent has an older configuration, which does not have this VIP. systemctl reload";
    for (words, parts) in [
        ("status", [older, reload, problem]),
        ("check", [older, reload, "which does not have this VIP"]),
    ] {
        let run = agent.beside(words);
        assert!(parts.iter().all(|part| run.stdout.contains(part)), "{run}");
        assert!(!run.stdout.contains("sync` brings it"), "{run}");
    }
    assert_eq!(agent.beside("status --quiet --exit-code").code(), 1);
    site.configure("[masters.master8000]\nvip = \"192.168.56.250/24\"\n");
    let run = agent.beside("sync");
    assert_eq!((run.code(), run.stderr.as_str()), (0, ""));
}

#[test]
fn a_second_agent_is_refused_and_names_the_first() {
    let site = Site::new(&[MASTER_8000]);
    let agent = Agent::start(&site, "server1");
    let second = agent.beside("agent");
    second.fails(2, &["another agent (pid ", "is at work on this host"]);
    let mut status = String::new();
    // A replica may be in its first synchronization.
    eventually("the replicas have acknowledged", || {
        status = agent.beside("status").success();
        status.contains("acknowledged")
    });
    for part in [
        "master8000: here (",
        "is master",
        "acknowledged",
        "in reach",
    ] {
        assert!(status.contains(part), "no {part} in {status}");
    }
}

#[test]
fn a_required_command_that_fails_is_the_failure_of_each_who_asks_for_what_it_belongs_to() {
    let file = |required: bool| {
        format!(
            "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
             on_take_over = {{ command = [\"/bin/test\", \"-e\", \"/run/may\"], required = {required} }}\n"
        )
    };
    let site = Site::with_agents_and(&file(false));
    let server = site.host("server1");
    let call = "master8000 leader start 192.168.56.102 8000 192.168.56.101 8000";
    let ask = |words: &str| server.vipswitch(words.split(' '));
    for words in ["bind master8000", "sync", call] {
        ask(words).success();
    }
    site.configure(&file(true));
    site.signal(&site.agent_pid("server1"), "HUP");
    site.lab().logged(&["the configuration was read again"]);
    for words in ["bind master8000", "sync", call] {
        ask(words).fails(1, &["the command /bin/test failed: exit status: 1"]);
        assert!(server.has(MASTER_8000.bound));
    }
    server.run("touch", ["/run/may"]);
    for words in ["sync", call, "bind master8000"] {
        ask(words).success();
    }
}
