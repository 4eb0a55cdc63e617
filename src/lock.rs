//! One run at a time in a network namespace: between Sentinel's answer and what follows from it
//! nobody else may act on an older one.
//!
//! The lock is flock(2) on a sysctl of the network namespace that only root, or who has
//! CAP_NET_ADMIN there, can open (`net_ctl_permissions` in the kernel's net/sysctl_net.c). So it
//! needs no writable folder, also works where /proc/sys is mounted read-only, is gone with its
//! process however that died, and no unprivileged stranger can hold it. It is the same file for
//! all who see the same mount of /proc; a sandbox with a mount of its own (`ProtectProc=`) has a
//! lock of its own.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::exit::Fault;

/// Root's alone (mode 0600), one for each network namespace since Linux 4.15, and there wherever
/// IPv4 is.
const FILE: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// How long another run may hold the lock. It takes milliseconds; only a kernel or a Sentinel
/// that hangs makes it longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a lock that is held is tried again: flock(2) has no deadline of its own.
const PAUSE: Duration = Duration::from_micros(500);

/// The lock, held until it is dropped.
pub struct Lock {
    // Closing it gives the lock back.
    _file: File,
}

/// Waits for the lock. Returns `None` where there is none to be had: a process that cannot open
/// the file cannot change addresses either, and without /proc a VIP that moves unlocked is better
/// than one that does not move.
///
/// # Errors
///
/// A lock that is held for longer than 10 s is a passing fault.
pub async fn acquire() -> Result<Option<Lock>, Fault> {
    let file = match File::open(FILE) {
        Ok(file) => file,
        Err(error) => return unavailable(&error),
    };
    let give_up = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) if Instant::now() > give_up => {
                let text = format!(
                    "another run of vipswitch has held the lock for {} s",
                    PATIENCE.as_secs()
                );
                return Err(
                    Fault::passing(text).remedy(format!("See who: lslocks, or fuser {FILE}"))
                );
            }
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            Err(TryLockError::Error(error)) => return unavailable(&error),
        }
    }
}

fn unavailable(error: &io::Error) -> Result<Option<Lock>, Fault> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
        _ => Err(Fault::passing(format!(
            "cannot open the lock {FILE}: {error}"
        ))),
    }
}
