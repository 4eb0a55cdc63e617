//! The announcers of an agent, from outside: how long they go on, and what they contest.

use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use crate::agent_ipv6::CLAIM;
use crate::common::sniffer::{Frame, Sniffer};
use crate::common::{
    Host, Lab, NameHolder, V6, eventually, executable, false_sentinel, guides_lab,
};
use crate::lock::LOCK;
use crate::rivals::{answers, by, claim, sentinel};

const VIP: &str = "192.168.56.250";
const BOUND: &str = "192.168.56.250/32@eth1";
const HERE: &str = "192.168.56.101";

/// An agent, which ends with this.
pub struct Agent(Child);

impl Agent {
    pub fn start(host: &Host) -> Agent {
        let mut command = host.command(executable());
        command.arg("agent");
        Agent::start_by(host, command)
    }

    pub fn start_by(host: &Host, mut command: Command) -> Agent {
        host.run("mkdir", ["-p", "/run/vipswitch"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Agent(command.spawn().unwrap())
    }
}

impl Agent {
    /// Outside of the lab an nsenter has stopped with it.
    fn go_on(&self) {
        let nsenter = self.0.id().to_string();
        let _ = Command::new("kill").args(["-CONT", &nsenter]).status();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two servers and a client; the first one's Sentinel names it, and its agent announces every so many seconds.
pub fn lab(every: u32) -> Lab {
    lab_of(&format!("\"{VIP}/24\""), every)
}

/// The same with these VIPs.
fn lab_of(vips: &str, every: u32) -> Lab {
    let lab = guides_lab(&format!(
        "[masters.m]\nvip = {vips}\nannounce_to = [\"192.168.56.103\"]\n\
         [sentinel]\naddress = \"127.0.0.1:6800\"\n[agent]\nannounce_every = {every}\n"
    ));
    lab.file("says", format!("{HERE} 1"));
    sentinel(&lab, "server1", "6800", "says", None);
    // What this host's Redis says counts, too.
    false_sentinel(&lab.host("server1"), &format!("{HERE}:8000"), A_MASTER);
    lab
}

/// A Redis that says that it is a master, and nothing else.
const A_MASTER: &str = r#"
while (my $question = question($client)) {
    print $client $question =~ /\r\nrole\r\n/i ? "*3\r\n\$6\r\nmaster\r\n:0\r\n*0\r\n" : "-ERR unknown\r\n";
}
"#;

#[test]
fn a_vip_is_announced_for_as_long_as_it_is_here() {
    let lab = lab(1);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let _agent = Agent::start(&server);
    // A one-shot announcer sends six.
    sniffer.wait_for_rounds(VIP, 9);
    assert!(server.has(BOUND));
}

/// An agent that has announced its VIP for the last time.
fn announced(lab: &Lab) -> (Sniffer, Agent) {
    let sniffer = Sniffer::start(&lab.host("client"));
    let began = SystemTime::now();
    let agent = Agent::start(&lab.host("server1"));
    sniffer.wait_for_last_round(VIP, began);
    (sniffer, agent)
}

#[test]
fn a_link_that_comes_up_again_has_its_vips_announced_at_once() {
    let lab = lab(0);
    let server = lab.host("server1");
    let (sniffer, _agent) = announced(&lab);
    let before = sniffer.rounds(VIP);
    server.ip("link set eth1 down");
    server.ip("link set eth1 up");
    sniffer.wait_for_rounds(VIP, before + 1);
}

/// Nobody tells a server when the switch's port begins to forward.
#[test]
fn a_link_that_comes_up_before_the_switch_forwards_has_its_vips_announced_until_it_does() {
    let lab = lab(0);
    let server = lab.host("server1");
    let (sniffer, _agent) = announced(&lab);
    let before = sniffer.rounds(VIP);
    // The first round's three frames.
    let rules = format!(
        "add table bridge slow
        add chain bridge slow in {{ type filter hook prerouting priority 0; }}
        add rule bridge slow in arp saddr ip {VIP} limit rate 1/day burst 3 packets drop"
    );
    lab.run("nft", [&rules]);
    server.ip("link set eth1 down");
    server.ip("link set eth1 up");
    sniffer.wait_for_rounds(VIP, before + 1);
}

/// As soon as it looks the link is as it was.
#[test]
fn a_link_that_was_down_for_less_than_it_takes_to_look_has_its_vips_announced() {
    let lab = lab(0);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let mut began = SystemTime::now();
    let agent = Agent::start(&server);
    for _ in 0..3 {
        sniffer.wait_for_last_round(VIP, began);
        let before = sniffer.rounds(VIP);
        began = SystemTime::now();
        let flap = "pkill -STOP -f '[v]ipswitch agent'
            ip link set eth1 down; ip link set eth1 up
            pkill -CONT -f '[v]ipswitch agent'";
        server.run("sh", ["-c", flap]);
        agent.go_on();
        sniffer.wait_for_rounds(VIP, before + 1);
    }
}

#[test]
fn a_claim_is_contested_long_after_the_take_over_and_only_while_the_truth_says_here() {
    let lab = lab(0);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let sniffer = Sniffer::start(&lab.host("client"));
    let began = SystemTime::now();
    let _agent = Agent::start(&one);
    sniffer.wait_for_last_round(VIP, began);
    // An answer more than the last round of the take-over, which may not be complete.
    eventually("the claims are contested", || {
        claim(&two, 1);
        answers(&sniffer, &one) >= 1
    });
    // The next failover.
    lab.file("says", "192.168.56.102 2");
    eventually("the VIP is released", || !one.has(BOUND));
    let before = sniffer.settled(&one, VIP).len();
    claim(&two, 20);
    let after = sniffer.settled(&one, VIP);
    let by_one = by(&one);
    assert_eq!(
        after[before..].iter().filter(|frame| by_one(frame)).count(),
        0
    );
}

/// A client that has taken a rival for the VIP's holder, and did not hear the answer to that claim.
#[test]
fn an_answer_that_is_lost_comes_again() {
    let lab = lab_of(&format!("[\"{VIP}/24\", \"{V6}/64\"]"), 0);
    let (one, two, client) = (lab.host("server1"), lab.host("server2"), lab.host("client"));
    let sniffer = Sniffer::start(&client);
    let began = SystemTime::now();
    let _agent = Agent::start(&one);
    let mac = one.mac("eth1");
    let said = |vip: &str| {
        let is_its = by(&one);
        let is_one = |frame: &Frame| match frame.is_arp() {
            // The reply of each round, whose sender is its target.
            true => frame.bytes[21] == 2 && frame.bytes[22..32] == frame.bytes[32..42],
            false => frame.is_icmpv6(136),
        };
        let frames = sniffer.about(vip).into_iter();
        frames
            .filter(|frame| is_its(frame) && is_one(frame))
            .count()
    };
    sniffer.wait_for_last_round(VIP, began);
    eventually("both are announced", || {
        said(VIP) > 1 && said(V6) >= said(VIP)
    });
    for vip in [VIP, V6] {
        let knock = format!("echo > /dev/udp/{vip}/9");
        client.run("bash", ["-c", &knock]);
        let knows = || client.neighbour(vip).as_ref() == Some(&mac);
        eventually("the client knows the holder", knows);
    }
    // The first answer to each claim: two ARP frames, or one advertisement.
    let rules = format!(
        "add table arp lossy
        add chain arp lossy in {{ type filter hook input priority 0; }}
        add rule arp lossy in arp saddr ether {mac} arp saddr ip {VIP} arp daddr ip {VIP} \
            limit rate 1/day burst 2 packets drop
        add table ip6 lossy
        add chain ip6 lossy in {{ type filter hook input priority 0; }}
        add rule ip6 lossy in ether saddr {mac} ip6 daddr ff02::1 icmpv6 type nd-neighbor-advert \
            limit rate 1/day burst 1 packets drop"
    );
    client.run("nft", [&rules]);
    let before = [VIP, V6].map(said);
    claim(&two, 1);
    two.run("perl", ["-e", CLAIM, &two.mac("eth1")]);
    for (vip, before) in [VIP, V6].into_iter().zip(before) {
        eventually("it is answered twice", || said(vip) >= before + 2);
        let knows = || client.neighbour(vip).as_ref() == Some(&mac);
        eventually("the client knows the holder again", knows);
    }
}

#[test]
fn a_vip_is_announced_on_where_its_release_did_not_come_to_pass() {
    let lab = lab(1);
    let server = lab.host("server1");
    let sniffer = Sniffer::start(&lab.host("client"));
    let _agent = Agent::start(&server);
    sniffer.wait_for_rounds(VIP, 6);
    let says = |what: &str| {
        eventually(what, || lab.log().iter().any(|line| line.contains(what)));
    };
    // Another run is about the VIP, so that the release has to wait.
    let holder = NameHolder::start(&server, LOCK);
    lab.file("says", "192.168.56.102 2");
    says("the VIP does not belong here");
    // Meanwhile nobody knows any more where it belongs.
    lab.file("says", "silent");
    says("the VIP stays as it is");
    holder.release();
    let before = sniffer.settled(&server, VIP).len();
    eventually("it is announced", || sniffer.about(VIP).len() > before + 6);
    assert!(server.has(BOUND));
}

/// The one that the truth names announces last, whatever the other one believed for a while.
#[test]
fn of_two_that_believe_it_is_here_the_one_that_the_truth_names_announces_last() {
    let lab = lab(0);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    lab.file("says2", "192.168.56.102 1");
    sentinel(&lab, "server2", "6800", "says2", None);
    false_sentinel(&two, "192.168.56.102:8000", A_MASTER);
    let sniffer = Sniffer::start(&lab.host("client"));
    let _first = Agent::start(&one);
    let _second = Agent::start(&two);
    eventually("both hold the VIP", || one.has(BOUND) && two.has(BOUND));
    // The second one's Sentinel hears of the truth.
    lab.file("says2", format!("{HERE} 2"));
    eventually("the second has let go", || !two.has(BOUND));
    let is_announcement =
        |frame: &&Frame| frame.is_arp() && frame.bytes[28..32] == [192, 168, 56, 250];
    let is_first = by(&one);
    eventually(
        "the first contests what the second has claimed last",
        || {
            let frames = sniffer.settled(&two, VIP);
            frames.iter().rfind(is_announcement).is_some_and(&is_first)
        },
    );
}

/// These Sentinels answer every question, and publish nothing.
#[test]
fn a_sentinel_whose_events_never_come_is_believed_when_it_is_asked() {
    let lab = lab(0);
    let one = lab.host("server1");
    let _agent = Agent::start(&one);
    eventually("the VIP is bound", || one.has(BOUND));
    lab.file("says", "192.168.56.102 2");
    eventually("the VIP is released", || !one.has(BOUND));
    lab.file("says", format!("{HERE} 3"));
    eventually("the VIP is bound again", || one.has(BOUND));
}
