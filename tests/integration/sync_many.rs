//! `vipswitch sync` with several masters, many Sentinels and servers that misbehave: no master, name server
//! or Sentinel holds up another, and each Sentinel has one vote.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::{
    Finished, Host, Lab, PATIENCE, SENTINELS_PATIENCE, eventually, executable, false_sentinel,
    finish, wait_for,
};

pub const BOUND: &str = "192.168.56.250/32@eth1";
pub const ONE_MASTER: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n";

/// What a false Sentinel says about a master.
pub struct Says<'a> {
    pub name: &'a str,
    /// The address and the port of the master.
    pub master: (&'a str, u16),
    pub quorum: usize,
    /// The addresses and the ids of the other Sentinels; all are on port 7000.
    pub sentinels: &'a [(&'a str, &'a str)],
    pub replicas: &'a [(&'a str, u16)],
}

/// A master `m` on the first host, monitored by one Sentinel.
pub const ALONE: Says = Says {
    name: "m",
    master: ("192.168.56.101", 8000),
    quorum: 1,
    sentinels: &[],
    replicas: &[],
};

/// Starts a false Sentinel with an id. `first` is Perl that may answer a question itself and go to the
/// `next` one; `$command`, `$what` and `$name` are its words.
pub fn sentinel(host: &Host, at: &str, id: &str, says: &[Says], first: &str) {
    let mut masters = String::new();
    for says in says {
        let list = |all: Vec<(&str, u16, &str)>| -> String {
            let one =
                |(host, port, id): &(&str, u16, &str)| format!("['{host}', {port}, '{id}'], ");
            all.iter().map(one).collect()
        };
        let sentinels = says.sentinels.iter().map(|&(host, id)| (host, 7000, id));
        let replicas = says.replicas.iter().map(|&(host, port)| (host, port, ""));
        let _ = write!(
            masters,
            "'{}' => {{ ip => '{}', port => {}, quorum => {}, sentinels => [{}], replicas => [{}] }}, ",
            says.name,
            says.master.0,
            says.master.1,
            says.quorum,
            list(sentinels.collect()),
            list(replicas.collect()),
        );
    }
    let script = SENTINEL
        .replace("MASTERS", &masters)
        .replace("MYSELF", id)
        .replace("FIRST", first);
    false_sentinel(host, at, &script);
}

const SENTINEL: &str = r#"
my %masters = (MASTERS);
sub bulk { join "", map { "\$" . length($_) . "\r\n$_\r\n" } @_ }
sub list { "*" . @_ . "\r\n" . bulk(@_) }
sub described {
    my $flags = shift;
    my $one = sub { list("ip", $_->[0], "port", $_->[1], "runid", $_->[2], "flags", $flags) };
    "*" . @_ . "\r\n" . join "", map { $one->() } @_;
}
while (my $question = question($client)) {
    my (undef, $command, $what, $name) = map { lc } split /\r\n(?:\$\d+\r\n)?/, $question;
    FIRST;
    my $m = $masters{$name // ""};
    print $client $command eq "auth" ? "+OK\r\n"
        : $command eq "ping" ? "+PONG\r\n"
        : $command ne "sentinel" ? "-ERR unknown command '$command'\r\n"
        : $what eq "myid" ? bulk("MYSELF")
        : $what =~ /^get-master/ ? ($m ? list($m->{ip}, $m->{port}) : "*-1\r\n")
        : !$m ? "-ERR No such master with that name\r\n"
        : $what eq "master" ? list("name", $name, "ip", $m->{ip}, "port", $m->{port}, "flags", "master",
            "config-epoch", 1, "quorum", $m->{quorum}, "num-other-sentinels", scalar @{$m->{sentinels}})
        : $what eq "sentinels" ? described("sentinel", @{$m->{sentinels}})
        : $what =~ /^(slaves|replicas)$/ ? described("slave", @{$m->{replicas}})
        : "-ERR Unknown sentinel subcommand '$what'\r\n";
}
"#;

/// Accepts connections and never answers.
pub const SILENT: &str = "sleep 600";

/// An id as a Sentinel has it.
pub fn id(letter: char) -> String {
    letter.to_string().repeat(40)
}

/// Writes the configuration with this Sentinel.
pub fn configure(lab: &Lab, masters: &str, sentinel: &str) {
    lab.config(&format!("{masters}[sentinel]\n{sentinel}\n"));
}

/// Starts a real Redis on a port and waits until it answers.
pub fn redis(host: &Host, port: u16, more: &str) {
    let server = format!(
        "redis-server --port {port} --bind 0.0.0.0 --protected-mode no --save '' --dir / --daemonize yes {more}"
    );
    host.run("sh", ["-c", &server]);
    let answers = || {
        let mut ping = host.command("redis-cli");
        ping.args(["-p", &port.to_string(), "ping"]);
        finish(ping).stdout == "PONG\n"
    };
    eventually("the Redis answers", answers);
}

/// Starts `sync`, to look at what is true while it runs.
fn start(host: &Host) -> Child {
    let mut sync = host.command(executable());
    let sync = sync.arg("sync").stdout(Stdio::null());
    sync.stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `sync` fails like this. On a busy machine a server may be late at first, which is another
/// fault.
#[track_caller]
pub fn fails(host: &Host, code: i32, parts: &[&str]) {
    let mut last = None;
    let failed = wait_for(PATIENCE, || {
        let run = last.insert(host.vipswitch(["sync"]));
        assert_ne!(run.code(), 0, "{run}");
        let said = parts.iter().all(|part| run.stderr.contains(part));
        (run.code() == code && said).then_some(())
    });
    assert!(failed.is_some(), "no {parts:?}: {}", last.unwrap());
}

/// Writes a file with a password that vipswitch accepts, and returns its path.
fn password_file(lab: &Lab, password: &str) -> String {
    let path = lab.file("password", format!("{password}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[test]
fn no_master_waits_for_another() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let ran = lab.dir().join("ran");
    let command = format!("[\"/bin/sh\", \"-c\", \"echo >>{}\"]", ran.display());
    let masters = format!(
        "[masters.m1]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = {command} }}\n\
         [masters.m2]\nvip = \"192.168.56.251/24\"\n"
    );
    configure(&lab, &masters, "address = \"127.0.0.1:7000\"");
    let says = |name, port| Says {
        name,
        master: ("192.168.56.101", port),
        ..ALONE
    };
    let both = [says("m1", 8001), says("m2", 8002)];
    sentinel(&server, "7000", &id('a'), &both, "");
    redis(&server, 8001, "");
    // The Redis of m2 never tells its role.
    false_sentinel(&server, "192.168.56.101:8002", SILENT);
    let mut sync = start(&server);
    let mut while_it_runs = |what: &str, look: &mut dyn FnMut() -> bool| {
        let seen = wait_for(PATIENCE, || {
            let has_ended = sync.try_wait().unwrap().is_some();
            let seen = !has_ended && look();
            // Also once more after the look.
            let still_runs = sync.try_wait().unwrap().is_none();
            (has_ended || seen).then_some(seen && still_runs)
        });
        assert_eq!(seen, Some(true), "while sync runs: {what}");
    };
    let line = |master: &str| {
        let part = format!(" master={master} ");
        let mut runs = lab.runs().into_iter();
        runs.find(|line| line.contains(&part))
    };
    while_it_runs("the command of m1 has run", &mut || ran.exists());
    while_it_runs("the line of m1 is in the log", &mut || line("m1").is_some());
    while_it_runs("the VIP of m1 is being announced", &mut || {
        server.ok("status").contains("it is being announced")
    });
    assert_eq!(line("m2"), None, "m2 is still being tried");
    let ended = crate::common::end_of(&mut sync);
    assert_eq!(ended.code(), Some(1), "m2 has failed");
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "\n", "once");
    lab.logged(&[" master=m2 ", "exit=1"]);
    let (one, two) = (line("m1").unwrap(), line("m2").unwrap());
    assert!(
        one.contains(" exit=0") && one.contains("announced_ms="),
        "{one}"
    );
    for time in ["announced_ms=", "commands_ms="] {
        assert!(!two.contains(time), "{two}");
    }
    assert!(server.has(BOUND) && !server.has("192.168.56.251/32@eth1"));
}

#[test]
fn more_masters_that_fail_than_are_settled_at_once_hold_up_no_healthy_one() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let failing = (1..=40).map(|one| (format!("failing{one}"), false, one));
    let healthy = (41..=60).map(|one| (format!("healthy{one}"), true, one));
    let masters: Vec<(String, bool, u8)> = failing.chain(healthy).collect();
    let mut text = String::new();
    for (name, _, one) in &masters {
        let _ = writeln!(
            text,
            "[masters.{name}]\nvip = \"192.168.56.{}/24\"",
            110 + one
        );
    }
    configure(&lab, &text, "address = \"127.0.0.1:7000\"");
    // Nobody listens at the failing ones' port.
    let mut says = Vec::new();
    for (name, is_healthy, _) in &masters {
        let port = if *is_healthy { 8000 } else { 8009 };
        says.push(Says {
            name,
            master: ("192.168.56.101", port),
            ..ALONE
        });
    }
    sentinel(&server, "7000", &id('a'), &says, "");
    redis(&server, 8000, "");
    let mut sync = start(&server);
    let seen = wait_for(PATIENCE, || {
        let addresses = server.addresses();
        let mut healthy = 151..=170;
        let bound = healthy.all(|one| addresses.contains(&format!("192.168.56.{one}/32@eth1")));
        let still_runs = sync.try_wait().unwrap().is_none();
        (bound || !still_runs).then_some(bound && still_runs)
    });
    assert_eq!(seen, Some(true), "all healthy ones are bound while it runs");
    let given_up = lab.runs();
    let given_up = given_up.iter().filter(|line| line.contains("failing"));
    assert_eq!(
        given_up.clone().count(),
        0,
        "still tried: {:?}",
        given_up.collect::<Vec<_>>()
    );
    assert_ne!(crate::common::end_of(&mut sync).code(), Some(0));
}

#[test]
fn a_silent_name_server_holds_up_neither_sync_nor_a_hook() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let asked = lab.dir().join("asked");
    silent_name_server(&server, &asked);
    redis(&server, 8000, "");
    let names: Vec<String> = (1..=8).map(|one| format!("redis-{one}.example")).collect();
    let replicas: Vec<(&str, u16)> = names.iter().map(|name| (name.as_str(), 8000)).collect();
    for (at, master) in [("7000", "192.168.56.101"), ("7001", "192.168.56.102")] {
        let says = Says {
            master: (master, 8000),
            replicas: &replicas,
            ..ALONE
        };
        sentinel(&server, at, &id('a'), &[says], "");
    }
    for (port, here) in [("7000", true), ("7001", false)] {
        configure(&lab, ONE_MASTER, &format!("address = \"127.0.0.1:{port}\""));
        let _ = std::fs::remove_file(&asked);
        let mut sync = start(&server);
        let mut ended = None;
        eventually("a name is looked up, or none is", || {
            ended = sync.try_wait().unwrap();
            asked.exists() || ended.is_some()
        });
        let to = if here {
            "192.168.56.101"
        } else {
            "192.168.56.102"
        };
        server.hook("m", to).success();
        assert_eq!(server.has(BOUND), here);
        let ended = ended.unwrap_or_else(|| crate::common::end_of(&mut sync));
        assert!(ended.success(), "{ended:?}: {:#?}", lab.runs());
        assert_eq!(server.has(BOUND), here);
    }
    // Also without a hook that has done it.
    server.hook("m", "192.168.56.102").success();
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
    server.ok("sync");
    assert!(server.has(BOUND));
}

/// Starts a name server that never answers. The file is there once it has been asked.
#[expect(
    clippy::zombie_processes,
    reason = "it ends with the lab, whose first process reaps it"
)]
fn silent_name_server(host: &Host, asked: &Path) {
    let script = r#"
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 53, Proto => "udp") or die;
$| = 1; print "r";
while (1) { recv $s, my $q, 999, 0; open my $f, ">", $ARGV[0]; }
"#;
    let mut server = host.command("perl");
    server.args(["-e", script]).arg(asked);
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 1];
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut ready).unwrap();
}

/// The hosts with a false Sentinel each.
const HOSTS: [(&str, &str); 5] = [
    ("server1", "192.168.56.101"),
    ("server2", "192.168.56.102"),
    ("server3", "192.168.56.103"),
    ("server4", "192.168.56.104"),
    ("server5", "192.168.56.105"),
];

/// Starts this many false Sentinels with a quorum of 2, of which the first knows the second only. The first
/// two say that the master is on the first host; the others say `master`, or are not there.
fn mostly_unknown(lab: &Lab, number: usize, master: Option<&str>) {
    let ids: Vec<String> = ('a'..='e').map(id).collect();
    let all: Vec<(&str, &str)> = HOSTS
        .iter()
        .zip(&ids)
        .map(|((_, address), id)| (*address, id.as_str()))
        .take(number)
        .collect();
    for (place, (name, _)) in HOSTS.iter().enumerate().take(number) {
        let says = match (place, master) {
            (0 | 1, _) => "192.168.56.101",
            (_, Some(master)) => master,
            (_, None) => continue,
        };
        let mut others = all.clone();
        others.remove(place);
        let says = Says {
            master: (says, 8000),
            quorum: 2,
            sentinels: if place == 0 { &all[1..2] } else { &others },
            ..ALONE
        };
        let at = "0.0.0.0:7000";
        sentinel(&lab.host(name), at, &ids[place], &[says], "");
    }
}

#[test]
fn two_of_five_are_no_majority_although_the_local_sentinel_knows_one_other() {
    let lab = Lab::with_hosts(HOSTS.map(|(name, _)| name));
    let server = lab.host("server1");
    redis(&server, 8000, "");
    configure(&lab, ONE_MASTER, "address = \"192.168.56.101:7000\"");
    mostly_unknown(&lab, 5, None);
    fails(&server, 1, &["no majority"]);
    assert!(!server.has(BOUND));
    // A VIP that is there stays, too.
    server.ip("addr add 192.168.56.250/32 dev eth1");
    fails(&server, 1, &["no majority"]);
    assert!(server.has(BOUND));
}

#[test]
fn three_of_five_that_only_another_one_knows_outvote_the_two() {
    let lab = Lab::with_hosts(HOSTS.map(|(name, _)| name));
    let server = lab.host("server1");
    redis(&server, 8000, "");
    configure(&lab, ONE_MASTER, "address = \"192.168.56.101:7000\"");
    mostly_unknown(&lab, 5, Some("192.168.56.102"));
    server.ip("addr add 192.168.56.250/32 dev eth1");
    let released = wait_for(PATIENCE, || {
        server.vipswitch(["sync"]);
        (!server.has(BOUND)).then_some(())
    });
    assert!(released.is_some());
    lab.logged(&["sentinels=\"3 of 5 say 192.168.56.102:8000\"", "released="]);
}

#[test]
fn sentinels_that_only_another_one_knows_are_asked() {
    let lab = Lab::with_hosts(HOSTS.map(|(name, _)| name));
    let server = lab.host("server1");
    redis(&server, 8000, "");
    configure(&lab, ONE_MASTER, "address = \"192.168.56.101:7000\"");
    mostly_unknown(&lab, 5, Some("192.168.56.101"));
    server.ok("sync");
    assert!(server.has(BOUND));
    let line = &lab.log_of(1)[0];
    // On a busy machine one may be late.
    assert!(line.contains(" of 5 say 192.168.56.101:8000\""), "{line}");
}

#[test]
fn the_local_sentinel_has_one_vote_although_others_list_it_by_another_address() {
    let lab = Lab::with_hosts(HOSTS.map(|(name, _)| name));
    let server = lab.host("server1");
    redis(&server, 8000, "");
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
    // Two of four are no majority; counted twice the local one would make it three of five.
    mostly_unknown(&lab, 4, None);
    fails(&server, 1, &["no majority"]);
    assert!(!server.has(BOUND));
}

#[test]
fn a_local_sentinel_must_tell_whom_it_knows() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    redis(&server, 8000, "");
    for (port, what) in [("7000", "sentinels"), ("7001", "slaves")] {
        let refuse = format!(
            "if (($what // '') eq '{what}') {{ print $client \"-NOPERM User watcher has no permissions to run the 'sentinel|{what}' command\\r\\n\"; next }}"
        );
        sentinel(&server, port, &id('a'), &[ALONE], &refuse);
    }
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
    fails(&server, 2, &["+sentinel|sentinels"]);
    assert!(!server.has(BOUND));
    // A host without the list of replicas knows the master all the same.
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7001\"");
    server.ok("sync");
    assert!(server.has(BOUND));
}

#[test]
fn a_server_that_repeats_the_password_does_not_bring_it_into_any_output() {
    const SECRET: &str = "TOPSECRET";
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    // Redis cuts what it repeats, so that a search for the whole password would not find it.
    let long = format!("{SECRET}{}", "x".repeat(200));
    let not_found = |finished: &Finished| {
        for text in [&finished.stdout, &finished.stderr] {
            assert!(!text.contains(SECRET), "{finished}");
        }
    };
    let run_all = |code: i32, said: &str| {
        for words in [
            "sync",
            "sync --json",
            "sync --verbose",
            "sync --dry-run --verbose",
            "bind",
            "status",
            "status --json",
            "check --verbose",
            "check --json",
        ] {
            not_found(&server.vipswitch(words.split(' ')));
        }
        not_found(&server.hook("m", "192.168.56.101"));
        let run = server.vipswitch(["sync"]);
        not_found(&run);
        run.fails(code, &[said]);
        let repeats = |line: &String| line.contains(SECRET);
        let logged = lab.log().into_iter().find(repeats);
        assert_eq!(logged, None);
    };
    // The texts of Redis 5 and 6, and of 7 and later.
    let repeats = |port, quotes: &str| {
        let text = quotes.replace("SECRET", &long[..100]);
        let answer = format!(
            "print $client \"-ERR unknown command {text}\\r\\n\" and next if $command eq 'auth'"
        );
        sentinel(&server, port, &id('a'), &[ALONE], &answer);
    };
    repeats("7000", "'AUTH', with args beginning with: 'op' 'SECRET' ");
    repeats("7001", "`AUTH`, with args beginning with: `op`, `SECRET`, ");
    for port in ["7000", "7001"] {
        for password in [SECRET, &long] {
            let file = password_file(&lab, password);
            let sentinel = format!(
                "address = \"127.0.0.1:{port}\"\nusername = \"op\"\npassword_file = \"{file}\""
            );
            configure(&lab, ONE_MASTER, &sentinel);
            run_all(2, "refused the password");
        }
    }
    // A Redis that does not know AUTH, and a Sentinel that wants no password.
    let conf = lab.file("redis.conf", "rename-command AUTH \"\"\n");
    let start = format!(
        "redis-server {} --port 8000 --bind 0.0.0.0 --protected-mode no --save '' --dir / --daemonize yes",
        conf.display()
    );
    server.run("sh", ["-c", &start]);
    sentinel(&server, "7002", &id('a'), &[ALONE], "");
    for password in [SECRET, &long] {
        let file = password_file(&lab, password);
        let masters =
            format!("{ONE_MASTER}redis_username = \"op\"\nredis_password_file = \"{file}\"\n");
        configure(&lab, &masters, "address = \"127.0.0.1:7002\"");
        eventually("the Redis answers", || {
            let run = server.vipswitch(["sync"]);
            not_found(&run);
            run.code() == 2
        });
        run_all(2, "refused the password");
    }
}

#[test]
fn a_sentinel_that_has_two_ids_votes_for_both_masters() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    configure(
        &lab,
        "[masters.m1]\nvip = \"192.168.56.250/24\"\n[masters.m2]\nvip = \"192.168.56.251/24\"\n",
        "address = \"127.0.0.1:7000\"",
    );
    redis(&server, 8001, "");
    redis(&server, 8002, "");
    // As after its id has changed, and only one of the masters has heard of that.
    let (old, new) = (id('b'), id('c'));
    let (old, new) = ([("192.168.56.102", &*old)], [("192.168.56.102", &*new)]);
    let says = |name, port, sentinels| Says {
        name,
        master: ("192.168.56.101", port),
        quorum: 2,
        sentinels,
        ..ALONE
    };
    let own = [says("m1", 8001, &old), says("m2", 8002, &new)];
    sentinel(&server, "7000", &id('a'), &own, "");
    let one = id('a');
    let one = [("192.168.56.101", &*one)];
    let other = [says("m1", 8001, &one), says("m2", 8002, &one)];
    sentinel(
        &lab.host("server2"),
        "192.168.56.102:7000",
        &id('c'),
        &other,
        "",
    );
    // An answer may be late on a busy machine: then another try is made, and another run here.
    let mut seen = BTreeSet::new();
    let at_once = (0..10).any(|_| {
        for vip in ["192.168.56.250", "192.168.56.251"] {
            server.ip(&format!("addr flush dev eth1 to {vip}"));
        }
        let before = lab.runs().len();
        server.ok("sync");
        let lines = lab.log_of(before + 2).split_off(before);
        let first = lines.iter().filter(|line| line.contains(" tries=1 "));
        let all = first.count() == 2;
        seen.extend(lines);
        all
    });
    assert!(at_once, "{seen:#?}");
}

#[test]
fn without_a_majority_a_silent_redis_beside_a_replica_keeps_the_vip() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
    let other = id('b');
    let says = Says {
        quorum: 2,
        sentinels: &[("192.168.56.102", &other)],
        replicas: &[("192.168.56.101", 8001)],
        ..ALONE
    };
    sentinel(&server, "7000", &id('a'), &[says], "");
    redis(&server, 8001, "--replicaof 192.168.56.102 8000");
    false_sentinel(&server, "192.168.56.101:8000", SILENT);
    server.ip("addr add 192.168.56.250/32 dev eth1");
    fails(&server, 1, &[]);
    assert!(server.has(BOUND), "the silent Redis may be the master");
}

#[test]
fn a_sentinel_that_floods_costs_little_memory() {
    /// In KiB.
    const MOST: u64 = 64 * 1024;
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
    let mut masters = String::new();
    for (number, name) in names.iter().enumerate() {
        let vip = 130 + number;
        let _ = write!(masters, "[masters.{name}]\nvip = \"192.168.56.{vip}/24\"\n");
    }
    configure(&lab, &masters, "address = \"127.0.0.1:7000\"");
    redis(&server, 8000, "");
    let other = id('b');
    let sentinels = [("192.168.56.102", &*other)];
    let says = |name| Says {
        name,
        sentinels: &sentinels,
        ..ALONE
    };
    let own: Vec<Says> = names.iter().map(|name| says(name)).collect();
    sentinel(&server, "7000", &id('a'), &own, "");
    // A text that is as large as an answer may be.
    let flood = r#"
        my $answer = "\$1048000\r\n" . "x" x 1048000 . "\r\n";
        print $client $answer while question($client);
    "#;
    false_sentinel(&lab.host("server2"), "192.168.56.102:7000", flood);
    let peak = lab.dir().join("peak");
    let mut sync = server.command("/usr/bin/time");
    sync.args(["--quiet", "--format=%M", "--output"])
        .arg(&peak)
        .arg(executable())
        .arg("sync");
    let run = finish(sync);
    assert_eq!(run.code(), 1, "{run}");
    assert!(run.stderr.contains("192.168.56.102:7000"), "{run}");
    assert!(run.took < SENTINELS_PATIENCE, "{run}");
    let text = std::fs::read_to_string(peak).unwrap();
    let peak: u64 = text.trim().parse().expect(&text);
    assert!(peak < MOST, "{peak} KiB");
}

#[test]
fn the_local_sentinel_in_its_own_list_has_one_vote() {
    let lab = Lab::with_hosts(HOSTS.map(|(name, _)| name));
    let server = lab.host("server1");
    redis(&server, 8000, "");
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
    let (own, dead) = (id('b'), id('c'));
    let says = Says {
        quorum: 2,
        sentinels: &[("192.168.56.101", &own), ("192.168.56.99", &dead)],
        ..ALONE
    };
    sentinel(&server, "0.0.0.0:7000", &id('a'), &[says], "");
    fails(&server, 1, &["no majority"]);
    assert!(!server.has(BOUND));
}

#[test]
fn commands_that_take_long_hold_up_no_other_master() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let (gate, opened) = (lab.dir().join("gate"), lab.dir().join("opened"));
    lab.run("mkfifo", [gate.to_str().unwrap()]);
    let wait = format!("test ! -p {0} || cat {0}", gate.display());
    // More than are settled at the same time, and more than so many commands run at.
    let names: Vec<String> = (0..48).map(|number| format!("m{number}")).collect();
    let mut masters = String::new();
    for (name, vip) in names.iter().zip(150..) {
        let _ = write!(
            masters,
            "[masters.{name}]\nvip = \"192.168.56.{vip}/24\"\n\
             on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"{wait}\"], timeout_seconds = 20 }}\n"
        );
    }
    configure(&lab, &masters, "address = \"127.0.0.1:7000\"");
    let says: Vec<Says> = names.iter().map(|name| Says { name, ..ALONE }).collect();
    sentinel(&server, "7000", &id('a'), &says, "");
    redis(&server, 8000, "");
    let mut sync = start(&server);
    eventually("all VIPs are here", || server.addresses().len() == 48 + 2);
    // What ends a command before the gate is open.
    let ended = |line: &String| line.contains("was killed");
    assert!(!lab.log().iter().any(ended), "{:#?}", lab.log());
    std::fs::rename(&gate, &opened).unwrap();
    std::fs::write(&opened, "go\n").unwrap();
    assert!(crate::common::end_of(&mut sync).success());
}
