//! What is asked of the agent over its socket: Sentinel's calls, an operator's orders, and what it knows.

use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::core::{Event, words};
use super::request::{Reply, Request, Telling, Verb};
use super::socket::Asked;
use super::world::World;
use crate::config::{Config, Master, Target};
use crate::engine::Task;
use crate::evidence::Order;
use crate::exit::{Exit, Fault, Kind};
use crate::failover::Failover;
use crate::gather;
use crate::kernel::Snapshot;
use crate::once::{COMMANDS_UNTIL, MOMENT, PATIENCE};
use crate::outcome::{Outcome, State};
use crate::report::{log_line, milliseconds, to_json};
use crate::text::{escape, printable};
use crate::verdict::Verdict;

/// A command that was not waited for.
const NOT_ENDED: &str = "a command of the site has not ended yet: it goes on, and until it has succeeded it is run again";

/// How long an operator waits until the Sentinels were asked once more.
const A_ROUND: Duration = Duration::from_secs(5);

impl World {
    /// Does what is asked, and answers.
    pub(super) async fn answer(self: Rc<Self>, asked: Asked) {
        let Asked { request, answer } = asked;
        let reply = match &request.verb {
            Verb::Hook(arguments) => self.hook(arguments).await,
            Verb::Status => self.status(&request),
            Verb::Maintenance { on, seconds } => self.maintain(&request, *on, *seconds).await,
            Verb::Sync => self.settle_now(&request, None).await,
            Verb::Bind { force } => self.settle_now(&request, Some((Order::Bind, *force))).await,
            Verb::Unbind { force } => {
                self.settle_now(&request, Some((Order::Unbind, *force)))
                    .await
            }
            Verb::Announce => {
                self.settle_now(&request, Some((Order::Announce, true)))
                    .await
            }
        };
        // The asker may have gone.
        let _ = answer.send(reply);
    }

    /// Follows Sentinel's call, as far as it is true. Its arguments are a hint: whoever may connect can invent some.
    async fn hook(self: &Rc<Self>, arguments: &[String]) -> Reply {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let done = match Failover::parse(&arguments) {
            Ok(failover) => self.follow_call(&failover).await,
            Err(fault) => Err(fault),
        };
        match done {
            Ok(()) => Reply::default(),
            Err(fault) => refusal(&fault),
        }
    }

    async fn follow_call(self: &Rc<Self>, failover: &Failover) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        let name = failover.master.as_str();
        let snapshot = Snapshot::new(&self.netlink);
        let memory = Rc::clone(&self.memory.borrow());
        let before = (None, Some(&*memory));
        let known = gather::of_call(&self.config(), failover, before, &snapshot).await?;
        let name_of = || name.to_owned();
        let event = match known.call.zip(known.word) {
            Some(call) => Event::Called(name_of(), Box::new(call), self.now() + PATIENCE),
            None => Event::ChangedOf(name_of()),
        };
        let rounds = self.ask_from_now(event).await;
        self.settled(name, rounds, until).await?;
        self.required_commands(name).await
    }

    /// Waits a moment for the commands of a master, if one is required.
    ///
    /// # Errors
    ///
    /// Why a required one has not succeeded. Passing.
    async fn required_commands(&self, name: &str) -> Result<(), Fault> {
        let until = Instant::now() + MOMENT;
        let config = self.config();
        if !config.masters.get(name).is_some_and(has_required) {
            return Ok(());
        }
        loop {
            let news = self.news.notified();
            if !self.commands_of.are_running(name) {
                return self.commands_of.required(name).map_or(Ok(()), Err);
            }
            if timeout_at(until, news).await.is_err() {
                return Err(Fault::passing(NOT_ENDED));
            }
        }
    }

    /// Waits until a master is settled by what the Sentinels say from now on.
    async fn settled(&self, name: &str, rounds: u64, until: Instant) -> Result<(), Fault> {
        loop {
            let news = self.news.notified();
            let found = self.outcome(name, rounds);
            if let Some(Ok(())) = found {
                return Ok(());
            }
            if let Some(Err(fault)) = &found
                && (fault.kind == Kind::Permanent || Instant::now() >= until)
            {
                return Err(fault.clone());
            }
            if timeout_at(until, news).await.is_err() && found.is_none() {
                let text = "the Sentinels were not asked in time";
                return Err(Fault::passing(text));
            }
        }
    }

    /// Returns how a master stands, once the Sentinels were asked after `rounds`.
    fn outcome(&self, name: &str, rounds: u64) -> Option<Result<(), Fault>> {
        let core = self.core.borrow();
        let master = core.master(name)?;
        if self.rounds.get() <= rounds {
            return None;
        }
        Some(match (&master.verdict, master.unasked()) {
            (Verdict::Undecided(fault), _) => Err(fault.clone()),
            (Verdict::Stays(_), Some(fault)) => Err(fault.clone()),
            (Verdict::Stays(_), None) => Ok(()),
            (Verdict::Here(..) | Verdict::Elsewhere(_), _) if master.is_settled() => Ok(()),
            (Verdict::Here(..) | Verdict::Elsewhere(_), _) => Err(master
                .failed()
                .cloned()
                .unwrap_or_else(|| Fault::passing("it is being settled"))),
        })
    }

    /// Waits for a round of questions about these masters that begins now, if it ends in time.
    async fn look(self: &Rc<Self>, names: Vec<String>) {
        let until = Instant::now() + A_ROUND;
        let rounds = self.ask_from_now(Event::Look(names)).await;
        loop {
            let news = self.news.notified();
            if self.rounds.get() > rounds || timeout_at(until, news).await.is_err() {
                return;
            }
        }
    }

    /// Settles masters at once, by an operator's order, if there is one, and whether it is forced. An order against the
    /// truth has to be, and then lasts until the next failover, or an order that ends it.
    async fn settle_now(self: &Rc<Self>, request: &Request, order: Option<(Order, bool)>) -> Reply {
        let config = self.config();
        let masters = match targets(&config, &request.masters) {
            Ok(masters) => masters,
            Err(fault) => return refusal(&fault),
        };
        let named = masters.iter().filter_map(|targets| targets.first());
        // One round answers for all of them.
        self.look(named.map(|target| target.name.to_owned()).collect())
            .await;
        let each = masters
            .into_iter()
            .map(|targets| self.settle_one(targets, order));
        let mut reply = Reply::default();
        for done in join_all(each).await {
            match done {
                Ok(task) => {
                    tell(&mut reply, &task, request.telling);
                    self.tell_unkept(&mut reply, &task, order);
                    self.tell_unknown(&mut reply, (&task, order), request.telling);
                }
                Err((name, fault)) => {
                    reply.add(Exit::from(fault.kind));
                    reply.err.push(format!("{}: {fault}", escape(&name)));
                    let master = config.masters.get(&name);
                    let vips = master.iter().flat_map(|master| &master.vips);
                    for vip in vips.filter(|_| request.telling.json) {
                        let mut outcome = Outcome::new(&name, *vip);
                        outcome.state = State::from(fault.clone());
                        reply.out += &outcome.json(false, Duration::ZERO);
                        reply.out.push('\n');
                    }
                }
            }
        }
        reply
    }

    /// Tells of a forced order that the next agent will not know of.
    fn tell_unkept(&self, reply: &mut Reply, task: &Task<'_>, order: Option<(Order, bool)>) {
        let name = task.targets.first().map(|target| target.name);
        let is_forced = order.is_some_and(|(_, force)| force);
        let why = name.filter(|_| is_forced);
        if let Some((name, why)) = why.and_then(|name| Some((name, self.orders.why_unkept(name)?)))
        {
            reply.add(Exit::Passing);
            let line = format!(
                "the order about {} ends with this agent, as it cannot be kept: {why}",
                escape(name)
            );
            reply.err.push(line);
        }
    }

    /// Tells of an order of which nobody knows whether it is against the truth.
    fn tell_unknown(
        &self,
        reply: &mut Reply,
        (task, order): (&Task<'_>, Option<(Order, bool)>),
        telling: Telling,
    ) {
        let is_plain = matches!(order, Some((Order::Bind | Order::Unbind, false)));
        let core = self.core.borrow();
        let name = task.targets.first().map(|target| target.name);
        let Some(master) = name.and_then(|name| core.master(name)).filter(|_| is_plain) else {
            return;
        };
        let why = match master.verdict_without_order(self.now()) {
            Verdict::Undecided(fault) => Some(fault),
            Verdict::Stays(_) => master.unasked().cloned(),
            Verdict::Here(..) | Verdict::Elsewhere(_) => None,
        };
        if let Some(why) = why.filter(|_| !telling.quiet) {
            let name = escape(&master.name);
            let text = format!("{name}: mind that nobody knows whether this is right: {why}");
            reply.err.push(text);
        }
    }

    async fn settle_one<'a>(
        self: &Rc<Self>,
        targets: Vec<Target<'a>>,
        order: Option<(Order, bool)>,
    ) -> Result<Task<'a>, (String, Fault)> {
        let name = targets
            .first()
            .map(|target| target.name)
            .unwrap_or_default();
        if let Some((order, force)) = order {
            let noted = self.note_order(name, order, force).await;
            noted.map_err(|fault| (name.to_owned(), fault))?;
        }
        let began = Instant::now();
        let mut task = self.attempt(name, targets, order).await.0;
        self.write_log(&task).await;
        let _running = self.commands_of.begin(name);
        let run = timeout_at(began + COMMANDS_UNTIL, self.run_commands(&mut task));
        let ended = run.await;
        if !matches!(ended, Ok(0)) {
            self.look_again_later(name.to_owned());
        }
        if ended.is_err() {
            for (target, outcome) in task.targets.iter().zip(&mut task.outcomes).take(1) {
                let required = has_required(target.master);
                outcome.command_failed = Some((Fault::passing(NOT_ENDED), required));
            }
        }
        Ok(task)
    }

    /// Has the core hold to an order, if it is one against the truth that is forced, and to no other.
    async fn note_order(&self, name: &str, order: Order, force: bool) -> Result<(), Fault> {
        let is_forced = self.weigh(name, order, force)?;
        if order != Order::Announce {
            let lasting = Some(order).filter(|_| is_forced);
            self.tell(Event::Forced(name.to_owned(), lasting)).await;
        }
        Ok(())
    }

    /// Returns whether an order is against the truth, and forced.
    pub(super) fn weigh(&self, name: &str, order: Order, force: bool) -> Result<bool, Fault> {
        let core = self.core.borrow();
        let Some(master) = core.master(name) else {
            let text =
                "the configuration was read again meanwhile, and has no such master any more";
            return Err(Fault::permanent(text));
        };
        // It may have waited as long as that, and the master be elsewhere by now; whether it is against the truth, so that
        // it has to last, is not known either.
        if let Some(why) = core.why_to_ask(name, self.now()) {
            return Err(Fault::passing(why).remedy("Try again in a few seconds."));
        }
        let is_against = match (order, &master.verdict_without_order(self.now())) {
            (Order::Bind, Verdict::Elsewhere(_)) | (Order::Unbind, Verdict::Here(..)) => true,
            // The agent does not know better, and would not change it.
            _ => false,
        };
        if is_against && !force {
            let truth = words(&master.verdict_without_order(self.now()));
            return Err(Fault::permanent(format!("this is against the truth: {truth}")).remedy(
                "With --force it is done all the same, until the next failover or the opposite order.",
            ));
        }
        Ok(is_against)
    }

    fn status(&self, request: &Request) -> Reply {
        let mut all = self.snapshot();
        let named = |name: &String| request.masters.is_empty() || request.masters.contains(name);
        all.masters.retain(|master| named(&master.name));
        Reply {
            out: to_json(&all),
            ..Reply::default()
        }
    }
}

/// Returns the VIPs of these masters, each master's together.
fn targets<'a>(config: &'a Config, masters: &[String]) -> Result<Vec<Vec<Target<'a>>>, Fault> {
    let all = Target::of(config, masters)?;
    let each = all.chunk_by(|one, other| one.name == other.name);
    Ok(each.map(<[Target<'a>]>::to_vec).collect())
}

/// Returns whether a command of the site is required of this master.
fn has_required(master: &Master) -> bool {
    let commands = [&master.on_take_over, &master.on_release];
    commands
        .into_iter()
        .flatten()
        .any(|command| command.required)
}

fn refusal(fault: &Fault) -> Reply {
    Reply {
        exit: Exit::from(fault.kind).code(),
        err: vec![fault.to_string()],
        ..Reply::default()
    }
}

/// Adds what came of a master to a reply.
fn tell(reply: &mut Reply, task: &Task<'_>, telling: Telling) {
    let exit = task.exit();
    reply.add(exit);
    for outcome in &task.outcomes {
        if telling.json {
            reply.out += &outcome.json(false, task.phases.done);
            reply.out.push('\n');
        } else if outcome.did().is_some() && !telling.quiet {
            let took = milliseconds(task.phases.done);
            let sentence = outcome.sentence(false);
            reply.out += &printable(&format!("{}: {sentence}, in {took:.1} ms", outcome.master));
            reply.out.push('\n');
        }
        if let Some(fault) = outcome.fault() {
            let line = format!("{}: {}: {fault}", outcome.master, outcome.vip);
            reply.err.push(line);
        }
        if let Some((fault, _)) = &outcome.command_failed {
            reply.err.push(fault.to_string());
        }
    }
    if telling.verbose {
        let line = log_line(
            &[("by", "agent".to_owned())],
            &task.outcomes,
            &task.phases,
            exit.code(),
        );
        reply.err.push(line);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;
    use crate::agent::progress::Progress;
    use crate::config;

    #[tokio::test(flavor = "current_thread")]
    async fn an_order_about_a_master_that_a_reload_has_removed_is_refused() {
        let text = "[masters.m]\nvip = '192.0.2.250/24'";
        let config = Rc::new(config::parse(text, Path::new("/x")).unwrap());
        let began = std::time::Instant::now();
        let (to, _events) = mpsc::channel(16);
        let world = World::new(config, (began, Rc::new(Progress::new(began))), to).unwrap();
        // Nobody was asked yet: whether the VIP is a server's own address, or the master elsewhere.
        for (order, force) in [
            (Order::Bind, false),
            (Order::Bind, true),
            (Order::Announce, true),
        ] {
            let fault = world.weigh("m", order, force).unwrap_err();
            assert_eq!(fault.kind, Kind::Passing);
        }
        let in_vain = Event::NotPolled("m".into(), Fault::passing("refused"));
        world.core.borrow_mut().on(in_vain, world.now());
        assert_eq!(world.weigh("m", Order::Bind, false), Ok(false));
        world.core.borrow_mut().configure(Vec::new());
        for force in [false, true] {
            let fault = world.weigh("m", Order::Bind, force).unwrap_err();
            assert_eq!(fault.kind, Kind::Permanent);
        }
    }
}
