//! `failover`: makes another Redis the master on purpose. Looks first, has one Sentinel elected by the others begin it,
//! tells what happens, and waits until all Sentinels agree. What moves the VIP is the agents' or the hook's work.

mod course;
mod elections;
mod end;
mod faults;
mod from_this_host;
mod known;
mod moment;
mod rules;
mod signs;
mod told;
mod vips;

use std::time::{Duration, Instant as Started, SystemTime};

use futures_util::future::join_all;
use tokio::task::LocalSet;
use tokio::time::Instant;

use self::course::{Course, Seen};
use self::elections::Elections;
use self::faults::{overtaken, refusal};
use self::known::Known;
use self::moment::Moment;
use self::signs::Signs;
use self::told::Told;
use self::vips::Vips;
use super::load;
use crate::cli::{Options, Planned};
use crate::config::Config;
use crate::election::{self, Failed, GoOn, Plan, Progress, Refusal, names};
use crate::exit::{Exit, Fault};
use crate::kernel::Netlink;
use crate::redis::Lines;
use crate::report::milliseconds;

/// How long it may take until a replica says master, or a Sentinel names it: a leader needs 0.2 to 1.2 s.
const PROMOTION: Duration = Duration::from_secs(15);

/// Makes another Redis the master. Returns how that ended.
///
/// # Errors
///
/// Why no failover was asked for, or what is not right after it.
pub(super) async fn run(of: &Planned, options: &Options, started: Started) -> anyhow::Result<Exit> {
    if of.from_this_host {
        return from_this_host::run(of, options, started).await;
    }
    let config = load(options, of.master.as_slice(), started).await?;
    let name = match &of.master {
        Some(name) => name,
        None => config.only_master()?,
    };
    let mut told = Told::new(name, options);
    let verb = Verb {
        config: &config,
        name,
        of,
        options,
        netlink: Netlink::open()?,
        lines: Lines::keeping(),
        elections: &Elections::until(None),
    };
    let ended = LocalSet::new().run_until(verb.carry_out(&mut told)).await;
    told.end(ended, (options, started.elapsed())).await
}

/// A replica that may be promoted, and how many bytes it lacks, where it can be asked itself.
type Heir = (String, Option<u64>);

/// The verb at work.
struct Verb<'a> {
    config: &'a Config,
    name: &'a str,
    of: &'a Planned,
    options: &'a Options,
    netlink: Netlink,
    lines: Lines,
    elections: &'a Elections,
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
        .await;
        let (plan, mut heirs) = self.look(&mut known, told).await?;
        if self.options.dry_run {
            return Ok(());
        }
        let answered = Vips::look((self.config, self.name), known.master.endpoint.port).await;
        let mut signs = Signs::subscribe(known.poll.ways());
        let request = known.request(self.name, self.near(&known));
        if !self.of.now {
            let text = "waiting for the moment in which Sentinel decides fastest, 10 s at most (--now: not at all)";
            told.say(text).await;
            let of = (&request, &plan);
            let waited = moment::wait(Moment::Votes, of, &self.lines).await;
            told.waited_ms = Some(milliseconds(waited));
            heirs = self.look_at_heirs(&known, &plan, &[]).await?;
        }
        self.begin(&known, (&heirs, request), &mut signs, told)
            .await?;
        if let Some(to) = told.to.as_deref().and_then(names::read) {
            answered.are_back((self.config, self.name), &to).await?;
        }
        // The elected Sentinel took the next epoch that it knew of: the votes of others may have told it a newer one.
        let epoch = known.newest_epoch(self.name, &self.lines).await;
        told.epoch = epoch.or(told.epoch);
        self.tell_end(&known, told).await;
        Ok(())
    }

    /// Returns the replicas of which one may be promoted, where that is no matter of course.
    fn near(&self, known: &Known) -> Option<Vec<String>> {
        (!self.of.force).then(|| known.near.clone())
    }

    /// Looks whether it can be done, and tells what would be.
    async fn look(&self, known: &mut Known, told: &mut Told) -> anyhow::Result<(Plan, Vec<Heir>)> {
        self.outwait(known, told).await?;
        for note in rules::notes(&known.of_redis(self.of.now)) {
            told.note(note).await;
        }
        let objection = rules::objection(&known.of_redis(self.of.now));
        let objection = objection.filter(|_| !self.of.force);
        if let Some(fault) = objection {
            return Err(fault.within("no failover was asked for").into());
        }
        let plan = self.plan(known).map_err(|no| refusal(&no))?;
        let sentinel = known.poll.ways()[plan.asked].endpoint.to_string();
        let heirs = self.look_at_heirs(known, &plan, &[]).await?;
        let text = format!(
            "{} have the Sentinel at {sentinel} promote {}",
            if self.options.dry_run {
                "would"
            } else {
                "will"
            },
            rules::choice(&heirs)
        );
        told.say(&text).await;
        told.note_candidates(heirs.clone());
        told.sentinel = Some(sentinel);
        Ok((plan, heirs))
    }

    /// Looks at the replicas of which one would be promoted, whether each has what the master has, and an agent beside it
    /// that answers; of those that were `seen` a moment ago at the data only. Returns those that were looked at.
    async fn look_at_heirs(
        &self,
        known: &Known,
        plan: &Plan,
        seen: &[Heir],
    ) -> Result<Vec<Heir>, Fault> {
        let each = plan.replicas.iter().map(async |replica| {
            let heir = known.heir((self.config, self.name), replica).await;
            let far = rules::is_far(replica, &heir);
            // It lags by more than Sentinel's INFO is old when that begins. Who forces it is told all that may be chosen.
            if far.is_some() && !self.of.force && !known.near.contains(replica) {
                return Ok(None);
            }
            self.unless_forced(far)?;
            let is_seen = seen.iter().any(|(seen, _)| seen == replica);
            // A server that shuts down has no time for it, and cannot stay.
            if let Some(heir) = names::read(replica)
                && !is_seen
                && !self.of.from_this_host
                && !self.of.force
            {
                let sign = known.sign_at((self.config, self.name), &heir).await;
                self.unless_forced(rules::may_not_take_over(replica, &sign, known.has_agents))?;
            }
            Ok(Some((replica.clone(), heir.lacks)))
        });
        let all: Result<Vec<Option<Heir>>, Fault> = join_all(each).await.into_iter().collect();
        match all {
            Ok(heirs) => Ok(heirs.into_iter().flatten().collect()),
            // That is why it does not follow, or leads.
            Err(_) if known.is_overtaken(self.name, &self.lines).await => Err(overtaken()),
            Err(fault) => Err(fault),
        }
    }

    fn unless_forced(&self, against: Option<Fault>) -> Result<(), Fault> {
        match against.filter(|_| !self.of.force) {
            Some(fault) => Err(fault.within("no failover was asked for")),
            None => Ok(()),
        }
    }

    /// Returns whom it would ask, and for which replica.
    fn plan(&self, known: &Known) -> Result<Plan, Refusal> {
        let terms = known.request(self.name, self.near(known)).terms;
        known.looked.plan(&terms)
    }

    /// Where a Sentinel has voted, waits whether anything comes of it; and where a failover goes on, whether it ends: the
    /// last one's leader counts the replicas that follow for some seconds after all agree. Then all is looked at anew.
    async fn outwait(&self, known: &mut Known, told: &mut Told) -> Result<(), Fault> {
        match self.plan(known) {
            Err(no @ Refusal::Busy(..)) if known.has_begun() => {
                let most = match self.of.from_this_host {
                    true => known::OTHER_ENDS / 2,
                    false => known::OTHER_ENDS,
                };
                let text = format!("{no}: waiting for its end, {} s at most", most.as_secs());
                told.say(&text).await;
                known.outwait_other(self.name, most, &self.lines).await;
            }
            Err(no @ Refusal::Voted(epoch)) => {
                let most = election::NOTHING_CAME.as_secs();
                told.say(&format!("{no}: waiting for it, {most} s at most"))
                    .await;
                known.outwait(self.name, epoch, &self.lines).await;
            }
            _ => return Ok(()),
        }
        let at = (&self.lines, &self.netlink);
        let mut anew = Known::gather((self.config, self.name), self.options, at).await?;
        anew.over = std::mem::take(&mut known.over);
        *known = anew;
        Ok(())
    }

    /// Has it begun, and follows it to its end.
    async fn begin(
        &self,
        known: &Known,
        (seen, request): (&[Heir], election::Request<'_>),
        signs: &mut Signs,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        let places = signs.ask_sentinels(known, self.name);
        let vips = self.config.master(self.name)?.vips.iter();
        signs.look_for_vips(vips.map(|vip| vip.address).collect());
        let (began, at) = (Instant::now(), SystemTime::now());
        let mut steps = Vec::new();
        let mut elected = None;
        let turn = self.elections.next().await?;
        let request = turn.request(&request);
        let held = election::hold(&request, &self.lines, async |progress| match progress {
            Progress::Elected(plan) => {
                steps.push((Seen::Voted, began.elapsed()));
                elected = Some(plan.clone());
                self.go_on(known, (seen, &plan), &request, told).await
            }
            Progress::Begun => {
                steps.push((Seen::Asked, began.elapsed()));
                Ok(())
            }
        });
        let held = held.await;
        turn.note(match &held {
            Ok((_, votes)) => votes,
            Err(failed) => &failed.votes,
        });
        drop(turn);
        let plan = match (held, elected) {
            (Ok((plan, _)), _) => plan,
            // It may have begun all the same.
            (Err(failed), Some(plan)) if matches!(failed.why, Refusal::Silent(_)) => {
                told.note(failed.why.to_string()).await;
                plan
            }
            (Err(Failed { why: no, .. }), _) => {
                told.asked = no.was_asked();
                return Err(refusal(&no).into());
            }
        };
        told.asked = true;
        told.epoch = Some(plan.epoch + 1);
        told.sentinel = Some(request.ways[plan.asked].endpoint.to_string());
        for heir in plan.replicas.iter().filter_map(|at| names::read(at)) {
            let new = known::way_to(self.config, self.name, &heir).await;
            signs.ask_heir(new, heir);
        }
        signs.ask_old(known.way.clone());
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
        told.tell_steps(f64::INFINITY).await;
        ended?;
        Ok(())
    }

    /// Looks at the replicas of which the elected Sentinel will select one, and waits for the moment. Returns whether the
    /// failover is to be asked for.
    async fn go_on(
        &self,
        known: &Known,
        (seen, elected): (&[Heir], &Plan),
        request: &election::Request<'_>,
        told: &mut Told,
    ) -> GoOn {
        // A link may have broken since.
        let looked = self.look_at_heirs(known, elected, seen).await;
        told.note_candidates(looked?);
        // A server that shuts down does not wait.
        if !self.of.now && !self.of.from_this_host {
            moment::wait(Moment::Request, (request, elected), &self.lines).await;
        }
        // Where nobody waits for the answer any more, it may have begun.
        told.asked = true;
        Ok(())
    }
}
