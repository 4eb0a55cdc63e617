//! IPv6 VIPs, and servers that are known by IPv6 addresses, with agents.

use crate::agent_announcements::Agent;
use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};
use crate::common::sniffer::Sniffer;
use crate::common::{eventually, executable};
use crate::failover_verb::{asked_for, is_in_order, known_by};

const VIP: &str = "fd00::250";
const BOUND: &str = "fd00::250/64@eth1";
const M: Master = Master {
    vip: VIP,
    bound: BOUND,
    ..MASTER_8000
};

/// A site with agents, whose only VIP is an IPv6 address.
fn site() -> Site {
    let mut site = Site::unstarted_of(M);
    site.add_conf("bind 0.0.0.0 ::", "");
    site.configure("[masters.master8000]\nvip = \"fd00::250/64\"\n");
    site.start();
    SERVERS.iter().for_each(|server| site.start_agent(server));
    site
}

#[test]
fn a_planned_failover_moves_an_ipv6_vip_and_loses_nothing() {
    let site = site();
    let blocked = site.blocked(&M, "BLPOP none 0");
    let on_the_next = site.blocked_on("server2", &M, "BLPOP none 0");
    site.fail_over(&M, "server3", "server2");
    site.settles(&M, "server2");
    assert_eq!(blocked.end(), "Connection reset by peer");
    // By the last holder, or by its own kernel.
    assert_ne!(on_the_next.end(), "");
    let seen = site.timeline("server1");
    assert!(seen["paused"].is_number(), "{seen}");
    assert_eq!(seen["bytes_behind"], 0, "{seen}");
    site.lab().logged(&["why=promoted_here", VIP]);
}

/// The kernel removes IPv6 addresses with the link.
#[test]
fn an_ipv6_vip_comes_back_with_the_link_and_where_it_is_removed() {
    let site = site();
    let one = site.host("server1");
    let watch = site.watch("server1");
    one.ip("addr del fd00::250/64 dev eth1");
    site.settles(&M, "server1");
    one.ip("link set eth1 down");
    one.ip("link set eth1 up");
    // As its network manager does; some hosts keep their own, some lose it.
    one.ip("addr replace fd00::101/64 dev eth1 nodad");
    site.settles(&M, "server1");
    let events = watch.events(VIP);
    let gone = events.iter().filter(|one| one.contains("Deleted")).count();
    assert!(gone >= 2, "{events:#?}");
    site.unplug("server1");
    site.plug("server1");
    site.settles(&M, "server1");
}

/// Perl: claims the VIP by neighbor advertisements (RFC 4861, 4.4) with this hardware address.
pub const CLAIM: &str = r#"
my ($mac) = @ARGV;
socket(my $s, 17, 3, 0) or die $!;
my ($index) = qx(ip -o link show eth1) =~ /^(\d+)/;
$mac = pack "H12", $mac =~ s/://gr;
my $vip = pack "n8", 0xfd00, 0, 0, 0, 0, 0, 0, 0x250;
my $all = pack "n8", 0xff02, 0, 0, 0, 0, 0, 0, 1;
my $body = pack("CCnN", 136, 0, 0, 0x20000000) . $vip . "\2\1" . $mac;
my $sum = 0;
$sum += $_ for unpack "n*", $vip . $all . pack("NN", length $body, 58) . $body;
$sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
substr($body, 2, 2) = pack "n", ~$sum & 0xffff;
my $frame = "\x33\x33\0\0\0\1" . $mac . pack("nNnCC", 0x86dd, 0x60000000, length $body, 58, 255) . $vip . $all . $body;
my $to = pack "S n l S C C a8", 17, 0x86dd, $index, 0, 0, 6, "\x33\x33\0\0\0\1";
send $s, $frame, 0, $to or die $!;
"#;

#[test]
fn a_claim_to_an_ipv6_vip_is_contested_and_told() {
    let site = site();
    let (one, two) = (site.host("server1"), site.host("server2"));
    let claims = || site.agent("server1").unwrap()["masters"][0]["vips"][0].clone();
    assert_eq!(claims()["claims"], 0);
    let sniffer = Sniffer::start(&site.host("client"));
    let mac = two.mac("eth1");
    let contested = || {
        let is_first = crate::rivals::by(&one);
        let frames = sniffer.settled(&two, VIP);
        frames
            .iter()
            .rfind(|frame| frame.is_icmpv6(136))
            .is_some_and(is_first)
    };
    eventually("the claim is contested", || {
        two.run("perl", ["-e", CLAIM, &mac]);
        contested()
    });
    let claims = claims();
    assert!(claims["claims"].as_u64() >= Some(1), "{claims}");
    assert!(claims["rivals"].to_string().contains(&mac), "{claims}");
    site.settles(&M, "server1");
}

#[test]
fn an_ipv6_vip_that_nobody_answers_for_is_told_by_the_others() {
    let site = site();
    let nft = |rules: &str| site.host("server1").run("nft", [rules]);
    // Whoever asks hears nothing; the address is there.
    nft("add table ip6 silent
        add chain ip6 silent in { type filter hook input priority 0; }
        add rule ip6 silent in icmpv6 type nd-neighbor-solicit drop");
    let line = site.lab().logged(&["nobody answers for", VIP]);
    assert!(line.contains("master8000"), "{line}");
    nft("delete table ip6 silent");
    site.settles(&M, "server1");
}

#[test]
fn a_planned_failover_between_agents_whose_servers_are_known_by_ipv6_addresses() {
    let hosts = ["fd00::101", "fd00::102", "fd00::103"];
    let lab = known_by(hosts, "", "fd00::250/64");
    let _agents = SERVERS.map(|server| Agent::start(&lab.host(server)));
    eventually("the agents are at work", || {
        SERVERS.iter().all(|server| {
            let status = lab.host(server).vipswitch(["status"]).stdout;
            status.contains("3 of 3 Sentinels in reach, events from 3")
        })
    });
    let told = asked_for(&lab);
    is_in_order(&told, &["asked", "chosen", "agreed"]);
    let heir = hosts
        .iter()
        .position(|host| told["to"] == format!("[{host}]:8000"));
    let heir = heir.unwrap_or_else(|| panic!("{told:#}"));
    eventually("the VIP has moved", || {
        let holders = SERVERS.iter().filter(|server| lab.host(server).has(BOUND));
        holders.collect::<Vec<_>>() == [&SERVERS[heir]]
    });
    lab.logged(&["why=promoted_here", "by=agent"]);
    lab.logged(&["why=promoted_elsewhere", "by=agent"]);
}

/// One whose host's Sentinel listens on a Unix socket, too.
#[test]
fn an_agent_that_asks_its_sentinel_on_a_unix_socket_releases_and_binds() {
    let mut site = Site::unstarted_of(MASTER_8000);
    site.add_conf("", "unixsocket sentinel.sock");
    site.start();
    let socket = site.dir().join("server1-sentinel/sentinel.sock");
    assert!(
        socket.exists(),
        "{} with {}",
        socket.display(),
        executable().display()
    );
    let config = format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"{}\"\n",
        socket.display()
    );
    site.lab().config(&config);
    site.start_agent("server1");
    site.begin_fail_over(&MASTER_8000, "server3");
    eventually("the VIP is released", || {
        site.holders(MASTER_8000.vip).is_empty()
    });
    site.lab().logged(&["why=promoted_elsewhere", "by=agent"]);
    site.wait_until_named(&MASTER_8000, "server2");
    site.wait_until_well(&MASTER_8000, "server2");
    site.begin_fail_over(&MASTER_8000, "server3");
    site.settles(&MASTER_8000, "server1");
    site.lab().logged(&["why=promoted_here", "by=agent"]);
}
