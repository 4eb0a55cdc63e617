//! A command that is to run: a process of its own runs it, waits for its turn, and keeps what came of it. The
//! run that starts that process may wait for it, and need not.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use super::memory;
use super::owed::{Circumstances, Told};
use crate::cli::SITE_COMMAND;
use crate::config::{SiteCommand, Target};
use crate::exit::Fault;
use crate::kernel::{Netlink, Snapshot};
use crate::lock;
use crate::report::to_json;
use crate::vip::Vip;

/// How long earlier commands of the same VIP may take: two of the longest, which were told before this one.
const TURN: Duration = Duration::from_secs(45);

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A command for a VIP, as it is handed to its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its master's name.
    pub master: String,
    /// The VIP.
    pub vip: Vip,
    /// Whether it is for a VIP that is here.
    pub here: bool,
    /// Whether it runs although the site was told the same already.
    pub again: bool,
    /// The program, by its absolute path, and its arguments.
    argv: Vec<String>,
    seconds: u64,
    circumstances: Circumstances,
}

/// What came of a job.
pub struct Ended {
    /// Why the command failed.
    pub result: Result<(), Fault>,
    /// Whether it was run: not if the VIP has moved on meanwhile, or the site was told already.
    pub has_run: bool,
    /// How often it was tried by now.
    pub tries: u32,
    /// Why what came of it could not be kept.
    pub not_kept: Option<String>,
}

/// What its process answers, as JSON.
#[derive(Serialize, Deserialize)]
struct Answer {
    failed: Option<String>,
}

impl Job {
    /// Returns the job of running this command.
    pub fn new(
        target: &Target<'_>,
        command: &SiteCommand,
        here: bool,
        circumstances: Circumstances,
    ) -> Job {
        Job {
            master: target.name.to_owned(),
            vip: target.vip,
            here,
            again: false,
            argv: command.argv.clone(),
            seconds: command.timeout.as_secs(),
            circumstances,
        }
    }

    /// Returns the configuration's name of the command.
    pub fn name(&self) -> &'static str {
        match self.here {
            true => "on_take_over",
            false => "on_release",
        }
    }

    /// Returns the program.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Starts its process, which outlives this one: its own executable, nothing of this one's files, folder
    /// or environment. Returns what waits for the end.
    ///
    /// # Errors
    ///
    /// A process that cannot be started; at the end also a command that failed. All are passing.
    pub fn start(&self) -> Result<impl Future<Output = Result<(), Fault>> + use<>, Fault> {
        let program = self.program().to_owned();
        let cannot = |error: io::Error| {
            Fault::passing(format!(
                "cannot start the command {}: {error}",
                self.program()
            ))
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg(SITE_COMMAND);
        command.arg(format!("--job={}", to_json(self)));
        command.env_clear().current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Not waited for: it goes to the first process when this one has ended, as it soon will.
        let child = command.spawn().map_err(cannot)?;
        let stdout = child.stdout.map(OwnedFd::from);
        let stdout = stdout.map(Receiver::from_owned_fd).transpose();
        let stdout = stdout.map_err(cannot)?;
        Ok(async move {
            let mut answer = Vec::new();
            if let Some(stdout) = stdout {
                // What could not be read is no answer.
                let _ = stdout.take(LONGEST).read_to_end(&mut answer).await;
            }
            match serde_json::from_slice(&answer) {
                Ok(Answer { failed: None }) => Ok(()),
                Ok(Answer { failed: Some(why) }) => Err(Fault::passing(why)),
                Err(_) => Err(Fault::passing(format!(
                    "the process that runs the command {program} was killed"
                ))),
            }
        })
    }

    /// Runs the command when those before it have ended, unless the VIP has moved on meanwhile: then it is
    /// another run's to call one. One at a time for each VIP, so that what a router is told last is what is
    /// true.
    pub async fn work(&self) -> Ended {
        let mut ended = Ended {
            result: Ok(()),
            has_run: false,
            tries: 0,
            not_kept: None,
        };
        let address = self.vip.address;
        let _alone = match lock::command(address, TURN).await {
            Ok(name) => name,
            Err(fault) => {
                ended.result = Err(fault);
                return ended;
            }
        };
        let has_moved = is_bound(address)
            .await
            .is_ok_and(|bound| bound != self.here);
        let before = memory::read(address).map(|(told, _)| told);
        let before = before.filter(|told| self.is_about(told));
        if has_moved || before.as_ref().is_some_and(|told| self.is_done(told)) {
            return ended;
        }
        let told = self.begin(before);
        ended.tries = told.tries;
        let kept = memory::write(address, &told);
        ended.has_run = true;
        ended.result = self.run().await;
        let kept = kept.and_then(|()| self.keep(told, &ended.result));
        ended.not_kept = kept.err().map(|error| error.to_string());
        ended
    }

    /// Whether the site was told by the same command of the same master.
    fn is_about(&self, told: &Told) -> bool {
        told.master == self.master && told.here == self.here
    }

    fn is_done(&self, told: &Told) -> bool {
        !self.again && told.done && told.circumstances == self.circumstances
    }

    fn begin(&self, before: Option<Told>) -> Told {
        // What was done is done; its tries do not count for the next time.
        let before = before.filter(|told| !told.done).unwrap_or_default();
        Told {
            master: self.master.clone(),
            here: self.here,
            done: false,
            circumstances: self.circumstances.clone(),
            tries: before.tries.saturating_add(1),
            failed: before.failed,
            by: std::process::id(),
        }
    }

    /// Keeps what came of it, unless another run has begun to move the VIP meanwhile.
    fn keep(&self, mut told: Told, result: &Result<(), Fault>) -> io::Result<()> {
        let address = self.vip.address;
        if memory::read(address).is_none_or(|(now, _)| now != told) {
            return Ok(());
        }
        told.done = result.is_ok();
        told.failed = result.as_ref().err().map(ToString::to_string);
        memory::write(address, &told)
    }

    async fn run(&self) -> Result<(), Fault> {
        let address = self.vip.address.to_string();
        let prefix = self.vip.prefix.to_string();
        let Circumstances {
            interface,
            from,
            to,
        } = &self.circumstances;
        let variables = [
            ("VIPSWITCH_MASTER", self.master.as_str()),
            ("VIPSWITCH_VIP", &address),
            ("VIPSWITCH_PREFIX", &prefix),
            ("VIPSWITCH_INTERFACE", interface),
            ("VIPSWITCH_FROM", from),
            ("VIPSWITCH_TO", to),
        ];
        super::run(&self.argv, &variables, Duration::from_secs(self.seconds)).await
    }
}

/// Whether an address is bound on this host now.
async fn is_bound(address: IpAddr) -> Result<bool, Fault> {
    let netlink = Netlink::open()?;
    Ok(!Snapshot::new(&netlink).bindings(address).await?.is_empty())
}

impl Ended {
    /// Returns the answer to the run that has started this process, as one line.
    pub fn answer(&self) -> String {
        let failed = self.result.as_ref().err().map(ToString::to_string);
        to_json(&Answer { failed }) + "\n"
    }
}
