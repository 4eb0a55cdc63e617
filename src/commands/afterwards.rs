//! What an operator who has bound or released a VIP wants to know next: whether the network has
//! noticed, and whether Sentinel agrees. The VIP is in its place by then.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, SENTINEL_TIMEOUT};
use crate::deeds::announcer::{self, Known};
use crate::failover::Host;
use crate::kernel::Netlink;
use crate::kernel::Snapshot;
use crate::log;
use crate::plan::ToIs;
use crate::run::{Run, Target};
use crate::sentinel::{MasterAddress, master_address};

/// How long a confirmation is waited for: the announcer's third round is out by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the announcer is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until a neighbour has confirmed each VIP that was announced, and shows that it waits. On a
/// terminal only: a script has `status`.
pub(super) fn wait_for_confirmation(run: &Run<'_>) {
    let mut stderr = io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let give_up = Instant::now() + PATIENCE;
    for (vip, ifindex) in run.announced_to_peers() {
        let confirmed = loop {
            let known = announcer::latest(vip, std::iter::once(ifindex));
            match known {
                Some(Known::AtWork(summary)) if !summary.confirmed_by.is_empty() => {
                    break Some(summary.confirmed());
                }
                _ if Instant::now() > give_up => break None,
                _ => {}
            }
            let left = give_up.saturating_duration_since(Instant::now());
            let _ = write!(
                stderr,
                "\r{vip}: waiting for a neighbour to answer, {:.1} s at most ",
                left.as_secs_f64()
            );
            thread::sleep(PAUSE);
        };
        let said = match confirmed {
            Some(who) => format!("confirmed by {who}"),
            None => "nobody has answered yet; it is announced for some seconds more, see `vipswitch status`".into(),
        };
        // Over what was shown while it waited.
        let _ = writeln!(stderr, "\r\x1b[K{vip}: {said}");
    }
}

/// Says so where Sentinel names another host than this one, to which the VIP was just bound, or this
/// one, from which it was just released.
pub(super) fn compare_with_sentinel(config: &Config, targets: &[Target<'_>], bound: bool) {
    let mut masters: Vec<&str> = targets.iter().map(|target| target.master).collect();
    masters.dedup();
    for name in masters {
        let master = match master_address(&config.sentinel, name, SENTINEL_TIMEOUT) {
            Ok(Some(master)) => master,
            Ok(None) => continue,
            // Without Sentinel's word there is nothing to compare with.
            Err(_) => return,
        };
        let (host, undone) = match (bound, is_here(&master)) {
            (true, Some(false)) => ("another host", "would release the VIP here"),
            (false, Some(true)) => ("this host", "would bring the VIP back"),
            _ => continue,
        };
        log::stderr(&format!(
            "{name}: mind that Sentinel says the master is {master}, {host}: `vipswitch sync`, which vipswitch-sync.timer runs every 30 s, {undone}"
        ));
    }
}

/// Whether it is an address of this host, if that can be told; a name is not looked up for this.
fn is_here(master: &MasterAddress) -> Option<bool> {
    let Some(Host::Address(address)) = Host::read(&master.host) else {
        return None;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let netlink = Netlink::open().ok()?;
        let is = Snapshot::new(&netlink).where_is(&[address]).await.ok()?;
        Some(is != ToIs::Elsewhere)
    })
}
