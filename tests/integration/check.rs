//! `vipswitch check` on real Redis and Sentinels: a site in which all is well gives nothing but
//! `ok`, and one thing broken gives one more name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::redis::{MASTER_8000, SERVERS, Site, address};
use crate::common::{
    Finished, Lab, PATIENCE, eventually, executable, false_sentinel, finish, is_root, wait_for,
};
use serde_json::Value;
use vipswitch::agent::request::Reply;
use vipswitch::agent::snapshot::{self, Snapshot};

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n";

/// A site with the hook as a link of its own, and a server to check.
struct Checked {
    site: Site,
    hook: PathBuf,
}

impl Checked {
    fn new() -> Checked {
        let lab = Lab::with_hosts(["server1", "server2", "server3", "client"]);
        let bin = lab.dir().join("bin");
        fs::create_dir(&bin).unwrap();
        let hook = bin.join("vipswitch");
        fs::copy(executable(), &hook).unwrap();
        let mut site = Site::in_lab(lab, &SERVERS, &[MASTER_8000]);
        site.call(&hook);
        site.configure(CONFIG);
        site.start();
        for server in SERVERS {
            let set = "config set min-replicas-to-write 1";
            site.host(server).run(
                "redis-cli",
                ["-p", "8000"].into_iter().chain(set.split(' ')),
            );
        }
        let checked = Checked { site, hook };
        checked.is_well();
        checked
    }

    fn run(&self, words: &[&str]) -> Finished {
        let mut command = self.site.host("server1").command(&self.hook);
        command.arg("check").args(words);
        let path = format!(
            "{}/tools:{}",
            self.site.dir().display(),
            std::env::var("PATH").unwrap()
        );
        // A `systemctl` that a test has put there.
        command.env("PATH", path);
        finish(command)
    }

    /// Returns the checks that say `warning` or `error`, and all that was said.
    fn wrong(&self) -> (BTreeSet<String>, String) {
        let done = self.run(&["--json"]);
        let rows: Vec<Value> = done
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let grave = |row: &&Value| row["level"] == "warning" || row["level"] == "error";
        let wrong: Vec<&Value> = rows.iter().filter(grave).collect();
        let expected = match wrong.iter().map(|row| row["level"].as_str().unwrap()).min() {
            None => 0,
            Some("error") => 2,
            Some(_) => 1,
        };
        assert_eq!(done.code(), expected, "{done}");
        assert!(
            wrong.iter().all(|row| row["remedy"].is_string()),
            "each has a remedy: {done}"
        );
        let names = wrong
            .iter()
            .map(|row| row["check"].as_str().unwrap().to_owned());
        (names.collect(), done.to_string())
    }

    /// Checks that exactly this is named, as soon as whoever has to know knows.
    #[track_caller]
    fn names(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let mut last = (BTreeSet::new(), String::new());
        let named = wait_for(PATIENCE, || {
            last = self.wrong();
            (last.0 == expected).then_some(())
        });
        assert!(named.is_some(), "expected {expected:?}: {}", last.1);
    }

    #[track_caller]
    fn is_well(&self) {
        self.names(&[]);
    }

    /// Breaks something, checks that exactly that is named, and mends it; what is named next shows
    /// that it is mended.
    #[track_caller]
    fn breaks(&self, name: &str, breaking: &str, mending: &str) {
        self.sh("server1", breaking);
        self.names(&[name]);
        self.sh("server1", mending);
    }

    #[track_caller]
    fn misconfigured(&self, name: &str, config: &str) {
        self.site.configure(config);
        self.names(&[name]);
        self.site.configure(CONFIG);
    }

    fn sh(&self, server: &str, script: &str) {
        self.site.host(server).run("sh", ["-ec", script]);
    }

    fn sentinel(&self, words: &str) -> String {
        let port = ["-p", "6800", "sentinel"].into_iter();
        self.site
            .host("server1")
            .run("redis-cli", port.chain(words.split(' ')))
    }

    /// Ends server1's Sentinel, if it runs, and starts it again behind these words.
    fn restart_sentinel(&self, prefix: &[&str]) {
        let mut stop = self.site.host("server1").command("redis-cli");
        stop.args(["-p", "6800", "shutdown"]);
        finish(stop);
        let conf = self.site.dir().join("server1-sentinel/conf");
        let words: Vec<&str> = prefix.iter().copied().chain(["redis-sentinel"]).collect();
        let mut start = self.site.host("server1").command(words[0]);
        start.args(&words[1..]).arg(conf);
        background(start);
        eventually("Sentinel answers again", || {
            let mut ping = self.site.host("server1").command("redis-cli");
            ping.args(["-p", "6800", "ping"]);
            finish(ping).stdout == "PONG\n"
        });
        self.site
            .tune("server1", &["info-period", "500", "publish-period", "300"]);
        self.site.wait_until_well(&MASTER_8000, "server1");
    }
}

/// Starts what ends with the lab.
#[expect(
    clippy::zombie_processes,
    reason = "it ends with the lab, whose first process reaps it"
)]
fn background(mut command: Command) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap();
}

#[test]
fn one_broken_thing_is_named_and_no_other() {
    let checked = Checked::new();
    network_and_configuration(&checked);
    sentinel_and_redis(&checked);
    surroundings(&checked);
    process(&checked);
    with_an_agent(&checked);
    if is_root() {
        ordinary_sentinel(&checked);
    }
    hook(&checked);
}

fn network_and_configuration(checked: &Checked) {
    let config = checked.site.dir().join("vipswitch.toml");
    let mode = |mode| fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    checked.names(&["config"]);
    mode(0o644);
    checked.misconfigured("interface", &format!("{CONFIG}interface = \"eth9\"\n"));
    checked.misconfigured("subnet", &CONFIG.replace("/24", "/16"));
    // No interface has its subnet; the one with the master's own address is taken.
    let astray = CONFIG.replace("192.168.56.250", "10.9.9.250");
    checked.site.configure(&astray);
    // The VIP of before is still bound.
    checked.names(&["holder", "left-over", "subnet"]);
    checked.site.configure(&CONFIG.replace("56.250", "56.102"));
    checked.names(&["announced-address", "left-over"]);
    checked.misconfigured(
        "monitored",
        &format!("{CONFIG}[masters.other]\nvip = \"192.168.56.249/24\"\n"),
    );
    checked.misconfigured(
        "config",
        "[masters.master8000]\nvpi = \"192.168.56.250/24\"\n",
    );
    checked.breaks(
        "sysctl",
        "echo 8 >/proc/sys/net/ipv4/conf/eth1/arp_ignore",
        "echo 0 >/proc/sys/net/ipv4/conf/eth1/arp_ignore",
    );
    let client = checked.site.host("client");
    client.ip("addr add 192.168.56.250/24 dev eth1");
    checked.names(&["claimed"]);
    client.ip("addr del 192.168.56.250/24 dev eth1");
    checked.breaks(
        "own-address",
        "ip addr del 192.168.56.250/32 dev eth1; ip addr add 192.168.56.250/32 dev eth1",
        &format!(
            "ip addr del 192.168.56.250/32 dev eth1; {} bind -q",
            checked.hook.display()
        ),
    );
    checked.breaks(
        "holder",
        &format!("{} unbind -q", checked.hook.display()),
        &format!("{} bind -q", checked.hook.display()),
    );
    checked.breaks(
        "route-source",
        "ip route add 192.0.2.0/24 dev eth1 src 192.168.56.250",
        "ip route del 192.0.2.0/24 dev eth1",
    );
    // A link that is cut excuses what is out of reach behind it.
    let port = |state| {
        checked
            .site
            .lab()
            .run("ip", ["link", "set", "server1-eth1", state])
    };
    port("down");
    checked.names(&["carrier"]);
    port("up");
    checked.site.wait_until_well(&MASTER_8000, "server1");
    checked.is_well();
}

fn sentinel_and_redis(checked: &Checked) {
    let firewall = |port: u16| {
        let rule = format!(
            "nft add rule inet test out ip daddr {} tcp dport {port} tcp flags syn drop",
            address("server3")
        );
        format!(
            "nft add table inet test; nft 'add chain inet test out {{ type filter hook output priority 0; }}'; {rule}"
        )
    };
    let open = "nft delete table inet test";
    checked.breaks("redis-reachable", &firewall(8000), open);
    checked.breaks("sentinel-reachable", &firewall(6800), open);
    // A password that Redis does not have.
    let password = checked.site.dir().join("password");
    fs::write(&password, "wrong\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let with = format!("{CONFIG}redis_password_file = \"{}\"\n", password.display());
    checked.site.configure(&with);
    checked.names(&["redis-role"]);
    fs::remove_file(&password).unwrap();
    checked.names(&["redis-role"]);
    checked.site.configure(CONFIG);
    checked.sentinel("set master8000 quorum 4");
    checked.names(&["quorum"]);
    checked.sentinel("set master8000 quorum 2");
    checked.sentinel("set master8000 down-after-milliseconds 1400");
    checked.names(&["down-after"]);
    checked.sentinel("set master8000 down-after-milliseconds 60000");
    checked.sentinel("monitor extra 192.168.56.101 8000 2");
    checked.names(&["unconfigured"]);
    checked.sentinel("remove extra");
    checked.breaks(
        "min-replicas",
        "redis-cli -p 8000 config set min-replicas-to-write 0",
        "redis-cli -p 8000 config set min-replicas-to-write 1",
    );
    // To a master without a password an AUTH is an error.
    checked.sh("server3", "redis-cli -p 8000 config set masterauth wrong");
    checked.sh("server1", "redis-cli -p 8000 client kill type replica");
    checked.sh("server2", "redis-cli -p 8000 ping");
    checked.names(&["replication"]);
    checked.sh("server3", "redis-cli -p 8000 config set masterauth ''");
    checked.is_well();
    // The change of a Sentinel's setting is an event that runs this script.
    let failing = checked.site.dir().join("failing");
    fs::write(&failing, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    checked.sentinel(&format!(
        "set master8000 notification-script {}",
        failing.display()
    ));
    checked.names(&["pending-scripts"]);
    checked.site.host("server1").run(
        "redis-cli",
        [
            "-p",
            "6800",
            "sentinel",
            "set",
            "master8000",
            "notification-script",
            "",
        ],
    );
    checked.restart_sentinel(&[]);
    checked.is_well();
}

fn surroundings(checked: &Checked) {
    // Commands that Sentinel's user cannot run, or that others could have written.
    let mine = checked.site.dir().join("mine");
    fs::write(&mine, "#!/bin/sh\n").unwrap();
    for (mode, wrong) in [(0o644, true), (0o777, true), (0o755, false)] {
        fs::set_permissions(&mine, fs::Permissions::from_mode(mode)).unwrap();
        let with = format!(
            "{CONFIG}on_release = {{ command = [\"{}\"] }}\n",
            mine.display()
        );
        checked.site.configure(&with);
        match wrong {
            true => checked.names(&["site-command"]),
            false => checked.is_well(),
        }
    }
    checked.site.configure(CONFIG);
    checked.breaks("log", "mv /dev/log /dev/nolog", "mv /dev/nolog /dev/log");

    let tools = checked.site.dir().join("tools");
    fs::create_dir(&tools).unwrap();
    let systemctl = |timer: &str, rest: &str| {
        let script = format!(
            "#!/bin/sh\nprintf 'Id=vipswitch-sync.timer\\nActiveState=active\\nUnitFileState={timer}\\n{rest}'\n"
        );
        fs::write(tools.join("systemctl"), script).unwrap();
        fs::set_permissions(tools.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    systemctl("disabled", "");
    checked.sh("server1", "mkdir -p /run/systemd/system");
    checked.names(&["sync-timer"]);
    systemctl(
        "enabled",
        "\\nId=vipswitch-sync.service\\nResult=exit-code\\n",
    );
    checked.names(&["sync-timer"]);
    // A unit that would not let Sentinel start, if the hook were elsewhere than below /usr/lib.
    let unit = "\\nId=redis-sentinel.service\\nNoExecPaths=/\\nExecPaths=/usr/bin/redis-sentinel -";
    let bin = checked.hook.parent().unwrap().display().to_string();
    checked.sh("server1", "redis-cli -p 6800 shutdown");
    for (allowed, wrong) in [("/usr/lib", "exec-paths"), (&bin, "sentinel")] {
        systemctl("enabled", &format!("{unit}{allowed}\\n"));
        checked.names(&[wrong]);
    }
    checked.restart_sentinel(&[]);
    checked.is_well();
    let well = checked.run(&[]).success();
    assert!(
        well.starts_with("check: ") && well.ends_with("0 errors; --verbose shows all\n"),
        "{well}"
    );
    assert_eq!(well.lines().count(), 1, "{well}");
    let all = checked.run(&["--verbose"]).success();
    assert!(all.lines().count() > 25, "{all}");
    assert!(all.contains("ok    holder: 192.168.56.250/24: "), "{all}");
}

fn process(checked: &Checked) {
    for (prefix, lacks) in [
        ("setpriv --bounding-set -net_raw", "CAP_NET_RAW"),
        (
            "setpriv --securebits +noroot",
            "CAP_NET_ADMIN and CAP_NET_RAW",
        ),
        (
            "unshare --user --map-root-user",
            "a user namespace in which",
        ),
    ] {
        let prefix: Vec<&str> = prefix.split(' ').collect();
        checked.restart_sentinel(&prefix);
        checked.names(&["agent"]);
        let (_, said) = checked.wrong();
        assert!(
            said.contains(&format!("would run without {lacks}")),
            "{said}"
        );
    }
    checked.restart_sentinel(&[]);
    checked.is_well();
}

/// What answers as an agent does, with a snapshot that the test writes.
struct Agent<'a> {
    checked: &'a Checked,
    snapshot: Snapshot,
}

const AGENT: &str = r#"
use IO::Socket::UNIX;
mkdir "/run/vipswitch";
open my $number, ">", "/run/vipswitch/number" or die; print $number $$; close $number;
my $server = IO::Socket::UNIX->new(Local => $ENV{VIPSWITCH_AGENT_SOCKET}, Listen => 9) or die $!;
chmod 0660, $ENV{VIPSWITCH_AGENT_SOCKET};
while (my $client = $server->accept) {
    my $asked = <$client>;
    if (-e "/run/vipswitch/hang") { push @silent, $client; next }
    open my $file, "<", $ARGV[0] or die;
    print $client ($asked =~ /"status"/ ? <$file> : '{"exit":1,"refused":"no"}' . "\n");
}
"#;

impl Agent<'_> {
    /// Starts it, with a snapshot in which all is well.
    fn start(checked: &Checked) -> Agent<'_> {
        let snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: 1,
            masters: vec![snapshot::Master {
                name: "master8000".into(),
                verdict: "here".into(),
                vips: vec![snapshot::Vip {
                    address: "192.168.56.250".into(),
                    ..snapshot::Vip::default()
                }],
                redis: vec![snapshot::Redis {
                    at: "192.168.56.101:8000".into(),
                    role: "master".into(),
                    refuses: false,
                    run_id: None,
                }],
                ..snapshot::Master::default()
            }],
            sentinels: vec![snapshot::Sentinel {
                at: "192.168.56.102:6800".into(),
                events: true,
                in_reach: true,
            }],
            ..Snapshot::default()
        };
        let agent = Agent { checked, snapshot };
        agent.tells(&agent.snapshot);
        let mut perl = checked.site.host("server1").command("perl");
        perl.args(["-e", AGENT])
            .arg(checked.site.dir().join("snapshot"));
        background(perl);
        agent
    }

    fn tells(&self, snapshot: &Snapshot) {
        let reply = Reply {
            out: serde_json::to_string(snapshot).unwrap(),
            ..Reply::default()
        };
        let text = serde_json::to_string(&reply).unwrap() + "\n";
        // It may be read at any moment.
        let file = self.checked.site.lab().file("snapshot.new", text);
        fs::rename(file, self.checked.site.dir().join("snapshot")).unwrap();
    }

    /// Changes what it tells, checks that exactly this is named, and changes it back.
    #[track_caller]
    fn names(&self, name: &str, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.clone();
        change(&mut snapshot);
        self.tells(&snapshot);
        self.checked.names(&[name]);
        self.tells(&self.snapshot);
    }

    fn end(self) {
        self.checked.sh(
            "server1",
            "kill $(cat /run/vipswitch/number); rm $VIPSWITCH_AGENT_SOCKET",
        );
    }
}

fn with_an_agent(checked: &Checked) {
    let agent = Agent::start(checked);
    // The hook needs no privilege then, and nobody a timer.
    checked.restart_sentinel(&["setpriv", "--bounding-set", "-net_raw,-net_admin"]);
    checked.sh("server1", "mv /run/systemd/system /run/systemd/away");
    checked.is_well();
    agent.names("agent", |it| it.version = "0.0.1".into());
    agent.names("agent-verdict", |it| it.masters.clear());
    for verdict in ["fault", "stays"] {
        agent.names("agent-verdict", |it| it.masters[0].verdict = verdict.into());
    }
    agent.names("agent-verdict", |it| it.masters[0].vips.clear());
    agent.names("agent-verdict", |it| it.masters[0].cut_off = Some(9.0));
    agent.names("agent-verdict", |it| {
        it.masters[0].forced = Some("bind".into())
    });
    agent.names("agent-events", |it| it.sentinels[0].events = false);
    agent.names("agent-maintenance", |it| {
        it.masters[0].maintenance = Some(snapshot::Maintenance {
            until: None,
            left: None,
        });
    });
    agent.names("agent-commands", |it| it.pending_commands = 1);
    // Who cannot be asked is another check's matter.
    let mut silent = agent.snapshot.clone();
    (silent.sentinels[0].events, silent.sentinels[0].in_reach) = (false, false);
    agent.tells(&silent);
    checked.is_well();
    agent.tells(&agent.snapshot);
    checked.breaks(
        "write-pause",
        "redis-cli -p 8000 acl setuser default '-client|pause'",
        "redis-cli -p 8000 acl setuser default '+client|pause'",
    );
    // A password that only hosts of the configuration are sent.
    checked.sh(
        "server1",
        "redis-cli -p 8000 acl setuser agent on '>secret' '~*' '&*' +@all",
    );
    let password = checked.site.lab().file("agents-password", "secret\n");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let with = format!(
        "{CONFIG}redis_username = \"agent\"\nredis_password_file = \"{}\"\n",
        password.display()
    );
    checked.misconfigured("replica-password", &with);
    let hosts = "[hosts]\nserver2 = [\"192.168.56.102\"]\nserver3 = [\"192.168.56.103\"]\n";
    checked.site.configure(&format!("{with}{hosts}"));
    checked.is_well();
    checked.site.configure(CONFIG);
    // An agent needs no call: no more than a warning.
    checked.sh(
        "server1",
        "redis-cli -p 6800 sentinel set master8000 client-reconfig-script ''",
    );
    checked.names(&["client-reconfig-script"]);
    assert_eq!(checked.run(&[]).code(), 1);
    let hook = checked.hook.display();
    checked.sh(
        "server1",
        &format!("redis-cli -p 6800 sentinel set master8000 client-reconfig-script {hook}"),
    );
    // It is stopped: who cannot answer is an error, whatever the hook may do.
    checked.restart_sentinel(&[]);
    checked.sh("server1", "touch /run/vipswitch/hang");
    checked.names(&["agent"]);
    checked.sh(
        "server1",
        "rm /run/vipswitch/hang; mv /run/systemd/away /run/systemd/system",
    );
    agent.end();
    checked.is_well();
}

/// A Sentinel that is not root, which only root can start.
fn ordinary_sentinel(checked: &Checked) {
    let lab = checked.site.dir().display().to_string();
    let mode =
        |file: &str, mode: &str| checked.sh("server1", &format!("chmod {mode} {lab}/{file}"));
    checked.sh(
        "server1",
        &format!("chmod 711 {lab}; chown -R 65534:65534 {lab}/server1-sentinel"),
    );
    let user = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    checked.restart_sentinel(&user);
    checked.names(&["agent"]);
    // With an agent it needs no privilege, but the way to the socket.
    let agent = Agent::start(checked);
    checked.names(&["agent-socket"]);
    checked.sh("server1", "chgrp 65534 $VIPSWITCH_AGENT_SOCKET");
    checked.is_well();
    checked.sh("server1", "chmod 700 /run/vipswitch");
    checked.names(&["agent-socket"]);
    checked.sh("server1", "chmod 755 /run/vipswitch");
    agent.end();
    let ambient = [
        "--inh-caps",
        "+net_admin,+net_raw",
        "--ambient-caps",
        "+net_admin,+net_raw",
    ];
    checked.restart_sentinel(&[&user[..], &ambient].concat());
    checked.is_well();
    mode("vipswitch.toml", "600");
    checked.names(&["config-readable"]);
    mode("vipswitch.toml", "644");
    mode("bin", "700");
    checked.names(&["executable"]);
    mode("bin", "755");
    checked.is_well();
    // With the hook's privileges all can be tried, with none it is said what cannot be told.
    // A server that is late to answer is an error.
    let levels = |privileges: &[&str]| {
        let mut own = checked.site.host("server1").command(user[0]);
        own.args(&user[1..]).args(privileges);
        own.arg(&checked.hook).args(["check", "--json"]);
        let own = finish(own);
        let has_error = own.stdout.contains(r#""level":"error""#);
        let levels = ["root", "netlink", "privileges", "reset"].map(|check| {
            let row = format!(r#"{{"check":"{check}","level":""#);
            let rest = own.stdout.split(&row).nth(1).expect(check);
            rest.split('"').next().unwrap().to_owned()
        });
        (!has_error).then_some(levels)
    };
    let all = ["unknown", "ok", "ok", "ok"];
    let none = ["unknown", "ok", "ok", "unknown"];
    for (privileges, expected) in [(&ambient[..], all), (&[], none)] {
        let mut last = None;
        let told = wait_for(PATIENCE, || {
            last = levels(privileges);
            last.as_ref()
                .is_some_and(|last| *last == expected)
                .then_some(())
        });
        assert!(told.is_some(), "{last:?} and not {expected:?}");
    }
    checked.sh("server1", &format!("chown -R 0:0 {lab}/server1-sentinel"));
    checked.restart_sentinel(&[]);
}

/// The names of all checks: what findings are added under, and what a judge of one check calls `CHECK`.
fn names_in_the_sources() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/check");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let source = fs::read_to_string(path).unwrap();
        let words: Vec<&str> = source.split_whitespace().collect();
        let source = words.join(" ").replace("( ", "(");
        for before in [".add(\"", "CHECK: &str = \""] {
            for rest in source.split(before).skip(1) {
                let (name, after) = rest.split_once('"').unwrap();
                let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                if is_name && after.starts_with([',', ';']) {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
}

#[test]
fn the_documents_have_every_check_and_no_other() {
    let rows = include_str!("../../docs/check.md").lines();
    let first = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = first.map(str::to_owned).collect();
    assert_eq!(documented, names_in_the_sources());
    let lab = Lab::with_hosts(["server1"]);
    lab.config(CONFIG);
    let done = lab.host("server1").vipswitch(["check", "--json"]);
    for line in done.stdout.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert!(
            documented.contains(row["check"].as_str().unwrap()),
            "{line}"
        );
    }
}

fn hook(checked: &Checked) {
    let info = checked
        .site
        .host("server1")
        .run("redis-cli", ["-p", "6800", "info", "server"]);
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"))
        .unwrap()
        .trim();
    let bin = checked.hook.parent().unwrap().display().to_string();
    let within = |script: &str| {
        checked.sh(
            "server1",
            &format!("nsenter --target {pid} --mount sh -ec '{script}'"),
        );
    };
    within(&format!(
        "mount --bind {bin} {bin}; mount -o remount,bind,noexec {bin}"
    ));
    checked.names(&["exec-paths"]);
    within(&format!("umount {bin}"));
    checked.is_well();

    let other = checked.site.dir().join("other-hook");
    fs::write(&other, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    checked.sentinel(&format!(
        "set master8000 client-reconfig-script {}",
        other.display()
    ));
    checked.names(&["client-reconfig-script"]);
    fs::remove_file(&other).unwrap();
    checked.names(&["executable"]);
    checked.site.host("server1").run(
        "redis-cli",
        [
            "-p",
            "6800",
            "sentinel",
            "set",
            "master8000",
            "client-reconfig-script",
            "",
        ],
    );
    checked.names(&["client-reconfig-script"]);
    checked.sentinel(&format!(
        "set master8000 client-reconfig-script {}",
        checked.hook.display()
    ));
    checked.is_well();

    let mut stop = checked.site.host("server1").command("redis-cli");
    stop.args(["-p", "6800", "shutdown"]);
    finish(stop);
    checked.names(&["sentinel"]);
    let text = checked.run(&[]);
    assert_eq!(text.code(), 2);
    assert!(
        text.stdout.contains("ERROR sentinel: 127.0.0.1:6800: "),
        "{text}"
    );
    assert!(text.stdout.contains(" 1 error"), "{text}");
    eventually("--quiet says this and its remedy", || {
        checked.run(&["--quiet"]).stdout.lines().count() == 2
    });
}

#[test]
fn a_false_sentinel_holds_nobody_up_and_prints_nothing_of_its_own() {
    let lab = Lab::with_hosts(["server1"]);
    lab.config(&format!(
        "{CONFIG}[sentinel]\naddress = \"127.0.0.1:6800\"\n"
    ));
    let host = lab.host("server1");
    let silent = "sleep 600";
    let slow = "while (1) { print $client \"*\"; select undef, undef, undef, 0.1 }";
    let rude = r#"while (sysread $client, my $question, 4096) { print $client "*1\r\n*4\r\n\$4\r\nname\r\n\$12\r\n\e[31mRED\r\n\n\n\r\n\$2\r\nip\r\n\$3\r\n\e\e\e\r\n" }"#;
    let deep = r#"while (sysread $client, my $question, 4096) { print $client "*1\r\n" x 100000 }"#;
    let fifo = lab.unique("fifo");
    lab.run("mkfifo", [fifo.to_str().unwrap()]);
    let info = format!("# Server\\r\\nconfig_file:{}\\r\\n", fifo.display());
    let length = format!("# Server\r\nconfig_file:{}\r\n", fifo.display()).len();
    // Names a file that nobody ever writes to.
    let hanging = format!(
        r#"while (sysread $client, my $question, 4096) {{ print $client $question =~ /INFO/ ? "\${length}\r\n{info}\r\n" : "*0\r\n" }}"#
    );
    for (port, script) in [
        ("6800", hanging.as_str()),
        ("6801", silent),
        ("6802", slow),
        ("6803", rude),
        ("6804", deep),
    ] {
        false_sentinel(&host, port, script);
        lab.config(&format!(
            "{CONFIG}[sentinel]\naddress = \"127.0.0.1:{port}\"\n"
        ));
        let done = host.vipswitch(["check"]);
        assert_eq!(done.code(), 2, "{done}");
        assert!(!done.stdout.contains('\u{1b}'), "{done}");
    }
}
