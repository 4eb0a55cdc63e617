//! One run at a time about a VIP: between Sentinel's answer and what follows from it nobody else may
//! act on an older one.
//!
//! The lock is a [`Name`]. Where a stranger has it, or there are no such sockets, it is flock(2) on a
//! sysctl of the network namespace that only root, or who has CAP_NET_ADMIN there, can open
//! (`net_ctl_permissions` in the kernel's net/sysctl_net.c): one for all VIPs, and only for those who
//! see the same mount of /proc.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::exit::Fault;
use crate::name::{self, Name, Wanted};

/// Root's alone (mode 0600), one for each network namespace since Linux 4.15, and there wherever
/// IPv4 is.
const FILE: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// How long another run may hold a lock. It takes milliseconds; a name server, a kernel or a
/// Sentinel that hangs makes it longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the file's lock is tried again: flock(2) has no deadline of its own.
const PAUSE: Duration = Duration::from_millis(1);

/// A lock, held until it is dropped.
#[must_use]
pub struct Lock {
    _names: Vec<Name>,
    // Closing it gives the lock back.
    _file: Option<File>,
    /// Whether there was one to be had. A VIP that moves unlocked is better than one that does not
    /// move.
    pub is_held: bool,
}

/// Waits until no other run is about any of these VIPs.
///
/// # Errors
///
/// A lock that is held for longer than 10 s is a passing fault.
pub async fn vips(vips: impl Iterator<Item = IpAddr>) -> Result<Lock, Fault> {
    // In one order, so that no two runs wait for each other.
    let each: BTreeSet<IpAddr> = vips.collect();
    all("vip", each.iter().map(IpAddr::to_string), PATIENCE).await
}

/// Waits until no other run is about to remove addresses from this interface.
///
/// # Errors
///
/// As [`vips`].
pub async fn interface(ifindex: u32) -> Result<Lock, Fault> {
    all("interface", [ifindex.to_string()].into_iter(), PATIENCE).await
}

/// Waits until no site command of this VIP runs, for `patience` at most.
///
/// # Errors
///
/// A lock that is held for longer is a passing fault.
pub async fn command(vip: IpAddr, patience: Duration) -> Result<Lock, Fault> {
    all("command", [vip.to_string()].into_iter(), patience).await
}

async fn all(
    kind: &str,
    each: impl Iterator<Item = String>,
    patience: Duration,
) -> Result<Lock, Fault> {
    let until = Instant::now() + patience;
    let mut names = Vec::new();
    for which in each {
        match one(kind, &which, until).await? {
            Some(name) => names.push(name),
            None => {
                // Not for what is locked within: flock(2) does not know its own process.
                let file = match kind {
                    "vip" => file(&which, until).await?,
                    _ => None,
                };
                return Ok(Lock {
                    _names: names,
                    is_held: file.is_some(),
                    _file: file,
                });
            }
        }
    }
    Ok(Lock {
        _names: names,
        _file: None,
        is_held: true,
    })
}

/// Returns `None` where the name is not to be had.
async fn one(kind: &str, which: &str, until: Instant) -> Result<Option<Name>, Fault> {
    loop {
        let held = match Name::want(kind, which).await {
            Wanted::Mine(name) => return Ok(Some(name)),
            Wanted::Denied => return Ok(None),
            Wanted::Held(held) => held,
        };
        let left = until.saturating_duration_since(Instant::now());
        if !name::ended(held, left).await {
            return Err(overdue(kind, which));
        }
    }
}

/// Returns `None` where there is no such file or it may not be opened: who cannot open it cannot
/// change addresses either.
async fn file(which: &str, until: Instant) -> Result<Option<File>, Fault> {
    let Ok(file) = File::open(FILE) else {
        return Ok(None);
    };
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() > until => {
                return Err(overdue("vip", which));
            }
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

fn overdue(kind: &str, which: &str) -> Fault {
    Fault::passing(format!(
        "another run of vipswitch holds the lock of {kind} {which} and does not end"
    ))
    .remedy("See who: ss -xlp | grep vipswitch")
}
