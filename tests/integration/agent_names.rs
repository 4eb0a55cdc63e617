//! Servers that are known by names: what the agent knows of them does not end with the name servers.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::agent_announcements::Agent;
use crate::common::redis::{CLIENT, SERVERS};
use crate::common::{Host, Lab, eventually, executable};
use crate::failover_verb::{asked_for, is_in_order, known_by};

const VIP: &str = "192.168.56.250/24";
const BOUND: &str = "192.168.56.250/32@eth1";
const NAMES: [&str; 3] = ["redis1", "redis2", "redis3"];

/// As in /etc/hosts.
fn hosts() -> String {
    let each = (1..=3).map(|number| format!("192.168.56.10{number} redis{number}\n"));
    each.collect()
}

/// A name server that tells what stands in a file like /etc/hosts, which is read for each question; it ends with this.
struct NameServer(Child);

impl NameServer {
    fn start(host: &Host, file: &Path) -> NameServer {
        let mut perl = host.command("perl");
        perl.args(["-e", NAME_SERVER]).arg(file);
        let mut server = perl.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = server.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut [0; 1]).unwrap();
        NameServer(server)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Perl: answers A with the address, AAAA with none, and a name that it does not know with NXDOMAIN (RFC 1035).
const NAME_SERVER: &str = r#"
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
$| = 1; print "r";
while (my $from = recv $server, my $question, 1500, 0) {
    open my $file, "<", $ARGV[0] or die;
    my %at = map { reverse split } <$file>;
    my ($name, $place) = ("", 12);
    while (my $length = ord substr $question, $place, 1) {
        $name .= "." if $name ne "";
        $name .= substr $question, $place + 1, $length;
        $place += 1 + $length;
    }
    my $type = unpack "n", substr $question, ++$place, 2;
    my $at = $at{lc $name};
    my @answers = $at && $type == 1 ? pack("nnnNnC4", 0xc00c, 1, 1, 0, 4, split /\./, $at) : ();
    my $header = pack "a2nnnnn", $question, 0x8580 | ($at ? 0 : 3), 1, scalar @answers, 0, 0;
    send $server, $header . substr($question, 12, $place + 4 - 12) . join("", @answers), 0, $from;
}
"#;

/// Starts the agent of server1, which has no names in /etc/hosts and asks the client.
fn agent_that_asks(lab: &Lab) -> Agent {
    let none = lab.file("no-hosts", "127.0.0.1 localhost\n");
    let conf = lab.file("asks", "nameserver 192.168.56.104\n");
    let script = r#"mount --bind "$1" /etc/hosts; mount --bind "$2" "$(readlink -f /etc/resolv.conf)"; exec "$3" agent"#;
    let host = lab.host("server1");
    let mut command: Command = host.command("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]);
    command.arg(none).arg(conf).arg(executable());
    Agent::start_by(&host, command)
}

/// Returns what the agent of a server knows of the master, if it answers.
fn known(lab: &Lab, server: &str) -> Option<Value> {
    let status = lab.host(server).vipswitch(["status", "--json"]);
    let mut rows = status.stdout.lines().rev();
    let row = rows.find_map(|line| {
        let row: Value = serde_json::from_str(line).ok()?;
        row["agent"].is_object().then(|| row["agent"].clone())
    })?;
    Some(row)
}

/// Returns which Sentinels say something, the local one first.
fn answers(lab: &Lab) -> Vec<bool> {
    let known = known(lab, "server1").unwrap_or_default();
    let votes = known["masters"][0]["votes"].as_array().cloned();
    let votes = votes.unwrap_or_default();
    votes.iter().map(|vote| vote["says"].is_string()).collect()
}

#[test]
fn a_host_lets_go_where_the_name_server_is_cut_off_with_its_peers() {
    let lab = known_by(NAMES, &hosts(), VIP);
    let table = lab.file("table", hosts());
    let _names = NameServer::start(&lab.host(CLIENT), &table);
    let _agent = agent_that_asks(&lab);
    eventually("the agent knows all Sentinels", || {
        answers(&lab) == [true; 3]
    });
    let one = lab.host("server1");
    assert!(one.has(BOUND));
    for server in SERVERS {
        let words = "-p 6800 sentinel set m down-after-milliseconds 2000";
        lab.host(server).run("redis-cli", words.split(' '));
    }
    for number in 102..=104 {
        // Nobody has this hardware address.
        one.ip(&format!(
            "neigh replace 192.168.56.{number} lladdr 02:00:00:00:00:99 nud permanent dev eth1"
        ));
    }
    eventually("the VIP is released", || !one.has(BOUND));
    lab.logged(&["cut off from its peers"]);
    for number in 102..=104 {
        one.ip(&format!("neigh del 192.168.56.{number} dev eth1"));
    }
    eventually("one server has the VIP", || {
        let holders = SERVERS.iter().filter(|server| lab.host(server).has(BOUND));
        holders.count() == 1 && answers(&lab) == [true; 3]
    });
}

/// Returns the connections on which the agent of server1 hears this server's Sentinel.
fn followers(lab: &Lab, server: &str) -> Vec<String> {
    let words = ["-p", "6800", "client", "list", "type", "pubsub"];
    let all = lab.host(server).run("redis-cli", words);
    let own = all
        .lines()
        .filter(|line| line.contains("addr=192.168.56.101:"));
    let ids = own.filter_map(|line| line.split(' ').next());
    ids.map(str::to_owned).collect()
}

#[test]
fn names_that_are_gone_for_a_while_end_no_connection_that_is_up() {
    let lab = known_by(NAMES, &hosts(), VIP);
    let table = lab.file("table", hosts());
    let _names = NameServer::start(&lab.host(CLIENT), &table);
    let _agent = agent_that_asks(&lab);
    let each = || ["server2", "server3"].map(|server| followers(&lab, server));
    eventually("both are followed", || {
        each().iter().all(|ids| ids.len() == 1)
    });
    let before = each();
    let uptime = || known(&lab, "server1").map_or(0.0, |known| known["uptime"].as_f64().unwrap());
    let seconds_pass = || {
        let until = uptime() + 3.0;
        eventually("time passes", || uptime() > until);
    };
    // The name server knows them no more; then it does not answer at all.
    lab.file("table", "");
    eventually("the others cannot be asked", || {
        answers(&lab) == [true, false, false]
    });
    seconds_pass();
    assert_eq!(each(), before);
    lab.file("table", hosts());
    eventually("the others are asked again", || answers(&lab) == [true; 3]);
    drop(_names);
    seconds_pass();
    // They are asked where they were last.
    assert_eq!(answers(&lab), [true; 3]);
    assert_eq!(each(), before);
    assert!(lab.host("server1").has(BOUND));
}

#[test]
fn a_planned_failover_between_agents_whose_servers_are_known_by_names() {
    let lab = known_by(NAMES, &hosts(), VIP);
    let _agents = SERVERS.map(|server| Agent::start(&lab.host(server)));
    eventually("the agents know all Sentinels", || {
        answers(&lab) == [true; 3]
    });
    let told = asked_for(&lab);
    is_in_order(&told, &["asked", "chosen", "agreed"]);
    let heir = NAMES
        .iter()
        .position(|name| told["to"] == format!("{name}:8000"));
    let heir = heir.unwrap_or_else(|| panic!("{told:#}"));
    eventually("the VIP has moved", || {
        let holders = SERVERS.iter().filter(|server| lab.host(server).has(BOUND));
        holders.collect::<Vec<_>>() == [&SERVERS[heir]]
    });
    lab.logged(&["why=promoted_here", "by=agent"]);
    lab.logged(&["why=promoted_elsewhere", "by=agent"]);
}
