//! `status`, `check` and `bind` foresee what `sync` does, and the exit code of `status` says no more than its text.

use serde_json::Value;

use crate::common::redis::{MASTER_8000, Site};
use crate::common::{Finished, Host, eventually};

const SENTINELS: &str = "\"192.168.56.101:6800\", \"192.168.56.102:6800\", \"192.168.56.103:6800\"";

fn run(host: &Host, words: &str) -> Finished {
    host.vipswitch(words.split(' '))
}

#[test]
fn a_vip_that_no_subnet_holds_goes_where_redis_is_whoever_is_asked() {
    let site = Site::new(&[MASTER_8000]);
    site.configure("[masters.master8000]\nvip = \"10.9.8.7/24\"\n");
    let why = "over on eth1: it carries the address of this host's Redis";
    let master = site.host("server1");
    for words in ["sync --dry-run", "bind --dry-run"] {
        let text = run(&master, words).success();
        assert!(text.contains(why), "{words}: {text}");
    }
    // Also where the master is not, and so `sync` would do nothing.
    let replica = site.host("server2");
    let text = run(&replica, "bind --dry-run").success();
    assert!(text.contains(why), "{text}");
    for host in [&master, &replica] {
        for words in ["status", "check"] {
            let told = run(host, words);
            assert!(
                !told.stdout.contains("found no interface"),
                "{words}: {told}"
            );
        }
    }
    let text = run(&master, "status").success();
    assert!(
        text.contains("PROBLEM: the master is here and the VIP is not"),
        "{text}"
    );
    run(&master, "bind").success();
    assert!(master.has("10.9.8.7/24@eth1"));
}

#[test]
fn what_the_exit_code_of_status_tells_the_text_tells_too() {
    let site = Site::new(&[MASTER_8000]);
    let server = site.host("server1");
    run(&server, "sync").success();
    let quiet = || run(&server, "status --quiet --exit-code");
    eventually("all is well", || quiet().code() == 0);
    assert_eq!(quiet().stdout, "");
    // No Sentinel is there; the others tell.
    site.lab().config(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
         [sentinel]\naddress = \"127.0.0.1:6801\"\npeers = [{SENTINELS}]\n"
    ));
    let told = quiet();
    let problem = "PROBLEM: Sentinel at 127.0.0.1:6801 did not answer";
    assert!(told.code() == 1 && told.stdout.contains(problem), "{told}");
    let json = run(&server, "status --json").success();
    let row: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert!(
        row["problem"].is_string() && row["sentinel_error"].is_string(),
        "{json}"
    );
    assert!(row["redis_master_is_here"] == true, "{json}");
}
