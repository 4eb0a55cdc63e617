//! What the Sentinels say of the masters, and what `sync` would make of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::config::{Config, Target};
use crate::evidence::{Site, Standby};
use crate::exit::Fault;
use crate::gather::remembered::Memory;
use crate::gather::{self, Patience, Poll};
use crate::kernel::Snapshot;
use crate::redis::Lines;
use crate::verdict::{Verdict, verdict};

/// How many masters are looked at at the same time: each has some files open.
const AT_ONCE: usize = 32;

/// What is known of one master.
pub(super) struct Truth {
    /// What this host's Sentinel says; `None` where it does not monitor it.
    pub(super) said: Result<Option<Site>, Fault>,
    /// The master that a majority of the others names where this host's Sentinel says nothing.
    pub(super) named: Option<Site>,
    /// The replicas, as far as they could be failed over to, if that was told.
    pub(super) standbys: Option<Vec<Standby>>,
    /// What `sync` would act on.
    verdict: Result<Verdict, Fault>,
    /// The addresses of the master's host, as far as they are known.
    pub(super) addresses: Vec<IpAddr>,
    /// The interface with the address of this host's Redis, by which `sync` would choose where no subnet tells.
    pub(super) carrier: Option<u32>,
}

impl Truth {
    /// Returns whether the VIP belongs here, if that is decided.
    pub(super) fn is_here(&self) -> Option<bool> {
        match self.verdict {
            Ok(Verdict::Here(..)) => Some(true),
            Ok(Verdict::Elsewhere(_)) => Some(false),
            _ => None,
        }
    }

    /// Returns why `sync` could decide nothing.
    pub(super) fn undecided(&self) -> Option<&Fault> {
        match &self.verdict {
            Err(fault) | Ok(Verdict::Undecided(fault)) => Some(fault),
            Ok(_) => None,
        }
    }
}

/// Asks the Sentinels about every master, as `sync` does. One master's fault is no other's.
pub(super) async fn ask<'a>(
    config: &Config,
    targets: &[Target<'a>],
    kernel: &Snapshot<'_>,
) -> BTreeMap<&'a str, Truth> {
    let mut names: Vec<&str> = targets.iter().map(|target| target.name).collect();
    names.dedup();
    let memory = Memory::read();
    let polls = match gather::poll(config, &names, &memory, Patience::Full, &Lines::default()).await
    {
        Ok(polls) => polls,
        Err(fault) => vec![Err(fault); names.len()],
    };
    let each = names.into_iter().zip(polls);
    let each = each.map(async |(name, poll)| (name, of_master(config, name, poll, kernel).await));
    stream::iter(each).buffered(AT_ONCE).collect().await
}

async fn of_master(
    config: &Config,
    name: &str,
    poll: Result<Poll, Fault>,
    kernel: &Snapshot<'_>,
) -> Truth {
    let mut standbys = None;
    let evidence = match poll {
        Ok(poll) => {
            standbys = poll.standbys().map(<[Standby]>::to_vec);
            let lines = Lines::default();
            Memory::read().tell(config, &lines.owner);
            let said = gather::master_of(config, &lines, name, Patience::Full.one_answer());
            gather::of_poll(config, name, &poll, Duration::ZERO, said, (&lines, kernel)).await
        }
        Err(fault) => Err(fault),
    };
    match evidence {
        Ok(evidence) => {
            let ballot = evidence.ballot.as_ref();
            let silent = ballot.and_then(|ballot| ballot.votes.first()?.says.as_ref().err());
            let said = ballot.and_then(|ballot| ballot.own());
            let named = ballot.and_then(|ballot| ballot.winner());
            let known = said.or(named);
            Truth {
                said: match silent {
                    None => Ok(said.cloned()),
                    Some(why) => Err(Fault::passing(format!(
                        "Sentinel at {} did not answer: {why}",
                        config.sentinel.address
                    ))),
                },
                named: named.cloned(),
                standbys,
                addresses: known.map(|site| site.addresses.clone()).unwrap_or_default(),
                carrier: evidence.carrier(),
                verdict: Ok(verdict(&evidence)),
            }
        }
        // It may answer the one question that the hook has.
        Err(fault) => Truth {
            said: gather::master_site(config, name, kernel).await,
            named: None,
            standbys,
            addresses: Vec::new(),
            carrier: None,
            verdict: Err(fault),
        },
    }
}
