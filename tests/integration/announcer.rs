//! The announcer, from outside: what it sends and when, how it ends, and what it leaves behind.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::sniffer::{Frame, Sniffer};
use crate::common::{Host, Lab, PATIENCE, eventually, executable, finish, wait_for};

const V4: &str = "192.168.56.250";
const ONE: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n";
const BOTH: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Two servers and a client.
fn lab(config: &str) -> Lab {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    lab.config(config);
    lab
}

/// The announcers' lines in syslog so far.
fn announcers(lab: &Lab) -> Vec<String> {
    lab.log()
        .into_iter()
        .filter(|line| line.contains("msg=\"announced "))
        .collect()
}

/// Whether an announcer is at work on a host.
fn at_work(host: &Host) -> bool {
    host.run(
        "sh",
        [
            "-c",
            "pgrep -f '[a]nnouncer --job' >/dev/null && echo yes || echo no",
        ],
    )
    .contains("yes")
}

#[test]
fn the_announcer_goes_on_until_neighbours_have_answered() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ip("route add default via 192.168.56.102");
    let sniffer = Sniffer::start(&lab.host("client"));
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    server.hook("m", "192.168.56.101").success();
    // At once: request, reply, and directed requests to the gateway, FROM and the peer.
    let first = sniffer.wait(V4, 5);
    let target = |frame: &Frame| frame.bytes[38..42].to_vec();
    assert_eq!(target(&first[0]), [192, 168, 56, 250]);
    for peer in [102, 109, 103] {
        assert!(
            first[2..5]
                .iter()
                .any(|frame| target(frame) == [192, 168, 56, peer]),
            "{peer}"
        );
    }
    let line = lab.logged(&["msg=\"announced 192.168.56.250/24 until its time was up"]);
    // Never earlier than at 0.1, 1.2, 2.4, 5 and 10 s. A busy machine makes it later, and lets it leave
    // out those that are overdue.
    let frames: Vec<Frame> = sniffer
        .settled(&server, V4)
        .into_iter()
        .filter(|frame| frame.bytes[21] == 2 && frame.bytes[6..12] == frame.bytes[22..28])
        .collect();
    let replies: Vec<Frame> = frames
        .into_iter()
        .filter(|frame| frame.bytes[28..32] == [192, 168, 56, 250])
        .collect();
    let times: Vec<f64> = replies
        .iter()
        .map(|frame| (frame.time - started).as_secs_f64())
        .collect();
    let rounds = [0.0, 0.1, 1.2, 2.4, 5.0, 10.0];
    assert!((2..=rounds.len()).contains(&times.len()), "{times:?}");
    if times.len() == rounds.len() {
        let early = |(time, round)| time < round;
        assert!(!times.iter().zip(&rounds).any(early), "{times:?}");
    }
    assert!(*times.last().unwrap() >= 10.0, "{times:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now - started >= Duration::from_secs(15));
    for peer in ["192.168.56.102 after ", "192.168.56.103 after "] {
        assert!(line.contains(peer), "{line}");
    }
    assert!(
        !line.contains("192.168.56.109") && line.contains("rivals=none"),
        "{line}"
    );
}

#[test]
fn the_announcer_ends_when_the_vip_goes_and_sends_nothing_more() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ok("bind --all");
    eventually("the announcers are at work", || at_work(&server));
    sniffer.wait(V4, 4);
    server.ip("addr del 192.168.56.250/32 dev eth1");
    server.ip("addr del fd00::250/64 dev eth1");
    eventually("both have ended", || announcers(&lab).len() == 2);
    for line in announcers(&lab) {
        assert!(line.contains("until the VIP is gone"), "{line}");
    }
    eventually("no announcer is left", || !at_work(&server));
    let before = sniffer.settled(&server, V4).len();
    assert_eq!(sniffer.settled(&server, V4).len(), before);
    // A release ends it as well.
    server.ok("bind --all");
    eventually("the announcers are at work", || at_work(&server));
    server.ok("unbind --all");
    eventually("both have ended", || announcers(&lab).len() == 4);
}

#[test]
fn the_announcer_keeps_nothing_of_its_caller() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\n");
    let server = lab.host("server1");
    // As Redis before 6.2 and every Sentinel start it: with a descriptor of theirs, and with
    // signals ignored.
    let script = "exec 7</etc/passwd 9>/dev/null; trap '' HUP ALRM PIPE; cd /tmp; \"$1\" m leader start '' 1 192.168.56.101 1";
    let mut hook = server.command("bash");
    hook.args(["-c", script, "bash"])
        .arg(executable())
        .env("SECRET", "s");
    finish(hook).success();
    eventually("the announcer is at work", || at_work(&server));
    let look = r#"pid=$(pgrep -f '[a]nnouncer --job'); ls -l /proc/$pid/fd | grep -c -E 'passwd|pipe:' ; ps -o sid= -p $pid | tr -d ' '; echo $pid; readlink /proc/$pid/cwd; tr '\0' '\n' < /proc/$pid/environ | grep -c SECRET; grep SigIgn /proc/$pid/status; ls -l /proc/$pid/fd/0 /proc/$pid/fd/1 /proc/$pid/fd/2 | grep -c /dev/null"#;
    let seen = server.run("bash", ["-c", look]);
    let seen: Vec<&str> = seen.lines().collect();
    let [inherited, session, pid, folder, secrets, ignored, null] = seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (inherited, folder, secrets, null),
        ("0", "/", "0", "3"),
        "{seen:?}"
    );
    assert_eq!(session, pid, "it leads a session of its own");
    // HUP is 1, ALRM 14; PIPE, 13, is ignored by every Rust program, which sees the error.
    let ignored = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(ignored & (1 | 1 << 13), 0, "{seen:?}");
    server.run("bash", ["-c", "pkill -HUP -f '[a]nnouncer --job'"]);
    lab.logged(&["until a signal ended it"]);
}

#[test]
fn a_rival_is_answered_at_once_and_named() {
    let lab = lab(
        "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\nannounce_to = [\"192.168.56.103\"]\n",
    );
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    one.ok("bind --all");
    eventually("the announcers are at work", || at_work(&one));
    let sniffer = Sniffer::start(&lab.host("client"));
    // The other host claims it, by the old script's means.
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ip("addr add fd00::250/64 dev eth1 nodad");
    let (ours, theirs) = (one.mac("eth1"), two.mac("eth1"));
    // An answer is a reply that no question to the peer follows, as one follows in each round of the
    // schedule; a round that is due is an answer, too.
    eventually("the rival is answered, and not by a round", || {
        two.ok("announce");
        let frames = sniffer.about(V4);
        let mine: Vec<_> = frames.iter().filter(|frame| by(&ours)(frame)).collect();
        let replies = mine.iter().filter(|frame| frame.bytes[21] == 2).count();
        let is_question = |frame: &&&Frame| frame.bytes[38..42] == [192, 168, 56, 103];
        let questions = mine.iter().filter(is_question).count();
        // The last round may not be complete.
        replies >= questions + 2
    });
    two.ip("addr del 192.168.56.250/24 dev eth1");
    two.ip("addr del fd00::250/64 dev eth1");
    one.ok("unbind --all");
    lab.logged(&["vip=192.168.56.250/24", &format!("rivals={theirs}")]);
    lab.logged(&["vip=fd00::250/64", &format!("rivals={theirs}")]);
}

#[test]
fn a_link_that_comes_up_later_is_announced_on() {
    let lab = lab(BOTH);
    let server = lab.host("server1");
    lab.run("ip", ["link", "set", "server1-eth1", "down"]);
    eventually("the carrier is gone", || {
        server.json("link show eth1")[0]["operstate"] != "UP"
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    assert!(server.ok("bind --all").contains("no carrier"));
    assert!(sniffer.about(V4).is_empty());
    eventually("both announcers are at work", || {
        let status = server.ok("status");
        status.matches("it is being announced").count() == 2
    });
    lab.run("ip", ["link", "set", "server1-eth1", "up"]);
    sniffer.wait(V4, 2);
    sniffer.wait("fd00::250", 1);
}

#[test]
fn announce_for_a_while_tells_who_answered() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ip("addr add 192.168.56.250/24 dev eth1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let said = server.ok("announce --for 3s");
    assert!(
        said.contains("announced 192.168.56.250/24 until its time was up"),
        "{said}"
    );
    assert!(
        said.contains("confirmed by 192.168.56.103 after "),
        "{said}"
    );
    // Its own round, and at least one of those that follow every second.
    sniffer.wait_for_rounds(V4, 2);
    server
        .vipswitch(["announce", "--for", "1h"])
        .fails(2, &["give it as 10s or 2m"]);
}

#[test]
fn an_ipv6_take_over_asks_its_neighbours_as_well() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\nannounce_to = [\"fd00::103\"]\n");
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("the announcer is at work", || at_work(&server));
    // The answer goes to the VIP; the peer's table has it now.
    eventually("the client knows it", || {
        lab.host("client").neighbour("fd00::250") == Some(server.mac("eth1"))
    });
    eventually("its answer is noted", || {
        server
            .ok("status")
            .contains("confirmed by fd00::103 after ")
    });
    server.ok("unbind --all");
    lab.logged(&["confirmed by fd00::103 after "]);
}

#[test]
fn the_newest_announcer_takes_the_place_of_an_older_one_and_begins_anew() {
    let lab = lab(ONE);
    let server = lab.host("server1");
    // As a user who may not write to /run.
    server.run("sh", ["-c", "rm -rf /run/vipswitch; echo >/run/vipswitch"]);
    let sniffer = Sniffer::start(&lab.host("client"));
    for number in 1..=5 {
        server.hook("m", "192.168.56.101").success();
        // Each its first round, and the one after 0.1 s.
        sniffer.wait_for_rounds(V4, 2 * number);
    }
    eventually("one is left", || {
        let count = "pgrep -c -f '[a]nnouncer --job' || true";
        server.run("sh", ["-c", count]).trim() == "1"
    });
    assert!(server.ok("status").contains("it is being announced"));
    server.ok("unbind --all");
    eventually("it has ended", || !at_work(&server));
    eventually("all have told", || announcers(&lab).len() == 5);
    let replaced = announcers(&lab)
        .iter()
        .filter(|line| line.contains("until another run ended it"))
        .count();
    assert_eq!(replaced, 5);
}

#[test]
fn an_announcer_is_not_sent_away_by_a_stranger() {
    let lab = lab(ONE);
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("it is at work", || {
        server.ok("status").contains("it is being announced")
    });
    let index = server.json("link show eth1")[0]["ifindex"].to_string();
    let ask = |command: &mut std::process::Command| {
        let script = r#"use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0);
            connect($s, pack_sockaddr_un("\0vipswitch/announcer/192.168.56.250/$ARGV[1]")) or die $!;
            syswrite $s, $ARGV[0]; $SIG{ALRM} = sub { exit }; alarm 2; print <$s>"#;
        command.args(["-e", script, "L", &index]);
        let child: Child = command.stdout(Stdio::piped()).spawn().unwrap();
        child.wait_with_output().unwrap()
    };
    if crate::common::is_root() {
        let mut stranger = server.command("setpriv");
        stranger.args(["--reuid", "65534", "--clear-groups", "perl"]);
        ask(&mut stranger);
        let stays = || server.ok("status").contains("it is being announced");
        eventually("it is still at work", stays);
    }
    // This process's own user may. Another announcer, as one lives for 15 s only.
    server.ok("bind --all");
    eventually("the new one is at work", || at_work(&server));
    let before = announcers(&lab).len();
    eventually("it ends", || {
        ask(&mut server.command("perl"));
        announcers(&lab).len() > before
    });
    assert!(announcers(&lab)[before].contains("until another run ended it"));
}

#[test]
fn status_shows_the_announcer_at_work_and_its_last_result() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ok("bind --all");
    let status = || server.ok("status");
    eventually("it is confirmed", || {
        status().contains("it is being announced, confirmed by 192.168.56.103 after ")
    });
    let object = || server.status().remove(0);
    assert_eq!(object()["announcer"]["at_work"], true);
    server.run("sh", ["-c", "pkill -TERM -f '[a]nnouncer --job'"]);
    eventually("its result is left", || {
        status().contains("s ago), confirmed by 192.168.56.103 after ")
    });
    let object = object();
    assert_eq!(object["announcer"]["ended"], "a signal ended it");
    assert_eq!(object["announcer"]["rivals"], serde_json::json!([]));
}

/// Sends so many gratuitous ARP replies for the VIP as `mac`, at once.
fn claim(host: &Host, mac: &str, number: usize) {
    let script = r#"
my ($mac, $number) = @ARGV;
socket(my $s, 17, 3, 0) or die $!;
open my $f, "/sys/class/net/eth1/ifindex"; 
my ($index) = qx(ip -o link show eth1) =~ /^(\d+)/;
$mac = pack "H12", $mac =~ s/://gr;
my $vip = pack "C4", 192, 168, 56, 250;
my $frame = "\xff" x 6 . $mac . pack("nnnCCn", 0x806, 1, 0x800, 6, 4, 2) . $mac . $vip . $mac . $vip;
my $to = pack "S n l S C C a8", 17, 0x806, $index, 0, 0, 6, "\xff" x 6;
for (1 .. $number) { send($s, $frame, 0, $to) or die $!; select undef, undef, undef, 0.005 }
"#;
    host.run("perl", ["-e", script, mac, &number.to_string()]);
}

/// Whether a frame is sent by this hardware address.
fn by(mac: &str) -> impl Fn(&Frame) -> bool + use<> {
    let octets: Vec<u8> = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    move |frame: &Frame| frame.bytes[6..12] == octets
}

#[test]
fn a_rival_that_does_not_stop_is_answered_ten_times_a_second_and_does_not_have_the_last_word() {
    let lab = lab(ONE);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    one.ok("bind --all");
    eventually("it is at work", || {
        one.ok("status").contains("it is being announced")
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    claim(&two, &two.mac("eth1"), 400);
    let claims = || -> Vec<Frame> {
        let frames = sniffer.about(V4).into_iter();
        frames.filter(by(&two.mac("eth1"))).collect()
    };
    eventually("all claims have arrived", || claims().len() == 400);
    let last = claims().last().unwrap().time;
    let ours = || -> Vec<Frame> {
        let frames = sniffer.about(V4).into_iter();
        let is_reply = |frame: &Frame| frame.bytes[21] == 2;
        frames
            .filter(by(&one.mac("eth1")))
            .filter(is_reply)
            .collect()
    };
    eventually("the last word is ours", || {
        ours().last().is_some_and(|frame| frame.time > last)
    });
    let times: Vec<_> = ours().iter().map(|frame| frame.time).collect();
    // Frames may be held up on their way, so over all of the time, and a second more on either side;
    // and the schedule's own rounds.
    let seconds = (*times.last().unwrap() - times[0]).as_secs_f64() + 2.0;
    let most = (10.0 * seconds) as usize + 5;
    assert!(times.len() <= most, "{} of {most}: {times:?}", times.len());
}

#[test]
fn two_holders_that_answer_each_other_come_to_an_end() {
    let lab = lab(ONE);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let sniffer = Sniffer::start(&lab.host("client"));
    let started = Instant::now();
    one.ok("bind --all");
    two.ok("bind --all");
    eventually("each knows its rival", || {
        announced_with_rival(&one) && announced_with_rival(&two)
    });
    two.ok("unbind --all");
    eventually("one is left", || announcers(&lab).len() == 1);
    // Ten answers a second from each side, of two frames each, and the rounds: without a limit they
    // would be thousands.
    let number = sniffer.settled(&one, V4).len();
    let most = 40 * (started.elapsed().as_secs() as usize + 2) + 40;
    assert!(number < most, "{number} frames, {most} are too many");
    let ours = by(&one.mac("eth1"));
    eventually("the last word is the holder's", || {
        sniffer.about(V4).last().is_some_and(&ours)
    });
}

fn announced_with_rival(host: &Host) -> bool {
    host.ok("status").contains("rivals ")
}

#[test]
fn this_hosts_own_other_interface_is_no_rival() {
    let lab = lab(ONE);
    lab.wire("server1", "eth2");
    let server = lab.host("server1");
    server.ip("link set eth2 up");
    server.ok("bind --all");
    eventually("it is at work", || {
        server.ok("status").contains("it is being announced")
    });
    claim(&lab.host("server2"), &server.mac("eth2"), 3);
    server.ok("unbind --all");
    lab.logged(&["msg=\"announced ", "rivals=none"]);
}

#[test]
fn another_hardware_address_is_announced_at_once() {
    let lab = lab(ONE);
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("it is at work", || {
        server.ok("status").contains("it is being announced")
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    sniffer.wait_for_rounds(V4, 1);
    let started = Instant::now();
    server.ip("link set eth1 address 02:00:00:00:aa:99");
    eventually("it is announced", || {
        sniffer.about(V4).iter().any(by("02:00:00:00:aa:99"))
    });
    println!("{:?}", started.elapsed());
    server.ok("unbind --all");
    lab.logged(&["msg=\"announced ", "rivals=none"]);
}

#[test]
fn an_advertisement_says_router_only_where_the_host_is_one() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    for (forwarding, flags) in [("0", 0x20), ("1", 0xa0)] {
        let file = "/proc/sys/net/ipv6/conf/eth1/forwarding";
        server.run("sh", ["-c", &format!("echo {forwarding} >{file}")]);
        let sniffer = Sniffer::start(&lab.host("client"));
        server.ok("bind --all");
        let advertisement = || {
            let frames = sniffer.about("fd00::250").into_iter();
            frames.rev().find(|frame| frame.is_icmpv6(136))
        };
        let advertisement = wait_for(PATIENCE, advertisement).expect("an advertisement");
        assert_eq!(advertisement.bytes[58], flags);
        server.ok("unbind --all");
    }
}

#[test]
fn an_ipv6_announcer_sleeps_while_other_traffic_passes() {
    let lab = lab("[masters.m]\nvip = \"fd00::250/64\"\n");
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("it is at work", || {
        server.ok("status").contains("it is being announced")
    });
    let wakeups = || -> u64 {
        let look = "cat /proc/$(pgrep -f '[a]nnouncer --job')/status";
        let status = server.run("sh", ["-c", look]);
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary"))
            .unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let before = wakeups();
    // To any port: each makes an answer, which is no advertisement.
    let script = "use IO::Socket::IP; my $s = IO::Socket::IP->new(PeerHost => 'fd00::101', PeerPort => 9, Proto => 'udp') or die; for (1 .. 2000) { send $s, 'x', 0 }";
    lab.host("client").run("perl", ["-e", script]);
    let after = wakeups();
    assert!(after - before < 200, "{before} {after}");
}

#[test]
fn announce_for_takes_the_place_of_the_detached_one_and_speaks_json() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("it is at work", || {
        server.ok("status").contains("it is being announced")
    });
    let run = server.vipswitch(["announce", "--for", "2s", "--json"]);
    assert!(run.stderr.is_empty(), "{run}");
    let objects: Vec<serde_json::Value> = run
        .success()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = objects.last().unwrap();
    assert_eq!(last["ended"], "its time was up");
    assert_eq!(last["confirmed_by"][0][0], "192.168.56.103");
    lab.logged(&["until another run ended it"]);
    eventually("no announcer is left", || !at_work(&server));
}

#[test]
fn bind_on_a_terminal_shows_that_it_waits_for_a_neighbour() {
    let lab = lab("[masters.m]\nvip = \"192.168.56.250/24\"\nannounce_to = [\"192.168.56.103\"]\n");
    let server = lab.host("server1");
    let command = format!("{} bind", executable().display());
    // On a busy machine the answer may be there before the first look, or after the last.
    eventually("it is shown that it waits, and who answered", || {
        server.ok("unbind --all");
        let mut terminal = server.command("script");
        terminal.args(["-qec", &command, "/dev/null"]);
        let shown = finish(terminal).success();
        shown.contains("waiting for a neighbour to answer")
            && shown.contains("confirmed by 192.168.56.103 after ")
    });
}

#[test]
fn bind_where_sentinel_names_another_host_says_so() {
    let lab = lab(&format!("{ONE}[sentinel]\naddress = \"127.0.0.1:6800\"\n"));
    let server = lab.host("server1");
    crate::common::false_sentinel(
        &server,
        "6800",
        &crate::common::says_master_is("192.168.56.102"),
    );
    // Sentinel may be late on a busy machine.
    let says = |verb: &str, said: &str| {
        eventually(said, || server.vipswitch([verb]).stderr.contains(said));
    };
    says(
        "bind",
        "m: mind that Sentinel says the master is 192.168.56.102:8000, another host",
    );
    crate::common::false_sentinel(
        &server,
        "6801",
        &crate::common::says_master_is("192.168.56.101"),
    );
    lab.config(&format!("{ONE}[sentinel]\naddress = \"127.0.0.1:6801\"\n"));
    let run = server.vipswitch(["bind", "--all"]);
    assert!(run.stderr.is_empty(), "{run}");
    // Nor does it agree with a release then, which a timer undoes.
    says(
        "unbind",
        "m: mind that Sentinel says the master is 192.168.56.101:8000, this host",
    );
}

/// Three VIPs of two masters, on two interfaces and of both address families.
const THREE: &str = "[masters.m]\nvip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n\
    [masters.n]\nvip = \"192.168.56.251/24\"\ninterface = \"eth2\"\n";
const VIPS: [&str; 3] = ["192.168.56.250/24", "fd00::250/64", "192.168.56.251/24"];

/// A server with eth1 and eth2, and a client.
fn two_interfaces() -> Lab {
    let lab = lab(THREE);
    lab.wire("server1", "eth2");
    lab
}

/// The process ids of a host's announcers.
fn processes(host: &Host) -> Vec<String> {
    let all = host.run("sh", ["-c", "pgrep -f '[a]nnouncer --job' || true"]);
    all.split_whitespace().map(str::to_owned).collect()
}

/// How many VIPs `status` says are being announced.
fn announced_now(host: &Host) -> usize {
    host.ok("status").matches("it is being announced").count()
}

/// The line of the VIP's announcer, once it has ended.
fn end_of(lab: &Lab, vip: &str) -> String {
    lab.logged(&["msg=\"announced ", &format!(" vip={vip} ")])
}

#[test]
fn one_process_announces_all_vips_of_a_run() {
    let lab = two_interfaces();
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ok("bind --all");
    eventually("all are announced", || announced_now(&server) == 3);
    let [process] = &processes(&server)[..] else {
        panic!("{:?}", processes(&server))
    };
    // Each on its own interface.
    sniffer.wait("fd00::250", 2);
    for (vip, interface) in [(V4, "eth1"), ("192.168.56.251", "eth2")] {
        let frames = sniffer.wait(vip, 4);
        assert!(
            frames.iter().all(by(&server.mac(interface))),
            "{vip} {frames:02x?}"
        );
    }
    // One packet socket for each interface and address family.
    let sockets = "ls -l /proc/$1/fd | grep -c socket: ; ss -0np | grep -c \"pid=$1,\"";
    let sockets = server.run("sh", ["-c", sockets, "sh", process]);
    assert_eq!(sockets.lines().nth(1), Some("3"), "{sockets}");
    server.run("kill", ["-TERM", process]);
    for vip in VIPS {
        let line = end_of(&lab, vip);
        assert!(line.contains("until a signal ended it"), "{line}");
    }
    eventually("the process is gone", || processes(&server).is_empty());
    assert_eq!(announcers(&lab).len(), 3);
}

#[test]
fn a_vip_that_is_removed_ends_its_own_voice_and_no_other() {
    let lab = two_interfaces();
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("all are announced", || announced_now(&server) == 3);
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ip("addr del 192.168.56.250/32 dev eth1");
    let line = end_of(&lab, VIPS[0]);
    assert!(line.contains("until the VIP is gone"), "{line}");
    let before = sniffer.settled(&server, V4).len();
    for vip in &VIPS[1..] {
        let line = end_of(&lab, vip);
        assert!(line.contains("until its time was up"), "{line}");
    }
    assert_eq!(sniffer.settled(&server, V4).len(), before);
}

#[test]
fn an_interface_that_goes_ends_its_own_voices_and_no_other() {
    let lab = two_interfaces();
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("all are announced", || announced_now(&server) == 3);
    server.ip("link del eth2");
    let line = end_of(&lab, VIPS[2]);
    assert!(
        line.contains("until the interface is gone") || line.contains("until the VIP is gone"),
        "{line}"
    );
    for vip in &VIPS[..2] {
        let line = end_of(&lab, vip);
        assert!(line.contains("until its time was up"), "{line}");
    }
}

#[test]
fn a_vip_that_is_released_and_taken_again_has_a_new_voice_while_the_others_go_on() {
    let lab = two_interfaces();
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("all are announced", || announced_now(&server) == 3);
    let first = processes(&server);
    server.ok("unbind n");
    let line = end_of(&lab, VIPS[2]);
    assert!(line.contains("until another run ended it"), "{line}");
    let sniffer = Sniffer::start(&lab.host("client"));
    server.ok("bind n");
    eventually("two processes are at work", || {
        processes(&server).len() == 2
    });
    // The run's own round, and the announcer's first.
    sniffer.wait_for_rounds("192.168.56.251", 2);
    let others = || {
        let all = announcers(&lab);
        let ended = all.into_iter().filter(|line| !line.contains(VIPS[2]));
        ended.collect::<Vec<String>>()
    };
    eventually("the others have ended", || others().len() == 2);
    for line in others() {
        assert!(line.contains("until its time was up"), "{line}");
    }
    eventually("the first process is gone", || {
        !processes(&server).contains(&first[0])
    });
    // Its place was taken once, by the second one.
    server.ok("unbind --all");
    eventually("all have told", || announcers(&lab).len() == 4);
}

#[test]
fn after_an_announcer_was_killed_the_next_run_announces_all_anew() {
    let lab = two_interfaces();
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("all are announced", || announced_now(&server) == 3);
    let first = processes(&server);
    server.run("kill", ["-KILL", &first[0]]);
    eventually("it is gone", || processes(&server).is_empty());
    assert_eq!(announced_now(&server), 0);
    server.ok("bind --all");
    eventually("all are announced again", || announced_now(&server) == 3);
    assert_eq!(processes(&server).len(), 1);
    server.ok("unbind --all");
    for vip in VIPS {
        let line = end_of(&lab, vip);
        assert!(line.contains("until another run ended it"), "{line}");
    }
    assert_eq!(announcers(&lab).len(), 3);
}

#[test]
fn a_masters_name_with_spaces_and_quotes_stays_one_value_of_the_line() {
    let name = r#"a exit=0 b, \"c\" 'd' {\\} é"#;
    let lab = lab(&format!(
        "[masters.\"{name}\"]\nvip = \"192.168.56.250/24\"\n[masters.m]\nvip = \"fd00::250/64\"\n"
    ));
    let server = lab.host("server1");
    server.ok("bind --all");
    eventually("both are announced", || announced_now(&server) == 2);
    server.ok("unbind --all");
    let line = end_of(&lab, VIPS[0]);
    let (_, rest) = line.split_once(" master=\"a exit=0 b, ").expect(&line);
    let (rest, pairs) = rest.split_once('"').expect(&line);
    assert!(rest.ends_with('é') && rest.contains('c'), "{line}");
    assert!(
        pairs.starts_with(" vip=192.168.56.250/24 frames="),
        "{line}"
    );
    assert!(end_of(&lab, VIPS[1]).contains(" master=m "));
}

#[test]
fn announce_is_for_what_is_here() {
    let lab = lab(ONE);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    assert!(
        server
            .ok("announce")
            .contains("left 192.168.56.250/24 as it is: it is not on this host")
    );
    assert!(sniffer.settled(&server, V4).is_empty());
}
