//! Whether the hook will work on this host, before the night on which it has to: facts gathered
//! here and in /proc, at Sentinel and Redis and on the network, each judged by a function that
//! asks nothing. Changes nothing, and waits for nobody longer than a few seconds in all.
//!
//! What cannot be told because something else is broken is said to be unknown, so that one broken
//! thing is named once.

pub mod addresses;
pub mod claims;
pub mod files;
pub mod finding;
pub mod hook;
pub mod host;
pub mod network;
pub mod process;
pub mod reach;
pub mod redis;
pub mod unit;
pub mod watched;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tokio::runtime::Runtime;

use crate::config::{self, Config};
use crate::exit::Fault;
use crate::kernel::Snapshot;
use crate::kernel::{Netlink, try_reset};
use crate::kernel_error;
use crate::link::Link;
use crate::privilege::{self, Capability};
use crate::vip::Binding;
use addresses::Names;
pub use finding::{Finding, Findings, Level};
use network::Redises;
use process::{NOT_SEEN, Process};
use unit::Units;
use watched::Answers;

/// Why something that needs a privilege of this process's own could not be tried.
const NOT_ROOT: &str = "this process may not try it: run it as root";

/// Makes every check of this host with the configuration at `path`.
///
/// # Errors
///
/// Only an event loop that cannot be made. All else is a finding.
pub fn run(path: &Path) -> Result<Findings, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| kernel_error::open("the event loop", &error))?;
    let mut findings = Findings::default();
    if !nix::unistd::geteuid().is_root() {
        let why = "this is not root: what belongs to Sentinel's process, and what needs privileges, may not be told";
        findings.unknown(&["root"], "", why);
    }
    let config = match config::load(path) {
        Ok(config) => config,
        Err(fault) => {
            findings.fault("config", &path.display().to_string(), &fault);
            return Ok(findings);
        }
    };
    let masters = config.masters.len();
    findings.ok(
        "config",
        &path.display().to_string(),
        format!("readable, and only root can have written it; masters: {masters}"),
    );
    check(&config, path, &runtime, &mut findings);
    Ok(findings)
}

fn check(config: &Config, path: &Path, runtime: &Runtime, findings: &mut Findings) {
    let masters: Vec<&str> = config.masters.keys().map(String::as_str).collect();
    let asked = Answers::ask(&config.sentinel, &masters);
    let process = asked.as_ref().ok().and_then(|answers| {
        let pid = process::find(answers.pid, config.sentinel.address.port())?;
        Process::look(pid)
    });
    let unit = process.as_ref().and_then(|process| process.unit.clone());
    let units = Units::ask(unit.as_deref());
    check_process(process.as_ref(), asked.is_ok(), units.as_ref(), findings);
    if let Some(process) = &process {
        hook::judge_readable(process, config, path, findings);
        hook::judge_site_commands(process, config, findings);
    }
    let sentinel = config.sentinel.address.to_string();
    let answers = match asked {
        Ok(answers) => answers,
        Err(fault) => {
            findings.why_silent(&sentinel, &fault);
            findings.unknown(&watched::CHECKS, "", "Sentinel did not answer");
            Answers::default()
        }
    };
    let known = !findings.has_any("sentinel");
    let names = runtime.block_on(Names::resolve(&answers));
    if known {
        findings.ok("sentinel", &sentinel, "answers");
        answers.judge(&masters, findings);
        hook::judge_scripts(&answers, process.as_ref(), findings);
        addresses::judge(&answers, config, findings);
    }
    let redises = names.redises(&answers);
    let (excuse, own) = check_network(config, &redises, runtime, findings);
    let told = redis::judge(config, &own, findings);
    reach::judge_all(&answers, &names, &told, excuse.as_deref(), findings);
    host::judge_cloud(config, findings);
    host::judge_log(findings);
    Units::judge_timer(units.as_ref(), findings);
}

fn check_process(
    process: Option<&Process>,
    answers: bool,
    units: Option<&Units>,
    findings: &mut Findings,
) {
    let Some(process) = process else {
        let own = std::env::current_exe().unwrap_or_default();
        if answers {
            findings.unknown(&process::CHECKS, "", NOT_SEEN);
        } else if !Units::judge_stopped(units, &own, findings) {
            findings.unknown(&process::CHECKS, "", "Sentinel does not run");
        }
        return;
    };
    process.judge(findings);
    if process.is_unfiltered() {
        findings.ok("address-families", "", "Sentinel has no filter");
    } else {
        Units::judge_filters(units, process.unit.as_deref(), findings);
    }
}

/// Judges netlink, each VIP and its interface. Returns why others may be out of reach, if it is
/// plain, and each master's Redis that is on this host.
fn check_network<'a>(
    config: &Config,
    redises: &BTreeMap<&'a str, Redises>,
    runtime: &Runtime,
    findings: &mut Findings,
) -> (Option<String>, Vec<(&'a str, SocketAddr)>) {
    let looked = runtime.block_on(async {
        let netlink = Netlink::open()?;
        check_netlink(&netlink, findings).await;
        check_reset(findings).await;
        let places = network::look(&netlink, config, redises).await?;
        let own = netlink
            .links()
            .await?
            .into_iter()
            .filter_map(|link| link.mac);
        let here = redis::here(&Snapshot::new(&netlink), redises).await?;
        Ok::<_, Fault>((places, own.collect::<Vec<_>>(), here))
    });
    let (places, own, here) = match looked {
        Ok(looked) => looked,
        Err(fault) => {
            findings.fault("netlink", "", &fault);
            findings.unknown(&network::CHECKS, "", "netlink has to work first");
            return (None, Vec::new());
        }
    };
    network::judge(&places, &own, findings);
    let mut links = places.iter().filter_map(network::Place::interface);
    let cut = links.find(|link| !link.carrier);
    (cut.map(|cut| format!("{} has no carrier", cut.name)), here)
}

/// Tries whether this process may change addresses, on an interface that cannot exist.
async fn check_netlink(netlink: &Netlink, findings: &mut Findings) {
    let nowhere = Link {
        index: i32::MAX as u32,
        name: "no interface".into(),
        mac: None,
        carrier: false,
        promote_secondaries: 0,
        is_router: false,
    };
    let address = IpAddr::from([192, 0, 2, 1]);
    let binding = Binding {
        ifindex: nowhere.index,
        prefix: 32,
        peer: address,
        usable: true,
    };
    match netlink.delete_address(&nowhere, address, binding).await {
        Ok(()) => findings.ok("netlink", "", "lets addresses be changed"),
        Err(_) if !privilege::is_there(Capability::NetAdmin) => {
            findings.unknown(&["netlink"], "", NOT_ROOT);
        }
        Err(fault) => findings.fault("netlink", "", &fault),
    }
}

async fn check_reset(findings: &mut Findings) {
    match try_reset().await {
        Ok(()) => findings.ok("reset", "", "the kernel resets connections when it is asked to"),
        Err(_) if !privilege::is_there(Capability::NetAdmin) => {
            findings.unknown(&["reset"], "", NOT_ROOT);
        }
        Err(why) => findings.warn(
            "reset",
            "",
            format!("connections cannot be reset at a release: {why}"),
            "Clients that only listen need TCP keepalive then; or use a kernel with CONFIG_INET_DIAG_DESTROY.",
        ),
    }
}
