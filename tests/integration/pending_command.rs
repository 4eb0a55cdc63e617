//! Commands of the site's own that have not succeeded yet: who runs them again, until when, and what
//! forgets them.

use std::path::PathBuf;

use crate::common::redis::{MASTER_8000, SERVERS, Site};
use crate::common::{
    Finished, Host, Lab, NameHolder, PATIENCE, V4_BOUND, end_of, eventually, executable, finish,
    is_root, wait_for,
};

/// The two commands: each writes what it is told into a file, and fails until another file is there.
struct Commands {
    ran: PathBuf,
    gate: PathBuf,
}

impl Commands {
    fn new(lab: &Lab) -> Commands {
        Commands {
            ran: lab.dir().join("ran"),
            gate: lab.dir().join("gate"),
        }
    }

    /// Returns their lines in a master's table.
    fn lines(&self, required: bool) -> String {
        let (ran, gate) = (self.ran.display(), self.gate.display());
        let line = |name: &str| {
            let script = format!(
                "echo {name} $VIPSWITCH_VIP $VIPSWITCH_INTERFACE $VIPSWITCH_TO >>{ran}; echo no API >&2; test -e {gate}"
            );
            format!(
                "{name} = {{ command = [\"/bin/sh\", \"-c\", \"{script}\"], required = {required}, timeout_seconds = 20 }}\n"
            )
        };
        line("on_take_over") + &line("on_release")
    }

    fn let_succeed(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }

    /// Returns what has run since the last time.
    fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.ran).unwrap_or_default();
        let _ = std::fs::remove_file(&self.ran);
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

const VIPS: &str = "vip = [\"192.168.56.250/24\", \"fd00::250/64\"]\n";

/// Runs `sync` until the Sentinels and Redis have answered in time, which they may not on a busy machine.
#[track_caller]
fn sync(host: &Host) -> Finished {
    let mut last = None;
    let heard = wait_for(PATIENCE, || {
        let run = host.vipswitch(["sync", "--json"]);
        let late = run.stdout.contains("\"error\":\"");
        last = Some(run);
        (!late).then_some(())
    });
    let last = last.unwrap();
    assert!(heard.is_some(), "{last}");
    last
}

fn pending(host: &Host) -> Vec<(String, u64)> {
    let rows = host.status();
    let each = rows.iter().map(|row| &row["pending_command"]);
    let each = each.filter(|pending| !pending.is_null());
    each.map(|pending| {
        let command = pending["command"].as_str().unwrap().to_owned();
        (command, pending["tries"].as_u64().unwrap())
    })
    .collect()
}

#[test]
fn a_command_that_fails_is_run_again_by_each_sync_until_it_has_succeeded() {
    let site = Site::new(&[MASTER_8000]);
    let [one, two, _] = SERVERS.map(|server| site.host(server));
    let commands = Commands::new(site.lab());
    site.configure(&format!(
        "[masters.master8000]\n{VIPS}{}",
        commands.lines(true)
    ));
    // As after a reboot, and both VIPs where they do not belong.
    one.ip("addr flush dev eth1 to 192.168.56.250");
    two.ip("addr add 192.168.56.250/24 dev eth1");
    two.ip("addr add fd00::250/64 dev eth1 nodad");
    for (host, name) in [(&two, "on_release"), (&one, "on_take_over")] {
        let both = [
            format!("{name} 192.168.56.250 eth1"),
            format!("{name} fd00::250 eth1"),
        ];
        let both_once = || {
            let mut ran = commands.ran();
            ran.sort();
            assert_eq!(ran, both, "{name}");
        };
        for tries in 1..=3 {
            let run = sync(host);
            assert_eq!(run.code(), 1, "{run}");
            assert!(
                run.stdout.contains("the end of its stderr: no API"),
                "{run}"
            );
            both_once();
            let name = name.to_owned();
            assert_eq!(pending(host), [(name.clone(), tries), (name, tries)]);
        }
        let said = host.ok("status --quiet");
        for part in [
            &format!("{name} is PENDING ("),
            "it was tried 3 times: the command /bin/sh failed: exit status: 1; the end of its stderr: no API",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        commands.let_succeed();
        assert_eq!(sync(host).code(), 0);
        both_once();
        assert_eq!(pending(host), []);
        for _ in 0..2 {
            assert_eq!(sync(host).code(), 0);
        }
        assert_eq!(commands.ran(), [""; 0]);
        std::fs::remove_file(&commands.gate).unwrap();
    }
    assert!(one.has(V4_BOUND) && !two.has(V4_BOUND));
    // The folder is in memory: a reboot forgets, and the VIPs are bound again.
    commands.let_succeed();
    one.ip("addr flush dev eth1 to 192.168.56.250");
    one.run("sh", ["-c", "rm -r /run/vipswitch"]);
    assert_eq!(sync(&one).code(), 0);
    assert!(
        commands
            .ran()
            .contains(&"on_take_over 192.168.56.250 eth1".to_owned())
    );
}

#[test]
fn a_command_that_is_not_required_is_pending_as_well_and_no_failure_of_sync() {
    let site = Site::new(&[MASTER_8000]);
    let one = site.host("server1");
    let commands = Commands::new(site.lab());
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{}",
        commands.lines(false)
    ));
    for tries in 1..=2 {
        assert_eq!(sync(&one).code(), 0);
        assert_eq!(pending(&one), [("on_take_over".to_owned(), tries)]);
    }
    site.lab()
        .logged(&["site_command=\"the command /bin/sh failed", " exit=0"]);
    assert_eq!(commands.ran().len(), 2);
}

/// Runs `vipswitch` with these words, killed where it would start its first process.
fn killed(host: &Host, words: &str) {
    let mut command = host.command("strace");
    command.args(["-qq", "-o", "/dev/null", "-e", "trace=clone,clone3,vfork"]);
    command.args(["-e", "inject=clone,clone3,vfork:signal=SIGKILL:when=1"]);
    command.arg(executable()).args(words.split(' '));
    let run = finish(command);
    assert_eq!(run.code(), 137, "{run}");
}

const TO_HERE: &str = "master8000 leader start 192.168.56.102 8000 192.168.56.101 8000";

#[test]
fn a_run_that_is_killed_between_the_vip_and_its_command_leaves_the_command_to_the_next() {
    let site = Site::new(&[MASTER_8000]);
    let one = site.host("server1");
    let commands = Commands::new(site.lab());
    commands.let_succeed();
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{}",
        commands.lines(true)
    ));
    // What an earlier tenure was told counts for nothing.
    one.ok("bind");
    one.ok("unbind");
    commands.ran();
    killed(&one, TO_HERE);
    assert!(one.has(V4_BOUND));
    assert_eq!(commands.ran(), [""; 0]);
    assert_eq!(pending(&one), [("on_take_over".to_owned(), 0)]);
    assert_eq!(sync(&one).code(), 0);
    assert_eq!(commands.ran(), ["on_take_over 192.168.56.250 eth1"]);
    killed(&one, "unbind");
    assert!(!one.has(V4_BOUND));
    assert_eq!(pending(&one), [("on_release".to_owned(), 0)]);
    one.ok("unbind");
    assert_eq!(commands.ran(), ["on_release 192.168.56.250 eth1"]);
    one.ok("unbind");
    assert_eq!(commands.ran(), [""; 0]);
}

#[test]
fn a_sync_that_begins_before_a_hooks_command_has_its_turn_repeats_nothing() {
    let site = Site::new(&[MASTER_8000]);
    let one = site.host("server1");
    let commands = Commands::new(site.lab());
    commands.let_succeed();
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{}",
        commands.lines(false)
    ));
    one.ip("addr flush dev eth1 to 192.168.56.250");
    let holder = NameHolder::start(&one, "command/192.168.56.250");
    one.vipswitch(TO_HERE.split(' ')).success();
    let mut sync = one.command(executable()).arg("sync").spawn().unwrap();
    let find = |which: &str| {
        let script = format!("pgrep {which} -f '[s]ite-command.*is_routine.:true' || true");
        one.run("sh", ["-c", &script]).trim().to_owned()
    };
    eventually("sync's command waits as well", || find("-c") == "1");
    // It comes second.
    let waits = find("-n");
    one.run("kill", ["-STOP", &waits]);
    holder.release();
    site.lab().logged(&["msg=\"ran ", "command=on_take_over"]);
    one.run("kill", ["-CONT", &waits]);
    assert!(end_of(&mut sync).success());
    assert_eq!(
        commands.ran(),
        ["on_take_over 192.168.56.250 eth1 192.168.56.101"]
    );
    assert_eq!(pending(&one), []);
}

const HOOKED: &str = "[masters.m]\nvip = \"192.168.56.250/24\"\n";

#[test]
fn a_pending_command_is_dropped_when_the_vip_has_moved_since() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let commands = Commands::new(&lab);
    lab.config(&format!("{HOOKED}{}", commands.lines(true)));
    let call = |to: &str| {
        let from = if to == "192.168.56.101" {
            "192.168.56.102"
        } else {
            "192.168.56.101"
        };
        server.vipswitch(["m", "leader", "start", from, "1", to, "1"])
    };
    let mut expected = Vec::new();
    for _ in 0..2 {
        assert_eq!(call("192.168.56.101").code(), 1);
        expected.push("on_take_over 192.168.56.250 eth1 192.168.56.101");
        assert_eq!(call("192.168.56.102").code(), 1);
        expected.push("on_release 192.168.56.250 eth1 192.168.56.102");
    }
    eventually("all have run", || {
        std::fs::read_to_string(&commands.ran).is_ok_and(|ran| ran.lines().count() >= 4)
    });
    assert_eq!(commands.ran(), expected);
    commands.let_succeed();
    // Which interface it was on is remembered.
    eventually("Sentinel's next try succeeds", || {
        call("192.168.56.102").code() == 0
    });
    let ran = commands.ran();
    assert_eq!(ran[0], expected[3]);
    assert_eq!(call("192.168.56.102").code(), 0);
    assert_eq!(commands.ran(), [""; 0]);
}

#[test]
fn the_release_of_a_vip_that_somebody_else_has_removed_is_told_once() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let commands = Commands::new(&lab);
    commands.let_succeed();
    lab.config(&format!("{HOOKED}{}", commands.lines(true)));
    server.ok("bind");
    server.ip("addr del 192.168.56.250/32 dev eth1");
    commands.ran();
    // Not from this host.
    eventually("the command has succeeded", || {
        server.hook("m", "192.168.56.102").code() == 0
    });
    let told = "on_release 192.168.56.250 eth1 192.168.56.102";
    assert_eq!(commands.ran(), [told]);
    server.hook("m", "192.168.56.102").success();
    assert_eq!(commands.ran(), [""; 0]);
}

#[test]
fn commands_that_hooks_have_left_behind_keep_their_order() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let (order, gate) = (lab.dir().join("order"), lab.dir().join("gate"));
    lab.run("mkfifo", [gate.to_str().unwrap()]);
    let (order_name, gate_name) = (order.display(), gate.display());
    lab.config(&format!(
        "{HOOKED}on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"cat {gate_name}; echo taken >>{order_name}\"], timeout_seconds = 20 }}\n\
         on_release = {{ command = [\"/bin/sh\", \"-c\", \"echo released >>{order_name}\"] }}\n"
    ));
    server.hook("m", "192.168.56.101").success();
    eventually("the first command runs", || {
        let count = server.run("sh", ["-c", "pgrep -c -f '[c]at .*gate' || true"]);
        count.trim() != "0"
    });
    server.hook("m", "192.168.56.102").success();
    assert!(!server.has(V4_BOUND) && !order.exists());
    std::fs::write(&gate, "go\n").unwrap();
    lab.logged(&["msg=\"ran ", "command=on_release"]);
    assert_eq!(
        std::fs::read_to_string(&order).unwrap(),
        "taken\nreleased\n"
    );
    assert_eq!(pending(&server), []);
}

#[test]
fn where_nothing_can_be_remembered_sync_runs_no_command_each_time_and_says_so() {
    let site = Site::new(&[MASTER_8000]);
    let one = site.host("server1");
    let commands = Commands::new(site.lab());
    commands.let_succeed();
    site.configure(&format!(
        "[masters.master8000]\nvip = \"192.168.56.250/24\"\n{}",
        commands.lines(true)
    ));
    // Everybody could write to it.
    one.run(
        "sh",
        ["-c", "rm -rf /run/vipswitch; mkdir -m 777 /run/vipswitch"],
    );
    one.ip("addr flush dev eth1 to 192.168.56.250");
    for _ in 0..3 {
        assert_eq!(sync(&one).code(), 0);
    }
    assert_eq!(commands.ran(), ["on_take_over 192.168.56.250 eth1"]);
    site.lab()
        .logged(&["command=on_take_over", "not_remembered=\"others than root"]);
}

#[test]
fn what_others_leave_in_the_folder_is_neither_followed_nor_handed_on() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let commands = Commands::new(&lab);
    commands.let_succeed();
    lab.config(&format!("{HOOKED}{}", commands.lines(true)));
    server.ok("bind");
    commands.ran();
    let find = ["-c", "ls /run/vipswitch/*-192.168.56.250.command.json"];
    let path = server.run("sh", find).trim().to_owned();
    let lie = "{\"master\":\"m\",\"here\":false,\"done\":false,\"circumstances\":{\"interface\":\"x\",\"from\":\"\",\"to\":\"$(reboot)\"},\"tries\":1,\"failed\":null,\"by\":1}";
    let target = lab.file("target", lie);
    for put in [
        format!("echo '{lie}' >{path}"),
        format!("ln -s {} {path}", target.display()),
        format!("mkfifo {path}"),
        format!("head -c 20000 /dev/zero >{path}"),
        format!("mkdir {path}"),
    ] {
        server.ok("bind");
        server.run("sh", ["-c", &format!("rm -r {path}; {put}")]);
        commands.ran();
        assert_eq!(pending(&server), [("on_take_over".to_owned(), 0)], "{put}");
        server.ok("unbind");
        assert_eq!(commands.ran(), ["on_release 192.168.56.250 eth1"], "{put}");
        server.run("sh", ["-c", &format!("rm -rf {path}")]);
    }
    assert_eq!(std::fs::read_to_string(target).unwrap(), lie);
}

/// What Debian's unit starts Sentinel's hook with. In an ordinary user's lab there is no other user.
fn as_sentinels_user() -> Vec<&'static str> {
    match is_root() {
        false => vec!["env"],
        true => vec![
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=+net_admin,+net_raw",
            "--ambient-caps=+net_admin,+net_raw",
        ],
    }
}

#[test]
fn sentinels_user_and_root_share_what_is_remembered() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let commands = Commands::new(&lab);
    lab.config(&format!("{HOOKED}{}", commands.lines(true)));
    std::fs::copy(executable(), lab.dir().join("vipswitch")).unwrap();
    let prepare = "cd \"$1\"; chmod 711 .; chmod 644 vipswitch.toml; chmod 755 vipswitch; : >ran; chmod 666 ran log
                   install -d -m 0775 -g \"$2\" /run/vipswitch";
    let group = if is_root() { "65534" } else { "0" };
    let folder = lab.dir().to_str().unwrap();
    server.run("sh", ["-c", prepare, "sh", folder, group]);
    let call = |user: &[&str]| {
        let mut hook = server.command(user[0]);
        hook.args(&user[1..]).arg(lab.dir().join("vipswitch"));
        hook.args(["m", "leader", "start", "", "1", "192.168.56.101", "1"]);
        finish(hook).code()
    };
    let (redis, root) = (as_sentinels_user(), ["env"]);
    for (user, tries) in [(&redis[..], 1), (&root, 2), (&redis, 3)] {
        assert_eq!(call(user), 1);
        lab.logged(&[
            "msg=\"the command /bin/sh failed",
            &format!(" try={tries} "),
        ]);
        assert_eq!(pending(&server), [("on_take_over".to_owned(), tries)]);
    }
    commands.let_succeed();
    eventually("root's succeeds", || call(&root) == 0);
    assert_eq!(pending(&server), []);
    assert_eq!(call(&redis), 0);
    assert!(
        lab.log()
            .iter()
            .all(|line| !line.contains("not_remembered"))
    );
}
