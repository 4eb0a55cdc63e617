//! `vipswitch check` about the rights of the ACL users that agents have at real Redis and Sentinels: the documented ones
//! are enough, and each that is taken away is named.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};
use crate::common::{Host, eventually, executable, finish};

const M: Master = MASTER_8000;
const OWN_REDIS: &str = "192.168.56.101:8000";
const OTHER_SENTINEL: &str = "192.168.56.102:6800";

/// The checks of rights.
const RIGHTS: [&str; 5] = [
    "write-pause",
    "follow-at-once",
    "lag",
    "client-list",
    "votes",
];

/// The two users as the documents have them, at Sentinel and at Redis.
fn documented() -> [Vec<&'static str>; 2] {
    let text = include_str!("../../packaging/documents/after.md");
    let users = text.lines().filter(|line| line.starts_with("user "));
    let rules = users.map(|line| {
        let rules = line.split(' ').skip(2);
        Vec::from_iter(rules.map(|rule| rule.replace(">PASSWORD", ">word").leak() as &str))
    });
    let rules: Vec<_> = rules.collect();
    rules.try_into().unwrap()
}

/// A site whose agents ask as users with the documented rights.
pub fn site(more: &str) -> Site {
    let site = Site::with_agents_on(&[], Path::new("/bin/true"));
    let [at_sentinel, at_redis] = documented();
    for server in SERVERS {
        set(&site, (server, SENTINEL_PORT), &at_sentinel);
        set(&site, (server, M.port), &at_redis);
    }
    let password = site.lab().file("password", "word\n");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let peers = "\"192.168.56.101:6800\", \"192.168.56.102:6800\", \"192.168.56.103:6800\"";
    let password = password.display();
    site.lab().config(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{more}redis_username = \"vipswitch\"\n\
         redis_password_file = \"{password}\"\n[sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\n\
         username = \"vipswitch\"\npassword_file = \"{password}\"\npeers = [{peers}]\n"
    ));
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site
}

fn set(site: &Site, (server, port): (&str, u16), rules: &[&str]) {
    let words = [&["acl", "setuser", "vipswitch"], rules].concat();
    assert_eq!(site.ask(server, port, &words).unwrap(), "OK");
}

/// Returns what `check` says on a host, as rows.
fn check(host: &Host) -> Vec<Value> {
    let mut command = host.command(executable());
    command.args(["check", "--json", "--verbose"]);
    let done = finish(command);
    let rows = done.stdout.lines();
    rows.map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Returns the rows about rights that have a level other than `ok`.
fn lacking(site: &Site) -> Vec<Value> {
    let rows = check(&site.host("server1")).into_iter();
    let of_rights = rows.filter(|row| RIGHTS.iter().any(|name| row["check"] == *name));
    of_rights.filter(|row| row["level"] != "ok").collect()
}

/// Takes rules away on server1's Redis or at a Sentinel, looks that exactly this is named, with these words in the
/// remedy, and gives them back.
#[track_caller]
fn names(
    site: &Site,
    at: (&str, u16),
    (taken, given): (&str, &str),
    (name, about, part): (&str, &str, &str),
) {
    set(site, at, &[taken]);
    let said = lacking(site);
    let [row] = said.as_slice() else {
        panic!("{taken}: {said:#?}")
    };
    assert!(
        row["check"] == name && row["level"] == "warning" && row["about"] == about,
        "{taken}: {row:#}"
    );
    assert!(
        row["remedy"].as_str().unwrap().contains(part),
        "{taken}: {row:#}"
    );
    set(site, at, &[given]);
}

#[test]
fn the_documented_rights_are_enough_and_all_of_them_are_looked_at() {
    let site = site("");
    let rows = check(&site.host("server1"));
    let seen = rows.iter().map(|row| row["check"].as_str().unwrap());
    let seen: BTreeSet<&str> = seen.collect();
    assert!(RIGHTS.iter().all(|name| seen.contains(name)), "{seen:?}");
    assert_eq!(lacking(&site), Vec::<Value>::new());
    // What is wrong here has nothing to do with rights: there is no hook.
    let is_wrong = |row: &&Value| row["level"] == "warning" || row["level"] == "error";
    let wrong: BTreeSet<&str> = rows
        .iter()
        .filter(is_wrong)
        .map(|row| row["check"].as_str().unwrap())
        .collect();
    assert_eq!(
        wrong,
        BTreeSet::from(["client-reconfig-script"]),
        "{rows:#?}"
    );
}

#[test]
fn each_right_that_is_missing_at_redis_is_named() {
    let site = site("");
    let redis = ("server1", M.port);
    for (right, name) in [
        ("client|pause", "write-pause"),
        ("client|unpause", "write-pause"),
        ("replicaof", "follow-at-once"),
        ("info", "lag"),
        ("publish", "client-list"),
        ("subscribe", "client-list"),
    ] {
        let rules = (&*format!("-{right}"), &*format!("+{right}"));
        names(&site, redis, rules, (name, OWN_REDIS, right));
    }
    let rules = ("resetchannels", "&vipswitch:*");
    names(
        &site,
        redis,
        rules,
        ("client-list", OWN_REDIS, "&vipswitch:*"),
    );
    assert_eq!(lacking(&site), Vec::<Value>::new());
}

#[test]
fn each_right_that_is_missing_at_a_sentinel_is_named() {
    let site = site("");
    for right in [
        "is-master-down-by-addr",
        "failover",
        "master",
        "masters",
        "slaves",
        "sentinels",
        "myid",
    ] {
        let rules = (
            &*format!("-sentinel|{right}"),
            &*format!("+sentinel|{right}"),
        );
        let right = format!("+sentinel|{right} ");
        let named = ("votes", OTHER_SENTINEL, &*right);
        names(&site, ("server2", SENTINEL_PORT), rules, named);
    }
    let named = ("votes", OTHER_SENTINEL, "+info");
    names(&site, ("server2", SENTINEL_PORT), ("-info", "+info"), named);
    let own = ("votes", "127.0.0.1:6800", "+sentinel|failover");
    let rules = ("-sentinel|failover", "+sentinel|failover");
    names(&site, ("server1", SENTINEL_PORT), rules, own);
    assert_eq!(lacking(&site), Vec::<Value>::new());
}

#[test]
fn who_is_not_told_of_clients_needs_no_channel() {
    let site = site("tell_clients = false\n");
    set(
        &site,
        ("server1", M.port),
        &["-publish", "-subscribe", "resetchannels"],
    );
    assert_eq!(lacking(&site), Vec::<Value>::new());
    let named = ("write-pause", OWN_REDIS, "+client|pause");
    names(
        &site,
        ("server1", M.port),
        ("-client|pause", "+client|pause"),
        named,
    );
}

#[test]
fn a_check_lifts_no_pause_begins_no_failover_and_asks_for_no_vote() {
    let site = site("");
    let standing = || {
        SERVERS.map(|server| {
            let port = M.port.to_string();
            let words = [
                "sentinel",
                "is-master-down-by-addr",
                "192.168.56.101",
                &port,
                "0",
                "*",
            ];
            let vote = site.ask(server, SENTINEL_PORT, &words).unwrap();
            let role = site.ask(server, M.port, &["role"]).unwrap();
            (vote[1].clone(), vote[2].clone(), role[0].clone())
        })
    };
    let before = standing();
    let pause = ["client", "pause", "3600000", "write"];
    assert_eq!(site.ask("server1", M.port, &pause).unwrap(), "OK");
    assert_eq!(lacking(&site), Vec::<Value>::new());
    assert_eq!(standing(), before);
    let port = M.port.to_string();
    let mut write = site.host("server1").command("redis-cli");
    write.args(["-p", &port, "set", "key", "value"]);
    let mut write = write.spawn().unwrap();
    let blocked = || {
        let list = site
            .host("server1")
            .run("redis-cli", ["-p", &port, "client", "list"]);
        let mut clients = list.lines();
        clients.any(|line| line.contains(" flags=b ") && line.contains(" cmd=set "))
    };
    eventually("a write waits", blocked);
    assert!(write.try_wait().unwrap().is_none());
    assert_eq!(
        site.ask("server1", M.port, &["client", "unpause"]).unwrap(),
        "OK"
    );
    assert!(write.wait().unwrap().success());
}
