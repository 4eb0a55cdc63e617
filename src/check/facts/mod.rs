//! All that is judged, gathered once and within a few seconds: from the kernel and /proc, from
//! files, from systemd, from Sentinel and Redis, and from the network.

pub mod files;
pub mod interface;
pub mod network;
pub mod process;
pub mod sentinel;
pub mod servers;
pub mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::future::{join, join4};

use crate::config::{Config, Password};
use crate::exit::Fault;
use crate::gather::{Tried, remembered};
use crate::log;
use files::{File, Want, identity};
use network::Kernel;
use process::Process;
use sentinel::{Told, Watched, get};
use servers::{Reached, Redis};
use units::Units;

/// What is known of this process.
#[derive(Clone, Debug)]
pub struct Own {
    pub is_root: bool,
    /// Its executable, and the device and inode of that.
    pub program: PathBuf,
    pub identity: Option<(u64, u64)>,
}

impl Own {
    /// Looks at this process.
    pub fn look() -> Own {
        let program = std::env::current_exe().unwrap_or_default();
        Own {
            is_root: nix::unistd::geteuid().is_root(),
            identity: identity(&program),
            program,
        }
    }
}

/// All that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    pub config: Config,
    pub own: Own,
    /// What Sentinel says, or why it does not.
    pub sentinel: Result<Told, Fault>,
    /// Sentinel's process, where it can be looked at.
    pub process: Option<Process>,
    /// What systemd says, where it runs.
    pub units: Option<Units>,
    /// The files that Sentinel's user has to read; none without its process, here and below.
    pub readable: Vec<File>,
    /// The programs that Sentinel starts, or is to start.
    pub hooks: Vec<File>,
    /// The site's own commands.
    pub site_commands: Vec<File>,
    pub kernel: Result<Kernel, Fault>,
    pub reached: Reached,
    /// What the other Sentinels answer to `sync`.
    pub others: Vec<Tried>,
    /// Whether `sync` can remember them.
    pub memory: Result<(), Fault>,
    /// What is remembered.
    pub remembered: remembered::Memory,
    /// What this host's Redis servers say.
    pub redises: Vec<Redis>,
    pub log_listens: bool,
}

impl Facts {
    /// Gathers all.
    pub async fn gather(config: Config, path: &Path, own: Own) -> Facts {
        let sentinel = sentinel::ask_all(&config).await;
        let told = sentinel.as_ref().ok();
        let watched = told.map(|told| told.watched.as_slice()).unwrap_or_default();
        let process = told.and_then(|told| Process::look(told.pid?));
        let unit = process.as_ref().and_then(|process| process.unit.as_deref());
        let (units, kernel, (reached, others), redises) = join4(
            Units::ask(unit),
            network::look(&config, watched),
            join(
                servers::reach(watched),
                servers::ask_sentinels(&config, watched),
            ),
            servers::ask_redises(&config, watched),
        )
        .await;
        let look = |paths: BTreeSet<PathBuf>, want| -> Vec<File> {
            let user = process.iter();
            user.flat_map(|user| paths.iter().map(|path| File::look(path, want, user)))
                .collect()
        };
        Facts {
            readable: look(to_read(&config, path), Want::Read),
            hooks: look(to_start(watched, &own), Want::Run),
            site_commands: look(to_run(&config), Want::Run),
            log_listens: log::is_reachable(),
            config,
            own,
            sentinel,
            process,
            units,
            kernel,
            reached,
            others,
            memory: remembered::check(),
            remembered: remembered::Memory::read(),
            redises,
        }
    }
}

/// The configuration and Sentinel's password. The passwords of Redis are for `sync` alone, which
/// the packages' timer runs as root.
fn to_read(config: &Config, path: &Path) -> BTreeSet<PathBuf> {
    let password = match &config.sentinel.password {
        Some(Password::File(file)) => Some(file.clone()),
        _ => None,
    };
    password.into_iter().chain([path.to_owned()]).collect()
}

/// Each `client-reconfig-script`; where none is set yet, it is to be this executable.
fn to_start(watched: &[Watched], own: &Own) -> BTreeSet<PathBuf> {
    let scripts = watched
        .iter()
        .map(|one| get(&one.master, "client-reconfig-script"));
    let or_own = scripts.map(|script| match script.as_str() {
        "" => own.program.clone(),
        script => script.into(),
    });
    or_own.collect()
}

fn to_run(config: &Config) -> BTreeSet<PathBuf> {
    let masters = config.masters.values();
    let commands = masters.flat_map(|master| [&master.on_take_over, &master.on_release]);
    let programs = commands
        .flatten()
        .filter_map(|command| command.argv.first());
    programs.map(PathBuf::from).collect()
}
