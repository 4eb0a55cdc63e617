//! What the agent shows of itself: a snapshot of what it knows.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::core::{Master, Stands, Time, Timeline, words};
use super::snapshot::{self, Snapshot};
use super::world::World;
use crate::evidence::{Ballot, Order, Role, Vote};
use crate::exit::Kind;
use crate::report::milliseconds;
use crate::verdict::Verdict;

impl World {
    /// Returns all that is known now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let core = self.core.borrow();
        let now = self.now();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: self.config().path.to_string_lossy().into_owned(),
            is_outdated: self.outdated.look(&self.config(), self.reloads.get()),
            uptime: now.as_secs_f64(),
            masters: core
                .masters()
                .map(|master| self.master(master, now))
                .collect(),
            sentinels: self.sentinels(),
            drift_repaired: core.masters().map(|master| master.drifts).sum(),
            pending_commands: self.commands_of.pending() as u64,
        }
    }

    fn master(&self, master: &Master, now: Time) -> snapshot::Master {
        let known = master.evidence(now);
        let ballot = known.ballot.as_ref();
        let winner = ballot.and_then(Ballot::winner);
        let config = self.config();
        let configured = config.masters.get(&master.name);
        let vips = configured.into_iter().flat_map(|master| &master.vips);
        let unasked = master.unasked();
        let why = match (&master.verdict, unasked, master.failed()) {
            (Verdict::Stays(_), Some(fault), _) => format!("the VIP stays as it is: {fault}"),
            (verdict, _, Some(failed)) => format!("{}, but {failed}", words(verdict)),
            (verdict, _, None) => words(verdict),
        };
        snapshot::Master {
            name: master.name.clone(),
            verdict: class(&master.verdict).to_owned(),
            why,
            reason: master.verdict.name().to_owned(),
            master: winner.map(|site| site.endpoint.to_string()),
            vips: vips.map(|vip| self.vip(vip.address, master)).collect(),
            redis: known
                .own_redis
                .iter()
                .map(|own| snapshot::Redis {
                    at: own.site.endpoint.to_string(),
                    role: match &own.role {
                        Ok(Role::Master) => "master".to_owned(),
                        Ok(Role::Replica) => "replica".to_owned(),
                        Ok(Role::Other(other)) => crate::text::escape(other),
                        Err(fault) => fault.to_string(),
                    },
                    refuses: matches!(&own.role, Err(fault) if fault.kind == Kind::Permanent),
                    run_id: own.run_id.clone(),
                })
                .collect(),
            replicas: master
                .own
                .values()
                .flat_map(|own| own.replicas.clone())
                .collect(),
            votes: ballot
                .iter()
                .flat_map(|ballot| &ballot.votes)
                .map(vote)
                .collect(),
            known_clients: self.known_clients(master),
            forced: master.forced().map(|(order, _)| match order {
                Order::Bind => "bind".to_owned(),
                Order::Unbind => "unbind".to_owned(),
                Order::Announce => "announce".to_owned(),
            }),
            maintenance: master
                .maintenance
                .map(|until| self.maintenance_until(until, now)),
            death: master.death_note.clone(),
            cut_off: master.cut_off_for(now).map(|time| time.as_secs_f64()),
            last_failover: master
                .timeline
                .as_ref()
                .map(|timeline| self.timeline(timeline)),
            failovers: master.take_overs,
            paused_seconds: master.paused_for.as_secs_f64(),
            take_over_seconds: master.took.iter().map(Duration::as_secs_f64).collect(),
            take_overs: master.take_overs,
        }
    }

    fn maintenance_until(&self, until: Time, now: Time) -> snapshot::Maintenance {
        let left = (until < Time::MAX).then(|| until.saturating_sub(now));
        let end = left.and_then(|left| (SystemTime::now() + left).duration_since(UNIX_EPOCH).ok());
        snapshot::Maintenance {
            until: end.map(|end| end.as_secs_f64()),
            left: left.map(|left| left.as_secs_f64()),
        }
    }

    fn known_clients(&self, master: &Master) -> u64 {
        let (config, known) = (self.config(), self.clients.borrow());
        let configured = config.masters.get(&master.name);
        let vips = configured.into_iter().flat_map(|master| &master.vips);
        vips.map(|vip| known.number(vip.address) as u64).sum()
    }

    fn vip(&self, vip: IpAddr, master: &Master) -> snapshot::Vip {
        let summary = self.announcers.summary(vip).unwrap_or_default();
        let answers = self.answers.borrow();
        // What was true before the VIP came or went is no news.
        let answer = answers.get(&vip);
        let answer = answer.filter(|(_, stood)| *stood == master.stands());
        snapshot::Vip {
            address: vip.to_string(),
            here: master.stands() == Some(Stands::Here),
            claims: summary.claims,
            rivals: summary.rivals,
            frames: summary.frames as u64,
            answered_by: answer.map(|(macs, _)| match macs.as_slice() {
                [] => "nobody".to_owned(),
                macs => macs.join(","),
            }),
        }
    }

    fn sentinels(&self) -> Vec<snapshot::Sentinel> {
        let followed = self.followed.borrow();
        let each = followed.iter().map(|(at, followed)| snapshot::Sentinel {
            at: at.clone(),
            events: followed.is_up(),
            in_reach: followed.is_in_reach(),
        });
        each.collect()
    }

    fn timeline(&self, of: &Timeline) -> snapshot::Timeline {
        let began = (self.since + of.began).duration_since(UNIX_EPOCH);
        let since = |at: Time| milliseconds(at.saturating_sub(of.began));
        let at = |at: Option<Time>| at.map(since);
        snapshot::Timeline {
            began: began.unwrap_or_default().as_secs_f64(),
            to: of.to.clone(),
            ended: of.ended.to_owned(),
            died: at(of.died),
            asked: at(of.asked),
            event: at(of.event),
            paused: at(of.paused),
            role_changed: at(of.role_changed),
            bound: at(of.bound),
            first_frame: at(of.first_frame),
            confirmed: at(of.confirmed),
            released: at(of.released),
            unpaused: at(of.unpaused),
            writes_paused_for: of
                .paused
                .zip(of.unpaused)
                .map(|(from, to)| milliseconds(to.saturating_sub(from))),
            bytes_behind: of.bytes_behind,
        }
    }
}

fn vote(vote: &Vote) -> snapshot::Vote {
    snapshot::Vote {
        who: vote.who.clone(),
        says: vote
            .says
            .as_ref()
            .ok()
            .map(|site| site.endpoint.to_string()),
        silent: vote.says.as_ref().err().cloned(),
        epoch: vote.epoch,
    }
}

fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Here(..) => "here",
        Verdict::Elsewhere(_) => "elsewhere",
        Verdict::Stays(_) => "stays",
        Verdict::Undecided(_) => "fault",
    }
}
