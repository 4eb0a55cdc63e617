//! The master's Redis dies on sites of each kind: with TLS, with passwords, with users of few rights, with a Unix socket
//! to Sentinel, with IPv6 only, and with servers that are known by names.

use std::fs;

use crate::common::redis::{CLIENT, MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};
use crate::{agent_passwords, agent_tls, check_rights};

const M: Master = MASTER_8000;

/// The same with an IPv6 VIP.
const M6: Master = Master {
    vip: "fd00::250",
    bound: "fd00::250/64@eth1",
    ..M
};

const NAMES: [&str; 3] = ["redis1", "redis2", "redis3"];

fn start(site: &Site) {
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
}

/// Lets every host know the servers' names.
fn name(site: &Site) {
    let names = (101..).zip(NAMES);
    let names: String = names
        .map(|(number, name)| format!("192.168.56.{number} {name}\n"))
        .collect();
    let hosts = format!("127.0.0.1 localhost\n{names}");
    fs::write(site.dir().join("hosts"), hosts).unwrap();
}

#[test]
fn it_is_failed_over_at_once_with_tls() {
    agent_tls::site().is_failed_over_at_once(&M);
}

#[test]
fn it_is_failed_over_at_once_with_passwords() {
    let site = agent_passwords::site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site.is_failed_over_at_once(&M);
}

#[test]
fn it_is_failed_over_at_once_with_no_more_than_the_documented_rights() {
    check_rights::site("").is_failed_over_at_once(&M);
}

#[test]
fn it_is_failed_over_at_once_with_a_unix_socket_to_sentinel() {
    let mut site = Site::unstarted();
    let socket = format!("{}/sentinel{{n}}.sock", site.dir().display());
    site.add_conf("", &format!("unixsocket {socket}"));
    for (server, number) in SERVERS.into_iter().zip(["1", "2", "3"]) {
        site.host(server).config(&format!(
            "[masters.{}]\nvip = \"{}/24\"\n[sentinel]\naddress = \"{}\"\n",
            M.name,
            M.vip,
            socket.replace("{n}", number)
        ));
    }
    start(&site);
    site.is_failed_over_at_once(&M);
}

#[test]
fn it_is_failed_over_at_once_where_there_is_ipv6_only() {
    let mut site = Site::unstarted_of(M6);
    for host in SERVERS.into_iter().chain([CLIENT]) {
        site.host(host).ip("-4 addr flush dev eth1");
    }
    let everywhere = "bind * -::*";
    site.add_conf(everywhere, everywhere);
    site.know_as(["fd00::101", "fd00::102", "fd00::103"]);
    site.lab().config(&format!(
        "[masters.{}]\nvip = \"{}/64\"\n[sentinel]\naddress = \"[::1]:{SENTINEL_PORT}\"\n",
        M6.name, M6.vip
    ));
    start(&site);
    site.is_failed_over_at_once(&M6);
}

#[test]
fn it_is_failed_over_at_once_where_everybody_knows_the_servers_by_name() {
    let mut site = Site::unstarted();
    name(&site);
    site.know_as(NAMES);
    site.add_conf(
        "replica-announce-ip {host}",
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel announce-ip {host}",
    );
    start(&site);
    site.is_failed_over_at_once(&M);
}

/// The Redis that has died knew its replicas by name, and the Sentinels tell their addresses.
#[test]
fn it_is_failed_over_at_once_where_only_redis_knows_the_replicas_by_name() {
    let mut site = Site::unstarted();
    name(&site);
    site.add_conf(
        "replica-announce-ip redis{n}",
        "sentinel resolve-hostnames yes",
    );
    start(&site);
    site.is_failed_over_at_once(&M);
}

/// Its Redis announces one address of its host, and its Sentinel another, which only the kernel knows to be the same
/// host's. Of several Sentinels the one with the smallest run id is asked.
#[test]
fn the_sentinel_on_another_address_of_the_dead_masters_host_is_not_asked() {
    let mut site = Site::unstarted();
    let zeros = "0".repeat(39);
    site.add_conf(
        "",
        &format!("sentinel myid {zeros}{{n}}\nsentinel announce-ip 192.168.56.20{{n}}"),
    );
    for (server, number) in SERVERS.into_iter().zip(201..) {
        let host = site.host(server);
        host.ip(&format!("addr add 192.168.56.{number}/24 dev eth1"));
        host.config(&format!(
            "[masters.{}]\nvip = \"{}/24\"\n[sentinel]\naddress = \"192.168.56.{number}:{SENTINEL_PORT}\"\n",
            M.name, M.vip
        ));
    }
    start(&site);
    site.is_failed_over_at_once(&M);
    let log = site.log();
    let mut lines = log.iter();
    let asked = lines.find(|line| line.contains(" was elected in epoch "));
    let others = ["192.168.56.202:6800 was", "192.168.56.203:6800 was"];
    assert!(
        asked.is_some_and(|line| others.iter().any(|other| line.contains(other))),
        "{asked:?}"
    );
}
