//! `failover --from-this-host`: what a server does before it shuts down. Every master whose Redis is here is handed over,
//! all at the same time, where that loses no write; and what cannot be done so is left to Sentinel, with a line in the
//! log. A shutdown waits for this, so that it has an end.

use std::time::{Duration, Instant as Started};

use futures_util::future::join_all;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::elections::Elections;
use super::known::{self, Known};
use super::told::Told;
use super::{Verb, rules};
use crate::cli::{Options, Planned};
use crate::commands::load_until;
use crate::exit::{self, Exit, Fault};
use crate::gather::remembered::Memory;
use crate::gather::{self, Patience};
use crate::kernel::{Netlink, Snapshot};
use crate::log::{self, Level};
use crate::redis::Lines;
use crate::report::pair;

/// How long all may take, from the start of this process. Systemd waits a little longer (`TimeoutStopSec=` in
/// vipswitch-handover.service).
const LONGEST: Duration = Duration::from_secs(15);

/// How much of it is left for what is told at the end: a reader of stdout that has stopped reading has no more.
const TELLING: Duration = Duration::from_secs(1);

/// For how long something that may pass is tried again: what is begun then has time to end.
const TRIES: Duration = Duration::from_secs(5);

/// How long before the end the last election begins: it takes 4 s at most.
const ELECTION: Duration = Duration::from_secs(5);

/// The pause before that.
const PAUSE: Duration = Duration::from_millis(200);

/// Hands over every master of this host, or the one that is named. Returns how that ended: that there was nothing to
/// hand over, or that it could not be done without loss, is no failure.
///
/// # Errors
///
/// A configuration that cannot be used, and no connection to the kernel.
pub(super) async fn run(of: &Planned, options: &Options, started: Started) -> anyhow::Result<Exit> {
    let config = load_until(options, of.master.as_slice(), started + TRIES).await?;
    let is_meant = |name: &&String| of.master.as_ref().is_none_or(|only| only == *name);
    let until = Instant::from_std(started + LONGEST) - ELECTION;
    let elections = Elections::until(Some(until));
    let mut verbs = Vec::new();
    for name in config.masters.keys().filter(is_meant) {
        verbs.push(Verb {
            config: &config,
            name,
            of,
            options,
            netlink: Netlink::open()?,
            lines: Lines::keeping(),
            elections: &elections,
        });
    }
    let each = verbs.iter().map(|verb| verb.leave(started));
    let ended = LocalSet::new().run_until(join_all(each)).await;
    let exits: Result<Vec<Exit>, _> = ended.into_iter().collect();
    Ok(Exit::worst(exits?))
}

impl Verb<'_> {
    /// Hands the master over, if it is here. Returns how that ended, in time.
    async fn leave(&self, started: Started) -> anyhow::Result<Exit> {
        let until = Instant::from_std(started + LONGEST);
        let mut told = Told::new(self.name, self.options);
        let worked = timeout_at(until - TELLING, self.try_to_hand_over(&mut told)).await;
        let ended = worked.unwrap_or_else(|_| {
            let text = format!("not at its end after {} s", started.elapsed().as_secs());
            Err(Fault::passing(text).into())
        });
        let told = self.tell(&mut told, (ended, started));
        timeout_at(until, told).await.unwrap_or(Ok(Exit::Passing))
    }

    /// Tells how it ended. The log has it before anybody else, who may have stopped reading.
    async fn tell(
        &self,
        told: &mut Told,
        (ended, started): (anyhow::Result<Option<String>>, Started),
    ) -> anyhow::Result<Exit> {
        let why_not = match ended {
            Ok(None) => return told.end(Ok(()), (self.options, started.elapsed())).await,
            Err(fault) if told.asked => {
                let took = started.elapsed();
                return told.end(Err(fault), (self.options, took)).await;
            }
            Ok(Some(why)) => why,
            Err(fault) => format!("{fault:#}"),
        };
        let mut line = "failover=none".to_owned();
        pair(&mut line, "master", self.name);
        pair(&mut line, "why", &why_not);
        log::line(Level::Notice, &line).await;
        told.note(format!("nothing is handed over: {why_not}"))
            .await;
        told.end(Ok(()), (self.options, started.elapsed())).await
    }

    /// Tries again what may pass, as nobody does later: a Sentinel that is slow, a replica that has not caught up.
    async fn try_to_hand_over(&self, told: &mut Told) -> anyhow::Result<Option<String>> {
        let until = Instant::now() + TRIES;
        loop {
            let done = self.hand_over(told).await;
            match &done {
                Err(fault) if !told.asked && exit::of(fault) == Exit::Passing => {}
                _ => return done,
            }
            if Instant::now() >= until {
                return done;
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns why nothing was handed over, if there was nothing to.
    async fn hand_over(&self, told: &mut Told) -> anyhow::Result<Option<String>> {
        if let Some(away) = self.is_elsewhere().await? {
            return Ok(Some(away));
        }
        let at = (&self.lines, &self.netlink);
        let mut known = Known::gather((self.config, self.name), self.options, at).await?;
        told.from = Some(known.master.endpoint.to_string());
        if let Some(why) = rules::stays(known.agent.as_ref()) {
            return Ok(Some(why.to_owned()));
        }
        let (_, heirs) = self.look(&mut known, told).await?;
        if self.options.dry_run {
            return Ok(None);
        }
        let mut signs = super::Signs::subscribe(known.poll.ways());
        let request = known.request(self.name, self.near(&known));
        self.begin(&known, (&heirs, request), &mut signs, told)
            .await?;
        // A server that shuts down does not wait until clients reach the next one.
        self.tell_end(&known, told).await;
        Ok(None)
    }

    /// Returns where the master is, in words, if it is on another host: a replica's server has nothing to wait for.
    async fn is_elsewhere(&self) -> Result<Option<String>, Fault> {
        let (config, name, lines) = (self.config, self.name, &self.lines);
        let memory = Memory::read();
        let mut polls = gather::poll(config, &[name], &memory, Patience::Full, lines).await?;
        let poll = polls.remove(0)?;
        let snapshot = Snapshot::new(&self.netlink);
        let on = (lines, &snapshot);
        let said = gather::master_of(config, lines, name, Patience::Full.one_answer());
        let evidence = gather::of_poll(config, name, &poll, Duration::ZERO, said, on).await?;
        let master = known::winner(&evidence.ballot.unwrap_or_default())?;
        let text = || format!("the master is {}, on another host", master.endpoint);
        Ok((!master.is_here()).then(text))
    }
}
