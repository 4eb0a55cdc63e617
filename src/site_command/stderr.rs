//! The end of what a command writes to stderr: there it says why it fails.

use std::io::{self, Read as _};
use std::process::ChildStderr;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// So many lines of it are shown.
const LINES: usize = 5;

/// So many bytes of it are kept.
const BYTES: usize = 1024;

/// So many bytes are read at a time, and no more than 64 times that without a pause: a process that writes
/// for ever must not keep the deadline from being seen.
const PIECE: usize = 4096;

/// What reads a command's stderr.
pub(super) struct Stderr {
    /// `None` where it cannot be read.
    pipe: Option<ChildStderr>,
    end: Vec<u8>,
}

impl Stderr {
    /// Not tokio's pipe, which knows of nothing to read before its event loop has turned: what a command says
    /// that fails at once would be lost.
    pub(super) fn of(stderr: Option<ChildStderr>) -> Stderr {
        let set = |pipe: &ChildStderr| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok();
        let pipe = stderr.filter(set);
        Stderr {
            pipe,
            end: Vec::new(),
        }
    }

    /// Reads what is there now. Nobody waits for the end of it: a process that the command has left behind
    /// may keep it open for ever.
    pub(super) fn read(&mut self) {
        let mut piece = [0; PIECE];
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut piece) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    self.end.extend_from_slice(&piece[..length]);
                    let surplus = self.end.len().saturating_sub(BYTES);
                    self.end.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Returns the last lines, escaped, with what goes before them in a message; empty if there are none.
    pub(super) fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.end);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.map(|line| line.escape_debug().to_string()).collect();
        match &lines[lines.len().saturating_sub(LINES)..] {
            [] => String::new(),
            last => format!(
                "; the end of its stderr: {}",
                last.join(" | ").replace("\\'", "'")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_bounded_and_escaped() {
        let said = |text: &str| {
            let stderr = Stderr {
                pipe: None,
                end: text.as_bytes().to_vec(),
            };
            stderr.last_lines()
        };
        assert_eq!(said("\n \n"), "");
        assert_eq!(
            said("it's\x1b[31m red\r\n"),
            "; the end of its stderr: it's\\u{1b}[31m red"
        );
        assert_eq!(
            said("1\n2\n3\n4\n5\n\n6"),
            "; the end of its stderr: 2 | 3 | 4 | 5 | 6"
        );
    }
}
