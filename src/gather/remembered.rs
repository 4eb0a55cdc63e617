//! The Sentinels and the Redis of each master as the last poll found them, for the time when this host's
//! Sentinel does not answer: a small file that `sync` writes and only those may have written who could
//! change this host's addresses anyway. What is not there or cannot be read is not remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::exit::Fault;
use crate::few;
use crate::redis::{Instance, Owner};
use crate::trusted_file::{self, Kind};

/// Where the file is. The unit of `sync` has systemd make this folder.
const FOLDER: &str = "/var/lib/vipswitch";

/// How many Sentinels, and how many Redis, are remembered for each master.
const MOST: usize = 64;

/// After this time a file that is being written was left by a run that was killed: systemd ends a run of
/// `sync` after 55 s.
const LEFT: Duration = Duration::from_secs(60);

/// One thread of this process reads, changes and writes the file at a time.
static WRITES: Mutex<()> = Mutex::new(());

/// What is remembered of every master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    masters: BTreeMap<String, Known>,
    /// The number of the user as whom this host's Sentinel has answered last, by its address.
    #[serde(default)]
    sentinels_users: BTreeMap<String, u32>,
    /// The VIPs that each configuration has named, by its path, until they have gone.
    #[serde(default)]
    named: BTreeMap<PathBuf, BTreeSet<IpAddr>>,
}

/// What is remembered of one master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The other Sentinels.
    pub sentinels: Vec<Listed>,
    /// How many Sentinels must agree that the master is down.
    pub quorum: usize,
    /// Every Redis.
    pub redis: Vec<Listed>,
}

/// A Sentinel or a Redis as a Sentinel listed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its address or its name.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Its run id, once it was known.
    pub run_id: Option<String>,
}

impl From<&Instance> for Listed {
    fn from(one: &Instance) -> Listed {
        Listed {
            host: one.host.clone(),
            port: one.port,
            run_id: one.run_id.clone(),
        }
    }
}

impl Memory {
    /// Reads what was remembered last; nothing where that cannot be read.
    pub fn read() -> Memory {
        let text = path().and_then(|path| trusted_file::read(&path, Kind::Memory).ok());
        let memory = text.and_then(|text| serde_json::from_str(&text).ok());
        memory.unwrap_or_default()
    }

    /// Returns what is remembered of a master.
    pub fn of(&self, master: &str) -> Option<&Known> {
        self.masters.get(master)
    }

    /// Returns who this host's Sentinel's user may be.
    pub fn owner(&self, config: &Config) -> Owner {
        let owner = Owner::default();
        self.tell(config, &owner);
        owner
    }

    /// Has it known who this host's Sentinel's user is.
    pub fn tell(&self, config: &Config, owner: &Owner) {
        let at = config.sentinel.address.to_string();
        let before = self.sentinels_users.get(&at).copied();
        owner.remember(&at, &config.sentinel.users, before);
    }

    /// Remembers as whom it has answered.
    pub fn note_owner(&mut self, owner: &Owner) {
        let Some((at, user)) = owner.answered() else {
            return;
        };
        if self.sentinels_users.len() < MOST || self.sentinels_users.contains_key(&at) {
            self.sentinels_users.insert(at, user);
        }
    }

    /// Returns the host of every server.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let all = self.masters.values();
        let all = all.flat_map(|known| known.sentinels.iter().chain(&known.redis));
        all.map(|one| one.host.as_str())
    }

    /// Remembers masters as a poll found them. A server that is known by a VIP is remembered only if it was before:
    /// then the VIP is mistaken, else it was a source address for a while.
    pub fn learn<'a>(
        &mut self,
        found: impl IntoIterator<Item = (&'a str, Known)>,
        config: &Config,
    ) {
        let vips: BTreeSet<String> = few::set(config.vips().map(|vip| vip.address.to_string()));
        for (master, mut known) in found {
            let is_known = |one: &Listed| {
                !vips.contains(&one.host) || self.hosts().any(|before| before == one.host)
            };
            known.sentinels.retain(is_known);
            known.redis.retain(is_known);
            known.sentinels.truncate(MOST);
            known.redis.truncate(MOST);
            if self.masters.get(master) != Some(&known) {
                self.masters.insert(master.to_owned(), known);
            }
        }
    }

    /// Forgets the masters that are not configured any more.
    pub fn forget(&mut self, config: &Config) {
        self.masters
            .retain(|master, _| config.masters.contains_key(master));
    }

    /// Returns whether a configuration that has this path has named this VIP, and no other one has.
    pub fn was_named_by(&self, path: &Path, vip: IpAddr) -> bool {
        let mut by = self.named.iter().filter(|(_, vips)| vips.contains(&vip));
        by.next().is_some_and(|(first, _)| first == path) && by.next().is_none()
    }

    /// Notes the VIPs of a configuration. Those that it does not name any more are kept as long as they are here.
    pub fn note_vips(&mut self, config: &Config, is_here: impl Fn(IpAddr) -> bool) {
        if self.named.len() >= MOST && !self.named.contains_key(&config.path) {
            return;
        }
        let named = self.named.entry(config.path.clone()).or_default();
        named.retain(|vip| is_here(*vip));
        named.extend(config.vips().map(|vip| vip.address));
    }

    /// Writes it down if it is not what is written there. Masters that are not configured any more are
    /// forgotten. Another run that writes at the same time goes first, and this one does not wait for it.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, in words.
    pub fn write(&mut self, config: &Config) -> Result<(), String> {
        self.forget(config);
        self.write_all()
    }

    fn write_all(&self) -> Result<(), String> {
        if *self == Memory::read() {
            return Ok(());
        }
        let path = path().ok_or("/proc is not there")?;
        let _ = DirBuilder::new().mode(0o755).create(FOLDER);
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        if text.len() as u64 > trusted_file::MAX_SIZE {
            return Err("it would be larger than 1 MiB".into());
        }
        replace(&path, &text).map_err(|error| error.to_string())
    }
}

/// Notes the VIPs of a configuration in the file, and those that are here still. On a thread of its own, as
/// [`write_down`].
pub async fn note_named(config: &Config, here: BTreeSet<IpAddr>) {
    let config = config.clone();
    let note = move || {
        let _turn = WRITES.lock();
        let mut memory = Memory::read();
        memory.note_vips(&config, |vip| here.contains(&vip));
        // `check` says where this cannot be.
        let _ = memory.write(&config);
    };
    let _ = spawn_blocking(note).await;
}

/// Writes all of it down but which VIPs were named: other tasks, and other runs, note that in the file. It waits for the
/// disk.
///
/// # Errors
///
/// A file that cannot be written, in words.
pub fn write_down(mut memory: Memory) -> Result<(), String> {
    let _turn = WRITES.lock();
    memory.named = Memory::read().named;
    memory.write_all()
}

/// Checks that the file can be written and read.
///
/// # Errors
///
/// A folder or a file that cannot be used.
pub fn check() -> Result<(), Fault> {
    let unusable = |why: String| {
        Fault::permanent(format!("cannot remember anything in {FOLDER}: {why}")).remedy(format!(
            "Make it a folder that root can write to: mkdir -m 755 {FOLDER}"
        ))
    };
    let path = path().ok_or_else(|| unusable("/proc is not there".into()))?;
    let folder = Path::new(FOLDER);
    let place = match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => folder,
        Ok(_) => return Err(unusable("it is not a folder".into())),
        Err(_) => Path::new("/var/lib"),
    };
    nix::unistd::access(place, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| unusable(errno.desc().to_lowercase()))?;
    match path.exists() {
        true => trusted_file::read(&path, Kind::Memory).map(drop),
        false => Ok(()),
    }
}

/// One for each network namespace: its hosts may share their files.
fn path() -> Option<PathBuf> {
    // `net:[4026531840]`
    let namespace = fs::read_link("/proc/self/ns/net").ok()?;
    let digits = namespace.to_str()?.chars().filter(char::is_ascii_digit);
    let number: String = digits.collect();
    Some(Path::new(FOLDER).join(format!("{number}-sentinels.json")))
}

/// Puts a file in the place of another, so that at no moment half of it is there.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let age = fs::symlink_metadata(&new).and_then(|left| left.modified());
    let age = age.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    if age.is_ok_and(|age| age > LEFT) {
        fs::remove_file(&new)?;
    }
    let mut options = File::options();
    let mut file = match options.write(true).create_new(true).mode(0o644).open(&new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        opened => opened?,
    };
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
