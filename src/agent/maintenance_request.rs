//! An operator's word that a Redis which stops is meant to, or not any more.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::core::{Event, Time};
use super::request::{Reply, Request};
use super::world::World;
use crate::evidence::Ballot;
use crate::exit::{Exit, Fault};
use crate::report::to_json;
use crate::text::escape;

/// How long the loop may take to hear of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns a time in the largest unit in which it is whole.
fn in_words(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let whole = units
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
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
        if let Err(fault) = self.config().master(name) {
            return Reply::failing(&fault);
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
            return Reply::failing(&Fault::passing(text));
        }
        let mut reply = self.told(name, on, seconds, request);
        if on && let Some(error) = self.maintenance.why_unkept(name) {
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
                .and_then(|it| it.maintenance);
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
                (true, Some(seconds)) => {
                    format!("{name}: in maintenance for {}\n", in_words(seconds))
                }
                (true, None) => {
                    format!("{name}: in maintenance until `vipswitch maintenance {name} off`\n")
                }
                (false, _) => format!("{name}: the maintenance is over\n"),
            };
        }
        if on && !master_is_here {
            let at = winner.map(|site| format!(", {}", site.endpoint));
            reply.err.push(format!(
                "the master of {} is on another host{}: what counts is the agent of that host, and this one once its Redis is the \
                 master. Not meant: vipswitch maintenance {} off",
                escape(name),
                at.unwrap_or_default(),
                escape(name)
            ));
        }
        reply
    }
}
