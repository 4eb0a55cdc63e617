//! The hook as Sentinel's configuration names it, and the files that it, or the agent, needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Known;
use crate::gather::told::{Watched, get};
use crate::privilege::Process;
use crate::report::finding::{Findings, Verdict, error, error_if, unknown, warning};
use crate::text::escape;
use crate::trusted_file::access::{User, Want, has_capabilities, identity, is_noexec, obstacle};
use crate::trusted_file::check_program;

/// Why a fact about Sentinel's process is missing.
pub const NOT_SEEN: &str = "Sentinel's process may not be looked at: run this as root";

/// Where packages put the executable, to which /usr/bin/vipswitch leads.
const PACKAGED: &str = "/usr/lib/vipswitch/vipswitch";

pub fn judge(known: &Known, findings: &mut Findings) {
    let agent = known.agent.as_ref().ok();
    let agent = agent.and_then(|agent| Process::look(agent.pid));
    // Whoever does the work reads the configuration and runs the site's commands.
    if let Some(worker) = agent.as_ref().or(known.process.as_ref()) {
        let worker = &User::from(worker);
        // The passwords of Redis are for the agent, and for `sync`, which the packages' timer runs as root.
        for path in known.config.files(agent.is_some()) {
            findings.add("config-readable", shown(&path), readable(worker, &path));
        }
        let masters = known.config.masters.values();
        let commands = masters.flat_map(|master| [&master.on_take_over, &master.on_release]);
        for command in commands.flatten() {
            let program = Path::new(command.program());
            let verdict = site_command(worker, program);
            findings.add("site-command", shown(program), verdict);
        }
    }
    if let Some(process) = &known.process {
        for path in scripts(known) {
            program(&User::from(process), &path, findings);
        }
    } else if known.sentinel.is_ok() {
        findings.add("executable", "", unknown(NOT_SEEN));
    }
    for one in known.watched() {
        let verdict = script(one, known);
        findings.add("client-reconfig-script", escape(&one.name), verdict);
    }
}

/// Returns each `client-reconfig-script`; where none is set yet, it is to be this executable.
pub fn scripts(known: &Known) -> BTreeSet<PathBuf> {
    let watched = known.watched().iter();
    let scripts = watched.map(|one| match get(&one.master, "client-reconfig-script") {
        none if none.is_empty() => known.program.clone(),
        script => script.into(),
    });
    scripts.collect()
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn readable(user: &User, path: &Path) -> Verdict {
    let why = obstacle(user, path, Want::Read)?;
    let group = user.gids.first()?;
    let remedy = match fs::metadata(path) {
        Err(no) if no.kind() == io::ErrorKind::NotFound => {
            "Create it, or correct its path in the configuration.".to_owned()
        }
        _ => {
            let path = shown(path);
            format!(
                "Let that group read it, in a folder that everyone may pass, such as /etc: chgrp {group} {path}; chmod 640 {path}"
            )
        }
    };
    error(
        format!("who moves the VIP could not read it: {why}"),
        remedy,
    )
}

fn site_command(user: &User, path: &Path) -> Verdict {
    if let Some(why) = obstacle(user, path, Want::Run).or_else(|| check_program(path).err()) {
        let remedy = "Let root own it, chmod 755 it, or correct `command` in the configuration.";
        return error(why, remedy);
    }
    error_if(
        is_noexec(user, path) == Some(true),
        "the mount of its file system, or NoExecPaths= of the unit, forbids to run it",
        &format!(
            "Install it elsewhere, or give the unit ExecPaths={}",
            shown(path)
        ),
    )
}

/// Judges the program that Sentinel starts.
fn program(user: &User, path: &Path, findings: &mut Findings) {
    let shown = shown(path);
    if let Some(why) = obstacle(user, path, Want::Run) {
        let remedy = format!(
            "Put vipswitch there, with chmod 755 {shown} and folders that everyone may pass; Sentinel refuses to start without it."
        );
        return findings.add("executable", shown, error(why, remedy));
    }
    findings.add("executable", &shown, None);
    let noexec = match is_noexec(user, path) {
        Some(true) => exec_paths(&shown),
        Some(false) => None,
        None => unknown(NOT_SEEN),
    };
    findings.add("exec-paths", &shown, noexec);
    let capabilities = error_if(
        has_capabilities(user, path),
        "it has file capabilities: they take the ambient ones away, and a hardened unit cannot start it at all",
        &format!("Remove them: setcap -r {shown}"),
    );
    findings.add("file-capabilities", shown, capabilities);
}

pub fn exec_paths(path: &str) -> Verdict {
    error(
        "the mount of its file system, or NoExecPaths= of Sentinel's unit, forbids to run it",
        format!("Name {PACKAGED} in sentinel.conf, or give the Sentinel unit ExecPaths={path}"),
    )
}

fn script(one: &Watched, known: &Known) -> Verdict {
    let script = get(&one.master, "client-reconfig-script");
    let program = shown(&known.program);
    if script.is_empty() {
        // By the name that the packages' removal looks for.
        let program = program.replace(PACKAGED, "/usr/bin/vipswitch");
        let conf = known.sentinel.as_ref().map_or("", |told| &told.config_file);
        let remedy = format!(
            "Stop Sentinel, add `sentinel client-reconfig-script {} {program}` to {}, and start it.",
            escape(&one.name),
            escape(conf)
        );
        // An agent needs no call.
        let level: fn(String, String) -> Verdict =
            if known.agent.is_ok() { warning } else { error };
        return level(
            "Sentinel has none for this master, so that no hook runs".into(),
            remedy,
        );
    }
    // Where it is missing, `executable` says so.
    if identity(Path::new(&script))? == identity(&known.program)? {
        return None;
    }
    let script = escape(&script);
    warning(
        format!("it is {script}, which is not this executable ({program})"),
        "Is it another version, a wrapper, or the old script? Name this executable in sentinel.conf.",
    )
}
