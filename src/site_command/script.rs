//! Why a script does not start: the kernel says "No such file" where its interpreter is missing.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// So much of a script the kernel looks at (BINPRM_BUF_SIZE).
const LOOKED_AT: u64 = 256;

/// What is wrong with a program, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) remedy: String,
}

/// Returns what is wrong with a program's first line.
pub(super) fn trouble(program: &Path) -> Option<Trouble> {
    let mut begin = Vec::new();
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(program)
        .ok()?;
    file.take(LOOKED_AT).read_to_end(&mut begin).ok()?;
    let line = begin.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line.strip_prefix(b"#!")?).into_owned();
    let interpreter = line.split([' ', '\t']).find(|word| !word.is_empty());
    let interpreter = interpreter.unwrap_or_default();
    if line.ends_with('\r') {
        let shown = line.escape_debug();
        let why = format!(
            "its first line \"#!{shown}\" ends with a carriage return, as editors of Windows write it, and the interpreter is looked for by that name"
        );
        let remedy = format!("Remove them: sed -i 's/\\r$//' {}", program.display());
        return Some(Trouble { why, remedy });
    }
    (!Path::new(interpreter).exists()).then(|| Trouble {
        why: format!(
            "its first line names the interpreter \"{}\", which is not there",
            interpreter.escape_debug()
        ),
        remedy: "Install it, or correct that line.".into(),
    })
}

/// Returns what is wrong with a program that the kernel has refused to start.
pub(super) fn refused(program: &Path, error: &io::Error) -> Option<Trouble> {
    let is = |errno: Errno| error.raw_os_error() == Some(errno as i32);
    if is(Errno::ENOEXEC) {
        return Some(Trouble {
            why: "it is neither a program of this machine's nor a script with a #! line".into(),
            remedy: "Let its first line be #!/bin/sh, or what it is written for.".into(),
        });
    }
    trouble(program).filter(|_| is(Errno::ENOENT) || is(Errno::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_an_interpreter_is_named_for_what_it_is() {
        let why = |errno: Errno| {
            let error = io::Error::from_raw_os_error(errno as i32);
            refused(Path::new("/absent"), &error).map(|trouble| trouble.why)
        };
        assert!(why(Errno::ENOEXEC).unwrap().contains("nor a script"));
        assert_eq!(why(Errno::ENOENT), None);
    }

    #[test]
    fn a_first_line_that_names_no_interpreter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        let why = |text: &str| {
            std::fs::write(&path, text).unwrap();
            trouble(&path).map(|trouble| trouble.why)
        };
        for text in [
            "#!/bin/sh\nexit\r\n",
            "#! /bin/sh -e\n",
            "\u{7f}ELF\r\n",
            "",
        ] {
            assert_eq!(why(text), None, "{text:?}");
        }
        for text in [
            "#!/bin/sh\r\n",
            "#!/usr/bin/env bash\r\n",
            "#!/bin/sh -e\r\nexit\r\n",
        ] {
            assert!(why(text).unwrap().contains("carriage return"), "{text:?}");
        }
        let absent = why("#!/bin/ba\u{7}sh -e\n").unwrap();
        assert!(
            absent.contains("\"/bin/ba\\u{7}sh\", which is not there"),
            "{absent}"
        );
    }
}
