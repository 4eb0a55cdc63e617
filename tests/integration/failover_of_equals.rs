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
