//! Maintenance outlives the agent: an upgrade must not end it. One file for each master, in /run/vipswitch; none
//! outlives a reboot. Its end is kept as a time of day, which is what an operator gave.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::core::{Core, Event, Time};
use super::request::{Reply, Request};
use super::requests::refusal;
use super::world::World;
use crate::config::Config;
use crate::evidence::Ballot;
use crate::exit::{Exit, Fault};
use crate::report::to_json;
use crate::runtime_folder::{self, About};
use crate::text::escape;

/// How long the loop may take to hear of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maintenance, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// When it ends, in milliseconds since 1970; `None` where only an operator ends it.
    until: Option<u64>,
}

/// What is kept, by master-name.
pub(super) struct Maintenance {
    vips: BTreeMap<String, IpAddr>,
    /// Until when, as the core has it, which is what is compared.
    kept: RefCell<BTreeMap<String, Time>>,
}

impl Maintenance {
    /// Reads what an earlier agent of this host has kept, and has the core go on with it.
    pub(super) fn recall(config: &Config, core: &mut Core, now: Time) -> Maintenance {
        let first = |(name, master): (&String, &crate::config::Master)| {
            Some((name.clone(), master.vips.first()?.address))
        };
        let vips: BTreeMap<String, IpAddr> = config.masters.iter().filter_map(first).collect();
        let mut all = BTreeMap::new();
        for (name, vip) in &vips {
            let Some((kept, _)) = runtime_folder::read::<Kept>(About::Maintenance, *vip) else {
                continue;
            };
            // One that is over by now is ended, and its file removed, by the first look at it.
            let until = kept.until.map_or(Time::MAX, |until| now + left(until));
            core.go_on_maintaining(name, until);
            all.insert(name.clone(), until);
        }
        Maintenance {
            vips,
            kept: RefCell::new(all),
        }
    }

    /// Keeps what holds now, and nothing else.
    pub(super) fn keep(&self, core: &Core, now: Time) {
        let masters = core.masters();
        let held = masters.filter_map(|one| Some((one.name.clone(), one.maintenance_until?)));
        let held: BTreeMap<String, Time> = held.collect();
        let mut before = self.kept.borrow_mut();
        if *before == held {
            return;
        }
        for (name, vip) in &self.vips {
            match (before.get(name), held.get(name)) {
                (Some(_), None) => runtime_folder::remove(About::Maintenance, *vip),
                (old, Some(until)) if old != Some(until) => {
                    let until = (*until < Time::MAX).then(|| end(until.saturating_sub(now)));
                    // Where it cannot be kept it ends with this agent: whoever asked was told so.
                    let _ = runtime_folder::write(About::Maintenance, *vip, &Kept { until });
                }
                _ => {}
            }
        }
        *before = held;
    }
}

/// Returns how long it is until then, in milliseconds since 1970.
fn left(until: u64) -> Duration {
    let until = UNIX_EPOCH + Duration::from_millis(until);
    until.duration_since(SystemTime::now()).unwrap_or_default()
}

fn end(left: Duration) -> u64 {
    let end = (SystemTime::now() + left).duration_since(UNIX_EPOCH);
    u64::try_from(end.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// What is answered, as docs/json.md documents it.
#[derive(Serialize)]
struct Told<'a> {
    master: &'a str,
    maintenance: bool,
    seconds: Option<u64>,
    master_is_here: bool,
}

impl World {
    /// Begins or ends the maintenance of a master, and answers once that is kept.
    pub(super) async fn maintain(
        self: &Rc<Self>,
        request: &Request,
        on: bool,
        seconds: Option<u64>,
    ) -> Reply {
        let [name] = request.masters.as_slice() else {
            return Reply::refusing("maintenance is about one master");
        };
        if let Err(fault) = self.config.master(name) {
            return refusal(&fault);
        }
        let now = self.now();
        let for_long = seconds.map(Duration::from_secs);
        let until = on.then(|| {
            for_long
                .and_then(|it| now.checked_add(it))
                .unwrap_or(Time::MAX)
        });
        self.tell(Event::Maintenance(name.clone(), until)).await;
        if !self.is_maintained(name, until).await {
            let text = "the agent was too busy to begin or end the maintenance in time";
            return refusal(&Fault::passing(text));
        }
        let mut reply = self.told(name, on, seconds, request);
        if on && let Err(error) = runtime_folder::get_ready() {
            reply.add(Exit::Passing);
            let line = format!("it ends with this agent, as it cannot be kept: {error}");
            reply.err.push(line);
        }
        reply
    }

    async fn is_maintained(&self, name: &str, until: Option<Time>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let news = self.news.notified();
            let held = self
                .core
                .borrow()
                .master(name)
                .and_then(|it| it.maintenance_until);
            if held == until {
                return true;
            }
            if timeout_at(deadline, news).await.is_err() {
                return false;
            }
        }
    }

    fn told(&self, name: &str, on: bool, seconds: Option<u64>, request: &Request) -> Reply {
        let core = self.core.borrow();
        let known = core.evidence(name, self.now());
        let winner = known.ballot.as_ref().and_then(Ballot::winner);
        let master_is_here = winner.is_some_and(|site| site.is_here());
        let mut reply = Reply::default();
        if request.telling.json {
            reply.out = to_json(&Told {
                master: name,
                maintenance: on,
                seconds,
                master_is_here,
            });
            reply.out.push('\n');
        } else if !request.telling.quiet {
            let name = escape(name);
            reply.out = match (on, seconds) {
                (true, Some(seconds)) => format!("{name}: in maintenance for {seconds} s\n"),
                (true, None) => {
                    format!("{name}: in maintenance until `vipswitch maintenance {name} off`\n")
                }
                (false, _) => format!("{name}: the maintenance is over\n"),
            };
        }
        if on && !master_is_here {
            let at = winner.map(|site| format!(", {}", site.endpoint));
            reply.err.push(format!(
                "the master of {} is on another host{}: what counts is the agent of that host",
                escape(name),
                at.unwrap_or_default()
            ));
        }
        reply
    }
}
