//! The hook as Sentinel's configuration names it, and the files that it needs.

use std::path::Path;

use super::{NOT_SEEN, error_if, unit_error};
use crate::check::facts::Facts;
use crate::check::facts::files::{File, Runs};
use crate::check::facts::sentinel::{Watched, get};
use crate::check::finding::{Findings, Verdict, error, unknown, warning};
use crate::text::escape;

/// Where packages put the executable, to which /usr/bin/vipswitch leads.
const PACKAGED: &str = "/usr/lib/vipswitch/vipswitch";

pub fn judge(facts: &Facts, findings: &mut Findings) {
    for file in &facts.readable {
        let path = shown(&file.path);
        let verdict = readable(file, &path, facts);
        findings.add("config-readable", path, verdict);
    }
    for file in &facts.site_commands {
        findings.add("site-command", shown(&file.path), site_command(file));
    }
    for file in &facts.hooks {
        program(file, findings);
    }
    if let Ok(told) = &facts.sentinel {
        for one in &told.watched {
            let verdict = script(one, &escape(&told.config_file), facts);
            findings.add("client-reconfig-script", escape(&one.name), verdict);
        }
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn readable(file: &File, path: &str, facts: &Facts) -> Verdict {
    let why = file.obstacle.as_ref()?;
    let group = facts.process.as_ref()?.gids.first()?;
    let remedy = format!(
        "Let Sentinel's group read it, in a folder that everyone may pass, such as /etc: chgrp {group} {path}; chmod 640 {path}"
    );
    error(format!("the hook could not read it: {why}"), remedy)
}

fn site_command(file: &File) -> Verdict {
    let remedy = "Let root own it, chmod 755 it, or correct `command` in the configuration.";
    if let Some(why) = file.obstacle.as_ref().or(file.untrusted.as_ref()) {
        return error(why, remedy);
    }
    let remedy = format!("ExecPaths={}, or install it elsewhere.", shown(&file.path));
    match file.runs {
        Runs::Yes | Runs::Unknown => None,
        Runs::Noexec | Runs::NoexecInUnit => unit_error(
            "Sentinel's unit, or the mount of its file system, forbids to run it",
            &remedy,
        ),
    }
}

/// Judges the program that Sentinel starts.
fn program(file: &File, findings: &mut Findings) {
    let path = shown(&file.path);
    if let Some(why) = &file.obstacle {
        let remedy = format!(
            "Put vipswitch there, with chmod 755 {path} and folders that everyone may pass; Sentinel refuses to start without it."
        );
        return findings.add("executable", path, error(why, remedy));
    }
    findings.add("executable", &path, None);
    let noexec = error_if(
        file.runs == Runs::Noexec,
        "its file system is mounted noexec",
        "Install it elsewhere, below /usr/lib or /usr/local for example, and name that path in sentinel.conf.",
    );
    findings.add("noexec", &path, noexec);
    let exec_paths = match file.runs {
        Runs::Yes | Runs::Noexec => None,
        Runs::Unknown => unknown(NOT_SEEN),
        Runs::NoexecInUnit => exec_paths(&path),
    };
    findings.add("exec-paths", &path, exec_paths);
    let capabilities = error_if(
        file.has_capabilities,
        "it has file capabilities: they take the ambient ones away, and a hardened unit cannot start it at all",
        &format!("Remove them: setcap -r {path}"),
    );
    findings.add("file-capabilities", path, capabilities);
}

pub fn exec_paths(path: &str) -> Verdict {
    let line = format!("ExecPaths={path}");
    unit_error("NoExecPaths= of Sentinel's unit forbids to run it", &line)
}

fn script(one: &Watched, conf: &str, facts: &Facts) -> Verdict {
    let script = get(&one.master, "client-reconfig-script");
    let own = &facts.own;
    let program = shown(&own.program);
    if script.is_empty() {
        let name = escape(&one.name);
        // By the name that the packages' removal looks for.
        let program = program.replace(PACKAGED, "/usr/bin/vipswitch");
        let remedy = format!(
            "Stop Sentinel, add `sentinel client-reconfig-script {name} {program}` to {conf}, and start it."
        );
        return error(
            "Sentinel has none for this master, so that no hook runs",
            remedy,
        );
    }
    // Where it is missing, `executable` says so.
    let mut hooks = facts.hooks.iter();
    let file = hooks.find(|file| file.path == Path::new(&script))?;
    if file.identity? == own.identity? {
        return None;
    }
    let script = escape(&script);
    warning(
        format!("it is {script}, which is not this executable ({program})"),
        "Is it another version, a wrapper, or the old script? Name this executable in sentinel.conf.",
    )
}
