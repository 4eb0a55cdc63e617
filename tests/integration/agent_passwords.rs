//! Passwords that are wrong, or changed while the agent runs: the agent leaves what is as it is, says why, and goes on
//! by itself as soon as they are right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SENTINEL_PORT, SERVERS, Site};

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

/// Everything works again, with nobody's help: a planned failover loses its time with nobody.
fn all_recover(site: &Site) {
    eventually("every agent hears and sees all", || {
        SERVERS.iter().all(|server| is_well(site, server))
    });
    site.settles(&M, "server1");
    site.wait_until_well(&M, "server1");
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
    password(&site, "redis.password", "word");
    all_recover(&site);
}

#[test]
fn passwords_that_are_changed_while_agents_run_are_read_again() {
    let site = site("word", "secret");
    SERVERS.iter().for_each(|server| site.start_agent(server));
    let watch = site.watch("server1");
    for server in SERVERS {
        // One after the other, and whoever is connected is asked again.
        for words in [
            &["config", "set", "masterauth", "changed"][..],
            &["config", "set", "requirepass", "changed"],
        ] {
            assert_eq!(site.ask(server, M.port, words).unwrap(), "OK");
        }
        for words in [
            &["sentinel", "set", M.name, "auth-pass", "changed"][..],
            &["sentinel", "config", "set", "sentinel-pass", "changed"],
            &["acl", "setuser", "default", "resetpass", ">changed"],
        ] {
            assert_eq!(site.ask(server, SENTINEL_PORT, words).unwrap(), "OK");
        }
    }
    for server in SERVERS {
        for port in [M.port, SENTINEL_PORT] {
            for kind in ["normal", "pubsub"] {
                let words = ["client", "kill", "type", kind, "skipme", "yes"];
                assert!(site.ask(server, port, &words).is_some());
            }
        }
    }
    site.lab()
        .logged(&["by=agent", "stays as it is", "password"]);
    site.seconds_pass("server1", 3.0);
    assert!(watch.events(M.vip).is_empty(), "{:#?}", site.log());
    password(&site, "redis.password", "changed");
    password(&site, "sentinel.password", "changed");
    all_recover(&site);
}
