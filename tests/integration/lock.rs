//! The lock of a VIP: one run at a time, and a stranger cannot hold it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{
    BOTH, NameHolder, SENTINELS_PATIENCE, V4_BOUND, end_of, eventually, executable, finish,
    finish_within, guides_lab, is_root, wait_for,
};

/// The name that a run about the VIP takes for its lock.
pub const LOCK: &str = "vip/192.168.56.250";

/// How long a run waits for a lock that is held. A run that does not wait takes milliseconds.
const A_LOCKS_PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_run_waits_for_another_one_about_the_same_vip_and_no_longer_than_it_may() {
    let lab = guides_lab(BOTH);
    let (one, two) = (lab.host("server1"), lab.host("server2"));
    let holder = NameHolder::start(&one, LOCK);
    let mut command = one.command(executable());
    command.args(["m", "leader", "start", "", "1", "192.168.56.101", "1"]);
    let mut waiting = command.spawn().unwrap();
    // On another host, which is another network namespace, nobody has to wait: the lock is held.
    two.ok("bind");
    // Nor for another VIP on the same one.
    let other = lab.file("other.toml", "[masters.o]\nvip = \"192.168.56.251/24\"\n");
    one.ok(&format!("bind --config {}", other.display()));
    assert!(waiting.try_wait().unwrap().is_none() && !one.has(V4_BOUND));
    // It goes on as soon as it may.
    holder.release();
    assert!(end_of(&mut waiting).success());
    assert!(one.has(V4_BOUND));
    // One that is never given back is a passing fault, in time for Sentinel's patience.
    let holder = NameHolder::start(&one, LOCK);
    let mut command = one.command(executable());
    command.arg("unbind");
    finish_within(command, SENTINELS_PATIENCE).fails(
        1,
        &["another run of vipswitch holds the lock of vip 192.168.56.250 and does not end"],
    );
    holder.release();
    one.ok("unbind");
}

#[test]
fn a_lock_goes_with_its_holder_however_that_died() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let holder = NameHolder::start(&server, LOCK);
    server.run("pkill", ["-KILL", "-x", "perl"]);
    assert!(server.ok("bind").contains("took"));
    drop(holder);
}

#[test]
fn a_stranger_cannot_hold_the_lock() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let stranger = if is_root() {
        let mut stranger = server.command("setpriv");
        stranger.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "perl",
        ]);
        stranger
    } else {
        // There is no other user in the lab: one of whom nothing can be known.
        let mut stranger = server.command("perl");
        stranger.env("SILENT", "1");
        stranger
    };
    let _holder = NameHolder::start_by(stranger, LOCK);
    let bind = server.vipswitch(["bind"]);
    assert!(bind.took < A_LOCKS_PATIENCE, "{bind}");
    bind.success();
    assert!(server.has(V4_BOUND));
    // There is another lock then, which no stranger can hold.
    let file = "/proc/sys/net/ipv4/tcp_fastopen_key";
    let mut stranger = if is_root() {
        let mut stranger = server.command("setpriv");
        stranger.args(["--reuid", "65534", "--clear-groups", "flock"]);
        stranger
    } else {
        // In the lab this user is root; in the namespace that the machine has for all it is not.
        Command::new("flock")
    };
    stranger.args(["-n", file, "true"]);
    finish(stranger).fails(66, &["Permission denied"]);
    let mut flock = server.command("flock");
    flock.args([file, "sh", "-c", "echo held; exec cat"]);
    flock.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut flock = flock.spawn().unwrap();
    std::io::Read::read_exact(flock.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    let mut waiting = server.command(executable()).arg("unbind").spawn().unwrap();
    server.ok("announce --dry-run");
    assert!(waiting.try_wait().unwrap().is_none() && server.has(V4_BOUND));
    drop(flock.stdin.take());
    flock.wait().unwrap();
    assert!(end_of(&mut waiting).success());
}

/// What the agent's unit gives it: a user of its own, with these two capabilities from the service manager.
const AS_THE_AGENT: [&str; 7] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+net_admin,+net_raw",
    "--ambient-caps=+net_admin,+net_raw",
    "--bounding-set=-all,+net_admin,+net_raw",
    "--no-new-privs",
];

#[test]
fn an_operators_run_as_root_and_the_agent_as_its_own_user_exclude_each_other() {
    if !is_root() {
        // The lab has one user only.
        return;
    }
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    // The agent's user must get at the program and the configuration.
    lab.run("chmod", ["755", lab.dir().to_str().unwrap()]);
    let program = lab.file("vipswitch", std::fs::read(executable()).unwrap());
    lab.run("chmod", ["755", program.to_str().unwrap()]);
    let agents = |what: &std::ffi::OsStr| {
        let mut command = server.command("setpriv");
        command.args(AS_THE_AGENT).arg(what);
        command
    };
    let waits = |mut run: std::process::Child, bound: bool| {
        assert!(wait_for(Duration::from_secs(1), || run.try_wait().unwrap()).is_none());
        assert_eq!(server.has(V4_BOUND), bound);
        run
    };
    // Root's waits for the agent's.
    let holder = NameHolder::start_by(agents("perl".as_ref()), LOCK);
    let run = server.command(executable()).arg("bind").spawn().unwrap();
    let mut run = waits(run, false);
    holder.release();
    assert!(end_of(&mut run).success() && server.has(V4_BOUND));
    // The agent's waits for root's.
    let holder = NameHolder::start(&server, LOCK);
    let run = agents(program.as_os_str()).arg("unbind").spawn().unwrap();
    let mut run = waits(run, true);
    holder.release();
    assert!(end_of(&mut run).success() && !server.has(V4_BOUND));
    // Where a stranger has the name the agent's user has the file, too.
    let mut silent = server.command("perl");
    silent.env("SILENT", "1");
    let _stranger = NameHolder::start_by(silent, LOCK);
    let mut flock = agents("flock".as_ref());
    flock.args(["/proc/sys/net/ipv4/tcp_fastopen_key", "sh", "-c"]);
    flock.arg("echo held; exec cat");
    flock.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut flock = flock.spawn().unwrap();
    std::io::Read::read_exact(flock.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    let run = server.command(executable()).arg("bind").spawn().unwrap();
    let mut run = waits(run, false);
    drop(flock.stdin.take());
    flock.wait().unwrap();
    assert!(end_of(&mut run).success());
}

#[test]
fn a_stranger_cannot_have_the_sites_commands_run_side_by_side() {
    let lab = guides_lab(
        "[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = { command = [\"/bin/true\"], timeout_seconds = 20 }\n",
    );
    let server = lab.host("server1");
    let mut silent = server.command("perl");
    silent.env("SILENT", "1");
    let _stranger = NameHolder::start_by(silent, "command/192.168.56.250");
    // Another run's command, which has its name.
    let mut flock = server.command("flock");
    let file = "/proc/sys/net/ipv6/conf/all/stable_secret";
    flock.args(["-s", file, "sh", "-c", "echo held; exec cat"]);
    flock.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut flock = flock.spawn().unwrap();
    std::io::Read::read_exact(flock.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    let mut bind = server.command(executable()).arg("bind").spawn().unwrap();
    // The VIP does not wait, and the command does.
    eventually("the VIP is here", || server.has(V4_BOUND));
    assert!(wait_for(Duration::from_secs(1), || bind.try_wait().unwrap()).is_none());
    drop(flock.stdin.take());
    flock.wait().unwrap();
    assert!(end_of(&mut bind).success());
}

/// As user 65534: takes the name by a socket with no room for anybody, or hands it to a program that
/// runs with root's rights.
#[test]
fn a_stranger_cannot_hold_the_lock_by_tricks() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let program = lab.file("setuid", std::fs::read("/bin/sleep").unwrap());
    lab.run("chmod", ["4755", program.to_str().unwrap()]);
    lab.run("chmod", ["755", lab.dir().to_str().unwrap()]);
    let script = r#"
use Socket; $^F = 99;
socket(my $s, AF_UNIX, SOCK_STREAM, 0); my $name = pack_sockaddr_un("\0vipswitch/vip/192.168.56.250");
bind($s, $name) or die $!;
listen($s, $ARGV[0] eq "full" ? 0 : 9);
socket(my $c, AF_UNIX, SOCK_STREAM, 0); connect($c, $name) if $ARGV[0] eq "full";
$| = 1; print "r"; close STDOUT;
exec $ARGV[0] eq "full" ? "/bin/sleep" : $ARGV[1], "613";
"#;
    let tricks: &[&str] = if is_root() { &["full", "setuid"] } else { &[] };
    for trick in tricks {
        let mut stranger = server.command("setpriv");
        stranger.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "perl",
            "-e",
        ]);
        stranger.args([script, trick]).arg(&program);
        let mut stranger = stranger.stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(stranger.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
        if *trick == "setuid" {
            eventually("it has root's rights", || {
                let look = "grep ^Uid /proc/$(pgrep -f '[s]etuid 613')/status || true";
                server.run("sh", ["-c", look]).contains("\t0\t")
            });
        }
        for verb in ["bind", "unbind"] {
            let run = server.vipswitch([verb]);
            assert!(run.took < A_LOCKS_PATIENCE, "{trick}: {run}");
            run.success();
        }
        server.run("pkill", ["-KILL", "-f", "613"]);
        stranger.wait().unwrap();
    }
}

/// With a stranger on its name for a while, a run excludes those that have theirs.
#[test]
fn a_run_whose_name_is_denied_waits_for_those_that_have_theirs() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    // One that has its name and waits, with its lock, for the interface's.
    server.ok("bind");
    let interface = server.json("link show eth1")[0]["ifindex"].to_string();
    let holder = NameHolder::start(&server, &format!("interface/{interface}"));
    let mut first = server.command(executable()).arg("unbind").spawn().unwrap();
    eventually("it has its name", || {
        server
            .run("cat", ["/proc/net/unix"])
            .contains("@vipswitch/vip/192.168.56.250")
    });
    let other = lab.file("other.toml", "[masters.o]\nvip = \"192.168.56.251/24\"\n");
    let mut silent = server.command("perl");
    silent.env("SILENT", "1");
    let _stranger = NameHolder::start_by(silent, "vip/192.168.56.251");
    let mut second = server.command(executable());
    second.args(["bind", "--config"]).arg(&other);
    let mut second = second.spawn().unwrap();
    assert!(wait_for(Duration::from_secs(1), || second.try_wait().unwrap()).is_none());
    holder.release();
    for run in [&mut first, &mut second] {
        assert!(end_of(run).success());
    }
    assert!(server.has("192.168.56.251/32@eth1") && !server.has(V4_BOUND));
}

#[test]
fn a_run_without_any_lock_says_so() {
    let lab = guides_lab(BOTH);
    let server = lab.host("server1");
    let mut nobody = server.command("perl");
    nobody.env("SILENT", "1");
    let _holder = NameHolder::start_by(nobody, LOCK);
    let mut hidden = server.command("unshare");
    let script = "mount -t tmpfs none /proc/sys/net/ipv4 && exec \"$1\" bind";
    hidden.args(["--mount", "sh", "-c", script, "sh"]);
    hidden.arg(executable());
    finish(hidden).success();
    lab.logged(&["took_over=", "lock=none"]);
}
