//! Something removes the files of an agent that is at work.

use crate::agent_announcements::{Agent, lab};
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};
use crate::common::{eventually, executable};

const M: Master = MASTER_8000;

/// What is logged where they are made anew.
const ANEW: &str = "something has removed this agent's socket or its lock: both are made anew";
const GONE: &str =
    "something has removed this agent's socket or its lock, and they cannot be made anew";

fn lines(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn an_agent_whose_files_are_removed_makes_them_anew_with_what_it_keeps() {
    let site = Site::with_agents(&[M]);
    let (one, two) = (site.host("server1"), site.host("server2"));
    one.ok("maintenance master8000 on");
    two.ok("bind --force master8000");
    let remove = ["rm -rf /run/vipswitch", "rm -rf /run/vipswitch/*"];
    for (before, remove) in remove.into_iter().enumerate() {
        let pids = SERVERS.map(|server| site.agent_pid(server));
        // In the midst of it an agent would make anew what is then removed, too.
        pids.iter().for_each(|pid| site.signal(pid, "STOP"));
        site.lab().run("sh", ["-c", remove]);
        pids.iter().for_each(|pid| site.go_on(pid));
        eventually("each says so", || {
            lines(&site.log(), ANEW) == 3 * (before + 1)
        });
        for (server, pid) in SERVERS.into_iter().zip(pids) {
            assert_eq!(site.agent_pid(server), pid);
            let second = site.host(server).vipswitch(["agent"]);
            let refusal = format!("another agent (pid {pid}) is at work");
            second.fails(2, &[refusal.as_str()]);
        }
        // A call needs no privilege where an agent is.
        site.host("server1")
            .vipswitch("master8000 observer start 1.2.3.4 1 192.168.56.101 8000".split(' '))
            .success();
        for server in SERVERS {
            site.seconds_pass(server, 2.0);
        }
        assert_eq!(lines(&site.log(), ANEW), 3 * (before + 1), "once");
        // The next agent knows what was ordered.
        for server in ["server1", "server2"] {
            site.end_agent(server, "KILL");
            site.start_agent(server);
        }
        let known =
            |server: &str| site.agent(server).expect("the agent answers")["masters"][0].clone();
        assert!(known("server1")["maintenance"].is_object());
        assert_eq!(known("server2")["forced"], "bind");
    }
    two.ok("unbind master8000");
    site.settles(&M, "server1");
    assert_eq!(lines(&site.log(), GONE), 0);
}

#[test]
fn an_agent_in_whose_place_another_has_begun_ends_and_leaves_it_alone() {
    let site = Site::with_agents(&[M]);
    let one = site.host("server1");
    let first = site.agent_pid("server1");
    site.signal(&first, "STOP");
    // Without its file the lock is nobody's.
    one.run("sh", ["-c", "rm /run/vipswitch/server1.*"]);
    let mut command = one.command(executable());
    command.arg("agent");
    let _second = Agent::start_by(&one, command);
    let answers = || Some(site.agent("server1")?["pid"].to_string());
    eventually("another agent is at work", || answers().is_some());
    let second = answers().unwrap();
    assert_ne!(first, second);
    site.go_on(&first);
    site.forget("server1-agent");
    let said = format!("another agent (pid {second}) is at work on this host");
    site.lab().logged(&[&said, "by=agent"]);
    assert_eq!(answers(), Some(second));
    site.settles(&M, "server1");
}

#[test]
fn where_the_files_cannot_be_made_anew_it_is_said_once_and_the_agent_goes_on() {
    let lab = lab(0);
    let server = lab.host("server1");
    let status = || {
        let mut status = server.command(executable());
        status
            .args(["status"])
            .env("VIPSWITCH_AGENT_SOCKET", "/run/vipswitch/a/b/agent.sock");
        crate::common::finish(status).stdout.contains("events from")
    };
    server.run("mkdir", ["-p", "/run/vipswitch/a/b"]);
    let mut command = server.command(executable());
    command.arg("agent");
    command.env("VIPSWITCH_AGENT_SOCKET", "/run/vipswitch/a/b/agent.sock");
    let _agent = Agent::start_by(&server, command);
    let has = || server.has("192.168.56.250/32@eth1");
    eventually("the VIP is bound, and the agent answers", || {
        has() && status()
    });
    // A folder in a folder, which no agent may make.
    server.run("rm", ["-r", "/run/vipswitch/a"]);
    let line = lab.logged(&[GONE, "by=agent"]);
    for part in [
        "No such file or directory",
        "systemctl restart vipswitch-agent",
    ] {
        assert!(line.contains(part), "{line}");
    }
    // It goes on, and says no more of it.
    lab.file("says", "192.168.56.102 2");
    eventually("the VIP is released", || !has());
    lab.file("says", "192.168.56.101 3");
    eventually("the VIP is bound again", has);
    assert!(!status());
    server.run("mkdir", ["-p", "/run/vipswitch/a/b"]);
    eventually("the agent answers", status);
    lab.logged(&[ANEW, "by=agent"]);
    assert_eq!((lines(&lab.log(), GONE), lines(&lab.log(), ANEW)), (1, 1));
}
