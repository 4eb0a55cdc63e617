//! Who has a vote, and how votes are compared; what one bad answer costs; servers that tell their role in
//! another way, or want TLS.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::common::{Lab, PATIENCE, SENTINELS_PATIENCE, wait_for};
use crate::sync_many::{ALONE, BOUND, ONE_MASTER, Says, configure, fails, id, redis, sentinel};

const ADDRESSES: [&str; 3] = ["192.168.56.101", "192.168.56.102", "192.168.56.103"];
const NAMES: [&str; 3] = ["server1", "server2", "server3"];

/// Three hosts with a false Sentinel each. The first one lists these beside the others, and each names its
/// master.
fn three(lab: &Lab, says: [&str; 3], remembered: &[(&str, &str)]) {
    let ids: Vec<String> = ('a'..='c').map(id).collect();
    for (place, host) in NAMES.iter().enumerate() {
        let others = (0..3).filter(|other| *other != place);
        let mut others: Vec<(&str, &str)> = others.map(|at| (ADDRESSES[at], &*ids[at])).collect();
        if place == 0 {
            others.extend(remembered);
        }
        let says = Says {
            master: (says[place], 8000),
            quorum: 2,
            sentinels: &others,
            ..ALONE
        };
        sentinel(&lab.host(host), "0.0.0.0:7000", &ids[place], &[says], "");
    }
    configure(lab, ONE_MASTER, "address = \"127.0.0.1:7000\"");
}

#[test]
fn dead_sentinels_that_one_list_still_has_have_no_veto() {
    let lab = Lab::with_hosts(NAMES);
    let [one, two, _] = NAMES.map(|name| lab.host(name));
    redis(&one, 8000, "");
    let dead: Vec<String> = ('d'..='f').map(id).collect();
    let dead: Vec<(&str, &str)> = ["192.168.56.91", "192.168.56.92", "192.168.56.93"]
        .into_iter()
        .zip(dead.iter().map(String::as_str))
        .collect();
    three(&lab, ["192.168.56.101"; 3], &dead);
    one.ok("sync");
    assert!(one.has(BOUND));
    lab.logged(&["3 of 6 say 192.168.56.101:8000", "took_over="]);
    // On a host whose Sentinel has forgotten them.
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ok("sync");
    assert!(!two.has(BOUND));
}

#[test]
fn a_name_and_a_mapped_address_are_the_same_master_as_its_address() {
    let named = ["192.168.56.101", "::ffff:192.168.56.101", "redis1"];
    for first in 0..3 {
        let lab = Lab::with_hosts(NAMES);
        let one = lab.host("server1");
        lab.file("hosts", "127.0.0.1 localhost\n192.168.56.101 redis1\n");
        redis(&one, 8000, "");
        three(&lab, [0, 1, 2].map(|place| named[(first + place) % 3]), &[]);
        let said = wait_for(PATIENCE, || {
            one.ip("addr flush dev eth1 to 192.168.56.250");
            one.ok("sync");
            assert!(one.has(BOUND));
            // On a busy machine one may be late.
            let lines = lab.runs();
            lines
                .iter()
                .any(|line| line.contains("3 of 3 say"))
                .then_some(())
        });
        assert!(said.is_some(), "{:#?}", lab.runs());
    }
}

#[test]
fn many_forged_sentinels_cost_neither_time_nor_a_long_message() {
    let lab = Lab::with_hosts(NAMES);
    let one = lab.host("server1");
    redis(&one, 8000, "");
    let dead: Vec<(String, String)> = (0..60)
        .map(|number| (format!("192.168.57.{number}"), format!("{number:040}")))
        .collect();
    let dead: Vec<(&str, &str)> = dead.iter().map(|(at, id)| (&**at, &**id)).collect();
    one.ip("route add 192.168.57.0/24 dev eth1");
    three(
        &lab,
        ["192.168.56.101", "192.168.56.102", "192.168.56.103"],
        &dead,
    );
    let run = one.vipswitch(["sync"]);
    assert_eq!(run.code(), 1, "{run}");
    assert!(run.took < SENTINELS_PATIENCE, "{run}");
    assert!(run.stderr.contains("more; of the"), "{run}");
    let longest = run.stderr.lines().map(str::len).max().unwrap();
    assert!(longest < 2000, "{run}");
}

#[test]
fn an_answer_that_ends_the_conversation_keeps_no_other_master_waiting() {
    for (bad, said) in [
        (
            "print $client \"\\$536000000\\r\\n\"; print $client 'x' x 65536 while 1",
            "above 1 MiB",
        ),
        ("sleep 600", "nothing within"),
        ("exit", "ended"),
    ] {
        let lab = Lab::with_hosts(["server1"]);
        let server = lab.host("server1");
        let names: Vec<String> = (0..9).map(|number| format!("m{number}")).collect();
        let mut masters = String::new();
        for (number, name) in names.iter().enumerate() {
            let _ = write!(
                masters,
                "[masters.{name}]\nvip = \"192.168.56.{}/24\"\n",
                130 + number
            );
        }
        configure(&lab, &masters, "address = \"127.0.0.1:7000\"");
        redis(&server, 8000, "");
        let own: Vec<Says> = names.iter().map(|name| Says { name, ..ALONE }).collect();
        // The first of all, and one in the middle.
        let bad = format!("if (($name // '') =~ /^m[04]$/) {{ {bad} }}");
        sentinel(&server, "7000", &id('a'), &own, &bad);
        let run = server.vipswitch(["sync"]);
        run.fails(1, &["m0:", "m4:", said]);
        let has = |number: usize| server.has(&format!("192.168.56.{}/32@eth1", 130 + number));
        let bound: Vec<bool> = (0..9).map(has).collect();
        let expected: Vec<bool> = (0..9).map(|number| number != 0 && number != 4).collect();
        assert_eq!(bound, expected);
        // On a busy machine some are late.
        let at_once = lab.runs();
        let at_once = at_once.iter().filter(|line| line.contains(" tries=1 "));
        assert!(at_once.count() > 0, "{:#?}", lab.runs());
    }
}

#[test]
fn sixty_masters_are_asked_about_on_one_connection_while_a_host_is_dead() {
    let lab = Lab::with_hosts(NAMES);
    let [one, two, _] = NAMES.map(|name| lab.host(name));
    let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
    let mut masters = String::new();
    for (number, name) in names.iter().enumerate() {
        let _ = write!(
            masters,
            "[masters.{name}]\nvip = \"192.168.56.{}/24\"\n",
            130 + number
        );
    }
    configure(&lab, &masters, "address = \"127.0.0.1:7000\"");
    redis(&one, 8000, "");
    let ids: Vec<String> = ('a'..='c').map(id).collect();
    let notes = lab.dir().join("connections");
    for (place, host) in [(0, &one), (1, &two)] {
        let others = (0..3).filter(|other| *other != place);
        let others: Vec<(&str, &str)> = others.map(|at| (ADDRESSES[at], &*ids[at])).collect();
        let says = |name| Says {
            name,
            quorum: 2,
            sentinels: &others,
            ..ALONE
        };
        let all: Vec<Says> = names.iter().map(|name| says(name)).collect();
        let note = format!(
            "if (!$noted++) {{ open my $f, '>>', '{}'; print $f \"{host}\\n\"; close $f }}",
            notes.display(),
            host = NAMES[place]
        );
        sentinel(host, "0.0.0.0:7000", &ids[place], &all, &note);
    }
    // Its frames are dropped: nobody answers for it.
    one.ip("neigh add 192.168.56.103 lladdr 02:00:00:00:00:99 dev eth1 nud permanent");
    let at_once = wait_for(PATIENCE, || {
        one.ip("addr flush dev eth1 label eth1 to 192.168.56.128/25");
        let _ = fs::remove_file(&notes);
        one.ok("sync");
        assert!((0..60).all(|number| one.has(&format!("192.168.56.{}/32@eth1", 130 + number))));
        // On a busy machine one may be late; then its masters are tried again.
        let noted = fs::read_to_string(&notes).unwrap();
        let of_two = noted.lines().filter(|line| *line == "server2").count();
        (of_two == 1).then_some(())
    });
    assert!(at_once.is_some(), "{}", fs::read_to_string(&notes).unwrap());
}

#[test]
fn a_redis_that_tells_its_role_in_another_way_or_wants_tls_is_named_for_that() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let certificate = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=ca -keyout key -out crt && chmod 600 key";
    let made = Command::new("sh")
        .args(["-c", certificate])
        .current_dir(lab.dir())
        .output()
        .unwrap();
    assert!(made.status.success(), "these tests need openssl: {made:?}");
    let dir = lab.dir().display();
    let tls =
        format!("--tls-cert-file {dir}/crt --tls-key-file {dir}/key --tls-ca-cert-file {dir}/crt");
    let says = |port| Says {
        master: ("192.168.56.101", port),
        ..ALONE
    };
    for (sentinel_port, redis_port) in [
        ("7000", 8000),
        ("7001", 8001),
        ("7002", 8002),
        ("7003", 8003),
    ] {
        sentinel(&server, sentinel_port, &id('a'), &[says(redis_port)], "");
    }
    redis(&server, 8000, "--rename-command ROLE ''");
    redis(
        &server,
        8001,
        "--rename-command ROLE '' --rename-command INFO ''",
    );
    redis(&server, 8004, &format!("--tls-port 8002 {tls}"));
    redis(&server, 8003, "--user teller on '>word' +info");
    let configure_port = |port: &str, more: &str| {
        configure(
            &lab,
            &format!("{ONE_MASTER}{more}"),
            &format!("address = \"127.0.0.1:{port}\"\n"),
        );
    };
    configure_port("7000", "");
    server.ok("sync");
    assert!(server.has(BOUND));
    server.ip("addr flush dev eth1 to 192.168.56.250");
    let named = |parts: &[&str]| {
        fails(&server, 2, parts);
        let last = lab.runs().pop().unwrap();
        assert!(last.contains(" tries=1 "), "{last}");
    };
    configure_port("7001", "");
    named(&["unknown command", "rename-command"]);
    configure_port("7002", "");
    named(&["wants TLS", "`tls = true` for master \"m\""]);
    let password = lab.file("password", "word\n");
    fs::set_permissions(
        &password,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    configure_port(
        "7003",
        &format!(
            "redis_username = \"teller\"\nredis_password_file = \"{}\"\n",
            password.display()
        ),
    );
    server.ok("sync");
    assert!(server.has(BOUND));
    // A TLS port where a Sentinel in plain text is expected, and the other way round.
    configure(&lab, ONE_MASTER, "address = \"127.0.0.1:8002\"");
    named(&["wants TLS", "`tls = true` under [sentinel]"]);
    let with_tls = format!("tls = true\n[tls]\nca_file = \"{dir}/crt\"\n");
    configure(
        &lab,
        ONE_MASTER,
        &format!("address = \"127.0.0.1:8000\"\n{with_tls}"),
    );
    named(&["does not speak TLS", "Take `tls = true`"]);
}
