//! One run at a time about a VIP: between Sentinel's answer and what follows from it nobody else may
//! act on an older one.
//!
//! The lock is a [`Name`] for each VIP. Where a stranger has the name, the run excludes all others
//! instead: every run holds flock(2) on a sysctl of the network namespace that only root, or a process with
//! CAP_NET_ADMIN there, can open (`net_ctl_permissions` in the kernel's net/sysctl_net.c), shared
//! while it has all its names, and alone where a name is denied. The names are the same in every
//! sandbox, the file only for those that see the same mount of /proc. A run that has the file does not wait for a
//! name on which nobody listens: whoever is about to listen waits for the file first. The site's commands have a
//! file of their own, so that a slow command delays no VIP.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::abstract_lock::{self, Name, Wanted};
use crate::exit::Fault;
use crate::few;

/// Root's alone (mode 0600), one for each network namespace since Linux 4.15, and there wherever
/// IPv4 is.
const FILE: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// The same for the site's commands, wherever IPv6 is (mode 0600, net/ipv6/addrconf.c).
const COMMANDS_FILE: &str = "/proc/sys/net/ipv6/conf/all/stable_secret";

/// How long another run may hold a lock. It takes milliseconds; a name server, a kernel or a
/// Sentinel that hangs makes it longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the file's lock is tried again: flock(2) has no deadline of its own.
const PAUSE: Duration = Duration::from_millis(1);

/// The lock of a run, held until it is dropped.
#[must_use]
pub struct Lock {
    has_names: bool,
    _names: Vec<Name>,
    // Closing it gives its lock back.
    file: Option<File>,
}

/// Waits until no other run is about any of these VIPs.
///
/// # Errors
///
/// A lock that is held for longer than 10 s is a passing fault.
pub async fn vips(vips: impl Iterator<Item = IpAddr>) -> Result<Lock, Fault> {
    let until = Instant::now() + PATIENCE;
    // Who cannot open it cannot change addresses either, or has no /proc.
    let file = File::open(FILE).ok();
    let unanswered = unanswered(file.as_ref());
    // In one order, so that no two runs wait for each other.
    let each: BTreeSet<IpAddr> = few::set(vips);
    let mut names = Vec::new();
    for vip in &each {
        names.extend(take("vip", &vip.to_string(), until, unanswered).await?);
    }
    let has_names = names.len() == each.len();
    let lock = Lock {
        has_names,
        _names: names,
        file,
    };
    lock.hold_file(!has_names, until).await?;
    Ok(lock)
}

/// How long a name is waited for on which nobody listens.
fn unanswered(file: Option<&File>) -> Duration {
    file.map_or(abstract_lock::UNANSWERED, |_| Duration::ZERO)
}

/// The lock of a VIP's site commands, held until it is dropped.
#[must_use]
pub struct CommandLock {
    _name: Option<Name>,
    _file: Option<File>,
}

/// Waits until no site command of this VIP runs, for `patience` at most. Where a stranger has the name,
/// until no site command runs at all.
///
/// # Errors
///
/// A lock that is held for longer is a passing fault.
pub async fn command(vip: IpAddr, patience: Duration) -> Result<CommandLock, Fault> {
    let until = Instant::now() + patience;
    let file = File::open(COMMANDS_FILE).ok();
    let unanswered = unanswered(file.as_ref());
    let name = take("command", &vip.to_string(), until, unanswered).await?;
    if let Some(file) = &file {
        hold(file, COMMANDS_FILE, name.is_none(), until).await?;
    }
    Ok(CommandLock {
        _name: name,
        _file: file,
    })
}

impl Lock {
    /// Returns whether a lock could be taken. A VIP that moves without a lock is better than a VIP that does
    /// not move.
    pub fn is_held(&self) -> bool {
        self.has_names || self.file.is_some()
    }

    /// Waits until no other run is about to remove addresses from this interface. Returns its name,
    /// unless this run excludes all others.
    ///
    /// # Errors
    ///
    /// As [`vips`].
    pub async fn interface(&self, ifindex: u32) -> Result<Option<Name>, Fault> {
        let until = Instant::now() + PATIENCE;
        if !self.has_names {
            return Ok(None);
        }
        let name = take(
            "interface",
            &ifindex.to_string(),
            until,
            unanswered(self.file.as_ref()),
        )
        .await?;
        if name.is_none() {
            self.hold_file(true, until).await?;
        }
        Ok(name)
    }

    /// Waits for the file's lock, alone or shared with others.
    async fn hold_file(&self, alone: bool, until: Instant) -> Result<(), Fault> {
        match &self.file {
            Some(file) => hold(file, FILE, alone, until).await,
            None => Ok(()),
        }
    }
}

/// Waits for a file's lock, alone or shared with others.
async fn hold(file: &File, path: &str, alone: bool, until: Instant) -> Result<(), Fault> {
    loop {
        let tried = if alone {
            file.try_lock()
        } else {
            file.try_lock_shared()
        };
        match tried {
            // A file system without locks has none for anybody.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() > until => {
                return Err(overdue(path).remedy(format!("See who: lslocks, or fuser {path}")));
            }
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
        }
    }
}

/// Returns `None` where a stranger has the name.
async fn take(
    kind: &str,
    which: &str,
    until: Instant,
    unanswered: Duration,
) -> Result<Option<Name>, Fault> {
    loop {
        let held = match Name::want(kind, which, unanswered).await {
            Wanted::Mine(name) => return Ok(Some(name)),
            Wanted::Denied => return Ok(None),
            Wanted::Held(held) => held,
        };
        let left = until.saturating_duration_since(Instant::now());
        if !abstract_lock::ended(held, left).await {
            let fault = overdue(&format!("{kind} {which}"));
            return Err(fault.remedy("See who: ss -xlp | grep vipswitch"));
        }
    }
}

fn overdue(of: &str) -> Fault {
    Fault::passing(format!(
        "another run of vipswitch holds the lock of {of} and does not end"
    ))
}
