//! A command that is to run: a process of its own runs it, waits for its turn, and keeps what came of it. The
//! run that starts that process may wait for it, and need not.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use super::memory;
use super::owed::{Circumstances, Told};
use crate::cli::SITE_COMMAND;
use crate::config::{Config, SiteCommand, Target};
use crate::exit::Fault;
use crate::kernel::{Netlink, Snapshot};
use crate::lock;
use crate::report::to_json;
use crate::vip::Vip;

/// How long earlier commands of the same VIP may take: two of the longest, which were told before this one.
const TURN: Duration = Duration::from_secs(45);

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A command for a VIP, as it is handed to its process. It names no program: a user who may start vipswitch as
/// root could start that process, and what runs is what the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its master's name.
    pub master: String,
    /// The VIP.
    pub vip: Vip,
    /// Whether it is for a VIP that is here.
    pub here: bool,
    /// Whether it runs although the site was told the same already.
    pub again: bool,
    /// Whether `sync` wants it, which has nothing to tell but where the VIP is.
    pub is_routine: bool,
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
    pub fn new(target: &Target<'_>, here: bool, circumstances: Circumstances) -> Job {
        Job {
            master: target.name.to_owned(),
            vip: target.vip,
            here,
            again: false,
            is_routine: false,
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

    /// Returns the job with the VIP as the configuration has it, and the command that the configuration has
    /// for it.
    ///
    /// # Errors
    ///
    /// A master, a VIP or a command that is not in the configuration, and circumstances that this program
    /// does not write, are permanent.
    pub fn find(self, config: &Config) -> Result<(Job, &SiteCommand), Fault> {
        let refused = |why: &str| {
            let (name, vip) = (self.name(), self.vip.address);
            Fault::permanent(format!("cannot run {name} for {vip}: {why}"))
        };
        let master = config.masters.get(&self.master);
        let master = master.ok_or_else(|| refused("its master is not in the configuration"))?;
        let vip = master
            .vips
            .iter()
            .find(|vip| vip.address == self.vip.address);
        let vip = *vip.ok_or_else(|| refused("the configuration gives its master no such VIP"))?;
        let command = match self.here {
            true => &master.on_take_over,
            false => &master.on_release,
        };
        let command = command.as_ref();
        let command =
            command.ok_or_else(|| refused("the configuration gives its master no such command"))?;
        if !self.circumstances.are_plain() {
            return Err(refused("its circumstances are not what vipswitch writes"));
        }
        Ok((Job { vip, ..self }, command))
    }

    /// Starts its process, which outlives this one: its own executable, nothing of this one's files, folder
    /// or environment. In `configuration` it finds `command`, or what has taken its place. Returns what waits
    /// for the end.
    ///
    /// # Errors
    ///
    /// A process that cannot be started; at the end also a command that failed. All are passing.
    pub fn start(
        &self,
        command: &SiteCommand,
        configuration: &Path,
    ) -> Result<impl Future<Output = Result<(), Fault>> + use<>, Fault> {
        let program = command.program().to_owned();
        let cannot = |error: io::Error| {
            Fault::passing(format!("cannot start the command {program}: {error}"))
        };
        let configuration = std::path::absolute(configuration).map_err(cannot)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(SITE_COMMAND);
        command.arg(format!("--job={}", to_json(self)));
        command.arg("--config").arg(configuration);
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
    pub async fn work(&self, command: &SiteCommand) -> Ended {
        let mut ended = Ended::not_run(Ok(()));
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
        ended.result = self.run(command, &told.circumstances).await;
        let kept = kept.and_then(|()| self.keep(told, &ended.result));
        ended.not_kept = kept.err().map(|error| error.to_string());
        ended
    }

    /// Whether the site was told by the same command of the same master.
    fn is_about(&self, told: &Told) -> bool {
        told.master == self.master && told.here == self.here
    }

    /// What a hook has told while this waited holds for `sync` as well, which knew less.
    fn is_done(&self, told: &Told) -> bool {
        let is_the_same = self.is_routine || told.circumstances == self.circumstances;
        !self.again && told.done && is_the_same
    }

    fn begin(&self, before: Option<Told>) -> Told {
        // What was done is done; its tries do not count for the next time.
        let before = before.filter(|told| !told.done).unwrap_or_default();
        let mut circumstances = self.circumstances.clone();
        if circumstances.to.is_empty() {
            // No hook's: a hook may have tried it while this waited, and knew more.
            circumstances.from.clone_from(&before.circumstances.from);
            circumstances.to.clone_from(&before.circumstances.to);
        }
        Told {
            master: self.master.clone(),
            here: self.here,
            done: false,
            circumstances,
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

    async fn run(&self, command: &SiteCommand, circumstances: &Circumstances) -> Result<(), Fault> {
        let address = self.vip.address.to_string();
        let prefix = self.vip.prefix.to_string();
        let Circumstances {
            interface,
            from,
            to,
        } = circumstances;
        let variables = [
            ("VIPSWITCH_MASTER", self.master.as_str()),
            ("VIPSWITCH_VIP", &address),
            ("VIPSWITCH_PREFIX", &prefix),
            ("VIPSWITCH_INTERFACE", interface),
            ("VIPSWITCH_FROM", from),
            ("VIPSWITCH_TO", to),
        ];
        super::run(&command.argv, &variables, command.timeout).await
    }
}

/// Whether an address is bound on this host now.
async fn is_bound(address: IpAddr) -> Result<bool, Fault> {
    let netlink = Netlink::open()?;
    Ok(!Snapshot::new(&netlink).bindings(address).await?.is_empty())
}

impl Ended {
    /// Returns the end of a job whose command was not run.
    pub fn not_run(result: Result<(), Fault>) -> Ended {
        Ended {
            result,
            has_run: false,
            tries: 0,
            not_kept: None,
        }
    }

    /// Returns the answer to the run that has started this process, as one line.
    pub fn answer(&self) -> String {
        let failed = self.result.as_ref().err().map(ToString::to_string);
        to_json(&Answer { failed }) + "\n"
    }
}
