//! One row of `status`: what is known about one VIP, and how it is told.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;
use tokio::time::timeout_at;

use crate::config::{Sentinel, Target};
use crate::deeds::announcer::{self, Known, Summary};
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::gather;
use crate::kernel::Snapshot;
use crate::link::Link;
use crate::text::{Ink, printable};
use crate::vip::Binding;

/// What is known about one VIP, under the field names that docs/json.md documents.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    master: String,
    pub(super) vip: IpAddr,
    prefix: u8,
    pub(super) bound: bool,
    bindings: Vec<BoundTo>,
    interface: Option<String>,
    redis_master: Option<String>,
    pub(super) redis_master_is_here: Option<bool>,
    sentinel: String,
    sentinel_error: Option<String>,
    pub(super) probed: bool,
    pub(super) claimed_by: Vec<String>,
    pub(super) probe_error: Option<String>,
    announcer: Option<Announcing>,
    pub(super) problem: Option<String>,
}

/// What is known of the VIP's announcer: the one at work, else the last one.
#[derive(Debug, Serialize)]
struct Announcing {
    at_work: bool,
    /// Since it ended.
    seconds_ago: Option<u64>,
    #[serde(flatten)]
    summary: Summary,
}

impl fmt::Display for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let confirmed = self.summary.confirmed();
        match self.seconds_ago {
            None => write!(f, "; it is being announced, confirmed by {confirmed}")?,
            Some(ago) => {
                let ago = ago_in_words(ago);
                write!(f, "; it was announced ({ago}), confirmed by {confirmed}")?;
            }
        }
        if !self.summary.rivals.is_empty() {
            write!(f, ", rivals {}", self.summary.rivals.join(", "))?;
        }
        Ok(())
    }
}

impl From<Known> for Announcing {
    fn from(known: Known) -> Self {
        let (summary, age) = match known {
            Known::AtWork(summary) => (summary, None),
            Known::Ended(summary, age) => (summary, Some(age.as_secs())),
        };
        Announcing {
            at_work: age.is_none(),
            seconds_ago: age,
            summary,
        }
    }
}

fn ago_in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

/// One place where a VIP is bound.
#[derive(Debug, Serialize)]
struct BoundTo {
    interface: String,
    prefix: u8,
    usable: bool,
}

impl fmt::Display for BoundTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unusable = if self.usable {
            ""
        } else {
            " but unusable (duplicate address detection)"
        };
        write!(f, "on {} as /{}{unusable}", self.interface, self.prefix)
    }
}

impl Status {
    /// Returns what the kernel and the announcer's record say of a VIP.
    pub(super) async fn new(
        target: &Target<'_>,
        places: &[(Link, Option<Binding>)],
        sentinel: &Sentinel,
    ) -> Status {
        let bound = places.iter().filter_map(|(link, binding)| {
            let Binding { prefix, usable, .. } = (*binding)?;
            Some(BoundTo {
                interface: link.name.clone(),
                prefix,
                usable,
            })
        });
        Status {
            master: target.name.to_owned(),
            vip: target.vip.address,
            prefix: target.vip.prefix,
            bound: places.iter().any(|(_, binding)| binding.is_some()),
            bindings: bound.collect(),
            interface: places.first().map(|(link, _)| link.name.clone()),
            redis_master: None,
            redis_master_is_here: None,
            sentinel: sentinel.address.to_string(),
            sentinel_error: None,
            probed: false,
            claimed_by: Vec::new(),
            probe_error: None,
            announcer: announcer::latest(
                target.vip.address,
                places.iter().map(|(link, _)| link.index),
            )
            .await
            .map(Announcing::from),
            problem: None,
        }
    }

    /// Adds what Sentinel says of its master.
    pub(super) async fn add_truth(
        &mut self,
        truth: &Result<Option<Endpoint>, Fault>,
        kernel: &Snapshot<'_>,
        names_until: Instant,
    ) -> Result<(), Fault> {
        let master = match truth {
            Ok(Some(master)) => master,
            Ok(None) => {
                let unknown = format!("Sentinel does not monitor a master named {}", self.master);
                self.sentinel_error = Some(unknown);
                return Ok(());
            }
            Err(fault) => {
                self.sentinel_error = Some(fault.to_string());
                return Ok(());
            }
        };
        self.redis_master = Some(master.to_string());
        // A name that does not resolve, or not in time, leaves the question open.
        let site = timeout_at(names_until.into(), gather::site(kernel, master)).await;
        if let Some(is_here) = site.ok().and_then(|site| gather::is_here(&site)) {
            self.redis_master_is_here = Some(is_here);
        }
        Ok(())
    }

    /// Returns whether it tells of anything that is not as it should be.
    pub(super) fn is_wrong(&self) -> bool {
        self.problem.is_some() || self.sentinel_error.is_some() || self.probe_error.is_some()
    }

    /// Returns the row for a person.
    pub(super) fn text(&self, colours: bool) -> String {
        let problem = self.problem.as_ref().map(|why| {
            let why = printable(&format!("PROBLEM: {why}"));
            format!("; {}", Ink::Red.paint(&why, colours))
        });
        printable(&self.sentence()) + &problem.unwrap_or_default()
    }

    fn sentence(&self) -> String {
        let bindings: Vec<String> = self.bindings.iter().map(ToString::to_string).collect();
        let held = match bindings.as_slice() {
            [] => format!("{} is not here", self.vip),
            bindings => format!("{} is here, {}", self.vip, bindings.join(" and ")),
        };
        let master = match (&self.redis_master, self.redis_master_is_here) {
            (Some(master), Some(true)) => format!("master is {master}, this host"),
            (Some(master), Some(false)) => format!("master is {master}, another host"),
            (Some(master), None) => {
                format!("master is {master}, a name that does not resolve here")
            }
            (None, _) => format!(
                "master is unknown: {}",
                self.sentinel_error
                    .as_deref()
                    .unwrap_or("Sentinel was not asked")
            ),
        };
        let claims = match (&self.probe_error, self.claimed_by.as_slice()) {
            (Some(error), _) => format!("the network was not asked: {error}"),
            (None, _) if !self.probed => {
                "the network was not asked: no interface with neighbours".into()
            }
            (None, []) if self.bound => "nobody else claims it".into(),
            (None, []) => "nobody claims it".into(),
            (None, macs) if self.bound => format!("ALSO CLAIMED by {}", macs.join(", ")),
            (None, macs) => format!("claimed by {}", macs.join(", ")),
        };
        let announcing = match (&self.announcer, self.bound) {
            (Some(announcing), true) => announcing.to_string(),
            _ => String::new(),
        };
        format!("{}: {held}{announcing}; {master}; {claims}", self.master)
    }
}
