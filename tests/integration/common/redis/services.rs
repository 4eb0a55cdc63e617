//! Any process of a site by its server and its name, to be ended and started again.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CLIENT, EQUAL, Master, Process, SERVERS, Site};
use crate::common::{Lab, end_of};

impl Site {
    /// Returns a site with agents and no hook, where each Redis may become the master.
    pub fn of_equals(master: Master) -> Site {
        let lab = Lab::with_hosts(["server1", "server2", "server3", CLIENT]);
        let mut site = Site::in_lab(lab, &SERVERS, &[master]);
        site.priorities = EQUAL;
        site.call(Path::new("/bin/true"));
        site.configure_vips();
        site.start();
        for server in SERVERS {
            site.start_agent(server);
        }
        site.wait_until_replicas_have_data("server1", 2);
        site
    }

    /// Starts a server's `agent`, `sentinel`, or Redis by its port, and does not wait for it. A service that runs
    /// is left alone.
    pub fn launch_service(&self, server: &str, service: &str) {
        let name = format!("{server}-{service}");
        let mut processes = self.processes.borrow_mut();
        if let Some(process) = processes.get_mut(&name)
            && process.0.try_wait().unwrap().is_none()
        {
            return;
        }
        drop(processes);
        match service {
            "agent" => self.launch_agent(server),
            "sentinel" => self.launch(server, "redis-sentinel", service),
            _ => self.launch(server, "redis-server", service),
        }
    }

    /// Sends a signal to such a service.
    pub fn signal_service(&self, server: &str, service: &str, signal: &str) {
        let pid = self.lab.dir().join(format!("{server}-{service}/pid"));
        let script = format!("kill -{signal} $(cat {})", pid.display());
        self.lab.run("sh", ["-c", &script]);
    }

    /// Sends a signal to such a service, unless it has ended.
    pub fn signal_service_if_alive(&self, server: &str, service: &str, signal: &str) {
        let name = format!("{server}-{service}");
        let mut processes = self.processes.borrow_mut();
        let runs = |process: &mut Process| process.0.try_wait().unwrap().is_none();
        if processes.get_mut(&name).is_some_and(runs) {
            self.signal_service(server, service, signal);
        }
    }

    /// Ends such a service by a signal, and waits until it has ended.
    pub fn end_service(&self, server: &str, service: &str, signal: &str) {
        self.signal_service(server, service, signal);
        self.thaw();
        self.forget(&format!("{server}-{service}"));
    }

    /// Starts another Redis on a server, which nobody monitors, until what is returned is dropped or the lab ends.
    #[track_caller]
    pub fn beside(&self, server: &str, port: u16) -> impl Drop + use<> {
        let mut command = self.host(server).command("redis-server");
        command.args(["--port", &port.to_string()]);
        command.args(["--protected-mode", "no", "--save", ""]);
        let redis = KilledAtEnd(Process::start(command, self.lab.unique("beside")));
        self.wait_for_ping(server, port);
        redis
    }

    /// Has every agent read its configuration again, many times a second until what is returned is dropped: that of now,
    /// and the same with more at its end.
    #[track_caller]
    pub fn reload_again_and_again(&self, more: &str) -> Reloads {
        let script = r#"
cd "$1"; stop=$2; cp -p vipswitch.toml now
{ cat now; echo "$3"; } >other
shift 3; agents=$*
use() { cp -p $1 new; mv new vipswitch.toml; kill -HUP $agents; sleep 0.1; }
until [ -e "$stop" ]; do use now; use now; use other; done
use now
"#;
        let stop = self.lab.unique("stop");
        let mut sh = self.lab.command("sh");
        sh.args(["-ec", script, "sh"]).args([self.lab.dir(), &stop]);
        sh.arg(more)
            .args(SERVERS.map(|server| self.agent_pid(server)));
        let process = Process::start(sh, self.lab.unique("reloads"));
        Reloads { stop, process }
    }

    /// Returns a command that writes its process id into the folder of this name, and becomes the program that its
    /// arguments name.
    pub(super) fn noting_its_pid(&self, server: &str, name: &str) -> Command {
        let mut command = self.host(server).command("sh");
        command.args(["-c", "echo $$ >\"$0\"; exec \"$@\""]);
        command.arg(self.lab.dir().join(name).join("pid"));
        command
    }
}

/// What has the agents read their configuration again until this is dropped; then it is the one of before.
pub struct Reloads {
    stop: PathBuf,
    process: Process,
}

impl Drop for Reloads {
    fn drop(&mut self) {
        std::fs::write(&self.stop, "").unwrap();
        let status = end_of(&mut self.process.0);
        assert!(status.success() || std::thread::panicking(), "{status}");
    }
}

/// A process that is killed when nobody needs it any more.
struct KilledAtEnd(Process);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.0.kill();
    }
}
