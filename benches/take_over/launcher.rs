//! Runs commands on a host and measures them, through a resident process of the smallest kind
//! (`fixtures/launch.c` says why).

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::common::Host;

/// How long the machine may calm down before each measurement.
const PAUSE: Duration = Duration::from_millis(5);

/// A resident process on a host that runs commands there.
pub struct Launcher {
    child: Child,
    commands: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
}

/// One run of a command.
pub struct Measured {
    /// Just before exec, since the epoch.
    pub executed: Duration,
    /// When its end was seen.
    pub ended: Duration,
    /// Of the largest process, the command itself or one that it waited for. Since 6.2 the
    /// kernel counts in batches, up to 128 KiB a processor.
    pub peak_kib: u64,
}

impl Launcher {
    /// Starts `program`, the launcher, on a host.
    pub fn start(host: &Host, program: &str) -> Launcher {
        let mut child = host
            .command(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let results = BufReader::new(child.stdout.take().unwrap()).lines();
        Launcher {
            child,
            commands,
            results,
        }
    }

    /// Runs a command, which must succeed.
    pub fn run(&mut self, command: &[String]) -> Measured {
        writeln!(self.commands, "{}", command.join("\t")).unwrap();
        let line = self.results.next().expect("the launcher lives").unwrap();
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|number| number.parse().expect(&line))
            .collect();
        let [s, ns, ended_s, ended_ns, peak_kib, status] = numbers[..] else {
            panic!("the launcher said {line}");
        };
        assert_eq!(status, 0, "wait status of {command:?}");
        Measured {
            executed: Duration::from_secs(s) + Duration::from_nanos(ns),
            ended: Duration::from_secs(ended_s) + Duration::from_nanos(ended_ns),
            peak_kib,
        }
    }

    /// Runs a command that is measured, after one that is not: so each finds the VIP as it
    /// needs it, and the processor's caches as the same other program left them.
    pub fn run_after(&mut self, preparation: &[String], command: &[String]) -> Measured {
        self.run(preparation);
        sleep(PAUSE);
        self.run(command)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Measured {
    /// Returns the time from exec to exit.
    pub fn took(&self) -> Duration {
        self.ended - self.executed
    }
}
