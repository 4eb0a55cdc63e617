//! The site's own commands: when they run, what they are told, and what their failure means.

use crate::common::{
    Lab, NameHolder, V4_BOUND, end_of, eventually, executable, false_sentinel, finish,
    says_master_is,
};

/// A configuration whose commands write what they find to a file each.
fn with_commands(lab: &Lab, more: &str) {
    let script = lab.file(
        "tell",
        "#!/bin/sh\nenv | grep VIPSWITCH_ | sort > \"$1\"; echo \"args=$*\" >> \"$1\"\n",
    );
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let command = |name: &str| {
        format!(
            "{{ command = [\"{}\", \"{}\", \"; rm -rf $HOME\"]{more} }}",
            script.display(),
            lab.dir().join(name).display()
        )
    };
    lab.config(&format!(
        "[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {}\non_release = {}\n",
        command("taken"),
        command("released")
    ));
}

#[test]
fn the_sites_own_commands_run_after_the_frames_with_what_happened() {
    let lab = Lab::with_hosts(["server1", "server2", "client"]);
    with_commands(&lab, "");
    let server = lab.host("server1");
    server.ok("bind --dry-run");
    let read = |name: &str| std::fs::read_to_string(lab.dir().join(name)).ok();
    assert_eq!((read("taken"), read("released")), (None, None));
    server.hook("m", "192.168.56.101").success();
    let taken = read("taken").unwrap();
    for line in [
        "VIPSWITCH_MASTER=m",
        "VIPSWITCH_VIP=192.168.56.250",
        "VIPSWITCH_PREFIX=24",
        "VIPSWITCH_INTERFACE=eth1",
        "VIPSWITCH_FROM=192.168.56.109",
        "VIPSWITCH_TO=192.168.56.101",
    ] {
        assert!(taken.lines().any(|one| one == line), "{line} in {taken}");
    }
    // No shell has seen the arguments.
    assert!(taken.ends_with("; rm -rf $HOME\n"), "{taken}");
    assert_eq!(read("released"), None);
    server.hook("m", "192.168.56.102").success();
    assert!(
        read("released")
            .unwrap()
            .contains("VIPSWITCH_TO=192.168.56.102")
    );
}

#[test]
fn a_site_command_that_fails_is_logged_and_is_the_runs_failure_if_required() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    for (command, said) in [
        (
            "[\"/bin/false\"]",
            "the command /bin/false failed: exit status: 1",
        ),
        ("[\"/absent\"]", "the command /absent failed: No such file"),
        (
            "[\"/bin/sleep\", \"600\"], timeout_seconds = 1",
            "the command /bin/sleep failed: it took longer than 1 s and was killed",
        ),
    ] {
        for (required, code) in [("false", 0), ("true", 1)] {
            lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = {command}, required = {required} }}\n"));
            let run = server.hook("m", "192.168.56.101");
            assert_eq!(run.code(), code, "{run}");
            // It is the command that failed, not the take-over.
            assert!(server.has(V4_BOUND));
            lab.logged(&[&format!("site_command=\"{said}"), &format!("exit={code}")]);
            server.ok("unbind");
        }
    }
}

#[test]
fn a_bystander_runs_no_command() {
    let lab = Lab::with_hosts(["server1", "server2", "server3"]);
    with_commands(&lab, "");
    // From 192.168.56.109 to server2, and this is server3.
    lab.host("server3").hook("m", "192.168.56.102").success();
    lab.logged(&["nothing="]);
    assert!(!lab.dir().join("released").exists());
}

#[test]
fn a_required_command_of_a_release_is_run_again_by_the_retry() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\non_release = { command = [\"/bin/false\"], required = true }\n");
    server.ok("bind");
    for action in ["released=", "nothing="] {
        let call = [
            "m",
            "leader",
            "start",
            "192.168.56.101",
            "1",
            "192.168.56.102",
            "1",
        ];
        assert_eq!(server.vipswitch(call).code(), 1);
        lab.logged(&[action, "site_command=", "exit=1"]);
    }
    assert!(server.vipswitch(["bind"]).code() == 0);
    server
        .vipswitch(["unbind"])
        .fails(1, &["the command /bin/false failed"]);
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.config("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = { command = [\"/bin/sh\", \"-c\", \"sleep 611 & sleep 611\"], timeout_seconds = 1 }\n");
    assert_eq!(server.hook("m", "192.168.56.101").code(), 0);
    lab.logged(&["it took longer than 1 s and was killed"]);
    eventually("nothing is left", || {
        server
            .run("sh", ["-c", "pgrep -c -f '[s]leep 611' || true"])
            .trim()
            == "0"
    });
}

#[test]
fn a_command_has_nothing_of_sentinels() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let seen = lab.dir().join("seen");
    let look = format!(
        "{{ ls -l /proc/$$/fd | grep -c passwd; grep SigIgn /proc/$$/status; }} > {}",
        seen.display()
    );
    lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = [\"/bin/bash\", \"-c\", \"{look}\"] }}\n"));
    let script =
        "exec 7</etc/passwd; trap '' HUP ALRM; \"$1\" m leader start '' 1 192.168.56.101 1";
    let mut hook = server.command("bash");
    hook.args(["-c", script, "bash"]).arg(executable());
    finish(hook).success();
    let seen = std::fs::read_to_string(seen).unwrap();
    let (files, ignored) = seen.split_once('\n').unwrap();
    let ignored = u64::from_str_radix(ignored.split_whitespace().last().unwrap(), 16).unwrap();
    // HUP is 1, ALRM 14.
    assert_eq!((files, ignored & (1 | 1 << 13)), ("0", 0), "{seen}");
}

#[test]
fn commands_of_one_vip_run_one_at_a_time_and_hold_no_vip_up() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    let (order, gate) = (lab.dir().join("order"), lab.dir().join("gate"));
    lab.run("mkfifo", [gate.to_str().unwrap()]);
    let (order_name, gate_name) = (order.display(), gate.display());
    lab.config(&format!(
        "[masters.m]\nvip = \"192.168.56.250/24\"\n\
         on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"cat {gate_name}; echo taken >> {order_name}\"], timeout_seconds = 20 }}\n\
         on_release = {{ command = [\"/bin/sh\", \"-c\", \"echo released >> {order_name}\"] }}\n"
    ));
    let mut bind = server.command(executable()).arg("bind").spawn().unwrap();
    eventually("the first command runs", || {
        server
            .run("sh", ["-c", "pgrep -c -f '[c]at .*gate' || true"])
            .trim()
            != "0"
    });
    // The VIP is released meanwhile; its command waits.
    let mut unbind = server.command(executable()).arg("unbind").spawn().unwrap();
    eventually("the VIP is released", || !server.has(V4_BOUND));
    assert!(!order.exists() && unbind.try_wait().unwrap().is_none());
    std::fs::write(&gate, "go\n").unwrap();
    for child in [&mut bind, &mut unbind] {
        assert!(end_of(child).success());
    }
    let order_of_commands = std::fs::read_to_string(&order).unwrap();
    assert_eq!(order_of_commands, "taken\nreleased\n");
}

#[test]
fn a_command_whose_vip_has_moved_on_is_not_run() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    with_commands(&lab, "");
    let holder = NameHolder::start(&server, "command/192.168.56.250");
    let mut bind = server.command(executable()).arg("bind").spawn().unwrap();
    eventually("the VIP is here", || server.has(V4_BOUND));
    server.ip("addr del 192.168.56.250/32 dev eth1");
    holder.release();
    assert!(end_of(&mut bind).success());
    assert!(!lab.dir().join("taken").exists());
}

#[test]
fn a_command_is_told_where_the_master_is_by_sentinels_word() {
    let lab = Lab::with_hosts(["server1", "server2"]);
    let server = lab.host("server1");
    with_commands(&lab, "");
    let config = std::fs::read_to_string(lab.dir().join("vipswitch.toml")).unwrap();
    lab.config(&format!(
        "{config}[sentinel]\naddress = \"127.0.0.1:6800\"\n"
    ));
    false_sentinel(&server, "6800", &says_master_is("192.168.56.101"));
    lab.heard(|| {
        server.ok("unbind");
        server.hook("m", "192.168.56.102")
    });
    let taken = std::fs::read_to_string(lab.dir().join("taken")).unwrap();
    assert!(taken.contains("VIPSWITCH_TO=192.168.56.101\n"), "{taken}");
}
