//! What an earlier configuration has left: addresses with our mark that no master has any more.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::config::{self, Config};
use crate::deeds::release::{self, Leaving};
use crate::exit::{Fault, Halted};
use crate::gather::remembered::{self, Memory};
use crate::kernel::{Address, Netlink, Snapshot};
use crate::lock;
use crate::outcome::{Did, Outcome, Released, State};
use crate::vip::Vip;

/// What the reports call the master of an address that has none.
pub const NO_MASTER: &str = "(no master)";

/// Returns the addresses with our mark that the configuration has named and does not name any more, each once. The
/// mark does not tell which configuration an address is from: an address that another file has named, too, is left
/// out. A kernel before 5.18 has no marks, so that the list is empty there.
pub fn left_over(addresses: &[Address], config: &Config, memory: &Memory) -> Vec<Vip> {
    let is_configured = |one: &Address| config.vips().any(|vip| vip.address == one.local);
    let was_named = |one: &Address| memory.was_named_by(&config.path, one.local);
    let mut found: Vec<Vip> = addresses
        .iter()
        .filter(|one| one.is_ours && !is_configured(one) && was_named(one))
        .map(|one| Vip {
            address: one.local,
            prefix: one.subnet.prefix,
        })
        .collect();
    found.sort_unstable();
    found.dedup_by_key(|vip| vip.address);
    found
}

/// How long the configuration must have been without a VIP: a file that is half written may be valid by chance.
const SURE: Duration = Duration::from_secs(1);

/// Releases what an earlier state of the configuration has left on this host. Returns what came of each.
///
/// # Errors
///
/// A netlink fault.
pub async fn release_left_over(config: &Config, dry_run: bool) -> Result<Vec<Outcome>, Fault> {
    let netlink = Netlink::open()?;
    let mut addresses = netlink.addresses([0; 4].into()).await?;
    addresses.extend(netlink.addresses([0; 16].into()).await?);
    let memory = Memory::read();
    let all = left_over(&addresses, config, &memory);
    if !all.is_empty() && !dry_run {
        sleep(SURE).await;
    }
    let mut outcomes = Vec::new();
    for vip in all {
        let mut outcome = Outcome::new(NO_MASTER, vip);
        match release_one(&netlink, vip, &config.path, dry_run).await {
            Ok(Some(released)) => {
                outcome.so_far.released_here = true;
                outcome.state = State::Done(Did::Released(released));
                addresses.retain(|one| one.local != vip.address || dry_run);
            }
            // Another run was faster, or the configuration knows it by now.
            Ok(None) => continue,
            Err(fault) => outcome.state = State::from(fault),
        }
        outcomes.push(outcome);
    }
    if !dry_run {
        let here = addresses.iter().map(|one| one.local).collect();
        remembered::note_named(config, here).await;
    }
    Ok(outcomes)
}

async fn release_one(
    netlink: &Netlink,
    vip: Vip,
    path: &Path,
    dry_run: bool,
) -> Result<Option<Released>, Fault> {
    let _lock;
    let lock = match dry_run {
        true => None,
        false => {
            _lock = lock::vips([vip.address].into_iter()).await?;
            Some(&_lock)
        }
    };
    // A hook that has read a newer file may have bound it meanwhile; under the lock it has or has not.
    let no_masters: [&str; 0] = [];
    let config = config::load(path, &no_masters, Instant::now()).await?;
    let is_configured = config.vips().any(|one| one.address == vip.address);
    let mut bindings = Snapshot::new(netlink).bindings(vip.address).await?;
    bindings.retain(|binding| binding.is_ours);
    if is_configured || bindings.is_empty() {
        return Ok(None);
    }
    let Some(lock) = lock else {
        let mut interfaces = Vec::new();
        for binding in &bindings {
            let link = netlink.link(binding.ifindex).await?;
            interfaces.extend(link.map(|link| link.name));
        }
        return Ok(Some(Released {
            interfaces,
            ..Released::default()
        }));
    };
    let leaving = Leaving {
        vip,
        bindings: &bindings,
        vips: &config.vips().map(|one| one.address).collect(),
        routes: netlink.routes_from(vip.address).await,
    };
    match release::release(netlink, lock, leaving).await {
        Ok(released) => Ok(Some(released)),
        Err(Halted { fault, .. }) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::Subnet;

    #[test]
    fn only_an_address_with_our_mark_and_without_a_master_is_left_over() {
        let config = "[masters.m]\nvip = [\"10.0.0.9/24\", \"fd00::9\"]\n";
        let config = config::parse(config, Path::new("/x")).unwrap();
        let address = |text: &str, is_ours| {
            let Vip { address, prefix } = Vip::parse(text).unwrap();
            Address {
                ifindex: 2,
                local: address,
                subnet: Subnet { address, prefix },
                usable: true,
                secondary: false,
                lasts: true,
                is_ours,
            }
        };
        let addresses = [
            address("10.0.0.9/32", true),
            address("fd00::9/64", true),
            address("10.0.0.1/24", false),
            address("10.0.0.8/24", true),
            address("10.0.0.8/32", true),
            address("fd00::8/64", true),
        ];
        let mut memory = Memory::default();
        assert_eq!(left_over(&addresses, &config, &memory), []);
        let before = "[masters.m]\nvip = [\"10.0.0.8\", \"fd00::8\", \"10.0.0.1\"]\n";
        let before = |path: &str| config::parse(before, Path::new(path)).unwrap();
        memory.note_vips(&before("/x"), |_| false);
        memory.note_vips(&config, |_| true);
        let found = left_over(&addresses, &config, &memory);
        let expected = ["10.0.0.8/24", "fd00::8/64"].map(|text| Vip::parse(text).unwrap());
        assert_eq!(found, expected);
        // Another file has named them as well: nobody can tell whose they are.
        memory.note_vips(&before("/y"), |_| true);
        assert_eq!(left_over(&addresses, &config, &memory), []);
    }
}
