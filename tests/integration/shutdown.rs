//! `vipswitch failover --from-this-host`, which a server runs before it shuts down: what it hands over, and what it leaves
//! to Sentinel.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;

use crate::common::redis::{MASTER_8000, MASTER_8001, Master, SENTINEL_PORT, SERVERS, Site};
use crate::common::{Finished, finish_within};

const M: Master = MASTER_8000;
const N: Master = MASTER_8001;

/// Longer than the 15 s that it takes at most.
const LONGEST: Duration = Duration::from_secs(60);

/// Does what a shutdown does, and returns what was told of each master.
#[track_caller]
fn leave(site: &Site, server: &str, words: &str) -> Vec<Value> {
    let mut command = site.host(server).command(crate::common::executable());
    command.args(["failover", "--json", "--from-this-host"]);
    command.args(words.split_whitespace());
    let done: Finished = finish_within(command, LONGEST);
    let lines = done.stdout.lines();
    let told = lines.map(|line| serde_json::from_str(line).unwrap());
    let told = told.collect();
    done.success();
    told
}

/// Nothing was asked for, and this is why.
#[track_caller]
fn stays(told: &[Value], why: &str) {
    let [told] = told else {
        panic!("{told:#?}");
    };
    let note = told["notes"].as_array().unwrap().last().unwrap();
    assert!(note.as_str().unwrap().contains(why), "{told:#}");
    assert!(
        told["asked"] == false && told["error"].is_null(),
        "{told:#}"
    );
}

#[test]
fn all_masters_of_a_server_are_handed_over_and_no_acknowledged_write_is_lost() {
    let site = Site::with_agents(&[M, N]);
    let writers = site.writers(&M, 2);
    for master in [&M, &N] {
        site.wait_until_well(master, "server1");
    }
    writers.wait_for(300);
    let told = leave(&site, "server1", "");
    assert_eq!(told.len(), 2, "{told:#?}");
    for told in &told {
        assert!(told["done"] == true && told["error"].is_null(), "{told:#}");
    }
    writers.wait_for(300);
    let acknowledged = writers.stop();
    site.settles(&M, "server2");
    site.settles(&N, "server2");
    let kept = site.written(&M, "server2");
    let lost = acknowledged.iter().filter(|(key, _)| !kept.contains(key));
    // Where the machine is so busy that the promotion is faster than the pause, it is told of that failover.
    let of_this = told.iter().find(|told| told["master"] == M.name).unwrap();
    let behind = of_this["bytes_behind"].as_u64();
    let behind = behind.unwrap_or_else(|| panic!("nobody knows what is lost: {of_this:#}"));
    assert!(lost.count() == 0 || behind > 0, "{told:#?}");
}

#[test]
fn ten_masters_are_handed_over_one_election_after_another() {
    let masters: Vec<Master> = Master::numbered(10);
    let site = Site::with_agents(&masters);
    for master in &masters {
        site.wait_until_well(master, "server1");
    }
    let mut told = leave(&site, "server1", "");
    let all = format!("{told:#?}");
    // On a busy machine the time is over for some, or their votes come late.
    told.retain(|told| told["asked"] == true);
    assert!(told.len() > 1, "{all}");
    let mut epochs: Vec<u64> = told.iter().filter_map(|it| it["epoch"].as_u64()).collect();
    assert_eq!(epochs.len(), told.len(), "{told:#?}");
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), told.len(), "no two have one epoch: {told:#?}");
    for told in &told {
        let master = masters.iter().find(|it| it.name == told["master"]);
        site.settles(master.unwrap(), "server2");
    }
}

/// Returns a pipe that takes no more, as long as nobody reads it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    (reader, writer)
}

#[test]
fn a_reader_that_has_stopped_reading_keeps_nobody_from_handing_over() {
    let site = Site::with_agents(&[M]);
    site.wait_until_well(&M, "server1");
    // As a journal that hangs while the machine shuts down.
    let (reader, writer) = full_pipe();
    let mut command = site.host("server1").command(crate::common::executable());
    command
        .args(["failover", "--from-this-host"])
        .stdout(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let line = site.lab().logged(&["failover=asked", "master=master8000"]);
    assert!(line.contains("exit=0"), "{line}");
    crate::common::end_of(&mut child);
    site.settles(&M, "server2");
    drop(reader);
}

/// How often it is tried where the votes come too late on a busy machine.
const TRIES: usize = 5;

/// A site in which the replica that is chosen cannot be promoted, and the leader does not give up for long.
fn without_an_end() -> Site {
    let site = Site::with_agents(&[M]);
    site.wait_until_well(&M, "server1");
    let longest = ["sentinel", "set", M.name, "failover-timeout", "180000"];
    for server in SERVERS {
        assert_eq!(site.ask(server, SENTINEL_PORT, &longest).unwrap(), "OK");
    }
    let deny = ["acl", "setuser", "default", "-slaveof", "-replicaof"];
    assert_eq!(site.ask("server2", M.port, &deny).unwrap(), "OK");
    site
}

#[test]
fn a_failover_that_does_not_end_holds_no_shutdown_up() {
    let site = without_an_end();
    let is_shown = (0..TRIES).any(|_| {
        let mut command = site.host("server1").command(crate::common::executable());
        command.args(["failover", "--json", "--from-this-host"]);
        let done = finish_within(command, LONGEST);
        let told: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
        let was_asked = told["asked"] == true;
        if was_asked {
            assert_eq!(done.code(), 1, "{done}");
            // A leader that gives up, and a promotion that is waited for, would have other words.
            let error = told["error"].as_str().unwrap();
            assert!(error.contains("not at its end after "), "{told:#}");
            assert_eq!(told["done"], false, "{told:#}");
        }
        was_asked
    });
    assert!(is_shown, "{:#?}", site.log());
}

/// Else a reader that has stopped reading is given 5 s, and then the error goes to stderr.
#[test]
fn at_the_end_of_its_time_it_waits_for_no_reader_either() {
    let site = without_an_end();
    let is_shown = (0..TRIES).any(|_| {
        let (reader, writer) = full_pipe();
        let mut command = site.host("server1").command(crate::common::executable());
        command.args(["failover", "--json", "--from-this-host"]);
        command.stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let status = crate::common::end_of(&mut child);
        drop(reader);
        let log = site.log();
        let mut lines = log.iter();
        let Some(line) = lines.find(|line| line.contains("failover=asked")) else {
            return false;
        };
        assert!(line.contains("error=\"not at its end after "), "{line}");
        assert_eq!(status.code(), Some(1));
        let mut said = String::new();
        child.stderr.unwrap().read_to_string(&mut said).unwrap();
        // A machine that stands still for seconds at the end lets it go that way, too.
        said.is_empty()
    });
    assert!(is_shown, "{:#?}", site.log());
}

#[test]
fn the_one_that_is_named_is_handed_over_and_no_other() {
    let site = Site::with_agents(&[M, N]);
    site.wait_until_well(&N, "server1");
    let told = leave(&site, "server1", "master8001");
    assert!(told.len() == 1 && told[0]["done"] == true, "{told:#?}");
    site.settles(&N, "server2");
    site.settles(&M, "server1");
}

#[test]
fn a_replicas_server_hands_nothing_over_and_one_in_maintenance_does_not_either() {
    let site = Site::with_agents(&[M]);
    site.wait_until_well(&M, "server1");
    stays(&leave(&site, "server2", ""), "on another host");
    let line = site.lab().logged(&["failover=none", "master=master8000"]);
    assert!(line.contains("why=\"the master is"), "{line}");
    site.host("server1").ok("maintenance master8000 on");
    stays(&leave(&site, "server1", ""), "in maintenance");
    site.host("server1").ok("maintenance master8000 off");
    let told = leave(&site, "server1", "--dry-run");
    assert!(
        told[0]["to"].is_string() && told[0]["asked"] == false,
        "{told:#?}"
    );
    site.settles(&M, "server1");
}

#[test]
fn nothing_is_handed_over_where_writes_could_be_lost() {
    // The hook alone pauses no writes.
    let site = Site::new(&[M]);
    site.wait_until_well(&M, "server1");
    stays(
        &leave(&site, "server1", ""),
        "no agent answers on this host",
    );
    assert_eq!(site.holders(M.vip), ["server1"]);
    // Two of three Sentinels are gone, as where the whole site shuts down.
    let site = Site::with_agents(&[M]);
    for server in &SERVERS[1..] {
        site.end_service(server, "sentinel", "KILL");
    }
    stays(&leave(&site, "server1", ""), "no majority of the Sentinels");
}
