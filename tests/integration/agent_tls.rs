//! Agents where every Redis and every Sentinel wants TLS and a certificate.

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};
use crate::redis_client::make_certificates;

const M: Master = MASTER_8000;

fn site() -> Site {
    let mut site = Site::unstarted();
    make_certificates(site.dir());
    let dir = site.dir().display().to_string();
    let files = |option: &str| {
        format!(
            "{option}ca-cert-file {dir}/ca.crt\n{option}cert-file {dir}/redis.crt\n{option}key-file {dir}/redis.key\n"
        )
    };
    let conf = |port: u16| {
        format!(
            "port 0\ntls-port {port}\ntls-replication yes\n{}",
            files("tls-")
        )
    };
    site.add_conf(&conf(M.port), &conf(SENTINEL_PORT));
    site.lab().program(
        "redis-cli",
        &format!(
            "#!/bin/sh\nPATH=${{PATH#*:}}\nexec redis-cli --tls --cacert {dir}/ca.crt --cert {dir}/redis.crt \
             --key {dir}/redis.key \"$@\"\n"
        ),
    );
    let peers = SERVERS.map(|server| format!("\"{}:6800\"", crate::common::redis::address(server)));
    site.lab().config(&format!(
        "[masters.{}]\nvip = \"{}/24\"\ntls = true\n[sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\n\
         tls = true\npeers = [{}]\n[tls]\nca_file = \"{dir}/ca.crt\"\ncert_file = \"{dir}/redis.crt\"\n\
         key_file = \"{dir}/redis.key\"\n",
        M.name,
        M.vip,
        peers.join(", ")
    ));
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site
}

#[test]
fn a_planned_failover_and_a_kill_with_tls() {
    let site = site();
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    let seen = site.timeline("server1");
    assert!(seen["paused"].is_number(), "{seen}");
    eventually("the old master had released by then", || {
        site.timeline("server1")["bytes_behind"].is_number()
    });
    site.wait_until_well(&M, "server2");
    site.kill(&M, "server2", "server1");
    site.settles(&M, "server1");
}
