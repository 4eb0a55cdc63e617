//! Sentinels that want a password, and who is sent it: this host's own and the `peers` of the configuration,
//! never an address that anybody can have forged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::common::redis::{MASTER_8000, Master, SERVERS, Site};
use crate::common::{Finished, Host, PATIENCE, eventually, executable, finish, wait_for};

const M: Master = MASTER_8000;
/// What the Sentinels have among themselves; they send it wherever a hello says that a Sentinel is.
const THEIRS: &str = "theirs";
/// What vipswitch has.
const SECRET: &str = "TOPSECRET";

/// Starts somebody who notes all that arrives, and never answers.
#[expect(
    clippy::zombie_processes,
    reason = "it ends with the lab, whose first process reaps it"
)]
fn listener(host: &Host, at: &str, notes: &PathBuf) {
    const SCRIPT: &str = r#"
use IO::Socket::IP;
my $server = IO::Socket::IP->new(LocalAddr => $ARGV[0], Listen => 9, ReuseAddr => 1) or die $@;
$| = 1; $SIG{CHLD} = "IGNORE"; print "r";
while (my $client = $server->accept) {
    next if fork;
    open my $notes, ">>", $ARGV[1];
    $notes->autoflush(1);
    print $notes "connected\n";
    while (sysread $client, my $bytes, 4096) { print $notes $bytes; }
    exit;
}
"#;
    let mut command = host.command("perl");
    command.args(["-e", SCRIPT, at]).arg(notes);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
}

/// Makes every Sentinel want the password.
fn want_password(site: &Site) {
    for server in SERVERS {
        let host = site.host(server);
        let cli = |words: &str| host.run("sh", ["-ec", &format!("redis-cli -p 6800 {words}")]);
        let watcher = "+sentinel'|'get-master-addr-by-name +sentinel'|'master +sentinel'|'sentinels +sentinel'|'slaves +sentinel'|'masters +info";
        for words in [
            format!("sentinel config set sentinel-pass {THEIRS}"),
            format!("acl setuser watcher on '>{SECRET}' {watcher}"),
            format!("acl setuser default on resetpass '>{THEIRS}'"),
        ] {
            assert_eq!(cli(&words), "OK\n", "{words}");
        }
    }
}

fn configure(site: &Site, peers: &str) {
    let file = site.lab().file("password", format!("{SECRET}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    site.lab().config(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n[sentinel]\naddress = \"127.0.0.1:6800\"\n\
         username = \"watcher\"\npassword_file = \"{}\"\n{peers}",
        file.display()
    ));
}

/// Runs `sync`, and ends it when it has said that it tries again.
fn sync(host: &Host) -> Finished {
    let mut sync = host.command("timeout");
    sync.arg("6").arg(executable()).arg("sync");
    finish(sync)
}

/// Forges the hello of a Sentinel, and waits until server1's Sentinel lists it.
fn forge(site: &Site, address: &str) {
    let one = site.host("server1");
    let id = "f".repeat(39) + &address.len().to_string()[..1];
    let hello = format!("{address},6800,{id},0,master8000,192.168.56.101,8000,0");
    eventually("the forged Sentinel is listed", || {
        one.run(
            "redis-cli",
            ["-p", "8000", "publish", "__sentinel__:hello", &hello],
        );
        let list = format!(
            "redis-cli -p 6800 -a {THEIRS} --no-auth-warning sentinel sentinels master8000"
        );
        one.run("sh", ["-ec", &list])
            .contains(&format!("\n{address}\n"))
    });
}

#[test]
fn a_forged_sentinel_is_never_sent_the_password() {
    let site = Site::new(&[M]);
    let (one, client) = (site.host("server1"), site.host("client"));
    want_password(&site);
    for (address, at) in [
        ("192.168.56.104", "192.168.56.104:6800"),
        ("fd00::104", "[fd00::104]:6800"),
    ] {
        let notes = site.lab().unique("notes");
        listener(&client, at, &notes);
        forge(&site, address);
        let by_name = "127.0.0.1 localhost\n192.168.56.102 redis2\n192.168.56.103 redis3\n";
        site.lab().file("hosts", by_name);
        let arrived = || fs::read_to_string(&notes).unwrap_or_default();
        // Nobody is a peer: the real ones are not sent it either, and say so.
        configure(&site, "");
        one.ip("addr flush dev eth1 to 192.168.56.250");
        let mut said = String::new();
        let refused = wait_for(PATIENCE, || {
            let run = sync(&one);
            said = run.to_string();
            let parts = [
                "192.168.56.102:6800 does not answer (it wants the password, which only `peers` under [sentinel] are sent",
                "192.168.56.103:6800 does not answer (it wants the password",
            ];
            (run.code() != 0 && parts.iter().all(|part| run.stderr.contains(part))).then_some(())
        });
        assert!(refused.is_some(), "{said}");
        assert!(!one.has(M.bound));
        eventually("the forged Sentinel was asked", || {
            arrived().contains("get-master")
        });
        let check = one.vipswitch(["check"]);
        let line =
            "peers = [\"192.168.56.101:6800\", \"192.168.56.102:6800\", \"192.168.56.103:6800\"]";
        assert!(check.stdout.contains(line), "{check}");
        assert!(
            check
                .stdout
                .contains("peers: 192.168.56.102:6800: this Sentinel wants a password"),
            "{check}"
        );
        // Another port, and another address family, is another server.
        for (peers, is_enough) in [
            (
                "peers = [\"192.168.56.102:6801\", \"[fd00::103]:6800\"]\n",
                false,
            ),
            (
                "peers = [\"redis2:6800\", \"[::ffff:192.168.56.103]:6800\"]\n",
                true,
            ),
        ] {
            configure(&site, peers);
            let bound = wait_for(PATIENCE, || {
                let run = sync(&one);
                said = run.to_string();
                (one.has(M.bound) == is_enough).then_some(())
            });
            assert!(bound.is_some(), "{peers}: {said}");
        }
        let check = one.vipswitch(["check", "--verbose"]);
        assert!(!check.stdout.contains("peers = ["), "{check}");
        let arrived = arrived();
        assert!(arrived.contains("get-master"), "{arrived}");
        assert!(!arrived.contains(SECRET), "{arrived}");
    }
}
