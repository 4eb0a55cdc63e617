//! Clients of a host that dies learn at once: its agent had published who they are, and the next holder tells them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::common::eventually;
use crate::common::redis::crowd::{After, Crowd};
use crate::common::redis::{CLIENT, MASTER_8000, Master, SERVERS, Site};
use crate::common::sniffer::{Frame, Sniffer};
use crate::rivals::by;

const M: Master = MASTER_8000;
const VIP: (&str, u16) = (M.vip, M.port);
const V6: &str = "fd00::250";

/// A configuration with one VIP of each family.
const BOTH: &str = "[masters.master8000]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Returns how many clients of another host an agent knows.
fn known(site: &Site, server: &str) -> u64 {
    let agent = site.agent(server).expect("the agent answers");
    agent["masters"][0]["known_clients"].as_u64().unwrap()
}

/// Waits until the agents of both other hosts know so many clients.
#[track_caller]
fn wait_until_known(site: &Site, number: u64) {
    eventually("the agents of the other hosts know the clients", || {
        known(site, "server2") == number && known(site, "server3") == number
    });
}

/// Cuts the power of server1, and waits until server2 has the VIP.
#[track_caller]
fn die(site: &Site) {
    site.down_after(2_000);
    site.kill_host("server1");
    eventually("server2 has the VIP", || {
        site.holders(M.vip).contains(&"server2")
    });
}

/// Waits until the new holder has told the clients for the last time, and returns its line of the log.
fn told(site: &Site) -> String {
    site.lab().logged(&["of the last holder of", " packets="])
}

fn are_all_reset(crowd: &Crowd) -> bool {
    let ends = crowd.ended();
    ends.iter().all(|end| end.how == "Connection reset by peer")
}

#[test]
fn a_client_that_waits_in_a_command_is_reset_by_the_next_holder() {
    let site = Site::with_agents(&[M]);
    let subscriber = site.blocked(&M, "SUBSCRIBE channel");
    let worker = site.blocked(&M, "BLPOP queue 0");
    // Nobody but its own kernel can tell this one.
    let on_the_next = site.blocked_on("server2", &M, "SUBSCRIBE channel");
    wait_until_known(&site, 3);
    die(&site);
    for client in [subscriber, worker] {
        assert_eq!(client.end(), "Connection reset by peer");
    }
    assert_eq!(on_the_next.end(), "Software caused connection abort");
    let line = told(&site);
    assert!(line.contains(" clients=2 "), "{line}");
    assert_eq!(known(&site, "server2"), 0, "they are told once");
}

#[test]
fn a_thousand_clients_are_reset_and_those_of_other_services_are_not() {
    let site = Site::with_agents(&[M]);
    // On the VIP, but not Redis: nobody tells these.
    let _other = site.beside("server1", 9000);
    let others = site.crowd((M.vip, 9000), 3, After::Nothing);
    // Of the next holder, but not by the VIP.
    let _host = site.beside("server2", 9000);
    let direct = site.crowd(("192.168.56.102", 9000), 3, After::Nothing);
    let crowd = site.crowd(VIP, 1000, After::Nothing);
    wait_until_known(&site, 1000);
    die(&site);
    let ends = crowd.wait_for_ends(1000);
    assert!(are_all_reset(&crowd), "{ends:?}");
    let line = told(&site);
    assert!(line.contains(" clients=1000 "), "{line}");
    assert_eq!((others.ended(), direct.ended()), (vec![], vec![]));
}

#[test]
fn clients_that_have_connected_anew_stay() {
    let site = Site::with_agents(&[M]);
    let crowd = site.crowd(VIP, 300, After::Reconnect);
    wait_until_known(&site, 300);
    die(&site);
    crowd.wait_for_ends(300);
    // From the same ports as before: the rounds that follow could cut them.
    eventually("all are back", || crowd.back() == 300);
    let line = told(&site);
    assert!(line.contains(" reconnected=300 "), "{line}");
    assert_eq!(crowd.ended().len(), 300);
    // And they are known for the next time.
    eventually("server3 knows them", || known(&site, "server3") == 300);
}

#[test]
fn an_agent_that_starts_later_learns_who_is_connected() {
    let site = Site::with_agents(&[M]);
    let crowd = site.crowd(VIP, 50, After::Nothing);
    wait_until_known(&site, 50);
    site.end_agent("server2", "KILL");
    site.start_agent("server2");
    wait_until_known(&site, 50);
    // And who is gone is known, too.
    drop(crowd);
    wait_until_known(&site, 0);
}

#[test]
fn clients_of_an_ipv6_vip_are_reset_too() {
    let site = Site::with_agents_and(BOTH);
    for server in SERVERS {
        let set = ["config", "set", "bind", "0.0.0.0 ::"];
        assert_eq!(site.ask(server, M.port, &set).unwrap(), "OK");
    }
    eventually("both VIPs are bound", || site.holders(V6) == ["server1"]);
    let v4 = site.crowd(VIP, 20, After::Nothing);
    let v6 = site.crowd((V6, M.port), 30, After::Nothing);
    wait_until_known(&site, 50);
    die(&site);
    for (crowd, number) in [(v4, 20), (v6, 30)] {
        crowd.wait_for_ends(number);
        assert!(are_all_reset(&crowd));
    }
}

#[test]
fn where_it_is_turned_off_nothing_is_published_and_nobody_told() {
    let off = "[masters.master8000]\nvip = \"192.168.56.250/24\"\ntell_clients = false\n";
    let site = Site::with_agents_and(off);
    let crowd = site.crowd(VIP, 10, After::Nothing);
    let is_quiet = || {
        SERVERS
            .iter()
            .all(|server| channels(&site, server).is_empty())
    };
    SERVERS
        .iter()
        .for_each(|server| site.seconds_pass(server, 3.0));
    assert!(is_quiet() && known(&site, "server2") == 0);
    die(&site);
    site.seconds_pass("server2", 7.0);
    assert_eq!(crowd.ended(), []);
}

/// Returns the channels of a Redis that somebody listens to, but the crowd's.
fn channels(site: &Site, server: &str) -> Vec<Value> {
    let all = site.ask(
        server,
        M.port,
        &["pubsub", "channels", "vipswitch:clients:*"],
    );
    all.unwrap().as_array().unwrap().clone()
}

#[test]
fn what_is_forged_on_the_channel_does_no_harm() {
    let site = Site::with_agents(&[M]);
    let crowd = site.crowd(VIP, 5, After::Nothing);
    wait_until_known(&site, 5);
    let publish = |text: &str| {
        let words = ["publish", "vipswitch:clients:192.168.56.250", text];
        site.ask("server1", M.port, &words).unwrap();
    };
    let long = format!("1 8000 came {}", "c0a838689c41".repeat(8_000));
    for text in [
        "",
        "hello",
        &long,
        // Of another service, of addresses that nobody has or every host has, and of the VIP itself.
        "1 9000 came c0a838689c41",
        "1 8000 came 7f0000010001",
        "1 8000 came ffffffff0001",
        "1 8000 came c0a838fa0001",
    ] {
        publish(text);
    }
    site.seconds_pass("server2", 2.0);
    assert_eq!(known(&site, "server2"), 5);
    // Who may publish can name anybody: this server itself, and a client that has no such connection.
    // The holder's own list, once more, would end that.
    site.signal(&site.agent_pid("server1"), "STOP");
    eventually("server2 knows the client", || {
        publish("1 8000 came c0a838680001");
        publish("1 8000 came c0a838660001");
        known(&site, "server2") > 5
    });
    die(&site);
    crowd.wait_for_ends(5);
    let line = told(&site);
    // Not this host's own address.
    assert!(line.contains(" clients=6 "), "{line}");
}

#[test]
fn an_address_of_many_hosts_is_sent_nothing() {
    let site = Site::with_agents(&[M]);
    let publish = |text: &str| {
        let words = ["publish", "vipswitch:clients:192.168.56.250", text];
        site.ask("server1", M.port, &words).unwrap();
    };
    // The broadcast address of the subnet is plausible elsewhere; the kernel refuses it.
    let forged = || {
        publish("1 8000 came c0a838ff0001");
        known(&site, "server2") == 1
    };
    site.down_after(2_000);
    eventually("server2 knows it", forged);
    site.kill_host("server1");
    let line = told(&site);
    assert!(line.contains(" clients=1 packets=0 "), "{line}");
}

/// Perl: publishes until there is a file, at a Redis, as a user who may only publish: clients that nobody has, by
/// thousands, for this VIP and another; lists of none; what makes no sense; and what is too long.
const FLOOD: &str = r#"
use IO::Socket::INET;
my ($at, $stop) = @ARGV;
my $redis = IO::Socket::INET->new(PeerAddr => $at) or die $!;
sub words { "*" . @_ . "\r\n" . join "", map { "\$" . length($_) . "\r\n$_\r\n" } @_ }
sub many { my ($first) = @_; join "", map { sprintf "0a%06x%04x", $first, $_ } 1 .. 1024 }
my $channel = "vipswitch:clients:192.168.56";
my $long = "1 8000 came " . "0a0000010001" x 80_000;
print $redis words("AUTH", "forger", "word");
<$redis> =~ /^\+OK/ or die;
for (my $first = 0; !-e $stop; $first = ($first + 1) % 65536) {
    my $many = many($first);
    my @all = map { words("PUBLISH", @$_) } ["$channel.250", "1 8000 came $many"],
        ["$channel.250", "1 8000 gone " . many($first + 1)], ["$channel.250", "1 8000 all $many"],
        ["$channel.251", "1 8000 came $many"], ["$channel.250", "1 9000 came $many"], ["$channel.250", ""],
        ["$channel.250", "\xff" x 999];
    push @all, words("PUBLISH", "$channel.250", $long) unless $first % 100;
    print $redis @all;
    <$redis> for @all;
}
"#;

/// What an agent may take beside its executable, in kB: 200,000 clients have 3,600, and a message 1,024.
const SMALL: u64 = 16_000;

/// Returns how many kB an agent takes beside its executable.
fn memory(site: &Site, server: &str) -> u64 {
    let pid = site.agent(server).expect("the agent answers")["pid"].to_string();
    let path = format!("/proc/{pid}/status");
    let status = site.host(server).run("cat", [&path]);
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[test]
fn a_flood_on_the_channel_leaves_the_agents_small_and_at_work() {
    let site = Site::with_agents(&[M]);
    let crowd = site.crowd(VIP, 5, After::Reconnect);
    wait_until_known(&site, 5);
    let rights = [
        "on",
        ">word",
        "resetchannels",
        "&vipswitch:*",
        "-@all",
        "+publish",
    ];
    let user = [&["acl", "setuser", "forger"][..], &rights].concat();
    assert_eq!(site.ask("server1", M.port, &user).unwrap(), "OK");
    let stop = site.dir().join("enough");
    let mut flood = site.host("client").command("perl");
    flood.args(["-e", FLOOD, "192.168.56.101:8000"]).arg(&stop);
    let mut flood = flood.spawn().unwrap();
    eventually("the forged ones are known", || {
        known(&site, "server2") > 10_000 && known(&site, "server3") > 10_000
    });
    for _ in 0..5 {
        site.seconds_pass("server2", 1.0);
        for server in SERVERS {
            let memory = memory(&site, server);
            assert!(memory < SMALL, "{server}: {memory} kB");
        }
    }
    // In the midst of it the VIP moves as ever.
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    fs::write(&stop, "").unwrap();
    assert!(crate::common::end_of(&mut flood).success());
    // What was forged is forgotten with the next lists of the holder.
    crowd.wait_for_ends(5);
    eventually("the true ones alone are known", || {
        known(&site, "server1") == 5 && known(&site, "server3") == 5
    });
    for server in SERVERS {
        let memory = memory(&site, server);
        assert!(memory < SMALL, "{server}: {memory} kB");
    }
}

/// What the documents say that the agent's user of a Redis needs.
const REDIS_USER: [&str; 9] = [
    "resetchannels",
    "&vipswitch:*",
    "-@all",
    "+role",
    "+info",
    "+client|pause",
    "+client|unpause",
    "+publish",
    "+subscribe",
];

/// A site whose agents ask Redis as a user of their own, who has these rights.
fn with_user(rights: &[&str]) -> Site {
    let site = Site::with_agents_on(&[], std::path::Path::new("/bin/true"));
    for server in SERVERS {
        let user = ["acl", "setuser", "vipswitch", "on", ">word"];
        let set = [&user[..], rights].concat();
        assert_eq!(site.ask(server, M.port, &set).unwrap(), "OK");
    }
    let password = site.lab().file("password", "word\n");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\nredis_username = \"vipswitch\"\n\
         redis_password_file = \"{}\"\n",
        password.display()
    ));
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site
}

#[test]
fn a_user_with_the_documented_rights_may_use_the_channel() {
    let site = with_user(&REDIS_USER);
    let crowd = site.crowd(VIP, 10, After::Nothing);
    wait_until_known(&site, 10);
    die(&site);
    crowd.wait_for_ends(10);
    assert!(are_all_reset(&crowd));
    let complains = |line: &String| line.contains("cannot tell each other");
    assert!(!site.log().iter().any(complains), "{:#?}", site.log());
}

#[test]
fn a_user_who_may_not_use_the_channel_is_named_once_and_the_vip_moves_all_the_same() {
    let site = with_user(&["resetchannels", "-@all", "+role", "+info"]);
    let complaints = || {
        let complains = |line: &String| line.contains("cannot tell each other");
        site.log().into_iter().filter(complains).collect::<Vec<_>>()
    };
    eventually("each agent says so", || complaints().len() == 3);
    SERVERS
        .iter()
        .for_each(|server| site.seconds_pass(server, 3.0));
    let said = complaints();
    assert_eq!(said.len(), 3, "{said:#?}");
    for part in ["NOPERM", "+publish +subscribe &vipswitch:*", "tell_clients"] {
        assert!(said.iter().all(|line| line.contains(part)), "{said:#?}");
    }
    die(&site);
    site.never_down_of(&["server2", "server3"]);
}

/// Returns the port at which this lets a client in, over IPv4: a segment with SYN and ACK.
fn lets_in(frame: &Frame) -> Option<u16> {
    let ip = frame
        .bytes
        .get(14..)
        .filter(|_| frame.bytes[12..14] == [8, 0])?;
    let tcp = ip
        .get(usize::from(ip[0] & 15) * 4..)
        .filter(|_| ip[9] == 6)?;
    let port = u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]);
    (tcp.get(13)? & 0x12 == 0x12).then_some(port)
}

/// A client may come back to the old holder, which is about to reset it again; the new one ends none that it has let in. Who
/// has come back may have the port of before.
#[test]
fn a_planned_failover_with_clients_ends_none_that_has_connected_anew() {
    let site = Site::with_agents(&[M]);
    let sniffer = Sniffer::start(&site.host(CLIENT));
    let crowd = site.crowd(VIP, 100, After::Reconnect);
    wait_until_known(&site, 100);
    site.fail_over(&M, "server2", "server2");
    crowd.wait_for_ends(100);
    eventually("all are back", || crowd.back() >= 100);
    told(&site);
    eventually("as many are back as were reset", || {
        crowd.back() == crowd.ended().len()
    });
    site.settles(&M, "server2");
    let (old, new) = (by(&site.host("server1")), by(&site.host("server2")));
    let mut frames = sniffer.frames();
    frames.retain(|frame| lets_in(frame).is_some());
    assert!(frames.iter().filter(|frame| new(frame)).count() >= 100);
    for end in crowd.ended() {
        let before = |frame: &&Frame| frame.time.as_secs_f64() < end.at;
        let mut its = frames.iter().filter(before);
        let last = its.rfind(|frame| lets_in(frame) == Some(end.port));
        assert!(last.is_none_or(&old), "{end:?}");
    }
}
