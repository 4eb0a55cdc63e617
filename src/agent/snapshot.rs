//! What the agent knows at one moment, as it is shown: `status`, `status --json` and the metrics.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::judgement::Kept;
use crate::text::escape;

/// All that an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its version.
    pub version: String,
    /// The number of its process.
    pub pid: u32,
    /// The file of its configuration; empty from an older agent.
    #[serde(default)]
    pub config: String,
    /// Whether that file says something else by now: it was not reloaded.
    #[serde(default)]
    pub is_outdated: bool,
    /// How long it has been running, in seconds.
    pub uptime: f64,
    /// The masters, by name.
    pub masters: Vec<Master>,
    /// The Sentinels that it follows.
    pub sentinels: Vec<Sentinel>,
    /// How often the agent had to mend what something else had changed: a VIP removed, a VIP bound.
    pub drift_repaired: u64,
    /// Site commands that have not succeeded yet.
    pub pending_commands: u64,
}

impl Snapshot {
    /// Returns how the agent's configuration differs from that of its file as it is now: by the VIPs of these masters, of
    /// all if none is named, or else in anything. Then it has not been reloaded.
    pub fn lags_behind(&self, config: &Config, masters: &[String]) -> Option<String> {
        let is_meant = |name: &String| masters.is_empty() || masters.contains(name);
        let file = config.masters.iter().filter(|(name, _)| is_meant(name));
        let file = file.flat_map(|(name, master)| {
            let vips = master.vips.iter().map(|vip| vip.address.to_string());
            vips.map(move |vip| (name.clone(), vip))
        });
        let own = self.masters.iter().filter(|master| is_meant(&master.name));
        let own = own.flat_map(|master| {
            let vips = master.vips.iter().map(|vip| vip.address.clone());
            vips.map(move |vip| (master.name.clone(), vip))
        });
        let (file, own) = (BTreeSet::from_iter(file), BTreeSet::from_iter(own));
        let listed = |all: Vec<&(String, String)>| {
            let all = all.into_iter();
            let all = all.map(|(name, vip)| format!("{} of {}", escape(vip), escape(name)));
            Vec::from_iter(all).join(", ")
        };
        let lacks = listed(file.difference(&own).collect());
        let has = listed(own.difference(&file).collect());
        let how = match (lacks.is_empty(), has.is_empty()) {
            (true, true) if self.is_outdated => "its file has changed since".to_owned(),
            (true, true) => return None,
            (false, true) => format!("it lacks {lacks}"),
            (true, false) => format!("it still has {has}"),
            (false, false) => format!("it lacks {lacks}, and still has {has}"),
        };
        Some(format!("the agent has an older configuration: {how}"))
    }

    /// Returns the Sentinels that answer the agent, and whose events do not arrive.
    pub fn unheard(&self) -> impl Iterator<Item = &Sentinel> {
        let is_unheard = |one: &&Sentinel| one.in_reach && !one.events;
        self.sentinels.iter().filter(is_unheard)
    }

    /// Returns by what the agent keeps a VIP of the configuration away from the master of its Sentinel, if it does.
    pub fn keeps(&self, name: &str, vip: IpAddr) -> Option<Kept> {
        let master = self.masters.iter().find(|master| master.name == name);
        let vip = vip.to_string();
        let Some(master) = master.filter(|it| it.vips.iter().any(|one| one.address == vip)) else {
            return Some(Kept::ByOlderConfiguration);
        };
        match master.forced.as_deref() {
            Some("bind") => Some(Kept::ByOrder { bind: true }),
            Some("unbind") => Some(Kept::ByOrder { bind: false }),
            _ => master.cut_off.map(|_| Kept::ByCut),
        }
    }
}

/// What is known about a master.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Master {
    /// The master-name.
    pub name: String,
    /// `here`, `elsewhere`, `stays` or `fault`.
    pub verdict: String,
    /// Why, in words.
    pub why: String,
    /// The stable name of the reason, as in the log.
    pub reason: String,
    /// The master that a majority names, if one does.
    pub master: Option<String>,
    /// The VIPs.
    pub vips: Vec<Vip>,
    /// Each Redis of this master on this host.
    pub redis: Vec<Redis>,
    /// The replicas that this host's master has, with their lag.
    pub replicas: Vec<Replica>,
    /// What each Sentinel says.
    pub votes: Vec<Vote>,
    /// How many clients of another host are known, which would be told if this one took the VIP over.
    #[serde(default)]
    pub known_clients: u64,
    /// An operator's order against the truth that still holds: `bind` or `unbind`.
    pub forced: Option<String>,
    /// A Redis that stops is meant to, and is not failed over at once.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// What is done about its Redis of this host, which has died as the master, or why Sentinel decides.
    #[serde(default)]
    pub death: Option<String>,
    /// How long this host has been cut off from its peers, in seconds, if it is.
    pub cut_off: Option<f64>,
    /// The last failover that this agent saw.
    pub last_failover: Option<Timeline>,
    /// How many failovers this agent took a VIP over in.
    pub failovers: u64,
    /// How long writes were paused in all, in seconds.
    pub paused_seconds: f64,
    /// How long each take-over took, from the first sign to the first frame, in seconds. The newest last, at most 100.
    pub take_over_seconds: Vec<f64>,
    /// Failovers, too: how many of `take_over_seconds` were ever added.
    pub take_overs: u64,
}

/// A Redis that stops is meant to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// When it ends by itself, in seconds since 1970, if it does.
    pub until: Option<f64>,
    /// In how many seconds that is.
    pub left: Option<f64>,
}

/// A VIP on this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: String,
    /// Whether it is bound here.
    pub here: bool,
    /// The hardware addresses of others that claim it.
    pub rivals: Vec<String>,
    /// How often a rival claimed it.
    pub claims: u64,
    /// Frames sent for it since it was bound.
    pub frames: u64,
    /// Who answers for it in the network, when that was last asked: a hardware address, or nobody.
    pub answered_by: Option<String>,
}

/// A Redis of this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Redis {
    /// Where it is.
    pub at: String,
    /// Its role, or why it says nothing.
    pub role: String,
    /// Whether it is there and refuses to tell: a password, a right or a certificate is wrong.
    #[serde(default)]
    pub refuses: bool,
    /// Its run id, where it may be asked for that.
    pub run_id: Option<String>,
}

/// A replica as its master sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Where it is.
    pub at: String,
    /// How long ago it last acknowledged, in seconds.
    pub lag: Option<u64>,
    /// How many bytes it is behind.
    pub behind: u64,
    /// Whether it has the master's data and takes what comes: not while a full synchronization goes on.
    #[serde(default = "as_before")]
    pub online: bool,
}

/// An agent from before this was told takes every replica for one that has its data.
fn as_before() -> bool {
    true
}

/// A Sentinel's word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// The Sentinel.
    pub who: String,
    /// The master that it names.
    pub says: Option<String>,
    /// Why it names none.
    pub silent: Option<String>,
    /// Its config-epoch.
    pub epoch: u64,
}

/// A Sentinel that the agent follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sentinel {
    /// Where it is.
    pub at: String,
    /// Whether its events arrive.
    pub events: bool,
    /// Whether it answered the last question.
    pub in_reach: bool,
}

/// When what happened in a failover, in milliseconds since its first sign. What did not happen, or not here, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When its first sign came, in seconds since 1970.
    pub began: f64,
    /// The chosen replica.
    pub to: String,
    /// `taken_over`, `released`, `aborted` or `elsewhere`; empty while it goes on.
    pub ended: String,
    /// The Redis of this host died as the master.
    #[serde(default)]
    pub died: Option<f64>,
    /// A Sentinel was asked to fail over.
    #[serde(default)]
    pub asked: Option<f64>,
    /// Sentinel's event was seen.
    pub event: Option<f64>,
    /// Writes were paused.
    pub paused: Option<f64>,
    /// The chosen Redis said master.
    pub role_changed: Option<f64>,
    /// The VIP was bound here.
    pub bound: Option<f64>,
    /// The first frame went out.
    pub first_frame: Option<f64>,
    /// A majority named the new master.
    pub confirmed: Option<f64>,
    /// The VIP was released here.
    pub released: Option<f64>,
    /// Writes were allowed again.
    pub unpaused: Option<f64>,
    /// How long writes were paused, in milliseconds.
    pub writes_paused_for: Option<f64>,
    /// How many bytes the chosen replica was behind when it was promoted.
    pub bytes_behind: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn knowing(masters: &[(&str, &[&str])]) -> Snapshot {
        let vip = |vip: &&str| Vip {
            address: (*vip).to_owned(),
            ..Vip::default()
        };
        let master = |(name, vips): &(&str, &[&str])| Master {
            name: (*name).to_owned(),
            vips: vips.iter().map(vip).collect(),
            ..Master::default()
        };
        Snapshot {
            masters: masters.iter().map(master).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn an_agent_that_was_not_reloaded_is_known_by_its_vips() {
        let text = "[masters.m]\nvip = ['10.0.0.9/24', 'fd00::9']\n[masters.n]\nvip = '10.0.0.8'\n";
        let config = config::parse(text, Path::new("/x")).unwrap();
        let same: &[(&str, &[&str])] = &[("m", &["fd00::9", "10.0.0.9"]), ("n", &["10.0.0.8"])];
        let lags = |masters, named: &[String]| knowing(masters).lags_behind(&config, named);
        assert_eq!(lags(same, &[]), None);
        let older: &[(&str, &[&str])] = &[("m", &["fd00::9", "10.0.0.7"]), ("n", &["10.0.0.8"])];
        let told = lags(older, &[]).unwrap();
        let said = "the agent has an older configuration: it lacks 10.0.0.9 of m, and still has 10.0.0.7 of m";
        assert_eq!(told, said);
        assert_eq!(lags(older, &["n".to_owned()]), None);
        let told = lags(&same[..1], &[]).unwrap();
        assert!(told.ends_with(": it lacks 10.0.0.8 of n"), "{told}");
        let keeps = |name, vip: &str| knowing(older).keeps(name, vip.parse().unwrap());
        assert_eq!(keeps("m", "10.0.0.9"), Some(Kept::ByOlderConfiguration));
        assert_eq!(keeps("other", "10.0.0.7"), Some(Kept::ByOlderConfiguration));
        assert_eq!(keeps("m", "fd00::9"), None);
    }
}
