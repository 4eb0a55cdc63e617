//! `vipswitch failover` where two replicas are equal: which of them Sentinel chooses nobody knows before.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::eventually;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site, address};
use crate::failover_verb::{fail_over, is_in_order, run};

const M: Master = MASTER_8000;

/// How many writes are acknowledged before and after each.
const BETWEEN: usize = 300;

fn candidates(told: &Value) -> BTreeSet<String> {
    let all = told["candidates"].as_array().unwrap().iter();
    all.map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_are_named_before_and_the_one_that_was_chosen_afterwards() {
    let site = Site::of_equals(M);
    let writers = site.writers(&M, 2);
    let mut master = "server1";
    for words in ["", "--now", "", "--now"] {
        writers.wait_for(BETWEEN);
        site.wait_until_well(&M, master);
        let others = SERVERS.iter().filter(|server| **server != master);
        let others: BTreeSet<String> = others
            .map(|server| format!("{}:8000", address(server)))
            .collect();
        eventually("a dry run names both", || {
            let told = run(&site, "server3", "failover --dry-run --json").stdout;
            let told: Value = serde_json::from_str(&told).unwrap();
            let names_both = candidates(&told) == others;
            assert!(!names_both || told["to"].is_null(), "{told:#}");
            names_both
        });
        eventually("it says so in words, too", || {
            let said = run(&site, "server3", "failover --dry-run").stdout;
            let says = "promote the one that has come furthest when it begins: ";
            said.contains(says) && others.iter().all(|other| said.contains(other))
        });
        let told = fail_over(&site, "server2", words);
        assert_eq!(told["done"], true, "{told:#}");
        let to = told["to"].as_str().unwrap();
        assert!(candidates(&told).contains(to), "{told:#}");
        is_in_order(&told, &["asked", "chosen", "agreed"]);
        is_in_order(&told, &["chosen", "master"]);
        let new = SERVERS.into_iter();
        let mut new = new.filter(|server| to == format!("{}:8000", address(server)));
        let new = new.next().unwrap();
        site.settles(&M, new);
        master = new;
    }
    writers.wait_for(BETWEEN);
    drop(writers);
    site.settles(&M, master);
}

/// Where none has what the master has: whoever forces it is told all the same which ones may be promoted.
#[test]
fn a_forced_one_names_those_that_lack_data() {
    let site = Site::of_equals(M);
    for server in ["server2", "server3"] {
        // What is long on its way from the master does not arrive.
        let rules = format!(
            "add table ip lossy
            add chain ip lossy in {{ type filter hook input priority 0; }}
            add rule ip lossy in ip saddr {} tcp sport 8000 meta length > 600 drop",
            address("server1")
        );
        site.host(server).run("nft", [&rules]);
    }
    let write = "for n in $(seq 40); do head -c 100000 /dev/zero | redis-cli -p 8000 -x set \"big$n\"; done";
    site.host("server1").run("sh", ["-ec", write]);
    let told = || {
        let told = run(&site, "server1", "failover --dry-run --now --force --json").stdout;
        serde_json::from_str::<Value>(&told).unwrap()
    };
    let others = ["server2", "server3"].map(|server| format!("{}:8000", address(server)));
    eventually("both are named", || {
        candidates(&told()) == BTreeSet::from(others.clone())
    });
    let refused = run(&site, "server1", "failover --dry-run --now");
    refused.fails(1, &["no failover was asked for", "--force"]);
}
