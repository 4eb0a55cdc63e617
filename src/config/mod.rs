//! The configuration, as a type. [`parse()`] makes it from a text, with every mistake named by
//! file, line and column. The same file serves every server, so nothing in it says which host this
//! is. Only [`load`], at the foot, reads a file.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;

use crate::exit::{Fault, Kind};
use crate::failover::{Endpoint, Host};
use crate::place::is_own_name;
use crate::text::escape;
use crate::trusted_file;
use crate::vip::Vip;

pub use parse::parse;

/// Where the configuration is unless `--config` or `VIPSWITCH_CONFIG` names another file.
pub const DEFAULT_PATH: &str = "/etc/vipswitch.toml";

/// Everything that the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Each master by its master-name.
    pub masters: BTreeMap<String, Master>,
    /// This host's Sentinel.
    pub sentinel: Sentinel,
    /// The files of TLS, where Sentinel or a Redis wants it.
    pub tls: Option<Tls>,
    /// What Sentinel calls each host, by the host's name, where no interface has that address (NAT).
    pub hosts: BTreeMap<String, Vec<Host>>,
    /// The agent's settings.
    pub agent: Agent,
}

/// The agent's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The group that may connect to its socket: that of Sentinel's user.
    pub socket_group: Option<String>,
    /// Where its metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How often it announces what is here; zero is never.
    pub announce_every: Duration,
    /// Whether it releases the VIPs when it is stopped.
    pub release_on_stop: bool,
}

impl Default for Agent {
    fn default() -> Agent {
        Agent {
            socket_group: None,
            metrics: None,
            announce_every: Duration::from_secs(60),
            release_on_stop: false,
        }
    }
}

/// What the agent does with a VIP while this host is cut off from its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIsolation {
    /// It releases the VIP: the others have a new master by then.
    #[default]
    Release,
    /// It keeps the VIP.
    Keep,
}

/// What the agent does when the master's Redis, on this host, has died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRedisDeath {
    /// It has a Sentinel begin the failover at once.
    #[default]
    Failover,
    /// It leaves that to Sentinel, which waits for `down-after-milliseconds`.
    Wait,
}

/// One master and the addresses that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its VIPs, at least one.
    pub vips: Vec<Vip>,
    /// The interface that they belong on, if the configuration names it.
    pub interface: Option<String>,
    /// Neighbours that are asked after each take-over, so that their answers prove delivery.
    pub announce_to: Vec<IpAddr>,
    /// The ACL user of its Redis, where it needs one to tell its role.
    pub redis_username: Option<String>,
    /// The password of its Redis, where it needs one to tell its role.
    pub redis_password: Option<Password>,
    /// Whether its Redis wants TLS.
    pub tls: bool,
    /// What the site wants run after a take-over.
    pub on_take_over: Option<SiteCommand>,
    /// What the site wants run after a release.
    pub on_release: Option<SiteCommand>,
    /// What the agent does with its VIPs while this host is cut off from its peers.
    pub on_isolation: OnIsolation,
    /// What the agent does when its Redis, on this host, has died as the master.
    pub on_redis_death: OnRedisDeath,
    /// Whether clients of a host that died are told by the agent of the next holder, which needs to know who they are.
    pub tell_clients: bool,
}

/// A command from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCommand {
    /// The program, by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether its failure is this run's.
    pub required: bool,
}

impl SiteCommand {
    /// Returns the program.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

/// How long a command may take unless configured.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may be configured to take: with this run's own retries it has to stay below the
/// minute after which Sentinel kills the run.
const LONGEST: Duration = Duration::from_secs(20);

/// Where this host's Sentinel listens and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinel {
    /// Its address, 127.0.0.1:26379 unless configured.
    pub address: Address,
    /// The ACL user, where it needs one.
    pub username: Option<String>,
    /// The password, where it needs one.
    pub password: Option<Password>,
    /// Whether it and the other Sentinels want TLS. A Unix socket has no TLS.
    pub tls: bool,
    /// The numbers of the users as one of whom it runs, where that is said.
    pub users: Vec<u32>,
    /// The Sentinels of the other hosts that may be sent the password, and are asked where this host's is silent.
    pub peers: Vec<Endpoint>,
}

/// Where Sentinel listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address or a name, and a port.
    Tcp(Host, u16),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl Address {
    /// Returns the TCP port, if it is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp(_, port) => Some(*port),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::Tcp(Host::Address(IpAddr::V6(address)), port) => {
                write!(f, "[{address}]:{port}")
            }
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Whose certificates are believed, and which is shown. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the CA.
    pub ca_file: PathBuf,
    /// What is shown to a server.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the CA's.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Where a password is.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// In the configuration itself.
    Here(String),
    /// The first line of this file.
    File(PathBuf),
}

/// Never shows the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Password::Here(_) => f.write_str("Here(…)"),
            Password::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Password {
    /// Returns the password.
    ///
    /// # Errors
    ///
    /// Those of [`trusted_file::read`].
    pub fn read(&self) -> Result<String, Fault> {
        match self {
            Password::Here(password) => Ok(password.clone()),
            Password::File(file) => {
                let text = trusted_file::read(file, trusted_file::Kind::Password)?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
        }
    }
}

/// Where Sentinel listens unless configured.
const DEFAULT_SENTINEL: Address =
    Address::Tcp(Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), 26379);

/// How long Sentinel may take in all to answer one question, connecting included.
pub const SENTINEL_TIMEOUT: Duration = Duration::from_millis(300);

impl Config {
    /// Returns the master of this name.
    ///
    /// # Errors
    ///
    /// An unknown name is permanent; the nearest known one is suggested.
    pub fn master(&self, name: &str) -> Result<&Master, Fault> {
        self.masters.get(name).ok_or_else(|| {
            let known = self.masters.keys().map(String::as_str);
            Fault::permanent(format!(
                "no master \"{}\" in the configuration {}",
                escape(name),
                escape(&self.path.to_string_lossy())
            ))
            .remedy(match nearest(name, known.clone()) {
                Some(near) => format!("Did you mean \"{}\"?", escape(near)),
                None => format!(
                    "It knows: {}.",
                    known.map(escape).collect::<Vec<_>>().join(", ")
                ),
            })
        })
    }

    /// Returns the name of the only master.
    ///
    /// # Errors
    ///
    /// Several masters are permanent, and named.
    pub fn only_master(&self) -> Result<&str, Fault> {
        let mut names = self.masters.keys();
        if let (Some(name), None) = (names.next(), names.next()) {
            return Ok(name);
        }
        let names: Vec<String> = self.masters.keys().map(|name| escape(name)).collect();
        let text = "several masters are configured and none is named";
        let remedy = format!("Name the one that is meant, of {}.", names.join(", "));
        Err(Fault::permanent(text).remedy(remedy))
    }

    /// Returns whether `[hosts]` gives one of these to the host of this name, `own`, or to another; `None`
    /// where it names none of them.
    pub fn is_own(&self, named: &[Host], own: &str) -> Option<bool> {
        let has = |hosts: &Vec<Host>| hosts.iter().any(|host| named.contains(host));
        let mut owners = self.hosts.iter().filter(|(_, hosts)| has(hosts));
        let owner = owners.next().map(|(name, _)| name)?;
        Some(is_own_name(owner, own))
    }

    /// Whether a password stands in the configuration itself.
    fn has_password(&self) -> bool {
        matches!(self.sentinel.password, Some(Password::Here(_)))
    }

    /// Returns whether a certificate of this host's can be shown.
    pub fn has_client_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client.is_some())
    }

    /// Returns whether anything is shown to a Redis of this master that is not everybody's to see.
    pub fn has_secrets_of(&self, master: &Master) -> bool {
        master.redis_password.is_some() || master.tls && self.has_client_certificate()
    }

    /// Returns its own file and those of the passwords: of Sentinel, and if wanted of each Redis.
    pub fn files(&self, of_redis: bool) -> BTreeSet<PathBuf> {
        let masters = self.masters.values().filter(|_| of_redis);
        let passwords = masters.map(|master| &master.redis_password);
        let files = passwords.chain([&self.sentinel.password]).flatten();
        let files = files.filter_map(|password| match password {
            Password::File(file) => Some(file.clone()),
            Password::Here(_) => None,
        });
        files.chain([self.path.clone()]).collect()
    }

    /// Returns every VIP of every master.
    pub fn vips(&self) -> impl Iterator<Item = &Vip> {
        self.masters.values().flat_map(|master| &master.vips)
    }
}

/// One VIP that a run is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its master's name.
    pub name: &'a str,
    /// Its master.
    pub master: &'a Master,
    /// The VIP.
    pub vip: Vip,
}

impl<'a> Target<'a> {
    /// Returns the VIPs of these masters, of every master if none is named, in the order of their names.
    ///
    /// # Errors
    ///
    /// An unknown name is permanent.
    pub fn of(config: &'a Config, masters: &[impl AsRef<str>]) -> Result<Vec<Target<'a>>, Fault> {
        for name in masters {
            config.master(name.as_ref())?;
        }
        let wanted =
            |name: &str| masters.is_empty() || masters.iter().any(|one| one.as_ref() == name);
        let masters = config.masters.iter().filter(|(name, _)| wanted(name));
        let targets = masters
            .flat_map(|(name, master)| master.vips.iter().map(|&vip| Target { name, master, vip }));
        Ok(targets.collect())
    }
}

/// Returns the known word that `word` is most likely a misspelling of: the fewest letters
/// changed, at most one in three.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .filter(|(distance, candidate)| *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How long a file that makes no sense is read again, from the first look on: an editor, `cp` or a
/// configuration tool is hardly ever half-way for longer.
const BEING_WRITTEN: Duration = Duration::from_secs(1);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads the configuration, with these masters in it. A file that cannot be used is read again for a second:
/// it may be half written, or missing until an editor has renamed the new one; and after a passing
/// fault until `give_up`.
///
/// # Errors
///
/// Those of [`trusted_file::read`] and [`parse()`], and a master that is not there. A file with a
/// password in it that everyone can read is refused. Every one is permanent but failures to read that
/// may pass.
pub async fn load(
    path: &Path,
    masters: &[impl AsRef<str>],
    give_up: Instant,
) -> Result<Config, Fault> {
    let written = Instant::now() + BEING_WRITTEN;
    loop {
        let fault = match read(path, masters) {
            Ok(config) => return Ok(config),
            Err(fault) => fault,
        };
        let until = match fault.kind {
            Kind::Passing => give_up.max(written),
            Kind::Permanent => written,
        };
        if Instant::now() + PAUSE > until {
            return Err(fault);
        }
        sleep(PAUSE).await;
    }
}

/// Reads a configuration once, as it is now.
///
/// # Errors
///
/// See [`load`].
pub fn read(path: &Path, masters: &[impl AsRef<str>]) -> Result<Config, Fault> {
    let config = parse(
        &trusted_file::read(path, trusted_file::Kind::Configuration)?,
        path,
    )?;
    if config.has_password() {
        trusted_file::read(path, trusted_file::Kind::Secrets)?;
    }
    for name in masters {
        config.master(name.as_ref())?;
    }
    Ok(config)
}
