//! `failover`: makes another Redis the master on purpose. Looks first, has one Sentinel elected by the others begin it,
//! tells what happens, and waits until all Sentinels agree. What moves the VIP is the agents' or the hook's work.

mod course;
mod known;
mod moment;
mod rules;
mod signs;
mod told;

use std::time::{Duration, Instant as Started, SystemTime};

use tokio::task::LocalSet;
use tokio::time::Instant;

use self::course::{Course, Seen};
use self::known::Known;
use self::signs::Signs;
use self::told::{Told, refused};
use super::load;
use crate::cli::{Options, Planned};
use crate::config::Config;
use crate::election::{self, Failed, Plan, Progress, Refusal};
use crate::exit::{Exit, Fault};
use crate::failover::Endpoint;
use crate::gather;
use crate::kernel::{Netlink, Snapshot};
use crate::redis::Lines;
use crate::report::milliseconds;
use crate::text::escape;

/// How long it may take until a replica says master, or a Sentinel names it: a leader needs 0.2 to 1.2 s.
const PROMOTION: Duration = Duration::from_secs(15);

/// How long the other Sentinels may take after that: they hear of it within a hello's period, 2 s.
const AGREEMENT: Duration = Duration::from_secs(15);

/// How long this host may take after that: the hook tries for so long (`once::PATIENCE`).
const VIPS: Duration = Duration::from_secs(20);

/// How many milliseconds late what the agent sees is known, at most.
const LATE: f64 = 150.0;

/// How long the agent may take to tell the rest.
const REST: Duration = Duration::from_secs(3);

/// Makes another Redis the master. Returns how that ended.
///
/// # Errors
///
/// Why no failover was asked for, or what is not right after it.
pub(super) async fn run(of: &Planned, options: &Options, started: Started) -> anyhow::Result<Exit> {
    let config = load(options, of.master.as_slice(), started).await?;
    let name = chosen(&config, of)?;
    let mut told = Told::new(&name, options);
    let verb = Verb {
        config: &config,
        name: &name,
        of,
        options,
        netlink: Netlink::open()?,
        lines: Lines::keeping(),
    };
    let ended = LocalSet::new().run_until(verb.carry_out(&mut told)).await;
    told.end(ended, (options, started.elapsed())).await
}

fn chosen(config: &Config, of: &Planned) -> Result<String, Fault> {
    let mut names = config.masters.keys();
    match (&of.master, names.next(), names.next()) {
        (Some(name), ..) | (None, Some(name), None) => Ok(name.clone()),
        _ => {
            let names: Vec<String> = config.masters.keys().map(|name| escape(name)).collect();
            let text = "several masters are configured and none is named";
            let remedy = format!("Name the one that is meant, of {}.", names.join(", "));
            Err(Fault::permanent(text).remedy(remedy))
        }
    }
}

/// The verb at work.
struct Verb<'a> {
    config: &'a Config,
    name: &'a str,
    of: &'a Planned,
    options: &'a Options,
    netlink: Netlink,
    lines: Lines,
}

impl Verb<'_> {
    async fn carry_out(&self, told: &mut Told) -> anyhow::Result<()> {
        let at = (&self.lines, &self.netlink);
        let mut known = Known::gather((self.config, self.name), self.options, at).await?;
        told.from = Some(known.master.endpoint.to_string());
        told.say(&format!(
            "the master is {}: {}",
            known.master.endpoint, known.ballot
        ))
        .await?;
        let near = (!self.of.force).then(|| known.near.clone());
        let plan = self.look(&mut known, near.clone(), told).await?;
        if self.options.dry_run {
            return Ok(());
        }
        let mut signs = Signs::subscribe(known.poll.ways());
        let request = known.request(self.name, near);
        if !self.of.now {
            let text = "waiting for the moment in which Sentinel decides fastest, 10 s at most (--now: not at all)";
            told.say(text).await?;
            let waited = moment::wait(&request, &plan, &self.lines).await;
            told.waited_ms = Some(milliseconds(waited));
        }
        self.begin(&known, (plan, request), &mut signs, told).await
    }

    /// Looks whether it can be done, and tells what would be.
    async fn look(
        &self,
        known: &mut Known,
        near: Option<Vec<String>>,
        told: &mut Told,
    ) -> anyhow::Result<Plan> {
        for note in rules::notes(&known.of_redis(self.of.now)) {
            told.note(note).await?;
        }
        let objection = rules::objection(&known.of_redis(self.of.now));
        let objection = objection.filter(|_| !self.of.force);
        if let Some(fault) = objection {
            return Err(fault.within("no failover was asked for").into());
        }
        let plan = self.plan(known, near, told).await?;
        let sentinel = known.poll.ways()[plan.asked].endpoint.to_string();
        let heir = known::read(&plan.replica);
        let lacks = match &heir {
            Some(heir) => known.lacks(self.config, self.name, heir).await,
            None => None,
        };
        if let Some(fault) = rules::is_far(&plan.replica, lacks).filter(|_| !self.of.force) {
            return Err(fault.within("no failover was asked for").into());
        }
        let behind = lacks.map(|bytes| format!(", which lacks {bytes} bytes now"));
        let text = format!(
            "{} have the Sentinel at {sentinel} promote {}{}",
            if self.options.dry_run {
                "would"
            } else {
                "will"
            },
            plan.replica,
            behind.unwrap_or_default()
        );
        told.say(&text).await?;
        (told.to, told.sentinel) = (Some(plan.replica.clone()), Some(sentinel));
        Ok(plan)
    }

    /// Returns whom it would ask, and for which replica. Where a Sentinel has voted, waits whether anything comes of it.
    async fn plan(
        &self,
        known: &mut Known,
        near: Option<Vec<String>>,
        told: &Told,
    ) -> anyhow::Result<Plan> {
        let plan = |known: &Known| {
            let terms = known.request(self.name, near.clone()).terms;
            election::rules::plan(&terms, &known.looks)
        };
        let planned = match plan(known) {
            Err(no @ Refusal::Voted(epoch)) => {
                let most = known::NOTHING_CAME.as_secs();
                told.say(&format!("{no}: waiting for it, {most} s at most"))
                    .await?;
                known.outwait(self.name, epoch, &self.lines).await;
                plan(known)
            }
            planned => planned,
        };
        Ok(planned.map_err(|no| refusal(&no))?)
    }

    /// Has it begun, and follows it to its end.
    async fn begin(
        &self,
        known: &Known,
        (plan, request): (Plan, election::Request<'_>),
        signs: &mut Signs,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        let places = signs.ask_sentinels(known, self.name);
        let heir = known::read(&plan.replica);
        let vips = self.config.master(self.name)?.vips.iter();
        signs.look_for_vips(vips.map(|vip| vip.address).collect());
        let (began, at) = (Instant::now(), SystemTime::now());
        let mut steps = Vec::new();
        let held = election::hold(&request, &self.lines, |progress| {
            let seen = match progress {
                Progress::Chosen(_) => return,
                Progress::Elected(_) => Seen::Voted,
                Progress::Begun(_) => Seen::Asked,
            };
            steps.push((seen, began.elapsed()));
        });
        let plan = match held.await {
            Ok(plan) => plan,
            // It may have begun all the same.
            Err(Failed {
                why: Refusal::Silent(why),
                ..
            }) => {
                told.note(format!("the Sentinel did not answer in time: {why}"))
                    .await?;
                plan
            }
            Err(failed) => {
                told.asked = failed.why.was_asked();
                return Err(refusal(&failed.why).into());
            }
        };
        told.asked = true;
        told.epoch = Some(plan.epoch + 1);
        told.sentinel = Some(request.ways[plan.asked].endpoint.to_string());
        if let Some(heir) = heir {
            let new = known::way_to(self.config, self.name, &heir).await;
            signs.ask_redis((known.way.clone(), new), heir);
        }
        if known.agent.is_some() {
            signs.ask_agent(self.name, self.options, at);
        }
        let mut course =
            Course::new(self.name, plan.asked, places).beside_agent(known.agent.is_some());
        for (seen, at) in steps {
            told.steps.extend(course.see(seen, at));
        }
        let ended = self.follow(known, (&mut course, began), signs, told).await;
        told.take(&course);
        told.tell_steps(f64::INFINITY).await?;
        ended?;
        told.done = true;
        self.tell_end(&course, known, told).await
    }

    /// Follows it until all agree and this host is as it should be.
    async fn follow(
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
            told.tell_steps(milliseconds(at) - late).await?;
            if course.is_aborted {
                return Err(given_up(told).into());
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

    async fn tell_end(
        &self,
        course: &Course,
        known: &Known,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        if course.times.followed.is_none() && known.state.is_ok() {
            let text = "the old master takes the writes of whoever goes there directly until Sentinel makes it a replica, in about 10 s";
            told.note(text.to_owned()).await?;
        }
        let behind = match course.bytes_behind {
            None => String::new(),
            Some(0) => "; it had every byte".to_owned(),
            Some(bytes) => format!("; it lacked {bytes} bytes, which are lost"),
        };
        let to = told.to.as_deref().unwrap_or_default();
        told.say(&format!("done: {to} is the master{behind}")).await
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
        let follows = course.times.followed.is_some() || known.state.is_err();
        !self.has_agent || course.has_agent_ended && follows
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
    let addresses =
        async |of: &Endpoint| crate::hosts::addresses(&of.host).await.unwrap_or_default();
    let (first, second) = (addresses(one).await, addresses(other).await);
    one.port == other.port && first.iter().any(|address| second.contains(address))
}

fn refusal(no: &Refusal) -> Fault {
    match no {
        Refusal::Refused(_) | Refusal::Silent(_) => Fault::passing(no.to_string()).remedy(
            "Look at that Sentinel's log. Another failover may be asked for once this one is over, after twice failover-timeout at most.",
        ),
        Refusal::Busy(..)
        | Refusal::TooLate(_)
        | Refusal::Voted(_)
        | Refusal::Lost(..) => refused(no).remedy(
            "Another failover goes on, or is about to. Wait until it is over: vipswitch status",
        ),
        Refusal::TooFew(..) | Refusal::OtherMaster => {
            refused(no).remedy("Look at the Sentinels: vipswitch status")
        }
        Refusal::NoSentinel(_) => {
            refused(no).remedy("Look at the replicas: vipswitch check, redis-cli INFO replication")
        }
    }
}

fn given_up(told: &Told) -> Fault {
    let at = told.sentinel.as_deref().unwrap_or_default();
    Fault::passing(format!("the Sentinel at {at} has given the failover up")).remedy(
        "Its log says why. The master stays what it was, unless the replica was promoted already: vipswitch status",
    )
}

fn not_promoted(told: &Told) -> Fault {
    let at = told.sentinel.as_deref().unwrap_or_default();
    let text = format!(
        "the Sentinel at {at} was asked, and no replica has become master within {} s",
        PROMOTION.as_secs()
    );
    Fault::passing(text).remedy(
        "It goes on until failover-timeout is over: look at its log, and at vipswitch status.",
    )
}
