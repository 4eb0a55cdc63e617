//! What an announcer does when another host claims its VIP: it asks what is true before it contests the claim.

use std::time::Instant;

use crate::common::redis::{MASTER_8000, Site};
use crate::common::sniffer::{Frame, Sniffer};
use crate::common::{Host, Lab, NameHolder, eventually, false_sentinel, finish, guides_lab};
use crate::lock::LOCK;

const V4: &str = "192.168.56.250";
const V6: &str = "fd00::250";
const HERE: &str = "192.168.56.101";
const AWAY: &str = "192.168.56.102";

/// A master with this `vip`, whose take-overs ask the client.
fn config(vip: &str) -> String {
    format!(
        "[masters.m]\nvip = {vip}\nannounce_to = [\"192.168.56.103\"]\n[sentinel]\naddress = \"127.0.0.1:6800\"\n"
    )
}

/// Two servers and a client, with the IPv4 VIP.
fn lab() -> Lab {
    guides_lab(&config(&format!("\"{V4}/24\"")))
}

/// Starts a false Sentinel that reads each time in a file of this name what it is to say: the master's
/// address and the number of the failover, or `silent`. It lists another one at `other`, notes each
/// conversation, and monitors no master named `unknown`.
pub fn sentinel(lab: &Lab, host: &str, at: &str, file: &str, other: Option<&str>) {
    let script = SENTINEL
        .replace("FILE", lab.dir().join(file).to_str().unwrap())
        .replace("OTHER", other.unwrap_or_default());
    false_sentinel(&lab.host(host), at, &script);
}

const SENTINEL: &str = r#"
sub bulk { join "", map { "\$" . length($_) . "\r\n$_\r\n" } @_ }
sub list { "*" . @_ . "\r\n" . bulk(@_) }
open my $count, ">>", "FILE.count"; syswrite $count, "x"; close $count;
my ($host, $port) = split /:/, "OTHER";
while (my $question = question($client)) {
    open my $says, "<", "FILE" or die; my ($ip, $epoch) = split " ", <$says>; close $says;
    sleep 600 if $ip eq "silent";
    my $unknown = $question =~ /\r\nunknown\r\n/;
    print $client $unknown ? ($question =~ /get-master/ ? "*-1\r\n" : "-ERR No such master with that name\r\n")
        : $question =~ /get-master/ ? list($ip, 8000)
        : $question =~ /\r\nmaster\r\n/i ? list("name", "m", "quorum", 1, "config-epoch", $epoch)
        : $question =~ /\r\nsentinels\r\n/i && $host ? "*1\r\n" . list("ip", $host, "port", $port)
        : $question =~ /\r\nslaves\r\n/i
            ? "*1\r\n" . list("ip", "192.168.56.190", "port", 8000, "flags", "slave", "master-link-status", "ok")
        : "*0\r\n";
}
"#;

/// Sends so many gratuitous ARP replies for the IPv4 VIP, 5 ms apart.
pub fn claim(host: &Host, number: usize) {
    let script = r#"
my ($mac, $number) = @ARGV;
socket(my $s, 17, 3, 0) or die $!;
my ($index) = qx(ip -o link show eth1) =~ /^(\d+)/;
$mac = pack "H12", $mac =~ s/://gr;
my $vip = pack "C4", 192, 168, 56, 250;
my $frame = "\xff" x 6 . $mac . pack("nnnCCn", 0x806, 1, 0x800, 6, 4, 2) . $mac . $vip . $mac . $vip;
my $to = pack "S n l S C C a8", 17, 0x806, $index, 0, 0, 6, "\xff" x 6;
for (1 .. $number) { send($s, $frame, 0, $to) or die $!; select undef, undef, undef, 0.005 }
"#;
    host.run(
        "perl",
        ["-e", script, &host.mac("eth1"), &number.to_string()],
    );
}

/// Whether a frame is sent by this host.
pub fn by(host: &Host) -> impl Fn(&Frame) -> bool + use<> {
    let mac = host.mac("eth1");
    move |frame: &Frame| crate::common::sniffer::mac(&frame.bytes[6..12]) == mac
}

/// How many answers to claims a host has sent: each is a reply that no question to the peer follows, as one
/// follows in each round of the schedule. The last round may not be complete.
pub fn answers(sniffer: &Sniffer, host: &Host) -> usize {
    let frames = sniffer.settled(host, V4);
    let ours: Vec<Frame> = frames.into_iter().filter(by(host)).collect();
    let replies = ours.iter().filter(|frame| frame.bytes[21] == 2).count();
    let is_question = |frame: &&Frame| frame.bytes[38..42] == [192, 168, 56, 103];
    let questions = ours.iter().filter(is_question).count();
    replies.saturating_sub(questions + 1)
}

/// Waits until `status` shows so many rivals' VIPs.
fn hears_rivals(host: &Host, number: usize) {
    eventually("the rivals are heard", || {
        host.ok("status").matches(", rivals ").count() == number
    });
}

#[test]
fn a_former_holder_that_still_has_the_vips_contests_none_of_the_new_holders_claims() {
    let lab = guides_lab(&config(&format!("[\"{V4}/24\", \"{V6}/64\"]")));
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("says", format!("{HERE} 1"));
    sentinel(&lab, "server1", "6800", "says", None);
    one.hook("m", HERE).success();
    eventually("both are announced", || {
        one.ok("status").matches("it is being announced").count() == 2
    });
    // The next failover, whose call does not arrive here.
    lab.file("says", format!("{AWAY} 2"));
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ip("addr add fd00::250/64 dev eth1 nodad");
    let sniffer = Sniffer::start(&lab.host("client"));
    for _ in 0..20 {
        two.ok("announce");
    }
    for vip in ["192.168.56.250/24", "fd00::250/64"] {
        let end = format!("announced {vip} until the master was on another host");
        let line = lab.logged(&[&end]);
        assert!(line.contains(&two.mac("eth1")), "{line}");
    }
    assert!(one.has("192.168.56.250/32@eth1"), "nobody has released it");
    assert!(answers(&sniffer, &one) <= 1);
    let ours = by(&one);
    for vip in [V4, V6] {
        two.ok("announce");
        let last = sniffer.settled(&one, vip).pop().unwrap();
        assert!(!ours(&last), "{vip}: {last:02x?}");
    }
}

#[test]
fn a_later_failover_is_known_from_another_sentinel_before_the_local_one_has_heard_of_it() {
    let lab = lab();
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("early", format!("{AWAY} 2"));
    lab.file("late", format!("{HERE} 1"));
    sentinel(&lab, "server2", "192.168.56.102:7000", "early", None);
    sentinel(&lab, "server1", "6800", "late", Some("192.168.56.102:7000"));
    one.hook("m", HERE).success();
    eventually("it is announced", || {
        one.ok("status").contains("it is being announced")
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    claim(&two, 200);
    lab.logged(&["until the master was on another host"]);
    assert!(answers(&sniffer, &one) <= 1);
}

#[test]
fn a_redis_that_has_become_a_replica_ends_the_announcer_though_sentinel_still_names_it() {
    let lab = lab();
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("says", format!("{HERE} 1"));
    sentinel(&lab, "server1", "6800", "says", None);
    let server = "redis-server --port 8000 --bind 0.0.0.0 --protected-mode no --save '' --dir / --daemonize yes";
    one.run("sh", ["-c", server]);
    let role = || {
        let mut ask = one.command("redis-cli");
        ask.args(["-p", "8000", "role"]);
        finish(ask).stdout
    };
    eventually("the Redis is a master", || role().starts_with("master"));
    one.hook("m", HERE).success();
    eventually("it is announced", || {
        one.ok("status").contains("it is being announced")
    });
    one.run(
        "redis-cli",
        ["-p", "8000", "replicaof", "192.168.56.102", "8000"],
    );
    eventually("the Redis is a replica", || role().starts_with("slave"));
    let sniffer = Sniffer::start(&lab.host("client"));
    claim(&two, 200);
    lab.logged(&["until the master was on another host"]);
    assert!(answers(&sniffer, &one) <= 1);
}

#[test]
fn while_the_master_is_here_a_flood_of_claims_is_contested_and_makes_few_questions() {
    let lab = lab();
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("says", format!("{HERE} 1"));
    sentinel(&lab, "server1", "6800", "says", None);
    one.hook("m", HERE).success();
    eventually("it is announced", || {
        one.ok("status").contains("it is being announced")
    });
    let asked = || lab.run("cat", [lab.dir().join("says.count")]).len();
    let (sniffer, started) = (Sniffer::start(&lab.host("client")), Instant::now());
    let before = asked();
    claim(&two, 400);
    let most = 5 * (started.elapsed().as_secs() as usize + 2);
    // A conversation for the poll, and one that ends it, where the Sentinel is alone.
    let number = asked() - before;
    assert!((1..=2 * most).contains(&number), "{number} of {most}");
    eventually("it is contested, and has the last word", || {
        two.run("true", [""; 0]);
        answers(&sniffer, &one) >= 3 && sniffer.about(V4).last().is_some_and(by(&one))
    });
}

#[test]
fn who_cannot_know_contests_nothing_and_goes_on_with_its_rounds() {
    let lab = lab();
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("says", "silent");
    sentinel(&lab, "server1", "6800", "says", None);
    one.hook("m", HERE).success();
    eventually("it is announced", || {
        one.ok("status").contains("it is being announced")
    });
    let sniffer = Sniffer::start(&lab.host("client"));
    claim(&two, 400);
    hears_rivals(&one, 1);
    assert!(answers(&sniffer, &one) <= 1);
    let line = lab.logged(&["msg=\"announced 192.168.56.250/24 until "]);
    assert!(line.contains("until its time was up"), "{line}");
    assert!(answers(&sniffer, &one) <= 1);
}

#[test]
fn an_operators_order_is_contested_for_without_sentinel_and_against_it() {
    for says in ["silent".to_owned(), format!("{AWAY} 1")] {
        let lab = lab();
        let (one, two) = (lab.host("server1"), lab.host("server2"));
        lab.file("says", &says);
        sentinel(&lab, "server1", "6800", "says", None);
        one.ok("bind");
        eventually("it is announced", || {
            one.ok("status").contains("it is being announced")
        });
        let sniffer = Sniffer::start(&lab.host("client"));
        eventually("its claims are contested", || {
            claim(&two, 20);
            answers(&sniffer, &one) >= 3
        });
    }
}

#[test]
fn after_two_failovers_at_once_the_last_holder_has_the_last_word() {
    let site = Site::in_chain(MASTER_8000);
    let two = site.host("server2");
    site.fail_over(&MASTER_8000, "server1", "server2");
    site.check_settled(&MASTER_8000, "server2");
    eventually("it is announced", || {
        two.ok("status").contains("it is being announced")
    });
    // What the next call is to do on this host has to wait.
    let holder = NameHolder::start(&two, LOCK);
    let sniffer = Sniffer::start(&site.host("client"));
    site.fail_over_from(&MASTER_8000, "server2", "server2");
    let (former, last) = (by(&two), by(&site.host("server3")));
    eventually("the new holder has announced it", || {
        sniffer.about(V4).iter().any(&last)
    });
    let line = site.lab().logged(&["until the master was on another host"]);
    assert!(line.contains(&site.host("server3").mac("eth1")), "{line}");
    assert!(two.has(MASTER_8000.bound), "it still has the VIP");
    let frames = sniffer.settled(&two, V4);
    let claimed = frames.iter().position(&last).unwrap();
    let ours = frames[claimed..].iter().filter(|frame| former(frame));
    assert!(ours.count() <= 3, "at most what was on its way");
    holder.release();
    site.check_in_use(&MASTER_8000, "server3");
}
