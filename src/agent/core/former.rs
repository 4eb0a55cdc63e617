//! Redis that were masters before a leader publishes a promotion. After a failover the old one says for 11 s that it
//! is the master (until Sentinel's `+convert-to-slave`), so that its role proves no promotion: a Sentinel that
//! publishes one, in error or to do harm, would move the VIP back to it.

use std::net::SocketAddr;

use super::Own;
use super::promotion::site;
use crate::evidence::{Ballot, Evidence, OwnRedis, Role, Site};
use crate::failover::{Endpoint, Host};

/// How many are kept: one a failover, and at an agent's start all that are known. Each is forgotten once it follows
/// another.
const KEPT: usize = 32;

/// Every Redis that a majority has named, or that was there before this agent, and that was not seen as a replica since.
#[derive(Debug, Default)]
pub(super) struct Former(Vec<Site>);

impl Former {
    /// Notes whom a majority names. At an agent's start nobody knows what was before: where a Redis of this host is a
    /// master then, that one or any other may be a former one, whatever a Sentinel says that it promotes.
    pub(super) fn asked(&mut self, told: &Evidence, is_first: bool) {
        let winner = told.ballot.as_ref().and_then(Ballot::winner);
        let is_master = |own: &OwnRedis| own.role == Ok(Role::Master);
        let is_unknown = is_first && told.own_redis.iter().any(is_master);
        let own = told.own_redis.iter().map(|own| &own.site);
        let known = told.known_redis.iter().chain(own);
        for site in known.filter(|_| is_unknown).chain(winner) {
            self.follows(site);
            self.0.push(site.clone());
        }
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    /// Notes what a Redis of this host says: it is a replica, or it is followed by these.
    pub(super) fn heard(&mut self, at: SocketAddr, own: &Own, told: &Evidence) {
        if own.role == Ok(Role::Replica) {
            let mut sites = told.own_redis.iter().filter(|redis| redis.at == at);
            if let Some(redis) = sites.next() {
                self.follows(&redis.site);
            }
        }
        if self.0.is_empty() {
            return;
        }
        for replica in own.replicas.iter().filter_map(|it| endpoint(&it.at)) {
            self.follows(&site(&replica, &told.known_redis));
        }
    }

    /// Notes that a Redis was seen as a replica.
    pub(super) fn follows(&mut self, redis: &Site) {
        self.0.retain(|former| !former.is_same(redis));
    }

    /// Returns whether this Redis is a master since before its promotion was published.
    pub(super) fn has(&self, redis: &Site) -> bool {
        self.0.iter().any(|former| former.is_same(redis))
    }
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Endpoint {
        host: Host::read(host)?,
        port: port.parse().ok()?,
    })
}
