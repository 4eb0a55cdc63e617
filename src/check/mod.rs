//! Whether this host will do its part, before the night on which it has to. Each part asks the world once, with
//! deadlines, and judges the answers. Changes nothing. What only follows from another error is left out, so that
//! one broken thing is named once.

mod agent;
mod hook;
mod host;
mod interface;
mod peers;
mod redis;
mod rights;
mod sentinel;
mod vip;
mod votes;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join4;

use crate::agent::client::{self, SIGN_OF_LIFE, Unserved};
use crate::agent::snapshot::Snapshot;
use crate::config::{self, Config};
use crate::evidence::Site;
use crate::exit::Fault;
use crate::gather;
use crate::gather::told::{self, Told, Watched};
use crate::privilege::Process;
pub use crate::report::finding::{Findings, Level};
use crate::report::finding::{fault, unknown};
use crate::units::Units;
use crate::vip::Vip;

/// Why a fact that needs a privilege of this process's own is missing.
const NOT_ROOT: &str = "this process may not try it: run it as root";

/// How long one server may take to accept a connection, and how long for each conversation.
const ANSWER: Duration = Duration::from_millis(800);

/// What several parts judge by.
struct Known {
    config: Config,
    is_root: bool,
    /// This executable.
    program: PathBuf,
    /// What the agent says, or why it does not.
    agent: Result<Snapshot, Unserved>,
    /// What Sentinel says, or why it does not.
    sentinel: Result<Told, Fault>,
    /// Sentinel's process, where it can be looked at.
    process: Option<Process>,
    /// What systemd says, where it runs.
    units: Option<Units>,
    /// The addresses that servers have of their own.
    servers: BTreeSet<IpAddr>,
}

impl Known {
    fn watched(&self) -> &[Watched] {
        let told = self.sentinel.as_ref().ok();
        told.map_or(&[], |told| &told.watched)
    }

    /// Returns where each Redis of a master is, the master first.
    fn redises(&self, master: &str) -> &[Site] {
        let of_master = self.watched().iter().find(|one| one.name == master);
        of_master.map_or(&[], |one| &one.redises)
    }

    /// Returns whether there is no agent, and the hook may well work by itself.
    fn is_hook_alone(&self) -> bool {
        let lacks = self.process.as_ref().and_then(Process::lacks);
        self.agent == Err(Unserved::NoAgent) && lacks.is_none()
    }

    /// Returns whether this VIP is certainly a server's own address.
    fn is_a_servers(&self, vip: &Vip) -> bool {
        self.servers.contains(&vip.address)
    }
}

/// Makes every check of this host with the configuration at `path`. Takes a few seconds at most.
pub async fn run(path: &Path) -> Findings {
    let mut findings = Findings::default();
    let is_root = nix::unistd::geteuid().is_root();
    let why = "facts about Sentinel's process, and trials that need privileges, may be missing: run it as root";
    findings.add("root", "", unknown(why).filter(|_| !is_root));
    let config = config::load(path, &[] as &[&str], Instant::now()).await;
    let verdict = config.as_ref().err().and_then(fault);
    findings.add("config", path.display(), verdict);
    let Ok(config) = config else { return findings };
    let names: Vec<&str> = config.masters.keys().map(String::as_str).collect();
    let (agent, sentinel, servers, units) = join4(
        client::snapshot(&[], path, Instant::now() + SIGN_OF_LIFE),
        told::ask_all(&config),
        // By it a `bind` would refuse a VIP.
        gather::servers_of(&config, &names),
        Units::ask(),
    )
    .await;
    let pid = sentinel.as_ref().ok().and_then(|told| told.pid);
    let known = Known {
        process: pid.and_then(Process::sentinel),
        program: std::env::current_exe().unwrap_or_default(),
        servers,
        is_root,
        config,
        agent,
        sentinel,
        units,
    };
    agent::judge(&known, &mut findings);
    hook::judge(&known, &mut findings);
    sentinel::judge(&known, &mut findings);
    let cut = vip::judge(&known, &mut findings).await;
    findings.add("netlink", "", cut.as_ref().err().and_then(fault));
    let cut = cut.ok().flatten();
    redis::judge(&known, cut.as_deref(), &mut findings).await;
    let others = peers::judge(&known, &mut findings).await;
    votes::judge(&known, &others, &mut findings).await;
    host::judge(&known, &mut findings);
    findings
}
