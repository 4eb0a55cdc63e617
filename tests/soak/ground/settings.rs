//! What a scenario changes about the site until it ends.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::{Ground, REDIS};
use crate::common::eventually;
use crate::common::redis::deaths::{KEYS, Keeps};
use crate::common::redis::{CLIENT, MASTER_8000, SERVERS, SOON_DOWN};

/// Sends a command that kills its master, without end.
const KILLING: &str = r#"
until [ -e "$1" ]; do
    timeout 1 redis-cli -h "$0" -p 8000 shutdown nosave now force
    sleep 0.005
done
"#;

impl Ground {
    /// Begins a scenario.
    pub fn begin(&mut self) {
        self.downs_before = self.downs();
    }

    /// Has a master be silent for so long until its Sentinels take it for down, until the scenario ends.
    pub fn count_as_down_after(&mut self, milliseconds: u32) {
        self.set("down-after-milliseconds", &milliseconds.to_string());
        self.down_after = milliseconds;
    }

    /// Writes keys that all have, and has a server's Redis keep them so. Until the scenario ends it sends its data 5 s
    /// after a replica has asked for that, as Redis does by default.
    pub fn keep(&mut self, server: usize, keeps: Keeps) {
        self.is_changed = true;
        let server = SERVERS[server];
        let ask = |words: &[&str]| self.site.ask(server, MASTER_8000.port, words).unwrap();
        let script = "for i=0,ARGV[1]-1 do redis.call('del','wbase'..i) end";
        ask(&["eval", script, "0", &KEYS.to_string()]);
        // What an earlier scenario has left.
        ask(&["config", "set", "appendonly", "no"]);
        let folder = self.site.dir().join(format!("{server}-{REDIS}"));
        let _ = fs::remove_dir_all(folder.join("appendonlydir"));
        let _ = fs::remove_file(folder.join("dump.rdb"));
        self.site.send_late(&MASTER_8000, server);
        self.site.fill(&MASTER_8000, server, keeps);
    }

    /// Has all agents forget when the last failover was, so that the next is asked for.
    pub fn forget_failovers(&mut self) {
        self.site.forget_failovers();
        self.until_well();
    }

    /// Puts the settings back that a scenario has changed.
    pub fn restore(&mut self) {
        if std::mem::replace(&mut self.down_after, SOON_DOWN) != SOON_DOWN {
            self.set("down-after-milliseconds", &SOON_DOWN.to_string());
        }
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        for server in SERVERS {
            for words in [
                &["config", "set", "appendonly", "no"][..],
                &["config", "set", "repl-diskless-sync-delay", "0"],
                &["config", "rewrite"],
            ] {
                eventually("a Redis takes an option", || {
                    self.site.ask(server, MASTER_8000.port, words) == Some("OK".into())
                });
            }
        }
    }

    /// Starts a client that sends, again and again, a command that kills its master, until what is returned is dropped.
    pub fn killing_client(&self) -> impl Drop + use<> {
        let stop = self.site.lab().unique("stop");
        let mut client = self.site.host(CLIENT).command("sh");
        client.args(["-c", KILLING, MASTER_8000.vip]).arg(&stop);
        client.stdout(Stdio::null()).stderr(Stdio::null());
        KillingClient {
            process: client.spawn().unwrap(),
            stop,
        }
    }
}

struct KillingClient {
    process: Child,
    stop: PathBuf,
}

impl Drop for KillingClient {
    fn drop(&mut self) {
        let _ = fs::write(&self.stop, "");
        let _ = self.process.wait();
    }
}
