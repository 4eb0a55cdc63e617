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
    // The hook has not waited for it.
    lab.logged(&["msg=\"ran ", "command=on_take_over try=1"]);
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
    lab.logged(&["msg=\"ran ", "command=on_release try=1"]);
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
            lab.logged(&[" role=", &format!(" exit={code}")]);
            lab.logged(&[&format!("msg=\"{said}"), "command=on_take_over"]);
            server.ok("unbind");
            // An operator's command waits for its end.
            let bind = server.vipswitch(["bind"]).fails(code, &[said]);
            assert!(server.has(V4_BOUND), "{bind}");
            lab.logged(&[
                "why=bind",
                &format!("site_command=\"{said}"),
                &format!(" exit={code}"),
            ]);
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
    lab.logged(&["command=on_release try=2"]);
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
    lab.logged(&["msg=\"ran ", "command=on_take_over"]);
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
    eventually("its command waits", || {
        let count = server.run("sh", ["-c", "pgrep -c -f '[s]ite-command' || true"]);
        server.has(V4_BOUND) && count.trim() != "0"
    });
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
    lab.logged(&["msg=\"ran ", "command=on_take_over"]);
    let taken = std::fs::read_to_string(lab.dir().join("taken")).unwrap();
    assert!(taken.contains("VIPSWITCH_TO=192.168.56.101\n"), "{taken}");
}

/// Configures a command that is this script, for both directions or for the take-over.
fn with_script(lab: &Lab, script: &str, more: &str) -> String {
    let path = lab.file("script", script);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = path.display().to_string();
    lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = [\"{path}\"]{more} }}\n"));
    path
}

#[test]
fn a_script_that_cannot_be_run_as_it_stands_is_named_with_the_cause() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    for (script, parts) in [
        (
            "#!/bin/bash\r\necho\r\n",
            [
                "\"#!/bin/bash\\r\" ends with a carriage return",
                "sed -i 's/\\r$//' ",
            ],
        ),
        (
            "#!/usr/bin/env bash\r\necho\r\n",
            [
                "bash\\r\" ends with a carriage return",
                "sed -i 's/\\r$//' ",
            ],
        ),
        (
            "#!/usr/bin/pyhton3 -u\n",
            [
                "names the interpreter \"/usr/bin/pyhton3\", which is not there",
                "correct that line",
            ],
        ),
    ] {
        with_script(&lab, script, ", required = true");
        server.vipswitch(["bind"]).fails(1, &parts);
        server.ok("unbind");
    }
}

#[test]
fn the_end_of_a_commands_stderr_is_in_the_log() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let much = "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2\n\
                for number in 1 2 3 4 5 6; do printf \"line $number\\033[31m\\n\" >&2; done\n";
    let end = "stderr: line 2\\u{1b}[31m | line 3\\u{1b}[31m | line 4\\u{1b}[31m | line 5\\u{1b}[31m | line 6\\u{1b}[31m.";
    for (after, why) in [
        ("exit 3\n", "failed: exit status: 3; "),
        ("sleep 612\n", "was killed; "),
        // What it leaves behind keeps its stderr open.
        ("sleep 20 & exit 4\n", "failed: exit status: 4; "),
    ] {
        with_script(
            &lab,
            &format!("{much}{after}"),
            ", timeout_seconds = 3, required = true",
        );
        server.vipswitch(["bind"]).fails(1, &[why, end]);
        lab.logged(&[why, end, "command=on_take_over"]);
        server.ok("unbind");
    }
}

#[test]
fn a_hook_leaves_a_command_behind_that_takes_long() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let gate = lab.dir().join("gate");
    for (required, code) in [("false", 0), ("true", 1)] {
        lab.run("mkfifo", [gate.to_str().unwrap()]);
        let script = format!("#!/bin/sh\ncat {}\n", gate.display());
        with_script(
            &lab,
            &script,
            &format!(", timeout_seconds = 20, required = {required}"),
        );
        assert_eq!(server.hook("m", "192.168.56.101").code(), code);
        assert!(server.ok("status").contains("on_take_over is PENDING"));
        // Nothing ended it with the hook.
        std::fs::write(&gate, "go\n").unwrap();
        lab.logged(&["msg=\"ran ", "command=on_take_over try=1"]);
        // Sentinel's next try finds that it has succeeded.
        assert_eq!(server.hook("m", "192.168.56.101").code(), 0);
        assert!(!server.ok("status").contains("PENDING"));
        server.ok("unbind");
        std::fs::remove_file(&gate).unwrap();
    }
    let ran = lab
        .log()
        .into_iter()
        .filter(|line| line.contains("msg=\"ran "));
    assert_eq!(ran.count(), 2, "{:#?}", lab.log());
}

#[test]
fn a_command_does_not_wait_for_another_vip_of_its_master() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    lab.wire("server1", "eth2");
    server.ip("addr add 192.168.57.101/24 dev eth2");
    server.ip("link set eth2 down");
    let ran = lab.dir().join("ran");
    lab.config(&format!(
        "[masters.m]\nvip = [\"192.168.57.250/24\", \"192.168.56.250/24\"]\n\
         on_take_over = {{ command = [\"/bin/sh\", \"-c\", \"echo $VIPSWITCH_VIP >>{}\"], required = true }}\n",
        ran.display()
    ));
    let mut hook = server.command(executable());
    hook.args(["m", "leader", "start", "", "1", "192.168.56.101", "1"]);
    let mut hook = hook.spawn().unwrap();
    let read = || std::fs::read_to_string(&ran).unwrap_or_default();
    eventually("the healthy VIP's command has run", || {
        read() == "192.168.56.250\n"
    });
    assert!(
        hook.try_wait().unwrap().is_none(),
        "the other VIP is still being tried"
    );
    server.ip("link set eth2 up");
    assert!(end_of(&mut hook).success());
    assert_eq!(read(), "192.168.56.250\n192.168.57.250\n", "each once");
}

/// Starts the process of a site's command as a stranger would who may run vipswitch with any arguments.
fn start_job(lab: &Lab, job: &str, config: &str) -> i32 {
    let config = lab.dir().join(config);
    let job = format!("--job={job}");
    let words = ["site-command", &job, "--config", config.to_str().unwrap()];
    lab.host("server1").vipswitch(words).code()
}

/// Returns a job in JSON.
fn job(master: &str, vip: &str, here: bool, is_routine: bool, more: &str) -> String {
    format!(
        "{{\"master\":\"{master}\",\"vip\":\"{vip}\",\"here\":{here},\"again\":false,\"is_routine\":{is_routine},\"circumstances\":{{\"interface\":\"eth1\",\"from\":\"\",\"to\":\"\"}}{more}}}"
    )
}

#[test]
fn only_commands_of_the_configuration_are_run_for_what_it_knows() {
    let lab = Lab::with_hosts(["server1"]);
    with_commands(&lab, "");
    let server = lab.host("server1");
    let [taken, released, stolen] =
        ["taken", "released", "stolen"].map(|name| lab.dir().join(name));
    let text = std::fs::read_to_string(lab.dir().join("vipswitch.toml")).unwrap();
    lab.file("one.toml", text.split("on_release").next().unwrap());
    for vip in ["192.168.56.250/32", "192.168.56.251/32", "fd00::250/128"] {
        server.ip(&format!("addr add {vip} dev eth1"));
    }
    let known = "192.168.56.250/24";
    let program = format!(
        ",\"argv\":[\"/bin/touch\",\"{}\"],\"seconds\":5",
        stolen.display()
    );
    let lie = job("m", known, true, false, "").replace("eth1", "eth1\\nX=1");
    let option = job("m", known, true, false, "").replace("\"to\":\"\"", "\"to\":\"-rf\"");
    let (whole, part) = ("vipswitch.toml", "one.toml");
    for (job, config, said) in [
        (
            job("m", known, true, false, &program),
            whole,
            "unknown field `argv`",
        ),
        (
            job("x", known, true, false, ""),
            whole,
            "no master 'x' in the configuration",
        ),
        (
            job("m", "192.168.56.251/24", true, false, ""),
            whole,
            "no such VIP",
        ),
        (
            job("m", "fd00::250/64", true, false, ""),
            whole,
            "no such VIP",
        ),
        (job("m", known, false, false, ""), part, "no such command"),
        (lie, whole, "circumstances"),
        (option, whole, "circumstances"),
        (
            job("m", known, true, false, ""),
            "absent.toml",
            "absent.toml",
        ),
    ] {
        start_job(&lab, &job, config);
        lab.logged(&["msg=", said]);
        assert!(
            !taken.exists() && !released.exists() && !stolen.exists(),
            "{job}"
        );
    }
    // The prefix length is the configuration's, too.
    assert_eq!(
        start_job(&lab, &job("m", "192.168.56.250/8", true, false, ""), whole),
        0
    );
    let told = std::fs::read_to_string(&taken).unwrap();
    assert!(told.contains("VIPSWITCH_PREFIX=24\n"), "{told}");
}

#[test]
fn a_command_is_the_one_of_the_configuration_of_the_moment() {
    let lab = Lab::with_hosts(["server1"]);
    let server = lab.host("server1");
    let line = |name: &str| {
        let path = lab.dir().join(name);
        lab.config(&format!("[masters.m]\nvip = \"192.168.56.250/24\"\non_take_over = {{ command = [\"/bin/touch\", \"{}\"], required = true }}\n", path.display()));
        path
    };
    let before = line("before");
    server.ip("addr add 192.168.56.250/32 dev eth1");
    let after = line("after");
    let of_before = job("m", "192.168.56.250/24", true, true, "");
    assert_eq!(start_job(&lab, &of_before, "vipswitch.toml"), 0);
    assert!(after.exists() && !before.exists());
}

#[test]
fn a_routine_repeats_nothing_that_a_hook_has_told_meanwhile() {
    let lab = Lab::with_hosts(["server1"]);
    with_commands(&lab, "");
    let server = lab.host("server1");
    let taken = lab.dir().join("taken");
    server.hook("m", "192.168.56.101").success();
    lab.logged(&["msg=\"ran ", "command=on_take_over"]);
    std::fs::remove_file(&taken).unwrap();
    // As `sync` has made it before the hook's command had its turn.
    let routine = job("m", "192.168.56.250/24", true, true, "");
    assert_eq!(start_job(&lab, &routine, "vipswitch.toml"), 0);
    assert!(!taken.exists());
    // One that the hook has tried in vain is run with what the hook knew.
    let find =
        "sed -i 's/\"done\":true/\"done\":false/' /run/vipswitch/*-192.168.56.250.command.json";
    server.run("sh", ["-c", find]);
    assert_eq!(start_job(&lab, &routine, "vipswitch.toml"), 0);
    let told = std::fs::read_to_string(&taken).unwrap();
    for part in [
        "VIPSWITCH_FROM=192.168.56.109\n",
        "VIPSWITCH_TO=192.168.56.101\n",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn no_announcer_is_had_for_an_address_that_is_no_vip() {
    let lab = Lab::with_hosts(["server1"]);
    with_commands(&lab, "");
    let server = lab.host("server1");
    let config = lab.dir().join("vipswitch.toml");
    let job = "--job={\"master\":\"m\",\"vip\":\"192.168.56.101/24\",\"ifindex\":2,\"peers\":[]}";
    let words = ["announcer", job, "--config", config.to_str().unwrap()];
    assert_eq!(server.vipswitch(words).code(), 2);
    lab.logged(&["cannot announce 192.168.56.101/24: it is no VIP of the configuration"]);
}
