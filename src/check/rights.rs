//! Whether the agent may do at this host's Redis what it does there in a failover.

use std::net::SocketAddr;

use super::{ANSWER, Known};
use crate::agent::clients::channel;
use crate::agent::rights::{agent_sign, client_list, follow_at_once, lag, write_pause};
use crate::redis::{redis_server, rights};
use crate::report::finding::Findings;

/// Judges the rights at the Redis of a master on this host.
pub async fn judge(known: &Known, name: &str, at: SocketAddr, findings: &mut Findings) {
    // Files that cannot be used, and an unknown master, are another check's matter.
    let Ok(master) = known.config.master(name) else {
        return;
    };
    let Ok(server) = redis_server(&known.config, master, at) else {
        return;
    };
    let vips = master.vips.iter().filter(|_| master.tell_clients);
    let channels: Vec<String> = vips.map(|vip| channel(vip.address)).collect();
    let rights = rights(&server, &channels, ANSWER).await;
    let pause = write_pause(&rights.pause, &rights.unpause);
    findings.add("write-pause", at, pause);
    findings.add("follow-at-once", at, follow_at_once(&rights.follow));
    findings.add("lag", at, lag(&rights.info));
    findings.add("agent-sign", at, agent_sign(&rights.number));
    if master.tell_clients {
        let verdict = client_list(&rights.channels, &channels);
        findings.add("client-list", at, verdict);
    }
}
