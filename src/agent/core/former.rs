//! Redis that were masters before a leader publishes a promotion. After a failover the old one says for 11 s that it
//! is the master (until Sentinel's `+convert-to-slave`), so that its role proves no promotion: a Sentinel that
//! publishes one, in error or to do harm, would move the VIP back to it.

use std::net::SocketAddr;

use super::Own;
use super::promotion::site;
use crate::evidence::{Ballot, Evidence, OwnRedis, Role, Site};
use crate::failover::{Endpoint, Host};

/// How many are kept: one a failover, and each is forgotten once it follows another.
const KEPT: usize = 8;

/// Every Redis that a majority has named, and that was not seen as a replica since.
#[derive(Debug, Default)]
pub(super) struct Former(Vec<Site>);

impl Former {
    /// Notes whom a majority names. At an agent's start nobody knows what was before: a Redis of this host that is a
    /// master then may be a former one, unless it is the one that a leader promotes at that moment.
    pub(super) fn asked(&mut self, told: &Evidence, is_first: bool, promoting: Option<&Endpoint>) {
        let winner = told.ballot.as_ref().and_then(Ballot::winner);
        let chosen = promoting.map(|to| site(to, &told.known_redis));
        let is_chosen = |own: &OwnRedis| chosen.as_ref().is_some_and(|it| it.is_same(&own.site));
        let own = told.own_redis.iter();
        let masters = own.filter(|own| is_first && own.role == Ok(Role::Master) && !is_chosen(own));
        for site in winner.into_iter().chain(masters.map(|own| &own.site)) {
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
