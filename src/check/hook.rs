//! The hook as Sentinel's configuration names it, and the files that it has to read.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

use super::files::{self, Want};
use super::finding::Findings;
use super::process::{NOT_SEEN, Process};
use super::watched::{Answers, Watched};
use crate::config::{Config, Password};
use crate::text::escape;
use crate::trusted_file;

/// Judges whether the hook, as Sentinel's user, can read what it has to.
pub fn judge_readable(process: &Process, config: &Config, path: &Path, findings: &mut Findings) {
    // Redis' passwords are for `sync` alone, which the packages' timer runs as root.
    let passwords = config
        .sentinel
        .password
        .iter()
        .filter_map(|password| match password {
            Password::File(path) => Some(path.as_path()),
            Password::Here(_) => None,
        });
    for file in std::iter::once(path).chain(passwords) {
        let about = file.display().to_string();
        match files::obstacle(process, file, Want::Read) {
            None => findings.ok("config-readable", &about, "Sentinel's user may read it"),
            Some(why) => findings.error(
                "config-readable",
                &about,
                format!("the hook could not read it: {why}"),
                format!("Let Sentinel's group read it, in a folder that everyone may pass, such as /etc: chgrp {} {about}; chmod 640 {about}", process.gids.first().copied().unwrap_or_default()),
            ),
        }
    }
}

/// Judges whether the hook, as Sentinel's user, can run the site's own commands.
pub fn judge_site_commands(process: &Process, config: &Config, findings: &mut Findings) {
    let commands = config
        .masters
        .values()
        .flat_map(|master| [&master.on_take_over, &master.on_release]);
    let mut seen: Vec<&Path> = Vec::new();
    let programs = commands
        .flatten()
        .filter_map(|command| command.argv.first());
    for program in programs.map(Path::new) {
        if seen.contains(&program) {
            continue;
        }
        seen.push(program);
        let about = escape(&program.to_string_lossy());
        let remedy = "Let root own it, chmod 755 it, or correct `command` in the configuration.";
        let why = files::obstacle(process, program, Want::Run)
            .map(|why| (why, remedy.to_owned()))
            .or_else(|| {
                Some((
                    trusted_file::check_program(program).err()?,
                    remedy.to_owned(),
                ))
            })
            .or_else(|| files::forbidden(process, program).map(|why| (why.text, why.remedy)));
        match why {
            None => findings.ok("site-command", &about, "Sentinel's user may run it"),
            Some((why, remedy)) => findings.error("site-command", &about, why, remedy),
        }
    }
}

/// What is known of a program only where Sentinel's process may be looked at.
const CHECKS: [&str; 4] = ["executable", "noexec", "exec-paths", "file-capabilities"];

/// Judges each master's `client-reconfig-script`, and each of these programs once.
pub fn judge_scripts(answers: &Answers, process: Option<&Process>, findings: &mut Findings) {
    let own = std::env::current_exe().unwrap_or_default();
    let mut programs: Vec<(&Path, bool)> = Vec::new();
    for one in &answers.watched {
        let script = one.master.get("client-reconfig-script");
        // Where none is set yet, it is to be this executable.
        let program = match script {
            "" => own.as_path(),
            script => Path::new(script),
        };
        let mut judge_program = || match process {
            Some(process) => files::judge_program(process, program, findings),
            None => {
                findings.unknown(&CHECKS, &escape(&program.to_string_lossy()), NOT_SEEN);
                true
            }
        };
        let there = match programs.iter().find(|(known, _)| *known == program) {
            Some((_, there)) => *there,
            None => {
                let there = judge_program();
                programs.push((program, there));
                there
            }
        };
        judge_script(one, script, there, answers, findings);
    }
    judge_denial(answers, findings);
}

fn judge_script(
    one: &Watched,
    script: &str,
    there: bool,
    answers: &Answers,
    findings: &mut Findings,
) {
    let name = escape(&one.name);
    let own = std::env::current_exe().unwrap_or_default();
    let identity = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    };
    let theirs = identity(Path::new(script));
    if script.is_empty() {
        // By the name under which packages install it, which their removal looks for.
        let usual = Path::new("/usr/bin/vipswitch");
        let program = match identity(usual) {
            Some(file) if Some(file) == identity(&own) => usual,
            _ => &own,
        };
        let remedy = format!(
            "Stop Sentinel, add `sentinel client-reconfig-script {name} {}` to {}, and start it.",
            program.display(),
            escape(answers.config_file())
        );
        let text = "Sentinel has none for this master, so that no hook runs";
        findings.error("client-reconfig-script", &name, text, remedy);
    } else if there && theirs.is_some() && theirs != identity(&own) {
        findings.warn(
            "client-reconfig-script",
            &name,
            format!(
                "it is {}, which is not this executable ({})",
                escape(script),
                own.display()
            ),
            "Is it another version, a wrapper, or the old script? Name this executable in sentinel.conf.",
        );
    } else {
        findings.ok("client-reconfig-script", &name, escape(script));
    }
}

/// Says whether SENTINEL SET may change the script: good to know, and no fault either way. Only
/// the file tells it.
fn judge_denial(answers: &Answers, findings: &mut Findings) {
    let Some(text) = read_regular(Path::new(answers.config_file())) else {
        return findings.unknown(
            &["deny-scripts-reconfig"],
            "",
            "sentinel.conf cannot be read from here",
        );
    };
    let text = match is_denied(&text) {
        true => "yes: only sentinel.conf says which script runs",
        false => "no: whoever may use SENTINEL SET decides which program runs as Sentinel's user",
    };
    findings.ok("deny-scripts-reconfig", "", text);
}

/// Reads a file whose path came from outside: a regular one, and no more of it than makes sense.
fn read_regular(path: &Path) -> Option<String> {
    let opened = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(Some(path).filter(|path| path.is_absolute())?);
    let file = opened.ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(trusted_file::MAX_SIZE)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// Returns what the text of a sentinel.conf says; it is denied unless the last word is `no`.
fn is_denied(conf: &str) -> bool {
    let said = |line: &str| {
        let words: Vec<String> = line
            .split_whitespace()
            .map(str::to_ascii_lowercase)
            .collect();
        match words.as_slice() {
            [sentinel, key, value] if sentinel == "sentinel" && key == "deny-scripts-reconfig" => {
                Some(value != "no")
            }
            _ => None,
        }
    };
    conf.lines().filter_map(said).next_back().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_the_script_is_denied_unless_the_last_word_is_no() {
        assert!(is_denied("port 26379\n"));
        assert!(!is_denied("SENTINEL deny-scripts-reconfig No\n"));
        assert!(is_denied(
            "sentinel deny-scripts-reconfig no\nsentinel deny-scripts-reconfig yes\n"
        ));
    }
}
