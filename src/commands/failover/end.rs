//! A failover that was asked for, until all Sentinels agree and this host is as it should be.

use std::time::Duration;

use tokio::time::Instant;

use super::course::Course;
use super::faults::{given_up, not_promoted};
use super::known::{self, Known};
use super::signs::Signs;
use super::told::Told;
use super::{PROMOTION, Verb};
use crate::exit::Fault;
use crate::failover::Endpoint;
use crate::gather;
use crate::hosts;
use crate::kernel::Snapshot;
use crate::report::milliseconds;

/// How long the other Sentinels may take after that: they hear of it within a hello's period, 2 s.
const AGREEMENT: Duration = Duration::from_secs(15);

/// How long this host may take after that: the hook tries for so long (`once::PATIENCE`).
const VIPS: Duration = Duration::from_secs(20);

/// How many milliseconds late what the agent sees is known, at most.
const LATE: f64 = 150.0;

/// How long the agent may take to tell the rest.
const REST: Duration = Duration::from_secs(3);

impl Verb<'_> {
    /// Follows it until all agree and this host is as it should be.
    pub(super) async fn follow(
        &self,
        known: &Known,
        (course, began): (&mut Course, Instant),
        signs: &mut Signs,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        // What the agent has seen is known a little later.
        let late = if known.agent.is_some() { LATE } else { 0.0 };
        let (mut stage, mut until) = (Stage::Begun, Instant::now() + PROMOTION);
        loop {
            if let Stage::Agreed(here, since) = &stage {
                if here.is_in_place(course) && here.has_told(course, known) {
                    break;
                }
                // What is only to be told is not waited for long.
                let is_in_place = here.is_in_place(course);
                until = *since + if is_in_place { REST } else { VIPS };
            }
            let Some(sign) = signs.next(until).await else {
                break;
            };
            let at = sign.at.saturating_duration_since(began);
            told.steps.extend(course.see(sign.seen, at));
            told.tell_steps(milliseconds(at) - late).await;
            if course.is_aborted {
                return Err(given_up(told).into());
            }
            if let Some(to) = &course.to
                && !signs.ask_only(to)
            {
                let way = known::way_to(self.config, self.name, to).await;
                signs.ask_heir(way, to.clone());
            }
            let has_new = course.times.master.is_some() || !course.named.is_empty();
            if has_new && matches!(stage, Stage::Begun) {
                (stage, until) = (Stage::Promoted, Instant::now() + AGREEMENT);
            }
            if course.times.agreed.is_some() && matches!(stage, Stage::Promoted) {
                stage = Stage::Agreed(self.place(course, known).await, Instant::now());
            }
        }
        match stage {
            Stage::Begun => Err(not_promoted(told).into()),
            Stage::Promoted => Ok(self.agree(course, known).await?),
            Stage::Agreed(here, _) => {
                self.agree(course, known).await?;
                here.fault(course).map_or(Ok(()), |fault| Err(fault.into()))
            }
        }
    }

    /// Looks what is to happen on this host.
    async fn place(&self, course: &Course, known: &Known) -> Here {
        let Some(to) = &course.to else {
            return Here::default();
        };
        let snapshot = Snapshot::new(&self.netlink);
        let site = gather::site(self.config, &snapshot, to).await;
        Here {
            has_agent: known.agent.is_some(),
            is_new: site.is_here(),
            is_old: known.master.is_here() && !site.is_here(),
        }
    }

    /// Makes sure that all Sentinels that answer name one master.
    async fn agree(&self, course: &Course, known: &Known) -> Result<(), Fault> {
        const LOOK: &str = "Look at their logs, and at vipswitch status.";
        let late: Vec<String> = course
            .late()
            .map(|place| known.poll.ways()[place].endpoint.to_string())
            .collect();
        if !late.is_empty() {
            let text = format!(
                "not every Sentinel names the new master: {}",
                late.join(", ")
            );
            return Err(Fault::passing(text).remedy(LOOK));
        }
        let mut named = course.named.values();
        let Some(first) = named.next() else {
            return Ok(());
        };
        for other in named {
            if !is_same(first, other).await {
                let text = format!("the Sentinels name different masters: {first}, {other}");
                return Err(Fault::passing(text).remedy(LOOK));
            }
        }
        Ok(())
    }

    /// Tells that it is done.
    pub(super) async fn tell_end(&self, known: &Known, told: &mut Told) {
        told.done = true;
        if told.timeline.followed.is_none() && known.state.is_ok() {
            let text = "the old master takes the writes of whoever goes there directly until Sentinel makes it a replica, in about 10 s";
            told.note(text.to_owned()).await;
        }
        let behind = match told.bytes_behind {
            None => String::new(),
            Some(0) => "; it had every byte".to_owned(),
            Some(bytes) => format!("; it lacked {bytes} bytes, which are lost"),
        };
        let to = told.to.as_deref().unwrap_or_default();
        told.say(&format!("done: {to} is the master{behind}")).await;
    }
}

/// What is to happen on this host.
#[derive(Clone, Copy, Debug, Default)]
struct Here {
    has_agent: bool,
    /// The new master is here.
    is_new: bool,
    /// The old one is.
    is_old: bool,
}

/// How far a failover has come.
enum Stage {
    Begun,
    Promoted,
    /// All Sentinels agree, since then.
    Agreed(Here, Instant),
}

impl Here {
    /// Whether the VIPs are where they belong, as far as this host knows.
    fn is_in_place(self, course: &Course) -> bool {
        let has = course.vips.unwrap_or(self.is_new);
        (!self.is_new || has) && (!self.is_old || !has)
    }

    /// Whether all is known that this host will know.
    fn has_told(self, course: &Course, known: &Known) -> bool {
        let has_turned = course.times.master.is_some() || course.is_heir_silent();
        let follows = course.times.followed.is_some() || known.state.is_err();
        has_turned && (!self.has_agent || course.has_agent_ended && follows)
    }

    fn fault(self, course: &Course) -> Option<Fault> {
        if self.is_in_place(course) {
            return None;
        }
        let text = match self.is_new {
            true => "the new master is on this host, and its VIP is not here yet",
            false => "the old master was on this host, and its VIP is here still",
        };
        Some(Fault::passing(text).remedy(
            "vipswitch status says why; vipswitch sync puts it right as soon as that is possible.",
        ))
    }
}

async fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    if one == other {
        return true;
    }
    let addresses = async |of: &Endpoint| hosts::addresses(&of.host).await.unwrap_or_default();
    let (first, second) = (addresses(one).await, addresses(other).await);
    one.port == other.port && first.iter().any(|address| second.contains(address))
}
