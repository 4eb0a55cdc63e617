//! A made-up host on which all is well; one fact is changed, and its finding appears.

use std::path::Path;

use pnet_base::MacAddr;

use super::healthy::{STATUS, UNITS, address, healthy, row};
use super::*;
use crate::check::facts::files::{File, Runs};
use crate::check::facts::interface::Interface;
use crate::check::facts::network::{Kernel, Place, Trial};
use crate::check::facts::process::Process;
use crate::check::facts::sentinel::{Told, Watched};
use crate::check::facts::servers::Redis;
use crate::check::facts::units::Units;
use crate::check::finding::Finding;
use crate::check::finding::Level::{self, Error, Unknown, Warning};
use crate::gather::Tried;
use crate::redis::{NoAnswer, Value};

/// Checks what is found wrong after one change of a host on which all is well.
#[track_caller]
fn after(change: impl FnOnce(&mut Facts), wrong: &[(&str, Level)]) {
    let (mut facts, mut findings) = (healthy(), Findings::default());
    change(&mut facts);
    all(&facts, &mut findings);
    let not_ok = findings.0.iter().filter(|one| one.level != Level::Ok);
    let found: Vec<_> = not_ok.map(|one| (one.check, one.level)).collect();
    assert_eq!(found, wrong, "{findings:#?}");
    let needs_remedy = |one: &&Finding| matches!(one.level, Warning | Error);
    let mut grave = findings.0.iter().filter(needs_remedy);
    assert!(grave.all(|one| one.remedy.is_some()), "{findings:#?}");
}

#[test]
fn on_a_healthy_host_nothing_is_wrong() {
    after(|_| {}, &[]);
    let mut findings = Findings::default();
    beginning(Path::new("/x"), &healthy().own, None, &mut findings);
    assert_eq!(findings.worst(), Level::Ok);
}

#[test]
fn the_line_to_add_has_every_sentinel_that_wants_a_password_and_this_hosts() {
    let mut facts = healthy();
    facts.config.sentinel.peers = vec![crate::failover::Endpoint {
        host: crate::failover::Host::Name("redis9".into()),
        port: 1,
    }];
    other(&mut facts).said = Err(NoAnswer::of_error("NOAUTH no"));
    let mut findings = Findings::default();
    all(&facts, &mut findings);
    let wrong = findings.0.iter().find(|one| one.check == "peers").unwrap();
    let remedy = wrong.remedy.as_deref().unwrap();
    let line = "peers = [\"10.0.0.1:26379\", \"10.0.0.2:26379\", \"redis9:1\"]";
    assert!(remedy.contains(line), "{remedy}");
    assert!(remedy.contains("password_file"), "{remedy}");
}

/// What the tables below change.
macro_rules! parts {
    ($($name:ident: $type:ty = |$all:ident| $part:expr;)*) => {
        $(fn $name($all: &mut Facts) -> &mut $type { $part })*
    };
}

parts! {
    facts: Facts = |all| all;
    process: Process = |all| all.process.as_mut().unwrap();
    hook: File = |all| &mut all.hooks[0];
    told: Told = |all| all.sentinel.as_mut().unwrap();
    watched: Watched = |all| &mut told(all).watched[0];
    kernel: Kernel = |all| all.kernel.as_mut().unwrap();
    place: Place = |all| &mut kernel(all).places[0];
    interface: Interface = |all| place(all).interface.as_mut().unwrap();
    redis: Redis = |all| &mut all.redises[0];
    other: Tried = |all| &mut all.others[0];
}

/// Of two fields of one name the first counts.
fn set(row: &mut Value, key: &str, value: &str) {
    let Value::Array(words) = row else { panic!() };
    words.splice(0..0, [key, value].map(|word| Value::Text(word.into())));
}

fn set_all(rows: &mut Option<Vec<Value>>, key: &str, value: &str) {
    let rows = rows.iter_mut().flatten();
    rows.for_each(|row| set(row, key, value));
}

fn unit(facts: &mut Facts, from: &str, to: &str) {
    facts.units = Some(Units(UNITS.replace(from, to)));
}

fn silent(facts: &mut Facts) {
    (facts.sentinel, facts.process) = (Err(no()), None);
    (facts.readable, facts.hooks) = (Vec::new(), Vec::new());
}

fn refuse(facts: &mut Facts, at: &str) {
    let refused = Err("refused".to_owned());
    facts.reached.insert(at.parse().unwrap(), refused);
}

/// The hook is another program, and Sentinel has nothing to hand on.
fn foreign(facts: &mut Facts, status: &str) {
    hook(facts).identity = Some((1, 3));
    process(facts).status = STATUS.replace("Amb:\t3", "Amb:\t0") + status;
}

fn no() -> Fault {
    Fault::permanent("no").remedy("Correct it.")
}

/// Each line changes one fact, and names the findings that are wrong then.
macro_rules! tables {
    ($($test:ident { $(|$it:ident: $of:ident| $change:expr => $($check:literal $level:ident),*;)* })*) => {
        $(#[test] fn $test() { $(after(|all| { let $it = $of(all); $change; }, &[$(($check, $level)),*]);)* })*
    };
}

tables! {
    what_the_process_lacks_is_named_once {
        |it: process| it.status = STATUS.replace("Amb:\t3", "Amb:\t1") => "capabilities" Error;
        |it: process| it.status = STATUS.replace("3000", "1000") => "bounding-set" Error;
        |it: process| (it.uid, it.status) = (0, STATUS.replace("Amb:\t3", "Amb:\t0")) => ;
        // SECBIT_NOROOT, or no_new_privs after root gave them up.
        |it: process| (it.uid, it.status) = (0, "CapBnd:\t3000\n".into()) => "capabilities" Error;
        // A script in between may call sudo, unless no_new_privs forbids it.
        |it: facts| foreign(it, "NoNewPrivs:\t0\n") => "capabilities" Unknown, "client-reconfig-script" Warning;
        |it: facts| foreign(it, "NoNewPrivs:\t1\n") => "capabilities" Error, "client-reconfig-script" Warning;
        |it: process| it.is_in_our_user_namespace = Some(false) => "user-namespace" Error;
        |it: process| it.is_in_our_user_namespace = None => "user-namespace" Unknown;
        |it: process| it.unit = None => "address-families" Unknown, "seccomp" Unknown;
        |it: process| (it.unit, it.status) = (None, STATUS.replace("\t2", "\t0")) => ;
        |it: facts| it.process = None => "capabilities" Unknown, "user-namespace" Unknown, "config-readable" Unknown, "executable" Unknown;
    }

    what_units_forbid_or_lack_is_named {
        |it: facts| unit(it, " AF_NETLINK AF_PACKET", "") => "address-families" Error;
        |it: facts| unit(it, "NoExec", "SystemCallFilter=~flock\nNoExec") => "seccomp" Error;
        |it: facts| unit(it, "=enabled", "=disabled") => "sync-timer" Warning;
        |it: facts| unit(it, "=success", "=exit-code") => "sync-timer" Warning;
        |it: facts| unit(it, "timer\nLoadState=loaded", "timer\nLoadState=not-found") => "sync-timer" Warning;
        |it: facts| it.units = None => "address-families" Unknown, "seccomp" Unknown, "sync-timer" Unknown;
    }

    a_sentinel_that_does_not_answer_is_named_with_its_reason {
        |it: facts| silent(it) => "sentinel" Error;
        |it: facts| (silent(it), it.own.program = "/opt/vipswitch".into()) => "exec-paths" Error, "sentinel" Unknown;
    }

    a_file_that_sentinels_user_cannot_use_is_named {
        |it: hook| it.obstacle = Some("no".into()) => "executable" Error;
        |it: hook| it.runs = Runs::Noexec => "noexec" Error;
        |it: hook| it.runs = Runs::NoexecInUnit => "exec-paths" Error;
        |it: hook| it.runs = Runs::Unknown => "exec-paths" Unknown;
        |it: hook| it.has_capabilities = true => "file-capabilities" Error;
        |it: hook| it.identity = Some((1, 3)) => "client-reconfig-script" Warning;
        |it: facts| it.readable[0].obstacle = Some("no".into()) => "config-readable" Error;
        |it: facts| it.site_commands[0].obstacle = Some("no".into()) => "site-command" Error;
        |it: facts| it.site_commands[0].untrusted = Some("no".into()) => "site-command" Error;
        |it: facts| it.site_commands[0].runs = Runs::Noexec => "site-command" Error;
    }

    what_sentinel_says_is_judged {
        |it: told| it.watched.clear() => "monitored" Error;
        |it: told| it.masters.push(row("name=x")) => "unconfigured" Warning;
        |it: told| it.pending = None => "pending-scripts" Unknown;
        |it: told| it.pending = Some(vec![row("flags=scheduled retry-num=1")]) => "pending-scripts" Warning;
        |it: told| it.pending = Some(vec![row("flags=running retry-num=1")]) => ;
        |it: watched| set(&mut it.master, "num-other-sentinels", "1") => "quorum" Warning;
        |it: watched| set(&mut it.master, "quorum", "1") => "quorum" Warning;
        |it: watched| it.quorum = Some(Err("NOQUORUM 1".into())) => "quorum" Error;
        |it: watched| it.quorum = Some(Err("NOPERM".into())) => "quorum" Unknown;
        |it: watched| set(&mut it.master, "down-after-milliseconds", "1499") => "down-after" Warning;
        |it: watched| set(&mut it.master, "down-after-milliseconds", "1500") => ;
        |it: watched| set(&mut it.master, "client-reconfig-script", "") => "client-reconfig-script" Error;
        |it: watched| it.redises[0].place = Err(no()) => "announced-address" Error;
        // Nothing else that is known of this VIP counts then.
        |it: facts| (watched(it).own.push([10, 0, 0, 9].into()), place(it).bound.clear()) => "announced-address" Error;
        // A replica and a Sentinel that are known by a VIP because it was their source address.
        |it: watched| it.redises[1].addresses = vec![[10, 0, 0, 9].into()] => "announced-address" Warning;
        |it: watched| it.sentinels[1].addresses = vec![[10, 0, 0, 9].into()] => "announced-address" Warning;
        |it: watched| it.nowhere.push(it.redises[0].endpoint.clone()) => "announced-address" Warning;
        |it: redis| it.replicas = vec!["172.17.0.1:6379".into(); 2] => "announced-address" Warning;
        |it: redis| it.replicas.push(it.at.to_string()) => "announced-address" Warning;
        |it: watched| it.replicas = Some(Vec::new()) => "replication" Warning;
        |it: watched| it.replicas = None => "replication" Unknown;
        |it: watched| set_all(&mut it.replicas, "slave-priority", "0") => "replication" Warning;
        |it: watched| set_all(&mut it.replicas, "master-link-status", "err") => "replication" Warning;
        // A dead replica is out of reach, which is another check's matter.
        |it: watched| (set_all(&mut it.replicas, "master-link-status", "err"), set_all(&mut it.replicas, "flags", "s_down,slave")) => ;
    }

    a_server_out_of_reach_is_named_unless_the_cable_is {
        |it: facts| refuse(it, "10.0.0.1:6379") => "redis-reachable" Error;
        |it: facts| refuse(it, "10.0.0.3:6379") => "redis-reachable" Warning;
        |it: facts| refuse(it, "10.0.0.3:26379") => "sentinel-reachable" Warning;
        |it: watched| it.sentinels[0].addresses.clear() => "sentinel-reachable" Warning;
        |it: facts| (refuse(it, "10.0.0.3:6379"), interface(it).link.carrier = false) => "redis-reachable" Unknown, "carrier" Error;
        |it: redis| it.role = Err(no()) => "redis-role" Error;
        |it: redis| it.min_replicas = Some(0) => "min-replicas" Warning;
        |it: redis| it.min_replicas = None => "min-replicas" Unknown;
    }

    a_sentinel_that_sync_cannot_ask_is_named {
        |it: other| it.said = Err(NoAnswer::of_error("NOAUTH no")) => "peers" Warning;
        |it: other| it.said = Err(NoAnswer::of_error("NOPERM no")) => "peers" Warning;
        |it: other| (it.is_peer, it.said) = (true, Err(NoAnswer::of_error("NOAUTH no"))) => "peers" Warning;
        |it: other| (it.is_peer, it.said) = (true, Err(NoAnswer::of_error("NOPERM no"))) => "peers" Warning;
        |it: other| (it.is_peer, it.said) = (true, Err(NoAnswer::of_error("WRONGPASS no"))) => "peers" Warning;
        // Another check's matter.
        |it: other| it.said = Err(NoAnswer::Unreachable("no".into())) => ;
        |it: facts| it.memory = Err(no()) => "memory" Warning;
        |it: facts| (it.memory, it.own.is_root) = (Err(no()), false) => "memory" Unknown;
    }

    what_the_kernel_and_the_network_say_is_judged {
        |it: facts| it.kernel = Err(no()) => "netlink" Error;
        |it: kernel| it.change = Trial::Fails(no()) => "netlink" Error;
        |it: kernel| it.change = Trial::NotAllowed => "netlink" Unknown;
        |it: kernel| it.reset = Trial::Fails(no()) => "reset" Warning;
        |it: kernel| it.addresses[1].is_ours = false => "own-address" Warning;
        |it: kernel| it.addresses.push(address("10.0.0.8/32")) => "left-over" Warning;
        |it: kernel| it.source_routes[0].0 = [10, 0, 0, 9].into() => "route-source" Warning;
        |it: place| it.bound[0].prefix = 24 => "form" Warning;
        |it: place| it.bound[0].lasts = false => "form" Warning;
        |it: kernel| (it.has_marks, it.addresses[1].is_ours) = (false, false) => ;
        |it: kernel| it.addresses[0].subnet.prefix = 16 => "subnet" Warning;
        |it: kernel| it.addresses.clear() => "subnet" Warning;
        |it: place| it.interface = Err(no()) => "interface" Error;
        |it: facts| (place(it).interface = Err(no()), watched(it).redises.swap_remove(0)) => ;
        |it: place| it.bound[0].ifindex = 3 => "interface" Warning;
        |it: place| it.bound.clear() => "holder" Warning;
        |it: watched| it.redises.swap(0, 1) => "holder" Warning;
        |it: place| it.claimed_by = Some(vec![MacAddr::zero()]) => "claimed" Error;
        |it: place| it.claimed_by = None => "holder" Unknown, "claimed" Unknown;
        |it: interface| it.socket = Trial::NotAllowed => "packet-socket" Unknown;
        |it: interface| it.sysctls = vec![("arp_ignore", 8)] => "sysctl" Warning;
        |it: interface| it.networkd.as_mut().unwrap().keeps = false => "network-manager" Warning;
        |it: interface| it.networkd.as_mut().unwrap().ignores_carrier_loss = false => "network-manager" Warning;
        |it: facts| it.log_listens = false => "log" Warning;
    }
}

#[test]
fn a_networkd_that_removes_the_vip_is_told_which_lines_to_have() {
    let told = |keeps, ignores_carrier_loss| {
        let (mut facts, mut findings) = (healthy(), Findings::default());
        let networkd = interface(&mut facts).networkd.as_mut().unwrap();
        (networkd.keeps, networkd.ignores_carrier_loss) = (keeps, ignores_carrier_loss);
        all(&facts, &mut findings);
        let found = findings
            .0
            .into_iter()
            .find(|one| one.check == "network-manager");
        let found = found.unwrap();
        (found.text, found.remedy.unwrap_or_default())
    };
    let (text, remedy) = told(true, false);
    assert!(
        text.ends_with("by /x.network and removes the VIP when the cable is out for a moment"),
        "{text}"
    );
    assert!(
        remedy.starts_with("Put the line IgnoreCarrierLoss=yes below [Network] in a drop-in, /etc/systemd/network/x.network.d/vipswitch.conf"),
        "{remedy}"
    );
    let (_, remedy) = told(false, false);
    assert!(
        remedy.contains("the lines KeepConfiguration=static and IgnoreCarrierLoss=yes below"),
        "{remedy}"
    );
    let (text, remedy) = told(false, true);
    assert!(text.ends_with("when it restarts"), "{text}");
    assert!(!remedy.contains("IgnoreCarrierLoss"), "{remedy}");
}
