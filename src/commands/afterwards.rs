//! What an operator who has bound or released a VIP wants to know next: whether the network has
//! noticed, and whether Sentinel agrees. The VIP is in its place by then.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::with_agent::known;
use crate::cli::Options;
use crate::config::Config;
use crate::deeds::announcer::{self, Known};
use crate::gather;
use crate::kernel::{Netlink, Snapshot};
use crate::log;
use crate::once::Run;

/// How long a confirmation is waited for: the announcer's third round is out by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the announcer is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until a neighbour has confirmed each VIP that was announced, and shows that it waits. On a
/// terminal only: a script has `status`.
pub(super) async fn wait_for_confirmation(run: &Run<'_>) {
    if !io::stderr().is_terminal() {
        return;
    }
    let give_up = Instant::now() + PATIENCE;
    for (vip, ifindex) in run.announced_to_peers() {
        let confirmed = loop {
            match announcer::latest(vip, std::iter::once(ifindex)).await {
                Some(Known::AtWork(summary)) if !summary.confirmed_by.is_empty() => {
                    break Some(summary.confirmed());
                }
                _ if Instant::now() > give_up => break None,
                _ => {}
            }
            let left = give_up
                .saturating_duration_since(Instant::now())
                .as_secs_f64();
            log::terminal(&format!(
                "\r{vip}: waiting for a neighbour to answer, {left:.1} s at most "
            ))
            .await;
            sleep(PAUSE).await;
        };
        let said = match confirmed {
            Some(who) => format!("confirmed by {who}"),
            None => "nobody has answered yet; it is announced for some seconds more, see `vipswitch status`".into(),
        };
        // Over what was shown while it waited.
        log::terminal(&format!("\r\x1b[K{vip}: {said}\n")).await;
    }
}

/// Says so where Sentinel names another host than this one, to which the VIP was just bound, or this
/// one, from which it was just released; and what becomes of that where the agent does it, or does not.
pub(super) async fn compare_with_sentinel(
    config: &Config,
    run: &Run<'_>,
    bound: bool,
    options: &Options,
) {
    let mut masters: Vec<&str> = run
        .outcomes()
        .map(|outcome| outcome.master.as_str())
        .collect();
    masters.dedup();
    let Ok(netlink) = Netlink::open() else { return };
    let snapshot = Snapshot::new(&netlink);
    for name in masters {
        let site = match gather::master_site(config, name, &snapshot).await {
            Ok(Some(site)) => site,
            Ok(None) => continue,
            // Without Sentinel's word there is nothing to compare with.
            Err(_) => return,
        };
        let master = &site.endpoint;
        let (host, undone, ends) = match (bound, gather::is_here(&site)) {
            (true, Some(false)) => ("another host", "would release the VIP here", "unbind"),
            (false, Some(true)) => ("this host", "would bring the VIP back", "bind"),
            _ => continue,
        };
        // Such an order is this run's own only where no agent is, but for a dry run.
        let name_of_it = [name.to_owned()];
        let then = match options.dry_run && known(&name_of_it, options).await.is_some() {
            true => format!(
                "with --force it holds until the next failover, or `vipswitch {ends} {name}`"
            ),
            false => {
                format!(
                    "the next `vipswitch sync` {undone}; where vipswitch-sync.timer is enabled that is within 30 s"
                )
            }
        };
        log::stderr(&format!(
            "{name}: mind that Sentinel says the master is {master}, {host}: {then}"
        ))
        .await;
    }
}
