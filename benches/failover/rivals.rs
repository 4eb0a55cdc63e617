//! What others use in the place of a hook, where it is installed: keepalived, which moves a VIP to the host whose own
//! Redis says master, and HAProxy, which has the VIP for good and sends clients to whichever Redis says master. Each is
//! set up as its guides say, with checks once a second.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::Contender;
use crate::site::{CLIENT, SERVERS, Site, until};

/// Returns whether this machine has a program, which tells its version where it is asked so.
pub fn is_there(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns those that this machine has.
pub fn installed() -> impl Iterator<Item = Contender> {
    let all = [
        (Contender::Keepalived, "keepalived"),
        (Contender::Haproxy, "haproxy"),
    ];
    all.into_iter()
        .filter(|(_, program)| is_there(program, "-v"))
        .map(|(contender, _)| contender)
}

impl Site {
    /// Starts keepalived on every server, and waits until the first has the VIP.
    pub fn start_keepalived(&self) {
        let (master, dir) = (&self.masters[0], self.dir().display().to_string());
        let check = format!(
            "#!/bin/sh\n[ \"$(redis-cli -p {} role | head -n 1)\" = master ]\n",
            master.port
        );
        let check = self.lab.file("is-master", check);
        std::fs::set_permissions(&check, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (server, _) in SERVERS {
            let conf = format!(
                "global_defs {{\n enable_script_security\n script_user root\n}}\n\
                 vrrp_script is_master {{\n script {}\n interval 1\n fall 1\n rise 1\n weight 50\n}}\n\
                 vrrp_instance redis {{\n state BACKUP\n interface eth1\n virtual_router_id 51\n priority 100\n \
                 advert_int 1\n virtual_ipaddress {{\n {}/24\n }}\n track_script {{\n is_master\n }}\n}}\n",
                check.display(),
                master.vip
            );
            let conf = self.lab.file(&format!("{server}-keepalived.conf"), conf);
            // It leaves the terminal by itself.
            let start = format!(
                "keepalived -P -f {} -p {dir}/{server}-keepalived.pid -r {dir}/{server}-vrrp.pid \
                 >{dir}/{server}-keepalived.log 2>&1",
                conf.display()
            );
            self.shell(server, &start);
        }
        let vip = &master.vip;
        until("keepalived has bound the VIP", || {
            self.shell("server1", "ip -oneline address show eth1")
                .contains(vip.as_str())
        });
    }

    /// Starts HAProxy on the client's host, which has the VIP, and waits until it answers there.
    pub fn start_haproxy(&self) {
        let (master, dir) = (&self.masters[0], self.dir().display().to_string());
        let (vip, port) = (&master.vip, master.port);
        let servers =
            SERVERS.map(|(name, address)| format!(" server {name} {address}:{port} check\n"));
        let conf = format!(
            "defaults\n mode tcp\n timeout connect 3s\n timeout client 1h\n timeout server 1h\n timeout check 1s\n\
             listen redis\n bind {vip}:{port}\n option tcp-check\n tcp-check send info\\ replication\\r\\n\n \
             tcp-check expect string role:master\n \
             default-server inter 1s fall 1 rise 1 on-marked-down shutdown-sessions\n{}",
            servers.concat()
        );
        let conf = self.lab.file("haproxy.cfg", conf);
        let start = format!(
            "ip address add {vip}/32 dev lo && \
             haproxy -D -f {} -p {dir}/haproxy.pid >{dir}/haproxy.log 2>&1",
            conf.display()
        );
        self.shell(CLIENT, &start);
        let ask = format!("redis-cli -h {vip} -p {port} role");
        until("HAProxy has found the master", || {
            self.shell(CLIENT, &ask).starts_with("master")
        });
    }
}
