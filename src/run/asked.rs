//! What a run is asked for, and about which VIPs.

use std::net::IpAddr;

use crate::config::Config;
use crate::exit::Fault;
use crate::failover::Failover;
use crate::plan::Call;
use crate::vip::Vip;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Sentinel called.
    Follow(&'a Failover),
    /// An operator called.
    Operator(Call),
    /// This host is to agree with what is true now. All targets are of one master.
    Sync,
}

/// One VIP that it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its master's name.
    pub master: &'a str,
    /// The VIP.
    pub vip: Vip,
    /// The interface that the configuration names for it.
    pub interface: Option<&'a str>,
    /// The neighbours that the configuration names.
    pub announce_to: &'a [IpAddr],
}

impl<'a> Target<'a> {
    /// Returns the VIPs of these masters, of every master if none is named.
    ///
    /// # Errors
    ///
    /// An unknown name is permanent.
    pub fn of(config: &'a Config, masters: &[impl AsRef<str>]) -> Result<Vec<Target<'a>>, Fault> {
        for name in masters {
            config.master(name.as_ref())?;
        }
        let wanted =
            |name: &str| masters.is_empty() || masters.iter().any(|one| one.as_ref() == name);
        let masters = config.masters.iter().filter(|(name, _)| wanted(name));
        let targets = masters.flat_map(|(name, master)| {
            let target = |&vip| Target {
                master: name,
                vip,
                interface: master.interface.as_deref(),
                announce_to: &master.announce_to,
            };
            master.vips.iter().map(target)
        });
        Ok(targets.collect())
    }
}
