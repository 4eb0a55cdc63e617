//! What can be done to the site, and how it is mended.

use super::{FAILOVER_TIMEOUT, Ground, REDIS};
use crate::common::eventually;
use crate::common::redis::{MASTER_8000, QUICK, SENTINEL_PORT, SERVERS, SOON_DOWN, Site, address};

impl Ground {
    /// Ends a server's Redis, Sentinel or agent by a signal.
    pub fn end(&self, server: usize, service: &str, signal: &str) {
        self.site.end_service(SERVERS[server], service, signal);
    }

    /// Ends a server's Redis at once.
    pub fn kill_redis(&self, server: usize) {
        self.end(server, REDIS, "KILL");
    }

    /// Ends everything on a server at once.
    pub fn kill_all(&self, server: usize) {
        for service in ["agent", "sentinel", REDIS] {
            self.end(server, service, "KILL");
        }
    }

    /// Draws a server's cable out, or puts it in.
    pub fn link(&self, server: usize, state: &str) {
        let port = format!("{}-eth1", SERVERS[server]);
        self.site.lab().run("ip", ["link", "set", &port, state]);
    }

    /// Adds or removes the VIP by hand.
    pub fn vip(&self, server: usize, what: &str, length: u8) {
        let words = format!("addr {what} {}/{length} dev eth1", MASTER_8000.vip);
        let mut ip = self.site.host(SERVERS[server]).command("ip");
        ip.args(words.split(' '));
        // It may have come or gone already.
        crate::common::finish(ip);
    }

    /// Cuts a server off from the other servers, not from the clients.
    pub fn cut_off(&self, server: usize) {
        let peers = "192.168.56.101-192.168.56.103";
        self.drop_all(
            server,
            &[
                &format!("in ip saddr {peers}"),
                &format!("out ip daddr {peers}"),
            ],
        );
    }

    /// Lets nothing pass between a server and the clients.
    pub fn cut_clients(&self, server: usize) {
        self.drop_all(
            server,
            &["in ip saddr 192.168.56.104", "out ip daddr 192.168.56.104"],
        );
    }

    /// Lets nobody elsewhere reach the Sentinel of a server, and nobody there a Sentinel elsewhere.
    pub fn cut_sentinel(&self, server: usize) {
        let port = SENTINEL_PORT;
        self.drop_all(
            server,
            &[
                &format!("in tcp dport {port}"),
                &format!("out tcp dport {port}"),
            ],
        );
    }

    /// Drops what these rules are about, unless it stays on the server. Nobody is told so.
    fn drop_all(&self, server: usize, rules: &[&str]) {
        let mut all = String::from(
            "add table inet soak
            add chain inet soak in { type filter hook input priority 0; }
            add chain inet soak out { type filter hook output priority 0; }
            add rule inet soak in iif lo accept
            add rule inet soak out oif lo accept
            ",
        );
        for rule in rules {
            all += &format!("add rule inet soak {rule} drop\n");
        }
        self.site.host(SERVERS[server]).run("nft", [all]);
    }

    /// Makes a Sentinel name this server, whatever it knew.
    pub fn lie(&self, sentinel: usize, server: usize) {
        let sentinel = SERVERS[sentinel];
        self.site
            .monitor_anew(sentinel, &MASTER_8000, SERVERS[server]);
        // What it knew of the master went with it.
        self.set("down-after-milliseconds", &SOON_DOWN.to_string());
        self.set("failover-timeout", FAILOVER_TIMEOUT);
    }

    /// Publishes the hello of a Sentinel that does not exist on a server's Redis, and waits until every Sentinel
    /// lists it.
    pub fn forge(&mut self, server: usize) {
        let master = MASTER_8000.name;
        let named = self.master();
        let phantom = "192.168.56.199";
        let hello = format!(
            "{phantom},{SENTINEL_PORT},{},0,{master},{},{},0",
            "f".repeat(40),
            address(SERVERS[named]),
            MASTER_8000.port
        );
        let publish = ["publish", "__sentinel__:hello", &hello];
        let lists = |site: &Site, sentinel: &str| {
            let all = site.ask(sentinel, SENTINEL_PORT, &["sentinel", "sentinels", master]);
            all.is_some_and(|all| all.to_string().contains(phantom))
        };
        eventually("every Sentinel lists the forged one", || {
            let asked = self.site.ask(SERVERS[server], MASTER_8000.port, &publish);
            asked.is_some() && SERVERS.iter().all(|one| lists(&self.site, one))
        });
    }

    /// Makes all Sentinels forget those that do not exist.
    pub fn forget_forged(&mut self) {
        for sentinel in SERVERS {
            let words = ["sentinel", "reset", MASTER_8000.name];
            assert!(self.site.ask(sentinel, SENTINEL_PORT, &words).is_some());
        }
    }

    /// Mends everything, in this order of the servers.
    pub fn heal(&mut self, order: &[usize]) {
        self.site.thaw();
        for &server in order {
            let name = SERVERS[server];
            self.link(server, "up");
            let mut nft = self.site.host(name).command("nft");
            nft.args(["delete", "table", "inet", "soak"]);
            crate::common::finish(nft);
            for service in [REDIS, "sentinel", "agent"] {
                self.site.signal_service_if_alive(name, service, "CONT");
                self.site.launch_service(name, service);
            }
            if !self.history.state.able[server] {
                self.able(server, true);
            }
            eventually("the Sentinel is quick", || {
                let words = [&["sentinel", "debug"], &QUICK[..]].concat();
                self.site.ask(name, SENTINEL_PORT, &words) == Some("OK".into())
            });
        }
    }
}
