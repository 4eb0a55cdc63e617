//! One row of `status`: what is known about one VIP, and how it is told.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::announcing::{Announcing, ago_in_words};
use super::truth::Truth;
use crate::config::{Sentinel, Target};
use crate::deeds::announcer::Known;
use crate::exit::Exit;
use crate::gather;
use crate::judgement::Problem;
use crate::link::Link;
use crate::site_command::memory::{self, Pending};
use crate::text::{Ink, printable};
use crate::vip::Binding;

/// What is known about one VIP, under the field names that docs/json.md documents.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) master: String,
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
    /// Whether the only claimant is the host of the master; `None` where that was not found out.
    pub(super) held_by_masters_host: Option<bool>,
    announcer: Option<Announcing>,
    pending_command: Option<Pending>,
    problem: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

fn pending_in_words(pending: &Pending) -> String {
    let Pending {
        command,
        tries,
        failed,
        seconds_ago,
    } = pending;
    let tried = match (tries, failed) {
        (0, _) => "it has not been tried yet".to_owned(),
        (1, Some(why)) => format!("it was tried once: {why}"),
        (tries, Some(why)) => format!("it was tried {tries} times: {why}"),
        (_, None) => "it runs, or was killed".to_owned(),
    };
    let ago = seconds_ago.map(|ago| format!(" ({})", ago_in_words(ago)));
    format!("; {command} is PENDING{}, {tried}", ago.unwrap_or_default())
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
    pub(super) fn new(
        target: &Target<'_>,
        places: &[(&Link, Option<Binding>)],
        sentinel: &Sentinel,
        announcer: Option<Known>,
    ) -> Status {
        let bound = places.iter().filter_map(|(link, binding)| {
            let Binding { prefix, usable, .. } = (*binding)?;
            Some(BoundTo {
                interface: link.name.clone(),
                prefix,
                usable,
            })
        });
        let is_bound = places.iter().any(|(_, binding)| binding.is_some());
        Status {
            master: target.name.to_owned(),
            vip: target.vip.address,
            prefix: target.vip.prefix,
            bound: is_bound,
            bindings: bound.collect(),
            interface: places.first().map(|(link, _)| link.name.clone()),
            redis_master: None,
            redis_master_is_here: None,
            sentinel: sentinel.address.to_string(),
            sentinel_error: None,
            probed: false,
            claimed_by: Vec::new(),
            probe_error: None,
            held_by_masters_host: None,
            announcer: announcer.map(Announcing::from),
            pending_command: memory::pending(target, is_bound),
            problem: None,
            exit: Exit::Done,
        }
    }

    /// Adds what Sentinel says of its master.
    pub(super) fn add_truth(&mut self, truth: &Truth) {
        if let Some(site) = truth
            .said
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .or(truth.named.as_ref())
        {
            self.redis_master = Some(site.endpoint.to_string());
            // What cannot be told leaves the question open.
            self.redis_master_is_here = gather::is_here(site);
        }
        match &truth.said {
            Ok(Some(_)) => {}
            Ok(None) => {
                let unknown = format!("Sentinel does not monitor a master named {}", self.master);
                self.sentinel_error = Some(unknown);
            }
            Err(fault) => self.sentinel_error = Some(fault.to_string()),
        }
    }

    /// Adds what is wrong; the gravest is told. Where the VIP is as it should be, it is what else is not: the exit code
    /// must not tell more than the text.
    pub(super) fn add_problems(&mut self, problems: &[Problem]) {
        self.problem = problems.first().map(ToString::to_string);
        let worst = problems.iter().map(Problem::exit);
        self.exit = worst.max_by_key(|exit| exit.code()).unwrap_or(Exit::Done);
        if self.problem.is_none() {
            self.problem = self.lesser_problem();
            self.exit = self.problem.as_ref().map_or(Exit::Done, |_| Exit::Passing);
        }
    }

    fn lesser_problem(&self) -> Option<String> {
        let sentinel = self.sentinel_error.as_ref().map(|error| {
            let stop = if error.ends_with('.') { "" } else { "." };
            format!("{error}{stop} `vipswitch check` tells more.")
        });
        let pending = self.pending_command.as_ref().map(|pending| {
            let command = &pending.command;
            format!("{command} has not succeeded. It is run again; why: journalctl -t vipswitch")
        });
        let probe = self.probe_error.as_ref();
        let probe = probe.map(|error| format!("the network could not be asked: {error}"));
        sentinel.or(pending).or(probe)
    }

    /// Returns how grave what is wrong is.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns whether it tells of anything that is not as it should be.
    pub(super) fn is_wrong(&self) -> bool {
        self.problem.is_some()
    }

    /// Returns the row for a person.
    pub(super) fn text(&self, colours: bool) -> String {
        let problem = self.problem.as_ref().map(|why| {
            let why = printable(&format!("PROBLEM: {why}"));
            format!("; {}", Ink::Red.paint(&why, colours))
        });
        printable(&self.sentence()) + &problem.unwrap_or_default()
    }

    /// Returns a reason to put behind what is told; none where the row's problem tells it.
    fn unless_in_problem(&self, reason: &str) -> String {
        let told = self.problem.as_ref().is_some_and(|it| it.contains(reason));
        if told {
            String::new()
        } else {
            format!(": {reason}")
        }
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
            (None, _) => {
                let why = self.sentinel_error.as_deref();
                let why = self.unless_in_problem(why.unwrap_or("Sentinel was not asked"));
                format!("master is unknown{why}")
            }
        };
        let claims = match (&self.probe_error, self.claimed_by.as_slice()) {
            (Some(error), _) => {
                format!("the network was not asked{}", self.unless_in_problem(error))
            }
            (None, _) if !self.probed => {
                "the network was not asked: no interface with neighbours".into()
            }
            (None, []) if self.bound => "nobody else claims it".into(),
            (None, []) => "nobody claims it".into(),
            (None, macs) if self.bound => format!("ALSO CLAIMED by {}", macs.join(", ")),
            (None, [mac]) if self.held_by_masters_host == Some(true) => {
                format!("held by the master's host ({mac})")
            }
            (None, [mac]) if self.held_by_masters_host == Some(false) => {
                format!("held by {mac}, not by the hardware address at which the master answers")
            }
            (None, [mac]) => format!("held by {mac}"),
            (None, macs) => format!("CLAIMED BY SEVERAL: {}", macs.join(", ")),
        };
        let announcing = match (&self.announcer, self.bound) {
            (Some(announcing), true) => announcing.to_string(),
            _ => String::new(),
        };
        let pending = self.pending_command.as_ref();
        let pending = pending.map(pending_in_words).unwrap_or_default();
        format!(
            "{}: {held}{announcing}; {master}; {claims}{pending}",
            self.master
        )
    }
}
