//! The local Sentinel in the lists of the others, and in forged ones: it has one vote.

use super::others::{Other, is_same};
use std::net::IpAddr;

use crate::config::{Address, Config};
use crate::failover::Host;
use crate::hosts;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::{Instance, View};

/// Returns the Sentinels that only others list, with the master's name: the local Sentinel was just started,
/// or has forgotten them. It stands in the others' lists itself, and must not be asked twice: a list in which
/// it is not recognized (behind NAT) is passed over.
pub(super) async fn further(others: &[Other], config: &Config) -> Vec<(String, Instance)> {
    let Ok(netlink) = Netlink::open() else {
        return Vec::new();
    };
    let snapshot = Snapshot::new(&netlink);
    let port = config.sentinel.address.port();
    let mut further = Vec::new();
    for other in others {
        for (name, view) in &other.views {
            let Some(Ok(view)) = view else { continue };
            let is_new = |at: &&Instance| !others.iter().any(|other| other.is_listed_as(at));
            let mut unlisted: Vec<&Instance> = view.sentinels.iter().filter(is_new).collect();
            let mut is_own = None;
            for (place, at) in unlisted.iter().enumerate() {
                if is_local(&snapshot, config, port, at).await {
                    is_own = Some(place);
                }
            }
            if let Some(place) = is_own {
                unlisted.remove(place);
                further.extend(unlisted.into_iter().map(|at| (name.clone(), at.clone())));
            }
        }
    }
    further
}

/// Takes the local Sentinel out of its own lists, by whatever address it stands there (a forged hello, or an
/// address that every host has).
pub(super) async fn forget_in_views(views: impl Iterator<Item = &mut View>, config: &Config) {
    let lists = views.map(|view| &mut view.sentinels);
    forget(lists, config, config.sentinel.address.port()).await;
}

/// Takes the local Sentinel out of the lists of those who are asked in its place. On a Unix socket it tells
/// no port; then no Sentinel of this host is asked in its place.
pub(super) async fn forget_in_place(
    lists: impl Iterator<Item = &mut Vec<Instance>>,
    config: &Config,
) {
    match &config.sentinel.address {
        Address::Tcp(_, port) => forget(lists, config, Some(*port)).await,
        Address::Unix(_) => {
            for list in lists {
                let ports: Vec<u16> = list.iter().map(|at| at.port).collect();
                for port in ports {
                    forget(std::iter::once(&mut *list), config, Some(port)).await;
                }
            }
        }
    }
}

async fn forget(
    lists: impl Iterator<Item = &mut Vec<Instance>>,
    config: &Config,
    port: Option<u16>,
) {
    let Ok(netlink) = Netlink::open() else { return };
    let snapshot = Snapshot::new(&netlink);
    for list in lists {
        let mut others: Vec<Instance> = Vec::new();
        for at in std::mem::take(list) {
            let is_known = others.iter().any(|other| is_same(other, &at));
            if !is_known && !is_local(&snapshot, config, port, &at).await {
                others.push(at);
            }
        }
        *list = others;
    }
}

/// Returns whether a description is of the local Sentinel: an address of this host, and its port.
async fn is_local(
    snapshot: &Snapshot<'_>,
    config: &Config,
    port: Option<u16>,
    at: &Instance,
) -> bool {
    let addresses = Host::read(&at.host)
        .map(|host| hosts::at_hand(&host))
        .unwrap_or_default();
    let carriers = snapshot.carriers(&addresses).await.unwrap_or_default();
    // A Sentinel that is known by a VIP is not this one because the VIP is here.
    let is_vip = |address: &IpAddr| config.vips().any(|vip| vip.address == *address);
    let mut own = carriers
        .iter()
        .filter(|(address, carrier)| carrier.is_some() && !is_vip(address));
    port == Some(at.port) && own.next().is_some()
}
