//! The configuration file and the files that it names: who may write them, and how a mistake is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use crate::common::{Lab, end_of, eventually, executable, finish, is_root};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const CONFIG: &str = "[masters.master8000]\nvip = \"192.168.56.250/24\"\n\
    [masters.bind]\nvip = \"192.168.56.251/24\"\n";

const VIP: &str = "192.168.56.250/32@eth1";

/// One host, 192.168.56.101, with a configuration.
fn lab() -> Lab {
    let lab = Lab::with_hosts(["server1"]);
    lab.config(CONFIG);
    lab
}

#[test]
fn the_configuration_is_read_only_from_where_nobody_else_can_write() {
    let lab = lab();
    let host = lab.host("server1");
    let config = |path: &std::path::Path| {
        let mut command = host.command(executable());
        command.args(["status", "--config"]).arg(path);
        finish(command)
    };
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };

    config(&lab.dir().join("absent.toml")).fails(
        2,
        &[
            "absent.toml: No such file",
            "Create it, or name another file",
        ],
    );
    config(&lab.dir().join("absent/v.toml")).fails(2, &["No such file"]);
    config(&lab.file("empty.toml", ""))
        .fails(2, &["empty.toml: it is empty. Add a table [masters.NAME]"]);
    config(&lab.file("blank.toml", " \n\n")).fails(2, &["blank.toml: it is empty"]);
    config(&lab.file("latin1.toml", b"# caf\xe9\n")).fails(2, &["it is not valid UTF-8 at byte 5"]);
    config(&lab.file("large.toml", " ".repeat((1 << 20) + 1))).fails(2, &["larger than 1 MiB"]);
    config(lab.dir()).fails(2, &["it is not a regular file"]);
    config("/dev/zero".as_ref()).fails(2, &["it is not a regular file"]);
    let fifo = lab.dir().join("fifo.toml");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    config(&fifo).fails(2, &["it is not a regular file"]);
    let socket = lab.dir().join("socket.toml");
    let _listener = UnixListener::bind(&socket).unwrap();
    config(&socket).fails(2, &["it is not a regular file"]);

    let file = lab.file("writable.toml", CONFIG);
    mode(&file, 0o620);
    config(&file).fails(
        2,
        &["it can be written by others (mode 0620)", "chmod go-w"],
    );
    mode(&file, 0o602);
    config(&file).fails(2, &["it can be written by others (mode 0602)"]);
    mode(&file, 0o644);
    config(&file).success();

    let folder = lab.dir().join("shared");
    fs::create_dir(&folder).unwrap();
    let file = lab.file("shared/v.toml", CONFIG);
    mode(&folder, 0o777);
    config(&file).fails(2, &["shared on the way to it can be written by others"]);
    // The link itself is safe, what it points to is not.
    let link = lab.dir().join("link.toml");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    config(&link).fails(2, &["shared on the way to it can be written by others"]);
    // Nor is a link on the way there.
    let safe = lab.file("safe.toml", CONFIG);
    std::os::unix::fs::symlink(&safe, folder.join("hop.toml")).unwrap();
    let hops = lab.dir().join("hops.toml");
    std::os::unix::fs::symlink(folder.join("hop.toml"), &hops).unwrap();
    config(&hops).fails(2, &["shared on the way to it can be written by others"]);
    mode(&folder, 0o755);
    config(&hops).success();
    config(&link).success();
    config(&file).success();
}

/// Whoever owns a folder further up can put another one, or a link, in its place.
#[test]
fn every_folder_on_the_way_to_the_configuration_is_judged() {
    let lab = lab();
    let host = lab.host("server1");
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };
    let above = lab.dir().join("above");
    let below = above.join("middle/below");
    fs::create_dir_all(&below).unwrap();
    let file = lab.file("above/middle/below/v.toml", CONFIG);
    let link = lab.dir().join("link");
    std::os::unix::fs::symlink(&below, &link).unwrap();
    let relative = lab.dir().join("relative");
    std::os::unix::fs::symlink("above/middle/../middle", &relative).unwrap();
    let ways = [
        file.clone(),
        link.join("v.toml"),
        relative.join("below/v.toml"),
        link.join("../below/v.toml"),
    ];
    let status = |path: &std::path::Path| {
        let mut command = host.command(executable());
        command.args(["status", "--config"]).arg(path);
        finish(command)
    };
    for way in &ways {
        status(way).success();
    }
    mode(&above, 0o777);
    for way in &ways {
        status(way).fails(2, &["above on the way to it can be written by others"]);
    }
    // As in /tmp nobody can replace what is another's.
    mode(&above, 0o1777);
    for way in &ways {
        status(way).success();
    }
    mode(&above, 0o755);
    if is_root() {
        std::os::unix::fs::chown(above.join("middle"), Some(65534), None).unwrap();
        for way in &ways {
            status(way).fails(2, &["middle on the way to it belongs to user id 65534"]);
        }
        // Another's link in a folder where everyone may put one.
        std::os::unix::fs::chown(above.join("middle"), Some(0), None).unwrap();
        mode(&above, 0o1777);
        let strangers = above.join("strangers");
        std::os::unix::fs::symlink(&below, &strangers).unwrap();
        status(&strangers.join("v.toml")).success();
        std::os::unix::fs::lchown(&strangers, Some(65534), None).unwrap();
        status(&strangers.join("v.toml")).fails(2, &["above can be written by others"]);
    }
}

#[test]
fn a_configuration_that_is_half_written_is_read_again() {
    let lab = lab();
    let host = lab.host("server1");
    let path = lab.config(CONFIG);
    let half = "[masters.bind]\nvip = \"192.168.56.251/24\"\n";
    for before in [
        Some(""),
        Some("[masters.master8000]\nvip = \"192.16"),
        Some(half),
        None,
    ] {
        // On a busy machine the second may be over before the file is there.
        let moved = (0..10).any(|_| {
            match before {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let trace = lab.unique("trace");
            let mut hook = host.command("strace");
            hook.args(["-qq", "-e", "trace=openat", "-o"]);
            hook.arg(&trace).arg(executable());
            hook.args(["master8000", "leader", "start", "", "1"]);
            let mut hook = hook.args(["192.168.56.101", "1"]).spawn().unwrap();
            let mut was_late = false;
            eventually("it reads the file again, or has given up", || {
                let calls = fs::read_to_string(&trace).unwrap_or_default();
                was_late = hook.try_wait().unwrap().is_some();
                was_late || calls.matches("vipswitch.toml").count() > 1
            });
            assert!(!host.has(VIP), "{before:?}");
            lab.config(CONFIG);
            end_of(&mut hook).success() && !was_late
        });
        assert!(moved && host.has(VIP), "{before:?}");
        host.ok("unbind master8000");
    }
}

#[test]
fn a_password_file_that_everyone_can_read_is_refused() {
    let lab = lab();
    let host = lab.host("server1");
    let password = lab.file("password", "secret\n");
    lab.config(&format!(
        "{CONFIG}[sentinel]\npassword_file = \"{}\"\n",
        password.display()
    ));
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let said = host.ok("status");
    assert!(
        said.contains("everyone can read it") && !said.contains("secret"),
        "{said}"
    );
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(host.ok("status").contains("did not answer"));
    fs::remove_file(&password).unwrap();
    assert!(
        host.ok("status")
            .contains("correct its path in the configuration")
    );
}

#[test]
fn a_configuration_of_another_user_is_refused() {
    let lab = lab();
    let host = lab.host("server1");
    let path = if is_root() {
        let path = lab.file("other.toml", CONFIG);
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        path
    } else {
        // In this user namespace the host's root is somebody else.
        "/etc/passwd".into()
    };
    let mut command = host.command(executable());
    command.args(["status", "--config"]).arg(&path);
    finish(command).fails(2, &["belongs to user id 65534"]);
}

#[test]
fn a_mistake_in_the_configuration_is_named_by_place_and_reaches_the_log() {
    let lab = lab();
    let host = lab.host("server1");
    let path = lab.config("[masters.master8000]\nvpi = \"192.168.56.250/24\"\n");
    let said = format!(
        "{}:2:1: unknown field `vpi`, expected one of `vip`, `interface`, `announce_to`, `redis_username`, `redis_password_file`, `tls`, `on_take_over`, `on_release`, `on_isolation`, `on_redis_death`, `tell_clients`. Did you mean `vip`?",
        path.display()
    );
    host.vipswitch(["bind", "--all"]).fails(2, &[&said]);
    host.hook("master8000", "192.168.56.101").fails(2, &[&said]);
    lab.logged(&["unknown field", "master=master8000", "exit=2"]);
}

#[test]
fn the_option_names_another_configuration_than_the_environment() {
    let lab = lab();
    let host = lab.host("server1");
    let other = lab.file(
        "other.toml",
        "[masters.other]\nvip = \"192.168.56.252/24\"\n",
    );
    host.ok(&format!("bind --config {}", other.display()));
    assert!(host.has("192.168.56.252/32@eth1") && !host.has(VIP));
    // An empty variable names nothing.
    let mut command = host.command(executable());
    command.arg("status").env("VIPSWITCH_CONFIG", "");
    finish(command).fails(2, &["/etc/vipswitch.toml"]);
}
