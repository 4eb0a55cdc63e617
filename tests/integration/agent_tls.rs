//! Agents where every Redis and every Sentinel wants TLS and a certificate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};
use crate::common::{end_of, eventually};
use crate::redis_client::make_certificates;

const M: Master = MASTER_8000;

pub fn site() -> Site {
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

/// A client that waits in SUBSCRIBE, by the VIP.
fn subscriber(site: &Site) -> Child {
    let dir = site.dir().display();
    let words = format!(
        "s_client -quiet -connect {}:{} -CAfile {dir}/ca.crt -cert {dir}/redis.crt -key {dir}/redis.key",
        M.vip, M.port
    );
    let mut client = site.host("client").command("openssl");
    client.args(words.split(' ')).stdin(Stdio::piped());
    client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let stdin = client.stdin.as_mut().unwrap();
    stdin.write_all(b"SUBSCRIBE channel\r\n").unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(client.stdout.as_mut().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "*3\r\n");
    client
}

#[test]
fn clients_of_a_host_that_dies_are_reset_with_tls() {
    let site = site();
    let clients = [(); 3].map(|()| subscriber(&site));
    eventually("the agents of the other hosts know the clients", || {
        ["server2", "server3"].iter().all(|server| {
            let known = site.agent(server);
            known.is_some_and(|known| known["masters"][0]["known_clients"] == 3)
        })
    });
    site.down_after(2_000);
    site.kill_host("server1");
    for mut client in clients {
        end_of(&mut client);
        let mut said = String::new();
        let mut stderr = client.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        // ECONNRESET.
        assert!(said.contains("errno=104"), "{said}");
    }
    let line = site.lab().logged(&["of the last holder of", " packets="]);
    assert!(line.contains(" clients=3 "), "{line}");
}
