//! Passwords that are wrong, or changed while the agent runs: the agent leaves what is as it is, says why, and goes on
//! by itself as soon as they are right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::eventually;
use crate::common::redis::deaths::NEVER;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site, address};

const M: Master = MASTER_8000;

/// Writes a password's file, as a whole.
fn password(site: &Site, name: &str, word: &str) {
    let new = site.lab().file(&format!("{name}.new"), format!("{word}\n"));
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, site.dir().join(name)).unwrap();
}

/// A site whose Redis and Sentinels want passwords, in files of these names with these words.
pub fn site(redis: &str, sentinel: &str) -> Site {
    let mut site = Site::unstarted();
    // The test knows them, whatever the agents do.
    let cli = "#!/bin/sh\nfor word in $(cat \"$(dirname \"$0\")/words\"); do\n\
               said=$(REDISCLI_AUTH=$word /usr/bin/env PATH=/usr/local/bin:/usr/bin:/bin redis-cli \"$@\" 2>/dev/null)\n\
               case $said in *NOAUTH* | *WRONGPASS*) ;; *) break ;; esac\ndone\nprintf '%s\\n' \"$said\"\n";
    site.lab().program("redis-cli", cli);
    site.lab().program("words", "secret word changed");
    site.add_conf(
        "requirepass word\nmasterauth word",
        &format!(
            "requirepass secret\nsentinel sentinel-pass secret\nsentinel auth-pass {} word",
            M.name
        ),
    );
    password(&site, "redis.password", redis);
    password(&site, "sentinel.password", sentinel);
    let dir = site.dir().display();
    let peers = "\"192.168.56.101:6800\", \"192.168.56.102:6800\", \"192.168.56.103:6800\"";
    site.lab().config(&format!(
        "[masters.{}]\nvip = \"{}/24\"\nredis_password_file = \"{dir}/redis.password\"\n\
         [sentinel]\naddress = \"127.0.0.1:{SENTINEL_PORT}\"\npeers = [{peers}]\n\
         password_file = \"{dir}/sentinel.password\"\n",
        M.name, M.vip
    ));
    site.start();
    site
}

/// Whether an agent hears the events of all Sentinels, and sees its own Redis.
fn is_well(site: &Site, server: &str) -> bool {
    site.agent(server).is_some_and(|known| {
        let sentinels = known["sentinels"].as_array().unwrap();
        let redis = &known["masters"][0]["redis"][0]["role"];
        sentinels.len() == 3
            && sentinels.iter().all(|one| one["events"] == true)
            && (redis == "master" || redis == "replica")
    })
}

fn all_are_well(site: &Site) {
    eventually("every agent hears and sees all", || {
        SERVERS.iter().all(|server| is_well(site, server))
    });
    site.settles(&M, "server1");
    site.wait_until_well(&M, "server1");
}

/// Everything works again, with nobody's help: a planned failover loses its time with nobody.
fn all_recover(site: &Site) {
    all_are_well(site);
    site.fail_over(&M, "server2", "server2");
    site.settles(&M, "server2");
    let seen = site.timeline("server1");
    assert!(seen["paused"].is_number(), "{seen}");
}

#[test]
fn a_wrong_password_of_the_sentinels_at_the_start_changes_nothing_and_is_mended_later() {
    let site = site("word", "wrong");
    let watch = site.watch("server1");
    SERVERS.iter().for_each(|server| site.launch_agent(server));
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    password(&site, "sentinel.password", "secret");
    all_recover(&site);
}

#[test]
fn a_wrong_password_of_redis_at_the_start_changes_nothing_and_is_mended_later() {
    let site = site("wrong", "secret");
    let watch = site.watch("server1");
    SERVERS.iter().for_each(|server| site.launch_agent(server));
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    let of_replica = address("server2") + ":8000";
    let refused = [
        &of_replica,
        "password",
        "nothing is known of the Redis here",
    ];
    site.lab().logged(&refused);
    password(&site, "redis.password", "word");
    all_recover(&site);
    site.lab().logged(&[&of_replica, "tells its role again"]);
    let lines = |part: &str| site.log().iter().filter(|line| line.contains(part)).count();
    assert_eq!(
        lines("nothing is known of the Redis here"),
        3,
        "{:#?}",
        site.log()
    );
}

/// As it does where the hook does its own work.
#[test]
fn without_the_password_of_redis_sentinels_call_decides() {
    let site = site("wrong", "secret");
    SERVERS.iter().for_each(|server| site.launch_agent(server));
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    let call = |server: &str| {
        let (from, to) = (address("server2"), address("server1"));
        let words = [M.name, "leader", "start", &from, "8000", &to, "8000"];
        site.host(server).vipswitch(words)
    };
    let told = call("server1");
    told.success();
    assert_eq!(site.holders(M.vip), ["server1"]);
    call("server3").success();
    assert_eq!(site.holders(M.vip), ["server1"]);
    site.seconds_pass("server1", 2.0);
    assert_eq!(site.holders(M.vip), ["server1"]);
}

/// Changes the password of each Redis; whoever is connected is asked again.
fn change_at_redis(site: &Site) {
    for server in SERVERS {
        for words in [
            &["config", "set", "masterauth", "changed"][..],
            &["config", "set", "requirepass", "changed"],
        ] {
            assert_eq!(site.ask(server, M.port, words).unwrap(), "OK");
        }
        let words = ["sentinel", "set", M.name, "auth-pass", "changed"];
        assert_eq!(site.ask(server, SENTINEL_PORT, &words).unwrap(), "OK");
    }
    end_connections(site, M.port);
}

/// Changes the password of each Sentinel, likewise.
fn change_at_sentinels(site: &Site) {
    for server in SERVERS {
        // One after the other.
        for words in [
            &["sentinel", "config", "set", "sentinel-pass", "changed"][..],
            &["acl", "setuser", "default", "resetpass", ">changed"],
        ] {
            assert_eq!(site.ask(server, SENTINEL_PORT, words).unwrap(), "OK");
        }
    }
    end_connections(site, SENTINEL_PORT);
}

fn end_connections(site: &Site, port: u16) {
    for server in SERVERS {
        for kind in ["normal", "pubsub"] {
            let words = ["client", "kill", "type", kind, "skipme", "yes"];
            assert!(site.ask(server, port, &words).is_some());
        }
    }
}

#[test]
fn passwords_that_are_changed_while_agents_run_are_read_again() {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    let watch = site.watch("server1");
    change_at_redis(&site);
    change_at_sentinels(&site);
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    password(&site, "redis.password", "changed");
    password(&site, "sentinel.password", "changed");
    all_recover(&site);
}

/// A Redis that dies while an agent lacks a password is left to Sentinel, for this reason; the VIP follows once the
/// password is there.
fn is_left_to_sentinel(change: impl Fn(&Site), file: &str, why: &str) {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site.down_after(NEVER);
    change(&site);
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    eventually("the agent of the master's host does not know more", || {
        let known = site.agent("server1").expect("the agent answers");
        known["masters"][0]["why"].to_string().contains("password")
    });
    site.kill_redis(&M, "server1");
    site.sentinel_decides(why);
    let known = site.agent("server1").expect("the agent answers");
    let told = known["masters"][0]["death"].as_str().unwrap();
    assert!(told.contains(why), "{told}");
    site.down_after(2_000);
    eventually("Sentinel has promoted another", || {
        site.masters(&M) == ["server2"]
    });
    password(&site, file, "changed");
    site.settles(&M, "server2");
    assert_eq!((site.promotions(), site.asked()), (1, 0));
}

#[test]
fn a_redis_that_dies_while_the_agent_lacks_its_password_is_left_to_sentinel() {
    let why = "it did not tell this agent of itself any more";
    is_left_to_sentinel(change_at_redis, "redis.password", why);
}

#[test]
fn a_redis_that_dies_while_the_agent_lacks_the_sentinels_password_is_left_to_sentinel() {
    let why = "no majority of the Sentinels named a master";
    is_left_to_sentinel(change_at_sentinels, "sentinel.password", why);
}

#[test]
fn a_redis_that_dies_after_a_reload_with_the_new_passwords_is_failed_over_at_once() {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    change_at_redis(&site);
    change_at_sentinels(&site);
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    // Other files, which only the new configuration names.
    let old = fs::read_to_string(site.dir().join("vipswitch.toml")).unwrap();
    password(&site, "redis.new", "changed");
    password(&site, "sentinel.new", "changed");
    let new = old.replace("redis.password", "redis.new");
    site.lab()
        .config(&new.replace("sentinel.password", "sentinel.new"));
    for server in SERVERS {
        site.signal(&site.agent_pid(server), "HUP");
    }
    eventually("every agent hears and sees all", || {
        SERVERS.iter().all(|server| is_well(&site, server))
    });
    site.is_failed_over_at_once(&M);
}

#[test]
fn a_password_file_that_is_gone_is_told_at_the_reload_and_what_was_read_before_goes_on() {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    let pid = site.agent_pid("server1");
    for name in ["redis.password", "sentinel.password"] {
        fs::remove_file(site.dir().join(name)).unwrap();
        site.signal(&pid, "HUP");
        site.lab()
            .logged(&["what was read before goes on in its place", name]);
        let check = site.host("server1").vipswitch(["check"]).stdout;
        assert!(check.contains("Create it, or correct its path"), "{check}");
        assert!(!check.contains("chgrp"), "{check}");
    }
    site.seconds_pass("server1", 3.0);
    assert_eq!(site.holders(M.vip), ["server1"]);
}

/// It may not be asked whether it was promoted, and is known to be when it follows no more.
#[test]
fn a_planned_failover_waits_for_no_majority_where_a_password_file_is_gone() {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    all_are_well(&site);
    fs::remove_file(site.dir().join("redis.password")).unwrap();
    site.signal(&site.agent_pid("server1"), "HUP");
    site.lab()
        .logged(&["what was read before goes on in its place"]);
    site.fail_over(&M, "server2", "server2");
    site.lab()
        .logged(&["why=promoted_elsewhere", "released=192.168.56.250"]);
    assert!(site.timeline("server1")["paused"].is_number());
}
