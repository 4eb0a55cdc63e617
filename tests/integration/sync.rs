//! `vipswitch sync`: this host made to agree with what a majority of the Sentinels says, with real
//! Redis and real Sentinels, and false ones for what they would not say.

use std::time::Duration;

use crate::common::redis::{MASTER_8000, Master, SERVERS, Site, address};
use crate::common::sniffer::Sniffer;
use crate::common::{Host, Lab, PATIENCE, false_sentinel, finish, wait_for};

const M: Master = MASTER_8000;

/// A Sentinel that answers on a port of a host's loopback with what it is told to know: the master
/// and since which failover, the quorum, and the addresses of other Sentinels.
fn knows(host: &Host, port: u16, (master, epoch): (&str, u64), quorum: usize, others: &[&str]) {
    let bulk = |text: &str| format!("\\${}\\r\\n{text}\\r\\n", text.len());
    let pairs = |pairs: &[(&str, &str)]| {
        let words = pairs.iter().flat_map(|(name, value)| [*name, *value]);
        let words: String = words.map(bulk).collect();
        format!("*{}\\r\\n{words}", 2 * pairs.len())
    };
    let about = |other: &&str| pairs(&[("ip", other), ("port", "6800")]);
    let sentinels: String = others.iter().map(about).collect();
    let script = format!(
        r#"while (my $question = question($client)) {{
            print $client "{}" if $question =~ /\r\nmaster\r\n/i;
            print $client "*{}\r\n{sentinels}" if $question =~ /\r\nsentinels\r\n/i;
            print $client "*0\r\n" if $question =~ /\r\nslaves\r\n/i;
            print $client "*2\r\n{}{}" if $question =~ /get-master/;
        }}"#,
        pairs(&[
            ("name", M.name),
            ("quorum", &quorum.to_string()),
            ("config-epoch", &epoch.to_string())
        ]),
        others.len(),
        bulk(master),
        bulk("8000"),
    );
    false_sentinel(host, &port.to_string(), &script);
}

/// The site's configuration with another local Sentinel and more for the master.
fn configure(site: &Site, port: u16, more: &str) {
    site.lab().config(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{more}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
    ));
}

/// Waits until `sync` fails like this. On a busy machine a server may be late at first, which is another
/// fault.
#[track_caller]
fn fails(host: &Host, code: i32, parts: &[&str]) {
    let mut last = None;
    let failed = wait_for(PATIENCE, || {
        let run = last.insert(host.vipswitch(["sync"]));
        assert_ne!(run.code(), 0, "{run}");
        let said = parts.iter().all(|part| run.stderr.contains(part));
        (run.code() == code && said).then_some(())
    });
    assert!(failed.is_some(), "no {parts:?}: {}", last.unwrap());
}

#[test]
fn a_host_is_made_to_agree_with_the_majority_and_its_own_redis() {
    let site = Site::new(&[M]);
    let [one, two, _] = SERVERS.map(|server| site.host(server));
    // As after a reboot, and a VIP where it does not belong.
    one.ip("addr flush dev eth1 to 192.168.56.250");
    two.ip("addr add 192.168.56.250/24 dev eth1");
    let said = two.ok("sync");
    assert!(
        said.contains("released 192.168.56.250/24 from eth1"),
        "{said}"
    );
    let sniffer = Sniffer::start(&site.host("client"));
    let said = one.ok("sync");
    assert!(
        said.contains("took 192.168.56.250/24 over on eth1"),
        "{said}"
    );
    sniffer.wait_for_rounds(M.vip, 2);
    site.check_in_use(&M, "server1");
    let logged = |part: &str| site.log().iter().filter(|line| line.contains(part)).count();
    crate::common::eventually("both are in the log", || {
        // A Sentinel may be late on a busy machine.
        logged(" of 3 say 192.168.56.101:8000\"") == 2
    });
    // All is well now: it is announced again, and nothing is logged.
    let before = (sniffer.about(M.vip).len(), logged("why="));
    let said = one.ok("sync");
    assert!(
        said.contains("192.168.56.250/24 was already on eth1 as /32, announced it again"),
        "{said}"
    );
    sniffer.wait(M.vip, before.0 + 2);
    assert!(two.ok("sync").contains("left 192.168.56.250/24 as it is"));
    assert_eq!(one.ok("sync --quiet"), "");
    // Whatever they have logged is there before this.
    two.run("logger", ["-u", "/dev/log", "marker"]);
    crate::common::eventually("the marker is in the log", || logged("marker") == 1);
    assert_eq!(logged("why="), before.1);
    // What would be done, without doing it.
    one.ip("addr flush dev eth1 to 192.168.56.250");
    assert!(
        one.ok("sync --dry-run")
            .contains("would take 192.168.56.250/24 over")
    );
    assert!(!one.has(M.bound));
    one.vipswitch(["sync", "mastr8000"])
        .fails(2, &["Did you mean \"master8000\"?"]);
}

#[test]
fn without_a_majority_nothing_is_changed_and_who_said_what_is_told() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    for server in ["server2", "server3"] {
        one.ip(&format!("route add blackhole {}/32", address(server)));
    }
    let parts = [
        "no majority of the Sentinels names a master, so that nothing is changed",
        "127.0.0.1:6800 says 192.168.56.101:8000",
        "192.168.56.102:6800 does not answer",
        "192.168.56.103:6800 does not answer",
    ];
    fails(&one, 1, &parts);
    assert!(one.has(M.bound), "it stays");
    one.ip("addr flush dev eth1 to 192.168.56.250");
    fails(&one, 1, &parts);
    assert!(!one.has(M.bound), "it is not taken either");
}

#[test]
fn a_sentinel_with_an_old_file_does_not_win() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    site.fail_over(&M, "server1", "server2");
    site.wait_until_well(&M, "server2");
    // Server1 comes back with a Sentinel that knows only what was.
    one.ip("addr add 192.168.56.250/24 dev eth1");
    knows(
        &one,
        7000,
        ("192.168.56.101", 0),
        2,
        &["192.168.56.102", "192.168.56.103"],
    );
    configure(&site, 7000, "");
    let said = one.ok("sync");
    assert!(
        said.contains("released 192.168.56.250/24 from eth1"),
        "{said}"
    );
    // A Sentinel that has forgotten the others is no majority.
    let two = site.host("server2");
    knows(&two, 7001, ("192.168.56.101", 0), 2, &[]);
    configure(&site, 7001, "");
    fails(
        &two,
        1,
        &[
            "no majority",
            "127.0.0.1:7001 says 192.168.56.101:8000",
            "2 must agree",
        ],
    );
    assert!(two.has(M.bound), "it stays");
}

#[test]
fn a_sentinel_that_knows_of_a_later_failover_is_waited_for_and_then_outvoted() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    // As the leader's, which has called its hook before the others have heard of it.
    let others = ["192.168.56.102", "192.168.56.103"];
    knows(&one, 7000, ("192.168.56.102", 99), 2, &others);
    configure(&site, 7000, "");
    // For three hello periods nothing is changed; then it is cut off from the others.
    one.ip("addr flush dev eth1 to 192.168.56.250");
    let run = one.vipswitch(["sync"]);
    let said = "127.0.0.1:7000 says 192.168.56.102:8000 since failover 99";
    assert!(run.stderr.contains(said), "{run}");
    assert!(run.took >= Duration::from_secs(6), "{run}");
    run.success();
    assert!(one.has(M.bound), "by the word of two of three");
}

#[test]
fn a_sentinel_that_knows_few_others_is_outnumbered_by_one_that_knows_more() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    one.ip("addr flush dev eth1 to 192.168.56.250");
    // The others know two each: two of three are needed, and this one says the same twice.
    let twice = ["192.168.56.103", "192.168.56.103"];
    knows(&one, 7000, ("192.168.56.101", 0), 1, &twice);
    for server in ["server1", "server2"] {
        let words = "redis-cli -p 6800 sentinel set master8000 quorum 1";
        site.host(server).run("sh", ["-c", words]);
    }
    site.host("server3")
        .run("sh", ["-c", "redis-cli -p 6800 shutdown || true"]);
    configure(&site, 7000, "");
    fails(&one, 1, &["no majority"]);
    assert!(!one.has(M.bound));
    // One that answers, and knows that there are three.
    knows(&one, 7001, ("192.168.56.101", 0), 1, &["192.168.56.102"]);
    configure(&site, 7001, "");
    one.ok("sync");
    assert!(one.has(M.bound), "two of three");
}

#[test]
fn an_address_that_a_server_has_is_no_vip() {
    let site = Site::new(&[M]);
    let three = site.host("server3");
    let before = three.addresses();
    for servers in ["192.168.56.101", "192.168.56.102", "192.168.56.103"] {
        site.configure(&format!("[masters.master8000]\nvip = \"{servers}/24\"\n"));
        for server in SERVERS {
            let said = "is a VIP in the configuration and the address of a Redis";
            fails(&site.host(server), 2, &[said, "`vip` is mistyped"]);
        }
    }
    assert_eq!(three.addresses(), before);
}

#[test]
fn a_command_of_the_site_runs_once_and_not_at_every_sync() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    let ran = site.dir().join("ran");
    configure(
        &site,
        6800,
        &format!(
            "on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"echo >>{}\"], required = true }}\n",
            ran.display()
        ),
    );
    one.ip("addr flush dev eth1 to 192.168.56.250");
    for _ in 0..3 {
        one.ok("sync");
    }
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "\n");
}

#[test]
fn acl_users_need_what_the_documents_say() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    let cli = |words: &str| {
        let command = format!("redis-cli {words}");
        assert_eq!(one.run("sh", ["-c", &command]), "OK\n", "{words}");
    };
    cli(
        "-p 6800 acl setuser watcher on '>word' +sentinel'|'get-master-addr-by-name +sentinel'|'master +sentinel'|'sentinels +sentinel'|'slaves",
    );
    cli("-p 8000 acl setuser teller on '>word' +role");
    let password = site.lab().file("password", "word\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, mode).unwrap();
    let file = password.display();
    for server in ["server2", "server3"] {
        cli(&format!(
            "-h {} -p 6800 acl setuser watcher on '>word' +sentinel'|'get-master-addr-by-name +sentinel'|'master",
            address(server)
        ));
    }
    configure(
        &site,
        6800,
        &format!("redis_username = \"teller\"\nredis_password_file = \"{file}\"\n"),
    );
    let text = std::fs::read_to_string(site.dir().join("vipswitch.toml")).unwrap();
    site.lab().config(&format!(
        "{text}username = \"watcher\"\npassword_file = \"{file}\"\n"
    ));
    one.ip("addr flush dev eth1 to 192.168.56.250");
    one.ok("sync");
    assert!(one.has(M.bound));
}

#[test]
fn a_redis_that_is_no_master_does_not_get_the_vip() {
    let site = Site::new(&[M]);
    let two = site.host("server2");
    knows(&two, 7000, ("192.168.56.102", 0), 1, &[]);
    configure(&site, 7000, "");
    let said = two.ok("sync");
    assert!(
        said.contains("the Redis of this host is a replica"),
        "{said}"
    );
    assert!(!two.has(M.bound));
    // It does not keep the VIP either.
    two.ip("addr add 192.168.56.250/24 dev eth1");
    let said = two.ok("sync");
    assert!(
        said.contains("released 192.168.56.250/24 from eth1"),
        "{said}"
    );
    // Nor does a master that nobody could ask.
    let one = site.host("server1");
    one.ip("addr flush dev eth1 to 192.168.56.250");
    one.run(
        "redis-cli",
        ["-p", "8000", "config", "set", "requirepass", "secret"],
    );
    let password = site.lab().file("password", "secret\n");
    std::fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    configure(&site, 6800, "");
    fails(
        &one,
        2,
        &[
            "the Redis at 192.168.56.101:8000 does not tell its role",
            "redis_password_file",
        ],
    );
    assert!(!one.has(M.bound));
    let line = format!("redis_password_file = \"{}\"\n", password.display());
    configure(&site, 6800, &line);
    one.ok("sync");
    assert!(one.has(M.bound));
    one.run(
        "redis-cli",
        [
            "-p",
            "8000",
            "-a",
            "secret",
            "config",
            "set",
            "requirepass",
            "",
        ],
    );
}

#[test]
fn a_master_that_sentinel_does_not_know_is_a_mistake() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:7000\"\n",
    );
    let script =
        r#"while (question($client)) { print $client "-ERR No such master with that name\r\n" }"#;
    false_sentinel(&server, "7000", script);
    fails(
        &server,
        2,
        &[
            "Sentinel at 127.0.0.1:7000 does not monitor a master named \"m\"",
            "must be the same",
        ],
    );
    // Without any Sentinel it is a passing fault, in time.
    lab.config(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:7001\"\n",
    );
    let mut command = server.command(crate::common::executable());
    command.arg("sync");
    finish(command).fails(1, &["Sentinel at 127.0.0.1:7001 did not answer"]);
}

#[test]
fn a_vip_that_the_configuration_has_no_more_is_released() {
    let site = Site::new(&[M]);
    let one = site.host("server1");
    let now = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:6800\"\n";
    site.lab().config(&now.replace(
        "\"192.168.56.250/24\"",
        "[\"192.168.56.250/24\", \"192.168.56.240/24\", \"fd00::240/64\"]",
    ));
    one.ok("bind");
    site.lab().config(now);
    // Not ours: they stay.
    one.ip("addr add 192.168.56.241/24 dev eth1");
    one.ip("addr add fd00::241/64 dev eth1");
    let has = |vip: &str| one.has(&format!("{vip}@eth1"));
    let old = ["192.168.56.240/32", "fd00::240/64"];
    let check = one.vipswitch(["check"]);
    for vip in old {
        assert!(
            check.stdout.contains(&format!("left-over: {vip}")),
            "{check}"
        );
    }
    let rows = one.status();
    assert!(
        rows.iter()
            .any(|row| row["vip"] == "fd00::240" && row["problem"].is_string()),
        "{rows:?}"
    );
    let status = one.vipswitch(["status", "--exit-code"]);
    assert_eq!(status.code(), 1, "{status}");
    // What another file names is that one's.
    let other = site.lab().file(
        "other.toml",
        "[masters.other]\nvip = \"192.168.56.242/24\"\n[sentinel]\naddress = \"127.0.0.1:6800\"\n",
    );
    one.ok(&format!("bind --config {}", other.display()));
    // One master alone, and a dry run.
    one.ok("sync master8000");
    let said = one.ok("sync --dry-run");
    assert!(
        said.contains("(no master): would release 192.168.56.240/32 from eth1"),
        "{said}"
    );
    assert!(old.iter().all(|vip| has(vip)), "{:?}", one.addresses());
    let said = one.ok("sync --json");
    let released = said
        .lines()
        .filter(|line| line.contains("\"action\":\"released\""));
    assert_eq!(released.count(), 2, "{said}");
    assert!(!old.iter().any(|vip| has(vip)), "{:?}", one.addresses());
    assert!(has("192.168.56.241/24") && has("fd00::241/64") && has("192.168.56.250/32"));
    assert!(has("192.168.56.242/32"), "{:?}", one.addresses());
    site.lab().logged(&[
        "released=192.168.56.240/32@eth1,fd00::240/64@eth1",
        "why=left_over",
        "exit=0",
    ]);
    let said = one.ok("sync");
    assert!(!said.contains("no master"), "{said}");
}
