//! Which host is meant: addresses that every host has, names that are a loopback address here, servers behind
//! NAT, and VIPs that are a server's own address.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::common::{
    Finished, Host, Lab, STRANGER, eventually, executable, false_sentinel, finish, fleeting_server,
    is_root, server_of, strangers_server,
};

const VIP: &str = "192.168.56.250";
const BOUND: &str = "192.168.56.250/32@eth1";
const SERVERS: [&str; 3] = ["server1", "server2", "server3"];

/// A Redis as Sentinel lists it: its host, its run id and its flags; the port is 8000.
type Listed<'a> = (&'a str, &'a str, &'a str);

/// Three hosts whose Sentinels say the same: the master first, then its replicas. Each lists the other two by
/// these addresses.
struct Said<'a> {
    redis: &'a [Listed<'a>],
    /// The same once there is a file [`MOVED`].
    after: Option<&'a [Listed<'a>]>,
    sentinels: [&'a str; 3],
}

/// That the master has moved.
const MOVED: &str = "/run/moved";

const SENTINELS: [&str; 3] = ["192.168.56.101", "192.168.56.102", "192.168.56.103"];

/// Starts the false Sentinel of each host on a port of all its addresses.
fn start_sentinels(lab: &Lab, port: u16, said: &Said) {
    for (own, server) in SERVERS.into_iter().enumerate() {
        let script = said.script(own, port);
        false_sentinel(&lab.host(server), &format!("0.0.0.0:{port}"), &script);
    }
}

impl Said<'_> {
    /// Returns the false Sentinel of one host.
    fn script(&self, own: usize, port: u16) -> String {
        let row = |host: &str, port: u16, id: &str, flags: &str| {
            format!("['ip', '{host}', 'port', {port}, 'runid', '{id}', 'flags', '{flags}'], ")
        };
        let others = (0..3).filter(|other| *other != own);
        let sentinels: String = others
            .map(|other| {
                row(
                    self.sentinels[other],
                    port,
                    &format!("s{other}"),
                    "sentinel",
                )
            })
            .collect();
        let rows = |listed: &[Listed]| -> String {
            let each = listed.iter();
            each.map(|(host, id, flags)| row(host, 8000, id, flags))
                .collect()
        };
        let now = |before: &str, after: &str| format!("(-e '{MOVED}' ? ({after}) : ({before}))");
        let after = self.after.unwrap_or(self.redis);
        let (host, id, _) = self.redis[0];
        let (next, next_id, _) = after[0];
        let text = |before: &str, after: &str| now(&format!("'{before}'"), &format!("'{after}'"));
        SENTINEL
            .replace("SENTINELS", &sentinels)
            .replace(
                "REPLICAS",
                &now(&rows(&self.redis[1..]), &rows(&after[1..])),
            )
            .replace("\"HOST\"", &text(host, next))
            .replace("\"RUNID\"", &text(id, next_id))
    }
}

const SENTINEL: &str = r#"
sub bulk { join "", map { "\$" . length($_) . "\r\n$_\r\n" } @_ }
sub list { "*" . @_ . "\r\n" . bulk(@_) }
sub rows { "*" . @_ . "\r\n" . join "", map { list(@$_) } @_ }
my @m = ("name", "m", "ip", "HOST", "port", 8000, "runid", "RUNID",
    "flags", "master", "config-epoch", 1, "quorum", 2, "num-other-sentinels", 2);
while (my $question = question($client)) {
    my (undef, $command, $what) = map { lc } split /\r\n(?:\$\d+\r\n)?/, $question;
    print $client $what =~ /^get-master/ ? list("HOST", 8000)
        : $what eq "master" ? list(@m)
        : $what eq "masters" ? rows(\@m)
        : $what eq "sentinels" ? rows(SENTINELS)
        : $what =~ /^(slaves|replicas)$/ ? rows(REPLICAS)
        : "-ERR unknown command '$command'\r\n";
}
"#;

fn configure(lab: &Lab, vip: &str, port: u16, more: &str) {
    lab.config(&format!(
        "[masters.m]\nvip = \"{vip}\"\n[sentinel]\naddress = \"127.0.0.1:{port}\"\n{more}"
    ));
}

/// Starts a real Redis on port 8000 of a host, waits until it answers, and returns its run id.
fn redis(host: &Host, more: &str) -> String {
    let server = format!(
        "redis-server --port 8000 --bind 0.0.0.0 ::0 --protected-mode no --save '' --dir / --daemonize yes {more}"
    );
    host.run("sh", ["-c", &server]);
    let mut run_id = String::new();
    eventually("the Redis answers", || {
        let mut info = host.command("redis-cli");
        info.args(["-p", "8000", "info", "server"]);
        let told = finish(info).stdout;
        let line = told.lines().find_map(|line| line.strip_prefix("run_id:"));
        run_id = line.unwrap_or_default().trim().to_owned();
        !run_id.is_empty()
    });
    run_id
}

/// Starts the Redis of each host: the second is the master, the others follow it. Returns their run ids.
fn redises(lab: &Lab) -> [String; 3] {
    let follows = "--replicaof 192.168.56.102 8000";
    let ids = [("server2", ""), ("server1", follows), ("server3", follows)]
        .map(|(server, more)| redis(&lab.host(server), more));
    for server in ["server1", "server3"] {
        eventually("it is a replica", || {
            let mut role = lab.host(server).command("redis-cli");
            role.args(["-p", "8000", "role"]);
            finish(role).stdout.contains("connected")
        });
    }
    let [two, one, three] = ids;
    [one, two, three]
}

/// Runs vipswitch on a host that has this name and this file of hosts.
fn vipswitch_as(host: &Host, own_name: &str, hosts: &str, arguments: &[&str]) -> Finished {
    let mut command: Command = host.command("unshare");
    let script = r#"hostname "$1"; mount --bind "$2" /etc/hosts; shift 2; exec "$@""#;
    command.args(["--uts", "sh", "-c", script, "sh", own_name, hosts]);
    finish({
        command.arg(executable()).args(arguments);
        command
    })
}

fn call<'a>(from: &'a str, to: &'a str) -> [&'a str; 7] {
    ["m", "observer", "start", from, "8000", to, "8000"]
}

/// Returns the hosts that have the VIP.
fn holders(lab: &Lab) -> Vec<&'static str> {
    let has = |server: &&str| {
        let addresses = lab.host(server).addresses();
        addresses
            .iter()
            .any(|one| one.starts_with(&format!("{VIP}/")))
    };
    SERVERS.into_iter().filter(has).collect()
}

/// What the hosts are asked to do, each alone: nothing of it may change anything.
fn refused_everywhere(lab: &Lab, from: &str, to: &str, row: &str) {
    for server in SERVERS {
        let host = lab.host(server);
        let before = host.addresses();
        let calls: [&[&str]; 5] = [
            &call(from, to),
            &["sync"],
            &["bind", "m"],
            &["unbind", "m"],
            &["announce", "m"],
        ];
        for arguments in calls {
            // A busy machine may be too slow for Sentinel to tell in time.
            eventually("it is refused", || {
                let run = host.vipswitch(arguments);
                assert_eq!(host.addresses(), before, "{row}: {run}");
                run.code() == 2 && run.stderr.contains("is a VIP in the configuration")
            });
        }
    }
}

#[test]
fn a_vip_that_is_a_servers_own_address_is_refused() {
    let lab = Lab::with_hosts(SERVERS);
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for number in 1..=3 {
        let _ = writeln!(hosts, "192.168.56.10{number} redis{number}");
    }
    fs::write(lab.dir().join("hosts"), hosts).unwrap();
    let v4 = ["192.168.56.101", "192.168.56.102", "192.168.56.103"];
    let v6 = ["fd00::101", "fd00::102", "fd00::103"];
    let names = ["redis1", "redis2", "redis3"];
    for (number, (hosts, vips)) in [(v4, v4), (v6, v6), (names, v4)].into_iter().enumerate() {
        let port = 7000 + u16::try_from(number).unwrap();
        let redis = [
            (hosts[1], "b", "master"),
            (hosts[0], "a", "slave"),
            (hosts[2], "c", "slave"),
        ];
        let said = Said {
            redis: &redis,
            after: None,
            sentinels: SENTINELS,
        };
        start_sentinels(&lab, port, &said);
        for vip in vips {
            configure(&lab, vip, port, "");
            refused_everywhere(&lab, hosts[0], hosts[1], vip);
        }
    }
}

/// Also where Sentinel tells nothing but the master's address: FROM and TO stand in the call.
#[test]
fn a_vip_that_stands_in_the_call_is_refused_whatever_sentinel_may_be_asked() {
    let lab = Lab::with_hosts(SERVERS);
    let (one, two) = ("192.168.56.101", "192.168.56.102");
    let only = format!(
        "while (my $question = question($client)) {{ print $client $question =~ /get-master/ ? \
         \"*2\\r\\n\\$14\\r\\n{two}\\r\\n\\$4\\r\\n8000\\r\\n\" : \"-NOPERM no\\r\\n\" }}"
    );
    for server in SERVERS {
        let host = lab.host(server);
        false_sentinel(&host, "7000", &only);
        for vip in [one, two] {
            configure(&lab, vip, 7000, "");
            let before = host.addresses();
            let run = host.vipswitch(call(one, two));
            assert_eq!(host.addresses(), before, "{run}");
            run.fails(2, &["is a VIP"]);
        }
        // What the configuration knows of servers needs nobody's leave.
        configure(
            &lab,
            "192.168.56.103",
            7000,
            "[hosts]\nredis3 = [\"192.168.56.103\"]\n",
        );
        for arguments in [&call(one, two)[..], &["bind"], &["unbind"]] {
            let before = host.addresses();
            let run = host.vipswitch(arguments);
            assert_eq!(host.addresses(), before, "{run}");
            run.fails(2, &["is a VIP"]);
        }
    }
}

#[test]
fn an_address_that_every_host_has_is_the_masters_alone() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    let docker = "172.17.0.1";
    for server in SERVERS {
        let host = lab.host(server);
        host.ip("link add docker0 type bridge");
        host.ip("addr add 172.17.0.1/16 dev docker0");
        host.ip("link set docker0 up");
    }
    let redis = [(docker, &*ids[1], "master")];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    for round in 0..2 {
        for server in SERVERS {
            let host = lab.host(server);
            match round {
                0 => host.vipswitch(call("192.168.56.101", docker)).success(),
                _ => host.ok("sync"),
            };
        }
        assert_eq!(holders(&lab), ["server2"]);
        lab.host("server2").ok("unbind");
        // A host that holds it by mistake lets go.
        lab.host("server3").ok("bind");
    }
    // `check` says so where it can be seen: on the master's host.
    for server in ["server1", "server3"] {
        let mut announce = lab.host(server).command("redis-cli");
        announce.args(["-p", "8000", "config", "set", "replica-announce-ip", docker]);
        assert_eq!(finish(announce).stdout, "OK\n");
        let mut again = lab.host(server).command("redis-cli");
        again.args(["-p", "8000", "client", "kill", "type", "master"]);
        finish(again);
    }
    eventually("check warns of it", || {
        let check = lab.host("server2").vipswitch(["check"]).stdout;
        check.contains("several servers announce 172.17.0.1:8000")
    });
}

#[test]
fn a_name_that_is_a_loopback_address_here_is_this_host() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    let redis = [
        ("redis2", &*ids[1], "master"),
        ("redis1", &ids[0], "slave"),
        ("redis3", &ids[2], "slave"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    let real = "192.168.56.101 redis1\n192.168.56.102 redis2\n192.168.56.103 redis3\n";
    fs::write(lab.dir().join("hosts"), real).unwrap();
    let others = |own: &str| -> String {
        let lines = real.lines().filter(|line| !line.ends_with(own));
        lines.map(|line| format!("{line}\n")).collect()
    };
    for (number, own_line) in ["127.0.1.1 NAME\n", "127.0.1.1 NAME\nREAL", "::1 NAME\n"]
        .into_iter()
        .enumerate()
    {
        for verb in ["hook", "sync"] {
            for (place, server) in SERVERS.into_iter().enumerate() {
                let name = format!("redis{}", place + 1);
                let own = match own_line.contains("REAL") {
                    true => real.to_owned(),
                    false => others(&name),
                };
                let own_line = own_line.replace("REAL", "").replace("NAME", &name);
                let file = lab.file(
                    &format!("hosts-{number}-{verb}-{server}"),
                    format!("127.0.0.1 localhost\n{own_line}{own}"),
                );
                let arguments: &[&str] = match verb {
                    "hook" => &call("redis1", "redis2"),
                    _ => &["sync"],
                };
                let own_name = format!("ip-192-168-56-10{}", place + 1);
                let host = lab.host(server);
                vipswitch_as(&host, &own_name, &file.display().to_string(), arguments).success();
            }
            assert_eq!(holders(&lab), ["server2"], "{own_line} {verb}");
            lab.host("server2").ok("unbind m");
            lab.host("server1").ok("bind m");
        }
    }
}

/// Sentinel knows the servers by addresses that no interface has.
#[test]
fn behind_nat_the_run_id_tells_which_host_is_meant() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    for (port, known) in [(7000, true), (7001, false)] {
        let id = |place: usize| if known { ids[place].as_str() } else { "" };
        let redis = [
            ("203.0.113.102", id(1), "master"),
            ("203.0.113.101", id(0), "slave"),
            ("203.0.113.103", id(2), "slave"),
        ];
        let said = Said {
            redis: &redis,
            after: None,
            sentinels: SENTINELS,
        };
        start_sentinels(&lab, port, &said);
        let hosts = match known {
            true => String::new(),
            // Where the run id cannot be had.
            false => (1..=3).fold("[hosts]\n".to_owned(), |hosts, number| {
                hosts + &format!("redis{number} = [\"203.0.113.10{number}\"]\n")
            }),
        };
        configure(&lab, &format!("{VIP}/24"), port, &hosts);
        let check = vipswitch_as(&lab.host("server2"), "redis2", "/etc/hosts", &["check"]);
        let line = "[hosts] redis2 = [\"203.0.113.102\"]";
        assert_eq!(check.stdout.contains(line), known, "{check}");
        for verb in ["hook", "sync"] {
            for (place, server) in SERVERS.into_iter().enumerate() {
                let arguments: &[&str] = match verb {
                    "hook" => &call("203.0.113.101", "203.0.113.102"),
                    _ => &["sync"],
                };
                let (host, name) = (lab.host(server), format!("redis{}", place + 1));
                vipswitch_as(&host, &name, "/etc/hosts", arguments).success();
            }
            assert_eq!(holders(&lab), ["server2"], "{known} {verb}");
            lab.host("server2").ok("unbind m");
            lab.host("server3").ok("bind m");
        }
    }
}

/// The third server only has a Sentinel, or its Redis is down.
#[test]
fn a_vip_that_is_the_address_of_another_sentinel_is_refused() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    for (port, third) in [(7000, None), (7001, Some("slave,s_down"))] {
        let mut redis = vec![
            ("192.168.56.102", &*ids[1], "master"),
            ("192.168.56.101", &ids[0], "slave"),
        ];
        redis.extend(third.map(|flags| ("192.168.56.103", &*ids[2], flags)));
        let said = Said {
            redis: &redis,
            after: None,
            sentinels: SENTINELS,
        };
        start_sentinels(&lab, port, &said);
        configure(&lab, "192.168.56.103", port, "");
        for server in ["server1", "server2"] {
            let host = lab.host(server);
            let before = host.addresses();
            let calls: [&[&str]; 4] = [
                &call("192.168.56.101", "192.168.56.102"),
                &["sync"],
                &["bind"],
                &["unbind"],
            ];
            for arguments in calls {
                eventually("it is refused", || {
                    let run = host.vipswitch(arguments);
                    assert_eq!(host.addresses(), before, "{run}");
                    run.code() == 2 && run.stderr.contains("is a VIP in the configuration")
                });
            }
        }
    }
}

/// A VIP that has become a host's source address is known as a Sentinel's and as a replica's: neither is a
/// mistake of the configuration, and neither has a say.
#[test]
fn a_sentinel_or_a_replica_known_by_the_vip_keeps_it_from_nothing() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    let redis = [
        ("192.168.56.102", &*ids[1], "master"),
        ("192.168.56.101", &ids[0], "slave"),
        (VIP, &ids[1], "slave"),
        ("192.168.56.103", "c", "slave,s_down"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: ["192.168.56.101", "192.168.56.102", VIP],
    };
    start_sentinels(&lab, 7000, &said);
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    let host = lab.host("server2");
    host.ok("sync");
    assert!(host.has(BOUND));
    host.ok("unbind");
    host.vipswitch(call("192.168.56.101", "192.168.56.102"))
        .success();
    assert!(host.has(BOUND));
    host.ok("unbind");
    host.ok("bind");
}

/// Notes what it is sent on port 8000 of an address.
fn eavesdropper(lab: &Lab, host: &Host, address: &str) -> std::path::PathBuf {
    let heard = lab
        .dir()
        .join(format!("heard-{}", address.replace(':', "-")));
    let script = format!(
        "my $q = question($client) // ''; open my $f, '>>', '{}'; print $f $q; close $f; print $client \"-NOAUTH no\\r\\n\"; sleep 600",
        heard.display()
    );
    false_sentinel(host, &format!("{address}:8000"), &script);
    heard
}

/// Whoever listens on a port of this host is not a Redis for that.
#[test]
fn the_password_of_redis_goes_to_no_stranger_on_this_host() {
    let lab = Lab::with_hosts(SERVERS);
    let password = lab.file("password", "TOPSECRET\n");
    fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let more = format!("redis_password_file = \"{}\"\n", password.display());
    // A host that only has a Sentinel; the others are on link.
    let redis = [
        ("192.168.56.102", "b", "master"),
        ("192.168.56.101", "a", "slave"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    lab.config(&format!(
        "[masters.m]\nvip = \"{VIP}/24\"\n{more}[sentinel]\naddress = \"127.0.0.1:7000\"\n"
    ));
    let host = lab.host("server3");
    let heard = eavesdropper(&lab, &host, "127.0.0.77");
    host.ok("sync");
    host.vipswitch(call("192.168.56.101", "192.168.56.102"))
        .success();
    assert!(!heard.exists(), "{:?}", fs::read_to_string(&heard));
    // A call that names a port of this host, and Sentinel does not.
    let heard = eavesdropper(&lab, &host, "192.168.56.103");
    host.vipswitch(call("192.168.56.101", "192.168.56.103"))
        .success();
    let text = fs::read_to_string(&heard).unwrap_or_default();
    assert!(!text.contains("TOPSECRET"), "{text}");
}

/// Starts Sentinels on port 7000 that name server2's Redis as the master, with the run id `b`, and the others' as its
/// replicas, `a` and `c`, all by addresses that begin so.
fn name_all(lab: &Lab, net: &str) {
    let [one, two, three] = [101, 102, 103].map(|number| format!("{net}.{number}"));
    let redis = [
        (two.as_str(), "b", "master"),
        (&one, "a", "slave"),
        (&three, "c", "slave"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(lab, 7000, &said);
}

/// An ordinary user listens where Redis does, at another address of the loopback interface.
#[test]
fn behind_nat_an_ordinary_user_is_not_the_redis_by_its_run_id() {
    if !is_root() {
        // The lab has one user only.
        return;
    }
    let lab = Lab::with_hosts(SERVERS);
    name_all(&lab, "203.0.113");
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    let host = lab.host("server3");
    let script = r#"
        while (my $question = question($client)) {
            my $info = "run_id:b\r\nuptime_in_seconds:9\r\nrole:master\r\n";
            print $client $question =~ /ROLE/i ? "*3\r\n\$6\r\nmaster\r\n:0\r\n*0\r\n"
                : $question =~ /INFO/i ? "\$" . length($info) . "\r\n$info\r\n"
                : "+OK\r\n";
        }"#;
    strangers_server(&host, "127.0.0.77:8000", script);
    host.vipswitch(["sync"]);
    host.vipswitch(call("203.0.113.101", "203.0.113.102"));
    assert!(holders(&lab).is_empty(), "{:?}", holders(&lab));
    // Sentinel's user may.
    false_sentinel(&host, "127.0.0.78:8000", script);
    host.ok("sync");
    assert_eq!(holders(&lab), ["server3"]);
    // As may a user of the system, such as `redis` beside a Sentinel of root's.
    let lab = Lab::with_hosts(SERVERS);
    name_all(&lab, "203.0.113");
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    let host = lab.host("server3");
    server_of(&host, 102, "127.0.0.1:8000", script);
    host.ok("sync");
    assert_eq!(holders(&lab), ["server3"]);
}

/// Sentinel forgets run ids at a switch, and nothing else tells behind NAT which host is meant.
#[test]
fn behind_nat_an_agent_knows_a_new_master_by_the_run_id_of_before() {
    let lab = Lab::with_hosts(SERVERS);
    let said = Said {
        redis: &[
            ("203.0.113.102", "b", "master"),
            ("203.0.113.103", "c", "slave"),
        ],
        after: Some(&[
            ("203.0.113.103", "", "master"),
            ("203.0.113.102", "", "slave"),
        ]),
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    let host = lab.host("server3");
    let script = r#"
        while (my $question = question($client)) {
            my ($word, $role) = -e "/run/moved" ? ("master", "\$6\r\nmaster\r\n:0\r\n*0\r\n")
                : ("slave", "\$5\r\nslave\r\n\$1\r\nx\r\n:1\r\n\$9\r\nconnected\r\n:0\r\n");
            my $info = "run_id:c\r\nuptime_in_seconds:9000\r\nrole:$word\r\n";
            print $client $question =~ /ROLE/i ? ($word eq "master" ? "*3\r\n" : "*5\r\n") . $role
                : $question =~ /INFO/i ? "\$" . length($info) . "\r\n$info\r\n"
                : "+OK\r\n";
        }"#;
    false_sentinel(&host, "127.0.0.1:8000", script);
    host.run("mkdir", ["-p", "/run/vipswitch"]);
    let mut agent = host.command(executable());
    let mut agent = agent.arg("agent").spawn().unwrap();
    let says = |words: &str| host.vipswitch(["status"]).stdout.contains(words);
    eventually("its Redis follows", || {
        says("203.0.113.103:8000 is replica, run id c")
    });
    assert!(holders(&lab).is_empty());
    host.run("touch", [MOVED]);
    eventually("the VIP is where the new master is", || {
        holders(&lab) == ["server3"]
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// Ends what listens on Sentinel's port.
const END_SENTINEL: &str =
    "ss -Hlntp 'sport = :7000' | grep -o 'pid=[0-9]*' | cut -d= -f2 | xargs kill -KILL";

/// While this host's Sentinel is stopped, or where it listens on one address of its name only; also where the kernel cannot
/// tell any more who listens, and where Sentinel's address is not the one that this host has for itself.
#[test]
fn an_ordinary_user_who_takes_sentinels_port_is_not_believed() {
    if !is_root() {
        // The lab has one user only.
        return;
    }
    for (name, at) in [
        ("127.0.0.1", "127.0.0.1:7000"),
        ("localhost", "[::1]:7000"),
        ("127.0.0.1", "fleeting"),
        ("192.168.56.203", "192.168.56.203:7000"),
    ] {
        let lab = Lab::with_hosts(SERVERS);
        name_all(&lab, "192.168.56");
        let host = lab.host("server3");
        host.ip("addr add 192.168.56.203/24 dev eth1");
        let configure = |more: &str| {
            lab.config(&format!(
                "[masters.m]\nvip = \"{VIP}/24\"\n[sentinel]\naddress = \"{name}:7000\"\n{more}\
                 peers = [\"192.168.56.101:7000\", \"192.168.56.102:7000\"]\n"
            ))
        };
        configure("");
        host.ok("sync");
        // The other two Sentinels are a majority without this one.
        if name != "localhost" {
            let end =
                "ss -Hlntp 'sport = :7000' | grep -o 'pid=[0-9]*' | cut -d= -f2 | xargs kill -KILL";
            host.run("sh", ["-c", end]);
        }
        host.run("sh", ["-c", ": >/run/heard; chmod 666 /run/heard"]);
        let script = SENTINEL
            .replace("SENTINELS", "")
            .replace("REPLICAS", "")
            .replace("HOST", "192.168.56.103")
            .replace("8000", "6399")
            .replace("RUNID", "x")
            .replace(
                "    my (undef, $command, $what)",
                "    open my $heard, '>>', '/run/heard'; syswrite $heard, $question; close $heard;\n    my (undef, $command, $what)",
            );
        match at {
            "fleeting" => fleeting_server(&host, "127.0.0.1:7000", ("0.2", &script)),
            _ => strangers_server(&host, at, &script),
        }
        let redis = r#"while (my $question = question($client)) { print $client "*3\r\n\$6\r\nmaster\r\n:0\r\n*0\r\n" }"#;
        strangers_server(&host, "192.168.56.103:6399", redis);
        let heard = || host.run("cat", ["/run/heard"]);
        for words in ["sync", "status", "check", "sync", "failover m --dry-run"] {
            host.vipswitch(words.split(' '));
            assert!(
                holders(&lab).is_empty(),
                "{at} {words}: {:?}",
                holders(&lab)
            );
            assert_eq!(heard(), "", "{at} {words}");
        }
        // There the first one that accepts is asked.
        if name == "localhost" {
            continue;
        }
        if at != "fleeting" {
            let why = format!("user {STRANGER} listens there, and Sentinel ran as user 0");
            let check = host.vipswitch(["check"]);
            assert!(check.stdout.contains(&why), "{check}");
        }
        configure(&format!("user = {STRANGER}\n"));
        eventually("this is Sentinel's user now", || {
            host.vipswitch(["sync"]);
            heard().contains("SENTINEL")
        });
    }
}

#[test]
fn an_agent_whose_configuration_names_another_user_of_sentinels_ends_its_connection() {
    if !is_root() {
        // The lab has one user only.
        return;
    }
    let lab = Lab::with_hosts(SERVERS);
    let said = Said {
        redis: &[("192.168.56.102", "b", "master")],
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    let host = lab.host("server3");
    host.run("sh", ["-c", END_SENTINEL]);
    strangers_server(&host, "0.0.0.0:7000", &said.script(2, 7000));
    configure(
        &lab,
        &format!("{VIP}/24"),
        7000,
        &format!("user = {STRANGER}\n"),
    );
    host.run("mkdir", ["-p", "/run/vipswitch"]);
    let mut agent = host.command("sh");
    agent.args(["-c", "echo $$ >/run/pid; exec \"$0\" agent"]);
    let mut agent = agent.arg(executable()).spawn().unwrap();
    let says = |words: &str| host.vipswitch(["status"]).stdout.contains(words);
    eventually("it is Sentinel's user", || {
        says("127.0.0.1:7000 says 192.168.56.102:8000 (epoch 1)")
    });
    configure(&lab, &format!("{VIP}/24"), 7000, "user = [1500, 1501]\n");
    host.run("sh", ["-c", "kill -HUP $(cat /run/pid)"]);
    let why = format!("127.0.0.1:7000 is silent: user {STRANGER} listens there");
    eventually("it is another's", || says(&why));
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// `[hosts]` gives a Redis to this host, and an ordinary user listens on its port.
#[test]
fn the_agent_sends_the_password_of_redis_to_no_ordinary_user() {
    if !is_root() {
        // The lab has one user only.
        return;
    }
    let lab = Lab::with_hosts(SERVERS);
    let password = lab.file("password", "TOPSECRET\n");
    fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let redis = [
        ("203.0.113.102", "b", "master"),
        ("203.0.113.103", "c", "slave"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    let more = format!("redis_password_file = \"{}\"\n", password.display());
    lab.config(&format!(
        "[masters.m]\nvip = \"{VIP}/24\"\n{more}[sentinel]\naddress = \"127.0.0.1:7000\"\n\
         [hosts]\nredis3 = [\"203.0.113.103\"]\n"
    ));
    let host = lab.host("server3");
    host.run("sh", ["-c", "touch /run/heard && chmod 666 /run/heard"]);
    let script = r#"
        while (my $question = question($client)) {
            open my $heard, ">>", "/run/heard"; syswrite $heard, $question; close $heard;
            print $client "-NOAUTH Authentication required.\r\n";
        }"#;
    strangers_server(&host, "127.0.0.77:8000", script);
    let arguments = ["--uts", "sh", "-c", "hostname redis3; exec \"$0\" agent"];
    let mut agent = host.command("unshare");
    agent.args(arguments).arg(executable());
    let mut agent = agent.spawn().unwrap();
    let heard = || host.run("cat", ["/run/heard"]);
    eventually("it is asked again and again", || {
        heard().matches("ROLE").count() > 5
    });
    assert!(!heard().contains("TOPSECRET"), "{}", heard());
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// A server that only has a Sentinel, or whose lists Sentinel does not tell: it was known before.
#[test]
fn a_vip_that_was_a_servers_address_before_is_refused() {
    let lab = Lab::with_hosts(SERVERS);
    let ids = redises(&lab);
    let redis = [
        ("192.168.56.102", &*ids[1], "master"),
        ("192.168.56.101", &ids[0], "slave"),
    ];
    let said = Said {
        redis: &redis,
        after: None,
        sentinels: SENTINELS,
    };
    start_sentinels(&lab, 7000, &said);
    configure(&lab, &format!("{VIP}/24"), 7000, "");
    for server in SERVERS {
        lab.host(server).ok("sync");
    }
    let only = "while (my $question = question($client)) { print $client $question =~ /get-master/ ? \
         \"*2\\r\\n\\$14\\r\\n192.168.56.102\\r\\n\\$4\\r\\n8000\\r\\n\" : \"-NOPERM no\\r\\n\" }";
    for server in SERVERS {
        false_sentinel(&lab.host(server), "7001", only);
    }
    configure(&lab, "192.168.56.103", 7001, "");
    for server in SERVERS {
        let host = lab.host(server);
        let before = host.addresses();
        // Of its own address a host knows that it is its only one.
        let why = match server {
            "server3" => "vipswitch has not bound it",
            _ => "is a VIP in the configuration",
        };
        let calls: [&[&str]; 3] = [
            &call("192.168.56.101", "192.168.56.102"),
            &["unbind"],
            &["bind"],
        ];
        let number = if server == "server3" { 2 } else { 3 };
        for arguments in &calls[..number] {
            let run = host.vipswitch(*arguments);
            assert_eq!(host.addresses(), before, "{run}");
            run.fails(2, &[why]);
        }
    }
    configure(&lab, "192.168.56.103", 7000, "");
    for server in SERVERS {
        for _ in 0..2 {
            assert_eq!(lab.host(server).vipswitch(["sync"]).code(), 2);
        }
    }
}
